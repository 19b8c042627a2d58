"""Reauthentication nonces: asked for by GET /reauthenticate, used once in PUT /user (contracts/auth.md §3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import codes, texting
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_auth.store.rows import User

_NOT_VALID = "Nonce has expired or is invalid"


def _not_valid(message: str = _NOT_VALID) -> AuthError:
    return AuthError(ErrorCode.REAUTHENTICATION_NOT_VALID, message)


async def use_nonce(service: AuthService, user: User, nonce: str) -> None:
    """Uses the nonce up, committed at once. Raises `reauthentication_not_valid`."""
    if not user.email and not user.phone:
        raise _not_valid("Reauthentication requires an email or a phone number")
    if not user.email and (accepted := await texting.verify_remotely(service, user.phone, nonce)) is not None:
        if not accepted:
            raise _not_valid()
        return
    async with service.connect() as connection:
        locked = await users.find(connection, user.id, lock=True)
        if locked is None or not _is_valid(service, locked, nonce):
            raise _not_valid()
        await users.forget_tokens(connection, locked, service.now())


def _is_valid(service: AuthService, user: User, nonce: str) -> bool:
    expiry = service.settings.mailer.otp_expiry if user.email else service.settings.sms.otp_expiry
    if codes.is_expired(user.reauthentication_sent_at, service.now(), expiry):
        return False
    return codes.matches(codes.hash_code(user.email or user.phone, nonce), user.reauthentication_token)
