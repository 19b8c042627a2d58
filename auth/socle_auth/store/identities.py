"""Rows of `auth.identities`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from socle_auth.store.rows import UserIdentity, load_identity
from socle_platform.db import Connection, Json

_COLUMNS = "id, provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at, email"


async def find(connection: Connection, provider: str, provider_id: str) -> UserIdentity | None:
    """The identity that a provider knows by `provider_id`."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.identities where provider = $1 and provider_id = $2", provider, provider_id
    )
    return None if record is None else load_identity(record)


async def of_user(connection: Connection, user_id: str) -> list[UserIdentity]:
    """All identities of a user, oldest first."""
    records = await connection.fetch(
        f"select {_COLUMNS} from auth.identities where user_id = $1 order by created_at, provider, id", user_id
    )
    return [load_identity(record) for record in records]


async def insert(
    connection: Connection,
    identity_id: str,
    user_id: str,
    provider: str,
    provider_id: str,
    data: Mapping[str, Any],
    now: datetime,
) -> UserIdentity:
    """A new identity. Raises DatabaseError 23505 when the provider's id is taken."""
    record = await connection.fetchrow(
        f"""insert into auth.identities
            (id, provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6, $6) returning {_COLUMNS}""",
        identity_id,
        provider_id,
        user_id,
        Json(dict(data)),
        provider,
        now,
    )
    assert record is not None
    return load_identity(record)


async def set_data(
    connection: Connection, identity: UserIdentity, data: Mapping[str, Any], now: datetime, *, signed_in: bool = False
) -> UserIdentity:
    """Replaces what the provider says about the user; `signed_in` also stamps last_sign_in_at."""
    record = await connection.fetchrow(
        f"""update auth.identities set identity_data = $2, updated_at = $3,
            last_sign_in_at = case when $4::boolean then $3 else last_sign_in_at end
        where id = $1 returning {_COLUMNS}""",
        identity.id,
        Json(dict(data)),
        now,
        signed_in,
    )
    if record is None:
        raise LookupError("the identity's row is gone")
    return load_identity(record)


async def set_provider_id(connection: Connection, identity_id: str, provider_id: str) -> None:
    await connection.execute("update auth.identities set provider_id = $2 where id = $1", identity_id, provider_id)


async def mark_email_verified(connection: Connection, user_id: str, email: str, now: datetime) -> None:
    """The address was proven: every identity of the user that carries it says so."""
    await connection.execute(
        """update auth.identities
        set identity_data = jsonb_set(identity_data, '{email_verified}', 'true'), updated_at = $3
        where user_id = $1 and email = lower($2)""",
        user_id,
        email,
        now,
    )


async def delete(connection: Connection, identity_id: str) -> None:
    await connection.execute("delete from auth.identities where id = $1", identity_id)


async def delete_others(connection: Connection, user_id: str, kept_id: str) -> None:
    """Removes every identity of the user but one."""
    await connection.execute("delete from auth.identities where user_id = $1 and id <> $2", user_id, kept_id)


async def providers_of(connection: Connection, user_id: str) -> list[str]:
    """The distinct providers of a user, in the order of their first identity."""
    records = await connection.fetch(
        """select provider from auth.identities where user_id = $1
        group by provider order by min(created_at), provider""",
        user_id,
    )
    return [record["provider"] for record in records]
