"""ApiRequest + Schema → ReadPlan: the select tree with its filters, orders and limits at their places (pure).

Three steps: the select list becomes a tree of drafts; filters, orders, limits and logic are hung on the draft their
path names; then, from the root down, relationships are looked up and each draft becomes a ReadPlan (`spread.py` deals
with what a spread hands to its parent). Contract rest.md §2.1, §2.2, §3, §4.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError
from socle_rest.fields import PlannedField, filter_field, has_representation, order_field, output_column, output_field
from socle_rest.plan_embed import Lateral, find_relationship, join_conditions, lateral_name, table_alias
from socle_rest.query_values import Condition, Field, Filter, Logic, OrderTerm, SelectEmbed, SelectField, SelectItem
from socle_rest.ranges import EVERYTHING, Range
from socle_rest.readplan import (
    Embed,
    EmbedIsNull,
    PlannedCondition,
    PlannedFilter,
    PlannedLogic,
    PlannedOrder,
    PlannedSelect,
    ReadPlan,
    Shape,
)
from socle_rest.schema import QualifiedName
from socle_rest.spread import Hoisted, apply_hoisted, order_of_spread, spread_columns, without_aggregates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from socle_platform.config.rest import RestSettings
    from socle_rest.query_values import EmbedPath
    from socle_rest.request import ApiRequest
    from socle_rest.schema import AnyRelationship, Column, Schema

SOURCE = QualifiedName("", "pgrst_source")
"""What a mutation returned or a function answered, as a name of the statement."""


@dataclass(slots=True)
class _Draft:
    """A node of the select tree while things are being hung on it."""

    name: str
    alias: str | None = None
    hint: str | None = None
    join: str | None = None
    is_spread: bool = False
    select: list[SelectField] = field(default_factory=list[SelectField])
    where: list[Condition] = field(default_factory=list[Condition])
    order: tuple[OrderTerm, ...] = ()
    range: Range = EVERYTHING
    children: list[_Draft] = field(default_factory=list["_Draft"])

    @property
    def target_name(self) -> str:
        """What filters and orders call it."""
        return self.name if self.alias is None else self.alias


@dataclass(frozen=True, slots=True)
class PlannedRead:
    """A read plan with what the answer has to warn of: (relation name, alias) of each embed that was filtered by its
    relation's name although it has an alias."""

    plan: ReadPlan
    legacy_names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Context:
    """What planning reads besides the draft."""

    schema: Schema
    schema_name: str
    max_rows: int | None


def plan_read(request: ApiRequest, table: QualifiedName, schema: Schema, settings: RestSettings) -> PlannedRead:
    """The tree for `table`, which a mutation or a call reads from `pgrst_source`. Raises RestError."""
    root = _draft_root(table.name, request.query.select)
    legacy = _hang_everything(root, request, settings)
    if not settings.aggregates_enabled and _has_aggregates(root):
        raise RestError(Code.AGGREGATES_DISABLED)
    is_source = request.action.is_mutation or request.action.is_call
    context = _Context(schema, request.target.schema, None if request.action.is_mutation else settings.max_rows)
    source, alias = (SOURCE, table.name) if is_source else (table, None)
    called = table if alias is None else QualifiedName("", alias)
    plan, _ = _freeze(context, root, _Place(table, source, alias, called, 0), None)
    return PlannedRead(plan, tuple(dict.fromkeys(legacy)))


# --- drafts ----------------------------------------------------------------------------------------------------------


def _draft_root(name: str, items: Iterable[SelectItem]) -> _Draft:
    root = _Draft(name)
    _fill(root, items)
    return root


def _fill(draft: _Draft, items: Iterable[SelectItem]) -> None:
    for item in items:
        if isinstance(item, SelectEmbed):
            child = _Draft(item.target, item.alias, item.hint, item.join, item.spread)
            _fill(child, item.children)
            draft.children.append(child)
        else:
            draft.select.append(item)


def _hang_everything(root: _Draft, request: ApiRequest, settings: RestSettings) -> list[tuple[str, str]]:
    """Puts filters, logic, orders and ranges on their drafts; returns the names that were used the legacy way.

    On a mutation what is said of the root is about the rows to write, so only the embeds' part is hung here."""
    query, mutates = request.query, request.action.is_mutation
    legacy: list[tuple[str, str]] = []

    def find(path: EmbedPath) -> _Draft:
        return _walk(root, path, legacy, allow_legacy=settings.legacy_target_names)

    for path, one in query.filters:
        if path or not mutates:
            find(path).where.append(one)
    for path, order in reversed(query.order):
        find(path).order = order
    for path, tree in query.logic:
        if path or not mutates:
            find(path).where.append(tree)
    if not mutates:
        root.range = request.range
        for path, one_range in query.ranges:
            find(path).range = one_range
    return legacy


