# ruff: noqa: E501 (a line of SQL is easier to read whole)
"""Plan → Statement: texts, parameters, and the closed alphabet of every text (contract rest.md §17)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.rest_samples import FUNCTIONS, SCHEMA, SETTINGS, plan_of
from socle_platform.config.rest import RestSettings
from socle_rest.errors import RestError
from socle_rest.plan import Description, Inspection, RelationRead
from socle_rest.sql import planned_count, to_statement
from socle_rest.statement import BODY, FIXED, LIMIT, OFFSET, Statement, ident, literal, type_name

AGGREGATES = replace(SETTINGS, aggregates_enabled=True, plan_enabled=True)


def statement(
    method: str, url: str, body: bytes = b"", settings: RestSettings = AGGREGATES, **headers: str
) -> Statement:
    plan, request = plan_of(method, url, body, settings, **headers)
    assert not isinstance(plan, Description | Inspection)
    return to_statement(plan, request, settings.max_rows)


def source(method: str, url: str, body: bytes = b"", **headers: str) -> str:
    """What is in `pgrst_source`."""
    text = statement(method, url, body, AGGREGATES, **headers).text
    found = re.match(
        r"WITH pgrst_source AS \((.*?)\)(?:, pgrst_source_count AS \(.*\))? SELECT (?:NULL|count|\(SELECT count|1 AS)",
        text,
    )
    assert found is not None, text
    return found.group(1)


A = '"api"."authors"'
B = '"api"."books"'


@pytest.mark.parametrize(
    ("url", "sql"),
    [
        ("/authors", f"SELECT {A}.* FROM {A}"),
        ("/authors?select=", f"SELECT {A}.* FROM {A}"),
        ("/authors?select=id,n:name::text", f'SELECT {A}."id", CAST({A}."name" AS "text") AS "n" FROM {A}'),
        ("/authors?select=born::date::text", f'SELECT CAST({A}."born" AS "date") FROM {A}'),
        ("/authors?id=eq.1", f'SELECT {A}.* FROM {A} WHERE {A}."id" = $1'),
        ("/authors?id=not.in.(1,2)", f'SELECT {A}.* FROM {A} WHERE NOT {A}."id" = ANY ($1)'),
        ("/authors?id=gt(any).{1}", f'SELECT {A}.* FROM {A} WHERE {A}."id" > ANY($1)'),
        ("/authors?id=is.null", f'SELECT {A}.* FROM {A} WHERE {A}."id" IS NULL'),
        ("/authors?id=isdistinct.1", f'SELECT {A}.* FROM {A} WHERE {A}."id" IS DISTINCT FROM $1'),
        (
            "/authors?or=(id.eq.1,not.and(id.gt.2,name.like.x*))",
            f'SELECT {A}.* FROM {A} WHERE ({A}."id" = $1 OR NOT ({A}."id" > $2 AND {A}."name" LIKE $3))',
        ),
        ("/authors?order=id.desc.nullslast,name", f'SELECT {A}.* FROM {A} ORDER BY {A}."id" DESC NULLS LAST, {A}."name"'),
        ("/authors?limit=2&offset=3", f"SELECT {A}.* FROM {A} LIMIT $1 OFFSET $2"),
        ("/authors?offset=3", f"SELECT {A}.* FROM {A} LIMIT ALL OFFSET $1"),
        ("/authors?select=id.sum(),name", f'SELECT sum({A}."id"), {A}."name" FROM {A} GROUP BY {A}."name"'),
        ("/authors?select=count()", f"SELECT count({A}.*) FROM {A}"),
        (
            "/authors?name=plfts(french).x",
            f'SELECT {A}.* FROM {A} WHERE to_tsvector($1, {A}."name") @@ plainto_tsquery($2, $3)',
        ),
        (
            "/books?select=facts->a->>0&tags->0=eq.1",
            f'SELECT {B}."facts"->$1->>$2::int AS "a" FROM {B} WHERE to_jsonb({B}."tags")->$3::int = $4',
        ),
        (
            "/books?select=id&price=in.(1)&price=eq.2",
            f'SELECT {B}."id" FROM {B} WHERE {B}."price" = ANY (SELECT "api"."money"(unnest($1::text[])))'
            f' AND {B}."price" = "api"."money"($2)',
        ),
        (
            "/books?select=id,authors(name)",
            f'SELECT {B}."id", row_to_json("books_authors_1".*)::jsonb AS "authors" FROM {B} LEFT JOIN LATERAL '
            f'(SELECT "authors_1"."name" FROM {A} AS "authors_1" WHERE "authors_1"."id" = {B}."author_id") '
            'AS "books_authors_1" ON TRUE',
        ),
        (
            "/authors?select=id,books!inner(id)&books=not.is.null",
            f'SELECT {A}."id", COALESCE("authors_books_1"."authors_books_1", \'[]\') AS "books" FROM {A} INNER JOIN '
            'LATERAL (SELECT json_agg("authors_books_1")::jsonb AS "authors_books_1" FROM '
            f'(SELECT "books_1"."id" FROM {B} AS "books_1" WHERE "books_1"."author_id" = {A}."id") '
            'AS "authors_books_1") AS "authors_books_1" ON "authors_books_1"."authors_books_1" IS NOT NULL WHERE '
            '"authors_books_1"."authors_books_1" IS DISTINCT FROM NULL',
        ),
        (
            "/books?select=labels()",
            f"SELECT  FROM {B} LEFT JOIN LATERAL (SELECT json_agg(\"books_labels_1\")::jsonb AS \"books_labels_1\" FROM "
            '(SELECT "labels".* FROM "api"."labels" AS "labels", "api"."book_labels" AS "pgrst_junction" WHERE '
            '"labels"."id" = "pgrst_junction"."label_id" AND "pgrst_junction"."book_id" = "api"."books"."id") '
            'AS "books_labels_1") AS "books_labels_1" ON TRUE',
        ),
        (
            "/authors?select=best_book(id)",
            'SELECT row_to_json("authors_best_book_1".*)::jsonb AS "best_book" FROM "api"."authors" LEFT JOIN LATERAL '
            '(SELECT "books_1"."id" FROM "api"."best_book"("authors"::"api"."authors") AS "books_1") '
            'AS "authors_best_book_1" ON TRUE',
        ),
        (
            "/books?select=id,...authors(name)&order=authors(name)",
            f'SELECT {B}."id", "books_authors_1"."name" FROM {B} LEFT JOIN LATERAL (SELECT "authors_1"."name" FROM '
            f'{A} AS "authors_1" WHERE "authors_1"."id" = {B}."author_id") AS "books_authors_1" ON TRUE '
            'ORDER BY "books_authors_1"."name"',
        ),
        (
            "/books?select=...reviews(stars)&reviews.order=id",
            f'SELECT "books_reviews_1"."stars" FROM {B} LEFT JOIN LATERAL (SELECT json_agg("books_reviews_1")::jsonb AS '
            '"books_reviews_1", COALESCE(json_agg("books_reviews_1"."stars" ORDER BY "books_reviews_1"."pgrst_order_1"),'
            ' \'[]\')::jsonb AS "stars" FROM (SELECT "reviews_1"."stars", "reviews_1"."id" AS "pgrst_order_1" FROM '
            f'"api"."reviews" AS "reviews_1" WHERE "reviews_1"."book_id" = {B}."id") AS "books_reviews_1") '
            'AS "books_reviews_1" ON TRUE',
        ),
        (
            "/reviews?select=book_id,...books(price.sum())",
            'SELECT "api"."reviews"."book_id", sum("reviews_books_1"."sum") AS "sum" FROM "api"."reviews" LEFT JOIN '
            'LATERAL (SELECT "api"."json"("books_1"."price") AS "sum" FROM "api"."books" AS "books_1" WHERE '
            '"books_1"."id" = "api"."reviews"."book_id") AS "reviews_books_1" ON TRUE GROUP BY '
            '"api"."reviews"."book_id"',
        ),
    ],
)  # fmt: skip
def test_reads(url: str, sql: str) -> None:
    assert source("GET", url) == sql


@pytest.mark.parametrize(
    ("method", "url", "body", "prefer", "sql"),
    [
        (
            "POST", "/authors", b'{"id":1,"name":"x"}', "",
            f'INSERT INTO {A}("id", "name") SELECT "pgrst_body"."id", "pgrst_body"."name" FROM (SELECT $1::json AS '
            'json_data) pgrst_payload, LATERAL (SELECT "id", "name" FROM json_to_record(pgrst_payload.json_data) AS '
            '_("id" integer, "name" text)) pgrst_body RETURNING 1',
        ),
        (
            "POST", "/authors", b"{}", "return=representation",
            f"INSERT INTO {A} SELECT  FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT  FROM "
            f"(VALUES (1)) _) pgrst_body RETURNING {A}.*",
        ),
        (
            "POST", "/authors", b"[{},{}]", "",
            f"INSERT INTO {A} SELECT  FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT  FROM "
            "json_array_elements(pgrst_payload.json_data) _) pgrst_body RETURNING 1",
        ),
        (
            "POST", "/books", b'[{"price":1}]', "missing=default",
            f'INSERT INTO {B}("price") SELECT "pgrst_body"."price" FROM (SELECT $1::jsonb AS json_data) pgrst_payload, '
            "LATERAL (SELECT jsonb_agg(jsonb_build_object() || elem) AS val FROM "
            "jsonb_array_elements(pgrst_payload.json_data) elem) pgrst_defaults, LATERAL (SELECT "
            '"api"."money"("price") AS "price" FROM jsonb_to_recordset(pgrst_defaults.val) AS _("price" json)) '
            "pgrst_body RETURNING 1",
        ),
        (
            "POST", "/authors", b'[{"id":1}]', "resolution=ignore-duplicates",
            f'INSERT INTO {A}("id") SELECT "pgrst_body"."id" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL '
            '(SELECT "id" FROM json_to_recordset(pgrst_payload.json_data) AS _("id" integer)) pgrst_body '
            'ON CONFLICT("id") DO NOTHING RETURNING 1',
        ),
        (
            "PATCH", "/authors?id=eq.1", b'{"name":"x"}', "",
            f'UPDATE {A} SET "name" = "pgrst_body"."name" FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL '
            '(SELECT "name" FROM json_to_record(pgrst_payload.json_data) AS _("name" text)) pgrst_body '
            f'WHERE {A}."id" = $2 RETURNING 1',
        ),
        ("PATCH", "/authors", b"{}", "", f"SELECT NULL FROM {A} WHERE false"),
        ("PATCH", "/authors?select=id", b"[]", "return=representation", f'SELECT "authors"."id" FROM {A} WHERE false'),
        ("DELETE", "/authors?id=eq.1", b"", "", f'DELETE FROM {A} WHERE {A}."id" = $1 RETURNING 1'),
        (
            "DELETE", "/authors?select=name", b"", "return=representation",
            f'DELETE FROM {A} RETURNING {A}."id", {A}."name"',
        ),
    ],
)  # fmt: skip
def test_mutations(method: str, url: str, body: bytes, prefer: str, sql: str) -> None:
    assert source(method, url, body, prefer=prefer) == sql


def test_defaults_come_from_the_catalogue() -> None:
    text = source("POST", "/books?columns=id,title", b'{"id":1}', prefer="missing=default")
    assert "jsonb_build_object('id', nextval('api.books_id_seq'::regclass)) || pgrst_payload.json_data AS val" in text


def test_merging_upsert_counts_new_rows() -> None:
    found = statement("POST", "/authors", b'[{"id":1}]', prefer="resolution=merge-duplicates")
    assert 'DO UPDATE SET "id" = EXCLUDED."id" WHERE set_config(\'pgrst.inserted\'' in found.text
    assert "AS inserted FROM" in found.text
    put = statement("PUT", "/authors?id=eq.1", b'{"id":1}')
    assert put.args == (b'{"id":1}', b"1")
    assert '<> \'0\' AND "pgrst_body"."id" = $2 ON CONFLICT("id") DO UPDATE' in put.text


@pytest.mark.parametrize(
    ("method", "url", "body", "sql", "args"),
    [
        ("GET", "/rpc/nothing", b"", 'SELECT pgrst_call.pgrst_scalar FROM (SELECT "api"."nothing"() pgrst_scalar) pgrst_call', ()),
        (
            "GET", "/rpc/add?a=1&b=2", b"",
            'SELECT pgrst_call.pgrst_scalar FROM (SELECT "api"."add"("a" := $1::integer, "b" := $2::integer) '
            "pgrst_scalar) pgrst_call",
            (b"1", b"2"),
        ),
        (
            "GET", "/rpc/join_up?sep=-&parts=a&parts=b", b"",
            'SELECT pgrst_call.pgrst_scalar FROM (SELECT "api"."join_up"("sep" := $1::text, VARIADIC "parts" := '
            "$2::text[]) pgrst_scalar) pgrst_call",
            (b"-", b'{"a","b"}'),
        ),
        (
            "POST", "/rpc/table_of", b'{"n":1}',
            'SELECT "pgrst_call".* FROM (SELECT $1::json AS json_data) pgrst_payload, LATERAL (SELECT "n" FROM '
            'json_to_record(pgrst_payload.json_data) AS _("n" integer) LIMIT 1) pgrst_body, LATERAL '
            '"api"."table_of"("n" := pgrst_body."n") pgrst_call',
            (b'{"n":1}',),
        ),
        (
            "POST", "/rpc/whole", b'{"x":1}',
            'SELECT pgrst_call.pgrst_scalar FROM (SELECT "api"."whole"($1::json) pgrst_scalar) pgrst_call',
            (b'{"x":1}',),
        ),
    ],
)  # fmt: skip
def test_calls(method: str, url: str, body: bytes, sql: str, args: tuple[bytes, ...]) -> None:
    assert source(method, url, body) == sql
    assert statement(method, url, body).args == args


def test_bytes_travel_as_hexadecimal() -> None:
    found = statement("POST", "/rpc/bytes", b"\x00\xff", content_type="application/octet-stream")
    assert found.args == (b"\\x00ff",)


def test_bodies() -> None:
    def body(url: str, accept: str, method: str = "GET") -> str:
        found = re.search(r"page_total, (.*) AS body", statement(method, url, accept=accept).text)
        assert found is not None
        return found.group(1)

    assert body("/authors", "*/*") == "coalesce(json_agg(_postgrest_t), '[]')"
    assert body("/authors", "application/vnd.pgrst.object") == "coalesce(json_agg(_postgrest_t)->0, 'null')"
    assert body("/authors", "application/vnd.pgrst.array;nulls=stripped") == (
        "coalesce(json_strip_nulls(json_agg(_postgrest_t)), '[]')"
    )
    assert body("/rpc/add?a=1", "*/*") == "coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null')"
    assert body("/rpc/numbers", "*/*") == "coalesce(json_agg(_postgrest_t.pgrst_scalar), '[]')"
    assert body("/labels", "application/vnd.label") == '"api"."label_agg"(_postgrest_t::"api"."labels")'
    assert body("/authors", "text/html") == '"api"."html_agg"(_postgrest_t)'
    assert body("/authors", "*/*", "HEAD") == "NULL"
    assert body("/authors", "text/csv").endswith("'')")


def test_counts() -> None:
    plain = statement("GET", "/authors", prefer="count=exact").text
    assert "SELECT count(*) AS total_result_set" in plain
    limited = statement("GET", "/authors?limit=1&id=gt.2", prefer="count=exact")
    assert f'pgrst_source_count AS (SELECT 1 FROM {A} WHERE {A}."id" > $4)' in limited.text
    assert limited.sources == (1, LIMIT, OFFSET, 1)
    capped = statement("GET", "/authors", settings=replace(SETTINGS, max_rows=9), prefer="count=estimated")
    assert capped.args == (b"9", b"0", b"10")
    assert "LIMIT $3)" in capped.text


def test_counts_ask_for_inner_embeds() -> None:
    plan, _ = plan_of("GET", "/authors?select=books!inner(reviews!inner(id)),best_book(id)&best_book=is.null")
    assert isinstance(plan, RelationRead)
    assert planned_count(plan).text == (
        f'EXPLAIN (FORMAT JSON) SELECT 1 FROM {A} WHERE NOT EXISTS (SELECT 1 FROM "api"."best_book"'
        f'("authors"::{A}) AS "books_1") AND EXISTS (SELECT 1 FROM {B} AS "books_1" WHERE "books_1"."author_id" = '
        f'{A}."id" AND EXISTS (SELECT 1 FROM "api"."reviews" AS "reviews_2" WHERE "reviews_2"."book_id" = '
        '"books_1"."id"))'
    )


def test_explain() -> None:
    accept = 'application/vnd.pgrst.plan+json; for="text/csv"; options=analyze|buffers'
    assert statement("GET", "/authors", accept=accept).text.startswith("EXPLAIN (FORMAT JSON, ANALYZE, BUFFERS) WITH")


def test_sources_tell_values_from_shape() -> None:
    found = statement("GET", "/books?facts->a=eq.1&id=in.(1,2)&limit=3&or=(id.eq.9)")
    assert found.sources == (FIXED, 0, 1, FIXED, LIMIT, OFFSET)
    assert statement("POST", "/authors", b"{}").sources == (BODY,)


# --- the alphabet ----------------------------------------------------------------------------------------------------


def test_identifiers_and_constants() -> None:
    assert ident('a"b') == '"a""b"'
    assert ident("a\0b") == '"a"'
    assert literal("it's") == "'it''s'"
    assert literal("a\\b") == "E'a\\\\b'"


@pytest.mark.parametrize(
    ("word", "sql"),
    [
        ("int", "int"),
        ("Double  Precision", "double precision"),
        ("text", '"text"'),
        ("MyType", '"mytype"'),
        ("int; drop", '"int; drop"'),
        ("_int4", '"_int4"'),
    ],
)
def test_cast_types(word: str, sql: str) -> None:
    assert type_name(word) == sql


_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_CONSTANT = re.compile(r"E?'(?:[^']|'')*'")
_TOKEN = re.compile(r"\$\d+|[A-Za-z_][A-Za-z_0-9.]*|\d+|\S")
_VOCABULARY = """
with as select from where and or not null is distinct true false unknown any all like ilike order by asc desc nulls
first last limit offset group left inner join lateral on exists insert into values update set delete returning
conflict do nothing excluded. case when then end cast variadic explain format json jsonb text analyze verbose
settings buffers wal int integer date bytea count sum avg max min coalesce json_agg jsonb_agg row_to_json to_jsonb
json_strip_nulls nullif current_setting set_config to_tsvector to_tsquery plainto_tsquery phraseto_tsquery
websearch_to_tsquery unnest json_to_record json_to_recordset jsonb_to_record jsonb_to_recordset json_array_elements
jsonb_array_elements jsonb_build_object json_build_object json_build_array json_each_text json_object_keys
string_agg substring length nextval regclass st_asgeojson pgrst_source pgrst_source_count pgrst_call
pgrst_call.pgrst_scalar pgrst_scalar pgrst_body pgrst_body. pgrst_payload pgrst_payload.json_data json_data
pgrst_defaults pgrst_defaults.val val elem _ row _postgrest_t _postgrest_t.pgrst_scalar total_result_set page_total
location body response_headers response_status inserted pair pair.key pair.value first.row a a.k k r h s bigint bit
boolean char character dec decimal double precision float interval varying national nchar numeric real smallint time
timestamp varchar zone without pgrst_read
"""
_WORDS = frozenset(_VOCABULARY.split())
_CONSTANTS = frozenset(
    (
        "''",
        "'[]'",
        "'null'",
        "'0'",
        "'-1'",
        "'eq.'",
        "'is.null'",
        "','",
        "E'\\n'",
        "'type'",
        "'features'",
        "'FeatureCollection'",
        "'response.headers'",
        "'response.status'",
        "'pgrst.inserted'",
        "'id'",
        "'api.books_id_seq'",
    )
)
_PUNCTUATION = frozenset("(),.;*=<>+-|&~@:[]")


def strange_words(text: str) -> list[str]:
    """What is in a text that neither is quoted, nor a placeholder, nor one of SQL's or our own words."""
    bare = _QUOTED.sub(" ", text)
    strange = [one for one in _CONSTANT.findall(bare) if one not in _CONSTANTS]
    tokens = _TOKEN.findall(_CONSTANT.sub(" ", bare))
    return strange + [
        one
        for one in tokens
        if not (one.startswith("$") and len(one) > 1)
        and one.lower() not in _WORDS
        and one not in _PUNCTUATION
        and not one.isdigit()
    ]


