"""POST /signup: with an address and a password, or anonymously (contracts/auth.md §3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from socle_auth import audit, codes, emails, limits, passwords, phone_codes, pkce, registration, sessions, texting, wire
from socle_auth import mail_codes as mails
from socle_auth.context import AuthRoute
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.pkce import Challenge
from socle_auth.registration import EMAIL, PHONE, AlreadyRegistered
from socle_auth.store import identities, users
from socle_auth.store.rows import User
from socle_auth.store.users import NewUser
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.sessions import TokenResponse
    from socle_auth.wire import Body
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

PASSWORD_METHOD = "password"
ANONYMOUS_METHOD = "anonymous"


@dataclass(frozen=True, slots=True)
class SignupRequest:
    """A sign-up that has passed its checks: exactly one of email and phone, normalised."""

    email: str
    phone: str
    password: str = field(repr=False)
    data: Mapping[str, Any]
    channel: str
    challenge: Challenge | None
    audience: str

    @property
    def provider(self) -> str:
        return EMAIL if self.email else PHONE


@dataclass(frozen=True, slots=True)
class Registered:
    """How a sign-up ended. `session` is there when the user may come in at once; `repeated` when the address belongs
    to a confirmed user, of whom nothing may be said."""

    user: User
    session: TokenResponse | None = None
    repeated: bool = False


async def signup(service: AuthService, call: Call) -> WireResponse:
    body = call.body()
    if not body.text("email") and not body.text("phone"):
        return await _signup_anonymously(service, call, body)
    await limits.charge(service, limits.SIGNUPS, limits.caller_key(service, call))
    request = await parse_signup(service, call, body)
    registered = await register(service, call, request)
    if registered.repeated:
        if service.settings.mailer.autoconfirm or service.settings.sms.autoconfirm:
            raise AuthError(ErrorCode.USER_ALREADY_EXISTS, "User already registered")
        return wire.reply(wire.render_user(obfuscated_user(service, request)))
    if registered.session is not None:
        return sessions.reply(registered.session)
    user = registered.user
    if user.has_been_invited:
        user = replace(user, user_metadata={}, identities=())
    return wire.reply(wire.render_user(user))


async def parse_signup(service: AuthService, call: Call, body: Body) -> SignupRequest:
    """The checks of §3.1, in the contract's order."""
    if service.settings.disable_signup:
        raise AuthError(ErrorCode.SIGNUP_DISABLED, "Signups not allowed for this instance")
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    if not password:
        raise invalid("Signup requires a valid password")
    await passwords.check_strength(service, password)
    if email and phone:
        raise invalid("Only an email address or phone number should be provided on signup.")
    channel = body.text("channel") or texting.SMS
    if phone:
        texting.check_channel(service, channel)
        if body.text("code_challenge"):
            raise invalid("PKCE not supported for phone signups")
    challenge = pkce.read_challenge(body)
    if email:
        if not service.settings.external.email_enabled:
            raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Email signups are disabled")
        email = emails.parse_email(email)
    else:
        if not service.settings.external.phone_enabled:
            raise AuthError(ErrorCode.PHONE_PROVIDER_DISABLED, "Phone signups are disabled")
        phone = codes.parse_phone(phone)
    return SignupRequest(
        email, phone, password, body.object("data"), channel, challenge, call.audience(service.settings)
    )


async def register(service: AuthService, call: Call, request: SignupRequest, *, lets_in: bool = True) -> Registered:
    """Creates the user or finds the one who has the address; sends what confirms it, or lets the user in at once.

    `lets_in` False makes no session where confirmation is automatic: a code will be sent instead.
    """
    async with service.connect() as connection:
        existing = await _find_existing(service, connection, request)
    new = None
    if existing is None:
        new = await _new_user(service, request)
        await registration.ask_before(service, call, new)
    elif _is_confirmed(existing, request) or not _autoconfirms(service, request):
        # the same work as for a new user, so that time does not tell who is registered
        await service.hasher.verify_nobody(request.password)
    try:
        registered = await _register(service, call, request, existing, new, lets_in=lets_in)
    except AlreadyRegistered:
        async with service.connect() as connection:
            existing = await _find_existing(service, connection, request)
        if existing is None:
            raise failure("Database error saving new user") from None
        registered = await _register(service, call, request, existing, None, lets_in=lets_in)
    if not registered.repeated and not _autoconfirms(service, request):
        await registration.tell_after(service, call, registered.user)
    return registered


async def _find_existing(service: AuthService, connection: Connection, request: SignupRequest) -> User | None:
    if request.phone:
        return await users.find_by_phone(connection, request.phone, request.audience)
    own_domains = tuple(service.settings.experimental.linking_domains)
    return await users.find_registered(connection, request.email, request.audience, own_domains=own_domains)


async def _new_user(service: AuthService, request: SignupRequest) -> NewUser:
    user_id = service.new_id()
    return NewUser(
        id=user_id,
        aud=request.audience,
        email=request.email,
        phone=request.phone,
        encrypted_password=await passwords.hash_for(service, user_id, request.password),
        app_metadata=registration.provider_metadata(request.provider),
        user_metadata=request.data,
    )


