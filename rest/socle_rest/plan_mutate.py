"""Inserts, upserts, updates and deletes, decided (contract rest.md §8; pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError
from socle_rest.fields import body_field
from socle_rest.plan_read import plan_filter, plan_root_condition
from socle_rest.request import Action
from socle_rest.schema import ComputedRelationship

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.fields import PlannedField
    from socle_rest.payload import Payload
    from socle_rest.readplan import PlannedCondition, ReadPlan
    from socle_rest.request import ApiRequest
    from socle_rest.schema import QualifiedName, Schema, Table


@dataclass(frozen=True, slots=True)
class Conflict:
    """ON CONFLICT of these columns: `merges` updates the row, otherwise it is left alone."""

    columns: tuple[str, ...]
    merges: bool


@dataclass(frozen=True, slots=True)
class Insert:
    """`conditions` are those of PUT, on the values of the body; `counts_inserted`: new rows are told from updated."""

    table: QualifiedName
    columns: tuple[PlannedField, ...]
    body: Payload
    returning: tuple[str, ...]
    primary_key: tuple[str, ...]
    conflict: Conflict | None = None
    conditions: tuple[PlannedCondition, ...] = ()
    applies_defaults: bool = False
    counts_inserted: bool = False
    is_put: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Sets the columns from the one row of the body."""

    table: QualifiedName
    columns: tuple[PlannedField, ...]
    body: Payload
    returning: tuple[str, ...]
    where: tuple[PlannedCondition, ...] = ()
    applies_defaults: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes the rows."""

    table: QualifiedName
    returning: tuple[str, ...]
    where: tuple[PlannedCondition, ...] = ()


Mutation = Insert | Update | Delete


def plan_mutation(request: ApiRequest, table: Table, schema: Schema, read: ReadPlan) -> Mutation:
    """The write of a request; `read` is what is then read of the rows it returns. Raises RestError."""
    returning = _returning(request, table, read)
    where = _root_conditions(request, table, schema)
    if request.action is Action.DELETE:
        return Delete(table.name, returning, where)
    payload = request.payload
    assert payload is not None  # every other mutation has a body
    if request.action is Action.UPSERT:
        _check_put_filters(request, table)
    columns = _body_columns(request, table, schema)
    defaults = request.preferences.missing == "default"
    match request.action:
        case Action.UPDATE:
            return Update(table.name, columns, payload, returning, where, defaults)
        case Action.UPSERT:
            return Insert(
                table.name,
                columns,
                payload,
                returning,
                table.primary_key,
                Conflict(table.primary_key, merges=True),
                where,
                counts_inserted=True,
                is_put=True,
            )
        case _:
            conflict = _conflict(request, table)
            return Insert(
                table.name,
                columns,
                payload,
                returning,
                table.primary_key,
                conflict,
                applies_defaults=defaults,
                counts_inserted=request.preferences.resolution == "merge-duplicates",
            )


def _conflict(request: ApiRequest, table: Table) -> Conflict | None:
    """Only with `resolution=`, and only with columns to conflict on."""
    if request.preferences.resolution is None:
        return None
    target = request.query.on_conflict if request.query.on_conflict is not None else table.primary_key
    return Conflict(target, request.preferences.resolution == "merge-duplicates") if target else None


def _body_columns(request: ApiRequest, table: Table, schema: Schema) -> tuple[PlannedField, ...]:
    columns: list[PlannedField] = []
    for name in sorted(request.keys):
        column = table.columns.get(name)
        if column is None:
            raise RestError(Code.NO_COLUMN, column=name, table=table.name.name)
        columns.append(body_field(schema, column))
    return tuple(columns)


def _check_put_filters(request: ApiRequest, table: Table) -> None:
    query = request.query
    plain = all(
        one.operator == "eq" and one.quantifier is None and not one.negated for path, one in query.filters if not path
    )
    if query.logic or not table.primary_key or query.filter_keys != frozenset(table.primary_key) or not plain:
        raise RestError(Code.PUT_FILTERS)


def _root_conditions(request: ApiRequest, table: Table, schema: Schema) -> tuple[PlannedCondition, ...]:
    filters = [plan_filter(schema, table.name, one) for path, one in request.query.filters if not path]
    trees = [plan_root_condition(schema, table.name, one) for path, one in request.query.logic if not path]
    return (*filters, *trees)


def _returning(request: ApiRequest, table: Table, read: ReadPlan) -> tuple[str, ...]:
    """The columns of RETURNING, sorted; none for `return=minimal`."""
    if request.preferences.returning in {None, "minimal"}:
        return ()
    return needed_columns(read, table.primary_key)


def needed_columns(read: ReadPlan, always: Iterable[str] = ()) -> tuple[str, ...]:
    """What `pgrst_source` has to offer for the read: selected, sorted by, joined on, and `always`.

    Everything (`*`) when `*` is selected, or when a computed relationship needs the row itself."""
    names = {one.field.name for one in read.select}
    computed = any(isinstance(embed.relationship, ComputedRelationship) for embed in read.embeds)
    if "*" in names or computed:
        return ("*",)
    names.update(one.field.name for one in read.order if one.embed is None)
    for embed in read.embeds:
        relationship = embed.relationship
        if not isinstance(relationship, ComputedRelationship):
            near = relationship.columns if relationship.junction is None else relationship.junction.near
            names.update(column for column, _ in near)
    return tuple(sorted(names.union(always)))
