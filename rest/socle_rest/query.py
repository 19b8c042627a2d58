"""The query string as values: select, filters, logic trees, order, limits (contract rest.md §2, §3, §4).

Everything here is pure and knows no schema. The readers are made for speed and say only *that* a text is wrong;
`grammar.py` then says where and why, in the words of the contract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from socle_rest.errors import Code, RestError
from socle_rest.ranges import EVERYTHING, Range, combine_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_DEPTH = 100
"""Embeds within embeds, and parentheses within parentheses, that a request may have."""


class JsonStep(NamedTuple):
    """One `->` or `->>` step. `key` of an index has a sign (`+0`, `-1`)."""

    arrow: str
    key: str
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A column, computed field or `*`, with the path into its JSON."""

    name: str
    path: tuple[JsonStep, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectField:
    """`alias:name->path::cast.aggregate()::aggregate_cast`; casts are verbatim words."""

    field: Field
    alias: str | None = None
    cast: str | None = None
    aggregate: str | None = None
    aggregate_cast: str | None = None


@dataclass(frozen=True, slots=True)
class SelectEmbed:
    """`alias:target!hint!join(children)`, or with `spread` its columns lifted into the parent."""

    target: str
    children: tuple[SelectItem, ...]
    alias: str | None = None
    hint: str | None = None
    join: str | None = None
    spread: bool = False


SelectItem = SelectField | SelectEmbed
EmbedPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """`field=[not.]operator[(quantifier)].value`. `operator` is the word of the URL.

    `value` is what PostgreSQL gets as the parameter: an array literal for `in`, `%` for `*` in patterns, the SQL word
    for `is`. `source` is the position of the query parameter it came from, -1 when it is part of a logic tree."""

    field: Field
    operator: str
    value: str
    negated: bool = False
    quantifier: str | None = None
    language: str | None = None
    source: int = -1


@dataclass(frozen=True, slots=True)
class Logic:
    """`[not.]and(…)` or `or(…)`."""

    operator: str
    children: tuple[Condition, ...]
    negated: bool = False


Condition = Filter | Logic


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """`field.direction.nulls`; with `relation` the order of the parent by a field of a to-one embed."""

    field: Field
    relation: str | None = None
    direction: str | None = None
    nulls: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """The whole query string. Paths are the embeds to walk from the root; () is the root itself."""

    select: tuple[SelectItem, ...] = (SelectField(Field("*")),)
    filters: tuple[tuple[EmbedPath, Filter], ...] = ()
    logic: tuple[tuple[EmbedPath, Condition], ...] = ()
    order: tuple[tuple[EmbedPath, tuple[OrderTerm, ...]], ...] = ()
    ranges: tuple[tuple[EmbedPath, Range], ...] = ()
    """Limits and offsets of the embeds; the root's is `root_range`."""
    root_range: Range = EVERYTHING
    columns: frozenset[str] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, str], ...] = ()
    """Of a function called by GET: what is neither reserved nor a filter."""
    filter_keys: frozenset[str] = field(default_factory=frozenset[str])
    canonical: str = ""
    """The parameters sorted by key and encoded again, as `Content-Location` shows them."""


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
            found = _parse_filter(named, value, position, calls_by_get=calls_by_get)
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
        columns=None if single.get("columns") is None else frozenset(_parse_names(single["columns"] or "", "columns")),
        on_conflict=_conflict_target(single.get("on_conflict")),
        arguments=tuple(arguments),
        filter_keys=frozenset(filter_keys),
        canonical=canonical_query(pairs),
    )


def _select_of(single: Mapping[str, str | None]) -> tuple[SelectItem, ...]:
    text = single.get("select")
    return parse_select("*" if text is None else text)


