"""Plan → Job: the statements of a request with everything their transaction needs, ready to be run (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from socle_platform.db import Prepared
from socle_rest.errors import Code, RestError
from socle_rest.headers import fixed_headers
from socle_rest.negotiate import Builtin
from socle_rest.plan import FunctionCall, RelationMutation, RelationRead
from socle_rest.plan_mutate import Insert
from socle_rest.schema import MediaHandler
from socle_rest.sql import planned_count, pre_request, streamed_read, to_statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_platform.config.rest import RestSettings
    from socle_rest.headers import FixedHeaders
    from socle_rest.plan import DatabasePlan
    from socle_rest.ranges import Range
    from socle_rest.request import ApiRequest
    from socle_rest.statement import Statement

_LARGEST_LIMIT = 2**63 - 1
"""PostgreSQL refuses a larger one, which a cut must not hide."""
_BINARY_BODY = (0, 0, 1, 0, 0)
_BINARY_BODY_OF_WRITE = (0, 0, 0, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class RowLimits:
    """What is only known after the statement, and undoes it: `exactly_one` row, at most `at_most` rows, PUT's one."""

    exactly_one: bool = False
    at_most: int | None = None
    is_put: bool = False

    def verify(self, rows: int) -> None:
        """Raises RestError (PGRST115, PGRST116, PGRST124)."""
        if self.is_put and rows != 1:
            raise RestError(Code.PUT_MISMATCH)
        if self.exactly_one and rows != 1:
            raise RestError(Code.NOT_SINGULAR, details=f"The result contains {rows} rows")
        if self.at_most is not None and rows > self.at_most:
            raise RestError(Code.MAX_AFFECTED, details=f"The query affects {rows} rows")


@dataclass(frozen=True, slots=True)
class Frame:
    """The transaction of a job. `settings` are set behind the caller's identity; `isolation` is the function's own."""

    read_only: bool
    rollback: bool
    search_path: tuple[str, ...]
    settings: Mapping[str, str]
    isolation: str | None = None
    before: Prepared | None = None
    """`db-pre-request`."""
    limits: RowLimits | None = None
    result_formats: tuple[int, ...] = ()


class Job(NamedTuple):
    """A plan ready to run (a tuple: it is made on every request).

    `range` and `canonical` are the request's own, since `request` and `plan` may come from an earlier one of the same
    shape."""

    plan: DatabasePlan
    request: ApiRequest
    frame: Frame
    headers: FixedHeaders
    statement: Statement
    planned: Statement | None
    """Estimates the number of rows, for `count=planned` and `count=estimated`."""
    range: Range
    canonical: str
    max_rows: int | None = None
    """What the statement's own limit is cut to."""
    streamed: Statement | None = None
    """Gives the same rows one by one, for a result that fills `max_rows` and could go on."""


def make_job(plan: DatabasePlan, request: ApiRequest, settings: RestSettings, whole: RelationRead | None = None) -> Job:
    """The statements and the transaction for a plan. `whole`: the same read without the cut at `stream_rows`."""
    counts_by_plan = isinstance(plan, RelationRead) and request.preferences.counts_by_plan and not is_explained(plan)
    return Job(
        plan=plan,
        request=request,
        frame=_frame(plan, request, settings),
        headers=fixed_headers(plan, request, warns=settings.legacy_target_names),
        statement=to_statement(plan, request, settings.max_rows),
        planned=planned_count(plan) if counts_by_plan and isinstance(plan, RelationRead) else None,
        range=request.range,
        canonical=request.query.canonical,
        max_rows=settings.max_rows,
        streamed=None if whole is None else streamed_read(whole),
    )


def may_stream(plan: DatabasePlan, request: ApiRequest, settings: RestSettings) -> bool:
    """Whether the answer is an array that may be sent row by row: nothing in its head needs a count of other rows."""
    return (
        settings.stream_rows > 0
        and (settings.max_rows is None or settings.max_rows > settings.stream_rows)
        and isinstance(plan, RelationRead)
        and plan.negotiated.handler in {Builtin.JSON, Builtin.STRIPPED_ARRAY}
        and request.preferences.count is None
        and (request.range.limit or 0) <= _LARGEST_LIMIT
        and not is_explained(plan)
    )


def is_explained(plan: DatabasePlan) -> bool:
    """Whether the answer is the plan of the statement rather than its result."""
    return plan.negotiated.media_type.explain is not None


def pre_request_of(settings: RestSettings) -> Prepared | None:
    """The call of `db-pre-request`, if there is one."""
    return None if settings.pre_request is None else Prepared(pre_request(settings.pre_request))


def _frame(plan: DatabasePlan, request: ApiRequest, settings: RestSettings) -> Frame:
    wish = request.preferences.transaction
    return Frame(
        read_only=_is_read_only(plan),
        rollback=wish == "rollback" or (settings.rollback_all and wish != "commit"),
        search_path=settings.search_path(request.target.schema),
        settings=_transaction_settings(plan, request, settings),
        isolation=plan.call.function.isolation if isinstance(plan, FunctionCall) else None,
        before=pre_request_of(settings),
        limits=_row_limits(plan, request),
        result_formats=_result_formats(plan),
    )


def _is_read_only(plan: DatabasePlan) -> bool:
    match plan:
        case RelationRead():
            return True
        case RelationMutation():
            return False
        case FunctionCall():
            return plan.call.read_only


def _result_formats(plan: DatabasePlan) -> tuple[int, ...]:
    """A custom body may be bytea, which only binary hands over as it is."""
    if not isinstance(plan.negotiated.handler, MediaHandler) or is_explained(plan):
        return ()
    return _BINARY_BODY_OF_WRITE if isinstance(plan, RelationMutation) else _BINARY_BODY


def _transaction_settings(plan: DatabasePlan, request: ApiRequest, settings: RestSettings) -> dict[str, str]:
    """Time zone, the called function's settings, `app.settings.*`."""
    found: dict[str, str] = {}
    if request.preferences.timezone is not None:
        found["timezone"] = request.preferences.timezone
    if isinstance(plan, FunctionCall):
        found.update(plan.call.function.settings)
    found.update(settings.app_settings)
    return found


def _row_limits(plan: DatabasePlan, request: ApiRequest) -> RowLimits | None:
    if is_explained(plan):
        return None
    is_insert = isinstance(plan, RelationMutation) and isinstance(plan.mutation, Insert)
    if isinstance(plan, RelationMutation) and isinstance(plan.mutation, Insert) and plan.mutation.is_put:
        return RowLimits(is_put=True)
    counts = request.preferences.is_strict and not is_insert and not isinstance(plan, RelationRead)
    at_most = request.preferences.max_affected if counts else None
    exactly_one = plan.negotiated.media_type.is_singular
    return RowLimits(exactly_one, at_most) if exactly_one or at_most is not None else None