def _walk(root: _Draft, path: EmbedPath, legacy: list[tuple[str, str]], *, allow_legacy: bool) -> _Draft:
    """The draft at the end of the path. Raises RestError (PGRST108)."""
    draft = root
    for name in path:
        found = next(
            (child for child in draft.children if child.target_name == name or (allow_legacy and child.name == name)),
            None,
        )
        if found is None:
            raise _not_embedded(name, () if allow_legacy else draft.children)
        if found.alias is not None and found.alias != name:
            legacy.append((found.name, found.alias))
        draft = found
    return draft


def _not_embedded(name: str, children: Sequence[_Draft]) -> RestError:
    """PGRST108; `children` are looked through for one that would have matched by its relation's name."""
    alias = next((child.alias for child in children if child.name == name and child.alias is not None), None)
    if alias is None:
        return RestError(
            Code.NOT_EMBEDDED, hint=f"Verify that '{name}' is included in the 'select' query parameter.", name=name
        )
    return RestError(
        Code.NOT_EMBEDDED,
        details="Target names are not allowed in filters if they have an alias",
        hint=f"Change '{name}' to '{alias}' in filters, orders or limits.",
        name=name,
    )


def _has_aggregates(draft: _Draft) -> bool:
    return any(one.aggregate is not None for one in draft.select) or any(map(_has_aggregates, draft.children))


# --- drafts to plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a draft stands: its relation, what FROM reads, under which alias, what its columns are qualified with."""

    table: QualifiedName
    source: QualifiedName
    alias: str | None
    called: QualifiedName
    depth: int
    expands: bool = False
    """`*` has to be written out, because an aggregate above groups by the columns."""


def _freeze(
    context: _Context, draft: _Draft, place: _Place, shape: Shape | None
) -> tuple[ReadPlan, dict[str, Hoisted]]:
    """The plan of a draft, and the aggregates that it hands to its parent (to-one spreads only)."""
    expands = place.expands or shape is Shape.SPREAD_MANY or _groups_rows(draft)
    embeds: list[Embed] = []
    hoisted: dict[str, Hoisted] = {}
    for child in draft.children:
        embed, from_child = _freeze_embed(context, child, replace(place, expands=expands), len(embeds))
        if shape is Shape.SPREAD_ONE:
            hoisted |= from_child
        elif embed.shape.is_spread:
            embed = replace(embed, spread_select=apply_hoisted(embed.spread_select, from_child))
        embeds.append(embed)
    select = _plan_select(context.schema, draft, place, is_spread=draft.is_spread, expands=expands)
    if shape is Shape.SPREAD_ONE:
        hoisted = without_aggregates(select) | hoisted
        select = tuple(replace(one, aggregate=None, aggregate_cast=None) for one in select)
    plan = ReadPlan(
        table=place.table,
        source=place.source,
        alias=place.alias,
        select=select,
        where=tuple(_plan_condition(context.schema, place.table, one, embeds) for one in draft.where),
        order=tuple(_plan_order(context.schema, place.table, one, embeds) for one in draft.order),
        range=draft.range.restrict(context.max_rows),
        embeds=tuple(embeds),
    )
    return plan, hoisted


def _groups_rows(draft: _Draft) -> bool:
    """Whether an aggregate works at this level, its own or one hoisted from a spread below."""
    return any(one.aggregate is not None for one in draft.select) or any(
        child.is_spread and _groups_rows(child) for child in draft.children
    )


def _freeze_embed(context: _Context, draft: _Draft, parent: _Place, position: int) -> tuple[Embed, dict[str, Hoisted]]:
    origin = QualifiedName(context.schema_name, parent.table.name)
    relationship = find_relationship(context.schema, origin, draft.name, draft.hint)
    depth = parent.depth + 1
    alias = table_alias(relationship, parent.called, depth)
    place = _Place(relationship.target, relationship.target, alias, QualifiedName("", alias), depth, parent.expands)
    shape = _shape_of(draft, relationship)
    plan, hoisted = _freeze(context, draft, place, shape)
    lateral = lateral_name(relationship, draft.target_name, depth, position)
    order, extra = order_of_spread(plan) if shape is Shape.SPREAD_MANY else ((), ())
    if shape is Shape.SPREAD_MANY:
        plan = replace(plan, order=())
    embed = Embed(
        plan=plan,
        relationship=relationship,
        parent=parent.called,
        name=draft.target_name,
        lateral=lateral,
        shape=shape,
        is_inner=draft.join == "inner",
        joins=join_conditions(relationship, Lateral(parent.called, alias)),
        is_hidden=not shape.is_spread and _shows_nothing(draft),
        spread_select=spread_columns(plan) if shape.is_spread else (),
        spread_order=order,
        extra_select=extra,
    )
    return embed, hoisted


