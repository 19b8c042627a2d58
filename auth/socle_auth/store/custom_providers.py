"""Rows of `auth.custom_oauth_providers` (§3.13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from socle_auth.store.rows import utc
from socle_platform.db import Connection, Json, Record

OAUTH2 = "oauth2"
OIDC = "oidc"

_COLUMNS = (
    "id, provider_type, identifier, name, client_id, client_secret, acceptable_client_ids, scopes, pkce_enabled, "
    "attribute_mapping, authorization_params, enabled, email_optional, issuer, discovery_url, skip_nonce_check, "
    "cached_discovery, discovery_cached_at, authorization_url, token_url, userinfo_url, jwks_uri, created_at, "
    "updated_at, custom_claims_allowlist"
)


@dataclass(frozen=True, slots=True)
class CustomProvider:
    """A provider that an administrator described. `client_secret` is sealed as stored."""

    id: str
    provider_type: str
    identifier: str
    name: str
    client_id: str
    client_secret: str = field(repr=False)
    created_at: datetime
    updated_at: datetime
    acceptable_client_ids: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    pkce_enabled: bool = True
    attribute_mapping: Mapping[str, Any] = field(default_factory=dict[str, Any])
    authorization_params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    custom_claims_allowlist: tuple[str, ...] = ()
    enabled: bool = True
    email_optional: bool = False
    issuer: str = ""
    discovery_url: str = ""
    skip_nonce_check: bool = False
    discovery: Any = None
    discovery_cached_at: datetime | None = None
    authorization_url: str = ""
    token_url: str = ""
    userinfo_url: str = ""
    jwks_uri: str = ""

    @property
    def is_oidc(self) -> bool:
        return self.provider_type == OIDC


def _load(record: Record) -> CustomProvider:
    created, updated = utc(record["created_at"]), utc(record["updated_at"])
    assert created is not None
    assert updated is not None
    return CustomProvider(
        id=record["id"],
        provider_type=record["provider_type"],
        identifier=record["identifier"],
        name=record["name"],
        client_id=record["client_id"],
        client_secret=record["client_secret"],
        created_at=created,
        updated_at=updated,
        acceptable_client_ids=tuple(record["acceptable_client_ids"] or ()),
        scopes=tuple(record["scopes"] or ()),
        pkce_enabled=record["pkce_enabled"],
        attribute_mapping=record["attribute_mapping"] or {},
        authorization_params=record["authorization_params"] or {},
        custom_claims_allowlist=tuple(record["custom_claims_allowlist"] or ()),
        enabled=record["enabled"],
        email_optional=record["email_optional"],
        issuer=record["issuer"] or "",
        discovery_url=record["discovery_url"] or "",
        skip_nonce_check=record["skip_nonce_check"],
        discovery=record["cached_discovery"],
        discovery_cached_at=utc(record["discovery_cached_at"]),
        authorization_url=record["authorization_url"] or "",
        token_url=record["token_url"] or "",
        userinfo_url=record["userinfo_url"] or "",
        jwks_uri=record["jwks_uri"] or "",
    )


def _arguments(provider: CustomProvider) -> tuple[object, ...]:
    return (
        provider.id,
        provider.provider_type,
        provider.identifier,
        provider.name,
        provider.client_id,
        provider.client_secret,
        list(provider.acceptable_client_ids),
        list(provider.scopes),
        provider.pkce_enabled,
        Json(dict(provider.attribute_mapping)),
        Json(dict(provider.authorization_params)),
        provider.enabled,
        provider.email_optional,
        provider.issuer or None,
        provider.discovery_url or None,
        provider.skip_nonce_check,
        None if provider.discovery is None else Json(provider.discovery),
        provider.discovery_cached_at,
        provider.authorization_url or None,
        provider.token_url or None,
        provider.userinfo_url or None,
        provider.jwks_uri or None,
        provider.created_at,
        provider.updated_at,
        list(provider.custom_claims_allowlist),
    )


async def find(connection: Connection, identifier: str) -> CustomProvider | None:
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.custom_oauth_providers where identifier = $1", identifier
    )
    return None if record is None else _load(record)


async def all_of(connection: Connection, provider_type: str | None) -> list[CustomProvider]:
    """Every provider, or those of one type, oldest first."""
    records = await connection.fetch(
        f"""select {_COLUMNS} from auth.custom_oauth_providers
        where $1::text is null or provider_type = $1 order by created_at, identifier""",
        provider_type,
    )
    return [_load(record) for record in records]


async def count(connection: Connection) -> int:
    number: int = await connection.fetchval("select count(*) from auth.custom_oauth_providers")
    return number


async def insert(connection: Connection, provider: CustomProvider) -> None:
    """A new provider. Raises DatabaseError 23505 when its identifier is taken."""
    places = ", ".join(f"${place}" for place in range(1, 26))
    await connection.execute(
        f"insert into auth.custom_oauth_providers ({_COLUMNS}) values ({places})", *_arguments(provider)
    )


async def replace(connection: Connection, provider: CustomProvider) -> bool:
    """Writes every column of the provider; False when it is gone."""
    names = _COLUMNS.split(", ")
    assignments = ", ".join(f"{name} = ${place}" for place, name in enumerate(names, start=1) if name != "id")
    tag = await connection.execute(
        f"update auth.custom_oauth_providers set {assignments} where id = $1", *_arguments(provider)
    )
    return tag.endswith(" 1")


async def delete(connection: Connection, identifier: str) -> bool:
    tag = await connection.execute("delete from auth.custom_oauth_providers where identifier = $1", identifier)
    return tag.endswith(" 1")
