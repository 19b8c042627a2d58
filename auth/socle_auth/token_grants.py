"""POST /token: which grant is asked for (contracts/auth.md §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_auth import captcha, limits
from socle_auth.context import AuthRoute, Handler
from socle_auth.errors import AuthError, ErrorCode

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse


@dataclass(frozen=True, slots=True)
class Grant:
    """One way to get a session; `limiter` is charged after the captcha."""

    handler: Handler
    limiter: str = limits.TOKEN
    captcha: bool = False


def grants() -> dict[str, Grant]:
    """By grant_type. A new one is added here."""
    from socle_auth.code_exchange import pkce_grant
    from socle_auth.oauth.id_token_grant import id_token_grant
    from socle_auth.refresh import refresh_grant
    from socle_auth.signin import password_grant
    from socle_auth.web3.grant import web3_grant

    return {
        "password": Grant(password_grant, captcha=True),
        "refresh_token": Grant(refresh_grant),
        "pkce": Grant(pkce_grant),
        "id_token": Grant(id_token_grant),
        "web3": Grant(web3_grant, limiter=limits.WEB3, captcha=True),
    }


async def token(service: AuthService, call: Call) -> WireResponse:
    grant = grants().get(call.parameter("grant_type"))
    if grant is None:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS, "unsupported_grant_type")
    if grant.captcha:
        await captcha.check(service, call)
    await limits.charge(service, grant.limiter, limits.caller_key(service, call))
    return await grant.handler(service, call)


ROUTES = (AuthRoute("POST", "/token", token),)
