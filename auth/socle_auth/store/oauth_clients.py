"""Rows of `auth.oauth_clients`: applications that sign people in by us (§3.16)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from socle_auth.store.rows import utc
from socle_platform.db import Connection, Record

PUBLIC = "public"
CONFIDENTIAL = "confidential"

_COLUMNS = (
    "id, client_secret_hash, registration_type, redirect_uris, grant_types, client_name, client_uri, logo_uri, "
    "created_at, updated_at, client_type, token_endpoint_auth_method"
)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """An application. `secret_hash` is "" for a public one."""

    id: str
    registration_type: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    client_type: str
    auth_method: str
    created_at: datetime
    updated_at: datetime
    name: str = ""
    uri: str = ""
    logo_uri: str = ""
    secret_hash: str = field(default="", repr=False)

    @property
    def is_confidential(self) -> bool:
        return self.client_type == CONFIDENTIAL


def load_client(record: Record) -> OAuthClient:
    created, updated = utc(record["created_at"]), utc(record["updated_at"])
    assert created is not None
    assert updated is not None
    return OAuthClient(
        id=record["id"],
        registration_type=record["registration_type"],
        redirect_uris=tuple(filter(None, record["redirect_uris"].split(","))),
        grant_types=tuple(filter(None, record["grant_types"].split(","))),
        client_type=record["client_type"],
        auth_method=record["token_endpoint_auth_method"],
        created_at=created,
        updated_at=updated,
        name=record["client_name"] or "",
        uri=record["client_uri"] or "",
        logo_uri=record["logo_uri"] or "",
        secret_hash=record["client_secret_hash"] or "",
    )


async def find(connection: Connection, client_id: str) -> OAuthClient | None:
    """A client that was not removed."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.oauth_clients where id = $1 and deleted_at is null", client_id
    )
    return None if record is None else load_client(record)


async def all_clients(connection: Connection) -> list[OAuthClient]:
    """Newest first."""
    records = await connection.fetch(
        f"select {_COLUMNS} from auth.oauth_clients where deleted_at is null order by created_at desc, id"
    )
    return [load_client(record) for record in records]


async def put(connection: Connection, client: OAuthClient) -> None:
    """A new client, or every column of a known one."""
    await connection.execute(
        f"""insert into auth.oauth_clients ({_COLUMNS})
        values ($1, $2, $3::auth.oauth_registration_type, $4, $5, $6, $7, $8, $9, $10, $11::auth.oauth_client_type, $12)
        on conflict (id) do update set client_secret_hash = excluded.client_secret_hash,
            redirect_uris = excluded.redirect_uris, grant_types = excluded.grant_types,
            client_name = excluded.client_name, client_uri = excluded.client_uri, logo_uri = excluded.logo_uri,
            updated_at = excluded.updated_at, token_endpoint_auth_method = excluded.token_endpoint_auth_method""",
        client.id,
        client.secret_hash or None,
        client.registration_type,
        ",".join(client.redirect_uris),
        ",".join(client.grant_types),
        client.name or None,
        client.uri or None,
        client.logo_uri or None,
        client.created_at,
        client.updated_at,
        client.client_type,
        client.auth_method,
    )


async def remove(connection: Connection, client_id: str, now: datetime) -> None:
    """The row stays, marked; nobody signs in by it, and its sessions end."""
    await connection.execute(
        "update auth.oauth_clients set deleted_at = $2, updated_at = $2 where id = $1", client_id, now
    )
    await connection.execute("delete from auth.sessions where oauth_client_id = $1", client_id)
