# ruff: noqa: E501 (a request is easier to read on one line)
"""Requests against a real database, through the ASGI application (contract rest.md, all sections)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest

from harness.bookshop import BOOKSHOP, ROLES
from harness.postgres import TestServer
from socle_platform.config.database import DatabaseSettings
from socle_platform.config.rest import RestSettings, SqlName
from socle_platform.db import Database
from socle_platform.events import Observation, RequestFailed
from socle_platform.http import ASGIApp
from socle_platform.keys import Keyring, secret_key
from socle_platform.ports import Resources
from socle_rest import routes
from socle_rest.catalog import load_schema
from socle_rest.reload import Serving
from socle_rest.schema import Schema
from socle_rest.statement_log import StatementAnswered

KEYRING = Keyring([secret_key("s" * 40)], anonymous_role="shop_anon")
SETTINGS = RestSettings(
    schemas=("shop",),
    extra_search_path=(),
    anon_role="shop_anon",
    rollback_all=True,
    allow_tx_override=True,
    app_settings=(("app.settings.flavour", "vanilla"),),
)


NO_ROWS: list[Any] = []


@dataclass(frozen=True, slots=True)
class Shop:
    """The database of this module, and its schema cache."""

    name: str
    schema: Schema


@dataclass
class Standing:
    """What requests are served with, standing still."""

    serving: Serving
    retry_after: int = 5


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """The service in this process, asked without sockets."""

    def __init__(
        self, database: Database, schema: Schema | None, settings: RestSettings, observed: list[Observation]
    ) -> None:
        self.live = Standing(Serving(settings, KEYRING, schema, 1))
        self.app: ASGIApp = routes.build(
            settings, Resources(database, KEYRING, observe=observed.append), self.live, standalone=True
        )
        self.disconnect = asyncio.Event()

    async def ask(
        self,
        method: str,
        url: str,
        body: bytes | str | Any = b"",
        /,
        token: dict[str, Any] | str | None = None,
        **headers: str,
    ) -> Answer:
        """`headers` with `_` for `-`; a body that is neither bytes nor text is sent as JSON."""
        raw = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        if token is not None:
            text = token if isinstance(token, str) else KEYRING.sign(token)
            pairs.append((b"authorization", b"Bearer " + text.encode()))
        path, _, query = url.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
        }
        sent: list[Any] = []
        chunks = [raw[:3], raw[3:]]

        async def receive() -> dict[str, Any]:
            if chunks:
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            await self.disconnect.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, last = sent
        names = [name for name, _ in start["headers"]]
        assert len(set(names)) == len(names) or b"set-cookie" in names
        return Answer(
            start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, last["body"]
        )


@pytest.fixture(scope="module")
def shop(server: TestServer) -> Shop:
    template = "template_bookshop"

    async def prepare() -> Schema:
        await server.run("postgres", *ROLES)
        await server.make_template(template, "template0", BOOKSHOP, "analyze")
        async with server.clone(template) as name:
            connection = await asyncpg.connect(server.dsn(name, "shop_login"))
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    hoisted = ["statement_timeout", "default_transaction_isolation"]
                    return await load_schema(connection, ["shop", "other"], extra_search_path=[], hoisted=hoisted)
            finally:
                await connection.close()

    return Shop(template, asyncio.run(prepare()))


@pytest.fixture(scope="module")
def database_of_module(server: TestServer, shop: Shop) -> str:
    """One database for all tests that keep nothing."""
    name = "bookshop_of_run"

    async def make() -> None:
        await server.run("postgres", f"drop database if exists {name} with (force)")
        await server.run("postgres", f"create database {name} template {shop.name}")

    asyncio.run(make())
    return name


@pytest.fixture
def observed() -> list[Observation]:
    return []


@pytest.fixture
async def database(server: TestServer, database_of_module: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(server.dsn(database_of_module, "shop_login"), api_pool_size=4))
    yield opened
    await opened.close()


@pytest.fixture
def client(database: Database, shop: Shop, observed: list[Observation]) -> Client:
    return Client(database, shop.schema, SETTINGS, observed)


def with_settings(client: Client, **changes: Any) -> Client:
    serving = client.live.serving
    client.live.serving = replace(serving, settings=replace(serving.settings, **changes))
    return client


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/authors?id=eq.1", [{"id": 1, "name": "Ada", "born": "1815-12-10"}]),
        ("/authors?select=id&order=id.desc&limit=2", [{"id": 3}, {"id": 2}]),
        ("/authors?select=n:name&id=in.(1,3)", [{"n": "Ada"}, {"n": "Cyd"}]),
        ("/authors?select=id&born=is.null", [{"id": 2}]),
        ("/authors?select=id&born=not.is.null&order=id", [{"id": 1}, {"id": 3}]),
        ("/authors?select=id&name=like.*d*", [{"id": 1}, {"id": 3}]),
        ("/authors?select=id&name=ilike(any).{a*,b*}", [{"id": 1}, {"id": 2}]),
        ("/authors?select=id&name=match.^A", [{"id": 1}]),
        ("/authors?select=id&or=(name.eq.Ada,and(id.gt.1,born.gt.1900-01-01))", [{"id": 1}, {"id": 3}]),
        ("/authors?select=id&not.or=(id.eq.1,id.eq.2)", [{"id": 3}]),
        ("/books?select=id&title=in.(%22Four, \\%22quoted\\%22%22,One)", [{"id": 1}, {"id": 4}]),
        ("/books?select=id,p:facts->pages&facts->>pages=eq.200", [{"id": 2, "p": 200}]),
        ("/books?select=facts->of->a->>1&id=eq.1", [{"a": "y"}]),
        ("/books?select=tags->0&id=eq.1", [{"tags": "red"}]),
        ("/books?select=id&facts->pages=gt.90&order=facts->pages.desc", [{"id": 2}, {"id": 1}]),
        ("/books?select=id&tags=cs.{red}&order=id", [{"id": 1}, {"id": 2}]),
        ("/books?select=id&tags=ov.{blue,x}", [{"id": 1}]),
        ("/books?select=id&author_id=isdistinct.1&order=id", [{"id": 3}, {"id": 4}]),
        ("/books?select=id::text,stock::numeric&id=eq.4", [{"id": "4", "stock": 1}]),
        ("/books?select=id,price&price=eq.20 EUR", [{"id": 2, "price": "20 EUR"}]),
        ("/books?select=id&price=in.(20,5 EUR)", [{"id": 2}, {"id": 3}]),
        ("/books?select=loud&loud=eq.TWO", [{"loud": "TWO"}]),
        ("/reviews?select=id&text=fts(english).cat", [{"id": 1}]),
        ("/reviews?select=id&text=not.wfts(english).dog&id=lt.3", [{"id": 1}]),
        ("/typed?select=id&r=adj.[5,9)", [{"id": 1}]),
        ("/titles?id=eq.1", [{"id": 1, "title": "One"}]),
        ("/authors?id=in.()", NO_ROWS),
        ("/authors?limit=0", NO_ROWS),
        ("/hidden_name?select=id", None),
    ],
)
async def test_reads(client: Client, url: str, expected: list[Any] | None) -> None:
    found = await client.ask("GET", url.replace(" ", "+"))
    assert found.status == (404 if expected is None else 200)
    if expected is not None:
        assert found.json == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "/books?select=id,authors(name)&order=id&limit=4&offset=2",
            [{"id": 3, "authors": {"name": "Bob"}}, {"id": 4, "authors": None}],
        ),
        ("/authors?select=id,books(id)&id=in.(2,3)", [{"id": 2, "books": [{"id": 3}]}, {"id": 3, "books": NO_ROWS}]),
        ("/authors?select=id,books!inner(id)&books.id=eq.3", [{"id": 2, "books": [{"id": 3}]}]),
        ("/authors?select=id,books()&books=is.null", [{"id": 3}]),
        ("/authors?select=id,books()&or=(books.is.null,id.eq.1)", [{"id": 1}, {"id": 3}]),
        ("/books?select=labels(name)&id=eq.1&labels.order=name.desc", [{"labels": [{"name": "old"}, {"name": "new"}]}]),
        ("/books?select=labels(name)&id=eq.1&labels.limit=1&labels.order=id", [{"labels": [{"name": "new"}]}]),
        ("/books?select=covers(colour)&id=lt.3&order=id", [{"covers": {"colour": "green"}}, {"covers": None}]),
        ("/covers?select=...books(title)", [{"title": "One"}]),
        ("/authors?select=...books(t:title)&id=eq.1&books.order=id.desc", [{"t": ["Two", "One"]}]),
        ("/authors?select=id,...books(t:title)&id=eq.3", [{"id": 3, "t": NO_ROWS}]),
        ("/books?select=id,best_review(stars)&id=lt.4&order=id",
         [{"id": 1, "best_review": {"stars": 5}}, {"id": 2, "best_review": {"stars": 1}}, {"id": 3, "best_review": None}]),
        ("/books?select=id&order=authors(name).desc.nullslast,id&select=id,authors()&limit=1", None),
        ("/books?select=id,authors()&order=authors(name).desc.nullslast,id&limit=2", [{"id": 3}, {"id": 1}]),
        ("/authors?select=id,books(id,reviews(stars))&id=eq.1&books.reviews.stars=gt.3&books.order=id",
         [{"id": 1, "books": [{"id": 1, "reviews": [{"stars": 5}]}, {"id": 2, "reviews": NO_ROWS}]}]),
        ("/labels?select=books(id,labels(id))&id=eq.2",
         [{"books": [{"id": 1, "labels": [{"id": 1}, {"id": 2}]}]}]),
        ("/books?select=a:authors(name),b:authors(id)&id=eq.1", [{"a": {"name": "Ada"}, "b": {"id": 1}}]),
    ],
)  # fmt: skip
async def test_embeds(client: Client, url: str, expected: list[Any] | None) -> None:
    found = await client.ask("GET", url)
    assert found.status == (400 if expected is None else 200), found.body
    if expected is not None:
        assert found.json == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/books?select=count()", [{"count": 4}]),
        ("/books?select=author_id,n:count()::text&order=author_id", [
            {"author_id": 1, "n": "2"}, {"author_id": 2, "n": "1"}, {"author_id": None, "n": "1"}]),
        ("/books?select=stock.sum(),stock.max()", [{"sum": 15, "max": 7}]),
        ("/books?select=facts->pages::int.avg()::int", [{"avg": 117}]),
        ("/authors?select=id,books(id.count())&id=eq.1", [{"id": 1, "books": [{"count": 2}]}]),
        ("/reviews?select=...books(author_id),n:count()", [{"author_id": 1, "n": 3}]),
        ("/books?select=author_id,...authors(count())&author_id=eq.1", [{"author_id": 1, "count": 2}]),
        ("/authors?select=*,...books(id)&id=eq.3", [{"id": 3, "name": "Cyd", "born": "1950-01-01"} | {"id": NO_ROWS}]),
    ],
)  # fmt: skip
async def test_aggregates(client: Client, url: str, expected: list[Any]) -> None:
    found = await with_settings(client, aggregates_enabled=True).ask("GET", url)
    assert (found.status, found.json) == (200, expected)


async def test_values_keep_their_precision(client: Client) -> None:
    found = await client.ask("GET", "/typed?select=big,n,j,b,ts")
    assert found.body == (
        b'[{"big":9007199254740993,"n":12345678901234567890.123456789,"j":{"a":1,  "a":2},"b":"\\\\x00ff",'
        b'"ts":"2020-01-01T12:00:00+00:00"}]'
    )


@pytest.mark.parametrize(
    ("url", "prefer", "status", "content_range"),
    [
        ("/authors", "", 200, "0-2/*"),
        ("/authors?limit=2", "count=exact", 206, "0-1/3"),
        ("/authors?limit=2&offset=2", "count=exact", 206, "2-2/3"),
        ("/authors?offset=3", "count=exact", 206, "*/3"),
        ("/authors?offset=4", "count=exact", 416, "*/3"),
        ("/authors?id=eq.9", "count=exact", 200, "*/0"),
        ("/authors?select=id,books!inner(id)", "count=exact", 200, "0-1/2"),
        ("/authors?select=id,books(id)&books=is.null&limit=5", "count=exact", 200, "0-0/1"),
        ("/authors?limit=0", "count=exact", 206, "*/3"),
    ],
)
async def test_counts(client: Client, url: str, prefer: str, status: int, content_range: str) -> None:
    for method in ("GET", "HEAD"):
        found = await client.ask(method, url, prefer=prefer)
        assert (found.status, found.headers["content-range"]) == (status, content_range)


async def test_estimated_counts(client: Client) -> None:
    planned = await client.ask("GET", "/authors?limit=1", prefer="count=planned")
    assert planned.headers["content-range"].startswith("0-0/")
    assert planned.headers["content-range"] != "0-0/*"
    few = await with_settings(client, max_rows=2).ask("GET", "/authors", prefer="count=estimated")
    assert int(few.headers["content-range"].partition("/")[2]) >= 3
    exact = await with_settings(client, max_rows=100).ask("GET", "/authors", prefer="count=estimated")
    assert exact.headers["content-range"] == "0-2/3"


async def test_max_rows(client: Client) -> None:
    with_settings(client, max_rows=1)
    found = await client.ask("GET", "/authors?select=id,books(id)&order=id&books.order=id")
    assert found.json == [{"id": 1, "books": [{"id": 1}]}]
    assert len((await client.ask("GET", "/rpc/grid?n=5")).json) == 1
    with_settings(client, max_rows=0)
    nothing = await client.ask("GET", "/authors?offset=1&select=id,books(id)", prefer="count=exact")
    assert (nothing.status, nothing.json, nothing.headers["content-range"]) == (206, [], "*/3")
    assert (await client.ask("GET", "/authors?limit=2")).json == []


async def test_media_types(client: Client) -> None:
    one = await client.ask("GET", "/authors?id=eq.2", accept="application/vnd.pgrst.object+json")
    assert (one.status, one.json) == (200, {"id": 2, "name": "Bob", "born": None})
    stripped = await client.ask("GET", "/authors?id=eq.2", accept="application/vnd.pgrst.object;nulls=stripped")
    assert stripped.json == {"id": 2, "name": "Bob"}
    array = await client.ask("GET", "/authors?id=eq.2", accept="application/vnd.pgrst.array+json;nulls=stripped")
    assert array.json == [{"id": 2, "name": "Bob"}]
    for url, rows in (("/authors", 3), ("/authors?id=eq.9", 0)):
        many = await client.ask("GET", url, accept="application/vnd.pgrst.object+json")
        assert (many.status, many.json["code"]) == (406, "PGRST116")
        assert many.json["details"] == f"The result contains {rows} rows"
    csv = await client.ask("GET", "/books?select=id,title,tags&order=id&offset=2", accept="text/csv")
    assert csv.body == b'id,title,tags\n3,Three,\n4,"Four, ""quoted""",{}'
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert (await client.ask("GET", "/books?id=eq.9", accept="text/csv")).body == b"\n"
    geo = await client.ask("GET", "/books", accept="application/geo+json")
    assert (geo.status, geo.json["code"]) == (404, "42883")
    none = await client.ask("GET", "/books", accept="text/nope")
    assert (none.status, none.json["code"]) == (406, "PGRST107")


