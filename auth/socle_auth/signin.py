"""The password grant (contracts/auth.md §3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socle_auth import audit, codes, hooks, passwords, sessions
from socle_auth.errors import AuthError, ErrorCode, WeakPassword, invalid
from socle_auth.store import sessions as session_store
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.passwords import Verdict
    from socle_auth.store.rows import User
    from socle_platform.errors import WireResponse

_NO_ENTRY = "Invalid login credentials"


async def password_grant(service: AuthService, call: Call) -> WireResponse:
    """Signs in. Unknown user, user without a password and wrong password look and take the same."""
    body = call.body()
    email, phone, password = body.text("email"), body.text("phone"), body.text("password")
    if email and phone:
        raise invalid("Only an email address or phone number should be provided on login.")
    if not email and not phone:
        raise invalid("missing email or phone")
    external = service.settings.external
    if email and not external.email_enabled:
        raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Email logins are disabled", 422)
    if phone and not external.phone_enabled:
        raise AuthError(ErrorCode.PHONE_PROVIDER_DISABLED, "Phone logins are disabled", 422)
    user = await _find(service, call, email, phone)
    verdict = await passwords.verify_user(service, user, password)
    if user is None or not user.has_password:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS, _NO_ENTRY)
    await _ask_hook(service, call, user, verdict)
    if not verdict.fits:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS, _NO_ENTRY)
    if user.is_banned(service.now()):
        raise AuthError(ErrorCode.USER_BANNED, "User is banned", 400)
    _check_confirmed(service, user, email)
    return await _let_in(service, call, user, password, verdict, "email" if email else "phone")


async def _find(service: AuthService, call: Call, email: str, phone: str) -> User | None:
    audience = call.audience(service.settings)
    async with service.connect() as connection:
        if email:
            return await users.find_by_email(connection, email, audience)
        return await users.find_by_phone(connection, codes.format_phone(phone), audience)


async def _ask_hook(service: AuthService, call: Call, user: User, verdict: Verdict) -> None:
    if not hooks.is_on(service, hooks.PASSWORD_VERIFICATION_ATTEMPT):
        return
    payload = {"user_id": user.id, "valid": verdict.fits}
    answer = await hooks.call(service, None, call, hooks.PASSWORD_VERIFICATION_ATTEMPT, payload)
    rejected = hooks.rejected_password(answer)
    if rejected is None:
        return
    message, should_log_out = rejected
    if should_log_out:
        async with service.connect() as connection:
            await session_store.delete_all(connection, user.id)
    raise AuthError(ErrorCode.INVALID_CREDENTIALS, message)


def _check_confirmed(service: AuthService, user: User, email: str) -> None:
    if email and not user.is_email_confirmed and not service.settings.mailer.allow_unverified_sign_ins:
        raise AuthError(ErrorCode.EMAIL_NOT_CONFIRMED, "Email not confirmed", 400)
    if not email and not user.is_phone_confirmed:
        raise AuthError(ErrorCode.PHONE_NOT_CONFIRMED, "Phone not confirmed", 400)


async def _let_in(
    service: AuthService, call: Call, user: User, password: str, verdict: Verdict, provider: str
) -> WireResponse:
    weak = await _weakness(service, password)
    fresh = await passwords.hash_for(service, user.id, password) if verdict.is_old else None
    async with service.connect() as connection:
        if fresh is not None:
            user = await users.update(connection, user, service.now(), encrypted_password=fresh)
        await audit.record(service, connection, call, "login", user, {"provider": provider})
        response = await sessions.issue_session(service, connection, call, user, "password")
    return sessions.reply(replace(response, weak_password=weak))


async def _weakness(service: AuthService, password: str) -> WeakPassword | None:
    """What is weak about an accepted password; the check itself may fail without keeping anybody out."""
    try:
        return await passwords.weakness(service, password)
    except AuthError as error:
        service.note("warning", f"the strength of a password could not be checked at sign-in: {error}")
        return None
