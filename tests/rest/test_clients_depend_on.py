# ruff: noqa: E501 (a request is easier to read on one line)
"""What the official Supabase clients depend on (contract rest.md §18): each row, on the wire as the clients send it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from postgrest import APIError, SyncPostgrestClient

from harness.bookshop import BOOKSHOP, ROLES
from harness.postgres import TestServer
from harness.rest_service import Answer, RestService, running_rest
from socle_platform.keys import Keyring, secret_key

SECRET = "s" * 40
JSON = ("Content-Type", "application/json")
OBJECT = ("Accept", "application/vnd.pgrst.object+json")
JSON_TYPE = "application/json; charset=utf-8"

BEHAVIOURS = {
    "select, count, head": ("test_select_count_and_head", "test_counts_with_head", "test_select_keeps_quoted_blanks"),
    "insert, upsert, update, delete": (
        "test_bulk_insert_names_its_columns",
        "test_insert_says_nothing_unless_asked",
        "test_default_to_null_false",
        "test_upsert",
        "test_update_and_delete",
        "test_the_python_client_always_says_what_to_return",
    ),
    "single, maybeSingle": ("test_single", "test_maybe_single", "test_maybe_single_of_older_releases"),
    "csv, geojson, explain": ("test_csv", "test_geojson", "test_explain"),
    "rpc": ("test_rpc_by_post", "test_rpc_by_get", "test_rpc_head"),
    "retries": ("test_retries", "test_a_503_tells_when_to_come_back", "test_nothing_permanent_is_a_503"),
    "empty 404": ("test_every_404_has_an_error_object",),
    "schema": ("test_schema",),
    "or, not, referencedTable": ("test_or_and_not", "test_referenced_table"),
    "maxAffected, rollback": ("test_max_affected", "test_rollback"),
    "counts": ("test_counts_are_after_the_slash",),
    # clients.md §3: what is common to all of them
    "status text": ("test_status_texts",),
    "four keys in every error": ("test_errors_as_the_python_client_validates_them",),
    "stripNulls": ("test_strip_nulls",),
    "heap order": ("test_rows_come_as_they_lie",),
    "request lines of 16 KiB": ("test_long_request_lines",),
    "bigint as text": ("test_big_numbers_as_text",),
    "the key as a token": ("test_tokens_of_the_clients",),
}
"""Row of the contract → the tests of this module that prove it."""

TOTAL = """create function shop.total(numbers int[]) returns bigint language sql immutable as
    $$ select sum(n) from unnest(numbers) n $$"""


@pytest.fixture(scope="module")
def service(server: TestServer) -> Iterator[RestService]:
    """The bookshop, as the clients' own test server is set up."""
    name = "clients_of_run"

    async def prepare() -> None:
        await server.run("postgres", *ROLES)
        await server.make_template("template_bookshop", "template0", BOOKSHOP, "analyze")
        await server.run("postgres", f"drop database if exists {name} with (force)")
        await server.run("postgres", f"create database {name} template template_bookshop")
        await server.run(name, TOTAL)

    asyncio.run(prepare())
    environ = {
        "PGRST_DB_URI": server.dsn(name, "shop_login"),
        "PGRST_DB_ANON_ROLE": "shop_anon",
        "PGRST_DB_SCHEMAS": "shop,other",
        "PGRST_DB_TX_END": "rollback-allow-override",
        "PGRST_DB_PLAN_ENABLED": "true",
        "PGRST_JWT_SECRET": SECRET,
    }
    with running_rest(environ) as running:
        yield running


@pytest.fixture
def python(service: RestService) -> Iterator[SyncPostgrestClient]:
    """The official Python client."""
    with SyncPostgrestClient(service.origin, schema="shop") as client:
        yield client


def ask(service: RestService, method: str, target: str, body: object = b"", *headers: tuple[str, str]) -> Answer:
    return service.ask(method, target, body, headers)


# --- .select(cols, {count, head}) ------------------------------------------------------------------------------------


