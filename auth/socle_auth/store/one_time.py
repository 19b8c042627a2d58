"""Rows of `auth.one_time_tokens`: what a link names."""

from __future__ import annotations

from collections.abc import Sequence

from socle_auth.store.rows import OneTimeToken, load_one_time_token
from socle_platform.db import Connection

_COLUMNS = "id, user_id, token_type, token_hash, relates_to, created_at"


async def put(
    connection: Connection, token_id: str, user_id: str, token_type: str, token_hash: str, relates_to: str
) -> None:
    """The user's one token of this type; an earlier one is replaced."""
    await connection.execute(
        """insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
        values ($1, $2, $3::auth.one_time_token_type, $4, lower($5))
        on conflict (user_id, token_type)
        do update set token_hash = excluded.token_hash, relates_to = excluded.relates_to,
            created_at = now(), updated_at = now()""",
        token_id,
        user_id,
        token_type,
        token_hash,
        relates_to,
    )


async def find(connection: Connection, token_hash: str, types: Sequence[str]) -> OneTimeToken | None:
    """The token of one of these types with this hash. Who wants to use it up locks the user's row and looks again."""
    record = await connection.fetchrow(
        f"""select {_COLUMNS} from auth.one_time_tokens
        where token_hash = $1 and token_type = any($2::auth.one_time_token_type[]) limit 1""",
        token_hash,
        list(types),
    )
    return None if record is None else load_one_time_token(record)


async def delete_type(connection: Connection, user_id: str, token_type: str) -> None:
    await connection.execute(
        "delete from auth.one_time_tokens where user_id = $1 and token_type = $2::auth.one_time_token_type",
        user_id,
        token_type,
    )


async def delete_all(connection: Connection, user_id: str) -> None:
    await connection.execute("delete from auth.one_time_tokens where user_id = $1", user_id)
