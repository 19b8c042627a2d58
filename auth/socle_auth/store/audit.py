"""Rows of `auth.audit_log_entries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from socle_auth.store.rows import NIL_UUID, utc
from socle_platform.db import Connection, Json


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: str
    payload: Mapping[str, Any]
    created_at: datetime | None
    ip_address: str


async def insert(
    connection: Connection, entries: Sequence[tuple[str, Mapping[str, Any]]], ip_address: str, now: datetime
) -> None:
    """Writes (id, payload) entries, all of the same moment and caller."""
    await connection.execute(
        """insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
        select $1, id, payload, $3, $4 from json_to_recordset($2) as entry (id uuid, payload json)""",
        NIL_UUID,
        Json([{"id": entry_id, "payload": payload} for entry_id, payload in entries]),
        now,
        ip_address,
    )


_MATCHES = {
    "author": "payload->>'actor_username' ilike $1 or payload->>'actor_name' ilike $1",
    "action": "payload->>'action' ilike $1",
    "type": "payload->>'log_type' ilike $1",
}


async def page(
    connection: Connection, column: str | None, pattern: str | None, *, limit: int, offset: int
) -> tuple[list[AuditEntry], int]:
    """One page, newest first, and how many match. `column` is author, action or type; `pattern` a LIKE pattern."""
    where = f"$1::text is null or {_MATCHES[column]}" if column else "$1::text is null"
    total: int = await connection.fetchval(f"select count(*) from auth.audit_log_entries where {where}", pattern)
    records = await connection.fetch(
        f"""select id, payload, created_at, ip_address from auth.audit_log_entries where {where}
        order by created_at desc, id limit $2 offset $3""",
        pattern,
        limit,
        offset,
    )
    entries = [
        AuditEntry(record["id"], record["payload"] or {}, utc(record["created_at"]), record["ip_address"] or "")
        for record in records
    ]
    return entries, total
