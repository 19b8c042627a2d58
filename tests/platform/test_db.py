"""Database: transactions as a caller and as a service, and what happens on trouble."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from harness.postgres import TestServer
from harness.things import ALICE, BOB, FACTS, fill, notes, run, until, user
from socle_platform.db import (
    ConnectFailed,
    Connection,
    ConnectionLost,
    Database,
    DatabaseError,
    PoolTimeout,
    Prepared,
    Record,
    Rollback,
)
from socle_platform.events import Noted, Observation
from socle_platform.identity import Identity

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def things(database: Database) -> Database:
    await fill(database)
    return database


async def settings_of(connection: Connection, *names: str) -> Record:
    columns = ", ".join(f"current_setting('{name}', true) as \"{name}\"" for name in names)
    row = await connection.fetchrow(f'select current_user::text as "user", {columns}')
    assert row is not None
    return row


# ---- transaction blocks ------------------------------------------------------------------------------------------


async def test_row_level_security_sees_the_caller(things: Database) -> None:
    assert await notes(things, user(ALICE)) == ["a"]
    assert await notes(things, user(BOB)) == ["b"]
    assert await notes(things, Identity.anonymous()) == []
    assert await notes(things, Identity.service()) == ["a", "b"]


async def test_everything_sql_may_know_of_the_request(things: Database) -> None:
    async with things.acting_as(
        user(ALICE), FACTS, search_path=("auth", 'odd"one'), settings={"app.settings.x": "y", "timezone": "Asia/Tokyo"}
    ) as connection:
        assert await settings_of(
            connection, "request.jwt.claims", "request.method", "request.path", "request.headers", "request.cookies",
            "search_path", "app.settings.x", "timezone", "transaction_read_only",
        ) == {
            "user": "authenticated",
            "request.jwt.claims": f'{{"role":"authenticated","sub":"{ALICE}"}}',
            "request.method": "POST",
            "request.path": "/things",
            "request.headers": '{"x-one":"1"}',
            "request.cookies": '{"c":"d"}',
            "search_path": '"auth", "odd""one"',
            "app.settings.x": "y",
            "timezone": "Asia/Tokyo",
            "transaction_read_only": "off",
        }  # fmt: skip


async def test_nothing_of_it_is_left_for_the_next(things: Database) -> None:
    await notes(things, user(ALICE))
    async with things.as_service("platform") as connection:
        found = await settings_of(connection, "request.jwt.claims")
    assert found == {"user": "supabase_admin", "request.jwt.claims": None}


@pytest.mark.parametrize(
    ("service", "role", "path"),
    [
        ("auth", "supabase_auth_admin", '"auth"'),
        ("storage", "supabase_storage_admin", '"storage"'),
        ("realtime", "supabase_realtime_admin", '"realtime"'),
        ("platform", "supabase_admin", '"public", "extensions"'),
    ],
)
async def test_services_work_as_their_own_role(database: Database, service: str, role: str, path: str) -> None:
    async with database.as_service(service) as connection:
        assert await settings_of(connection, "search_path") == {"user": role, "search_path": path}


async def test_services_behind_one_login(server: TestServer, database_name: str) -> None:
    settings = dataclasses.replace(
        server.settings(database_name), service_dsns={"platform": server.dsn(database_name, "supabase_admin")}
    )
    database = Database(settings)
    try:
        async with database.as_service("auth") as connection:
            assert (await settings_of(connection, "search_path"))["user"] == "supabase_auth_admin"
        assert database.pool_states()["auth"].size == database.pool_states()["platform"].size == 1
    finally:
        await database.close()


def test_an_unknown_service_or_isolation_level(server: TestServer) -> None:
    database = Database(server.settings("postgres"))
    with pytest.raises(ValueError, match="mail"):
        database.as_service("mail")
    with pytest.raises(ValueError, match="isolation"):
        database.acting_as(Identity.service(), FACTS, isolation="chaos; drop table x")


async def test_commit_and_rollback(things: Database) -> None:
    async with things.acting_as(user(ALICE), FACTS) as connection:
        assert await connection.execute("insert into public.things values (3, default, 'kept')") == "INSERT 0 1"
    async with things.acting_as(user(ALICE), FACTS) as connection:
        await connection.execute("insert into public.things values (4)")
        raise Rollback

    async def fall() -> None:
        async with things.acting_as(user(ALICE), FACTS) as connection:
            await connection.execute("insert into public.things values (5)")
            raise KeyError

    with pytest.raises(KeyError):
        await fall()
    assert await notes(things, user(ALICE)) == ["a", "kept"]


async def test_savepoints(things: Database) -> None:
    async with things.acting_as(user(ALICE), FACTS) as connection:
        async with connection.transaction():
            await connection.execute("insert into public.things values (10, default, 'outer')")
            with pytest.raises(DatabaseError) as caught:
                async with connection.transaction():
                    await connection.execute("insert into public.things values (10)")
            assert caught.value.sqlstate == "23505"
            async with connection.transaction():
                await connection.execute("insert into public.things values (11)")
                raise Rollback
            async with connection.transaction():
                pass
        async with connection.transaction():
            await connection.execute("insert into public.things values (12, default, 'second')")
    assert await notes(things, user(ALICE)) == ["a", "outer", "second"]


async def test_a_hidden_failure_is_not_a_commit(things: Database) -> None:
    async def hide() -> None:
        async with things.acting_as(user(ALICE), FACTS) as connection:
            await connection.execute("insert into public.things values (20)")
            with pytest.raises(DatabaseError):
                await connection.execute("select 1/0")

    with pytest.raises(DatabaseError) as caught:
        await hide()
    assert caught.value.sqlstate == "25P02"

    async def hide_in_savepoint(connection: Connection) -> None:
        async with connection.transaction():
            with pytest.raises(DatabaseError):
                await connection.execute("select 1/0")

    async def hide_inside() -> None:
        async with things.acting_as(user(ALICE), FACTS) as connection:
            await connection.execute("insert into public.things values (21, default, 'still good')")
            with pytest.raises(DatabaseError) as inner:
                await hide_in_savepoint(connection)
            assert inner.value.sqlstate == "25P02"

    await hide_inside()
    assert await notes(things, user(ALICE)) == ["a", "still good"]


async def test_a_block_that_ends_its_own_transaction_runs_nothing_more(things: Database) -> None:
    async def stray() -> None:
        async with things.acting_as(user(ALICE), FACTS) as connection:
            await connection.execute("commit")
            with pytest.raises(DatabaseError):
                await connection.execute("select 1")

    with pytest.raises(DatabaseError) as caught:
        await stray()
    assert caught.value.sqlstate == "25P02"


async def test_a_block_without_statements_takes_no_session(server: TestServer) -> None:
    database = Database(dataclasses.replace(server.settings("postgres"), api_dsn="host=/nowhere"))
    async with database.acting_as(Identity.service(), FACTS):
        pass
    with pytest.raises(ConnectFailed):
        async with database.acting_as(Identity.service(), FACTS) as connection:
            await connection.fetchval("select 1")
    with pytest.raises(ConnectFailed):
        await database.start()
    await database.close()


async def test_fetching(things: Database) -> None:
    async with things.as_service("platform") as connection:
        assert await connection.fetch("select 1 as a, 'x' as b where false") == []
        assert await connection.fetchrow("select 1 where false") is None
        assert await connection.fetchval("select 1 where false") is None
        assert await connection.fetchval("select null::int") is None
        assert await connection.fetchrow("select 1 as a, null as b, true as c") == {"a": 1, "b": None, "c": True}
        assert await connection.fetchval("select $1 || $2", "a", "b") == "ab"
        assert await connection.fetch("create table made (n int)") == []
        assert await connection.execute("select 1 from generate_series(1, 3)") == "SELECT 3"
        assert await connection.execute("") == ""


async def test_misuse_is_told(things: Database) -> None:
    async with things.as_service("platform") as connection:
        first = asyncio.ensure_future(connection.fetchval("select 1"))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another statement"):
            await connection.fetchval("select 2")
        assert await first == 1
        for impossible in ("select 1\0", "select '\ud800'"):
            with pytest.raises(DatabaseError) as caught:
                await connection.fetchval(impossible)
            assert caught.value.sqlstate == "22021"
        with pytest.raises(TypeError):
            await connection.fetchval("select $1", object())
        assert await connection.fetchval("select 3") == 3
    with pytest.raises(RuntimeError, match="over"):
        await connection.fetchval("select 1")


async def test_values_that_postgresql_refuses_are_its_own_errors(things: Database) -> None:
    for value, sqlstate in (("a\0b", "22021"), ("\ud800", "22021"), ("x" * 10, "22P02"), ([1] * 70000, "22P02")):
        with pytest.raises(DatabaseError) as caught:
            async with things.as_service("platform") as connection:
                await connection.fetchval("select $1::int", value)
        assert caught.value.sqlstate == sqlstate
    with pytest.raises(DatabaseError) as many:
        async with things.as_service("platform") as connection:
            await connection.fetchval("select 1", *range(70000))
    assert many.value.sqlstate == "54023"


async def test_giving_up_a_statement_and_staying_in_the_block(things: Database) -> None:
    async with things.as_service("platform") as connection:
        await connection.execute("insert into public.firm values (1)")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), connection.transaction():
                await connection.execute("select pg_sleep(60)")
        assert await connection.fetchval("select count(*) from public.firm") == 1


async def test_a_table_that_changes_its_shape(things: Database) -> None:
    for columns in (3, 4, 5):
        for _ in range(5):
            async with things.acting_as(Identity.service(), FACTS) as connection:
                assert len((await connection.fetch("select * from public.things"))[0]) == columns
            result = await things.run_as(Identity.service(), FACTS, Prepared("select * from public.things"))
            assert len(result.rows[0]) == columns
        async with things.as_service("platform") as connection:
            await connection.execute(f"alter table public.things add extra{columns} int")
    things.forget_statements()
    assert len((await things.run_as(Identity.service(), FACTS, Prepared("select * from public.things"))).rows[0]) == 6


# ---- trouble -----------------------------------------------------------------------------------------------------


async def test_sessions_that_postgresql_ends(things: Database) -> None:
    waiting = asyncio.create_task(run(things, user(ALICE), "select pg_sleep(60)"))
    end = (
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and query like '%pg_sleep(60)'"
    )
    await until(things, end)
    with pytest.raises(ConnectionLost) as caught:
        await waiting
    assert caught.value.error is not None
    assert caught.value.error.sqlstate == "57P01"
    everybody = end.replace(" and query like '%pg_sleep(60)'", "")
    for _ in range(5):
        async with things.as_service("platform") as connection:
            await connection.fetchval(everybody)
        assert await notes(things, user(ALICE)) == ["a"]


async def test_a_full_pool(server: TestServer, database_name: str) -> None:
    settings = dataclasses.replace(server.settings(database_name), api_pool_size=1, acquire_timeout=0.05)
    database = Database(settings)
    try:
        async with database.acting_as(Identity.service(), FACTS) as connection:
            assert await connection.fetchval("select 1") == 1
            with pytest.raises(PoolTimeout):
                await run(database, Identity.service(), "select 2")
        assert (await run(database, Identity.service(), "select 3")).rows == [(b"3",)]
    finally:
        await database.close()


async def test_notices_are_observed(server: TestServer, database_name: str) -> None:
    seen: list[Observation] = []
    database = Database(server.settings(database_name), seen.append)
    try:
        await run(database, Identity.service(), "do $$ begin raise warning 'careful'; raise notice 'so'; end $$")
        await database.ping()
    finally:
        await database.close()
    assert seen == [Noted("database", "warning", "WARNING: careful"), Noted("database", "debug", "NOTICE: so")]


def test_only_the_ground_takes_roles_and_makes_settings() -> None:
    """An identity is set in db.py; beside it only the insert counter and the migrations' own session may do so."""
    allowed = {"platform/socle_platform/db.py", "platform/socle_platform/tally.py"}
    pattern = re.compile(r"set_config|\bset\s+((local|session)\s+)?(role|session\s+authorization)\b", re.IGNORECASE)
    update = re.compile(r"\bupdate\b.*\bset\b", re.IGNORECASE)  # of a column that is called role
    found: set[str] = set()
    for room in ("platform", "auth", "rest", "storage", "realtime", "functions", "scripts"):
        for file in (ROOT / room).rglob("*.py"):
            if any(pattern.search(line) and not update.search(line) for line in file.read_text().splitlines()):
                found.add(str(file.relative_to(ROOT)))
    assert {name for name in found if "/migrate/" not in name} <= allowed
    assert "platform/socle_platform/db.py" in found
