"""Mutation → INSERT, UPDATE or DELETE with RETURNING (contract rest.md §8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.tally import COUNT_DOWN, COUNT_UP
from socle_rest.plan_mutate import Delete, Insert, Update
from socle_rest.schema import QualifiedName
from socle_rest.sql_body import body_rows_sql
from socle_rest.sql_filter import condition_sql, no_embeds
from socle_rest.statement import column_of, ident, qualified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_rest.plan_mutate import Mutation
    from socle_rest.readplan import PlannedCondition
    from socle_rest.statement import Writer

_BODY = QualifiedName("", "pgrst_body")


def mutation_sql(write: Writer, mutation: Mutation) -> str:
    """The statement that goes into `pgrst_source`."""
    match mutation:
        case Insert():
            return _insert_sql(write, mutation)
        case Update():
            return _update_sql(write, mutation)
        case Delete():
            where = _where_sql(write, mutation.table, mutation.where)
            return f"DELETE FROM {qualified(mutation.table)}{where}{_returning_sql(mutation.table, mutation.returning)}"


def _insert_sql(write: Writer, insert: Insert) -> str:
    names = ", ".join([ident(column.name) for column in insert.columns])
    values = ", ".join([column_of(_BODY, column.name) for column in insert.columns])
    rows = body_rows_sql(
        write,
        insert.body.text,
        insert.columns,
        is_object=insert.body.is_object,
        applies_defaults=insert.applies_defaults,
    )
    conditions = [COUNT_UP] if insert.counts_inserted else []
    conditions.extend([condition_sql(write, _BODY, one, no_embeds) for one in insert.conditions])
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return (
        f"INSERT INTO {qualified(insert.table)}{f'({names})' if names else ''} SELECT {values} {rows}{where}"
        f"{_conflict_sql(insert)}{_returning_sql(insert.table, insert.returning)}"
    )


def _conflict_sql(insert: Insert) -> str:
    if insert.conflict is None:
        return ""
    target = ", ".join([ident(name) for name in insert.conflict.columns])
    if not insert.conflict.merges or not insert.columns:
        return f" ON CONFLICT({target}) DO NOTHING"
    assignments = ", ".join([f"{ident(one.name)} = EXCLUDED.{ident(one.name)}" for one in insert.columns])
    counted = f" WHERE {COUNT_DOWN}" if insert.counts_inserted else ""
    return f" ON CONFLICT({target}) DO UPDATE SET {assignments}{counted}"


def _update_sql(write: Writer, update: Update) -> str:
    if not update.columns:
        # nothing to set is no UPDATE in SQL; the same columns without a row keep the rest of the statement valid
        names = [column_of(QualifiedName("", update.table.name), name) for name in update.returning] or ["NULL"]
        return f"SELECT {', '.join(names)} FROM {qualified(update.table)} WHERE false"
    assignments = ", ".join([f"{ident(one.name)} = {column_of(_BODY, one.name)}" for one in update.columns])
    rows = body_rows_sql(
        write,
        update.body.text,
        update.columns,
        is_object=update.body.is_object,
        applies_defaults=update.applies_defaults,
    )
    where = _where_sql(write, update.table, update.where)
    returning = _returning_sql(update.table, update.returning)
    return f"UPDATE {qualified(update.table)} SET {assignments} {rows}{where}{returning}"


def _where_sql(write: Writer, table: QualifiedName, conditions: Sequence[PlannedCondition]) -> str:
    parts = [condition_sql(write, table, one, no_embeds) for one in conditions]
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _returning_sql(table: QualifiedName, names: Sequence[str]) -> str:
    """Without columns `1`: that needs no SELECT privilege and still tells how many rows there were."""
    return f" RETURNING {', '.join([column_of(table, name) for name in names]) if names else '1'}"
