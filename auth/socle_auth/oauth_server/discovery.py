"""What we publish about ourselves (OpenID Connect Discovery 1.0, RFC 8414; contract §3.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.oauth_server.client_rules import AUTHORIZATION_CODE, BASIC, NONE, POST, REFRESH_TOKEN
from socle_auth.oauth_server.scopes import EMAIL, OFFLINE_ACCESS, OPENID, PHONE, PROFILE

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.config.auth import AuthSettings
    from socle_platform.errors import WireResponse


def render_discovery(settings: AuthSettings) -> dict[str, Any]:
    """One document for both addresses."""
    issuer = settings.jwt.issuer or settings.external_url
    base = issuer.rstrip("/")
    document: dict[str, Any] = {
        "issuer": issuer,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "userinfo_endpoint": f"{base}/oauth/userinfo",
    }
    if settings.oauth_server.enabled and settings.oauth_server.allow_dynamic_registration:
        document["registration_endpoint"] = f"{base}/oauth/clients/register"
    return document | {
        "scopes_supported": [OPENID, PROFILE, EMAIL, PHONE, OFFLINE_ACCESS],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [AUTHORIZATION_CODE, REFRESH_TOKEN],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "HS256", "ES256"],
        "token_endpoint_auth_methods_supported": [BASIC, POST, NONE],
        "claims_supported": [
            "sub",
            "aud",
            "iss",
            "exp",
            "iat",
            "auth_time",
            "nonce",
            "email",
            "email_verified",
            "phone_number",
            "phone_number_verified",
            "name",
            "picture",
            "preferred_username",
            "updated_at",
        ],
        "code_challenge_methods_supported": ["S256", "plain"],
    }


async def discovery(service: AuthService, _call: Call) -> WireResponse:
    return wire.reply(render_discovery(service.settings), headers=(("cache-control", "public, max-age=600"),))
