"""GET /oauth/authorize: an application asks for a user's consent (contract §3.16, RFC 6749 §4.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_auth import redirects, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.oauth_server.scopes import SUPPORTED
from socle_auth.store import oauth_authorizations as store
from socle_auth.store import oauth_clients
from socle_auth.store.oauth_authorizations import Authorization
from socle_platform.db import DatabaseError
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.oauth_clients import OAuthClient
    from socle_platform.errors import WireResponse

_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTHS = {"state": 4096, "scope": 4096, "resource": 2048, "nonce": 255}


class RequestFault(SocleError):
    """The application's request is wrong; it is told by a redirect."""


async def authorize(service: AuthService, call: Call) -> WireResponse:
    client = await _require_client(service, call.query.get("client_id", ""))
    redirect_uri = call.query.get("redirect_uri", "")
    if not redirect_uri:
        raise invalid("redirect_uri is required")
    if redirect_uri not in client.redirect_uris:
        raise invalid("invalid redirect_uri")
    state = call.query.get("state", "")
    try:
        authorization = _parse(service, client, redirect_uri, call.query)
    except RequestFault as fault:
        return wire.redirect(error_url(redirect_uri, "invalid_request", fault.message, state), 302)
    try:
        async with service.connect() as connection:
            await store.insert(connection, authorization)
    except DatabaseError as error:
        service.note("error", f"an OAuth authorization could not be stored: {error.message}")
        url = error_url(redirect_uri, "server_error", "error creating authorization", state)
        return wire.redirect(url, 302)
    page = service.settings.site_url.rstrip("/") + "/" + service.settings.oauth_server.authorization_path.lstrip("/")
    return wire.redirect(f"{page}?authorization_id={authorization.authorization_id}", 302)


async def _require_client(service: AuthService, text: str) -> OAuthClient:
    """An unknown application gets no redirect: nobody vouches for where it would lead."""
    if not text:
        raise invalid("client_id is required")
    client_id = wire.parse_uuid(text)
    if client_id is None:
        raise AuthError(ErrorCode.OAUTH_CLIENT_NOT_FOUND, "invalid client_id format", 400)
    async with service.connect() as connection:
        client = await oauth_clients.find(connection, client_id)
    if client is None:
        raise AuthError(ErrorCode.OAUTH_CLIENT_NOT_FOUND, "invalid client_id", 400)
    return client


def _parse(service: AuthService, client: OAuthClient, redirect_uri: str, query: Mapping[str, str]) -> Authorization:
    """The request, checked. Raises RequestFault."""
    if query.get("response_type", "") not in ("", "code"):
        raise RequestFault("only response_type=code is supported")
    scope = " ".join(dict.fromkeys((query.get("scope") or service.settings.oauth_server.default_scope).split()))
    for one in scope.split():
        if one not in SUPPORTED:
            raise RequestFault(f"unsupported scope: {one}")
    if not scope:
        raise RequestFault("scope parameter cannot be empty")
    _check_resource(query.get("resource", ""))
    challenge, method = query.get("code_challenge", ""), query.get("code_challenge_method", "").lower()
    if not challenge or not method:
        raise RequestFault("PKCE flow requires both code_challenge and code_challenge_method")
    if method not in ("s256", "plain"):
        raise RequestFault("code_challenge_method must be 'S256' or 'plain'")
    if not _CHALLENGE.fullmatch(challenge):
        raise RequestFault("code_challenge must be between 43 and 128 characters")
    for name, limit in _LENGTHS.items():
        if len(query.get(name, "")) > limit or "\x00" in query.get(name, ""):
            raise RequestFault(f"{name} is too long or holds a character that cannot be stored")
    now = service.now()
    return Authorization(
        id=service.new_id(),
        authorization_id=_public_id(service),
        client_id=client.id,
        redirect_uri=redirect_uri,
        scope=scope,
        created_at=now,
        expires_at=now + timedelta(seconds=service.settings.oauth_server.authorization_ttl),
        state=query.get("state", ""),
        resource=query.get("resource", ""),
        code_challenge=challenge,
        code_challenge_method=method,
        nonce=query.get("nonce", ""),
    )


def _public_id(service: AuthService) -> str:
    """32 characters of 160 random bits."""
    return "".join(_ALPHABET[byte & 31] for byte in service.random_bytes(32))


def _check_resource(resource: str) -> None:
    """RFC 8707 §2: an absolute URI without fragment, and without query."""
    if not resource:
        return
    try:
        parts = urlsplit(resource)
    except ValueError:
        raise RequestFault("resource must be a valid URI") from None
    if not parts.scheme:
        raise RequestFault("resource must be an absolute URI")
    if "#" in resource:
        raise RequestFault("resource must not include a fragment component")
    if "?" in resource:
        raise RequestFault("resource must not include a query component")


def error_url(redirect_uri: str, error: str, description: str, state: str) -> str:
    """Where the application is told what went wrong (RFC 6749 §4.1.2.1)."""
    told = {"error": error, "error_description": description} | ({"state": state} if state else {})
    return redirects.with_query(redirect_uri, **told)
