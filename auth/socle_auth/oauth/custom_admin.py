"""Administrators and custom providers: /admin/custom-providers (§3.13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.oauth.client_secrets import seal_secret
from socle_auth.oauth.custom import PROTECTED_TARGETS, RESERVED_PARAMS
from socle_auth.oauth.oidc import OidcFault, discovery_url
from socle_auth.store import custom_providers as store
from socle_auth.store.custom_providers import OAUTH2, OIDC, CustomProvider
from socle_platform.db import DatabaseError
from socle_platform.outgoing import OutgoingRefused, refuse_unsafe_url

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.wire import Body
    from socle_platform.config.auth import AuthSettings
    from socle_platform.errors import WireResponse

_IDENTIFIER = re.compile(r"custom:[a-z0-9:-]{0,42}[a-z0-9]")
_URL_FIELDS = ("authorization_url", "token_url", "userinfo_url", "jwks_uri")
_LONGEST_URL = 2048


def ensure_custom_providers(settings: AuthSettings) -> None:
    """Raises 404 `feature_disabled`."""
    if not settings.custom_oauth.enabled:
        raise AuthError(ErrorCode.FEATURE_DISABLED, "Custom OAuth providers are disabled")


def render_provider(provider: CustomProvider) -> dict[str, Any]:
    """The provider as administrators see it: without its secret."""
    body: dict[str, Any] = {
        "id": provider.id,
        "provider_type": provider.provider_type,
        "identifier": provider.identifier,
        "name": provider.name,
        "client_id": provider.client_id,
        "acceptable_client_ids": list(provider.acceptable_client_ids),
        "scopes": list(provider.scopes),
        "pkce_enabled": provider.pkce_enabled,
        "attribute_mapping": provider.attribute_mapping,
        "custom_claims_allowlist": list(provider.custom_claims_allowlist),
        "authorization_params": provider.authorization_params,
        "enabled": provider.enabled,
        "email_optional": provider.email_optional,
        "skip_nonce_check": provider.skip_nonce_check,
    }
    optional = {
        "issuer": provider.issuer,
        "discovery_url": provider.discovery_url,
        "discovery_document": provider.discovery,
        "authorization_url": provider.authorization_url,
        "token_url": provider.token_url,
        "userinfo_url": provider.userinfo_url,
        "jwks_uri": provider.jwks_uri,
    }
    body |= {name: value for name, value in optional.items() if value}
    body["created_at"] = wire.render_time(provider.created_at)
    body["updated_at"] = wire.render_time(provider.updated_at)
    return body


async def list_providers(service: AuthService, call: Call) -> WireResponse:
    kind = call.query.get("type") or None
    if kind not in (None, OAUTH2, OIDC):
        raise invalid("type must be either 'oauth2' or 'oidc'")
    async with service.connect() as connection:
        found = await store.all_of(connection, kind)
    return wire.reply({"providers": [render_provider(provider) for provider in found]})


async def show_provider(service: AuthService, call: Call) -> WireResponse:
    return wire.reply(render_provider(await _require(service, call)))


async def _require(service: AuthService, call: Call) -> CustomProvider:
    identifier = _path_identifier(call)
    async with service.connect() as connection:
        found = await store.find(connection, identifier)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> AuthError:
    return AuthError(ErrorCode.CUSTOM_PROVIDER_NOT_FOUND, "Custom OAuth provider not found")


def _path_identifier(call: Call) -> str:
    identifier = call.params.get("identifier", "")
    if not identifier.startswith("custom:"):
        raise invalid(f"identifier must start with 'custom:' prefix, e.g. 'custom:{identifier}'")
    return identifier


async def create_provider(service: AuthService, call: Call) -> WireResponse:
    provider = parse_provider(service, call.body())
    async with service.connect() as connection:
        limit = service.settings.custom_oauth.max_providers
        if limit and await store.count(connection) >= limit:
            raise AuthError(
                ErrorCode.OVER_CUSTOM_PROVIDER_QUOTA, "Maximum number of custom OAuth/OIDC providers reached"
            )
        if await store.find(connection, provider.identifier) is not None:
            raise _conflict()
    if provider.is_oidc:
        provider = await _with_discovery(service, provider)
    provider = replace(provider, client_secret=seal_secret(service, provider.id, provider.client_secret))
    try:
        async with service.connect() as connection:
            await store.insert(connection, provider)
    except DatabaseError as error:
        raise _refused_row(error) from error
    return wire.reply(render_provider(provider), 201)


def _conflict() -> AuthError:
    return AuthError(ErrorCode.CONFLICT, "A custom OAuth provider with this identifier already exists", 400)


def _refused_row(error: DatabaseError) -> Exception:
    """A broken rule of the table (lengths, forms) as the caller's mistake."""
    if error.sqlstate == "23505":
        return _conflict()
    if error.sqlstate in ("23514", "22001"):
        return invalid(f"Provider is not valid: {(error.constraint or '').removeprefix('custom_oauth_providers_')}")
    return error


