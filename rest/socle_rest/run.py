"""The only module that waits for the database: one plan, one transaction, one outcome (contract rest.md §14)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from socle_platform.db import Prepared
from socle_rest.errors import Code, RestError
from socle_rest.plan import FunctionCall, RelationMutation, RelationRead
from socle_rest.plan_mutate import Insert
from socle_rest.schema import MediaHandler
from socle_rest.sql import planned_count, pre_request, to_statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from socle_platform.config.rest import RestSettings
    from socle_platform.db import Database, Result, Row
    from socle_platform.identity import Identity, RequestFacts
    from socle_rest.plan import DatabasePlan
    from socle_rest.request import ApiRequest
    from socle_rest.schema import Schema
    from socle_rest.statement import Statement

_TEXT_BODY: tuple[int, ...] = ()
_BINARY_BODY = (0, 0, 1, 0, 0)
_BINARY_BODY_OF_WRITE = (0, 0, 0, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the database answered. `headers` and `status` are `response.headers` and `response.status` as set there;
    `location` are (column, filter) pairs of the row that was inserted; `inserted` counts new rows of an upsert."""

    total: int | None
    rows: int
    body: bytes
    headers: bytes | None = None
    status: bytes | None = None
    location: tuple[tuple[str, str], ...] = ()
    inserted: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what SQL may see of the request."""

    identity: Identity
    facts: RequestFacts


async def run(
    database: Database, caller: Caller, plan: DatabasePlan, request: ApiRequest, schema: Schema, settings: RestSettings
) -> Outcome:
    """Runs the plan. Raises RestError, DatabaseError or DatabaseUnavailable; then nothing was kept."""
    read_only = _is_read_only(plan)
    check = _check_of(plan, request)
    role = schema.role(caller.identity.role)
    function = plan.call.function if isinstance(plan, FunctionCall) else None
    before = None if settings.pre_request is None else Prepared(pre_request(settings.pre_request))
    planned = planned_count(plan) if isinstance(plan, RelationRead) and _counts_by_plan(plan, request) else None
    result = await database.run_as(
        caller.identity,
        caller.facts,
        _prepared(to_statement(plan, request, settings.max_rows), _result_formats(plan)),
        read_only=read_only,
        isolation=(function.isolation if function is not None else None) or role.isolation,
        search_path=settings.search_path(request.target.schema),
        settings=_transaction_settings(plan, request, settings),
        role_settings=dict(role.settings),
        before=before,
        after=None if planned is None else _prepared(planned, _TEXT_BODY),
        check=check if check is not None and not read_only else None,
        rollback=_rolls_back(request, settings),
        reset=not read_only or before is not None,
    )
    if check is not None and read_only:
        check(result)
    return _outcome(plan, request, result, settings.max_rows)


def _prepared(statement: Statement, formats: tuple[int, ...]) -> Prepared:
    return Prepared(statement.text, statement.args, result_formats=formats)


def _is_read_only(plan: DatabasePlan) -> bool:
    match plan:
        case RelationRead():
            return True
        case RelationMutation():
            return False
        case FunctionCall():
            return plan.call.read_only


def _is_explained(plan: DatabasePlan) -> bool:
    return plan.negotiated.media_type.explain is not None


def _result_formats(plan: DatabasePlan) -> tuple[int, ...]:
    """A custom body may be bytea, which only binary hands over as it is."""
    if not isinstance(plan.negotiated.handler, MediaHandler) or _is_explained(plan):
        return _TEXT_BODY
    return _BINARY_BODY_OF_WRITE if isinstance(plan, RelationMutation) else _BINARY_BODY


def _counts_by_plan(plan: RelationRead, request: ApiRequest) -> bool:
    return request.preferences.counts_by_plan and not _is_explained(plan)


def _transaction_settings(plan: DatabasePlan, request: ApiRequest, settings: RestSettings) -> dict[str, str]:
    """What is set behind the caller's identity: time zone, the called function's settings, `app.settings.*`."""
    found: dict[str, str] = {}
    if request.preferences.timezone is not None:
        found["timezone"] = request.preferences.timezone
    if isinstance(plan, FunctionCall):
        found.update(plan.call.function.settings)
    found.update(settings.app_settings)
    return found


def _rolls_back(request: ApiRequest, settings: RestSettings) -> bool:
    wish = request.preferences.transaction
    return wish == "rollback" or (settings.rollback_all and wish != "commit")


def _check_of(plan: DatabasePlan, request: ApiRequest) -> Callable[[Result], None] | None:
    """What is only known after the statement, and undoes it: wrong number of rows."""
    if _is_explained(plan):
        return None
    if isinstance(plan, RelationMutation) and isinstance(plan.mutation, Insert) and plan.mutation.is_put:
        return _check_put
    singular = plan.negotiated.media_type.is_singular
    limit = request.preferences.max_affected if request.preferences.is_strict else None
    counts = isinstance(plan, FunctionCall) or (
        isinstance(plan, RelationMutation) and not isinstance(plan.mutation, Insert)
    )
    if not counts:
        limit = None
    if not singular and limit is None:
        return None

    def check(result: Result) -> None:
        rows = _row_count(result)
        if singular and rows != 1:
            raise RestError(Code.NOT_SINGULAR, details=f"The result contains {rows} rows")
        if limit is not None and rows > limit:
            raise RestError(Code.MAX_AFFECTED, details=f"The query affects {rows} rows")

    return check


def _check_put(result: Result) -> None:
    if _row_count(result) != 1:
        raise RestError(Code.PUT_MISMATCH)


def _row_count(result: Result) -> int:
    return _number(result.rows[0][1]) or 0 if result.rows else 0


def _number(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def _outcome(plan: DatabasePlan, request: ApiRequest, result: Result, max_rows: int | None) -> Outcome:
    if _is_explained(plan):
        return Outcome(None, 0, b"".join([(row[0] or b"") + b"\n" for row in result.rows]))
    if not result.rows:
        return Outcome(None, 0, b"")
    if isinstance(plan, RelationMutation):
        return _written(result.rows[0])
    total, rows, body, headers, status = result.rows[0]
    counted = _number(total)
    if request.preferences.counts_by_plan and isinstance(plan, RelationRead):
        counted = _with_estimate(request, counted, result, max_rows)
    return Outcome(counted, _number(rows) or 0, body or b"", headers, status)


def _written(row: Row) -> Outcome:
    _, rows, location, body, headers, status, inserted = row
    pairs = () if location is None else tuple((name, value) for name, value in orjson.loads(location))
    return Outcome(None, _number(rows) or 0, body or b"", headers, status, pairs, _number(inserted))


def _with_estimate(request: ApiRequest, counted: int | None, result: Result, max_rows: int | None) -> int | None:
    """`planned`: the estimate; `estimated`: the larger of both once the exact count went over `max_rows`."""
    estimate = int(orjson.loads(result.after[0][0] or b"[]")[0]["Plan"]["Plan Rows"])
    if request.preferences.count == "planned":
        return estimate
    if counted is not None and (max_rows is None or counted > max_rows):
        return max(counted, estimate)
    return counted
