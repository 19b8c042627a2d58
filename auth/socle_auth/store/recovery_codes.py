"""Rows of `socle.recovery_codes` (§3.11b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from socle_auth.store.rows import utc
from socle_platform.db import Connection


@dataclass(frozen=True, slots=True)
class RecoverySet:
    """The codes a user was shown together: how many there were and how many are left."""

    id: str
    total: int
    remaining: int
    created_at: datetime


async def find_set(connection: Connection, user_id: str) -> RecoverySet | None:
    record = await connection.fetchrow(
        """select set_id, count(*)::int as total, (count(*) filter (where used_at is null))::int as remaining,
            min(created_at) as created_at
        from socle.recovery_codes where user_id = $1 group by set_id""",
        user_id,
    )
    if record is None:
        return None
    created = utc(record["created_at"])
    assert created is not None
    return RecoverySet(record["set_id"], record["total"], record["remaining"], created)


async def put_set(connection: Connection, user_id: str, set_id: str, hashes: Sequence[str], now: datetime) -> None:
    """A new set in place of a former one; sets of users who are gone are swept away."""
    await delete_set(connection, user_id)
    await connection.execute(
        """delete from socle.recovery_codes c where not exists (select from auth.users u where u.id = c.user_id)"""
    )
    await connection.execute(
        """insert into socle.recovery_codes (user_id, set_id, code_hash, created_at)
        select $1, $2, code_hash, $4 from unnest($3::text[]) as code_hash""",
        user_id,
        set_id,
        list(hashes),
        now,
    )


async def use(connection: Connection, user_id: str, code_hash: str, now: datetime) -> bool:
    """True for the one who brings the code first."""
    tag = await connection.execute(
        """update socle.recovery_codes set used_at = $3
        where user_id = $1 and code_hash = $2 and used_at is null""",
        user_id,
        code_hash,
        now,
    )
    return tag.endswith(" 1")


async def delete_set(connection: Connection, user_id: str) -> None:
    await connection.execute("delete from socle.recovery_codes where user_id = $1", user_id)


async def downgrade_sessions(connection: Connection, user_id: str, method: str, now: datetime) -> None:
    """Sessions that stood on a recovery code alone fall back to aal1."""
    await connection.execute(
        """with struck as (
            delete from auth.mfa_amr_claims c using auth.sessions s
            where c.session_id = s.id and s.user_id = $1 and c.authentication_method = $2
            returning c.session_id)
        update auth.sessions s set aal = 'aal1', updated_at = $3 from struck
        where s.id = struck.session_id and s.factor_id is null""",
        user_id,
        method,
        now,
    )