def test_select_count_and_head(service: RestService, python: SyncPostgrestClient) -> None:
    answer = ask(service, "GET", "/authors?select=id,name&order=id.asc&limit=2", b"", ("Prefer", "count=exact"))
    assert (answer.status, answer.headers["content-range"]) == (206, "0-1/3")
    assert answer.headers["preference-applied"] == "count=exact"
    assert answer.json == [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}]
    assert python.from_("authors").select("id", count="exact").limit(1).execute().count == 3  # type: ignore[arg-type]  # the client takes its enumeration's values as text


@pytest.mark.parametrize("kind", ["exact", "planned", "estimated"])
def test_counts_with_head(service: RestService, kind: str) -> None:
    answer = ask(service, "HEAD", "/authors?select=*", b"", ("Prefer", f"count={kind}"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-range"] == "0-2/3"
    assert "content-length" not in answer.headers


def test_select_keeps_quoted_blanks(service: RestService) -> None:
    """Clients take blanks away, but not those inside quotes."""
    answer = ask(service, "GET", "/authors?select=%22the%20name%22:name&id=eq.1")
    assert answer.json == [{"the name": "Ada"}]


# --- writing ---------------------------------------------------------------------------------------------------------


def test_bulk_insert_names_its_columns(service: RestService) -> None:
    rows = [{"id": 10, "name": "X"}, {"id": 11, "name": "Y", "born": "2000-01-01"}]
    columns = quote('"id","name","born"')
    answer = ask(service, "POST", f"/authors?columns={columns}&select=*", rows, JSON, ("Prefer", "return=representation"))  # fmt: skip
    assert answer.status == 201
    assert answer.json == [{"id": 10, "name": "X", "born": None}, {"id": 11, "name": "Y", "born": "2000-01-01"}]


def test_insert_says_nothing_unless_asked(service: RestService) -> None:
    answer = ask(service, "POST", "/authors", {"id": 10, "name": "X"}, JSON)
    assert (answer.status, answer.reason, answer.body) == (201, "Created", b"")
    assert answer.headers["content-length"] == "0"
    assert "location" not in answer.headers


def test_default_to_null_false(service: RestService) -> None:
    rows = [{"id": 10}, {"id": 11, "title": "given"}]
    prefer = ("Prefer", "missing=default,return=representation")
    answer = ask(service, "POST", "/books?columns=%22id%22,%22title%22&select=title", rows, JSON, prefer)
    assert answer.json == [{"title": "untitled"}, {"title": "given"}]
    assert answer.headers["preference-applied"] == "missing=default, return=representation"


def test_upsert(service: RestService) -> None:
    rows = [{"id": 1, "name": "New"}, {"id": 10, "name": "X"}]
    merge = ("Prefer", "resolution=merge-duplicates,return=representation")
    answer = ask(service, "POST", "/authors?on_conflict=id&columns=%22id%22,%22name%22&select=id,name", rows, JSON, merge)  # fmt: skip
    assert (answer.status, answer.json) == (201, rows)
    ignore = ("Prefer", "resolution=ignore-duplicates,return=representation")
    answer = ask(service, "POST", "/authors?on_conflict=id&columns=%22id%22,%22name%22&select=id,name", rows, JSON, ignore)  # fmt: skip
    assert (answer.status, answer.json) == (201, [{"id": 10, "name": "X"}])
    answer = ask(service, "POST", "/authors?on_conflict=id", rows[:1], JSON, ("Prefer", "resolution=merge-duplicates"))
    assert (answer.status, answer.body) == (200, b"")


def test_update_and_delete(service: RestService) -> None:
    answer = ask(service, "PATCH", "/authors?id=eq.1", {"name": "New"}, JSON)
    assert (answer.status, answer.reason, answer.body) == (204, "No Content", b"")
    answer = ask(service, "PATCH", "/authors?id=eq.1&select=name", {"name": "New"}, JSON, ("Prefer", "return=representation"))  # fmt: skip
    assert (answer.status, answer.json) == (200, [{"name": "New"}])
    answer = ask(service, "DELETE", "/reviews?id=eq.1", b"", JSON)
    assert (answer.status, answer.body) == (204, b"")
    answer = ask(service, "DELETE", "/reviews?id=gt.1&select=id", b"{}", JSON, ("Prefer", "return=representation"))
    assert (answer.status, answer.json) == (200, [{"id": 2}, {"id": 3}])
    answer = ask(service, "DELETE", "/reviews?id=eq.99&select=id", b"", JSON, ("Prefer", "return=representation"))
    assert (answer.status, answer.json) == (200, [])


def test_the_python_client_always_says_what_to_return(python: SyncPostgrestClient) -> None:
    found: Any = python.from_("authors").insert({"id": 10, "name": "X"}).execute()
    assert found.data == [{"id": 10, "name": "X", "born": None}]
    found = python.from_("authors").update({"name": "Y"}).eq("id", 1).execute()
    assert found.data == [{"id": 1, "name": "Y", "born": "1815-12-10"}]
    assert len(python.from_("reviews").delete().eq("id", 1).execute().data) == 1
    assert python.from_("authors").upsert({"id": 1, "name": "Z"}, on_conflict="id").execute().data


# --- .single(), .maybeSingle() ---------------------------------------------------------------------------------------


def test_single(service: RestService) -> None:
    answer = ask(service, "GET", "/authors?select=name&id=eq.1", b"", OBJECT)
    assert (answer.status, answer.json) == (200, {"name": "Ada"})
    assert answer.headers["content-type"] == "application/vnd.pgrst.object+json; charset=utf-8"
    answer = ask(service, "GET", "/authors?select=name", b"", OBJECT)
    assert (answer.status, answer.reason) == (406, "Not Acceptable")
    assert answer.json == {
        "code": "PGRST116",
        "message": "Cannot coerce the result to a single JSON object",
        "details": "The result contains 3 rows",
        "hint": None,
    }


def test_maybe_single(service: RestService) -> None:
    """The client reads an array and judges it itself, so no row is an empty array and never an error."""
    answer = ask(service, "GET", "/authors?select=name&id=eq.99", b"", ("Accept", "application/json"))
    assert (answer.status, answer.json) == (200, [])
    answer = ask(service, "PATCH", "/authors?select=name&id=eq.99", {"name": "x"}, JSON, ("Prefer", "return=representation"))  # fmt: skip
    assert (answer.status, answer.json) == (200, [])


def test_maybe_single_of_older_releases(service: RestService) -> None:
    answer = ask(service, "GET", "/authors?select=name&id=eq.99", b"", OBJECT)
    assert (answer.status, answer.code) == (406, "PGRST116")
    assert "0 rows" in answer.json["details"]


# --- .csv(), .geojson(), .explain() ----------------------------------------------------------------------------------


def test_csv(service: RestService) -> None:
    answer = ask(service, "GET", "/authors?select=id,name&order=id", b"", ("Accept", "text/csv"))
    assert (answer.status, answer.body) == (200, b"id,name\n1,Ada\n2,Bob\n3,Cyd")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"


def test_geojson(service: RestService) -> None:
    """Without PostGIS there is no such function, which is a 404 with an error object."""
    answer = ask(service, "GET", "/authors", b"", ("Accept", "application/geo+json"))
    assert (answer.status, answer.code) == (404, "42883")
    assert "st_asgeojson" in answer.json["message"].lower()


def test_explain(service: RestService) -> None:
    """With the empty option list and the trailing semicolon that supabase-js sends."""
    plan = 'application/vnd.pgrst.plan+{}; for="application/json"; options={};'
    answer = ask(service, "GET", "/authors?select=id", b"", ("Accept", plan.format("text", "")))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith('application/vnd.pgrst.plan+text; for="application/json"')
    assert b"cost=" in answer.body
    answer = ask(service, "GET", "/authors?select=id", b"", ("Accept", plan.format("json", "analyze|verbose")))
    assert answer.json[0]["Plan"]["Actual Rows"] == 1


# --- .rpc(fn, args, {get, head, count}) ------------------------------------------------------------------------------


def test_rpc_by_post(service: RestService, python: SyncPostgrestClient) -> None:
    answer = ask(service, "POST", "/rpc/add", {"a": 1, "b": 2}, JSON)
    assert (answer.status, answer.json) == (200, 3)
    assert ask(service, "POST", "/rpc/add", {"a": 1}, JSON).json == 2
    answer = ask(service, "POST", "/rpc/nothing", {}, JSON)
    assert (answer.status, answer.body) == (204, b"")
    answer = ask(service, "POST", "/rpc/books_over?select=id&price=lt.20", {"p": 8}, JSON, ("Prefer", "count=exact"))
    assert (answer.json, answer.headers["content-range"]) == ([{"id": 1}], "0-0/1")
    assert python.rpc("add", {"a": "2", "b": "3"}).execute().data == 5


def test_rpc_by_get(service: RestService) -> None:
    """Arrays are rendered as PostgreSQL writes them; arguments that are undefined are left out."""
    assert ask(service, "GET", "/rpc/add?a=4").json == 5
    assert ask(service, "GET", f"/rpc/total?numbers={quote('{1,2,3}')}").json == 6
    assert ask(service, "GET", "/rpc/books_over?p=8&select=id&limit=1").json == [{"id": 1}]


def test_rpc_head(service: RestService) -> None:
    answer = ask(service, "HEAD", "/rpc/books_over?p=4", b"", ("Prefer", "count=exact"))
    assert (answer.status, answer.body, answer.headers["content-range"]) == (200, b"", "0-2/3")
    answer = ask(service, "POST", "/rpc/echo", {"a": {"b": 1}}, JSON, ("Prefer", "return=minimal"))
    assert answer.status in {200, 204}


# --- retries ---------------------------------------------------------------------------------------------------------


def test_retries(service: RestService) -> None:
    """A repeated request is answered like the first, and browsers may send its header."""
    answer = ask(service, "GET", "/authors?select=id&id=eq.1", b"", ("X-Retry-Count", "2"), ("Origin", "http://x.test"))
    assert (answer.status, answer.json) == (200, [{"id": 1}])
    preflight = ask(
        service,
        "OPTIONS",
        "/authors",
        b"",
        ("Origin", "http://x.test"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-retry-count,apikey"),
    )
    assert preflight.status == 200
    assert "x-retry-count" in preflight.headers["access-control-allow-headers"].lower()


def test_a_503_tells_when_to_come_back() -> None:
    """No database at all: the answer is a 503 with whole seconds to wait."""
    environ = {"PGRST_DB_URI": "postgresql://nobody@127.0.0.1:1/none", "PGRST_DB_ANON_ROLE": "anon"}
    with running_rest(environ) as down:
        answer = ask(down, "GET", "/authors")
        assert (answer.status, answer.code) == (503, "PGRST002")
        assert re.fullmatch(r"[0-9]+", answer.headers["retry-after"])


def test_nothing_permanent_is_a_503(service: RestService) -> None:
    """A client would wait seven seconds for it."""
    for target in (
        "/nope",
        "/authors?nope=eq.1",
        "/rpc/nope",
        "/hidden",
        "/rpc/bad_headers",
        "/authors?select=nope(id)",
    ):
        assert ask(service, "GET", target).status != 503


# --- 404 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/nope", "/rpc/nope", "/a/b", "/authors/", "/authors?id=like.1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_404_has_an_error_object(service: RestService, method: str, target: str) -> None:
    """An empty one would be taken for success, an array for no rows."""
    if (method, target) == ("POST", "/authors?id=like.1"):
        target = "/a/b/c"
    answer = ask(service, method, target, b"{}" if method == "POST" else b"", JSON)
    assert answer.status == 404
    assert set(answer.json) == {"code", "message", "details", "hint"}


# --- .schema(x) ------------------------------------------------------------------------------------------------------


def test_schema(service: RestService) -> None:
    answer = ask(service, "GET", "/things?select=id", b"", ("Accept-Profile", "other"))
    assert (answer.status, answer.json, answer.headers["content-profile"]) == (200, [{"id": 1}], "other")
    answer = ask(service, "POST", "/things", {"id": 9, "name": "x"}, JSON, ("Content-Profile", "other"))
    assert answer.status == 201
    answer = ask(service, "GET", "/things", b"", ("Accept-Profile", "hidden"))
    assert (answer.status, answer.code) == (406, "PGRST106")


# --- .or(), .not(), referencedTable ----------------------------------------------------------------------------------


def test_or_and_not(service: RestService) -> None:
    assert ask(service, "GET", "/authors?select=id&or=(id.eq.1,name.eq.Cyd)").json == [{"id": 1}, {"id": 3}]
    assert ask(service, "GET", "/authors?select=id&name=not.eq.Ada").json == [{"id": 2}, {"id": 3}]
    assert ask(service, "GET", "/books?select=id&tags=not.cs.%7Bred%7D").json == [{"id": 4}]


def test_referenced_table(service: RestService) -> None:
    target = "/authors?select=id,books(id,title)&id=eq.1&books.or=(id.eq.1,id.eq.2)&books.order=id.desc&books.limit=1"
    assert ask(service, "GET", target).json == [{"id": 1, "books": [{"id": 2, "title": "Two"}]}]
    assert ask(service, "GET", target + "&books.offset=1").json == [{"id": 1, "books": [{"id": 1, "title": "One"}]}]


# --- .maxAffected(n), .rollback() ------------------------------------------------------------------------------------


def test_max_affected(service: RestService) -> None:
    answer = ask(service, "PATCH", "/authors", {"name": "x"}, JSON, ("Prefer", "handling=strict,max-affected=2"))
    assert (answer.status, answer.code) == (400, "PGRST124")
    assert answer.json["details"] == "The query affects 3 rows"
    answer = ask(service, "PATCH", "/authors", {"name": "x"}, JSON, ("Prefer", "handling=strict,max-affected=3"))
    assert (answer.status, answer.headers["preference-applied"]) == (204, "handling=strict, max-affected=3")


def test_rollback(service: RestService) -> None:
    prefer = ("Prefer", "return=representation,tx=rollback")
    answer = ask(service, "POST", "/authors?select=id", {"id": 77, "name": "X"}, JSON, prefer)
    assert (answer.status, answer.json) == (201, [{"id": 77}])
    assert answer.headers["preference-applied"] == "return=representation, tx=rollback"
    assert ask(service, "GET", "/authors?id=eq.77").json == []


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body", "total"),
    [
        ("GET", "/authors?limit=1", b"", "3"),
        ("GET", "/authors?id=eq.99", b"", "0"),
        ("HEAD", "/authors?limit=1", b"", "3"),
        ("POST", "/authors", b'[{"id":10,"name":"x"},{"id":11,"name":"y"}]', "2"),
        ("PATCH", "/authors?id=lt.3", b'{"name":"x"}', "2"),
        ("DELETE", "/reviews", b"", "3"),
        ("POST", "/rpc/books_over", b'{"p":4}', "3"),
    ],
)
def test_counts_are_after_the_slash(service: RestService, method: str, target: str, body: bytes, total: str) -> None:
    answer = ask(service, method, target, body, JSON, ("Prefer", "count=exact"))
    assert answer.headers["content-range"].split("/")[1] == total
    assert ask(service, method, target, body, JSON).headers.get("content-range", "/*").split("/")[1] == "*"


# --- what all calls share --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "line"),
    [
        ("GET", "/authors", b"", (), "200 OK"),
        ("GET", "/authors?limit=1", b"", (("Prefer", "count=exact"),), "206 Partial Content"),
        ("POST", "/authors", b'{"id":10,"name":"x"}', (JSON,), "201 Created"),
        ("DELETE", "/reviews", b"", (), "204 No Content"),
        ("GET", "/authors?nope=eq.1", b"", (), "400 Bad Request"),
        ("GET", "/authors", b"", (("Authorization", "Bearer x"),), "401 Unauthorized"),
        ("GET", "/nope", b"", (), "404 Not Found"),
        ("GET", "/authors", b"", (OBJECT,), "406 Not Acceptable"),
        ("POST", "/authors", b'{"id":1,"name":"x"}', (JSON,), "409 Conflict"),
    ],
)
def test_status_texts(
    service: RestService, method: str, target: str, body: bytes, headers: tuple[tuple[str, str], ...], line: str
) -> None:
    answer = ask(service, method, target, body, *headers)
    assert f"{answer.status} {answer.reason}" == line


def test_errors_as_the_python_client_validates_them(python: SyncPostgrestClient) -> None:
    with pytest.raises(APIError) as raised:
        python.from_("nope").select("*").execute()
    assert (raised.value.code, raised.value.details) == ("PGRST205", None)
    with pytest.raises(APIError) as raised:
        python.from_("authors").insert({"id": 1, "name": "x"}).execute()
    assert (raised.value.code, raised.value.details) == ("23505", "Key (id)=(1) already exists.")
    assert raised.value.hint is None


def test_strip_nulls(service: RestService) -> None:
    accept = "application/vnd.pgrst.{}+json;nulls=stripped"
    answer = ask(service, "GET", "/authors?id=eq.2", b"", ("Accept", accept.format("array")))
    assert answer.json == [{"id": 2, "name": "Bob"}]
    answer = ask(service, "GET", "/authors?id=eq.2", b"", ("Accept", accept.format("object")))
    assert answer.json == {"id": 2, "name": "Bob"}


def test_rows_come_as_they_lie(service: RestService) -> None:
    """Nothing is sorted unless the client asks: the last row updated is the last one read."""
    prefer = ("Prefer", "return=representation,tx=commit")
    assert ask(service, "PATCH", "/labels?id=eq.1", {"name": "newest"}, JSON, prefer).status == 200
    assert [row["id"] for row in ask(service, "GET", "/labels?select=id").json] == [2, 1]


def test_long_request_lines(service: RestService) -> None:
    values = ",".join(str(number) for number in range(3_500))
    assert len(values) > 16_384
    assert len(ask(service, "GET", f"/authors?select=id&id=in.({values})").json) == 3


def test_big_numbers_as_text(service: RestService) -> None:
    answer = ask(service, "POST", "/typed?select=big", {"id": 9, "big": "9223372036854775807"}, JSON, ("Prefer", "return=representation"))  # fmt: skip
    assert (answer.status, answer.body) == (201, b'[{"big":9223372036854775807}]')


def test_tokens_of_the_clients(service: RestService) -> None:
    """The client sends its key as a bearer token until a user signs in; then the user's."""
    token = Keyring([secret_key(SECRET)], anonymous_role="shop_anon").sign({"role": "shop_user", "sub": "ada"})
    answer = ask(service, "GET", "/owned?select=id", b"", ("Authorization", f"Bearer {token}"), ("apikey", token))
    assert answer.json == [{"id": 1}]


# --- the map ---------------------------------------------------------------------------------------------------------


def test_every_row_has_its_tests() -> None:
    module = sys.modules[__name__]
    here = {name for name in vars(module) if name.startswith("test_")}
    mapped = [name for names in BEHAVIOURS.values() for name in names]
    assert all(BEHAVIOURS.values())
    assert not [name for name in mapped if name not in here], "a behaviour names a test that does not exist"
    assert len(set(mapped)) == len(mapped), "a test stands for two behaviours"
    unmapped = here.difference(mapped, {"test_every_row_has_its_tests"})
    assert not unmapped, f"tests that stand for no behaviour: {sorted(unmapped)}"
