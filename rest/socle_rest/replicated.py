"""Where a job runs when there are read replicas: reads on a replica that has what the caller has seen, or the primary.

An answer to a write names the log position behind it, as a header and as a cookie. A read that brings either back sees
that write. A replica that fails, or that may not know a new table or privilege yet, is no reason for an error: the
primary is asked then, and its answer counts.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.replicas import parse_position
from socle_rest.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_platform.db import Database
    from socle_platform.replicas import Replicas
    from socle_rest.headers import Header
    from socle_rest.job import Job
    from socle_rest.run import Caller, Outcome
    from socle_rest.schema import Schema

HEADER: Final = b"x-socle-lsn"
COOKIE: Final = "socle-lsn"
_COOKIE_ATTRIBUTES: Final = b"; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
_UNKNOWN: Final = 2**64
"""A position that no replica reaches: who sends nonsense gets the primary's truth."""
_OF_THE_REPLICA: Final = ("0A", "40", "42", "57P")
"""Errors that the primary might not have: recovery conflicts, a schema that is behind, a server going down."""


async def run_replicated(
    replicas: Replicas, caller: Caller, job: Job, schema: Schema, max_rows: int | None, headers: Iterable[Header]
) -> tuple[Database, Outcome]:
    """As `run`, and where it ran; `headers` are the request's."""
    database = replicas.choose(_seen(headers)) if job.frame.read_only else replicas.primary
    if database is not replicas.primary:
        try:
            return database, await run(database, caller, job, schema, max_rows)
        except DatabaseUnavailable:
            replicas.give_up(database)
        except DatabaseError as error:
            if not error.sqlstate.startswith(_OF_THE_REPLICA):
                raise
    return replicas.primary, await run(replicas.primary, caller, job, schema, max_rows)


async def position_headers(replicas: Replicas, job: Job) -> tuple[Header, ...]:
    """What an answer says of the log after a write was kept; nothing where the position cannot be had."""
    if job.frame.read_only or job.frame.rollback:
        return ()
    try:
        position = (await replicas.written()).encode()
    except (DatabaseError, DatabaseUnavailable):
        return ()
    return (HEADER, position), (b"set-cookie", b"%b=%b%b" % (COOKIE.encode(), position, _COOKIE_ATTRIBUTES))


def _seen(headers: Iterable[Header]) -> int:
    """The furthest position that the request names; 0 for none."""
    named = [_position(text) for name, value in headers for text in _texts(name, value)]
    return max(named, default=0)


def _texts(name: bytes, value: bytes) -> list[str]:
    if name == HEADER:
        return [value.decode("latin-1").strip()]
    if name != b"cookie" or COOKIE.encode() not in value:
        return []
    try:
        found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
    except CookieError:
        return []
    return [] if found is None else [found.value]


def _position(text: str) -> int:
    try:
        return parse_position(text)
    except ValueError:
        return _UNKNOWN
