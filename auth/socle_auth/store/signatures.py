"""Rows of `socle.used_signatures`: what has signed somebody in and may not again, until it expires (§3.15, §4.7)."""

from __future__ import annotations

from datetime import datetime

from socle_platform.db import Connection


async def remember(connection: Connection, digest: bytes, now: datetime, expires_at: datetime) -> bool:
    """True for the first who brings the signature; expired ones are forgotten on the way."""
    await connection.execute("delete from socle.used_signatures where expires_at < $1", now)
    tag = await connection.execute(
        """insert into socle.used_signatures (digest, expires_at) values ($1::bytea, $2)
        on conflict (digest) do nothing""",
        digest,
        expires_at,
    )
    return tag.endswith(" 1")
