"""A database that upstream's own service set up: what of it we need, and what we add beside it.

The tables of schema `auth` stay as they are, so that upstream's service could go on with them. What upstream has no
place for lives in a schema of ours, the same as migrations/platform makes it.
"""

from __future__ import annotations

from socle_platform.db import Connection, DatabaseError

LAST_KNOWN_VERSION = "20260625000000"
"""The newest upstream migration that this code was written against."""

OLDEST_USABLE_VERSION = "20260302000000"
"""The newest upstream migration that adds a column or table we use."""

_ADDITIONS = (
    "create schema if not exists socle",
    """create table if not exists socle.recovery_codes (
      user_id uuid not null, set_id uuid not null, code_hash text not null, created_at timestamptz not null,
      used_at timestamptz, primary key (user_id, code_hash))""",
    "create table if not exists socle.used_signatures (digest bytea primary key, expires_at timestamptz not null)",
    "create index if not exists used_signatures_expires_at_idx on socle.used_signatures (expires_at)",
    "create table if not exists socle.session_limits (flow_id uuid primary key, not_after timestamptz not null)",
    """create table if not exists socle.inbox_messages (
      id text primary key, kind text not null check (kind in ('mail', 'sms')), created_at timestamptz not null,
      sender text not null, recipient text not null, subject text not null, html text not null, body text not null,
      source text not null, is_read boolean not null default false)""",
    "create index if not exists inbox_messages_created_at_idx on socle.inbox_messages (created_at desc, id)",
    """create unlogged table if not exists socle.rate_limits (
      bucket text not null, key text not null, level double precision not null, burst double precision not null,
      pause double precision not null, moment double precision not null, primary key (bucket, key))""",
)
_TABLES = ("recovery_codes", "used_signatures", "session_limits", "inbox_messages", "rate_limits")


async def has_users(connection: Connection) -> bool:
    """Whether schema auth has been set up by anybody."""
    return bool(await connection.fetchval("select to_regclass('auth.users') is not null"))


async def versions(connection: Connection) -> frozenset[str]:
    """The upstream migrations that were applied; none when upstream's own list is missing."""
    if not await connection.fetchval("select to_regclass('auth.schema_migrations') is not null"):
        return frozenset()
    records = await connection.fetch("select version from auth.schema_migrations")
    return frozenset(record["version"] for record in records)


async def ensure_additions(connection: Connection) -> str | None:
    """Adds our own tables where they are missing. Gives the reason when the login role may not."""
    present = "select bool_and(to_regclass('socle.' || name) is not null) from unnest($1::text[]) as name"
    if await connection.fetchval(present, _TABLES):
        return None
    try:
        async with connection.transaction():
            for statement in _ADDITIONS:
                await connection.execute(statement)
    except DatabaseError as error:
        return f"{error.message} ({error.sqlstate})"
    return None
