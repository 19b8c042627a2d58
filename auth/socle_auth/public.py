"""What anybody may know: health, public settings, public keys (contracts/auth.md §3.14, §5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import wire
from socle_auth.context import AuthRoute
from socle_platform.config.auth_external import PROVIDER_NAMES

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse


async def health(_service: AuthService, _call: Call) -> WireResponse:
    from importlib.metadata import version

    description = "GoTrue is a user registration and authentication API"
    return wire.reply({"version": f"v{version('socle-platform')}", "name": "GoTrue", "description": description})


async def settings(service: AuthService, _call: Call) -> WireResponse:
    """Which ways to sign in are on; nothing secret."""
    chosen = service.settings
    external = {
        "anonymous_users": chosen.external.anonymous_enabled,
        **{name: chosen.provider(name).enabled for name in PROVIDER_NAMES},
        "email": chosen.external.email_enabled,
        "phone": chosen.external.phone_enabled,
    }
    return wire.reply(
        {
            "external": external,
            "disable_signup": chosen.disable_signup,
            "mailer_autoconfirm": chosen.mailer.autoconfirm,
            "phone_autoconfirm": chosen.sms.autoconfirm,
            "sms_provider": chosen.sms.provider,
            "saml_enabled": chosen.saml.enabled,
            "saml_private_key_next_configured": bool(chosen.saml.private_key_next),
            "passkeys_enabled": chosen.passkey.enabled,
        }
    )


async def jwks(service: AuthService, _call: Call) -> WireResponse:
    """The public keys; shared secrets are never among them."""
    return wire.reply(service.resources.keyring.jwks(), headers=(("cache-control", "public, max-age=600"),))


ROUTES = (
    AuthRoute("GET", "/health", health),
    AuthRoute("GET", "/settings", settings),
    AuthRoute("GET", "/.well-known/jwks.json", jwks),
)