async def test_custom_media_types(client: Client) -> None:
    page = await client.ask("GET", "/rpc/page", accept="text/html")
    assert (page.status, page.body, page.headers["content-type"]) == (200, b"<p>hi</p>", "text/html")
    names = await client.ask("GET", "/authors?order=id&limit=2", accept="application/vnd.names")
    assert (names.body, names.headers["content-type"]) == (b"Ada;Bob;", "application/vnd.names")
    assert (await client.ask("GET", "/authors?select=id", accept="application/vnd.names")).status == 406
    nothing = await client.ask("GET", "/rpc/page?limit=0", accept="text/html")
    assert (nothing.status, nothing.body, nothing.headers["content-range"]) == (200, b"", "*/0")


async def test_csv_shows_what_was_selected(client: Client) -> None:
    called = await client.ask("GET", "/rpc/books_over?p=6&select=title,stock", accept="text/csv")
    assert called.body == b"title,stock\nOne,7\nTwo,7"
    written = await client.ask(
        "POST", "/authors?select=name", {"id": 9, "name": "Z"}, accept="text/csv", prefer="return=representation"
    )
    assert written.body == b"name\nZ"


async def test_explain(client: Client) -> None:
    with_settings(client, plan_enabled=True)
    text = await client.ask("GET", "/authors?id=eq.1", accept="application/vnd.pgrst.plan")
    assert text.body.startswith(b"Aggregate")
    accept = 'application/vnd.pgrst.plan+json; for="text/csv"; options=analyze'
    document = await client.ask("PATCH", "/authors?id=eq.1", {"name": "x"}, accept=accept)
    assert document.status == 200
    assert "Plan" in document.json[0]
    assert document.headers["content-type"] == f"{accept}; charset=utf-8"