def _conflict_target(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else _parse_names(text, "on_conflict")


def canonical_query(pairs: Sequence[Pair]) -> str:
    """The pairs sorted by key and percent-encoded."""
    ordered = sorted(pairs, key=lambda pair: pair[0].encode())
    return "&".join([f"{quote(key, safe='')}={quote(value or '', safe='')}" for key, value in ordered])


# --- words -----------------------------------------------------------------------------------------------------------

_QUOTED = r'"(?:[^\\"]|\\.)*"'
_IDENT = r"[\w $]+"
_NAME = rf"(?:{_QUOTED}|{_IDENT}(?:-(?!>){_IDENT})*)"
_KEY = r"[^(\-:.,>)]+"

_name = re.compile(_NAME, re.DOTALL).match
_names = re.compile(rf"{_NAME}(?:[ \t]*,[ \t]*{_NAME})*", re.DOTALL).match
_path_names = re.compile(rf"{_NAME}(?:\.{_NAME})*", re.DOTALL).match
_each_name = re.compile(_NAME, re.DOTALL).findall
_blank = re.compile(r"[ \t]*").match
_step = re.compile(rf"(->>?)(?:(-?[0-9]+)(?=->|::|\.|,|\Z)|({_QUOTED}|{_KEY}(?:-(?!>){_KEY})*))", re.DOTALL).match
_escaped = re.compile(r"\\(.)", re.DOTALL)


class _Unreadable(Exception):
    """A reader met a text that the grammar does not have."""


def _plain_name(raw: str) -> str:
    """A name as meant: unquoted and unescaped, or trimmed around its dashes."""
    if raw[0] == '"':
        return _escaped.sub(r"\1", raw[1:-1]) if "\\" in raw else raw[1:-1]
    return "-".join([part.strip() for part in raw.split("-")]) if "-" in raw else raw.strip()


def _read_path(text: str, at: int) -> tuple[tuple[JsonStep, ...], int]:
    steps: list[JsonStep] = []
    while (found := _step(text, at)) is not None:
        arrow, index, key = found.groups()
        if index is not None:
            steps.append(JsonStep(arrow, index if index[0] == "-" else "+" + index, is_index=True))
        else:
            steps.append(JsonStep(arrow, _plain_name(key)))
        at = found.end()
    if text.startswith("->", at):
        raise _Unreadable
    return tuple(steps), at


def _read_field(text: str, at: int) -> tuple[Field, int]:
    """A name with its JSON path, blanks around."""
    at = _blank(text, at).end()  # type: ignore[union-attr]  # it matches the empty text
    found = _name(text, at)
    if found is None:
        raise _Unreadable
    at = found.end()
    path: tuple[JsonStep, ...] = ()
    if text.startswith("->", at):
        path, at = _read_path(text, at)
    return Field(_plain_name(found.group()), path), _blank(text, at).end()  # type: ignore[union-attr]


def _explained(kind: str, text: str, shown: str | None = None) -> RestError:
    """The PGRST100 for a text that a reader refused."""
    from socle_rest.grammar import explain

    message, details = explain(kind, text)
    label = f"failed to parse {kind} ({text if shown is None else shown})"
    return RestError(Code.QUERY_UNREADABLE, message=f'"{label}" {message}', details=details)


def parse_tree_path(key: str) -> tuple[EmbedPath, Field]:
    """`embed.embed.column->path`: the embeds to walk, and the field."""
    found = _path_names(key)
    if found is None:
        raise _explained("tree path", key)
    raw = found.group()
    names = [_plain_name(one) for one in (_each_name(raw) if "." in raw else (raw,))]
    path: tuple[JsonStep, ...] = ()
    if key.startswith("->", found.end()):
        try:
            path, _ = _read_path(key, found.end())
        except _Unreadable:
            raise _explained("tree path", key) from None
    return tuple(names[:-1]), Field(names[-1], path)


def _parse_names(text: str, parameter: str) -> tuple[str, ...]:
    found = _names(text)
    if found is None or text[found.end() :].lstrip(" \t").startswith(","):
        raise _explained(f"{parameter} parameter", text)
    return tuple(_plain_name(one) for one in _each_name(found.group()))


# --- select ----------------------------------------------------------------------------------------------------------

_alias = re.compile(rf"({_NAME}):(?!:)", re.DOTALL).match
_count = re.compile(rf"count\(\)(?:::({_IDENT}))?(?=[),]|\Z)").match
_field_tail = re.compile(rf"(?:::({_IDENT}))?(?:\.(sum|avg|count|max|min)\(\))?(?:::({_IDENT}))?(?=[),]|\Z)").match
_embed_head = re.compile(
    rf"({_NAME})(?:!(?:(left|inner)(?=[!(])|({_NAME})))?(?:!(?:(left|inner)(?=[!(])|({_NAME})))?(?=\()", re.DOTALL
).match


def parse_select(text: str) -> tuple[SelectItem, ...]:
    """The `select` parameter. Raises RestError (PGRST100)."""
    if text == "*":
        return _STAR
    try:
        items, _ = _read_items(text, 0, 0)
    except _Unreadable:
        raise _explained("select parameter", text) from None
    return items


_STAR = (SelectField(Field("*")),)


def _read_items(text: str, at: int, depth: int) -> tuple[tuple[SelectItem, ...], int]:
    """Items up to a closing parenthesis or the end; none at all is allowed."""
    if depth > MAX_DEPTH:
        raise RestError(
            Code.QUERY_UNREADABLE,
            message="failed to parse select parameter",
            details=f"embeds are nested more than {MAX_DEPTH} deep",
        )
    items: list[SelectItem] = []
    start = _blank(text, at).end()  # type: ignore[union-attr]
    if start == len(text) or text[start] == ")":
        return (), at
    while True:
        item, at = _read_item(text, at, depth)
        items.append(item)
        at = _blank(text, at).end()  # type: ignore[union-attr]
        if at == len(text) or text[at] != ",":
            return tuple(items), at
        at += 1


def _read_item(text: str, at: int, depth: int) -> tuple[SelectItem, int]:
    at = _blank(text, at).end()  # type: ignore[union-attr]
    if text.startswith("*", at):
        if at + 1 == len(text) or text[at + 1] in "),":
            return _STAR[0], at + 1
        raise _Unreadable
    spread = text.startswith("...", at)
    if spread:
        at += 3
    start = at
    alias = None
    if not spread and (found := _alias(text, at)) is not None:
        alias, at = _plain_name(found.group(1)), found.end()
    embed = _embed_head(text, at)
    if embed is not None and (spread or embed.group(1) != "count"):
        children, end = _read_items(text, embed.end() + 1, depth + 1)
        if not text.startswith(")", end):
            raise _Unreadable
        name, join, hint, join2, hint2 = embed.groups()
        first = hint if hint is not None else hint2
        return (
            SelectEmbed(
                _plain_name(name), children, alias, _plain_name(first) if first else None, join or join2, spread
            ),
            end + 1,
        )
    if spread:
        raise _Unreadable
    return _read_select_field(text, start, at, alias)


def _read_select_field(text: str, start: int, at: int, alias: str | None) -> tuple[SelectField, int]:
    if (found := _count(text, at)) is not None:
        return SelectField(Field("*"), alias, None, "count", _word(found.group(1))), found.end()
    named, at = _read_field(text, at)
    tail = _field_tail(text, at)
    if tail is None or start == len(text):
        raise _Unreadable
    cast, aggregate, aggregate_cast = tail.groups()
    if cast is not None and aggregate is None and aggregate_cast is not None:
        aggregate_cast = None
    return SelectField(named, alias, _word(cast), aggregate, _word(aggregate_cast)), tail.end()


def _word(raw: str | None) -> str | None:
    return None if raw is None else raw.strip()


# --- filters ---------------------------------------------------------------------------------------------------------

_operator = re.compile(
    r"(not\.)?(?:"
    r"(in|is|isdistinct|neq|cs|cd|ov|sl|sr|nxr|nxl|adj)"
    rf"|(fts|plfts|phfts|wfts)(?:\(({_IDENT})\))?"
    r"|(eq|gte|gt|lte|lt|like|ilike|match|imatch)(?:\((any|all)\))?"
    r")\."
).match
_is_words = re.compile(r"(null)|(not_null)|(true)|(false)|(unknown)", re.IGNORECASE).match
_IS_SQL = ("NULL", "NOT NULL", "TRUE", "FALSE", "UNKNOWN")
_list_open = re.compile(r"[ \t]*\([ \t]*").match
_element = re.compile(rf"({_QUOTED})(?=[,)]|\Z)|([^,)]*)", re.DOTALL).match
_list_close = re.compile(r"[ \t]*\)[ \t]*").match
_PATTERNS = frozenset({"like", "ilike"})


def _parse_filter(named: Field, text: str, position: int, *, calls_by_get: bool) -> Filter | None:
    """The filter, or None when the text is an argument. Raises RestError."""
    try:
        found, _ = _read_operation(named, text, 0, _whole_value, position)
    except _Unreadable:
        if calls_by_get and not text.startswith(("not.", "in.", "is.")):
            return None
        raise _explained("filter", text) from None
    return found


def _whole_value(text: str, at: int) -> tuple[str, int]:
    return text[at:], len(text)


def _read_operation(
    named: Field, text: str, at: int, read_value: Callable[[str, int], tuple[str, int]], position: int = -1
) -> tuple[Filter, int]:
    found = _operator(text, at)
    if found is None:
        raise _Unreadable
    negation, simple, search, language, compare, quantifier = found.groups()
    at = found.end()
    operator = simple or search or compare
    if simple == "in":
        value, at = _read_list(text, at)
    elif simple == "is":
        word = _is_words(text, at)
        if word is None:
            raise _Unreadable
        value, at = _IS_SQL[(word.lastindex or 1) - 1], word.end()
    else:
        value, at = read_value(text, at)
        if compare in _PATTERNS:
            value = value.replace("*", "%")
    return (
        Filter(named, operator, value, negation is not None, quantifier, _word(language), position),
        at,
    )


def _read_list(text: str, at: int) -> tuple[str, int]:
    """`(a,"b,c",d)` as the array literal `{"a","b,c","d"}`; no element at all is `{}`."""
    opening = _list_open(text, at)
    if opening is None:
        raise _Unreadable
    at = opening.end()
    elements: list[str] = []
    while True:
        found = _element(text, at)
        assert found is not None  # the second alternative matches the empty text
        quoted = found.group(1)
        elements.append(_plain_name(quoted) if quoted is not None else found.group(2))
        at = found.end()
        if not text.startswith(",", at):
            break
        at += 1
    closing = _list_close(text, at)
    if closing is None:
        raise _Unreadable
    return array_literal(elements), closing.end()


def array_literal(elements: Sequence[str]) -> str:
    """The elements as one PostgreSQL array literal, each quoted; a single empty one is the empty array."""
    if len(elements) == 1 and not elements[0]:
        return "{}"
    return "{" + ",".join([_quoted_element(one) for one in elements]) + "}"


def _quoted_element(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- logic trees -----------------------------------------------------------------------------------------------------

_logic_value = re.compile(rf"({_QUOTED})(?=[,)]|\Z)|(\{{[^{{}}]*\}})|([^,)]*)", re.DOTALL).match
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
    except _Unreadable:
        raise _explained("logic tree", text, shown=value) from None
    return tuple(name for name in path if name != "not"), tree


def _read_tree(text: str, at: int, depth: int) -> tuple[Condition, int]:
    if depth > MAX_DEPTH:
        raise RestError(
            Code.QUERY_UNREADABLE,
            message="failed to parse logic tree",
            details=f"parentheses are nested more than {MAX_DEPTH} deep",
        )
    try:
        return _read_logic_filter(text, at)
    except _Unreadable:
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
        raise _Unreadable
    return Logic(head.group(2), tuple(children), head.group(1) is not None), closing.end()


def _read_logic_filter(text: str, at: int) -> tuple[Filter, int]:
    named, at = _read_field(text, at)
    if not text.startswith(".", at):
        raise _Unreadable
    return _read_operation(named, text, at + 1, _read_logic_value)


def _read_logic_value(text: str, at: int) -> tuple[str, int]:
    found = _logic_value(text, at)
    assert found is not None  # the last alternative matches the empty text
    quoted, array, plain = found.groups()
    return (_plain_name(quoted) if quoted is not None else plain if array is None else array), found.end()


# --- order -----------------------------------------------------------------------------------------------------------

_order_tail = re.compile(r"(?:\.(asc|desc))?(?:\.(nullsfirst|nullslast))?(?=,|\Z)").match


def parse_order(text: str) -> tuple[OrderTerm, ...]:
    """The `order` parameter. Raises RestError (PGRST100)."""
    try:
        return tuple(_read_order(text))
    except _Unreadable:
        raise _explained("order", text) from None


def _read_order(text: str) -> Iterator[OrderTerm]:
    at = 0
    while True:
        named, at = _read_field(text, at)
        relation = None
        if text.startswith("(", at) and not named.path:
            relation = named.name
            named, at = _read_field(text, at + 1)
            if not text.startswith(")", at):
                raise _Unreadable
            at += 1
        tail = _order_tail(text, at)
        if tail is None:
            raise _Unreadable
        yield OrderTerm(named, relation, *tail.groups())
        at = tail.end()
        if at == len(text):
            return
        at += 1
