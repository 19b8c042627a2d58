"""Requests of one shape share their plan and statement: only the values differ (hot path notes §5).

A shape is a request with the values of its filters, `limit`, `offset` and its JSON body cut out; of the body only the
keys stay. Logic trees and everything else are in it as they are. What cannot be cut safely has no shape, and is planned
like any first request: calls by GET, bodies that are no JSON, a Range header.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from socle_rest.errors import RestError
from socle_rest.job import Job
from socle_rest.media import JSON, Kind, parse_media_type
from socle_rest.payload import Payload, parse_payload
from socle_rest.plan import FunctionCall, RelationMutation
from socle_rest.plan_call import TextArguments
from socle_rest.plan_mutate import Delete
from socle_rest.query_filter import read_list
from socle_rest.query_words import Unreadable
from socle_rest.ranges import Range
from socle_rest.statement import BODY, LIMIT, OFFSET, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.request import RawRequest

MAX_SHAPES = 1024
MAX_LENGTH = 2048
"""Bytes of a query string that is still worth keeping a shape of."""

Key = tuple[Any, ...]
Pair = tuple[bytes, bytes]

_NEGOTIATED = frozenset({b"accept", b"accept-profile", b"content-profile", b"content-type", b"prefer", b"range"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_VERBATIM = frozenset({b"select", b"columns", b"on_conflict", b"order", b"and", b"or", b"limit", b"offset"})
_operator = re.compile(
    rb"(?:not\.)?(?:(in)|(i?like(?:\((?:any|all)\))?)|(?:eq|gte?|lte?|i?match)(?:\((?:any|all)\))?"
    rb"|neq|cs|cd|ov|sl|sr|nxr|nxl|adj|isdistinct|(?:pl|ph|w)?fts(?:\([A-Za-z_ ]+\))?)\."
).match
_first = itemgetter(0)
_number = re.compile(rb"[0-9]{1,15}").fullmatch
_unreserved = re.compile(rb"[A-Za-z0-9._~-]*").fullmatch
_is_canonical = re.compile(rb"[A-Za-z0-9._~-]+=[A-Za-z0-9._~-]*").fullmatch


class Cut(NamedTuple):
    """A request taken apart: its shape, and its values. `values` are by the position of their parameter."""

    key: Key
    values: dict[int, str]
    limit: int | None
    offset: int | None
    canonical: str
    body: bytes | None = None


def negotiated(headers: Iterable[Pair]) -> tuple[Pair, ...] | None:
    """Those headers that shape the answer; None with a Range header, which has no shape."""
    found = tuple(pair for pair in headers if pair[0] in _NEGOTIATED)
    return None if any(name == b"range" for name, _ in found) else found


def cut(raw: RawRequest) -> Cut | None:
    """The shape and values of a request; None when it has no shape."""
    headers = negotiated(raw.headers)
    return None if headers is None else take_apart(raw.method, raw.path, raw.query_string, headers, raw.body)


def take_apart(method: str, path: bytes, query_string: bytes, headers: tuple[Pair, ...], body: bytes) -> Cut | None:
    """The same, with the headers as `negotiated`."""
    if len(query_string) > MAX_LENGTH or (path.startswith(b"/rpc/") and method != "POST"):
        return None
    try:
        if method in _WITH_BODY:
            return _cut_with_body(method, path, query_string, headers, body)
        return _cut_query(method, path, query_string, headers, shows_location=method != "DELETE")
    except (UnicodeDecodeError, Unreadable, RestError):
        return None


def _cut_query(
    method: str, path: bytes, query: bytes, headers: tuple[Pair, ...], *, shows_location: bool
) -> Cut | None:
    """The key's parts are bytes where something stays as it is, and tuples where something was cut out."""
    values: dict[int, str] = {}
    numbers: dict[bytes, int] = {}
    pairs: list[tuple[bytes, bytes]] = []
    shape: list[bytes | tuple[bytes, ...]] = []
    for part in (query.replace(b"+", b" ") if b"+" in query else query).split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        pairs.append((name, value))
        if b"%" in name and unquote_to_bytes(name).rpartition(b".")[2] in _VERBATIM:
            return None
        if _ending(name) not in _VERBATIM and (found := _operator(value)) is not None:
            values[len(shape)] = _value(found, value)
            shape.append((name, found.group()))
        elif name in {b"limit", b"offset"} and name not in numbers and _number(value):
            numbers[name] = int(value)
            shape.append((name,))
        elif name in numbers:
            return None
        else:
            shape.append(part)
    limit, offset = numbers.get(b"limit"), numbers.get(b"offset")
    if limit == 0 or (offset == 0 and limit is None):
        return None
    key = (method, path, headers, tuple(shape))
    if not shows_location:
        canonical = ""
    elif _is_canonical(query):
        canonical = query.decode()
    else:
        canonical = _canonical(pairs)
    return Cut(key, values, limit, offset, canonical)


