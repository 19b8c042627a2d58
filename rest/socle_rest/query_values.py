"""The query string as values: select, filters, logic trees, order, limits (contract rest.md §2, §3, §4).

They know no schema: names are as the client wrote them, unquoted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from socle_rest.ranges import EVERYTHING, Range


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
