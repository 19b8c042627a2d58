"""The document at the root, from the schema of a real database and for the rights of real roles."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import Any, cast

import asyncpg
import pytest

from harness.library import LIBRARY, ROLES
from harness.postgres import TestServer
from socle_platform.config.rest import ListenSettings, OpenApiSettings, RestSettings
from socle_rest.catalog import load_schema
from socle_rest.openapi import ACCESSIBLE, Accessible, OpenApiDocuments, parse_accessible, render_openapi
from socle_rest.schema import Column, QualifiedName, RelationKind, Schema, Table

SETTINGS = RestSettings(schemas=("api",))


@pytest.fixture(scope="module")
def library(server: TestServer) -> tuple[Schema, Accessible]:
    """The library's schema, and what a reader may use of it."""

    async def read() -> tuple[Schema, Accessible]:
        async with server.clone("template0") as name:
            await server.run(name, *ROLES, LIBRARY)
            connection = await asyncpg.connect(server.dsn(name, "library_login"))
            try:
                async with connection.transaction():
                    schema = await load_schema(connection, ["api"])
                async with connection.transaction():
                    await connection.execute("set local role library_reader")
                    accessible = parse_accessible(await connection.fetchval(ACCESSIBLE, "api"))
                async with connection.transaction():
                    nothing = parse_accessible(await connection.fetchval(ACCESSIBLE, "no such schema"))
                assert nothing == Accessible(frozenset(), frozenset())
            finally:
                await connection.close()
            return schema, accessible

    return asyncio.run(read())


def render(schema: Schema, accessible: Accessible | None = None, settings: RestSettings = SETTINGS) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(render_openapi(schema, "api", settings, accessible, "17")))


@pytest.fixture(scope="module")
def document(library: tuple[Schema, Accessible]) -> dict[str, Any]:
    return render(library[0])


def test_the_schemas_comment_is_title_and_description(document: dict[str, Any]) -> None:
    assert document["swagger"] == "2.0"
    assert document["info"] == {
        "title": "The library",
        "description": "Books and\nwho reads them",
        "version": "17",
    }
    assert (document["host"], document["basePath"], document["schemes"]) == ("0.0.0.0:3000", "/", ["http"])
    assert "securityDefinitions" not in document


def test_paths_of_tables_follow_what_they_can_do(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert set(paths["/authors"]) == {"get", "post", "patch", "delete"}
    assert set(paths["/totals"]) == {"get"}
    assert paths["/authors"]["get"]["summary"] == "Authors"
    assert paths["/authors"]["get"]["description"] == "People who write"
    assert paths["/covers"]["get"]["parameters"][:3] == [
        {"$ref": "#/parameters/rowFilter.covers.book_id"},
        {"$ref": "#/parameters/rowFilter.covers.image"},
        {"$ref": "#/parameters/select"},
    ]
    assert "summary" not in paths["/books"]["get"]
    assert paths["/"]["get"]["tags"] == ["Introspection"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = re.findall(r'"\$ref": "#/(\w+)/([^"]+)"', json.dumps(document))
    assert len(found) > 100
    for kind, name in found:
        assert name in document[kind], name


def test_properties_tell_types_keys_defaults_and_choices(document: dict[str, Any]) -> None:
    authors = document["definitions"]["authors"]
    assert authors["required"] == ["id", "name", "mood", "title"]
    properties = authors["properties"]
    assert properties["id"] == {
        "type": "integer",
        "format": "int64",
        "description": "Note:\nThis is a Primary Key.<pk/>",
    }
    assert properties["name"] == {
        "type": "string",
        "format": "character varying",
        "maxLength": 80,
        "description": "As on the cover",
    }
    assert properties["mood"] == {
        "type": "string",
        "format": "api.mood",
        "enum": ["calm", "wild"],
        "default": "calm",
    }
    books = document["definitions"]["books"]["properties"]
    assert books["tags"] == {"type": "array", "format": "text[]", "items": {"type": "string"}}
    assert books["author_id"]["description"] == (
        "Note:\nThis is a Foreign Key to `authors.id`.<fk table='authors' column='id'/>"
    )
    both = document["definitions"]["covers"]["properties"]["book_id"]["description"]
    assert both.startswith("Note:\nThis is a Primary Key.<pk/>\nThis is a Foreign Key to `books.id`.")


def test_functions_take_a_body_and_if_harmless_a_query(document: dict[str, Any]) -> None:
    assert set(document["paths"]["/rpc/add"]) == {"get", "post"}
    assert set(document["paths"]["/rpc/swallow"]) == {"post"}
    pair = document["paths"]["/rpc/rows"]["post"]["parameters"][0]["schema"]
    assert pair == {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "format": "int32"}}}
    joined = document["paths"]["/rpc/join_up"]["post"]["parameters"][0]["schema"]["properties"]
    assert joined["parts"] == {"type": "array", "format": "text[]", "items": {"type": "string"}}


