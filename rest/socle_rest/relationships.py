"""Relationships between relations, derived from foreign keys, views and functions (contracts/rest.md §2.1 and §2.3).

All pure: the catalogue's rows go in as values, the map that `Schema.relationships` holds comes out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from socle_rest.schema import Cardinality, ComputedRelationship, Junction, QualifiedName, Relationship

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from socle_rest.schema import AnyRelationship, ColumnPairs
    from socle_rest.viewtrace import Origin


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key, a unique constraint or a foreign key; columns as (attribute number, name), in key order."""

    kind: str
    """`p`, `u` or `f`, as in pg_constraint."""
    name: str
    relation: int
    table: QualifiedName
    columns: tuple[tuple[int, str], ...]
    referenced: int = 0
    target: QualifiedName = QualifiedName("", "")  # noqa: RUF009 - a constant
    referenced_columns: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TracedView:
    """A view and the base columns it shows, each under one or more names."""

    name: QualifiedName
    shows: Mapping[Origin, tuple[str, ...]]


def view_primary_keys(keys: Iterable[Key], views: Sequence[TracedView]) -> dict[QualifiedName, tuple[str, ...]]:
    """The primary key columns of views that show a base table's whole key. A column shown twice counts once."""
    shown_by = _by_relation(views)
    found: dict[QualifiedName, tuple[str, ...]] = {}
    for key in sorted(keys, key=lambda key: key.table):
        if key.kind == "p":
            for view in shown_by.get(key.relation, ()):
                if names := _names(view, key.relation, key.columns):
                    found[view.name] = (*found.get(view.name, ()), *(one[0] for one in names))
    return found


def derive_relationships(
    keys: Sequence[Key],
    views: Sequence[TracedView],
    primary_keys: Mapping[QualifiedName, tuple[str, ...]],
    computed: Iterable[ComputedRelationship],
    exposed: Sequence[str],
) -> dict[tuple[QualifiedName, str], tuple[AnyRelationship, ...]]:
    """All relationships whose two sides (and junction) are in the exposed schemas, as `Schema.relationships`."""
    schemas = set(exposed)
    direct = [one for one in _direct(keys, views) if one.table.schema in schemas and one.target.schema in schemas]
    found = [*direct, *_many_to_many(direct, primary_keys)]
    found += [_inverse(one) for one in found if one.junction is None]
    return _indexed(found, [one for one in computed if one.table.schema in schemas and one.target.schema in schemas])


def _direct(keys: Sequence[Key], views: Sequence[TracedView]) -> Iterator[Relationship]:
    """Every foreign key as seen from its own side: table to table, view to table, table to view, view to view."""
    unique: defaultdict[int, set[frozenset[int]]] = defaultdict(set)
    for key in keys:
        if key.kind in {"p", "u"}:
            unique[key.relation].add(frozenset(number for number, _ in key.columns))
    shown_by = _by_relation(views)
    for key in keys:
        if key.kind != "f":
            continue
        one_to_one = frozenset(number for number, _ in key.columns) in unique[key.relation]
        base = Relationship(
            key.table,
            key.target,
            Cardinality.ONE_TO_ONE if one_to_one else Cardinality.MANY_TO_ONE,
            key.name,
            _pairs([name for _, name in key.columns], [name for _, name in key.referenced_columns]),
            is_self=key.relation == key.referenced,
        )
        near = list(_through(shown_by.get(key.relation, ()), key.relation, key.columns))
        far = list(_through(shown_by.get(key.referenced, ()), key.referenced, key.referenced_columns))
        yield base
        for view, names in near:
            pairs = _pairs(names, [name for _, name in key.referenced_columns])
            yield replace(base, table=view, columns=pairs, is_self=False, table_is_view=True)
        for view, names in far:
            pairs = _pairs([name for _, name in key.columns], names)
            yield replace(base, target=view, columns=pairs, is_self=False, target_is_view=True)
        for (view, names), (target, target_names) in product(near, far):
            yield replace(
                base,
                table=view,
                target=target,
                columns=_pairs(names, target_names),
                is_self=view == target,
                table_is_view=True,
                target_is_view=True,
            )


