"""The pkce grant: a code from a link or a provider becomes a session (contracts/auth.md §3.2, §4.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socle_auth import audit, pkce, sessions
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.store import flows, sso, users
from socle_auth.store.rows import FlowState

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse


def _not_found() -> AuthError:
    return AuthError(ErrorCode.FLOW_STATE_NOT_FOUND, "invalid flow state, no valid flow state found")


async def pkce_grant(service: AuthService, call: Call) -> WireResponse:
    """Exchanges the code once: a success takes the flow away, a failure leaves it for the one who began it."""
    body = call.body()
    code, verifier = body.text("auth_code"), body.text("code_verifier")
    if not code or not verifier:
        raise invalid("invalid request: both auth code and code verifier should be non-empty")
    async with service.connect() as connection:
        flow = await flows.find_by_code(connection, code)
        if flow is None or flow.user_id is None:
            raise _not_found()
        _check(service, flow, verifier)
        if not await flows.delete(connection, flow.id):
            raise _not_found()
        user = await users.find(connection, flow.user_id)
        if user is None:
            raise _not_found()
        if user.is_banned(service.now()):
            raise AuthError(ErrorCode.USER_BANNED, "User is banned")
        await audit.record(service, connection, call, "login", user, {"provider_type": flow.provider_type})
        limit = await sso.take_session_limit(connection, flow.id) if flow.provider_type == sso.FLOW else None
        response = await sessions.issue_session(
            service, connection, call, user, flow.authentication_method, not_after=limit
        )
    return sessions.reply(
        replace(
            response,
            provider_token=flow.provider_access_token,
            provider_refresh_token=flow.provider_refresh_token,
        )
    )


def _check(service: AuthService, flow: FlowState, verifier: str) -> None:
    if pkce.is_expired(flow, service.now(), service.settings.external.flow_state_expiry):
        raise AuthError(ErrorCode.FLOW_STATE_EXPIRED, "invalid flow state, flow state has expired")
    pkce.verify_code(flow, verifier)


ROUTES = ()
