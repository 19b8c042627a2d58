"""Plan → Statement: one row with the total, the page's rows, the body and what the transaction set.

The row's columns, by position: total (or NULL), rows, for writes the parts of Location, then body, `response.headers`,
`response.status`, and for writes the number of new rows. PostgreSQL builds the body, so the server only passes bytes
on (contract rest.md §17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from socle_platform.tally import ROWS_COUNTED
from socle_rest.negotiate import Builtin
from socle_rest.plan import FunctionCall, RelationMutation, RelationRead
from socle_rest.plan_mutate import Insert
from socle_rest.query_filter import array_literal
from socle_rest.ranges import EVERYTHING
from socle_rest.schema import MediaHandler, QualifiedName
from socle_rest.sql_call import SCALAR, call_sql
from socle_rest.sql_mutate import mutation_sql
from socle_rest.sql_read import count_sql, read_sql
from socle_rest.statement import Writer, qualified

if TYPE_CHECKING:
    from socle_platform.config.rest import SqlName
    from socle_rest.media import MediaType
    from socle_rest.negotiate import Handler
    from socle_rest.plan import DatabasePlan
    from socle_rest.prefer import Preferences
    from socle_rest.request import ApiRequest
    from socle_rest.schema import Function
    from socle_rest.statement import Statement

_RESPONSE_HEADERS: Final = "nullif(current_setting('response.headers', true), '')"
_RESPONSE_STATUS: Final = "nullif(current_setting('response.status', true), '')"


def to_statement(plan: DatabasePlan, request: ApiRequest, max_rows: int | None) -> Statement:
    """The main statement of a plan; for `vnd.pgrst.plan` its EXPLAIN."""
    write = Writer()
    match plan:
        case RelationRead():
            text = _read_statement(write, plan, request, max_rows)
        case RelationMutation():
            text = _mutation_statement(write, plan, request.preferences)
        case FunctionCall():
            text = _call_statement(write, plan, request, max_rows)
    return write.statement(_explained(plan.negotiated.media_type, text))


def streamed_read(plan: RelationRead) -> Statement:
    """A read as rows of: their number, one element of the body, and what the transaction set.

    PostgreSQL makes all rows before it hands out the first, and keeps what does not fit its memory on its disk: the
    number is exact, and a row that fails fails the request before it is answered."""
    write = Writer()
    element = _stripped("row_to_json(_postgrest_t)", strips=plan.negotiated.handler is Builtin.STRIPPED_ARRAY)
    return write.statement(
        f"WITH pgrst_body AS MATERIALIZED (SELECT {element}::text AS element FROM "
        f"({read_sql(write, plan.read.plan)}) _postgrest_t) SELECT (SELECT count(*) FROM pgrst_body) AS page_total, "
        f"element, {_RESPONSE_HEADERS} AS response_headers, {_RESPONSE_STATUS} AS response_status FROM pgrst_body"
    )


def planned_count(plan: RelationRead) -> Statement:
    """EXPLAIN of the count query: its estimate is the `planned` count."""
    write = Writer()
    return write.statement(f"EXPLAIN (FORMAT JSON) {count_sql(write, plan.read.plan)}")


def pre_request(function: SqlName) -> str:
    """The call of `db-pre-request`."""
    return f"SELECT {qualified(type_of_name(function))}()"


def type_of_name(function: SqlName) -> QualifiedName:
    """A configured name as one of the catalogue."""
    return QualifiedName(function.schema, function.name)


_FORMATS: Final = {"json": "FORMAT JSON", "text": "FORMAT TEXT"}


def _explained(media_type: MediaType, text: str) -> str:
    explain = media_type.explain
    if explain is None:
        return text
    options = ", ".join([_FORMATS[explain.format], *(option.upper() for option in explain.options)])
    return f"EXPLAIN ({options}) {text}"


def _read_statement(write: Writer, plan: RelationRead, request: ApiRequest, max_rows: int | None) -> str:
    handler = plan.negotiated.handler
    rows = read_sql(write, plan.read.plan)
    page = "count(*)"
    count, total = _total_sql(write, plan, request, max_rows, page)
    return (
        f"WITH pgrst_source AS ({rows}){count} SELECT {total} AS total_result_set, {page} AS page_total, "
        f"{_body_sql(handler, None, 'pgrst_source')} AS body, {_RESPONSE_HEADERS} AS response_headers, "
        f"{_RESPONSE_STATUS} AS response_status FROM (SELECT * FROM pgrst_source) _postgrest_t"
    )


def _call_statement(write: Writer, plan: FunctionCall, request: ApiRequest, max_rows: int | None) -> str:
    function = plan.call.function
    called = call_sql(write, plan.call)
    rows = read_sql(write, plan.read.plan)
    page = "1" if function.returns_single else "count(*)"
    count, total = _total_sql(write, plan, request, max_rows, page)
    body = _body_sql(plan.negotiated.handler, function, "pgrst_read")
    read, rows = _named_rows(plan.negotiated.handler, rows)
    return (
        f"WITH pgrst_source AS ({called}){count}{read} SELECT {total} AS total_result_set, {page} AS page_total, "
        f"{body} AS body, {_RESPONSE_HEADERS} AS response_headers, {_RESPONSE_STATUS} AS response_status "
        f"FROM ({rows}) _postgrest_t"
    )


def _named_rows(handler: Handler, rows: str) -> tuple[str, str]:
    """A CTE with the rows for a body that reads them twice (CSV does, for its header), and how to read it."""
    return (f", pgrst_read AS ({rows})", "SELECT * FROM pgrst_read") if handler is Builtin.CSV else ("", rows)


def _mutation_statement(write: Writer, plan: RelationMutation, preferences: Preferences) -> str:
    mutation = plan.mutation
    written = mutation_sql(write, mutation)
    handler = plan.negotiated.handler
    rows = "SELECT * FROM pgrst_source" if handler is Builtin.NOTHING else read_sql(write, plan.read.plan)
    location, inserted = "NULL", "NULL"
    if isinstance(mutation, Insert):
        if preferences.returning == "headers-only" and mutation.primary_key:
            location = _location_sql(write, mutation.primary_key)
        if mutation.counts_inserted:
            inserted = ROWS_COUNTED
    read, rows = _named_rows(handler, rows)
    return (
        f"WITH pgrst_source AS ({written}){read} SELECT NULL AS total_result_set, count(*) AS page_total, "
        f"{location} AS location, {_body_sql(handler, None, 'pgrst_read')} AS body, "
        f"{_RESPONSE_HEADERS} AS response_headers, {_RESPONSE_STATUS} AS response_status, {inserted} AS inserted "
        f"FROM ({rows}) _postgrest_t"
    )


def _location_sql(write: Writer, primary_key: tuple[str, ...]) -> str:
    """A JSON array of `[column, filter]` when exactly one row was written."""
    names = write.param(array_literal(primary_key))
    return (
        "CASE WHEN count(*) = 1 THEN (SELECT json_agg(json_build_array(pair.key, "
        "coalesce('eq.' || pair.value, 'is.null'))) "
        "FROM (SELECT row_to_json(_) AS row FROM pgrst_source AS _ LIMIT 1) first, "
        f"json_each_text(first.row) AS pair WHERE pair.key = ANY ({names}::text[])) END"
    )


def _total_sql(
    write: Writer, plan: RelationRead | FunctionCall, request: ApiRequest, max_rows: int | None, page: str
) -> tuple[str, str]:
    """The CTE that counts without limit, and the total: the page itself when nothing limits it."""
    preferences = request.preferences
    if not preferences.counts_rows:
        return "", "NULL"
    if max_rows is None and request.range == EVERYTHING:
        return "", page
    counted = count_sql(write, plan.read.plan)
    if preferences.count == "estimated" and max_rows is not None and isinstance(plan, RelationRead):
        counted += f" LIMIT {write.param(str(max_rows + 1))}"
    return f", pgrst_source_count AS ({counted})", "(SELECT count(*) FROM pgrst_source_count)"


# --- bodies ----------------------------------------------------------------------------------------------------------


def _body_sql(handler: Handler, function: Function | None, source: str) -> str:
    """The expression over the rows of `_postgrest_t` that is the body."""
    is_scalar = function is not None and function.returns_scalar
    row = f"_postgrest_t.{SCALAR}" if is_scalar else "_postgrest_t"
    match handler:
        case MediaHandler():
            return _custom_sql(handler, function)
        case Builtin.JSON | Builtin.STRIPPED_ARRAY:
            return _json_sql(function, strips=handler is Builtin.STRIPPED_ARRAY)
        case Builtin.OBJECT | Builtin.STRIPPED_OBJECT:
            return _first_sql(row, strips=handler is Builtin.STRIPPED_OBJECT)
        case Builtin.GEOJSON:
            return (
                "json_build_object('type', 'FeatureCollection', 'features', "
                "coalesce(json_agg(ST_AsGeoJSON(_postgrest_t)::json), '[]'))"
            )
        case Builtin.CSV:
            return _csv_sql(source)
        case Builtin.NOTHING:
            return "NULL"


def _json_sql(function: Function | None, *, strips: bool) -> str:
    if function is not None and function.returns_single:
        return _first_sql(f"_postgrest_t.{SCALAR}" if function.returns_scalar else "_postgrest_t", strips=strips)
    row = f"_postgrest_t.{SCALAR}" if function is not None and function.returns_set_of_scalar else "_postgrest_t"
    return f"coalesce({_stripped(f'json_agg({row})', strips=strips)}, '[]')"


def _first_sql(row: str, *, strips: bool) -> str:
    return f"coalesce({_stripped(f'json_agg({row})->0', strips=strips)}, 'null')"


def _stripped(text: str, *, strips: bool) -> str:
    return f"json_strip_nulls({text})" if strips else text


def _csv_sql(source: str) -> str:
    """Rows in composite text form without their parentheses; the header comes from the first row's keys."""
    header = (
        "(SELECT coalesce(string_agg(a.k, ','), '') FROM (SELECT json_object_keys(r)::text AS k FROM "
        f"(SELECT row_to_json(h) AS r FROM {source} AS h LIMIT 1) s) a)"
    )
    row = "_postgrest_t::text"
    rows = f"coalesce(string_agg(substring({row}, 2, length({row}) - 2), E'\\n'), '')"
    return f"{header} || E'\\n' || {rows}"


def _custom_sql(handler: MediaHandler, function: Function | None) -> str:
    name = qualified(handler.function)
    if function is not None and function.returns_scalar:
        return f"{name}(_postgrest_t.{SCALAR})"
    if handler.target is None:
        return f"{name}(_postgrest_t)"
    return f"{name}(_postgrest_t::{qualified(handler.target)})"
