"""POST /recover: a link for whoever forgot the password (contracts/auth.md §3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, emails, limits, mail_codes, pkce, wire
from socle_auth.context import AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.config.auth import AuthSettings
    from socle_platform.errors import WireResponse


def require_email_provider(settings: AuthSettings) -> None:
    if not settings.external.email_enabled:
        raise AuthError(ErrorCode.EMAIL_PROVIDER_DISABLED, "Email logins are disabled")


async def recover(service: AuthService, call: Call) -> WireResponse:
    """An unknown address gets the same answer and no mail."""
    body = call.body()
    if not body.text("email"):
        raise invalid("Password recovery requires an email")
    email, challenge = emails.parse_email(body.text("email")), pkce.read_challenge(body)
    async with service.connect() as connection:
        found = await users.find_by_email(connection, email, call.audience(service.settings))
        user = None if found is None else await users.find(connection, found.id, lock=True)
        if user is None:
            return wire.reply({})
        await pkce.begin_mail_flow(service, connection, user.id, challenge, method="recovery", provider_type="recovery")
        await audit.record(service, connection, call, "user_recovery_requested", user)
        await mail_codes.send_recovery(service, connection, call, user, challenge)
    return wire.reply({})


ROUTES = (
    AuthRoute(
        "POST", "/recover", recover, limiter=limits.RECOVER, captcha=True, gate=require_email_provider, sends=True
    ),
)