async def _register(
    service: AuthService,
    call: Call,
    request: SignupRequest,
    existing: User | None,
    new: NewUser | None,
    *,
    lets_in: bool,
) -> Registered:
    if existing is not None and _is_confirmed(existing, request):
        async with service.connect() as connection:
            traits = {"provider": request.provider}
            await audit.record(service, connection, call, "user_repeated_signup", existing, traits)
        return Registered(existing, repeated=True)
    if existing is not None and _autoconfirms(service, request):
        return await _confirm_existing(service, call, request, existing)
    async with service.connect() as connection:
        user = existing
        if user is None:
            assert new is not None
            user = await registration.insert_user(service, connection, new)
        user = await _ensure_identity(service, connection, user, request)
        if _autoconfirms(service, request):
            user = await _confirm(service, connection, call, user, request)
            session = await _let_in(service, connection, call, user, request) if lets_in else None
            return Registered(user, session)
        return Registered(await _send_confirmation(service, connection, call, user, request))


def _is_confirmed(user: User, request: SignupRequest) -> bool:
    return user.is_email_confirmed if request.email else user.is_phone_confirmed


def _autoconfirms(service: AuthService, request: SignupRequest) -> bool:
    return service.settings.mailer.autoconfirm if request.email else service.settings.sms.autoconfirm


async def _confirm_existing(service: AuthService, call: Call, request: SignupRequest, existing: User) -> Registered:
    """An unconfirmed user signs up again where confirmation is automatic: whoever knows the password comes in.

    Upstream lets anybody in; a stranger with another password is told what a confirmed user's address would tell.
    """
    stored = passwords.stored_hash(service, existing)
    verdict = await service.hasher.verify(stored, request.password) if stored else None
    async with service.connect() as connection:
        if verdict is None or not verdict.fits:
            traits = {"provider": request.provider}
            await audit.record(service, connection, call, "user_repeated_signup", existing, traits)
            return Registered(existing, repeated=True)
        user = await _ensure_identity(service, connection, existing, request)
        user = await _confirm(service, connection, call, user, request)
        return Registered(user, await _let_in(service, connection, call, user, request))


async def _ensure_identity(service: AuthService, connection: Connection, user: User, request: SignupRequest) -> User:
    """The user's own email or phone identity; a missing one is created and becomes the only one (§4.4, the guard)."""
    found = await identities.find(connection, request.provider, user.id)
    if found is not None:
        return replace(user, identities=(found,))
    claims = registration.contact_claims(user.id, email=user.email)
    data = {**request.data, **claims}
    identity = await registration.create_identity(service, connection, user, request.provider, user.id, data)
    return await registration.keep_only_identity(service, connection, user, identity)


async def _confirm(
    service: AuthService, connection: Connection, call: Call, user: User, request: SignupRequest
) -> User:
    traits = {"provider": request.provider} | ({"channel": request.channel} if request.phone else {})
    await audit.record(service, connection, call, "user_signedup", user, traits)
    try:
        if request.email:
            return await registration.confirm_email(service, connection, user)
        return await registration.confirm_phone(service, connection, user)
    except DatabaseError as error:
        raise failure("Database error updating user", error) from error


async def _let_in(
    service: AuthService, connection: Connection, call: Call, user: User, request: SignupRequest
) -> TokenResponse:
    await audit.record(service, connection, call, "login", user, {"provider": request.provider})
    return await sessions.issue_session(service, connection, call, user, PASSWORD_METHOD)


async def _send_confirmation(
    service: AuthService, connection: Connection, call: Call, user: User, request: SignupRequest
) -> User:
    traits = {"provider": request.provider}
    await audit.record(service, connection, call, "user_confirmation_requested", user, traits)
    if request.phone:
        user, _ = await phone_codes.send_code(
            service, connection, call, user, request.phone, phone_codes.CONFIRMATION, request.channel
        )
        return user
    await pkce.begin_mail_flow(
        service, connection, user.id, request.challenge, method="email/signup", provider_type=EMAIL
    )
    return await mails.send_confirmation(service, connection, call, user, request.challenge)


def obfuscated_user(service: AuthService, request: SignupRequest) -> User:
    """What a new user would look like, for an address that somebody already has."""
    now = service.now()
    return User(
        id=service.new_id(),
        aud=request.audience,
        role="",
        email=request.email,
        phone=request.phone,
        encrypted_password="",
        is_sso_user=False,
        is_anonymous=False,
        app_metadata=registration.provider_metadata(request.provider),
        user_metadata=request.data,
        created_at=now,
        updated_at=now,
        confirmation_sent_at=now,
        identities=(),
    )


async def _signup_anonymously(service: AuthService, call: Call, body: Body) -> WireResponse:
    if not service.settings.external.anonymous_enabled:
        raise AuthError(ErrorCode.ANONYMOUS_PROVIDER_DISABLED, "Anonymous sign-ins are disabled")
    await limits.charge(service, limits.ANONYMOUS, limits.caller_key(service, call))
    if service.settings.disable_signup:
        raise AuthError(ErrorCode.SIGNUP_DISABLED, "Signups not allowed for this instance")
    new = NewUser(
        id=service.new_id(),
        aud=call.audience(service.settings),
        app_metadata={},
        user_metadata=body.object("data"),
        is_anonymous=True,
    )
    await registration.ask_before(service, call, new)
    async with service.connect() as connection:
        user = await registration.insert_user(service, connection, new)
        response = await sessions.issue_session(service, connection, call, user, ANONYMOUS_METHOD)
    await registration.tell_after(service, call, response.user)
    return sessions.reply(response)


ROUTES = (AuthRoute("POST", "/signup", signup, captcha=True, sends=True),)