def _shape_of(draft: _Draft, relationship: AnyRelationship) -> Shape:
    if draft.is_spread:
        return Shape.SPREAD_ONE if relationship.to_one else Shape.SPREAD_MANY
    return Shape.OBJECT if relationship.to_one else Shape.ARRAY


def _shows_nothing(draft: _Draft) -> bool:
    """`rel()`, also with nothing but such embeds inside."""
    return not draft.select and all(map(_shows_nothing, draft.children))


def _plan_select(
    schema: Schema, draft: _Draft, place: _Place, *, is_spread: bool, expands: bool
) -> tuple[PlannedSelect, ...]:
    known = schema.table(place.table)
    columns = tuple(known.columns.values()) if known else ()
    writes_out = bool(columns) and (
        expands
        or any(has_representation(schema, column) for column in columns)
        or _mixes_computed(draft, place, columns)
    )
    planned: list[PlannedSelect] = []
    for one in draft.select:
        if writes_out and one.aggregate is None and one.field == _STAR:
            planned.extend(_plan_column(schema, column) for column in columns)
        else:
            planned.append(_plan_field(schema, place.table, one, is_spread=is_spread))
    return tuple(planned)


_STAR = Field("*")


def _mixes_computed(draft: _Draft, place: _Place, columns: Sequence[Column]) -> bool:
    """Whether rows of `pgrst_source` would show a computed field twice: once by name and once within `*`."""
    if place.source != SOURCE:
        return False
    names = {column.name for column in columns}
    return any(one.field.name not in names and one.field != _STAR for one in draft.select)


def _plan_column(schema: Schema, column: Column) -> PlannedSelect:
    planned = output_column(schema, column)
    return PlannedSelect(planned, planned.name if planned.transform is not None else None)


def _plan_field(schema: Schema, table: QualifiedName, one: SelectField, *, is_spread: bool) -> PlannedSelect:
    planned = output_field(schema, table, one.field)
    alias = one.alias
    if one.aggregate is not None:
        if is_spread:
            alias = one.aggregate if alias is None else alias
            if one.field == _STAR:
                planned = PlannedField("*", is_whole_row=True)
    elif alias is None:
        alias = _automatic_alias(planned)
    return PlannedSelect(planned, alias, one.cast, one.aggregate, one.aggregate_cast)


def _automatic_alias(planned: PlannedField) -> str | None:
    """The last key of a JSON path (the last key before an index, else the column); the column behind a transform."""
    if planned.path:
        return next((step.key for step in reversed(planned.path) if not step.is_index), planned.name)
    return planned.name if planned.transform is not None else None


def _plan_condition(schema: Schema, table: QualifiedName, one: Condition, embeds: Sequence[Embed]) -> PlannedCondition:
    if isinstance(one, Logic):
        children = tuple(_plan_condition(schema, table, child, embeds) for child in one.children)
        return PlannedLogic(one.operator, children, one.negated)
    if one.operator == "is" and one.value == "NULL" and not one.field.path:
        for position, embed in enumerate(embeds):
            if embed.name == one.field.name:
                return EmbedIsNull(position, one.negated)
    return plan_filter(schema, table, one)


def plan_filter(schema: Schema, table: QualifiedName, one: Filter) -> PlannedFilter:
    """A filter on a column of `table`."""
    return PlannedFilter(filter_field(schema, table, one.field, one.operator, one.language), one)


def plan_root_condition(schema: Schema, table: QualifiedName, one: Condition) -> PlannedCondition:
    """A condition on the rows that a mutation writes."""
    return _plan_condition(schema, table, one, ())


def _plan_order(schema: Schema, table: QualifiedName, one: OrderTerm, embeds: Sequence[Embed]) -> PlannedOrder:
    if one.relation is None:
        return PlannedOrder(order_field(schema, table, one.field), None, one.direction, one.nulls)
    embed = next((embed for embed in embeds if embed.name == one.relation), None)
    if embed is None:
        raise _not_embedded(one.relation, ())
    if not embed.relationship.to_one:
        raise RestError(
            Code.ORDER_TO_MANY,
            details=f"'{table.name}' and '{embed.name}' do not form a many-to-one or one-to-one relationship",
            name=embed.name,
        )
    return PlannedOrder(PlannedField(one.field.name, one.field.path), embed.lateral, one.direction, one.nulls)