def parse_provider(service: AuthService, body: Body) -> CustomProvider:
    """A whole new provider, its secret still plain. Raises `validation_failed`."""
    kind = body.text("provider_type")
    if kind not in (OAUTH2, OIDC):
        raise invalid("provider_type must be either 'oauth2' or 'oidc'")
    identifier = body.text("identifier")
    if not identifier:
        raise invalid("identifier is required")
    if not identifier.startswith("custom:"):
        raise invalid(f"identifier must start with 'custom:' prefix, e.g. 'custom:{identifier}'")
    if not _IDENTIFIER.fullmatch(identifier):
        raise invalid("identifier may hold lower-case letters, digits, '-' and ':' only, 50 characters at most")
    required = ("issuer",) if kind == OIDC else _URL_FIELDS[:3]
    for name in ("name", "client_id", "client_secret"):
        if not body.text(name):
            raise invalid(f"{name} is required")
    for name in required:
        if not body.text(name):
            raise invalid(f"{name} is required for {'OIDC' if kind == OIDC else 'OAuth2'} providers")
    now = service.now()
    blank = CustomProvider(service.new_id(), kind, identifier, "", "", "", now, now)
    return with_changes(blank, body, allow_private=service.settings.allow_private_urls)


def with_changes(provider: CustomProvider, body: Body, *, allow_private: bool = False) -> CustomProvider:
    """The provider with the fields that the body has. Raises `validation_failed`."""
    changes: dict[str, Any] = {name: body.text(name) for name in ("name", "client_id", "client_secret")}
    changes |= {name: body.boolean_or_none(name) for name in ("pkce_enabled", "enabled", "email_optional")}
    changes |= {
        name: None if (texts := body.texts_or_none(name)) is None else tuple(texts)
        for name in ("acceptable_client_ids", "scopes", "custom_claims_allowlist")
    }
    changes["attribute_mapping"] = _checked_mapping(body.object_or_none("attribute_mapping"))
    changes["authorization_params"] = _checked_params(body.object_or_none("authorization_params"))
    if provider.is_oidc:
        changes["skip_nonce_check"] = body.boolean_or_none("skip_nonce_check")
    names = ("issuer", "discovery_url") if provider.is_oidc else _URL_FIELDS
    for name in names:
        changes[name] = _checked_url(name, body.text(name), allow_private=allow_private)
    if any(not key.strip() for key in changes["custom_claims_allowlist"] or ()):
        raise invalid("custom_claims_allowlist entries must be non-empty strings")
    kept: dict[str, Any] = {name: value for name, value in changes.items() if value not in (None, "")}
    changed = replace(provider, **kept)
    if changed.is_oidc and "openid" not in changed.scopes:
        changed = replace(changed, scopes=("openid", *changed.scopes))
    return changed


