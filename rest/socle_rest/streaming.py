"""Results that are too long to be held: one transaction, its rows handed on as the client takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.db import Prepared
from socle_rest.respond import BODILESS, Response, respond
from socle_rest.run import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from socle_platform.db import Database, Row
    from socle_rest.job import Job
    from socle_rest.run import Caller
    from socle_rest.schema import Schema

BATCH = 256
"""Rows that are in memory at a time."""
_BETWEEN = b", \n "
"""What json_agg writes between two rows."""


async def open_stream(database: Database, caller: Caller, job: Job, schema: Schema) -> Response:
    """The head of the answer, with the portions of its body still to come.

    The statement has made every row by then, so that their number is known. Raises RestError, DatabaseError or
    DatabaseUnavailable. The portions must be read to their end, or closed: they hold a session.
    """
    rows = _rows(database, caller, job, schema)
    nothing: list[Row] = []
    first = await anext(rows, nothing)
    number, _, headers, status = first[0] if first else (None, None, None, None)
    try:
        response = respond(job, Outcome(None, int(number or 0), b"[]", headers, status))
    except BaseException:
        await rows.aclose()
        raise
    if not first or response.status in BODILESS:
        await rows.aclose()
        return response
    kept = tuple(pair for pair in response.headers if pair[0] != b"content-length")
    return Response(response.status, kept, b"", _array(first, rows))


async def _rows(database: Database, caller: Caller, job: Job, schema: Schema) -> AsyncGenerator[list[Row]]:
    frame, streamed = job.frame, job.streamed
    assert streamed is not None
    role = schema.role(caller.identity.role)
    async with database.stream_as(
        caller.identity,
        caller.facts,
        Prepared(streamed.text, streamed.args),
        batch=BATCH,
        isolation=frame.isolation or role.isolation,
        search_path=frame.search_path,
        settings=frame.settings,
        role_settings=dict(role.settings),
        before=frame.before,
    ) as portions:
        async for rows in portions:
            yield rows


async def _array(first: list[Row], rows: AsyncGenerator[list[Row]]) -> AsyncGenerator[bytes]:
    """The portions of the JSON array, as json_agg would write it."""
    try:
        yield b"[" + _joined(first)
        async for portion in rows:
            yield _BETWEEN + _joined(portion)
        yield b"]"
    finally:
        await rows.aclose()


def _joined(rows: list[Row]) -> bytes:
    return _BETWEEN.join([row[1] or b"null" for row in rows])
