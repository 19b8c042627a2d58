"""ReadPlan → SELECT with its embeds as lateral subqueries, and the query that counts its rows (contract §17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_rest.plan_embed import JUNCTION
from socle_rest.readplan import Shape
from socle_rest.schema import ComputedRelationship, QualifiedName
from socle_rest.sql_filter import condition_sql, field_sql, null_test, order_sql
from socle_rest.statement import FIXED, LIMIT, OFFSET, column_of, ident, qualified, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.ranges import Range
    from socle_rest.readplan import Embed, EmbedIsNull, JoinCondition, PlannedSelect, ReadPlan, SpreadColumn
    from socle_rest.statement import Writer


def read_sql(write: Writer, plan: ReadPlan, embed: Embed | None = None) -> str:
    """The select of a plan; with `embed` that of an embed, joined to its parent."""
    table = _called(plan)
    columns = [
        *_own_columns(write, table, plan),
        *_extra_columns(write, table, embed),
        *_embed_columns(plan.embeds),
    ]
    laterals = "".join([_lateral_sql(write, one) for one in plan.embeds])
    where = _where_sql(write, table, plan, embed)
    group = _group_sql(write, table, plan)
    order = order_sql(write, table, plan.order)
    is_root = embed is None
    return (
        f"SELECT {', '.join(columns)} FROM {_from_sql(plan, embed)}{laterals}{where}{group}{order}"
        f"{limit_sql(write, plan.range, is_root=is_root)}"
    )


def _called(plan: ReadPlan) -> QualifiedName:
    """What the plan's columns are qualified with."""
    return plan.source if plan.alias is None else QualifiedName("", plan.alias)


def _from_sql(plan: ReadPlan, embed: Embed | None) -> str:
    relationship = None if embed is None else embed.relationship
    alias = "" if plan.alias is None else f" AS {ident(plan.alias)}"
    if embed is None or relationship is None:
        return qualified(plan.source) + alias
    if isinstance(relationship, ComputedRelationship):
        # the row is cast to its relation, since that of a mutation or call has no type that tells overloads apart
        row = f"{ident(embed.parent.name)}::{qualified(relationship.table)}"
        return f"{qualified(relationship.function)}({row}){alias}"
    if relationship.junction is not None:
        return f"{qualified(plan.source)}{alias}, {qualified(relationship.junction.table)} AS {qualified(JUNCTION)}"
    return qualified(plan.source) + alias


def _where_sql(write: Writer, table: QualifiedName, plan: ReadPlan, embed: Embed | None) -> str:
    def embed_is_null(condition: EmbedIsNull) -> str:
        return null_test(_embed_value(plan.embeds[condition.position]), negated=condition.negated)

    parts = [condition_sql(write, table, one, embed_is_null) for one in plan.where]
    if embed is not None:
        parts.extend(_join_sql(embed.joins))
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _join_sql(joins: Iterable[JoinCondition]) -> list[str]:
    return [f"{column_of(*one.left)} = {column_of(*one.right)}" for one in joins]


def _embed_value(embed: Embed) -> str:
    """What is null when the embed has no row: the array built of its rows, or the one row."""
    lateral = ident(embed.lateral)
    return f"{lateral}.{lateral}" if embed.shape in {Shape.ARRAY, Shape.SPREAD_MANY} else lateral


# --- the select list -------------------------------------------------------------------------------------------------


def _own_columns(write: Writer, table: QualifiedName, plan: ReadPlan) -> list[str]:
    if not plan.select and not plan.embeds:
        return [column_of(table, "*")]
    return [select_sql(write, table, one) for one in plan.select]


def select_sql(write: Writer, table: QualifiedName, one: PlannedSelect) -> str:
    """One output column."""
    text = field_sql(write, table, one.field)
    if one.field.transform is not None:
        text = f"{qualified(one.field.transform)}({text})"
    text = _aggregated(_cast(text, one.cast), one.aggregate, one.aggregate_cast)
    return text if one.alias is None else f"{text} AS {ident(one.alias)}"


def _cast(text: str, cast: str | None) -> str:
    return text if cast is None else f"CAST({text} AS {type_name(cast)})"


def _aggregated(text: str, aggregate: str | None, cast: str | None) -> str:
    return text if aggregate is None else _cast(f"{aggregate}({text})", cast)


def _extra_columns(write: Writer, table: QualifiedName, embed: Embed | None) -> list[str]:
    """What only the order of a to-many spread needs."""
    if embed is None:
        return []
    return [
        select_sql(write, table if owner is None else QualifiedName("", owner), one)
        for owner, one in embed.extra_select
    ]


