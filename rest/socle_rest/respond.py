"""Outcome + Plan → Response: status, headers, body (pure; contract rest.md §5, §8, §9, §11)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import orjson

from socle_rest.errors import Code, RestError, failure_body, failure_of
from socle_rest.media import OPENAPI
from socle_rest.plan import Description, FunctionCall, RelationMutation, RelationRead
from socle_rest.plan_mutate import Delete, Insert, Update
from socle_rest.prefer import Preferences, preference_applied
from socle_rest.ranges import content_range, out_of_bounds, range_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.job import Job
    from socle_rest.media import MediaType
    from socle_rest.request import ApiRequest
    from socle_rest.run import Outcome

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """What goes out: header names in lower case, values as bytes."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""


def respond(job: Job, outcome: Outcome, *, verbose_errors: bool = True) -> Response:
    """The answer to a job that ran. Raises RestError (PGRST111, PGRST112)."""
    plan, request = job.plan, job.request
    if plan.negotiated.media_type.explain is not None:
        return _with_body(200, plan.negotiated.media_type, request, outcome.body, ())
    match plan:
        case RelationRead():
            found = _respond_read(job, outcome, verbose_errors=verbose_errors)
        case RelationMutation():
            found = _respond_mutation(plan, request, outcome)
        case FunctionCall():
            found = _respond_call(job, plan, outcome, verbose_errors=verbose_errors)
    return _overridden(found, outcome)


def respond_description(plan: Description) -> Response:
    """The answer to OPTIONS."""
    return Response(
        200,
        (
            (b"content-length", b"0"),
            (b"access-control-allow-origin", b"*"),
            (b"allow", plan.allow.encode()),
        ),
    )


def respond_document(request: ApiRequest, document: bytes) -> Response:
    """The OpenAPI document."""
    return _with_body(200, OPENAPI, request, document, ())


def _respond_read(job: Job, outcome: Outcome, *, verbose_errors: bool) -> Response:
    request = job.request
    status, rows = _range_of(job, outcome)
    location = f"/{quote(request.target.name, safe='')}"
    if job.canonical:
        location += f"?{job.canonical}"
    headers = [
        (b"content-range", rows),
        (b"content-location", location.encode()),
        *_applied(request, Preferences()),
    ]
    body = _unsatisfiable(job, outcome, verbose=verbose_errors) if status == 416 else outcome.body
    return _with_body(status, job.plan.negotiated.media_type, request, body, headers)


def _respond_call(job: Job, plan: FunctionCall, outcome: Outcome, *, verbose_errors: bool) -> Response:
    request = job.request
    status, rows = _range_of(job, outcome)
    headers = [
        (b"content-range", rows),
        *_applied(request, Preferences(max_affected=request.preferences.max_affected)),
    ]
    if plan.call.function.returns_void:
        return Response(204, tuple(headers))
    body = _unsatisfiable(job, outcome, verbose=verbose_errors) if status == 416 else outcome.body
    return _with_body(status, plan.negotiated.media_type, request, body, headers)


def _respond_mutation(plan: RelationMutation, request: ApiRequest, outcome: Outcome) -> Response:
    mutation, preferences = plan.mutation, request.preferences
    counted = outcome.rows if preferences.counts_rows else None
    headers: list[Header] = []
    match mutation:
        case Insert() if mutation.is_put:
            status = 201 if (outcome.inserted or 0) > 0 else 200
            headers += _applied(request, Preferences(returning=preferences.returning))
        case Insert():
            status = _insert_status(mutation, request, outcome)
            if outcome.location:
                headers.append((b"location", _location(request, outcome)))
            headers.append((b"content-range", content_range(1, 0, counted).encode()))
            headers += _applied(request, _heeded_by_insert(mutation, request))
        case Update():
            status = 200
            headers.append((b"content-range", content_range(0, outcome.rows - 1, counted).encode()))
            headers += _applied(
                request,
                Preferences(
                    returning=preferences.returning,
                    missing=preferences.missing,
                    max_affected=preferences.max_affected,
                ),
            )
        case Delete():
            status = 200
            headers.append((b"content-range", content_range(1, 0, counted).encode()))
            headers += _applied(
                request, Preferences(returning=preferences.returning, max_affected=preferences.max_affected)
            )
    if preferences.wants_body:
        return _with_body(status, plan.negotiated.media_type, request, outcome.body, headers)
    if isinstance(mutation, Insert) and not mutation.is_put:
        return Response(status, ((b"content-length", b"0"), *headers))
    return Response(204, tuple(headers))


def _insert_status(mutation: Insert, request: ApiRequest, outcome: Outcome) -> int:
    """201, also for no rows; 200 when a merge found every row already there."""
    merges = request.preferences.resolution == "merge-duplicates"
    return 200 if merges and mutation.counts_inserted and (outcome.inserted or 0) <= 0 else 201


def _heeded_by_insert(mutation: Insert, request: ApiRequest) -> Preferences:
    preferences = request.preferences
    has_target = bool(mutation.primary_key) or request.query.on_conflict is not None
    return Preferences(
        resolution=preferences.resolution if has_target else None,
        returning=preferences.returning,
        missing=preferences.missing,
    )


def _location(request: ApiRequest, outcome: Outcome) -> bytes:
    """Where the new row is: `/table?key=eq.value`."""
    pairs = "&".join([f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in outcome.location])
    return f"/{quote(request.target.name, safe='')}?{pairs}".encode()


def _applied(request: ApiRequest, heeded: Preferences) -> list[Header]:
    """Preference-Applied: those given here, and those that every request heeds."""
    asked = request.preferences
    text = preference_applied(
        replace(
            heeded,
            count=asked.count,
            transaction=asked.transaction,
            handling=asked.handling,
            timezone=asked.timezone,
        )
    )
    return [] if text is None else [(b"preference-applied", text.encode("latin-1", "replace"))]


def _range_of(job: Job, outcome: Outcome) -> tuple[int, bytes]:
    first = job.range.offset
    last = first + outcome.rows - 1
    return range_status(first, last, outcome.total), content_range(first, last, outcome.total).encode()


def _unsatisfiable(job: Job, outcome: Outcome, *, verbose: bool) -> bytes:
    return failure_body(failure_of(out_of_bounds(job.range.offset, outcome.total)), verbose=verbose)


def _with_body(
    status: int, media_type: MediaType, request: ApiRequest, body: bytes, headers: Iterable[Header]
) -> Response:
    """Body, Content-Type and, but for HEAD, Content-Length; Content-Profile where the schema was negotiated."""
    found = list(headers)
    if not request.headers_only:
        found.append((b"content-length", str(len(body)).encode()))
    found.append((b"content-type", media_type.content_type.encode("latin-1", "replace")))
    if request.shows_profile:
        found.append((b"content-profile", request.target.schema.encode()))
    return Response(status, tuple(found), b"" if request.headers_only else body)


# --- response.status, response.headers -------------------------------------------------------------------------------


def _overridden(response: Response, outcome: Outcome) -> Response:
    """The response as the transaction wanted it."""
    if outcome.headers is None and outcome.status is None:
        return response
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
