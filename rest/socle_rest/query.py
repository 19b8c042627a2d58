"""The query string, parsed (contract rest.md §2, §3, §4; pure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from socle_rest.errors import Code, RestError
from socle_rest.query_filter import parse_filter, parse_logic
from socle_rest.query_select import parse_select
from socle_rest.query_values import OrderTerm, Query
from socle_rest.query_words import Unreadable, explained, parse_names, parse_tree_path, read_field
from socle_rest.ranges import EVERYTHING, combine_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from socle_rest.query_values import Condition, EmbedPath, Filter, SelectItem

Pair = tuple[str, str | None]

_RESERVED = frozenset({"select", "columns", "on_conflict"})
_RESERVED_ENDINGS = frozenset({"order", "limit", "offset", "and", "or"})


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


def parse_query(pairs: Sequence[Pair], *, calls_by_get: bool = False) -> Query:
    """The pairs as values. `calls_by_get`: values that are no operator expression are arguments of a function.

    Raises RestError (PGRST100)."""
    order: list[tuple[EmbedPath, tuple[OrderTerm, ...]]] = []
    logic: list[tuple[EmbedPath, Condition]] = []
    filters: list[tuple[EmbedPath, Filter]] = []
    arguments: list[tuple[str, str]] = []
    limits: dict[str, str] = {}
    offsets: dict[str, str] = {}
    single: dict[str, str | None] = {}
    filter_keys: list[str] = []
    for position, (key, value) in enumerate(pairs):
        if key in _RESERVED:
            single.setdefault(key, value)
            continue
        if value is None:
            continue
        ending = key.rpartition(".")[2]
        if ending not in _RESERVED_ENDINGS:
            filter_keys.append(key)
            path, named = parse_tree_path(key)
            found = parse_filter(named, value, position, calls_by_get=calls_by_get)
            if found is None:
                arguments.append((named.name, value))
            else:
                filters.append((path, found))
        elif ending == "order":
            order.append((parse_tree_path(key)[0], parse_order(value)))
        elif ending == "limit":
            limits[key] = value
        elif ending == "offset":
            offsets[key.removesuffix("offset") + "limit"] = value
        else:
            logic.append(parse_logic(key, value))
    ranges = combine_ranges(limits, offsets)
    return Query(
        select=_select_of(single),
        filters=tuple(filters),
        logic=tuple(logic),
        order=tuple(order),
        ranges=tuple((parse_tree_path(key)[0], one) for key, one in ranges.items() if key != "limit"),
        root_range=ranges.get("limit", EVERYTHING),
        columns=None if single.get("columns") is None else frozenset(parse_names(single["columns"] or "", "columns")),
        on_conflict=_conflict_target(single.get("on_conflict")),
        arguments=tuple(arguments),
        filter_keys=frozenset(filter_keys),
        canonical=canonical_query(pairs),
    )


def _select_of(single: Mapping[str, str | None]) -> tuple[SelectItem, ...]:
    text = single.get("select")
    return parse_select("*" if text is None else text)


def _conflict_target(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else parse_names(text, "on_conflict")


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
