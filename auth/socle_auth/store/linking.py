"""Who else has an address, and which address a user should have: the questions of account linking (§4.4, §3.10)."""

from __future__ import annotations

from collections.abc import Sequence

from socle_auth.store import users
from socle_auth.store.rows import NIL_UUID, User, UserIdentity, load_identity
from socle_platform.db import Connection

_OF_INSTANCE = f"(u.instance_id = '{NIL_UUID}' or u.instance_id is null)"
"""Every user; said so that the index on (instance_id, lower(email)) serves the look-up."""


async def identities_by_email(connection: Connection, addresses: Sequence[str]) -> list[UserIdentity]:
    """Identities of anybody that carry one of these addresses (lower case)."""
    records = await connection.fetch(
        "select * from auth.identities where email = any($1::text[]) order by created_at, id", list(addresses)
    )
    return [load_identity(record) for record in records]


async def users_by_email(connection: Connection, addresses: Sequence[str]) -> list[User]:
    """Users, other than those of a separate linking domain, with one of these addresses (lower case)."""
    records = await connection.fetch(
        f"""select id from auth.users u where {_OF_INSTANCE} and lower(u.email) = any($1::text[])
          and u.is_sso_user = false order by u.created_at limit 10""",
        list(addresses),
    )
    found = [await users.find(connection, record["id"]) for record in records]
    return [user for user in found if user is not None]


async def is_email_taken(connection: Connection, address: str, audience: str, user_id: str) -> bool:
    """Whether another user has the address as its own."""
    return bool(
        await connection.fetchval(
            f"""select exists (
                select from auth.users u where {_OF_INSTANCE}
                  and lower(u.email) = lower($1) and u.aud = $2 and u.is_sso_user = false and u.id <> $3)""",
            address,
            audience,
            user_id,
        )
    )