# --- writing ---------------------------------------------------------------------------------------------------------

SHOWN = "return=representation"


@pytest.mark.parametrize(
    ("method", "url", "body", "prefer", "status", "expected"),
    [
        ("POST", "/authors", {"id": 9, "name": "Z"}, SHOWN, 201, [{"id": 9, "name": "Z", "born": None}]),
        ("POST", "/authors?select=id", [{"id": 8, "name": "Y"}, {"id": 9, "name": "Z"}], SHOWN, 201, [{"id": 8}, {"id": 9}]),
        ("POST", "/authors", [], SHOWN, 201, []),
        ("POST", "/books?select=title,stock", {"id": 9}, SHOWN, 201, [{"title": "untitled", "stock": 7}]),
        ("POST", "/books?select=id,stock&columns=id,stock", [{"id": 8, "stock": 1}, {"id": 9, "x": 0}],
         f"{SHOWN}, missing=default", 201, [{"id": 8, "stock": 1}, {"id": 9, "stock": 7}]),
        ("POST", "/books?select=id,price", {"id": 9, "price": "3 EUR"}, SHOWN, 201, [{"id": 9, "price": "3 EUR"}]),
        ("POST", "/books?select=id,authors(name)", {"id": 9, "author_id": 2}, SHOWN, 201, [{"id": 9, "authors": {"name": "Bob"}}]),
        ("POST", "/books?select=*,loud", {"id": 9, "title": "x"}, SHOWN, 201,
         [{"id": 9, "title": "x", "author_id": None, "price": None, "facts": None, "tags": None, "stock": 7, "loud": "X"}]),
        ("POST", "/typed?select=n,big", '{"id":2,"n":12345678901234567890.5,"big":9007199254740993}', SHOWN, 201,
         [{"n": 12345678901234567890.5, "big": 9007199254740993}]),
        ("POST", "/authors?select=id,name", [{"id": 1, "name": "New"}, {"id": 9, "name": "Z"}],
         f"{SHOWN}, resolution=merge-duplicates", 201, [{"id": 1, "name": "New"}, {"id": 9, "name": "Z"}]),
        ("POST", "/authors?select=id,name", [{"id": 1, "name": "New"}], f"{SHOWN}, resolution=merge-duplicates", 200,
         [{"id": 1, "name": "New"}]),
        ("POST", "/authors?select=id", [{"id": 1, "name": "New"}], f"{SHOWN}, resolution=ignore-duplicates", 201, []),
        ("PUT", "/authors?id=eq.1", {"id": 1, "name": "New"}, SHOWN, 200, [{"id": 1, "name": "New", "born": "1815-12-10"}]),
        ("PUT", "/authors?id=eq.9", [{"id": 9, "name": "New"}], SHOWN, 201, [{"id": 9, "name": "New", "born": None}]),
        ("PATCH", "/authors?id=eq.1&select=name", {"name": "New"}, SHOWN, 200, [{"name": "New"}]),
        ("PATCH", "/authors?id=eq.99", {"name": "New"}, SHOWN, 200, []),
        ("PATCH", "/authors?id=eq.1", {}, SHOWN, 200, []),
        ("PATCH", "/books?id=eq.1&select=stock&columns=stock", {}, f"{SHOWN}, missing=default", 200, [{"stock": 7}]),
        ("DELETE", "/reviews?id=gt.1&select=id&order=id.desc", b"{}", SHOWN, 200, [{"id": 3}, {"id": 2}]),
        ("DELETE", "/books?id=eq.4&select=title,authors(name)", b"", SHOWN, 200,
         [{"title": 'Four, "quoted"', "authors": None}]),
    ],
)  # fmt: skip
async def test_writes(
    client: Client, method: str, url: str, body: Any, prefer: str, status: int, expected: list[Any]
) -> None:
    found = await client.ask(method, url, body, content_type="application/json", prefer=prefer)
    assert found.status == status, found.body
    assert found.json == expected


