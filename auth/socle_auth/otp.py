"""POST /otp and /magiclink: a code or link instead of a password (contracts/auth.md §3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_auth import audit, codes, emails, limits, mail_codes, phone_codes, pkce, texting, wire
from socle_auth.context import AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.mailing import MailKind
from socle_auth.signup import SignupRequest, register
from socle_auth.store import users

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_auth.context import AuthService, Call
    from socle_auth.pkce import Challenge
    from socle_auth.store.rows import User
    from socle_auth.wire import Body
    from socle_platform.errors import WireResponse


@dataclass(frozen=True, slots=True)
class OtpRequest:
    """Who wants a code. `phone` or `email`, normalised."""

    email: str
    phone: str
    data: Mapping[str, Any]
    channel: str
    challenge: Challenge | None
    audience: str


async def otp(service: AuthService, call: Call) -> WireResponse:
    body = call.body()
    email, phone = body.text("email"), body.text("phone")
    if email and phone:
        raise invalid("Only an email address or phone number should be provided")
    if email and body.text("channel"):
        raise invalid("Channel should only be specified with Phone OTP")
    pkce.read_challenge(body)
    if not body.boolean("create_user", default=True):
        await _check_known(service, call, email, phone)
    if email:
        return await _send_mail(service, call, body)
    if phone:
        return await _send_text(service, call, body)
    raise invalid("One of email or phone must be set")


async def magiclink(service: AuthService, call: Call) -> WireResponse:
    body = call.body()
    if not body.text("email"):
        _check_mail_is_on(service)
        raise invalid("Password recovery requires an email", 422)
    return await _send_mail(service, call, body)


async def _check_known(service: AuthService, call: Call, email: str, phone: str) -> None:
    """`create_user: false` tells that a user does not exist; upstream accepts that, and clients rely on it."""
    audience = call.audience(service.settings)
    user = None
    async with service.connect() as connection:
        if email:
            user = await users.find_by_email(connection, emails.parse_email(email), audience)
        elif phone:
            user = await users.find_by_phone(connection, codes.parse_phone(phone), audience)
        else:
            return
    if user is None:
        raise AuthError(ErrorCode.OTP_DISABLED, "Signups not allowed for otp")


def _check_mail_is_on(service: AuthService) -> None:
    if not service.settings.external.email_enabled:
        raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Email logins are disabled", 422)
    if not service.settings.external.magic_link_enabled:
        raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Login with magic link is disabled", 422)


async def _send_mail(service: AuthService, call: Call, body: Body) -> WireResponse:
    _check_mail_is_on(service)
    request = OtpRequest(
        email=emails.parse_email(body.text("email")),
        phone="",
        data=body.object("data"),
        channel=texting.SMS,
        challenge=pkce.read_challenge(body),
        audience=call.audience(service.settings),
    )
    async with service.connect() as connection:
        user = await users.find_by_email(connection, request.email, request.audience)
    autoconfirms = service.settings.mailer.autoconfirm
    if user is None or (not user.is_email_confirmed and not autoconfirms):
        registered = await _register(service, call, request, 33, service.settings.password.required_characters)
        if not autoconfirms or registered is None:
            return wire.reply({})  # the confirmation mail is the magic link
        user = registered
    async with service.connect() as connection:
        user = await users.find(connection, user.id, lock=True)
        if user is None:
            return wire.reply({})
        await pkce.begin_mail_flow(
            service, connection, user.id, request.challenge, method="magiclink", provider_type="magiclink"
        )
        await audit.record(service, connection, call, "user_recovery_requested", user)
        await mail_codes.send_recovery(service, connection, call, user, request.challenge, MailKind.MAGIC_LINK)
    return wire.reply({})


async def _send_text(service: AuthService, call: Call, body: Body) -> WireResponse:
    if not service.settings.external.phone_enabled:
        raise AuthError(ErrorCode.PHONE_PROVIDER_DISABLED, "Unsupported phone provider")
    channel = body.text("channel") or texting.SMS
    phone = codes.parse_phone(body.text("phone"))
    texting.check_channel(service, channel)
    request = OtpRequest("", phone, body.object("data"), channel, None, call.audience(service.settings))
    async with service.connect() as connection:
        user = await users.find_by_phone(connection, phone, request.audience)
    autoconfirms = service.settings.sms.autoconfirm
    if user is None or (not user.is_phone_confirmed and not autoconfirms):
        registered = await _register(service, call, request, 64, service.settings.password.required_characters)
        if not autoconfirms or registered is None:
            return wire.reply({})
        user = registered
    async with service.connect() as connection:
        user = await users.find(connection, user.id, lock=True)
        if user is None:
            return wire.reply({})
        await audit.record(service, connection, call, "user_recovery_requested", user, {"channel": channel})
        _, message_id = await phone_codes.send_code(
            service, connection, call, user, phone, phone_codes.CONFIRMATION, channel
        )
    return wire.reply({"message_id": message_id} if message_id else {})


async def _register(
    service: AuthService, call: Call, request: OtpRequest, length: int, required: tuple[str, ...]
) -> User | None:
    """Signs the address up with a password nobody knows; its confirmation is the code. None when somebody else was
    faster and is confirmed."""
    if service.settings.disable_signup:
        raise AuthError(ErrorCode.SIGNUP_DISABLED, "Signups not allowed for this instance")
    registered = await register(
        service,
        call,
        SignupRequest(
            email=request.email,
            phone=request.phone,
            password=codes.new_password(service, length, required),
            data=request.data,
            channel=request.channel,
            challenge=request.challenge,
            audience=request.audience,
        ),
        lets_in=False,
    )
    return None if registered.repeated else registered.user


ROUTES = (
    AuthRoute("POST", "/otp", otp, limiter=limits.OTP, captcha=True, sends=True),
    AuthRoute("POST", "/magiclink", magiclink, limiter=limits.MAGIC_LINK, captcha=True, sends=True),
)
