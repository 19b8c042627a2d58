"""Reads on a replica, writes on the primary, and what is read after a write. The "replica" is another database, whose
rows tell where an answer comes from and whose replay position is the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Protocol

import pytest

from harness.bookshop import BOOKSHOP, ROLES
from harness.postgres import TestServer
from harness.rest_service import RestService, running_rest
from socle_platform import replicas
from socle_platform.config.database import load_database
from socle_platform.config.reader import Reader
from socle_platform.replicas import parse_position
from socle_rest.replicated import COOKIE

PRIMARY, REPLICA = "replicated_primary", "replicated_replica"
TEMPLATE = "template_bookshop"
BEHIND, AHEAD = "0/1", "FFFFFFFF/0"


@pytest.fixture(scope="module", autouse=True)
def databases(server: TestServer) -> None:
    """The primary's first author is Ada, the replica's is Copy; the replica knows no places."""

    async def prepare() -> None:
        await server.run("postgres", *ROLES)
        await server.make_template(TEMPLATE, "template0", BOOKSHOP, "analyze")
        for name in (PRIMARY, REPLICA):
            await server.run(
                "postgres",
                f"drop database if exists {name} with (force)",
                f"create database {name} template {TEMPLATE}",
            )
        await server.run(
            REPLICA,
            "update shop.authors set name = 'Copy' where id = 1",
            "drop table shop.places cascade",
            "create or replace function shop.add(a int, b int default 1) returns int language sql immutable"
            " as $$ select -1 $$",
        )

    asyncio.run(prepare())


class Serve(Protocol):
    """Starts the service with a replica that has replayed up to a position, until the end of the test."""

    def __call__(self, replayed: str, uris: str = "") -> RestService: ...


@pytest.fixture
def serve(server: TestServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setattr(replicas, "INTERVAL", 0.05)
    with contextlib.ExitStack() as stack:

        def start(replayed: str, uris: str = "") -> RestService:
            monkeypatch.setattr(replicas, "_REPLAYED", f"select '{replayed}'")
            environ = {
                "PGRST_DB_URI": server.dsn(PRIMARY, "shop_login"),
                "PGRST_DB_REPLICA_URIS": uris or server.dsn(REPLICA, "shop_login"),
                "PGRST_DB_ANON_ROLE": "shop_anon",
                "PGRST_DB_SCHEMAS": "shop",
                "PGRST_DB_TX_END": "commit-allow-override",
            }
            return stack.enter_context(running_rest(environ))

        yield start


def first_author(service: RestService, **headers: str) -> str:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return str(service.ask("GET", "/authors?id=eq.1", b"", named).json[0]["name"])


def test_reads_go_to_the_replica_and_writes_to_the_primary(serve: Serve) -> None:
    service = serve(AHEAD)
    assert first_author(service) == "Copy"
    assert "x-socle-lsn" not in service.ask("GET", "/authors").headers
    assert service.ask("GET", "/rpc/add?a=1").json == -1
    assert service.ask("POST", "/rpc/add", {"a": 1}).json == -1
    assert service.ask("POST", "/rpc/echo", {"x": 1}).json == {"x": 1}
    written = service.ask("PATCH", "/authors?id=eq.1", {"born": None}, [("Prefer", "return=representation")])
    assert written.json[0]["name"] == "Ada"


def test_a_write_is_seen_by_who_brings_its_position_back(serve: Serve) -> None:
    service = serve(BEHIND)
    written = service.ask("PATCH", "/authors?id=eq.2", {"name": "New"})
    position = written.headers["x-socle-lsn"]
    assert parse_position(position) > parse_position(BEHIND)
    cookie = written.headers["set-cookie"].partition(";")[0]
    assert cookie == f"{COOKIE}={position}"
    assert first_author(service) == "Copy"
    assert first_author(service, x_socle_lsn=position) == "Ada"
    assert first_author(service, cookie=f"a=b; {cookie}") == "Ada"
    assert first_author(service, cookie="a=b") == "Copy"
    assert first_author(service, x_socle_lsn="nonsense") == "Ada"
    undone = service.ask("PATCH", "/authors?id=eq.2", {"name": "No"}, [("Prefer", "tx=rollback")])
    assert "x-socle-lsn" not in undone.headers


def test_a_replica_that_has_caught_up_is_read_again(serve: Serve) -> None:
    service = serve(AHEAD)
    position = service.ask("PATCH", "/authors?id=eq.2", {"name": "New"}).headers["x-socle-lsn"]
    assert first_author(service, x_socle_lsn=position) == "Copy"


def test_what_only_the_replica_refuses_is_asked_of_the_primary(serve: Serve) -> None:
    service = serve(AHEAD)
    assert service.ask("GET", "/places").status == 200
    refused = service.ask("GET", "/authors?id=eq.x")
    assert (refused.status, refused.code) == (400, "22P02")
    assert service.ask("GET", "/authors?nope=eq.1").code == "42703"
    assert first_author(service) == "Copy"


async def test_a_replica_that_goes_away_is_left_out_until_it_is_back(serve: Serve, server: TestServer) -> None:
    service = await asyncio.to_thread(serve, AHEAD)
    async with _shut(server):
        for _ in range(5):
            assert await asyncio.to_thread(first_author, service) == "Ada"
    until = time.monotonic() + 5
    while await asyncio.to_thread(first_author, service) != "Copy":
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _shut(server: TestServer) -> AsyncGenerator[None]:
    """The replica refuses sessions, and has ended those it had."""
    await server.run(
        "postgres",
        f"alter database {REPLICA} allow_connections false",
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{REPLICA}'",
    )
    yield
    await server.run("postgres", f"alter database {REPLICA} allow_connections true")


def test_a_replica_that_never_answers_keeps_nobody_from_starting(serve: Serve) -> None:
    service = serve(AHEAD, "postgresql://shop_login@127.0.0.1:1/nowhere")
    assert first_author(service) == "Ada"


def test_addresses_of_replicas() -> None:
    uris = "postgres://a@h1,h2:5432/db, postgresql://b@h3/db\n postgresql:///?host=/x"
    settings = load_database(Reader({"PGRST_DB_REPLICA_URIS": uris}))
    assert settings.replica_dsns == ("postgres://a@h1,h2:5432/db", "postgresql://b@h3/db", "postgresql:///?host=/x")
    assert load_database(Reader({})).replica_dsns == ()


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/G", "0/0/0", "123456789/0", " 0/1"])
def test_positions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_position(text)


def test_positions() -> None:
    assert parse_position("16/B374D848") == (0x16 << 32) + 0xB374D848
