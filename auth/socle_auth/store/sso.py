"""Rows of `auth.sso_providers`, `sso_domains`, `saml_providers` and `saml_relay_states` (§3.13, §3.15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from socle_auth.store.rows import utc
from socle_platform.db import Connection, Json, Record

FLOW = "sso/saml"
"""How flows of single sign-on are marked."""


@dataclass(frozen=True, slots=True)
class SsoProvider:
    """An identity provider that an administrator made known. `fetched_at`: when its metadata was last written."""

    id: str
    entity_id: str
    metadata_xml: str
    created_at: datetime
    updated_at: datetime
    fetched_at: datetime
    metadata_url: str = ""
    attribute_mapping: Mapping[str, Any] = field(default_factory=dict[str, Any])
    name_id_format: str = ""
    resource_id: str = ""
    disabled: bool = False
    domains: tuple[str, ...] = ()

    @property
    def identity_provider(self) -> str:
        """The name that identities of its users carry."""
        return f"sso:{self.id}"


_SELECT = """select p.id, p.resource_id, p.disabled, p.created_at, p.updated_at, s.entity_id, s.metadata_xml,
        s.metadata_url, s.attribute_mapping, s.name_id_format, s.updated_at as fetched_at,
        array(select d.domain from auth.sso_domains d where d.sso_provider_id = p.id
            order by d.created_at, d.domain) as domains
    from auth.sso_providers p join auth.saml_providers s on s.sso_provider_id = p.id"""


def _load(record: Record) -> SsoProvider:
    created, updated, fetched = (utc(record[name]) for name in ("created_at", "updated_at", "fetched_at"))
    assert created is not None
    assert updated is not None
    return SsoProvider(
        id=record["id"],
        entity_id=record["entity_id"],
        metadata_xml=record["metadata_xml"],
        created_at=created,
        updated_at=updated,
        fetched_at=fetched or updated,
        metadata_url=record["metadata_url"] or "",
        attribute_mapping=record["attribute_mapping"] or {},
        name_id_format=record["name_id_format"] or "",
        resource_id=record["resource_id"] or "",
        disabled=bool(record["disabled"]),
        domains=tuple(record["domains"] or ()),
    )


async def find(connection: Connection, provider_id: str) -> SsoProvider | None:
    record = await connection.fetchrow(f"{_SELECT} where p.id = $1", provider_id)
    return None if record is None else _load(record)


async def find_by_resource(connection: Connection, resource_id: str) -> SsoProvider | None:
    record = await connection.fetchrow(f"{_SELECT} where lower(p.resource_id) = lower($1)", resource_id)
    return None if record is None else _load(record)


async def find_by_domain(connection: Connection, domain: str) -> SsoProvider | None:
    record = await connection.fetchrow(
        f"{_SELECT} where p.id = (select d.sso_provider_id from auth.sso_domains d where lower(d.domain) = lower($1))",
        domain,
    )
    return None if record is None else _load(record)


async def find_by_entity(connection: Connection, entity_id: str) -> SsoProvider | None:
    record = await connection.fetchrow(f"{_SELECT} where s.entity_id = $1", entity_id)
    return None if record is None else _load(record)


async def all_of(connection: Connection, resource_id: str, prefix: str) -> list[SsoProvider]:
    """Every provider, or those whose resource id is this or begins so ("" for any), oldest first."""
    records = await connection.fetch(
        f"""{_SELECT} where ($1 = '' or p.resource_id = $1) and ($2 = '' or starts_with(p.resource_id, $2))
        order by p.created_at, p.id""",
        resource_id,
        prefix,
    )
    return [_load(record) for record in records]


async def insert(connection: Connection, provider: SsoProvider, new_ids: Sequence[str]) -> None:
    """A new provider; `new_ids` are for its SAML row and each of its domains. Raises DatabaseError 23505."""
    await connection.execute(
        """insert into auth.sso_providers (id, resource_id, disabled, created_at, updated_at)
        values ($1, $2, $3, $4, $5)""",
        provider.id,
        provider.resource_id or None,
        provider.disabled,
        provider.created_at,
        provider.updated_at,
    )
    await connection.execute(
        """insert into auth.saml_providers
            (id, sso_provider_id, entity_id, metadata_xml, metadata_url, attribute_mapping, name_id_format,
            created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        new_ids[0],
        provider.id,
        provider.entity_id,
        provider.metadata_xml,
        provider.metadata_url or None,
        Json(dict(provider.attribute_mapping)),
        provider.name_id_format or None,
        provider.created_at,
        provider.fetched_at,
    )
    await _insert_domains(connection, provider, provider.domains, new_ids[1:])


