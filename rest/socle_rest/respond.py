"""Outcome + Plan → Response: status, headers, body (pure; contract rest.md §5, §8, §9, §11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import quote

import orjson

from socle_rest.errors import Code, RestError, failure_body, failure_of
from socle_rest.headers import VARY, content_headers
from socle_rest.media import OPENAPI
from socle_rest.plan import Description, FunctionCall, RelationMutation, RelationRead
from socle_rest.plan_mutate import Delete, Insert, Update
from socle_rest.ranges import content_range, out_of_bounds, range_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from socle_rest.headers import Header
    from socle_rest.job import Job
    from socle_rest.request import ApiRequest
    from socle_rest.run import Outcome

MAX_LOCATION = 4096
"""Characters of a Content-Location; a longer one is left out, since HTTP clients (Node) refuse 16 KiB of headers."""


BODILESS = frozenset({204, 205, 304})


class Response(NamedTuple):
    """What goes out: header names in lower case, values as bytes. `portions`: a body that is sent as it comes."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""
    portions: AsyncGenerator[bytes] | None = None


def without_content(response: Response) -> Response:
    """The response as it may be sent: some statuses have neither a body nor its length."""
    if response.status not in BODILESS:
        return response
    return response._replace(headers=tuple(pair for pair in response.headers if pair[0] != b"content-length"), body=b"")


def respond(job: Job, outcome: Outcome, *, verbose_errors: bool = True) -> Response:
    """The answer to a job that ran. Raises RestError (PGRST111, PGRST112)."""
    plan = job.plan
    if plan.negotiated.media_type.explain is not None:
        return _with_body(job, 200, outcome.body, [])
    match plan:
        case RelationRead():
            found = _respond_read(job, outcome, verbose_errors=verbose_errors)
        case RelationMutation():
            found = _respond_mutation(job, plan, outcome)
        case FunctionCall():
            found = _respond_call(job, plan, outcome, verbose_errors=verbose_errors)
    if outcome.headers is None and outcome.status is None:
        return found
    return _overridden(found, outcome)


def respond_description(plan: Description) -> Response:
    """The answer to OPTIONS."""
    allowed = ((b"access-control-allow-origin", b"*"), (b"allow", plan.allow.encode()))
    return Response(200, ((b"content-length", b"0"), *allowed, VARY))


def respond_document(request: ApiRequest, document: bytes) -> Response:
    """The OpenAPI document."""
    body = b"" if request.headers_only else document
    length = () if request.headers_only else ((b"content-length", str(len(body)).encode()),)
    return Response(200, (*length, *content_headers(OPENAPI, request), VARY), body)


def _respond_read(job: Job, outcome: Outcome, *, verbose_errors: bool) -> Response:
    status, rows = _range_of(job, outcome)
    location = f"{job.headers.path}?{job.canonical}" if job.canonical else job.headers.path
    headers = [(b"content-range", rows)]
    if len(location) <= MAX_LOCATION:
        headers.append((b"content-location", location.encode()))
    body = _unsatisfiable(job, outcome, verbose=verbose_errors) if status == 416 else outcome.body
    return _with_body(job, status, body, headers)


def _respond_call(job: Job, plan: FunctionCall, outcome: Outcome, *, verbose_errors: bool) -> Response:
    status, rows = _range_of(job, outcome)
    headers = [(b"content-range", rows)]
    if plan.call.function.returns_void:
        return Response(204, (*headers, *job.headers.always))
    body = _unsatisfiable(job, outcome, verbose=verbose_errors) if status == 416 else outcome.body
    return _with_body(job, status, body, headers)


def _respond_mutation(job: Job, plan: RelationMutation, outcome: Outcome) -> Response:
    preferences = job.request.preferences
    counted = outcome.rows if preferences.counts_rows else None
    headers: list[Header] = []
    match plan.mutation:
        case Insert(is_put=True):
            status = 201 if (outcome.inserted or 0) > 0 else 200
        case Insert() as insert:
            status = _insert_status(insert, outcome)
            if outcome.location:
                headers.append((b"location", _location(job, outcome)))
            headers.append((b"content-range", content_range(1, 0, counted).encode()))
            if not preferences.wants_body:
                return Response(status, ((b"content-length", b"0"), *headers, *job.headers.always))
        case Update():
            status = 200
            headers.append((b"content-range", content_range(0, outcome.rows - 1, counted).encode()))
        case Delete():
            status = 200
            headers.append((b"content-range", content_range(1, 0, counted).encode()))
    if preferences.wants_body:
        return _with_body(job, status, outcome.body, headers)
    return Response(204, (*headers, *job.headers.always))


def _insert_status(insert: Insert, outcome: Outcome) -> int:
    """201, also for no rows; 200 when a merge found every row already there."""
    return 200 if insert.counts_inserted and (outcome.inserted or 0) <= 0 else 201


def _location(job: Job, outcome: Outcome) -> bytes:
    """Where the new row is: `/table?key=eq.value`."""
    pairs = "&".join([f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in outcome.location])
    return f"{job.headers.path}?{pairs}".encode()


def _range_of(job: Job, outcome: Outcome) -> tuple[int, bytes]:
    first = job.range.offset
    last = first + outcome.rows - 1
    return range_status(first, last, outcome.total), content_range(first, last, outcome.total).encode()


def _unsatisfiable(job: Job, outcome: Outcome, *, verbose: bool) -> bytes:
    return failure_body(failure_of(out_of_bounds(job.range.offset, outcome.total)), verbose=verbose)


def _with_body(job: Job, status: int, body: bytes, headers: list[Header]) -> Response:
    """With the body's own headers; HEAD has neither a body nor its length."""
    if job.request.headers_only:
        body = b""
    else:
        headers.append((b"content-length", str(len(body)).encode()))
    return Response(status, (*headers, *job.headers.content, *job.headers.always), body)


# --- response.status, response.headers -------------------------------------------------------------------------------


def _overridden(response: Response, outcome: Outcome) -> Response:
    """The response as the transaction wanted it."""
    status = response.status if outcome.status is None else parse_status(outcome.status)
    headers = response.headers
    if outcome.headers is not None:
        own = parse_headers(outcome.headers)
        names = {name for name, _ in own}
        headers = (*(pair for pair in headers if pair[0] not in names), *own)
    return Response(status, headers, response.body)


_status = re.compile(rb"[0-9]+").match


def parse_status(text: bytes) -> int:
    """The digits at the start of `response.status`. Raises RestError (PGRST112)."""
    found = _status(text)
    if found is None or not 200 <= int(found.group()[:9]) <= 999:
        raise RestError(Code.RESPONSE_STATUS)
    return int(found.group())


_header_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


def parse_headers(text: bytes) -> list[Header]:
    """The pairs of `response.headers`. Raises RestError (PGRST111) for anything but `[{"name": "value"}, …]`."""
    try:
        document = cast("object", orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise RestError(Code.RESPONSE_HEADERS) from error
    if not isinstance(document, list):
        raise RestError(Code.RESPONSE_HEADERS)
    return [_header(item) for item in cast("list[object]", document)]


def _header(item: object) -> Header:
    if isinstance(item, dict) and len(pairs := cast("dict[str, object]", item)) == 1:
        name, value = next(iter(pairs.items()))
        if isinstance(value, str) and _header_name(name) and not re.search(r"[\r\n\0]", value):
            return name.lower().encode(), value.encode()
    raise RestError(Code.RESPONSE_HEADERS)
