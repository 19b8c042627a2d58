"""Fields and conditions as SQL (contract rest.md §2, §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from socle_rest.readplan import EmbedIsNull, PlannedFilter, PlannedLogic
from socle_rest.statement import column_of, ident, qualified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from socle_rest.fields import PlannedField
    from socle_rest.query_values import JsonStep
    from socle_rest.readplan import PlannedCondition, PlannedOrder
    from socle_rest.schema import QualifiedName
    from socle_rest.statement import Writer

_OPERATORS: Final = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "LIKE",
    "ilike": "ILIKE",
    "match": "~",
    "imatch": "~*",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
    "isdistinct": "IS DISTINCT FROM",
}
_SEARCHES: Final = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
_UNTRANSFORMED: Final = frozenset({"like", "ilike", "isdistinct"})
_NULL_TEST: Final = {False: " IS NOT DISTINCT FROM NULL", True: " IS DISTINCT FROM NULL"}


def field_sql(write: Writer, table: QualifiedName, field: PlannedField) -> str:
    """The field of `table`, with its JSON path and full-text wrapping."""
    if field.is_whole_row:
        return ident(table.name)
    text = column_of(table, field.name)
    if field.path:
        text = (f"to_jsonb({text})" if field.to_jsonb else text) + path_sql(write, field.path)
    if field.is_searched:
        return f"to_tsvector({_language(write, field.search_language)}{text})"
    return text


def path_sql(write: Writer, path: Iterable[JsonStep]) -> str:
    """`->$1->>$2::int`."""
    return "".join([f"{step.arrow}{write.param(step.key)}{'::int' if step.is_index else ''}" for step in path])


def _language(write: Writer, language: str | None) -> str:
    return "" if language is None else f"{write.param(language)}, "


def condition_sql(
    write: Writer, table: QualifiedName, condition: PlannedCondition, embed_is_null: Callable[[EmbedIsNull], str]
) -> str:
    """A condition on rows of `table`; `embed_is_null` says how "no row of the embed" is written here."""
    match condition:
        case PlannedFilter():
            return filter_sql(write, table, condition)
        case EmbedIsNull():
            return embed_is_null(condition)
        case PlannedLogic():
            parts = [condition_sql(write, table, child, embed_is_null) for child in condition.children]
            word = " AND " if condition.operator == "and" else " OR "
            return f"{'NOT ' if condition.negated else ''}({word.join(parts)})"


def no_embeds(_condition: EmbedIsNull) -> str:
    """For places where embeds cannot be tested, so that such a condition cannot be there."""
    raise AssertionError("a condition on an embed outside of a read")


def null_test(subject: str, *, negated: bool) -> str:
    """Whether a subquery's row or value is there; it must not ask into the row's columns, as IS NULL would."""
    return subject + _NULL_TEST[negated]


def filter_sql(write: Writer, table: QualifiedName, condition: PlannedFilter) -> str:
    """One comparison."""
    field, one = condition.field, condition.filter
    left = field_sql(write, table, field)
    if one.operator == "is":
        right = f"IS {one.value}"
    elif one.operator == "in":
        right = f"= ANY ({_in_list(write, condition)})"
    elif (search := _SEARCHES.get(one.operator)) is not None:
        language = _language(write, one.language)
        right = f"@@ {search}({language}{write.param(one.value, one.source)})"
    else:
        value = write.param(one.value, one.source)
        if field.transform is not None and one.operator not in _UNTRANSFORMED:
            value = f"{qualified(field.transform)}({value})"
        if one.quantifier is not None:
            value = f"{'ANY' if one.quantifier == 'any' else 'ALL'}({value})"
        right = f"{_OPERATORS[one.operator]} {value}"
    return f"{'NOT ' if one.negated else ''}{left} {right}"


def _in_list(write: Writer, condition: PlannedFilter) -> str:
    """The array parameter; a representation is applied to each of its elements."""
    value = write.param(condition.filter.value, condition.filter.source)
    if condition.field.transform is None:
        return value
    return f"SELECT {qualified(condition.field.transform)}(unnest({value}::text[]))"


def order_sql(write: Writer, table: QualifiedName, order: Iterable[PlannedOrder]) -> str:
    """`ORDER BY …`, or nothing."""
    terms = [_order_term(write, table, one) for one in order]
    return f" ORDER BY {', '.join(terms)}" if terms else ""


_DIRECTIONS: Final = {None: "", "asc": " ASC", "desc": " DESC"}
_NULLS: Final = {None: "", "nullsfirst": " NULLS FIRST", "nullslast": " NULLS LAST"}


def _order_term(write: Writer, table: QualifiedName, one: PlannedOrder) -> str:
    owner = table if one.embed is None else type(table)("", one.embed)
    return field_sql(write, owner, one.field) + _DIRECTIONS[one.direction] + _NULLS[one.nulls]
