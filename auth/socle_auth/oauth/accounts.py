"""Whose account a third party's profile opens: linking, creating, and the guard against being there first (§4.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from socle_auth import audit, hooks, mail_codes, registration
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.oauth.profile import Profile, ProviderEmail
from socle_auth.registration import AlreadyRegistered
from socle_auth.store import identities, linking, one_time, users
from socle_auth.store.rows import User, UserIdentity
from socle_auth.store.users import NewUser

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.db import Connection

DEFAULT_DOMAIN = "default"
WEB3 = "web3"


class Decision(Enum):
    """What a profile means for our users."""

    KNOWN = "known"  # the identity is there
    LINK = "link"  # a user with this address is there
    CREATE = "create"
    AMBIGUOUS = "ambiguous"  # several users have the address


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with whom it is about; `email` is the address a new user would get."""

    decision: Decision
    domain: str
    email: ProviderEmail
    user: User | None = None
    identity: UserIdentity | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who came. `refusal`, if any, is raised once the transaction is committed: what was done stays done."""

    user: User
    created: bool = False
    refusal: AuthError | None = None


def linking_domain(service: AuthService, provider: str) -> str:
    """Identities of one domain may belong to one user; a single sign-on provider is a domain of its own."""
    if provider.startswith("sso:"):
        return provider
    return service.settings.experimental.linking_domains.get(provider, DEFAULT_DOMAIN)


async def decide(
    service: AuthService, connection: Connection, profile: Profile, provider: str, audience: str
) -> Verdict:
    """The table of §4.4."""
    trusts_all = service.settings.mailer.autoconfirm
    main = profile.main_email or ProviderEmail("")
    email = replace(main, address=main.address.lower())
    proven = [each.address.lower() for each in profile.emails if each.verified or trusts_all]
    domain = linking_domain(service, provider)
    known = await identities.find(connection, provider, profile.subject)
    if known is not None:
        user = await users.find(connection, known.user_id, lock=True)
        if user is None:
            raise failure("Database error finding user")
        return Verdict(Decision.KNOWN, domain, replace(email, address=user.email), user, known)
    if not proven:
        own = tuple(service.settings.experimental.linking_domains)
        taken = email.address and await users.find_registered(connection, email.address, audience, own_domains=own)
        return Verdict(Decision.CREATE, domain, replace(email, address="") if taken else email)
    return await _decide_by_address(service, connection, proven, domain, email)


async def _decide_by_address(
    service: AuthService, connection: Connection, proven: list[str], domain: str, email: ProviderEmail
) -> Verdict:
    carriers = [
        identity
        for identity in await linking.identities_by_email(connection, proven)
        if linking_domain(service, identity.provider) == domain
    ]
    owners = {identity.user_id for identity in carriers}
    if not owners and domain == DEFAULT_DOMAIN:
        owners = {user.id for user in await linking.users_by_email(connection, proven)}
    if not owners:
        return Verdict(Decision.CREATE, domain, email)
    if len(owners) > 1:
        return Verdict(Decision.AMBIGUOUS, domain, email)
    user = await users.find(connection, owners.pop(), lock=True)
    if user is None:
        raise failure("Database error finding user")
    return Verdict(Decision.LINK, domain, email, user)


async def ask_before(service: AuthService, call: Call, profile: Profile, provider: str) -> str:
    """The before-user-created hook, when the profile would create a user; gives the id that user would have."""
    user_id = service.new_id()
    if not hooks.is_on(service, hooks.BEFORE_USER_CREATED):
        return user_id
    audience = call.audience(service.settings)
    async with service.connect() as connection:
        verdict = await decide(service, connection, profile, provider, audience)
    if verdict.decision is Decision.CREATE:
        _ensure_signups_on(service)
        new = _new_user(user_id, audience, verdict, profile, provider)
        await registration.ask_before(service, call, new)
    return user_id


def _ensure_signups_on(service: AuthService) -> None:
    if service.settings.disable_signup:
        raise AuthError(ErrorCode.SIGNUP_DISABLED, "Signups not allowed for this instance")


def _new_user(user_id: str, audience: str, verdict: Verdict, profile: Profile, provider: str) -> NewUser:
    return NewUser(
        id=user_id,
        aud=audience,
        email=verdict.email.address,
        app_metadata=registration.provider_metadata(provider),
        user_metadata=profile.identity_data(),
        is_sso_user=verdict.domain != DEFAULT_DOMAIN,
    )


async def arrive(
    service: AuthService,
    connection: Connection,
    call: Call,
    profile: Profile,
    provider: str,
    new_id: str,
    *,
    email_optional: bool = False,
) -> Arrival:
    """Finds, links or creates the user of a profile. Raises AuthError; a refusal that must not undo is returned.

    A user who was created meanwhile by somebody with the same address is found at the second look.
    """
    try:
        async with connection.transaction():
            return await _arrive(service, connection, call, profile, provider, new_id, email_optional=email_optional)
    except AlreadyRegistered:
        return await _arrive(service, connection, call, profile, provider, new_id, email_optional=email_optional)


async def _arrive(
    service: AuthService,
    connection: Connection,
    call: Call,
    profile: Profile,
    provider: str,
    new_id: str,
    *,
    email_optional: bool,
) -> Arrival:
    audience = call.audience(service.settings)
    verdict = await decide(service, connection, profile, provider, audience)
    match verdict.decision:
        case Decision.AMBIGUOUS:
            raise failure(
                "Multiple accounts with the same email address in the same linking domain detected: " + verdict.domain
            )
        case Decision.CREATE:
            _ensure_signups_on(service)
            new = _new_user(new_id, audience, verdict, profile, provider)
            user = await registration.insert_user(service, connection, new)
            identity = await _add_identity(service, connection, user, profile, provider)
            user = replace(user, identities=(identity,))
        case Decision.LINK:
            user, identity = await _link(service, connection, call, verdict, profile, provider)
        case Decision.KNOWN:
            user, identity = await _refresh(service, connection, verdict, profile)
    if user.is_banned(service.now()):
        raise AuthError(ErrorCode.USER_BANNED, "User is banned")
    created = verdict.decision is Decision.CREATE
    needs_address = provider != WEB3 and not (email_optional and not verdict.email.address)
    if needs_address and not user.is_email_confirmed:
        user = await registration.keep_only_identity(service, connection, user, identity)
        user, refusal = await _confirm(service, connection, call, user, verdict.email, provider)
        return Arrival(user, created, refusal)
    await audit.record(service, connection, call, "login", user, {"provider": provider})
    return Arrival(user, created)


async def _add_identity(
    service: AuthService, connection: Connection, user: User, profile: Profile, provider: str
) -> UserIdentity:
    data = profile.identity_data()
    return await registration.create_identity(service, connection, user, provider, profile.subject, data)


async def _link(
    service: AuthService, connection: Connection, call: Call, verdict: Verdict, profile: Profile, provider: str
) -> tuple[User, UserIdentity]:
    assert verdict.user is not None
    identity = await _add_identity(service, connection, verdict.user, profile, provider)
    user = await _take_over_data(service, connection, verdict.user, profile)
    await record_link(service, connection, call, user, identity)
    return user, identity


async def _refresh(
    service: AuthService, connection: Connection, verdict: Verdict, profile: Profile
) -> tuple[User, UserIdentity]:
    assert verdict.user is not None
    assert verdict.identity is not None
    data = profile.identity_data()
    identity = await identities.set_data(connection, verdict.identity, data, service.now(), signed_in=True)
    return await _take_over_data(service, connection, verdict.user, profile), identity


async def _take_over_data(service: AuthService, connection: Connection, user: User, profile: Profile) -> User:
    """What the provider says goes into user_metadata; app_metadata names the providers anew."""
    metadata = registration.merged(user.user_metadata, profile.identity_data())
    user = await users.update(connection, user, service.now(), raw_user_meta_data=metadata)
    user = await registration.refresh_providers(service, connection, user)
    return await users.with_identities(connection, user)


async def record_link(
    service: AuthService, connection: Connection, call: Call, user: User, identity: UserIdentity
) -> None:
    traits = {"identity_id": identity.id, "provider": identity.provider, "provider_id": identity.provider_id}
    await audit.record(service, connection, call, "identity_linked", user, traits)


async def _confirm(
    service: AuthService, connection: Connection, call: Call, user: User, email: ProviderEmail, provider: str
) -> tuple[User, AuthError | None]:
    """Confirms by the provider's word, or asks by mail and refuses until then."""
    mailer = service.settings.mailer
    if email.verified or mailer.autoconfirm:
        await audit.record(service, connection, call, "user_signedup", user, {"provider": provider})
        user = await registration.confirm_email(service, connection, user)
        return await users.with_identities(connection, user), None
    text = f"Unverified email with {provider}. Verify the email with {provider} in order to sign in"
    if email.address:
        user = await mail_codes.send_confirmation(service, connection, call, user, None)
        text = f"Unverified email with {provider}. A confirmation email has been sent to your {provider} email"
    if mailer.allow_unverified_sign_ins:
        return user, None
    return user, AuthError(ErrorCode.PROVIDER_EMAIL_NEEDS_VERIFICATION, text)


async def accept_invite(
    service: AuthService, connection: Connection, call: Call, profile: Profile, provider: str, token: str
) -> Arrival:
    """An invited person comes by a provider instead of a password: the address must be the invited one."""
    found = await one_time.find(connection, token, ("confirmation_token",))
    user = None if found is None else await users.find(connection, found.user_id, lock=True)
    if user is None:
        raise AuthError(ErrorCode.INVITE_NOT_FOUND, "Invite not found")
    if user.email.lower() not in {email.address.lower() for email in profile.emails if email.address}:
        raise invalid("Invited email does not match emails from external provider")
    identity = await _add_identity(service, connection, user, profile, provider)
    user = await _take_over_data(service, connection, user, profile)
    metadata = {**user.app_metadata, "provider": provider}
    user = await users.update(connection, user, service.now(), raw_app_meta_data=metadata)
    await audit.record(service, connection, call, "invite_accepted", user, {"provider": provider})
    user = await registration.keep_only_identity(service, connection, user, identity)
    user = await registration.confirm_email(service, connection, user)
    return Arrival(await users.with_identities(connection, user))
