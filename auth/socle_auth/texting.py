"""Sending a text message (contracts/auth.md §7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socle_auth import hooks, limits, wire
from socle_auth.errors import AuthError, ErrorCode, failure, invalid

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection

SMS = "sms"
WHATSAPP = "whatsapp"
_WITH_WHATSAPP = frozenset({"twilio", "twilio_verify"})


def check_channel(service: AuthService, channel: str) -> None:
    """`sms` always; `whatsapp` where the provider has it, or a hook sends. Raises `validation_failed`."""
    if channel == SMS:
        return
    if channel == WHATSAPP and (
        hooks.is_on(service, hooks.SEND_SMS) or service.settings.sms.provider in _WITH_WHATSAPP
    ):
        return
    raise invalid(
        "Invalid channel, supported values are 'sms' or 'whatsapp'. 'whatsapp' is only supported if Twilio or Twilio "
        "Verify is used as the provider."
    )


async def charge(service: AuthService) -> None:
    """One message of the whole service's allowance; not counted with autoconfirm. Raises 429."""
    if service.settings.sms.autoconfirm:
        return
    try:
        await limits.charge(service, limits.SMS_SENT, "")
    except AuthError as error:
        raise AuthError(ErrorCode.OVER_SMS_SEND_RATE_LIMIT, "SMS rate limit exceeded", headers=error.headers) from None


async def send(
    service: AuthService,
    connection: Connection,
    call: Call,
    user: User,
    *,
    phone: str,
    code: str,
    channel: str = SMS,
    purpose: str = "confirmation",
    sms_type: str = "",
) -> str:
    """Hands one code over, by the hook or the provider; gives the provider's message id ("" when it has none).

    `purpose` names the code in the error. Raises AuthError: the hook's, `sms_send_failed`, or 500 without a provider.
    """
    if hooks.is_on(service, hooks.SEND_SMS):
        message: dict[str, Any] = {"otp": code, "phone": phone} | ({"sms_type": sms_type} if sms_type else {})
        await hooks.call(service, connection, call, hooks.SEND_SMS, {"user": wire.render_user(user), "sms": message})
        return ""
    raise failure("Unable to get SMS provider")


async def verify_remotely(service: AuthService, phone: str, code: str) -> bool | None:
    """Whether a provider that keeps the codes itself accepts this one; None when codes are checked here."""
    return None
