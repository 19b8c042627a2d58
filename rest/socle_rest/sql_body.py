"""The JSON body as rows (contract rest.md §8).

It is one parameter, and PostgreSQL's json_to_record and json_to_recordset do the typing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_rest.statement import BODY, ident, literal, qualified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_rest.fields import PlannedField
    from socle_rest.statement import Writer


def body_rows_sql(
    write: Writer,
    body: bytes,
    columns: Sequence[PlannedField],
    *,
    is_object: bool,
    applies_defaults: bool = False,
    first_only: bool = False,
) -> str:
    """A FROM clause that has the rows of the body as `pgrst_body`.

    `applies_defaults` merges the body over the columns' defaults, which needs jsonb; `first_only` takes one row."""
    kind = "jsonb" if applies_defaults else "json"
    payload = f"FROM (SELECT {write.param(body, BODY)}::{kind} AS json_data) pgrst_payload"
    source = "pgrst_payload.json_data"
    if applies_defaults:
        defaults = _defaults_sql(columns)
        merged = (
            f"(SELECT {defaults} || {source} AS val)"
            if is_object
            else f"(SELECT jsonb_agg({defaults} || elem) AS val FROM jsonb_array_elements({source}) elem)"
        )
        payload += f", LATERAL {merged} pgrst_defaults"
        source = "pgrst_defaults.val"
    names = ", ".join([_parsed_sql(column) for column in columns])
    rows = _rows_sql(kind, source, columns, is_object=is_object)
    limit = " LIMIT 1" if first_only else ""
    return f"{payload}, LATERAL (SELECT {names} FROM {rows}{limit}) pgrst_body"


def _rows_sql(kind: str, source: str, columns: Sequence[PlannedField], *, is_object: bool) -> str:
    if columns:
        typed = ", ".join([f"{ident(column.name)} {column.type}" for column in columns])
        return f"{kind}_to_record{'' if is_object else 'set'}({source}) AS _({typed})"
    # a body without keys: one row for `{}`, as many as there are elements for `[{}, {}]`
    return "(VALUES (1)) _" if is_object else f"{kind}_array_elements({source}) _"


def _parsed_sql(column: PlannedField) -> str:
    name = ident(column.name)
    return name if column.transform is None else f"{qualified(column.transform)}({name}) AS {name}"


def _defaults_sql(columns: Sequence[PlannedField]) -> str:
    """`jsonb_build_object('column', default …)`: names and expressions are the catalogue's."""
    pairs = [f"{literal(one.name)}, {one.default}" for one in columns if one.default is not None]
    return f"jsonb_build_object({', '.join(pairs)})"