def _checked_url(name: str, url: str, *, allow_private: bool) -> str:
    """https and public, so that nobody reaches into the network by us. The adapter checks again when connecting."""
    if not url:
        return ""
    if len(url) > _LONGEST_URL:
        raise invalid(f"{name} must not be longer than {_LONGEST_URL} characters")
    if not url.startswith("https://"):
        raise invalid("URL must use HTTPS")
    if not allow_private:
        try:
            refuse_unsafe_url(url, https_only=True)
        except OutgoingRefused as error:
            raise invalid(error.message) from error
    return url


def _checked_mapping(mapping: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    for target in mapping or ():
        if target in PROTECTED_TARGETS:
            raise invalid(f"Cannot map to protected system field: {target}")
    return mapping


def _checked_params(params: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    for name, value in (params or {}).items():
        if name.lower() in RESERVED_PARAMS:
            raise invalid(f"Cannot override reserved OAuth parameter: {name}")
        if not isinstance(value, str):
            raise invalid(f'Authorization parameter "{name}" must be a string')
    return params


async def _with_discovery(service: AuthService, provider: CustomProvider) -> CustomProvider:
    """The issuer is asked now, so that a mistake shows here and not at somebody's sign-in."""
    where = provider.discovery_url or discovery_url(provider.issuer)
    service.issuers.forget(provider.issuer)
    try:
        found = await service.issuers.discover(provider.issuer, where)
    except OidcFault as error:
        raise invalid(f'OIDC discovery from "{where}" failed: {error.message}') from error
    needed = {
        "authorization_endpoint": found.authorization_endpoint,
        "token_endpoint": found.token_endpoint,
        "jwks_uri": found.jwks_uri,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        service.issuers.forget(provider.issuer)
        raise invalid(f"OIDC discovery document is missing required fields: {', '.join(missing)}")
    kept = (
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "scopes_supported",
        "response_types_supported",
        "grant_types_supported",
        "subject_types_supported",
    )
    document = {name: found.document[name] for name in kept if name in found.document}
    return replace(provider, discovery=document, discovery_cached_at=service.now())


async def update_provider(service: AuthService, call: Call) -> WireResponse:
    body, former = call.body(), await _require(service, call)
    changed = with_changes(former, body, allow_private=service.settings.allow_private_urls)
    if changed.is_oidc and (body.text("issuer") or body.text("discovery_url")):
        changed = await _with_discovery(service, changed)
        if former.issuer != changed.issuer:
            service.issuers.forget(former.issuer)
    if body.text("client_secret"):
        changed = replace(changed, client_secret=seal_secret(service, changed.id, body.text("client_secret")))
    changed = replace(changed, updated_at=service.now())
    try:
        async with service.connect() as connection:
            kept = await store.replace(connection, changed)
    except DatabaseError as error:
        raise _refused_row(error) from error
    if not kept:
        raise _not_found()
    return wire.reply(render_provider(changed))


async def delete_provider(service: AuthService, call: Call) -> WireResponse:
    provider = await _require(service, call)
    async with service.connect() as connection:
        if not await store.delete(connection, provider.identifier):
            raise _not_found()
    if provider.issuer:
        service.issuers.forget(provider.issuer)
    return wire.no_content()


_ONE = "/admin/custom-providers/{identifier}"
ROUTES = (
    AuthRoute("GET", "/admin/custom-providers", list_providers, Access.ADMIN, gate=ensure_custom_providers),
    AuthRoute("POST", "/admin/custom-providers", create_provider, Access.ADMIN, gate=ensure_custom_providers),
    AuthRoute("GET", _ONE, show_provider, Access.ADMIN, gate=ensure_custom_providers),
    AuthRoute("PUT", _ONE, update_provider, Access.ADMIN, gate=ensure_custom_providers),
    AuthRoute("DELETE", _ONE, delete_provider, Access.ADMIN, gate=ensure_custom_providers),
)