@pytest.mark.parametrize(
    ("method", "url", "body", "prefer", "status", "code"),
    [
        ("POST", "/authors", {"id": 1, "name": "x"}, "", 409, "23505"),
        ("POST", "/books", {"id": 9, "author_id": 77}, "", 409, "23503"),
        ("POST", "/authors", {"id": 9}, "", 400, "23502"),
        ("POST", "/authors", {"nope": 9}, "", 400, "PGRST204"),
        ("POST", "/authors", b"{", "", 400, "PGRST102"),
        ("POST", "/authors?on_conflict=name", [{"id": 1, "name": "x"}], "resolution=merge-duplicates", 400, "42P10"),
        ("POST", "/nope", {}, "", 404, "PGRST205"),
        ("POST", "/totals", {"author_id": 1}, "", 500, "55000"),
        ("POST", "/authors?columns=id", b"{", "", 400, "22P02"),
        ("PUT", "/authors?id=eq.1", {"id": 2, "name": "x"}, "", 400, "PGRST115"),
        ("PUT", "/authors?name=eq.Ada", {"id": 2, "name": "x"}, "", 405, "PGRST105"),
        ("PUT", "/authors?id=eq.1&limit=1", {"id": 1}, "", 400, "PGRST114"),
        ("PATCH", "/authors?id=in.(1,2)", {"name": "x"}, "handling=strict, max-affected=1", 400, "PGRST124"),
        ("DELETE", "/reviews", b"", "handling=strict, max-affected=2", 400, "PGRST124"),
        ("DELETE", "/authors?id=eq.1", b"", "", 409, "23503"),
        ("DELETE", "/hidden", b"", "", 401, "42501"),
    ],
)
async def test_refused_writes(
    client: Client, method: str, url: str, body: Any, prefer: str, status: int, code: str
) -> None:
    found = await client.ask(method, url, body, content_type="application/json", prefer=f"tx=commit, {prefer}")
    assert (found.status, found.json["code"]) == (status, code)
    assert found.headers["proxy-status"] == f"PostgREST; error={code}"
    assert set(found.json) == {"code", "message", "details", "hint"}
    count = await client.ask("GET", "/authors?name=eq.x", prefer="count=exact")
    assert count.headers["content-range"] == "*/0"


