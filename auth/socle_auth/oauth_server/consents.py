"""The user's decision about an application, and what was decided before (contract §3.16)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth import audit, redirects, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.oauth_server.authorize import error_url
from socle_auth.store import oauth_authorizations as store
from socle_auth.store import oauth_clients
from socle_auth.store.oauth_authorizations import DENIED, EXPIRED, PENDING, Authorization

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.oauth_clients import OAuthClient
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

APPROVE = "approve"
DENY = "deny"


def _ensure_own_page(service: AuthService, call: Call) -> User:
    """The user, on a page of ours: an application's own token decides nothing, nor does a page from elsewhere."""
    origin = call.headers.get("origin", "")
    if origin and not service.redirects.allows(origin):
        raise invalid("unauthorized request origin")
    session = call.require_caller().session
    if session is not None and session.oauth_client_id is not None:
        message = "An application's token cannot decide about applications"
        raise AuthError(ErrorCode.NO_AUTHORIZATION, message, 403)
    return call.require_user()


def _not_found() -> AuthError:
    return AuthError(ErrorCode.OAUTH_AUTHORIZATION_NOT_FOUND, "authorization not found")


async def _find_pending(service: AuthService, connection: Connection, call: Call, refusal: str) -> Authorization | None:
    """The authorization of the path; None when it has expired, which is to be committed before it is told."""
    found = await store.find(connection, call.params.get("authorization_id", ""))
    if found is None:
        raise _not_found()
    if service.now() > found.expires_at:
        if found.status == PENDING:
            await store.set_status(connection, found, EXPIRED)
        return None
    if found.status != PENDING:
        raise invalid(refusal)
    return found


async def show(service: AuthService, call: Call) -> WireResponse:
    """GET /oauth/authorizations/{authorization_id}: the first user who looks is the one who may decide."""
    user = _ensure_own_page(service, call)
    answer: dict[str, Any] | None = None
    async with service.connect() as connection:
        found = await _find_pending(service, connection, call, "authorization request cannot be processed")
        if found is not None:
            client = await oauth_clients.find(connection, found.client_id)
            if client is None or found.user_id not in (None, user.id):
                raise _not_found()
            answer = await _bind(service, connection, found, client, user)
    if answer is None:
        raise _not_found()
    return wire.reply(answer)


async def _bind(
    service: AuthService, connection: Connection, found: Authorization, client: OAuthClient, user: User
) -> dict[str, Any]:
    """Details to decide about, or at once where to go when the user has agreed to as much before."""
    if found.user_id is None:
        await store.set_user(connection, found, user.id)
        before = await store.consented_scopes(connection, user.id, client.id)
        if before is not None and before >= set(found.scopes):
            return {"redirect_url": await _approve(service, connection, found)}
    shown = {"id": client.id, "name": client.name, "uri": client.uri, "logo_uri": client.logo_uri}
    return {
        "authorization_id": found.authorization_id,
        "redirect_uri": found.redirect_uri,
        "client": {name: value for name, value in shown.items() if value},
        "user": {"id": user.id} | ({"email": user.email} if user.email else {}),
        "scope": found.scope,
    }


async def _approve(service: AuthService, connection: Connection, found: Authorization) -> str:
    approved = replace(found, code=service.new_id())
    await store.approve(connection, approved, approved.code, service.now())
    told = {"code": approved.code} | ({"state": found.state} if found.state else {})
    return redirects.with_query(found.redirect_uri, **told)


async def decide(service: AuthService, call: Call) -> WireResponse:
    """POST /oauth/authorizations/{authorization_id}/consent."""
    user = _ensure_own_page(service, call)
    action = call.body().text("action")
    if action not in (APPROVE, DENY):
        raise invalid("action must be 'approve' or 'deny'")
    url = None
    async with service.connect() as connection:
        found = await _find_pending(service, connection, call, "authorization request is no longer pending")
        if found is not None:
            if found.user_id != user.id:
                raise _not_found()
            url = await _carry_out(service, connection, found, user, action)
    if url is None:
        raise _not_found()
    return wire.reply({"redirect_url": url})


async def _carry_out(
    service: AuthService, connection: Connection, found: Authorization, user: User, action: str
) -> str:
    if action == DENY:
        await store.set_status(connection, found, DENIED)
        return error_url(found.redirect_uri, "access_denied", "User denied the request", found.state)
    if await oauth_clients.find(connection, found.client_id) is None:
        raise _not_found()
    await store.put_consent(connection, service.new_id(), user.id, found.client_id, found.scope, service.now())
    return await _approve(service, connection, found)


async def list_grants(service: AuthService, call: Call) -> WireResponse:
    """GET /user/oauth/grants."""
    async with service.connect() as connection:
        found = await store.consents_of(connection, call.require_user().id)
    return wire.reply([_render_grant(consent) for consent in found])


def _render_grant(consent: store.Consent) -> dict[str, Any]:
    client = consent.client
    shown = {"id": client.id, "name": client.name, "uri": client.uri, "logo_uri": client.logo_uri}
    return {
        "client": {name: value for name, value in shown.items() if value},
        "scopes": list(consent.scopes),
        "granted_at": wire.render_time(consent.granted_at),
    }


async def revoke_grant(service: AuthService, call: Call) -> WireResponse:
    """DELETE /user/oauth/grants?client_id=…: the application's sessions end with it."""
    user, text = call.require_user(), call.query.get("client_id", "")
    if not text:
        raise invalid("client_id query parameter is required")
    client_id = wire.parse_uuid(text)
    if client_id is None:
        raise invalid("invalid client_id format")
    async with service.connect() as connection:
        if not await store.revoke_consent(connection, user.id, client_id, service.now()):
            raise AuthError(ErrorCode.OAUTH_CONSENT_NOT_FOUND, "No active grant found for this client")
        traits = {"oauth_client_id": client_id, "action": "revoke_oauth_grant"}
        await audit.record(service, connection, call, "token_revoked", user, traits)
    return wire.no_content()
