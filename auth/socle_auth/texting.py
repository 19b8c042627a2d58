"""Sending a text message: by the hook, a provider, or into the built-in inbox (contracts/auth.md §7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socle_auth import hooks, limits, wire
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.inbox import delivery
from socle_auth.mail.go_template import TemplateError
from socle_auth.text_gateways import GatewayUnusable, Text, TextGateway, TextNotSent, open_gateway

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
    try:
        words = service.texts.words(code, for_factor=sms_type == "mfa")
    except TemplateError as error:
        raise failure("error generating sms template", error) from error
    gateway = _gateway(service)
    if gateway is None:
        message_id = await delivery.keep_text(service, connection, phone, words)
        if message_id is None:
            raise failure("Unable to get SMS provider")
        return message_id
    try:
        return await gateway.send(Text(phone, words, code, channel))
    except TextNotSent as error:
        raise AuthError(ErrorCode.SMS_SEND_FAILED, f"Error sending {purpose} OTP to provider: {error}") from error


async def verify_remotely(service: AuthService, phone: str, code: str) -> bool | None:
    """Whether a provider that keeps the codes itself accepts this one; None when codes are checked here."""
    if service.settings.sms.provider != "twilio_verify" or hooks.is_on(service, hooks.SEND_SMS):
        return None
    gateway = _gateway(service)
    try:
        return await gateway.verify(phone, code) if gateway is not None else None
    except TextNotSent as error:
        service.note("error", f"the provider of text messages could not check a code: {error}")
        return False


def _gateway(service: AuthService) -> TextGateway | None:
    try:
        return open_gateway(service.settings.sms, service.resources.http)
    except GatewayUnusable as error:
        service.note("error", str(error))
        raise failure("Unable to get SMS provider", error) from error
