"""Requests of one shape share their plan and statement: only the values differ (hot path notes §5).

A shape is a GET or HEAD of a relation with the values of its filters, `limit` and `offset` cut out; logic trees and
everything else stay in it as they are. What cannot be cut safely has no shape, and is planned like any first request.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from socle_rest.job import Job
from socle_rest.query_filter import read_list
from socle_rest.query_words import Unreadable
from socle_rest.ranges import EVERYTHING, Range
from socle_rest.statement import FIXED, LIMIT, OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.request import RawRequest

MAX_SHAPES = 1024
MAX_LENGTH = 2048
"""Bytes of a query string that is still worth keeping a shape of."""

Key = tuple[bytes, ...]

_NEGOTIATED = frozenset({b"accept", b"accept-profile", b"prefer"})
_VERBATIM = frozenset({b"select", b"columns", b"on_conflict", b"order", b"and", b"or", b"limit", b"offset"})
_operator = re.compile(
    rb"(?:not\.)?(?:(in)|(i?like(?:\((?:any|all)\))?)|(?:eq|gte?|lte?|i?match)(?:\((?:any|all)\))?"
    rb"|neq|cs|cd|ov|sl|sr|nxr|nxl|adj|isdistinct|(?:pl|ph|w)?fts(?:\([A-Za-z_ ]+\))?)\."
).match
_first = itemgetter(0)
_number = re.compile(rb"[0-9]{1,15}").fullmatch
_unreserved = re.compile(rb"[A-Za-z0-9._~-]*").fullmatch


class Cut(NamedTuple):
    """A request taken apart: its shape, and its values. `values` are by the position of their parameter."""

    key: Key
    values: dict[int, str]
    limit: int | None
    offset: int | None
    canonical: str


def cut(raw: RawRequest) -> Cut | None:
    """The shape and values of a request; None when it has no shape."""
    if raw.method not in {"GET", "HEAD"} or len(raw.query_string) > MAX_LENGTH or raw.path.startswith(b"/rpc/"):
        return None
    key = [raw.method.encode(), raw.path]
    for name, value in raw.headers:
        if name == b"range":
            return None
        if name in _NEGOTIATED:
            key += (name, value)
    try:
        return _cut_query(key, raw.query_string)
    except (UnicodeDecodeError, Unreadable):
        return None


def _cut_query(key: list[bytes], query_string: bytes) -> Cut | None:
    values: dict[int, str] = {}
    numbers: dict[bytes, int] = {}
    pairs: list[tuple[bytes, bytes]] = []
    position = 0
    for part in query_string.replace(b"+", b" ").split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        pairs.append((name, value))
        ending = name.rpartition(b".")[2]
        if b"%" in name and unquote_to_bytes(name).rpartition(b".")[2] in _VERBATIM:
            return None
        if ending not in _VERBATIM and (found := _operator(value)) is not None:
            key += (b"=", name, found.group())
            values[position] = _value(found, value)
        elif name in {b"limit", b"offset"} and name not in numbers and _number(value):
            key.append(name)
            numbers[name] = int(value)
        elif name in numbers:
            return None
        else:
            key.append(part)
        position += 1
    limit, offset = numbers.get(b"limit"), numbers.get(b"offset")
    if limit == 0 or (offset == 0 and limit is None):
        return None
    return Cut(tuple(key), values, limit, offset, _canonical(pairs))


def _value(found: re.Match[bytes], raw: bytes) -> str:
    """The parameter that PostgreSQL gets, as `query_filter` would make it. Raises Unreadable, UnicodeDecodeError."""
    value = raw[found.end() :]
    text = _decoded(value).decode()
    if found.group(1) is not None:
        return read_list(text, 0)[0]
    return text.replace("*", "%") if found.group(2) is not None else text


def _canonical(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """As `query.canonical_query`, for parts that are mostly in that form already."""
    ordered = sorted([(_decoded(name), _decoded(value)) for name, value in pairs], key=_first)
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
        """Remembers the job of the first request of a shape."""
        self._jobs[key] = job
        if len(self._jobs) > self._limit:
            self._jobs.popitem(last=False)

    def fill(self, asked: Cut, max_rows: int | None) -> Job | None:
        """The job of a request whose shape is known; None when it is not."""
        template = self._jobs.get(asked.key)
        if template is None:
            return None
        self._jobs.move_to_end(asked.key)
        rows = _range(asked)
        statement = template.statement
        args = [
            arg if source == FIXED else _argument(source, asked, rows.restrict(max_rows))
            for arg, source in zip(statement.args, statement.sources, strict=True)
        ]
        planned = template.planned
        if planned is not None:
            planned_args = [
                arg if source == FIXED else asked.values[source].encode()
                for arg, source in zip(planned.args, planned.sources, strict=True)
            ]
            planned = replace(planned, args=tuple(planned_args))
        return Job(
            template.plan,
            template.request,
            template.frame,
            template.headers,
            type(statement)(statement.text, tuple(args), statement.sources),
            planned,
            rows,
            asked.canonical,
        )


def _range(asked: Cut) -> Range:
    if asked.limit is None and asked.offset is None:
        return EVERYTHING
    first = asked.offset or 0
    return Range(first, None if asked.limit is None else first + asked.limit - 1)


def _argument(source: int, asked: Cut, rows: Range) -> bytes:
    if source == LIMIT:
        return str(rows.limit).encode()
    if source == OFFSET:
        return str(rows.offset).encode()
    return asked.values[source].encode()
