"""Rows of `auth.oauth_client_states`, and what a provider's answer adds to a row of `auth.flow_state` (§4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from socle_auth.store.rows import utc
from socle_platform.db import Connection


@dataclass(frozen=True, slots=True)
class ClientState:
    """What we must remember of a request to a provider: the PKCE verifier, or the secret of an OAuth 1 token."""

    provider_type: str
    code_verifier: str = field(repr=False)
    created_at: datetime


async def insert_client_state(
    connection: Connection, state_id: str, provider_type: str, code_verifier: str, now: datetime
) -> None:
    await connection.execute(
        "insert into auth.oauth_client_states (id, provider_type, code_verifier, created_at) values ($1, $2, $3, $4)",
        state_id,
        provider_type,
        code_verifier,
        now,
    )


async def take_client_state(connection: Connection, state_id: str) -> ClientState | None:
    """Reads and removes: it counts once."""
    record = await connection.fetchrow(
        "delete from auth.oauth_client_states where id = $1 returning provider_type, code_verifier, created_at",
        state_id,
    )
    if record is None:
        return None
    created = utc(record["created_at"])
    assert created is not None
    return ClientState(record["provider_type"], record["code_verifier"] or "", created)


async def complete_flow(
    connection: Connection,
    flow_id: str,
    user_id: str,
    access_token: str,
    refresh_token: str,
    now: datetime,
) -> None:
    """The person is known: the flow's code may be exchanged, and gives the provider's tokens then."""
    await connection.execute(
        """update auth.flow_state set user_id = $2, provider_access_token = $3, provider_refresh_token = $4,
            auth_code_issued_at = $5, updated_at = $5
        where id = $1""",
        flow_id,
        user_id,
        access_token or None,
        refresh_token or None,
        now,
    )
