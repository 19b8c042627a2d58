"""Names of a request turned into fields that SQL can be written from: types, JSON access, representations.

Source of the rules: contract rest.md §2 (JSON path on a non-json column, domain representation) and §3 (full text).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_rest.query_values import Field, JsonStep
    from socle_rest.schema import Column, QualifiedName, Schema

JSON_TYPES = frozenset({"json", "jsonb"})


@dataclass(frozen=True, slots=True)
class PlannedField:
    """A column, computed field or argument with what SQL has to do to it.

    `type` is the type as declared, empty when nobody knows (SQL then decides). `transform` is a function around the
    column (output), around the literal (filter) or around the JSON value (body). `search_language` is what
    `to_tsvector` gets besides the column when `is_searched`. `is_whole_row` stands for the row itself."""

    name: str
    path: tuple[JsonStep, ...] = ()
    type: str = ""
    to_jsonb: bool = False
    transform: QualifiedName | None = None
    is_searched: bool = False
    search_language: str | None = None
    default: str | None = None
    is_whole_row: bool = False


def output_field(schema: Schema, table: QualifiedName, field: Field) -> PlannedField:
    """A selected field: shown by the representation of its type as JSON, if there is one."""
    found = _resolve(schema, table, field)
    return _with_transform(schema, found, found.type, "json")


def output_column(schema: Schema, column: Column) -> PlannedField:
    """A column of an expanded `*`."""
    found = PlannedField(column.name, type=column.nominal_type)
    return _with_transform(schema, found, found.type, "json")


def filter_field(
    schema: Schema, table: QualifiedName, field: Field, operator: str, language: str | None
) -> PlannedField:
    """The left side of a filter; its transform is for the literal on the right."""
    found = _resolve(schema, table, field)
    if operator.endswith("fts") and _base_type(schema, table, field.name) != "tsvector":
        found = replace(found, is_searched=True, search_language=language)
    return _with_transform(schema, found, "text", found.type)


def order_field(schema: Schema, table: QualifiedName, field: Field) -> PlannedField:
    """A field to sort by."""
    return _resolve(schema, table, field)


def body_field(schema: Schema, column: Column) -> PlannedField:
    """A column to be written from the JSON body."""
    found = PlannedField(column.name, type=column.nominal_type, default=column.default)
    return _with_transform(schema, found, "json", found.type)


def has_representation(schema: Schema, column: Column) -> bool:
    """Whether the column is shown by a representation, so that `*` has to be written out."""
    return schema.representation(column.nominal_type, "json") is not None


def _resolve(schema: Schema, table: QualifiedName, field: Field) -> PlannedField:
    known = schema.table(table)
    column = known.columns.get(field.name) if known else None
    computed = known.computed.get(field.name, "") if known else ""
    kind = computed if column is None else column.nominal_type
    return PlannedField(field.name, field.path, kind, to_jsonb=kind not in JSON_TYPES)


def _base_type(schema: Schema, table: QualifiedName, name: str) -> str:
    known = schema.table(table)
    if known is None:
        return ""
    column = known.columns.get(name)
    return known.computed.get(name, "") if column is None else column.type


def _with_transform(schema: Schema, field: PlannedField, source: str, target: str) -> PlannedField:
    """The field read through the cast function from `source` to `target`; its type becomes the source's."""
    if not schema.representations:
        return field
    function = schema.representation(source, target)
    return field if function is None else replace(field, type=source, transform=function)
