"""The query string, parsed (contract rest.md §2, §3, §4; pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from socle_rest.errors import Code, RestError
from socle_rest.query_filter import parse_filter, parse_logic
from socle_rest.query_select import parse_select
from socle_rest.query_values import OrderTerm, Query
from socle_rest.query_words import Unreadable, explained, parse_names, parse_tree_path, read_field
from socle_rest.ranges import EVERYTHING, combine_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from socle_rest.query_values import EmbedPath, Filter

Pair = tuple[str, str | None]

_SINGLE = ("select", "columns", "on_conflict")
"""Parameters of the whole request, of which the first one counts."""


def split_pairs(query_string: bytes) -> tuple[Pair, ...]:
    """Decoded (key, value) pairs in order; the value is None without `=`. Raises RestError for bad UTF-8."""
    if not query_string:
        return ()
    pairs: list[Pair] = []
    try:
        for part in query_string.replace(b"+", b" ").split(b"&"):
            if part:
                key, equals, value = part.partition(b"=")
                pairs.append((_decode(key), _decode(value) if equals else None))
    except UnicodeDecodeError as error:
        raise RestError(
            Code.QUERY_UNREADABLE, message="failed to decode the query string", details="invalid UTF-8 in the URL"
        ) from error
    return tuple(pairs)


def _decode(raw: bytes) -> str:
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")


@dataclass(slots=True)
class _Sorted:
    """The pairs by what their keys reserve them for; filters with their position among all pairs."""

    single: dict[str, str | None] = field(default_factory=dict[str, str | None])
    order: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    logic: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    limits: dict[str, str] = field(default_factory=dict[str, str])
    offsets: dict[str, str] = field(default_factory=dict[str, str])
    others: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])


def _sort_pairs(pairs: Sequence[Pair]) -> _Sorted:
    found = _Sorted()
    for position, (key, value) in enumerate(pairs):
        if key in _SINGLE:
            found.single.setdefault(key, value)
        elif value is not None:
            match key.rpartition(".")[2]:
                case "order":
                    found.order.append((key, value))
                case "and" | "or":
                    found.logic.append((key, value))
                case "limit":
                    found.limits[key] = value
                case "offset":
                    found.offsets[key.removesuffix("offset") + "limit"] = value
                case _:
                    found.others.append((position, key, value))
    return found


def parse_query(pairs: Sequence[Pair], *, calls_by_get: bool = False) -> Query:
    """The pairs as values. `calls_by_get`: values that are no operator expression are arguments of a function.

    Raises RestError (PGRST100)."""
    asked = _sort_pairs(pairs)
    filters: list[tuple[EmbedPath, Filter]] = []
    arguments: list[tuple[str, str]] = []
    for position, key, value in asked.others:
        path, named = parse_tree_path(key)
        found = parse_filter(named, value, position, calls_by_get=calls_by_get)
        if found is None:
            arguments.append((named.name, value))
        else:
            filters.append((path, found))
    ranges = combine_ranges(asked.limits, asked.offsets)
    select, columns, conflict = (asked.single.get(name) for name in _SINGLE)
    return Query(
        select=parse_select("*" if select is None else select),
        filters=tuple(filters),
        logic=tuple([parse_logic(key, value) for key, value in asked.logic]),
        order=tuple([(parse_tree_path(key)[0], parse_order(value)) for key, value in asked.order]),
        ranges=tuple([(parse_tree_path(key)[0], one) for key, one in ranges.items() if key != "limit"]),
        root_range=ranges.get("limit", EVERYTHING),
        columns=None if columns is None else frozenset(parse_names(columns, "columns")),
        on_conflict=None if conflict is None else parse_names(conflict, "on_conflict"),
        arguments=tuple(arguments),
        filter_keys=frozenset([key for _, key, _ in asked.others]),
        canonical=canonical_query(pairs),
    )


def canonical_query(pairs: Sequence[Pair]) -> str:
    """The pairs sorted by key and percent-encoded."""
    ordered = sorted(pairs, key=lambda pair: pair[0].encode())
    return "&".join([f"{quote(key, safe='')}={quote(value or '', safe='')}" for key, value in ordered])


_order_tail = re.compile(r"(?:\.(asc|desc))?(?:\.(nullsfirst|nullslast))?(?=,|\Z)").match


def parse_order(text: str) -> tuple[OrderTerm, ...]:
    """The `order` parameter. Raises RestError (PGRST100)."""
    try:
        return tuple(_read_order(text))
    except Unreadable:
        raise explained("order", text) from None


def _read_order(text: str) -> Iterator[OrderTerm]:
    at = 0
    while True:
        named, at = read_field(text, at)
        relation = None
        if text.startswith("(", at) and not named.path:
            relation = named.name
            named, at = read_field(text, at + 1)
            if not text.startswith(")", at):
                raise Unreadable
            at += 1
        tail = _order_tail(text, at)
        if tail is None:
            raise Unreadable
        yield OrderTerm(named, relation, *tail.groups())
        at = tail.end()
        if at == len(text):
            return
        at += 1