_EVIL = st.sampled_from(["evilword", "'; drop table x --", '"', "a\\", "$1", "/*", "é", "x'y", "a.b", "\0", "E'"])
_NAMES = st.sampled_from(["id", "name", "title", "facts", "price", "tags", "author_id"]) | _EVIL | st.text(max_size=6)


def _q(name: str) -> str:
    return quote('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"')


@st.composite
def _urls(draw: st.DrawFn) -> str:
    table = draw(st.sampled_from(["books", "authors", "labels", "rpc/pick", "rpc/add", "rpc/table_of", "notes"]))
    column = _NAMES.map(_q)
    cast = st.sampled_from(["", "::int", "::text", "::double precision", "::evilword", "::a; drop"]).map(quote)
    path = st.sampled_from(["", "->evil", "->>'x", "->0", '->"a""b"'])
    fields = st.tuples(column, path, cast).map("".join)
    embeds = st.sampled_from(
        ["authors(*)", "reviews(*)", "labels(id)", "...authors(name)", "...reviews(stars)", "books(*)", "evil(*)"]
    )
    parts = ["select=" + ",".join(draw(st.lists(fields | embeds, max_size=4)))]
    operators = st.sampled_from(["eq.", "not.like.", "in.(", "fts(evilword).", "gt(any).", "is.null", "cs.", "match."])
    values = _EVIL.map(quote)
    filters = st.tuples(column, path, st.just("="), operators, values).map("".join)
    parts.extend(draw(st.lists(filters, max_size=3)))
    parts.append("or=(" + draw(column) + ".eq." + draw(values) + ")")
    parts.append("order=" + draw(column) + draw(path))
    parts.append("limit=" + draw(st.sampled_from(["1", "-1", "evil", "9" * 30])))
    return f"/{table}?" + "&".join(draw(st.lists(st.sampled_from(parts), unique=True)))


