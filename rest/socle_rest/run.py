"""The only module that waits for the database: one job, one transaction, one outcome (contract rest.md §14)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import orjson

from socle_platform.db import Prepared
from socle_rest.job import is_explained
from socle_rest.plan import RelationMutation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socle_platform.db import Database, Result, Row
    from socle_platform.identity import Identity, RequestFacts
    from socle_rest.job import Job, RowLimits
    from socle_rest.schema import Schema


class Outcome(NamedTuple):
    """What the database answered. `headers` and `status` are `response.headers` and `response.status` as set there;
    `location` are (column, filter) pairs of the row that was inserted; `inserted` counts new rows of an upsert."""

    total: int | None
    rows: int
    body: bytes
    headers: bytes | None = None
    status: bytes | None = None
    location: tuple[tuple[str, str], ...] = ()
    inserted: int | None = None


class Caller(NamedTuple):
    """Who asks, and what SQL may see of the request."""

    identity: Identity
    facts: RequestFacts


async def run(database: Database, caller: Caller, job: Job, schema: Schema, max_rows: int | None) -> Outcome:
    """Runs the job. Raises RestError, DatabaseError or DatabaseUnavailable; then nothing was kept."""
    frame = job.frame
    check = None if frame.limits is None else _check_of(frame.limits)
    role = schema.role(caller.identity.role)
    result = await database.run_as(
        caller.identity,
        caller.facts,
        Prepared(job.statement.text, job.statement.args, "", frame.result_formats),
        read_only=frame.read_only,
        isolation=frame.isolation or role.isolation,
        search_path=frame.search_path,
        settings=frame.settings,
        role_settings=dict(role.settings) if role.settings else NO_SETTINGS,
        before=frame.before,
        after=None if job.planned is None else Prepared(job.planned.text, job.planned.args),
        check=None if frame.read_only else check,
        rollback=frame.rollback,
        reset=not frame.read_only or frame.before is not None,
    )
    if check is not None and frame.read_only:
        check(result)
    return outcome_of(job, result.rows, max_rows, result.after)


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def _check_of(limits: RowLimits) -> Callable[[Result], None]:
    return lambda result: verify(limits, result.rows)


def verify(limits: RowLimits, rows: Sequence[Row]) -> None:
    """Raises what `RowLimits.verify` raises."""
    limits.verify(int(rows[0][1] or 0) if rows else 0)


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def outcome_of(job: Job, found: Sequence[Row], max_rows: int | None, after: Sequence[Row] = ()) -> Outcome:
    """What the rows of a job mean; `after` are those of its estimate."""
    if is_explained(job.plan):
        return Outcome(None, 0, b"".join([(row[0] or b"") + b"\n" for row in found]))
    if not found:  # a handler that is no aggregate was given no row
        return Outcome(0, 0, b"")
    if isinstance(job.plan, RelationMutation):
        return _written(found[0])
    total, rows, body, headers, status = found[0]
    counted = _number(total)
    if job.planned is not None:
        counted = _with_estimate(job, counted, after, max_rows)
    return Outcome(counted, int(rows or 0), body or b"", headers, status)


def _written(row: Row) -> Outcome:
    _, rows, location, body, headers, status, inserted = row
    pairs = () if location is None else tuple((name, value) for name, value in orjson.loads(location))
    return Outcome(None, int(rows or 0), body or b"", headers, status, pairs, _number(inserted))


def _with_estimate(job: Job, counted: int | None, after: Sequence[Row], max_rows: int | None) -> int | None:
    """`planned`: the estimate; `estimated`: the larger of both once the exact count went over `max_rows`."""
    estimate = int(orjson.loads(after[0][0] or b"[]")[0]["Plan"]["Plan Rows"])
    if job.request.preferences.count == "planned":
        return estimate
    if counted is not None and (max_rows is None or counted > max_rows):
        return max(counted, estimate)
    return counted
