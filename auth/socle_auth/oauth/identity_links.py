"""A signed-in user's own identities: linking another one by hand, taking one away (§3.10)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socle_auth import audit, mail_codes, mailing, registration, wire
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_auth.json_values import pick_text
from socle_auth.oauth.accounts import Arrival, record_link
from socle_auth.oauth.promotion import NoFreeAddress, promote_address
from socle_auth.store import identities, users
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.oauth.profile import Profile
    from socle_auth.store.rows import User, UserIdentity
    from socle_platform.config.auth import AuthSettings
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


def ensure_manual_linking(settings: AuthSettings) -> None:
    """Raises 404 `manual_linking_disabled`."""
    if not settings.security.manual_linking:
        raise AuthError(ErrorCode.MANUAL_LINKING_DISABLED, "Manual linking is disabled")


async def link_identity(
    service: AuthService, connection: Connection, call: Call, profile: Profile, provider: str, target_id: str
) -> Arrival:
    """Adds the profile to the user's identities. Raises AuthError; a refusal that must not undo is returned."""
    target = await users.find(connection, target_id, lock=True)
    if target is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "Linking target user not found", 422)
    known = await identities.find(connection, provider, profile.subject)
    if known is not None:
        to_whom = "" if known.user_id == target.id else " to another user"
        raise AuthError(ErrorCode.IDENTITY_ALREADY_EXISTS, f"Identity is already linked{to_whom}")
    data = profile.identity_data()
    identity = await registration.create_identity(service, connection, target, provider, profile.subject, data)
    await record_link(service, connection, call, target, identity)
    if not target.email:
        try:
            target = await promote_address(service, connection, target)
        except NoFreeAddress as error:
            message = "A user with this email address has already been registered"
            raise AuthError(ErrorCode.EMAIL_EXISTS, message, 400) from error
        if data["email_verified"] is not True:
            return await _ask_for_proof(service, connection, call, target, provider)
        target = await registration.confirm_email(service, connection, target, is_anonymous=False)
    target = await registration.refresh_providers(service, connection, target)
    letter = mailing.Letter(mailing.MailKind.IDENTITY_LINKED, target, provider=provider)
    await mailing.notify(service, connection, call, letter)
    return Arrival(await users.with_identities(connection, target))


async def _ask_for_proof(
    service: AuthService, connection: Connection, call: Call, target: User, provider: str
) -> Arrival:
    """The provider does not vouch for the address: it is kept, a mail goes out, and the caller waits for it."""
    if target.email:
        target = await mail_codes.send_confirmation(service, connection, call, target, None)
    text = f"Unverified email with {provider}. A confirmation email has been sent to your {provider} email"
    target = await registration.refresh_providers(service, connection, target)
    return Arrival(target, refusal=AuthError(ErrorCode.EMAIL_NOT_CONFIRMED, text, 422))


async def unlink_identity(service: AuthService, call: Call) -> WireResponse:
    """DELETE /user/identities/{identity_id}."""
    identity_id = call.path_uuid("identity_id")
    user = call.require_user()
    claims = call.require_caller().claims
    if call.audience(service.settings) != (pick_text(claims, "aud") or pick_text(claims, "aud", 0)):
        message = "Token audience doesn't match request audience"
        raise AuthError(ErrorCode.UNEXPECTED_AUDIENCE, message)
    async with service.connect() as connection:
        locked = await users.find(connection, user.id, lock=True)
        if locked is None:
            raise AuthError(ErrorCode.USER_NOT_FOUND, "User from sub claim in JWT does not exist", 403)
        own = locked.identities or ()
        if len(own) < 2:
            message = "User must have at least 1 identity after unlinking"
            raise AuthError(ErrorCode.SINGLE_IDENTITY_NOT_DELETABLE, message)
        identity = next((each for each in own if each.id == identity_id), None)
        if identity is None:
            raise AuthError(ErrorCode.IDENTITY_NOT_FOUND, "Identity doesn't exist")
        await _take_away(service, connection, call, locked, identity)
    return wire.reply({})


async def _take_away(
    service: AuthService, connection: Connection, call: Call, user: User, identity: UserIdentity
) -> None:
    """The notification goes to the address the user had before: another identity's may take its place."""
    former = user.email
    traits = {"identity_id": identity.id, "provider": identity.provider, "provider_id": identity.provider_id}
    await audit.record(service, connection, call, "identity_unlinked", user, traits)
    await identities.delete(connection, identity.id)
    if identity.provider == registration.PHONE:
        user = await users.update(connection, user, service.now(), phone="", phone_confirmed_at=None)
    else:
        try:
            async with connection.transaction():
                user = await promote_address(service, connection, user)
        except NoFreeAddress as error:
            raise _conflict() from error
        except DatabaseError as error:
            if error.sqlstate != "23505":
                raise failure("Database error updating user email", error) from error
            raise _conflict() from error
    user = await registration.refresh_providers(service, connection, user)
    letter = mailing.Letter(
        mailing.MailKind.IDENTITY_UNLINKED, replace(user), recipient=former, provider=identity.provider
    )
    if former:
        await mailing.notify(service, connection, call, letter)


def _conflict() -> AuthError:
    message = "Unable to unlink identity due to email conflict"
    return AuthError(ErrorCode.EMAIL_CONFLICT_IDENTITY_NOT_DELETABLE, message)