def test_variadic_arguments_repeat_and_arrays_are_text_in_the_query(server: TestServer) -> None:
    async def read() -> Schema:
        async with server.clone("template0") as name:
            await server.run(
                name,
                *ROLES,
                "create schema api",
                "create function api.v(a int[], j json, variadic v int[]) "
                "returns int language sql stable as 'select 1'",
            )
            connection = await asyncpg.connect(server.dsn(name))
            async with connection.transaction():
                schema = await load_schema(connection, ["api"])
            await connection.close()
            return schema

    array, anything, variadic = render(asyncio.run(read()))["paths"]["/rpc/v"]["get"]["parameters"]
    assert array == {"name": "a", "required": True, "in": "query", "type": "string", "format": "integer[]"}
    assert anything == {"name": "j", "required": True, "in": "query", "type": "string", "format": "json"}
    assert variadic == {
        "name": "v",
        "required": True,
        "in": "query",
        "type": "array",
        "items": {"type": "integer", "format": "int32"},
        "collectionFormat": "multi",
    }


def test_only_what_the_caller_may_use(library: tuple[Schema, Accessible]) -> None:
    schema, accessible = library
    document = render(schema, accessible)
    assert set(document["definitions"]) == {"authors", "books"}
    assert "/rpc/add" in document["paths"]
    assert "/rpc/shout" not in document["paths"]
    assert "/rpc/shout" in render(schema)["paths"]
    assert [name for name in document["parameters"] if name.startswith("rowFilter.covers")] == []


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://example.com/base/path", ("example.com:443", "/base/path", ["https"])),
        ("http://example.com", ("example.com:80", "/", ["http"])),
        ("https://example.com:8443/", ("example.com:8443", "/", ["https"])),
    ],
)
def test_behind_a_proxy(uri: str, expected: tuple[str, str, list[str]]) -> None:
    settings = replace(SETTINGS, openapi=OpenApiSettings(server_proxy_uri=uri))
    document = render(Schema(("api",)), settings=settings)
    assert (document["host"], document["basePath"], document["schemes"]) == expected


def test_own_address_and_security() -> None:
    settings = replace(SETTINGS, openapi=OpenApiSettings(security_active=True), server=ListenSettings("10.0.0.1", 8000))
    document = render(Schema(("api",)), settings=settings)
    assert document["host"] == "10.0.0.1:8000"
    assert document["security"] == [{"JWT": []}]
    assert document["securityDefinitions"]["JWT"]["in"] == "header"
    assert (document["info"]["title"], document["definitions"]) == ("PostgREST API", {})


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("text", "'default'::text", "default"),
        ("boolean", "false", False),
        ("integer", "42", 42),
        ("numeric", "42.2", 42.2),
        ("date", "'1900-01-01'::date", "1900-01-01"),
        ("timestamp with time zone", "now()", "now()"),
        ("bigint", "nextval('a_seq'::regclass)", None),
        ("text[]", "'{}'::text[]", None),
        ("jsonb", "'{}'::jsonb", None),
        ("text", "'a\"b'::text", None),
        ("text", None, None),
    ],
)
def test_defaults(kind: str, default: str | None, expected: object) -> None:
    column = Column("c", kind, kind, nullable=True, default=default)
    table = Table(QualifiedName("api", "t"), RelationKind.TABLE, {"c": column})
    document = render(Schema(("api",), tables={table.name: table}))
    assert document["definitions"]["t"]["properties"]["c"].get("default") == expected


def test_documents_are_kept_per_generation_and_rights(library: tuple[Schema, Accessible]) -> None:
    schema, accessible = library
    documents = OpenApiDocuments("17")
    first = documents.document(1, schema, "api", SETTINGS, accessible)
    assert documents.document(1, schema, "api", SETTINGS, Accessible(accessible.tables, accessible.functions)) is first
    assert documents.document(1, schema, "api", SETTINGS, None) != first
    assert documents.document(2, Schema(("api",)), "api", SETTINGS, accessible) != first
    for generation in range(3, 12):
        documents.document(generation, Schema(("api",)), "api", SETTINGS, None)
    assert documents.document(1, schema, "api", SETTINGS, accessible) is not first