async def test_a_singular_answer_undoes_the_rest(client: Client) -> None:
    found = await client.ask(
        "PATCH", "/reviews", {"stars": 9}, prefer=f"tx=commit, {SHOWN}", accept="application/vnd.pgrst.object+json"
    )
    assert (found.status, found.json["details"]) == (406, "The result contains 3 rows")
    assert (await client.ask("GET", "/reviews?stars=eq.9")).json == []


async def test_minimal_writes(client: Client) -> None:
    inserted = await client.ask("POST", "/authors", {"id": 9, "name": "Z"}, prefer="count=exact")
    assert (inserted.status, inserted.body, inserted.headers["content-range"]) == (201, b"", "*/1")
    assert inserted.headers["content-length"] == "0"
    for method, expected in (("PATCH", "0-0/*"), ("DELETE", "*/*")):
        found = await client.ask(method, "/reviews?id=eq.1", {"stars": 2})
        assert (found.status, found.body, found.headers["content-range"]) == (204, b"", expected)
        assert "content-type" not in found.headers


async def test_location(client: Client) -> None:
    one = await client.ask("POST", "/places", {"x": 5, "y": 6}, prefer="return=headers-only")
    assert one.headers["location"] == "/places?x=eq.5&y=eq.6"
    two = await client.ask("POST", "/places", [{"x": 5, "y": 6}, {"x": 5, "y": 7}], prefer="return=headers-only")
    assert "location" not in two.headers


async def test_writing_without_reading(client: Client) -> None:
    assert (await client.ask("POST", "/counted", {"name": "x"})).status == 201
    assert (await client.ask("POST", "/counted", {"name": "x"}, prefer=SHOWN)).status == 401


async def test_other_bodies(client: Client) -> None:
    csv = await client.ask("POST", "/authors", "id,name\n8,NULL\n", prefer=SHOWN, content_type="text/csv")
    assert (csv.status, csv.json["code"]) == (400, "23502")
    csv = await client.ask("POST", "/authors?select=name", 'id,name\n8,"a,b"\n', prefer=SHOWN, content_type="text/csv")
    assert csv.json == [{"name": "a,b"}]
    form = await client.ask(
        "POST", "/authors?select=name", "id=8&name=a+b", prefer=SHOWN, content_type="application/x-www-form-urlencoded"
    )
    assert form.json == [{"name": "a b"}]
    other = await client.ask("POST", "/authors", "x", content_type="text/plain")
    assert other.json["message"] == "Content-Type not acceptable: text/plain"


async def test_commit_and_rollback(server: TestServer, shop: Shop) -> None:
    async with server.clone(shop.name) as name:
        opened = Database(DatabaseSettings(server.dsn(name, "shop_login"), api_pool_size=2))
        client = Client(opened, shop.schema, SETTINGS, [])
        kept = await client.ask("POST", "/labels", {"id": 8}, prefer="tx=commit")
        assert kept.headers["preference-applied"] == "tx=commit"
        await client.ask("POST", "/labels", {"id": 9})
        assert [row["id"] for row in (await client.ask("GET", "/labels?id=gt.7")).json] == [8]
        with_settings(client, rollback_all=False)
        await client.ask("POST", "/labels", {"id": 9})
        undone = await client.ask("POST", "/labels", {"id": 10}, prefer="tx=rollback")
        assert undone.headers["preference-applied"] == "tx=rollback"
        assert [row["id"] for row in (await client.ask("GET", "/labels?id=gt.7&order=id")).json] == [8, 9]
        with_settings(client, allow_tx_override=False)
        heeded = await client.ask("POST", "/labels", {"id": 11}, prefer="tx=rollback")
        assert "preference-applied" not in heeded.headers
        await opened.close()