def _ending(name: bytes) -> bytes:
    return name.rpartition(b".")[2] if b"." in name else name


def _cut_with_body(method: str, path: bytes, query_string: bytes, headers: tuple[Pair, ...], body: bytes) -> Cut | None:
    """With the body's keys in the shape; where `columns` names them, they are there already."""
    for name, value in headers:
        if name == b"content-type" and parse_media_type(value.decode("latin-1")).kind is not Kind.JSON:
            return None
    asked = _cut_query(method, path, query_string, headers, shows_location=False)
    if asked is None:
        return None
    named = method != "PUT" and any(part[:8] == b"columns=" for part in asked.key[3])
    columns = frozenset[str]() if named else None
    payload = parse_payload(body, JSON, columns, is_call=path.startswith(b"/rpc/"))
    if "" in payload.keys:
        return None
    return asked._replace(key=(*asked.key, payload.is_object, payload.keys), body=payload.text)


def _value(found: re.Match[bytes], raw: bytes) -> str:
    """The parameter that PostgreSQL gets, as `query_filter` would make it. Raises Unreadable, UnicodeDecodeError."""
    value = raw[found.end() :]
    text = _decoded(value).decode()
    if found.group(1) is not None:
        return read_list(text, 0)[0]
    return text.replace("*", "%") if found.group(2) is not None else text


def _canonical(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """As `query.canonical_query`, for parts that are mostly in that form already."""
    ordered = [(_decoded(name), _decoded(value)) for name, value in pairs]
    if len(ordered) > 1:
        ordered.sort(key=_first)
    return "&".join([f"{_encoded(name)}={_encoded(value)}" for name, value in ordered])


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw) if b"%" in raw else raw


def _encoded(raw: bytes) -> str:
    return raw.decode() if _unreserved(raw) else quote(raw, safe="")


class Shapes:
    """The jobs of the last shapes seen, as templates for requests of the same shape."""

    def __init__(self, limit: int = MAX_SHAPES) -> None:
        self._limit = limit
        self._jobs: OrderedDict[Key, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def clear(self) -> None:
        """Forgets everything, for another schema or other settings."""
        self._jobs.clear()

    def keep(self, key: Key, job: Job) -> None:
        """Remembers the job of the first request of a shape, without its body."""
        self._jobs[key] = _without_body(job)
        if len(self._jobs) > self._limit:
            self._jobs.popitem(last=False)

    def fill(self, asked: Cut, max_rows: int | None) -> Job | None:
        """The job of a request whose shape is known; None when it is not. `max_rows` is the service's."""
        template = self._jobs.get(asked.key)
        if template is None:
            return None
        self._jobs.move_to_end(asked.key)
        plan, request, frame, headers, statement, planned, _, _, cut_at, streamed = template
        rows, *bounds = _range(asked.limit, asked.offset, cut_at)
        if planned is not None:
            planned = _filled(planned, asked, *bounds)
        if streamed is not None:
            _, *whole = _range(asked.limit, asked.offset, max_rows)
            streamed = _filled(streamed, asked, *whole)
        statement = _filled(statement, asked, *bounds)
        return Job(plan, request, frame, headers, statement, planned, rows, asked.canonical, cut_at, streamed)


def _filled(statement: Statement, asked: Cut, limit: bytes, offset: bytes) -> Statement:
    text, args, sources = statement
    filled = list(args)
    for place, source in enumerate(sources):
        if source >= 0:
            filled[place] = asked.values[source].encode()
        elif source == LIMIT:
            filled[place] = limit
        elif source == OFFSET:
            filled[place] = offset
        elif source == BODY:
            filled[place] = asked.body
    return Statement(text, tuple(filled), sources)


_NO_BODY = Payload(b"")


def _without_body(job: Job) -> Job:
    if job.request.payload is None:
        return job
    plan = job.plan
    if isinstance(plan, RelationMutation) and not isinstance(plan.mutation, Delete):
        plan = replace(plan, mutation=replace(plan.mutation, body=_NO_BODY))
    elif isinstance(plan, FunctionCall):
        plan = replace(plan, call=replace(plan.call, arguments=TextArguments(())))
    args = zip(job.statement.args, job.statement.sources, strict=True)
    statement = job.statement._replace(args=tuple(None if source == BODY else arg for arg, source in args))
    return job._replace(plan=plan, request=replace(job.request, payload=None), statement=statement)


@lru_cache(maxsize=256)
def _range(limit: int | None, offset: int | None, max_rows: int | None) -> tuple[Range, bytes, bytes]:
    """The rows asked for, and limit and offset of those among them that `max_rows` leaves."""
    first = offset or 0
    rows = Range(first, None if limit is None else first + limit - 1)
    bounds = rows.restrict(max_rows)
    return rows, str(bounds.limit).encode(), b"%d" % bounds.offset