def _embed_columns(embeds: Iterable[Embed]) -> list[str]:
    columns: list[str] = []
    for embed in embeds:
        lateral = ident(embed.lateral)
        if embed.shape.is_spread:
            columns.extend([_lifted_sql(lateral, one) for one in embed.spread_select])
        elif embed.is_hidden:
            continue
        elif embed.shape is Shape.OBJECT:
            columns.append(f"row_to_json({lateral}.*)::jsonb AS {ident(embed.name)}")
        else:
            columns.append(f"COALESCE({lateral}.{lateral}, '[]') AS {ident(embed.name)}")
    return columns


def _lifted_sql(lateral: str, one: SpreadColumn) -> str:
    name = "*" if one.name == "*" else ident(one.name)
    text = _aggregated(f"{lateral}.{name}", one.aggregate, one.aggregate_cast)
    return text if one.alias is None else f"{text} AS {ident(one.alias)}"


# --- embeds ----------------------------------------------------------------------------------------------------------


def _lateral_sql(write: Writer, embed: Embed) -> str:
    lateral = ident(embed.lateral)
    join = "INNER" if embed.is_inner else "LEFT"
    rows = read_sql(write, embed.plan, embed)
    if embed.shape in {Shape.OBJECT, Shape.SPREAD_ONE}:
        return f" {join} JOIN LATERAL ({rows}) AS {lateral} ON TRUE"
    columns = [f"json_agg({lateral})::jsonb AS {lateral}"]
    if embed.shape is Shape.SPREAD_MANY:
        columns.extend([_array_sql(write, embed, one) for one in embed.spread_select])
    matches = f"{lateral}.{lateral} IS NOT NULL" if embed.is_inner else "TRUE"
    return f" {join} JOIN LATERAL (SELECT {', '.join(columns)} FROM ({rows}) AS {lateral}) AS {lateral} ON {matches}"


def _array_sql(write: Writer, embed: Embed, one: SpreadColumn) -> str:
    """One column of a to-many spread as an array, in the embed's order."""
    owner = QualifiedName("", embed.lateral)
    order = order_sql(write, owner, embed.spread_order)
    return f"COALESCE(json_agg({column_of(owner, one.name)}{order}), '[]')::jsonb AS {ident(one.alias or one.name)}"


# --- grouping, limits ------------------------------------------------------------------------------------------------


def _group_sql(write: Writer, table: QualifiedName, plan: ReadPlan) -> str:
    """`GROUP BY` everything that is not aggregated, if anything is."""
    lifted = [(embed, one) for embed in plan.embeds for one in embed.spread_select]
    if all(one.aggregate is None for one in plan.select) and all(one.aggregate is None for _, one in lifted):
        return ""
    terms = [_group_term(write, table, one) for one in plan.select if one.aggregate is None]
    for embed in plan.embeds:
        if embed.shape.is_spread:
            owner = QualifiedName("", embed.lateral)
            terms.extend([column_of(owner, one.name) for one in embed.spread_select if one.aggregate is None])
        elif not embed.is_hidden:
            terms.append(ident(embed.name))
    return f" GROUP BY {', '.join(terms)}" if terms else ""


def _group_term(write: Writer, table: QualifiedName, one: PlannedSelect) -> str:
    return field_sql(write, table, one.field) if one.alias is None else ident(one.alias)


def limit_sql(write: Writer, rows: Range, *, is_root: bool) -> str:
    """`LIMIT … OFFSET …`, or nothing for all rows."""
    if rows.last is None and rows.offset == 0:
        return ""
    limit = "ALL" if rows.limit is None else write.param(str(rows.limit), LIMIT if is_root else FIXED)
    return f" LIMIT {limit} OFFSET {write.param(str(rows.offset), OFFSET if is_root else FIXED)}"


# --- counting --------------------------------------------------------------------------------------------------------


def count_sql(write: Writer, plan: ReadPlan, embed: Embed | None = None) -> str:
    """One row per row of the plan, without limit: inner embeds and null filters become EXISTS."""
    table = _called(plan)

    def embed_is_null(condition: EmbedIsNull) -> str:
        word = "" if condition.negated else "NOT "
        one = plan.embeds[condition.position]
        return f"{word}EXISTS ({count_sql(write, one.plan, one)})"

    parts = [condition_sql(write, table, one, embed_is_null) for one in plan.where]
    if embed is not None:
        parts.extend(_join_sql(embed.joins))
    parts.extend([f"EXISTS ({count_sql(write, one.plan, one)})" for one in plan.embeds if one.is_inner])
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    return f"SELECT 1 FROM {_from_sql(plan, embed)}{where}"