# --- calling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "url", "body", "expected"),
    [
        ("GET", "/rpc/add?a=2", b"", 3),
        ("GET", "/rpc/add?a=2&a=5&b=4", b"", 9),
        ("POST", "/rpc/add", {"a": 2, "b": 5}, 7),
        ("POST", "/rpc/add", [{"a": 2, "b": 5}, {"a": 0, "b": 0}], 7),
        ("GET", "/rpc/join_up?sep=-&parts=a&parts=b", b"", "a-b"),
        ("POST", "/rpc/join_up", {"sep": "-", "parts": ["a", "b,c"]}, "a-b,c"),
        ("GET", "/rpc/books_over?p=6&select=id,authors(name)&order=id.desc&limit=1", b"", [{"id": 2, "authors": {"name": "Ada"}}]),
        ("GET", "/rpc/books_over?p=6&id=eq.1&select=loud", b"", [{"loud": "ONE"}]),
        ("GET", "/rpc/one_book?select=id", b"", {"id": 1}),
        ("GET", "/rpc/pair", b"", {"a": 1, "b": "x"}),
        ("GET", "/rpc/grid?n=3&i=gt.1&select=j", b"", [{"j": 4}, {"j": 9}]),
        ("GET", "/rpc/numbers", b"", [1, 2, 3]),
        ("POST", "/rpc/null_text", b"", None),
        ("POST", "/rpc/echo", {"a": [1]}, {"a": [1]}),
    ],
)  # fmt: skip
async def test_calls(client: Client, method: str, url: str, body: Any, expected: object) -> None:
    found = await client.ask(method, url, body)
    assert (found.status, found.json) == (200, expected)


async def test_more_calls(client: Client) -> None:
    nothing = await client.ask("POST", "/rpc/nothing")
    assert (nothing.status, nothing.body, "content-type" in nothing.headers) == (204, b"", False)
    shout = await client.ask("POST", "/rpc/shout", "hi", content_type="text/plain")
    assert shout.json == "HI"
    size = await client.ask("POST", "/rpc/size_of", b"\x00\xff\x01", content_type="application/octet-stream")
    assert size.json == 3
    head = await client.ask("HEAD", "/rpc/grid?n=3")
    assert (head.status, head.body, head.headers["content-range"]) == (200, b"", "0-2/*")
    counted = await client.ask("GET", "/rpc/grid?n=5&limit=2", prefer="count=exact")
    assert (counted.status, counted.headers["content-range"]) == (206, "0-1/5")
    careful = await client.ask("POST", "/rpc/careful")
    assert careful.json == "serializable 1234ms"
    form = await client.ask("POST", "/rpc/add", "a=1&b=2", content_type="application/x-www-form-urlencoded")
    assert form.json == 3


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        ("GET", "/rpc/nope", 404, "PGRST202"),
        ("GET", "/rpc/add?x=1", 404, "PGRST202"),
        ("DELETE", "/rpc/add", 405, "PGRST101"),
        ("GET", "/rpc/add?a=x", 400, "22P02"),
        ("GET", "/rpc/raise_it?code=P0001&text=x", 400, "P0001"),
        ("GET", "/rpc/raise_it?code=PT418&text=x", 418, "PT418"),
        ("GET", "/rpc/raise_it?code=42501&text=x", 401, "42501"),
        ("GET", "/rpc/bad_headers", 500, "PGRST111"),
    ],
)
async def test_refused_calls(client: Client, method: str, url: str, status: int, code: str) -> None:
    found = await client.ask(method, url)
    assert (found.status, found.json["code"]) == (status, code)


async def test_responses_made_in_the_database(client: Client) -> None:
    found = await client.ask("POST", "/rpc/with_headers")
    assert (found.status, found.json) == (299, "ok")
    assert (found.headers["x-one"], found.headers["vary"]) == ("1", "Me")
    raised = await client.ask("POST", "/rpc/respond")
    assert (raised.status, raised.headers["x-header"]) == (332, "str")
    assert raised.json == {"code": "123", "message": "ABC", "details": None, "hint": "H"}


async def test_a_write_in_a_read_is_refused(client: Client, server: TestServer, database_of_module: str) -> None:
    await server.run(
        database_of_module,
        "create or replace function shop.nothing() returns void language sql as 'delete from shop.covers'",
    )
    found = await client.ask("GET", "/rpc/nothing")
    assert (found.status, found.json["code"]) == (405, "25006")


# --- who and how -----------------------------------------------------------------------------------------------------


async def test_settings_of_the_transaction(client: Client) -> None:
    found = await client.ask(
        "GET", "/rpc/settings", token={"role": "shop_user", "sub": "ada"}, prefer="timezone=America/Lima",
        x_thing="1", cookie="a=b; c=d",
    )  # fmt: skip
    seen = found.json
    assert seen["headers"].pop("authorization").startswith("Bearer ")
    assert seen == {
        "role": "shop_user",
        "path": "/rpc/settings",
        "method": "GET",
        "headers": {"prefer": "timezone=America/Lima", "x-thing": "1"},
        "cookies": {"a": "b", "c": "d"},
        "claims": {"role": "shop_user", "sub": "ada"},
        "zone": "America/Lima",
        "search_path": '"shop"',
        "app": "vanilla",
        "isolation": "repeatable read",
        "read_only": "on",
    }
    assert found.headers["preference-applied"] == "timezone=America/Lima"
    anonymous = (await client.ask("POST", "/rpc/settings")).json
    assert (anonymous["role"], anonymous["claims"]) == ("shop_anon", {"role": "shop_anon"})
    assert anonymous["isolation"] == "read committed"


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ({"role": "shop_user"}, 200, ""),
        ({"sub": "x"}, 200, ""),
        ({"role": "no_such_role"}, 401, "22023"),
        ({"role": "shop_stranger"}, 403, "42501"),
        ({"exp": 1}, 401, "PGRST303"),
        ({"exp": "soon"}, 401, "PGRST303"),
        ("a.b", 401, "PGRST301"),
        ("", 401, "PGRST301"),
        ("x.y.z", 401, "PGRST301"),
    ],
)
async def test_tokens(client: Client, token: dict[str, Any] | str, status: int, code: str) -> None:
    found = await client.ask("GET", "/authors?limit=1", token=token)
    assert found.status == status
    if code:
        assert found.json["code"] == code
    assert ("www-authenticate" in found.headers) == (status == 401)


