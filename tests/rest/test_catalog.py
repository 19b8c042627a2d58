"""The catalogue queries against a real server: every kind of fact the schema cache holds."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import asyncpg
import pytest

from harness.library import LIBRARY, ROLES
from harness.postgres import TestServer
from socle_rest.catalog import load_schema
from socle_rest.schema import (
    Cardinality,
    ComputedRelationship,
    MediaHandler,
    Parameter,
    QualifiedName,
    RelationKind,
    Relationship,
    ReturnType,
    RoleSettings,
    Schema,
    Volatility,
)


def api(name: str) -> QualifiedName:
    return QualifiedName("api", name)


async def read_schema(server: TestServer, database: str, *names: str, role: str = "library_login") -> Schema:
    connection = await asyncpg.connect(server.dsn(database, role))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await load_schema(
                connection, names, extra_search_path=["public"], hoisted=["statement_timeout", "work_mem"]
            )
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def library(server: TestServer) -> Schema:
    async def read() -> Schema:
        async with server.clone("template0") as name:
            await server.run(name, *ROLES, LIBRARY)
            return await read_schema(server, name, "api", "absent")

    return asyncio.run(read())


def cardinalities(schema: Schema, near: str, target: str, hint: str | None = None) -> list[Cardinality | str]:
    return [
        one.cardinality if isinstance(one, Relationship) else "computed"
        for one in schema.find_relationships(api(near), target, hint)
    ]


def test_relations_are_those_of_the_exposed_schema_without_partitions(library: Schema) -> None:
    kinds = {name.name: table.kind for name, table in library.tables.items()}
    assert {name.schema for name in library.tables} == {"api"}
    assert kinds["authors"] is RelationKind.TABLE
    assert kinds["titles"] is RelationKind.VIEW
    assert kinds["cached_authors"] is RelationKind.MATERIALIZED_VIEW
    assert kinds["visits"] is RelationKind.PARTITIONED_TABLE
    assert "visits_2026" not in kinds
    assert (library.names, library.missing) == (("api", "absent"), ("absent",))
    assert library.server_version >= 150000
    assert library.descriptions == {"api": "The library\n\nBooks and\nwho reads them"}


def test_columns_carry_types_defaults_and_limits(library: Schema) -> None:
    authors = library.tables[api("authors")]
    assert list(authors.columns) == ["id", "name", "mail", "mood", "title", "odd, name"]
    assert authors.description == "Authors\nPeople who write"
    key, name, mail, mood, title, odd = authors.columns.values()
    assert (key.type, key.nullable, key.default) == ("bigint", False, "nextval('api.authors_id_seq')")
    assert (name.type, name.nominal_type, name.max_length) == ("character varying", "character varying(80)", 80)
    assert (name.nullable, name.description) == (False, "As on the cover")
    assert (mail.type, mail.nominal_type, mail.nullable) == ("text", "api.email", True)
    assert (mood.type, mood.enum, mood.default) == ("api.mood", ("calm", "wild"), "'calm'::api.mood")
    assert (title.type, title.nullable, title.default) == ("character varying", False, "'none'::character varying")
    assert title.max_length == 20
    assert (odd.type, odd.default, odd.max_length) == ("text", "'a,b'::text", None)


def test_generated_columns_have_no_default_and_bits_have_a_length(library: Schema) -> None:
    books = library.tables[api("books")]
    assert books.columns["twice"].default is None
    assert (books.columns["code"].max_length, books.columns["code"].type) == (3, "bit")
    assert (books.columns["tags"].type, books.columns["tags"].default) == ("text[]", "'{}'::text[]")


def test_what_can_be_written(library: Schema) -> None:
    def writable(name: str) -> tuple[bool, bool, bool]:
        table = library.tables[api(name)]
        return table.insertable, table.updatable, table.deletable

    assert writable("authors") == writable("notes") == writable("visits") == (True, True, True)
    assert writable("totals") == writable("cached_authors") == writable("either") == (False, False, False)


def test_primary_keys_of_tables_and_of_views_that_show_them(library: Schema) -> None:
    keys = {name.name: table.primary_key for name, table in library.tables.items()}
    assert keys["loans"] == ("number", "place")
    assert keys["titles"] == keys["outer_titles"] == ("book",)
    assert keys["notes"] == ("id",)
    assert keys["cached_authors"] == ("id",)
    assert keys["totals"] == keys["either"] == ()


def test_foreign_keys_from_both_sides(library: Schema) -> None:
    assert cardinalities(library, "loans", "books") == [Cardinality.MANY_TO_ONE]
    assert cardinalities(library, "books", "loans") == [Cardinality.ONE_TO_MANY]
    assert cardinalities(library, "covers", "books") == [Cardinality.ONE_TO_ONE]
    assert cardinalities(library, "books", "covers") == [Cardinality.ONE_TO_ONE]
    (fine,) = library.find_relationships(api("fines"), "loans", None)
    assert isinstance(fine, Relationship)
    assert fine.columns == (("place", "place"), ("number", "number"))
    (cover,) = library.find_relationships(api("books"), "covers", None)
    assert isinstance(cover, Relationship)
    assert (cover.is_referenced, cover.columns) == (True, (("id", "book_id"),))


def test_two_keys_to_one_table_are_ambiguous_until_hinted(library: Schema) -> None:
    assert cardinalities(library, "books", "authors") == [Cardinality.MANY_TO_ONE] * 2
    for hint in ("author_id", "books_author_id_fkey"):
        (one,) = library.find_relationships(api("books"), "authors", hint)
        assert isinstance(one, Relationship)
        assert one.columns == (("author_id", "id"),)
    assert cardinalities(library, "books", "translator_id") == [Cardinality.MANY_TO_ONE]
    assert cardinalities(library, "books", "books_translator_id_fkey") == [Cardinality.MANY_TO_ONE]


def test_self_references(library: Schema) -> None:
    assert cardinalities(library, "books", "books") == [Cardinality.ONE_TO_MANY]
    assert cardinalities(library, "books", "previous_id") == [Cardinality.MANY_TO_ONE]
    assert cardinalities(library, "books", "books", "previous_id") == [Cardinality.ONE_TO_MANY]


def test_junctions_join_when_their_key_holds_both_foreign_keys(library: Schema) -> None:
    (one,) = library.find_relationships(api("books"), "tags", None)
    assert isinstance(one, Relationship)
    assert one.cardinality is Cardinality.MANY_TO_MANY
    assert one.junction is not None
    assert one.junction.table == api("book_tags")
    assert (one.junction.near, one.junction.far) == ((("id", "book_id"),), (("id", "tag_id"),))
    assert cardinalities(library, "tags", "books", "book_tags") == [Cardinality.MANY_TO_MANY]
    assert cardinalities(library, "authors", "tags") == []


def test_views_inherit_keys_once_per_name_they_show_them_under(library: Schema) -> None:
    assert cardinalities(library, "titles", "books") == [Cardinality.ONE_TO_MANY]
    writers = [one for one in library.relationships_of(api("titles")) if one.target == api("cached_authors")]
    assert {one.columns for one in writers if isinstance(one, Relationship)} == {
        (("signer", "id"),),
        (("writer", "id"),),
    }
    assert all(isinstance(one, Relationship) and one.table_is_view and one.target_is_view for one in writers)
    assert cardinalities(library, "loans", "titles") == [Cardinality.MANY_TO_ONE]
    assert cardinalities(library, "loans", "outer_titles") == [Cardinality.MANY_TO_ONE]


def test_hidden_tables_are_reached_through_views_only(library: Schema) -> None:
    (one,) = library.find_relationships(api("books"), "notes", None)
    assert isinstance(one, Relationship)
    assert (one.target, one.constraint, one.target_is_view) == (api("notes"), "notes_book_id_fkey", True)
    assert not [one for ones in library.relationships.values() for one in ones if one.target.schema == "hidden"]


def test_functions_of_a_row_are_relationships_or_fields(library: Schema) -> None:
    (works,) = library.find_relationships(api("authors"), "works", None)
    assert works == ComputedRelationship(api("works"), api("authors"), api("books"), to_one=False)
    (author,) = library.find_relationships(api("books"), "author_of", None)
    assert isinstance(author, ComputedRelationship)
    assert author.to_one
    assert dict(library.tables[api("authors")].computed) == {"full_name": "text"}
    assert dict(library.tables[api("books")].computed) == {}


def test_a_function_named_like_the_target_replaces_the_foreign_keys(library: Schema) -> None:
    (one,) = library.find_relationships(api("titles"), "authors", None)
    assert isinstance(one, ComputedRelationship)


def test_functions_with_their_arguments(library: Schema) -> None:
    two, three = library.overloads(api("add"))
    assert two.parameters == (
        Parameter("a", "integer", "integer"),
        Parameter("b", "integer", "integer", required=False),
    )
    assert (two.volatility, two.isolation, two.settings) == (
        Volatility.IMMUTABLE,
        "serializable",
        (("statement_timeout", "3s"),),
    )
    assert (two.description, two.returns) == ("Adds\n\nTwo numbers", ReturnType(QualifiedName("pg_catalog", "int4")))
    assert (three.volatility, len(three.parameters)) == (Volatility.STABLE, 3)
    (joined,) = library.overloads(api("join_up"))
    assert joined.has_variadic
    assert joined.parameters[0] == Parameter("sep", "character", "character varying")
    assert joined.parameters[1].variadic


def test_unnamed_arguments_make_a_function_callable_only_alone(library: Schema) -> None:
    assert [one.parameters for one in library.overloads(api("shout"))] == [(Parameter("", "text", "text"),)]
    assert library.overloads(api("nameless")) == ()


def test_output_arguments_make_rows_and_take_no_input(library: Schema) -> None:
    (pair,) = library.overloads(api("pair"))
    assert [one.name for one in pair.parameters] == ["n"]
    assert pair.returns_single
    assert pair.returns.is_composite
    (rows,) = library.overloads(api("rows"))
    assert rows.returns.is_set
    assert rows.returns.is_composite
    assert [one.name for one in rows.parameters] == ["n"]


def test_results_that_are_rows_of_a_relation_or_nothing(library: Schema) -> None:
    (some,) = library.overloads(api("some_books"))
    assert (some.relation, some.returns.type) == (api("books"), api("books"))
    (nothing,) = library.overloads(api("swallow"))
    assert nothing.returns_void
    assert library.overloads(api("on_change")) == ()
    assert library.overloads(api("clean")) == ()
    assert library.overloads(api("book_agg")) == ()


def test_representations(library: Schema) -> None:
    assert dict(library.representations) == {
        ("api.email", "json"): api("json"),
        ("json", "api.email"): api("email"),
        ("text", "api.email"): api("email"),
    }


def test_media_handlers(library: Schema) -> None:
    page = library.handler(api("page"), "text/html", default_select=True)
    assert page == MediaHandler(api("text/html"), api("page"), "text/html", "text/html")
    book = library.handler(api("books"), "application/vnd.book", default_select=True)
    assert book is not None
    assert book.function == api("book_agg")
    assert library.handler(api("books"), "application/vnd.book", default_select=False) is None


def test_role_settings_of_the_roles_the_login_may_take(library: Schema) -> None:
    assert library.role("library_reader") == RoleSettings((("statement_timeout", "7s"),), "repeatable read")
    assert library.role("library_stranger") == RoleSettings()


async def test_settings_that_only_a_superuser_may_set_are_left_out(server: TestServer) -> None:
    async with server.clone("template0") as name:
        await server.run(
            name,
            *ROLES,
            f'alter role library_reader in database "{name}" reset all',
            "alter role library_reader set log_lock_waits = on",
        )
        try:
            schema = await read_schema(server, name, "public")
        finally:
            await server.run(name, "alter role library_reader reset log_lock_waits")
        assert ("log_lock_waits", "on") not in schema.role("library_reader").settings


async def test_a_role_with_nothing_but_such_settings_has_none(server: TestServer) -> None:
    forbidden = "do $$ begin create role library_forbidden; exception when duplicate_object then null; end $$"
    async with server.clone("template0") as name:
        await server.run(
            name,
            *ROLES,
            forbidden,
            "grant library_forbidden to library_login",
            "alter role library_forbidden set log_min_messages = 'fatal'",
        )
        schema = await read_schema(server, name, "public")
        assert schema.role("library_forbidden") == RoleSettings()


async def test_view_cycles_and_hostile_names_do_not_confuse_the_tracing(server: TestServer) -> None:
    async with server.clone("template0") as name:
        await server.run(
            name,
            *ROLES,
            'create table public."a{b}" ("x:resno 9 (y)" int primary key, "back\\slash" int, "q""uote" text)',
            'create view public."v,1" as select "back\\slash" as "{TARGETENTRY", "x:resno 9 (y)" as "}" '
            'from public."a{b}"',
            'create view public.v2 as with c as (select * from public."v,1") select c."}", (select 1) from c',
        )
        schema = await read_schema(server, name, "public")
        assert schema.tables[QualifiedName("public", "v,1")].primary_key == ("}",)
        assert schema.tables[QualifiedName("public", "v2")].primary_key == ("}",)


async def test_a_thousand_tables_load_fast_and_stay_small(server: TestServer) -> None:
    many = """
    do $$ begin
        for i in 1..1000 loop
            execute format('create table public.t%s (id bigint generated by default as identity primary key,
                name varchar(80) not null default '''', made timestamptz not null default now(), data jsonb,
                n1 int, n2 int, n3 numeric, c1 text, c2 text, c3 text, up bigint %s)',
                i, case when i > 1 then 'references public.t' || (i - 1) else '' end);
        end loop;
        for i in 1..100 loop
            execute format('create view public.v%s as select id, name, up from public.t%s where n1 > 3', i, i);
        end loop;
    end $$"""
    async with server.clone("template0") as name:
        await server.run(name, *ROLES, many)
        started = time.process_time()
        schema = await asyncio.wait_for(read_schema(server, name, "public"), timeout=20)
        cpu = time.process_time() - started
        assert len(schema.tables) == 1100
        assert cpu < 1.0  # of this process: the box may be busy, the measured time of both sides is about half of that
        del schema
        tracemalloc.start()
        try:
            schema = await read_schema(server, name, "public")
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(schema.tables) == 1100
        assert held < 40_000_000
