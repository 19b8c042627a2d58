"""POST /resend: the last code or link once more (contracts/auth.md §3.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, codes, emails, limits, mail_codes, phone_codes, pkce, wire
from socle_auth.context import AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.pkce import Challenge
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_MAIL_TYPES = ("signup", "email_change")
_PHONE_TYPES = ("sms", "phone_change")


async def resend(service: AuthService, call: Call) -> WireResponse:
    """Nobody there, or nothing pending, looks like success."""
    body = call.body()
    kind, email, phone = body.text("type"), body.text("email"), body.text("phone")
    if kind not in (*_MAIL_TYPES, *_PHONE_TYPES):
        raise invalid("Missing one of these types: signup, email_change, sms, phone_change")
    challenge = pkce.read_challenge(body) if kind in _MAIL_TYPES else None
    if kind in _MAIL_TYPES and not email and (phone or kind == "signup"):
        raise invalid("Type provided requires an email address")
    if kind in _PHONE_TYPES and not phone and (email or kind == "sms"):
        raise invalid("Type provided requires a phone number")
    email, phone = _parse_address(service, email, phone)
    audience = call.audience(service.settings)
    async with service.connect() as connection:
        found = await (
            users.find_by_email(connection, email, audience)
            if email
            else users.find_by_phone(connection, phone, audience)
        )
        user = None if found is None else await users.find(connection, found.id, lock=True)
        if user is None or not _is_pending(user, kind):
            return wire.reply({})
        message_id = await _send(service, connection, call, user, kind, challenge)
    return wire.reply({"message_id": message_id} if message_id else {})


def _parse_address(service: AuthService, email: str, phone: str) -> tuple[str, str]:
    external = service.settings.external
    if email and phone:
        raise invalid("Only an email address or phone number should be provided.")
    if email:
        if not external.email_enabled:
            raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Email logins are disabled")
        return emails.parse_email(email), ""
    if phone:
        if not external.phone_enabled:
            raise AuthError(ErrorCode.PHONE_PROVIDER_DISABLED, "Phone logins are disabled")
        return "", codes.parse_phone(phone)
    raise invalid("Missing email address or phone number")


def _is_pending(user: User, kind: str) -> bool:
    return {
        "signup": not user.is_email_confirmed,
        "sms": not user.is_phone_confirmed,
        "email_change": bool(user.email_change),
        "phone_change": bool(user.phone_change),
    }[kind]


async def _send(
    service: AuthService, connection: Connection, call: Call, user: User, kind: str, challenge: Challenge | None
) -> str:
    match kind:
        case "signup":
            await audit.record(service, connection, call, "user_confirmation_requested", user)
            await pkce.begin_mail_flow(
                service, connection, user.id, challenge, method="email/signup", provider_type="email/signup"
            )
            await mail_codes.send_confirmation(service, connection, call, user, challenge)
        case "email_change":
            await pkce.begin_mail_flow(
                service, connection, user.id, challenge, method="email_change", provider_type="email_change"
            )
            await mail_codes.send_email_change(service, connection, call, user, user.email_change, challenge)
        case "sms":
            await audit.record(service, connection, call, "user_recovery_requested", user)
            _, message_id = await phone_codes.send_code(
                service, connection, call, user, user.phone, phone_codes.CONFIRMATION
            )
            return message_id
        case _:
            _, message_id = await phone_codes.send_code(
                service, connection, call, user, user.phone_change, phone_codes.PHONE_CHANGE
            )
            return message_id
    return ""


ROUTES = (AuthRoute("POST", "/resend", resend, limiter=limits.RESEND, captcha=True, sends=True),)