async def test_anonymous_access(client: Client) -> None:
    basic = await client.ask("GET", "/authors", authorization="Basic x")
    assert basic.status == 200
    with_settings(client, anon_role=None)
    found = await client.ask("GET", "/authors")
    assert (found.status, found.json["code"], found.headers["www-authenticate"]) == (401, "PGRST302", "Bearer")


async def test_privileges(client: Client) -> None:
    assert (await client.ask("GET", "/hidden")).status == 401
    assert (await client.ask("GET", "/hidden", token={"role": "shop_user"})).status == 403


async def test_rows_of_others_are_never_seen(client: Client) -> None:
    """Many requests of two people on few sessions, with calls in between that try to leave an identity behind."""

    async def notes(who: str) -> None:
        for _ in range(30):
            found = await client.ask("GET", "/owned?select=owner", token={"role": "shop_user", "sub": who})
            assert found.json == ([{"owner": who}] if who != "eve" else [])

    async def mischief() -> None:
        for _ in range(15):
            await client.ask("POST", "/rpc/leave_behind", token={"role": "shop_user", "sub": "eve"}, prefer="tx=commit")
            await client.ask("GET", "/owned?id=eq.x", token={"role": "shop_user", "sub": "bob"})

    await asyncio.gather(*(notes(who) for who in ("ada", "bob", "eve", "ada", "bob", "eve")), mischief())


async def test_role_settings(client: Client) -> None:
    found = await client.ask("POST", "/rpc/sleep", {"seconds": 5}, token={"role": "shop_slow"})
    assert (found.status, found.json["code"]) == (500, "57014")


async def test_pre_request(client: Client) -> None:
    with_settings(client, pre_request=SqlName("shop", "before"))
    for method, url in (("GET", "/authors?id=eq.1"), ("POST", "/rpc/nothing"), ("DELETE", "/reviews?id=eq.1")):
        assert (await client.ask(method, url)).headers["x-before"] == "yes"
    refused = await client.ask("GET", "/authors", x_refuse="1")
    assert (refused.status, refused.json["message"]) == (400, "refused")
    assert (await client.ask("GET", "/", accept="application/json")).status == 200


async def test_schemas(client: Client) -> None:
    with_settings(client, schemas=("shop", "other"))
    things = await client.ask("GET", "/things", accept_profile="other")
    assert (things.json, things.headers["content-profile"]) == ([{"id": 1, "name": "thing"}], "other")
    assert (await client.ask("GET", "/things")).status == 404
    made = await client.ask("POST", "/things", {"id": 2}, content_profile="other", prefer=SHOWN)
    assert (made.status, made.headers["content-profile"]) == (201, "other")
    refused = await client.ask("GET", "/things", accept_profile="pg_catalog")
    assert (refused.status, refused.json["code"]) == (406, "PGRST106")


async def test_options_and_cors(client: Client) -> None:
    options = await client.ask("OPTIONS", "/books")
    assert (options.status, options.headers["allow"]) == (200, "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE")
    assert (await client.ask("OPTIONS", "/totals")).headers["allow"] == "OPTIONS,GET,HEAD"
    assert (await client.ask("OPTIONS", "/nope")).status == 404
    preflight = await client.ask(
        "OPTIONS",
        "/books",
        origin="http://x",
        access_control_request_method="POST",
        access_control_request_headers="a,b",
    )
    assert preflight.headers["access-control-allow-headers"] == (
        "Authorization, a, b, Accept, Accept-Language, Content-Language"
    )
    simple = await client.ask("GET", "/authors", origin="http://x")
    assert simple.headers["access-control-allow-origin"] == "*"
    failed = await client.ask("GET", "/nope", origin="http://x")
    assert (failed.status, failed.headers["access-control-allow-origin"]) == (404, "*")