def _many_to_many(
    direct: Sequence[Relationship], primary_keys: Mapping[QualifiedName, tuple[str, ...]]
) -> Iterator[Relationship]:
    """Two foreign keys of one table, all of whose columns are in that table's primary key."""
    by_table: defaultdict[QualifiedName, list[Relationship]] = defaultdict(list)
    for one in direct:
        key = set(primary_keys.get(one.table, ()))
        if one.cardinality is Cardinality.MANY_TO_ONE and key.issuperset(near for near, _ in one.columns):
            by_table[one.table].append(one)
    for between, sides in by_table.items():
        for near, far in product(sides, sides):
            if near.constraint == far.constraint:
                continue
            yield Relationship(
                near.target,
                far.target,
                Cardinality.MANY_TO_MANY,
                "",
                (),
                is_self=near.target == far.target,
                table_is_view=near.target_is_view,
                target_is_view=far.target_is_view,
                junction=Junction(
                    between, near.constraint, far.constraint, _swapped(near.columns), _swapped(far.columns)
                ),
            )


def _inverse(one: Relationship) -> Relationship:
    to_one = one.cardinality is Cardinality.ONE_TO_ONE
    return Relationship(
        one.target,
        one.table,
        Cardinality.ONE_TO_ONE if to_one else Cardinality.ONE_TO_MANY,
        one.constraint,
        _swapped(one.columns),
        is_self=one.is_self,
        table_is_view=one.target_is_view,
        target_is_view=one.table_is_view,
        is_referenced=to_one,
    )


def _indexed(
    found: Iterable[Relationship], computed: Iterable[ComputedRelationship]
) -> dict[tuple[QualifiedName, str], tuple[AnyRelationship, ...]]:
    """By near relation and far schema; a function replaces what was found between its table and its namesake."""
    by_pair: defaultdict[tuple[QualifiedName, QualifiedName], list[AnyRelationship]] = defaultdict(list)
    for one in found:
        by_pair[one.table, one.target].append(one)
    for function in computed:
        by_pair[function.table, function.function] = [function]
    index: defaultdict[tuple[QualifiedName, str], list[AnyRelationship]] = defaultdict(list)
    for (table, target), ones in by_pair.items():
        index[table, target.schema].extend(ones)
    return {place: tuple(sorted(ones, key=_order)) for place, ones in index.items()}


_RANK = {
    Cardinality.ONE_TO_MANY: 0,
    Cardinality.MANY_TO_ONE: 1,
    Cardinality.ONE_TO_ONE: 2,
    Cardinality.MANY_TO_MANY: 3,
}


def _order(one: AnyRelationship) -> tuple[object, ...]:
    """The order in which candidates are listed in PGRST201."""
    if isinstance(one, ComputedRelationship):
        return (1, one.function, one.table, one.target)
    between = one.junction
    key: tuple[object, ...] = (one.constraint, one.columns, one.is_referenced)
    if between is not None:
        key = (between.table, between.near_constraint, between.far_constraint, between.near, between.far)
    return (0, one.table, one.target, one.is_self, _RANK[one.cardinality], key, one.table_is_view, one.target_is_view)


def _by_relation(views: Iterable[TracedView]) -> dict[int, list[TracedView]]:
    """Views by each of the relations they show columns of."""
    found: defaultdict[int, list[TracedView]] = defaultdict(list)
    for view in views:
        for relation in {relation for relation, _ in view.shows}:
            found[relation].append(view)
    return found


def _names(view: TracedView, relation: int, columns: Iterable[tuple[int, str]]) -> list[tuple[str, ...]] | None:
    """The names under which the view shows each of the columns; None if one is missing."""
    names = [view.shows.get((relation, number), ()) for number, _ in columns]
    return names if all(names) else None


def _through(
    views: Iterable[TracedView], relation: int, columns: Sequence[tuple[int, str]]
) -> Iterator[tuple[QualifiedName, tuple[str, ...]]]:
    """Each view that shows all the columns, once per combination of names it shows them under."""
    for view in views:
        if shown := _names(view, relation, columns):
            for names in product(*shown):
                yield view.name, names


def _pairs(near: Iterable[str], far: Iterable[str]) -> ColumnPairs:
    return tuple(zip(near, far, strict=True))


def _swapped(pairs: ColumnPairs) -> ColumnPairs:
    return tuple((far, near) for near, far in pairs)
