# ruff: noqa: E501 (a request is easier to read on one line)
"""The quick lane gives the answers of the ASGI application, and leaves to it what it cannot do."""

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
from socle_platform.events import Observation, RequestFailed, RequestServed
from socle_platform.http import Gateway, GatewayPolicy, Mount
from socle_platform.identity import RequestFacts
from socle_platform.keys import Keyring, secret_key
from socle_platform.ports import Resources
from socle_platform.quick import GiveUp, WholeRequest, WholeResponse
from socle_platform.request_headers import read_headers
from socle_rest import routes
from socle_rest.catalog import load_schema
from socle_rest.errors import render_error
from socle_rest.reload import Serving
from socle_rest.schema import Schema

KEYRING = Keyring([secret_key("s" * 40)], anonymous_role="shop_anon")
SETTINGS = RestSettings(
    schemas=("shop",), extra_search_path=(), anon_role="shop_anon", allow_tx_override=True, max_rows=1000
)
LEFT = (
    "create function shop.leave() returns text language plpgsql as $$ begin"
    " perform set_config('app.left', 'yes', false); return current_setting('app.left'); end $$;"
    "create function shop.what_is_left() returns text language sql as"
    " $$ select coalesce(current_setting('app.left', true), '') $$;"
)


@dataclass
class Standing:
    serving: Serving
    retry_after: int = 5


@dataclass
class Site:
    """The service behind a gateway, asked in either lane."""

    database: Database
    gateway: Gateway
    live: Standing
    observed: list[Observation]

    async def slow(self, request: WholeRequest) -> WholeResponse:
        """As an ASGI application."""
        path = request.path.decode()
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": request.path,
            "query_string": request.query_string,
            "headers": list(request.headers.pairs),
        }
        sent: list[Any] = []
        gone = asyncio.Event()
        parts = [request.body]

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.gateway(scope, receive, send)
        lines = b"".join([b"%b: %b\r\n" % pair for pair in sent[0]["headers"]])
        return WholeResponse(sent[0]["status"], lines, b"".join(message["body"] for message in sent[1:]))

    def begin(self, request: WholeRequest) -> tuple[GiveUp | None, asyncio.Future[WholeResponse | None]]:
        found: asyncio.Future[WholeResponse | None] = asyncio.get_running_loop().create_future()
        return self.gateway.begin(request, found.set_result), found

    async def quick(self, request: WholeRequest) -> WholeResponse | None:
        """In the quick lane; None where that leaves the request to the application."""
        give_up, found = self.begin(request)
        return None if give_up is None else await asyncio.wait_for(found, 5)


def request(
    method: str, url: str, body: object = None, claims: dict[str, Any] | None = None, **headers: str
) -> WholeRequest:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"apikey", b"sb_publishable_a"))
    if claims is not None:
        pairs.append((b"authorization", b"Bearer " + KEYRING.sign(claims).encode()))
    if body is not None:
        pairs += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    path, _, query = url.partition("?")
    return WholeRequest(method, f"/rest/v1{path}".encode(), query.encode(), read_headers(pairs), content)


@pytest.fixture(scope="module")
def schema_and_name(server: TestServer) -> tuple[Schema, str]:
    name = "bookshop_of_the_quick_lane"

    async def prepare() -> Schema:
        await server.make_template(name, "template0", *ROLES, BOOKSHOP, LEFT)
        async with server.clone(name) as copy:
            connection = await asyncpg.connect(server.dsn(copy, "shop_login"))
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    hoisted = ["statement_timeout", "default_transaction_isolation"]
                    return await load_schema(connection, ["shop"], extra_search_path=[], hoisted=hoisted)
            finally:
                await connection.close()

    return asyncio.run(prepare()), name


@pytest.fixture
async def site(server: TestServer, schema_and_name: tuple[Schema, str]) -> AsyncIterator[Site]:
    schema, name = schema_and_name
    async with server.clone(name) as copy:
        database = Database(DatabaseSettings(server.dsn(copy, "shop_login"), api_pool_size=2))
        observed: list[Observation] = []
        live = Standing(Serving(SETTINGS, KEYRING, schema, 1))
        keys = Keyring([secret_key("s" * 40)], opaque_keys={"sb_publishable_a": "shop_anon"})
        live.serving = replace(live.serving, keyring=keys)
        rest = routes.build(SETTINGS, Resources(database, keys, observe=observed.append), live)
        mount = Mount("/rest/v1", "rest", rest, render_error, body_limit=10_000, quick=rest)
        yield Site(database, Gateway((mount,), keys, GatewayPolicy(), observed.append), live, observed)
        await database.close()


def without_id(response: WholeResponse | None) -> Any:
    assert response is not None
    lines = [line for line in response.lines.split(b"\r\n") if not line.startswith(b"x-request-id")]
    return response.status, sorted(lines), response.body


