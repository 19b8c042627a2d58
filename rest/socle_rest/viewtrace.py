"""Where the columns of a view come from, read off the parse tree that PostgreSQL keeps for it (`pg_rewrite`).

The tree is PostgreSQL's node format, `{NODE :field value …}` with `( )` around lists and `\\` before special characters
in names. Only the entries of the outermost target list matter: each carries the relation and column it originates
from, or 0 for an expression. Set operations keep no origin, so their columns have none here either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Origin = tuple[int, int]
"""A column: (relation oid, attribute number)."""

_TOKEN = re.compile(r"\\.|\{(?:TARGETENTRY)?|\}", re.DOTALL)
_ENTRY_END = re.compile(r":resno (\d+) .*:resorigtbl (\d+) :resorigcol (\d+)", re.DOTALL)
_ENTRY_DEPTH = 2
"""The query is one pair of braces, an entry of its own target list the second."""


@dataclass(frozen=True, slots=True)
class View:
    """A view as the catalogue gives it: its columns by name in order, and its tree."""

    oid: int
    columns: tuple[str, ...]
    tree: str


def parse_origins(tree: str) -> dict[int, Origin]:
    """Column number of the view → the column it comes from, for those columns that are a plain column below."""
    origins: dict[int, Origin] = {}
    for entry in _entries(tree):
        # the fields wanted are the last ones of the entry, after its (possibly huge) expression
        tail = entry[entry.rfind(" :resno ") :]
        if (found := _ENTRY_END.search(tail)) and found[2] != "0":
            origins[int(found[1])] = (int(found[2]), int(found[3]))
    return origins


def trace_columns(views: Mapping[int, View]) -> dict[int, dict[Origin, tuple[str, ...]]]:
    """For each view the base columns it shows, through the other views given, and under which names (in order)."""
    direct = {oid: parse_origins(view.tree) for oid, view in views.items()}
    traced: dict[int, dict[Origin, tuple[str, ...]]] = {}
    for oid, view in views.items():
        shown: dict[Origin, tuple[str, ...]] = {}
        for number, origin in sorted(direct[oid].items()):
            if number <= len(view.columns) and (base := _base(origin, direct)) is not None:
                shown[base] = (*shown.get(base, ()), view.columns[number - 1])
        traced[oid] = shown
    return traced


def _base(origin: Origin, direct: Mapping[int, Mapping[int, Origin]]) -> Origin | None:
    """Follows a column down to a relation that is not one of the views; None if it is an expression there."""
    seen: set[int] = set()
    relation, column = origin
    while relation in direct:
        below = direct[relation].get(column)
        if below is None or relation in seen:
            return None
        seen.add(relation)
        relation, column = below
    return relation, column


def _entries(tree: str) -> Iterator[str]:
    """The texts of the entries of the outermost target list."""
    depth, start = 0, -1
    for token in _TOKEN.finditer(tree):
        text = token[0]
        if text[0] == "\\":
            continue
        if text == "}":
            if depth == _ENTRY_DEPTH and start >= 0:
                yield tree[start : token.start()]
                start = -1
            depth -= 1
            continue
        depth += 1
        if depth == _ENTRY_DEPTH and len(text) > 1:
            start = token.end()
