"""Registering applications, by administrators and by themselves, and their care (contract §3.16)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.oauth_server.client_rules import (
    check_grant_types,
    check_name,
    check_redirect_uris,
    check_uri,
    choose_kind,
)
from socle_auth.store import oauth_clients as store
from socle_auth.store.oauth_clients import OAuthClient

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.wire import Body
    from socle_platform.config.auth import AuthSettings
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_FIELDS = ("redirect_uris", "grant_types", "client_name", "client_uri", "logo_uri", "token_endpoint_auth_method")


def ensure_server_on(settings: AuthSettings) -> None:
    """Raises 404 `feature_disabled`."""
    if not settings.oauth_server.enabled:
        raise AuthError(ErrorCode.FEATURE_DISABLED, "OAuth server is disabled")


def render_client(client: OAuthClient, secret: str = "") -> dict[str, Any]:
    """The client as the API shows it; `secret` only when it has just been made."""
    body: dict[str, Any] = {"client_id": client.id}
    if secret:
        body["client_secret"] = secret
    body |= {
        "client_type": client.client_type,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": client.auth_method,
        "grant_types": list(client.grant_types),
        "response_types": ["code"],
    }
    shown = {"client_name": client.name, "client_uri": client.uri, "logo_uri": client.logo_uri}
    body |= {name: value for name, value in shown.items() if value}
    body["registration_type"] = client.registration_type
    body["created_at"] = wire.render_time(client.created_at)
    body["updated_at"] = wire.render_time(client.updated_at)
    return body


def hash_secret(secret: str) -> str:
    """What is stored of a client secret: base64url of its SHA-256 (a secret has 256 random bits)."""
    return base64.urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).rstrip(b"=").decode()


def _new_secret(service: AuthService) -> str:
    return base64.urlsafe_b64encode(service.random_bytes(32)).rstrip(b"=").decode()


async def register_by_admin(service: AuthService, call: Call) -> WireResponse:
    """POST /admin/oauth/clients."""
    return await _register(service, call.body(), "manual")


async def register_dynamically(service: AuthService, call: Call) -> WireResponse:
    """POST /oauth/clients/register (RFC 7591)."""
    if not service.settings.oauth_server.allow_dynamic_registration:
        raise AuthError(
            ErrorCode.OAUTH_DYNAMIC_CLIENT_REGISTRATION_DISABLED, "Dynamic client registration is not enabled"
        )
    return await _register(service, call.body(), "dynamic")


async def _register(service: AuthService, body: Body, registration_type: str) -> WireResponse:
    kind = choose_kind(body.text("client_type"), body.text("token_endpoint_auth_method"))
    now = service.now()
    client = OAuthClient(
        id=service.new_id(),
        registration_type=registration_type,
        redirect_uris=check_redirect_uris(body.texts_or_none("redirect_uris") or []),
        grant_types=check_grant_types(body.texts_or_none("grant_types")),
        client_type=kind.client_type,
        auth_method=kind.auth_method,
        created_at=now,
        updated_at=now,
        name=check_name(body.text("client_name")),
        uri=check_uri("client_uri", body.text("client_uri")),
        logo_uri=check_uri("logo_uri", body.text("logo_uri")),
    )
    secret = _new_secret(service) if client.is_confidential else ""
    if secret:
        client = replace(client, secret_hash=hash_secret(secret))
    async with service.connect() as connection:
        await store.put(connection, client)
    return wire.reply(render_client(client, secret), 201)


async def list_clients(service: AuthService, _call: Call) -> WireResponse:
    """GET /admin/oauth/clients."""
    async with service.connect() as connection:
        found = await store.all_clients(connection)
    headers = (("x-total-count", str(len(found))),)
    return wire.reply({"clients": [render_client(client) for client in found]}, headers=headers)


async def _require(connection: Connection, call: Call) -> OAuthClient:
    client_id = wire.parse_uuid(call.params.get("client_id", ""))
    if client_id is None:
        raise invalid("invalid client_id format")
    client = await store.find(connection, client_id)
    if client is None:
        raise AuthError(ErrorCode.OAUTH_CLIENT_NOT_FOUND, "OAuth client not found")
    return client


async def show_client(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        client = await _require(connection, call)
    return wire.reply(render_client(client))


async def update_client(service: AuthService, call: Call) -> WireResponse:
    """PUT: the fields that the body has; the kind of client stays."""
    body = call.body()
    if not any(body.has(name) for name in _FIELDS):
        raise invalid("No fields provided for update")
    async with service.connect() as connection:
        client = await _require(connection, call)
        client = replace(_with_changes(client, body), updated_at=service.now())
        await store.put(connection, client)
    return wire.reply(render_client(client))


def _with_changes(client: OAuthClient, body: Body) -> OAuthClient:
    if body.has("redirect_uris"):
        client = replace(client, redirect_uris=check_redirect_uris(body.texts_or_none("redirect_uris") or []))
    if body.has("grant_types"):
        types = body.texts_or_none("grant_types")
        if not types:
            raise invalid("grant_types cannot be empty")
        client = replace(client, grant_types=check_grant_types(types))
    if body.has("client_name"):
        client = replace(client, name=check_name(body.text("client_name")))
    if body.has("client_uri"):
        client = replace(client, uri=check_uri("client_uri", body.text("client_uri")))
    if body.has("logo_uri"):
        client = replace(client, logo_uri=check_uri("logo_uri", body.text("logo_uri")))
    if body.has("token_endpoint_auth_method"):
        kind = choose_kind(client.client_type, body.text("token_endpoint_auth_method"))
        client = replace(client, auth_method=kind.auth_method)
    return client


async def delete_client(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        client = await _require(connection, call)
        await store.remove(connection, client.id, service.now())
    return wire.no_content()


async def regenerate_secret(service: AuthService, call: Call) -> WireResponse:
    """POST …/regenerate_secret: the former one is void at once."""
    secret = _new_secret(service)
    async with service.connect() as connection:
        client = await _require(connection, call)
        if not client.is_confidential:
            raise invalid("Cannot regenerate secret for public client")
        client = replace(client, secret_hash=hash_secret(secret), updated_at=service.now())
        await store.put(connection, client)
    return wire.reply(render_client(client, secret))