@pytest.mark.parametrize(
    "asked",
    [
        request("GET", "/authors?id=eq.1"),
        request("GET", "/authors?id=eq.1", accept="application/vnd.pgrst.object+json"),
        request("GET", "/authors?id=eq.77", accept="application/vnd.pgrst.object+json"),
        request("GET", "/authors?select=id&order=id.desc&limit=2&offset=1", prefer="count=exact"),
        request("GET", "/authors?select=id&offset=10", prefer="count=exact"),
        request("GET", "/authors?select=id&id=in.(1,3)", accept="text/csv"),
        request("HEAD", "/authors?id=eq.1"),
        request("GET", "/books?select=id,authors(name)&id=eq.2"),
        request("GET", "/authors?id=eq.x"),
        request("HEAD", "/authors?id=eq.x"),
        request("GET", "/authors?id=eq.1", claims={"role": "shop_stranger"}),
        request("GET", "/owned?id=eq.1", claims={"role": "shop_slow", "sub": "a"}),
        request("PATCH", "/books?id=eq.1", {"title": "Changed"}, prefer="return=representation"),
        request("PATCH", "/books?id=eq.1", {"title": "Changed"}),
        request("DELETE", "/labels?id=eq.1", prefer="return=representation"),
        request("POST", "/rpc/settings", {}),
        request("POST", "/rpc/settings", {}, claims={"role": "shop_slow", "sub": "b"}),
        request("POST", "/rpc/with_headers", {}),
        request("POST", "/authors", {"id": 1, "name": "Again"}),
    ],
    ids=lambda one: f"{one.method} {one.path.decode()[8:]} {one.query_string.decode()}",
)
async def test_both_lanes_give_the_same_answer(site: Site, asked: WholeRequest) -> None:
    expected = [without_id(await site.slow(asked)) for _ in range(2)][1]
    assert without_id(await site.quick(asked)) == expected
    served = [one for one in site.observed if isinstance(one, RequestServed)]
    assert [(one.service, one.method, one.path, one.status) for one in served] == [
        ("rest", asked.method, asked.path.decode(), expected[0])
    ] * 3


async def test_writes_are_kept(site: Site) -> None:
    quiet = request("GET", "/authors?id=eq.1")
    await asyncio.gather(site.slow(quiet), site.slow(quiet))  # opens both sessions
    await site.slow(request("POST", "/authors", {"id": 10, "name": "Ten"}))
    written = await site.quick(request("POST", "/authors", {"id": 11, "name": "Elf"}))
    assert written is not None
    assert written.status == 201
    found = await site.slow(request("GET", "/authors?select=name&id=gte.10&order=id"))
    assert found.body == b'[{"name":"Ten"}, \n {"name":"Elf"}]'


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        (request("GET", "/authors?id=eq.1", range="0-1"), {}),
        (request("GET", "/rpc/settings"), {}),
        (request("GET", "/"), {}),
        (request("OPTIONS", "/authors"), {}),
        (request("GET", "/authors", prefer="count=planned"), {}),
        (request("GET", "/authors?id=eq.1", claims={"role": "shop_user"}), {}),
        (request("GET", "/authors?id=eq.1", claims={"role": "shop_anon", "exp": 1}), {}),
        (request("GET", "/authors?id=eq.1", claims={"role": "none"}), {}),
        (request("PATCH", "/books?id=eq.1", {"title": "x"}, prefer="tx=rollback"), {}),
        (request("PATCH", "/books?id=eq.1", {"title": "x"}, prefer="handling=strict, max-affected=1"), {}),
        (request("POST", "/authors", b"[" + b"1," * 6000 + b"1]"), {}),
        (request("POST", "/authors", b"{"), {}),
        (request("GET", "/authors?id=eq.1"), {"timing_enabled": True}),
        (request("GET", "/authors?id=eq.1"), {"etag_enabled": True}),
        (request("GET", "/authors?id=eq.1"), {"log_query": True}),
        (request("GET", "/authors?id=eq.1"), {"pre_request": None, "trace_header": "x-trace"}),
        (request("GET", "/authors?id=eq.1"), {"schema": None}),
    ],
    ids=lambda one: str(one.query_string or one.path) if isinstance(one, WholeRequest) else str(one),
)
async def test_what_needs_more_is_left_to_the_application(
    site: Site, asked: WholeRequest, changes: dict[str, Any]
) -> None:
    if "schema" in changes:
        site.live.serving = replace(site.live.serving, schema=None)
    else:
        site.live.serving = replace(site.live.serving, settings=replace(SETTINGS, **changes))
    for _ in range(2):
        await site.slow(asked)
    site.observed.clear()
    assert await site.quick(asked) is None
    assert site.observed == []


async def test_keys_that_are_missing_or_wrong_are_left_to_the_application(site: Site) -> None:
    asked = request("GET", "/authors?id=eq.1")
    await site.slow(asked)
    assert await site.quick(asked) is not None
    for key in (None, b"sb_publishable_other", b"a.b.c"):
        pairs = [] if key is None else [(b"apikey", key)]
        assert await site.quick(asked._replace(headers=read_headers(pairs))) is None


