"""Token buckets that all nodes share (socle.rate_limits)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from socle_platform.db import Connection


@dataclass(frozen=True, slots=True)
class Spending:
    """What one node took out of one bucket since it last told: `spent` tokens. Times in (unix) seconds."""

    bucket: str
    key: str
    burst: float
    pause: float
    spent: float
    moment: float


async def is_there(connection: Connection) -> bool:
    """Whether this database has the table."""
    return bool(await connection.fetchval("select to_regclass('socle.rate_limits') is not null"))


async def settle(connection: Connection, spendings: Sequence[Spending]) -> dict[tuple[str, str], float]:
    """Takes what was spent out of the shared buckets and gives the level of each at its moment.

    A level goes no lower than a full bucket below empty, so that nodes that overspend together do not lock out for
    long. Rows are taken in one order, so that nodes do not wait for each other in a circle.
    """
    ordered = sorted(spendings, key=lambda item: (item.bucket, item.key))
    rows = await connection.fetch(
        """insert into socle.rate_limits as shared (bucket, key, level, burst, pause, moment)
        select bucket, key, burst - spent, burst, pause, moment
        from unnest($1::text[], $2::text[], $3::float8[], $4::float8[], $5::float8[], $6::float8[])
          as told (bucket, key, burst, pause, spent, moment)
        on conflict (bucket, key) do update set
          level = greatest(-excluded.burst, excluded.level - excluded.burst + least(excluded.burst,
            shared.level + greatest(0, excluded.moment - shared.moment) / excluded.pause)),
          burst = excluded.burst,
          pause = excluded.pause,
          moment = greatest(shared.moment, excluded.moment)
        returning bucket, key, level""",
        [item.bucket for item in ordered],
        [item.key for item in ordered],
        [item.burst for item in ordered],
        [item.pause for item in ordered],
        [item.spent for item in ordered],
        [item.moment for item in ordered],
    )
    return {(row["bucket"], row["key"]): float(row["level"]) for row in rows}


async def forget_full(connection: Connection, now: float) -> int:
    """Deletes buckets that have filled up again: they say nothing. Gives how many."""
    tag = await connection.execute(
        """delete from socle.rate_limits where (bucket, key) in (
          select bucket, key from socle.rate_limits where moment + (burst - level) * pause < $1::float8
          for update skip locked)""",
        now,
    )
    return int(tag.rsplit(" ", 1)[-1])
