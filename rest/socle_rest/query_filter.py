"""Filters and logic trees (contract rest.md §3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socle_rest.query_values import Filter, Logic
from socle_rest.query_words import (
    IDENT,
    MAX_DEPTH,
    QUOTED,
    Unreadable,
    explained,
    parse_tree_path,
    plain_name,
    read_field,
    too_deep,
    trimmed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socle_rest.query_values import Condition, EmbedPath, Field

_operator = re.compile(
    r"(not\.)?(?:"
    r"(in|is|isdistinct|neq|cs|cd|ov|sl|sr|nxr|nxl|adj)"
    rf"|(fts|plfts|phfts|wfts)(?:\(({IDENT})\))?"
    r"|(eq|gte|gt|lte|lt|like|ilike|match|imatch)(?:\((any|all)\))?"
    r")\."
).match
_is_words = re.compile(r"(null)|(not_null)|(true)|(false)|(unknown)", re.IGNORECASE).match
_IS_SQL = ("NULL", "NOT NULL", "TRUE", "FALSE", "UNKNOWN")
_list_open = re.compile(r"[ \t]*\([ \t]*").match
_element = re.compile(rf"({QUOTED})(?=[,)]|\Z)|([^,)]*)", re.DOTALL).match
_list_close = re.compile(r"[ \t]*\)[ \t]*").match
_PATTERNS = frozenset({"like", "ilike"})


def parse_filter(named: Field, text: str, position: int, *, calls_by_get: bool) -> Filter | None:
    """The filter, or None when the text is an argument. Raises RestError."""
    try:
        found, _ = _read_operation(named, text, 0, _whole_value, position)
    except Unreadable:
        if calls_by_get and not text.startswith(("not.", "in.", "is.")):
            return None
        raise explained("filter", text) from None
    return found


def _whole_value(text: str, at: int) -> tuple[str, int]:
    return text[at:], len(text)


def _read_operation(
    named: Field, text: str, at: int, read_value: Callable[[str, int], tuple[str, int]], position: int = -1
) -> tuple[Filter, int]:
    found = _operator(text, at)
    if found is None:
        raise Unreadable
    negation, simple, search, language, compare, quantifier = found.groups()
    at = found.end()
    operator = simple or search or compare
    if simple == "in":
        value, at = read_list(text, at)
    elif simple == "is":
        state = _is_words(text, at)
        if state is None:
            raise Unreadable
        value, at = _IS_SQL[(state.lastindex or 1) - 1], state.end()
    else:
        value, at = read_value(text, at)
        if compare in _PATTERNS:
            value = value.replace("*", "%")
    return (
        Filter(named, operator, value, negation is not None, quantifier, trimmed(language), position),
        at,
    )


def read_list(text: str, at: int) -> tuple[str, int]:
    """`(a,"b,c",d)` as the array literal `{"a","b,c","d"}`; no element at all is `{}`."""
    opening = _list_open(text, at)
    if opening is None:
        raise Unreadable
    at = opening.end()
    elements: list[str] = []
    while True:
        found = _element(text, at)
        assert found is not None  # the second alternative matches the empty text
        quoted = found.group(1)
        elements.append(plain_name(quoted) if quoted is not None else found.group(2))
        at = found.end()
        if not text.startswith(",", at):
            break
        at += 1
    closing = _list_close(text, at)
    if closing is None:
        raise Unreadable
    return array_literal(elements), closing.end()


def array_literal(elements: Sequence[str]) -> str:
    """The elements as one PostgreSQL array literal, each quoted; a single empty one is the empty array."""
    if len(elements) == 1 and not elements[0]:
        return "{}"
    return "{" + ",".join([_quoted_element(one) for one in elements]) + "}"


def _quoted_element(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- logic trees -----------------------------------------------------------------------------------------------------

_logic_value = re.compile(rf"({QUOTED})(?=[,)]|\Z)|(\{{[^{{}}]*\}})|([^,)]*)", re.DOTALL).match
_logic_head = re.compile(r"(not\.)?(and|or)[ \t]*\([ \t]*").match
_comma = re.compile(r"[ \t]*,[ \t]*").match
_close = re.compile(r"[ \t]*\)[ \t]*").match


def parse_logic(key: str, value: str) -> tuple[EmbedPath, Condition]:
    """`[embed.path.][not.]and=(…)` or `or=(…)`. Raises RestError (PGRST100)."""
    path, last = parse_tree_path(key)
    negated = "not" in path
    head = f"not.{last.name}" if negated else last.name
    text = head + value
    try:
        tree, _ = _read_tree(text, 0, 0)
    except Unreadable:
        raise explained("logic tree", text, shown=value) from None
    return tuple(name for name in path if name != "not"), tree


def _read_tree(text: str, at: int, depth: int) -> tuple[Condition, int]:
    if depth > MAX_DEPTH:
        raise too_deep("logic tree", "parentheses")
    try:
        return _read_logic_filter(text, at)
    except Unreadable:
        head = _logic_head(text, at)
        if head is None:
            raise
    at = head.end()
    children: list[Condition] = []
    while True:
        child, at = _read_tree(text, at, depth + 1)
        children.append(child)
        comma = _comma(text, at)
        if comma is None:
            break
        at = comma.end()
    closing = _close(text, at)
    if closing is None:
        raise Unreadable
    return Logic(head.group(2), tuple(children), head.group(1) is not None), closing.end()


def _read_logic_filter(text: str, at: int) -> tuple[Filter, int]:
    named, at = read_field(text, at)
    if not text.startswith(".", at):
        raise Unreadable
    return _read_operation(named, text, at + 1, _read_logic_value)


def _read_logic_value(text: str, at: int) -> tuple[str, int]:
    found = _logic_value(text, at)
    assert found is not None  # the last alternative matches the empty text
    quoted, array, plain = found.groups()
    return (plain_name(quoted) if quoted is not None else plain if array is None else array), found.end()