@settings(deadline=None, max_examples=300)
@given(
    _urls(),
    st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]),
    st.dictionaries(st.sampled_from(["id", "name", "title", "n", "a"]), _EVIL, max_size=3),
    st.sampled_from(["", "return=representation", "count=exact", "resolution=merge-duplicates", "missing=default"]),
    st.sampled_from(["*/*", "text/csv", "application/vnd.pgrst.object", "application/vnd.pgrst.plan", "text/html"]),
)
def test_no_text_of_a_user_is_in_a_statement(
    url: str, method: str, body: dict[str, str], prefer: str, accept: str
) -> None:
    with contextlib.suppress(RestError):
        _check_alphabet(statement(method, url, orjson.dumps(body), prefer=prefer, accept=accept))


def _check_alphabet(found: Statement) -> None:
    assert strange_words(found.text) == []
    assert len(found.args) == len(found.sources)
    assert {int(one) for one in re.findall(r"\$(\d+)", _CONSTANT.sub("", _QUOTED.sub("", found.text)))} == set(
        range(1, len(found.args) + 1)
    )


def test_the_alphabet_test_can_fail() -> None:
    assert strange_words("SELECT evilword FROM x") == ["evilword", "x"]
    assert strange_words("SELECT 'evil'") == ["'evil'"]


def test_samples_cover_every_kind_of_function() -> None:
    assert {one.name for one in FUNCTIONS} == set(SCHEMA.functions)