async def test_openapi(client: Client) -> None:
    found = await client.ask("GET", "/")
    assert found.headers["content-type"] == "application/openapi+json; charset=utf-8"
    assert "/authors" in found.json["paths"]
    assert "/hidden" not in found.json["paths"]
    everything = await with_settings(client, openapi=replace(SETTINGS.openapi, mode="ignore-privileges")).ask(
        "GET", "/"
    )
    assert "/hidden" in everything.json["paths"]
    head = await client.ask("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert (await client.ask("GET", "/", accept="text/csv")).status == 406
    assert (await client.ask("POST", "/")).json["code"] == "PGRST117"


async def test_root_function(client: Client) -> None:
    found = await with_settings(client, root_spec=SqlName("shop", "numbers")).ask("GET", "/")
    assert found.json == [1, 2, 3]


async def test_timing_and_tracing(client: Client) -> None:
    with_settings(client, timing_enabled=True, trace_header="X-Request-Id")
    found = await client.ask("GET", "/authors", x_request_id="7")
    stages = [one.split(";dur=")[0] for one in found.headers["server-timing"].split(", ")]
    assert stages == ["jwt", "parse", "plan", "transaction", "response"]
    assert found.headers["x-request-id"] == "7"
    assert found.headers["server"].startswith("postgrest/")


async def test_validators_are_there_on_request(client: Client) -> None:
    assert "etag" not in (await client.ask("GET", "/authors?id=eq.1")).headers
    with_settings(client, etag_enabled=True)
    first = await client.ask("GET", "/authors?id=eq.1")
    tag = first.headers["etag"]
    assert tag == (await client.ask("GET", "/authors?id=eq.1")).headers["etag"]
    assert tag != (await client.ask("GET", "/authors?id=eq.2")).headers["etag"]
    assert tag != (await client.ask("GET", "/authors?id=eq.1", accept="text/csv")).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        same = await client.ask("GET", "/authors?id=eq.1", if_none_match=known)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in same.headers
        assert same.headers["vary"] == "Accept, Prefer, Range"
    assert (await client.ask("GET", "/authors?id=eq.1", if_none_match='"other"')).body == first.body
    for method, url in (("HEAD", "/authors"), ("GET", "/nothing"), ("DELETE", "/authors?id=eq.9")):
        assert "etag" not in (await client.ask(method, url, if_none_match="*")).headers


async def test_statements_are_reported_on_request(client: Client, observed: list[Observation]) -> None:
    await client.ask("GET", "/authors?name=eq.secret")
    assert observed == []
    with_settings(client, log_query=True, pre_request=SqlName("shop", "before"))
    await client.ask("GET", "/authors?name=eq.secret&limit=1", prefer="count=planned")
    await client.ask("GET", "/authors?nope=eq.1")
    await client.ask("GET", "/nothing")
    found = [one for one in observed if isinstance(one, StatementAnswered)]
    assert [one.status for one in found] == [206, 206, 206, 400, 400]
    assert [one.statement.split(" ", 1)[0] for one in found] == ["SELECT", "WITH", "EXPLAIN", "SELECT", "WITH"]
    assert not any("secret" in one.statement for one in found)


async def test_no_schema_yet(database: Database) -> None:
    client = Client(database, None, SETTINGS, [])
    found = await client.ask("GET", "/authors")
    assert (found.status, found.json["code"], found.headers["retry-after"]) == (503, "PGRST002", "5")


async def test_no_database(shop: Shop) -> None:
    gone = Database(DatabaseSettings("postgresql://127.0.0.1:9/none", api_pool_size=1, connect_timeout=1.0))
    found = await Client(gone, shop.schema, SETTINGS, []).ask("GET", "/authors")
    assert (found.status, found.json["code"], found.headers["retry-after"]) == (503, "PGRST000", "5")
    await gone.close()


async def test_terse_errors(client: Client) -> None:
    found = await with_settings(client, verbose_errors=False).ask("GET", "/nope")
    assert found.json == {"code": "PGRST205", "message": "Could not find the table 'shop.nope' in the schema cache"}


async def test_a_fault_of_our_own_is_told_without_its_insides(client: Client, observed: list[Observation]) -> None:
    class Broken:
        async def run_as(self, *_: object, **__: object) -> None:
            raise ValueError("secret")

    broken = Client(Broken(), client.live.serving.schema, SETTINGS, observed)  # type: ignore[arg-type] # on purpose
    found = await broken.ask("GET", "/authors")
    assert (found.status, found.json["code"], b"secret" in found.body) == (500, "PGRSTX00", False)
    assert any(isinstance(one, RequestFailed) for one in observed)


async def test_a_client_that_left_cancels_its_statement(
    client: Client, server: TestServer, database_of_module: str
) -> None:
    client.disconnect.set()
    started = time.monotonic()
    await client.ask("POST", "/rpc/sleep", {"seconds": 30})
    assert time.monotonic() - started < 10
    connection = await asyncpg.connect(server.dsn(database_of_module))
    try:
        await connection.execute(_UNTIL_NOBODY_SLEEPS, timeout=5)
    finally:
        await connection.close()


_UNTIL_NOBODY_SLEEPS = """do $$ begin
    while exists (select from pg_stat_activity where query like '%shop%sleep%' and state = 'active'
                  and pid <> pg_backend_pid()) loop
        perform pg_sleep(0.02);
        perform pg_stat_clear_snapshot();
    end loop; end $$"""


async def test_a_new_schema_is_a_new_start(client: Client) -> None:
    assert (await client.ask("GET", "/authors?id=eq.1")).status == 200
    serving = client.live.serving
    assert serving.schema is not None
    smaller = {name: table for name, table in serving.schema.tables.items() if name.name != "authors"}
    client.live.serving = replace(serving, schema=replace(serving.schema, tables=smaller), generation=2)
    assert (await client.ask("GET", "/authors?id=eq.1")).status == 404


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/authors?or=" + "(or" * 1000 + "(id.eq.1)" + ")" * 1000, 400),
        ("/authors?select=" + "books(authors(" * 100 + "id" + "))" * 100, 400),
        ("/authors?select=id," + ",".join(f"a{n}:books(id)" for n in range(50)), 200),
        ("/authors?name=eq.%00", 400),
        ("/authors?name=in.(a%00b)", 400),
        ("/authors?na%00me=eq.1", 400),
        ("/authors?name=eq.%ff", 400),
        ("/%ff", 404),
        ("/authors?limit=" + "9" * 5000, 400),
        ("/authors?offset=" + "9" * 30, 400),
        ("/authors?limit=-1", 416),
        ("/authors?select=%22%22", 400),
        ("/authors?select=id::nope", 400),
        ("/authors?order=nope", 400),
        ("/authors?select=books(id),books(title)", 400),
        ("/authors?id=like.1", 404),
        ("/authors?select=" + "id," * 1700 + "id", 500),
        ("/authors/", 404),
    ],
)
async def test_bad_requests(client: Client, observed: list[Observation], url: str, status: int) -> None:
    found = await client.ask("GET", url)
    assert found.status == status, found.body
    assert not [one for one in observed if isinstance(one, RequestFailed)]