async def _insert_domains(
    connection: Connection, provider: SsoProvider, domains: Sequence[str], new_ids: Sequence[str]
) -> None:
    for domain, domain_id in zip(domains, new_ids, strict=False):
        await connection.execute(
            """insert into auth.sso_domains (id, sso_provider_id, domain, created_at, updated_at)
            values ($1, $2, $3, $4, $4)""",
            domain_id,
            provider.id,
            domain,
            provider.updated_at,
        )


async def replace(connection: Connection, provider: SsoProvider, former: SsoProvider, new_ids: Sequence[str]) -> bool:
    """Writes the provider anew; `new_ids`, one a domain, are for those that `former` had not. False when it is gone."""
    tag = await connection.execute(
        "update auth.sso_providers set resource_id = $2, disabled = $3, updated_at = $4 where id = $1",
        provider.id,
        provider.resource_id or None,
        provider.disabled,
        provider.updated_at,
    )
    if not tag.endswith(" 1"):
        return False
    await connection.execute(
        """update auth.saml_providers set metadata_xml = $2, metadata_url = $3, attribute_mapping = $4,
            name_id_format = $5, updated_at = $6 where sso_provider_id = $1""",
        provider.id,
        provider.metadata_xml,
        provider.metadata_url or None,
        Json(dict(provider.attribute_mapping)),
        provider.name_id_format or None,
        provider.fetched_at,
    )
    await connection.execute(
        "delete from auth.sso_domains where sso_provider_id = $1 and lower(domain) <> all($2::text[])",
        provider.id,
        list(provider.domains),
    )
    known = {domain.lower() for domain in former.domains}
    added = [domain for domain in provider.domains if domain not in known]
    await _insert_domains(connection, provider, added, new_ids)
    return True


async def delete(connection: Connection, provider_id: str) -> bool:
    """True for the one who took it away."""
    return (await connection.execute("delete from auth.sso_providers where id = $1", provider_id)).endswith(" 1")


async def renew_metadata(connection: Connection, provider_id: str, metadata_xml: str, now: datetime) -> None:
    await connection.execute(
        "update auth.saml_providers set metadata_xml = $2, updated_at = $3 where sso_provider_id = $1",
        provider_id,
        metadata_xml,
        now,
    )


@dataclass(frozen=True, slots=True)
class RelayState:
    """A sign-in that is under way at an identity provider."""

    id: str
    provider_id: str
    request_id: str
    redirect_to: str
    created_at: datetime
    flow_id: str | None


async def insert_relay_state(connection: Connection, state: RelayState) -> None:
    await connection.execute(
        """insert into auth.saml_relay_states
            (id, sso_provider_id, request_id, redirect_to, created_at, updated_at, flow_state_id)
        values ($1, $2, $3, $4, $5, $5, $6)""",
        state.id,
        state.provider_id,
        state.request_id,
        state.redirect_to,
        state.created_at,
        state.flow_id,
    )


async def take_relay_state(connection: Connection, state_id: str) -> RelayState | None:
    """Reads and removes: it counts once."""
    record = await connection.fetchrow(
        """delete from auth.saml_relay_states where id = $1
        returning id, sso_provider_id, request_id, redirect_to, created_at, flow_state_id""",
        state_id,
    )
    if record is None:
        return None
    created = utc(record["created_at"])
    assert created is not None
    return RelayState(
        record["id"],
        record["sso_provider_id"],
        record["request_id"],
        record["redirect_to"] or "",
        created,
        record["flow_state_id"],
    )


async def limit_session(connection: Connection, flow_id: str, not_after: datetime, now: datetime) -> None:
    """Until when the session may live that the code of a flow will give; limits in the past are forgotten."""
    await connection.execute("delete from socle.session_limits where not_after < $1", now)
    await connection.execute(
        "insert into socle.session_limits (flow_id, not_after) values ($1, $2)", flow_id, not_after
    )


async def take_session_limit(connection: Connection, flow_id: str) -> datetime | None:
    """Reads and removes it."""
    return utc(
        await connection.fetchval("delete from socle.session_limits where flow_id = $1 returning not_after", flow_id)
    )
