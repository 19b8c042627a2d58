"""GET /reauthenticate: a nonce that allows one change of the password (contracts/auth.md §3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, mail_codes, phone_codes, wire
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse


async def reauthenticate(service: AuthService, call: Call) -> WireResponse:
    user = call.require_user()
    if not user.email and not user.phone:
        raise invalid("Reauthentication requires the user to have an email or a phone number")
    if user.email and not user.is_email_confirmed:
        raise AuthError(ErrorCode.EMAIL_NOT_CONFIRMED, "Please verify your email first.", 422)
    if not user.email and not user.is_phone_confirmed:
        raise AuthError(ErrorCode.PHONE_NOT_CONFIRMED, "Please verify your phone first.", 422)
    message_id = ""
    async with service.connect() as connection:
        locked = await users.find(connection, user.id, lock=True)
        if locked is None:
            raise AuthError(ErrorCode.USER_NOT_FOUND, "User from sub claim in JWT does not exist", 403)
        await audit.record(service, connection, call, "user_reauthenticate_requested", locked)
        if locked.email:
            await mail_codes.send_reauthentication(service, connection, call, locked)
        else:
            _, message_id = await phone_codes.send_code(
                service, connection, call, locked, locked.phone, phone_codes.REAUTHENTICATION
            )
    return wire.reply({"message_id": message_id} if message_id else {})


ROUTES = (AuthRoute("GET", "/reauthenticate", reauthenticate, Access.USER, sends=True),)
