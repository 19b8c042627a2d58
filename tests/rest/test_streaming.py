"""Long results leave in portions, and are the same as short ones otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest

from harness.bookshop import BOOKSHOP, ROLES
from harness.postgres import TestServer
from socle_platform.config.database import DatabaseSettings
from socle_platform.config.rest import RestSettings
from socle_platform.db import Database
from socle_platform.keys import Keyring, secret_key
from socle_platform.ports import Resources
from socle_rest import routes
from socle_rest.catalog import load_schema
from socle_rest.reload import Serving

KEYRING = Keyring([secret_key("s" * 40)], anonymous_role="shop_anon")
SETTINGS = RestSettings(schemas=("shop",), extra_search_path=(), anon_role="shop_anon", stream_rows=100)
ROWS = 1000
MANY = f"""
create table shop.many as
    select n as id, 'row ' || n as name, nullif(n % 2, 0) as odd from generate_series(1, {ROWS}) n;
create function shop.told(shop.many) returns text language sql as
    $$ select set_config('response.headers', '[{{"x-told": "yes"}}]', true) $$;
create function shop.failing(shop.many) returns int language sql as $$ select 1 / (700 - $1.id) $$;
grant select on shop.many to shop_anon;
"""


@dataclass
class Standing:
    serving: Serving
    retry_after: int = 5


class Site:
    """The service; `ask` gives status, headers and the portions of the body as they were sent."""

    def __init__(self, database: Database, serving: Serving) -> None:
        self.database = database
        self.live = Standing(serving)
        self.app = routes.build(serving.settings, Resources(database, KEYRING), self.live, standalone=True)
        self.gone = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()
        self.begun = asyncio.Event()

    async def ask(self, url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], list[bytes]]:
        path, _, query = url.partition("?")
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            self.begun.set()
            await self.held.wait()

        await self.app(scope, receive, send)
        start, *bodies = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], found, [body["body"] for body in bodies]

    def settle(self, **changes: Any) -> None:
        serving = self.live.serving
        self.live.serving = replace(serving, settings=replace(serving.settings, **changes))


@pytest.fixture
async def site(server: TestServer) -> AsyncIterator[Site]:
    await server.run("postgres", *ROLES)
    await server.make_template("template_streaming", "template0", BOOKSHOP, MANY, "analyze")
    async with server.clone("template_streaming") as name:
        connection = await asyncpg.connect(server.dsn(name, "shop_login"))
        schema = await load_schema(connection, ["shop"], extra_search_path=[], hoisted=[])
        await connection.close()
        database = Database(DatabaseSettings(server.dsn(name, "shop_login"), api_pool_size=1))
        yield Site(database, Serving(SETTINGS, KEYRING, schema, 1))
        await database.close()


@pytest.mark.parametrize(
    ("url", "headers", "rows"),
    [
        ("/many?order=id", {}, ROWS),
        ("/many?order=id.desc&select=name,odd", {}, ROWS),
        ("/many?order=id&limit=600&offset=7", {}, 600),
        ("/many?order=id&limit=101", {}, 101),
        ("/many?id=gt.500&order=id", {}, 500),
        ("/many?order=id", {"range": "10-900"}, 891),
        ("/many?order=id", {"accept": "application/vnd.pgrst.array+json;nulls=stripped"}, ROWS),
    ],
)
async def test_a_stream_is_what_would_have_been_answered_at_once(
    site: Site, url: str, headers: dict[str, str], rows: int
) -> None:
    streamed = [await site.ask(url, **headers) for _ in range(2)]  # the second comes from the cache of shapes
    site.settle(stream_rows=0)
    status, expected, (body,) = await site.ask(url, **headers)
    for answer in streamed:
        assert answer[0] == status
        assert {**answer[1], "content-length": expected["content-length"]} == expected
        assert "content-length" not in answer[1]
        assert len(answer[2]) == -(-rows // 256) + 2
        assert b"".join(answer[2]) == body or "stripped" in str(headers)
        assert json.loads(b"".join(answer[2])) == json.loads(body)
    assert len(json.loads(body)) == rows
    assert site.database.pool_states()["api"].idle == site.database.pool_states()["api"].size


@pytest.mark.parametrize(
    ("url", "method", "headers"),
    [
        ("/many?limit=100", "GET", {}),
        ("/many", "HEAD", {}),
        ("/many", "GET", {"prefer": "count=exact"}),
        ("/many", "GET", {"accept": "text/csv"}),
        ("/many?id=lt.50", "GET", {}),
    ],
)
async def test_what_is_short_or_counted_or_no_array_is_answered_at_once(
    site: Site, url: str, method: str, headers: dict[str, str]
) -> None:
    await site.ask("/many?limit=900")
    status, _, portions = await site.ask(url, method, **headers)
    assert status == 200
    assert len(portions) == 1


async def test_a_limit_of_the_service_holds_and_a_low_one_keeps_everything_in_memory(site: Site) -> None:
    site.settle(max_rows=300)
    _, headers, portions = await site.ask("/many?order=id")
    assert headers["content-range"] == "0-299/*"
    assert len(json.loads(b"".join(portions))) == 300
    site.settle(max_rows=100)
    assert len((await site.ask("/many?order=id"))[2]) == 1


async def test_rows_may_set_headers_and_a_row_that_fails_fails_the_request(site: Site) -> None:
    assert (await site.ask("/many?select=id,told"))[1]["x-told"] == "yes"
    status, _, portions = await site.ask("/many?select=failing&order=id")
    assert status == 400
    assert json.loads(portions[0])["code"] == "22012"
    assert site.database.pool_states()["api"].size > 0


async def test_a_client_that_goes_away_frees_the_session(site: Site) -> None:
    site.held.clear()
    asking = asyncio.create_task(site.ask("/many?order=id"))
    await asyncio.wait_for(site.begun.wait(), 10)
    site.gone.set()
    status, _, portions = await asyncio.wait_for(asking, 10)
    assert status == 200
    assert not b"".join(portions).endswith(b"]")
    site.held.set()
    assert (await asyncio.wait_for(site.ask("/many?limit=1"), 10))[0] == 200
