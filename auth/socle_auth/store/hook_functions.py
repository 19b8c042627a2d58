"""Calls of the project's own SQL functions as hooks."""

from __future__ import annotations

from typing import Any

from socle_platform.db import Connection, Json
from socle_platform.identity import quote_identifier


async def call(connection: Connection, schema: str, function: str, payload: dict[str, Any]) -> Any:
    """The function's jsonb answer; it has two seconds. The names come from the settings, checked at start."""
    async with connection.transaction():
        await connection.execute("set local statement_timeout = 2000")
        answer = await connection.fetchval(
            f"select {quote_identifier(schema)}.{quote_identifier(function)}($1::jsonb)", Json(payload)
        )
        await connection.execute("set local statement_timeout = 0")
    return answer