async def test_a_rows_limit_that_is_reached_while_streaming_could_go_on_starts_over(site: Site) -> None:
    site.live.serving = replace(site.live.serving, settings=replace(SETTINGS, max_rows=None, stream_rows=2))
    asked = request("GET", "/authors?select=id&order=id")
    whole = await site.slow(asked)
    assert await site.quick(asked) is None
    assert json.loads(whole.body) == [{"id": 1}, {"id": 2}, {"id": 3}]
    few = request("GET", "/authors?select=id&id=eq.1")
    assert without_id(await site.slow(few)) == without_id(await site.quick(few))


async def test_a_token_that_ends_is_refused_from_then_on(site: Site) -> None:
    keyring = site.live.serving.keyring
    now = keyring.time_of_day()
    asked = request("GET", "/authors?id=eq.1", claims={"role": "shop_anon", "exp": int(now) + 60})
    await site.slow(asked)
    assert await site.quick(asked) is not None
    keyring.time_of_day = lambda: now + 120
    assert await site.quick(asked) is None
    assert (await site.slow(asked)).status == 401
    keyring.time_of_day = lambda: now
    assert await site.quick(asked) is not None
    keyring.replace([secret_key("t" * 40)])
    assert await site.quick(asked) is None


async def test_what_a_function_leaves_in_the_session_is_taken_back(site: Site) -> None:
    leave, left = request("POST", "/rpc/leave", {}), request("POST", "/rpc/what_is_left", {})
    await site.slow(left)
    for _ in range(3):
        assert (await site.slow(leave)).body == b'"yes"'
        found = await site.quick(leave)
        assert found is not None
        assert found.body == b'"yes"'
        for _ in range(2):
            found = await site.quick(left)
            assert found is not None
            assert found.body == b'""'


async def test_more_requests_than_sessions_wait_for_their_turn(site: Site) -> None:
    asked = [request("GET", f"/authors?select=id&id=eq.{1 + number % 3}") for number in range(40)]
    await asyncio.gather(site.slow(asked[0]), site.slow(asked[1]))
    found = await asyncio.gather(*map(site.quick, asked))
    assert [one and one.body for one in found] == [b'[{"id":%d}]' % (1 + number % 3) for number in range(40)]
    assert site.database.pool_states()["api"].size == 2


async def test_giving_up_stops_the_statement_and_is_never_answered(site: Site, server: TestServer) -> None:
    asked = request("POST", "/rpc/sleep", {"seconds": 60})
    task = asyncio.create_task(site.slow(asked))
    await until_sleeping(server, 1)
    task.cancel()
    await until_sleeping(server, 0)
    others = [request("GET", "/authors?id=eq.1")] * 3
    await asyncio.gather(*map(site.slow, others))
    running = [site.begin(asked) for _ in range(4)]
    await until_sleeping(server, 2)  # of two sessions; the other two requests wait for one
    for give_up, _ in running:
        assert give_up is not None
        give_up()
    await until_sleeping(server, 0)
    assert [(await site.slow(one)).status for one in others] == [200] * 3
    assert not any(found.done() for _, found in running)


async def until_sleeping(server: TestServer, number: int) -> None:
    connection = await asyncpg.connect(server.dsn("postgres"))
    try:
        async with asyncio.timeout(10):
            question = "select count(*) from pg_stat_activity where usename = 'shop_login' and wait_event = 'PgSleep'"
            while await connection.fetchval(question) != number:
                pass
    finally:
        await connection.close()


async def test_statements_that_went_stale_start_over(site: Site) -> None:
    asked = request("GET", "/authors?id=eq.1")
    for _ in range(2):
        await site.slow(asked)
    assert await site.quick(asked) is not None
    async with site.database.acting_as(KEYRING.verify(KEYRING.sign({"role": "shop_anon"})), RequestFacts()) as one:
        await one.execute("do $$ begin execute 'deallocate all'; end $$")
    assert await site.quick(asked) is None
    assert (await site.slow(asked)).status == 200
    assert not [one for one in site.observed if isinstance(one, RequestFailed)]


async def test_a_lost_session_is_said(site: Site, server: TestServer) -> None:
    asked = request("POST", "/rpc/sleep", {"seconds": 60})
    quiet = request("GET", "/authors?id=eq.1")
    task = asyncio.create_task(site.slow(asked))
    await until_sleeping(server, 1)
    task.cancel()
    await until_sleeping(server, 0)
    await site.slow(quiet)
    _, found = site.begin(asked)
    await until_sleeping(server, 1)
    await server.run(
        "postgres",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'shop_login' and wait_event = 'PgSleep'",
    )
    response = await asyncio.wait_for(found, 5)
    assert response is not None
    assert response.status == 503
    assert b"retry-after: 5\r\n" in response.lines
    assert json.loads(response.body)["code"] == "PGRST001"
