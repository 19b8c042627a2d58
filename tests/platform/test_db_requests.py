"""Database: requests of one write and streams, as a caller."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.postgres import TestServer
from harness.things import ALICE, BOB, FACTS, fill, notes, run, until, user
from socle_platform.db import (
    Database,
    DatabaseError,
    Prepared,
    Result,
)
from socle_platform.identity import Identity


@pytest.fixture
async def things(database: Database) -> Database:
    await fill(database)
    return database


@pytest.fixture
async def single(things: Database, server: TestServer, database_name: str) -> AsyncIterator[Database]:
    """`things` with one session for all callers."""
    opened = Database(dataclasses.replace(server.settings(database_name), api_pool_size=1))
    yield opened
    assert opened.pool_states()["api"].size <= 1
    await opened.close()


async def test_somebody_deallocates_our_statements(single: Database) -> None:
    things = single
    deallocate = "do $$ begin execute 'deallocate all'; end $$"
    assert (await run(things, Identity.service(), "select 1")).rows == [(b"1",)]
    await run(things, Identity.service(), deallocate)
    assert (await run(things, Identity.service(), "select 1")).rows == [(b"1",)]
    assert await notes(things, user(BOB)) == ["b"]
    await run(things, Identity.service(), deallocate)
    assert await notes(things, user(BOB)) == ["b"]
    for _ in range(3):
        # Here a COMMIT has to follow in the same write.
        await run(things, Identity.service(), deallocate, isolation="serializable")
    assert (await run(things, Identity.service(), "select 1", isolation="serializable")).rows == [(b"1",)]


async def test_one_write(things: Database) -> None:
    result = await run(things, user(ALICE), "select id, note, null from public.things where id = $1", b"1")
    assert result == Result([(b"1", b"a", None)], "SELECT 1")
    assert (await run(things, user(BOB), "select id from public.things where id = $1", b"1")).rows == []
    assert (await run(things, user(ALICE), "insert into public.things values (3) returning id")).rows == [(b"3",)]
    assert (await run(things, user(ALICE), "update public.things set note = 'c'")).tag == "UPDATE 2"


async def test_statements_that_cannot_be_sent(single: Database) -> None:
    for sql, args, sqlstate in (
        ('select 1 as "\0"', (), "22021"),
        ('select 1 as "\ud800"', (), "22021"),
        ("select $1", (b"a\0b",), "22021"),
        ("select $1", (b"\xff",), "22021"),
        ("select 1", (b"",) * 65536, "54023"),
    ):
        with pytest.raises(DatabaseError) as caught:
            await run(single, user(ALICE), sql, *args)
        assert caught.value.sqlstate == sqlstate
    assert (await run(single, user(ALICE), "select $1", b"1")).rows == [(b"1",)]


async def test_without_prepared_statements(things: Database, server: TestServer, database_name: str) -> None:
    opened = Database(dataclasses.replace(server.settings(database_name), statement_cache=0, api_pool_size=1))
    try:
        for isolation in (None, "serializable", None):
            assert await notes(opened, user(ALICE)) == ["a"]
            found = await run(
                opened, user(BOB), "select note, (select count(*) from pg_prepared_statements where name <> '')"
                " from public.things", isolation=isolation,
            )  # fmt: skip
            assert found.rows == [(b"b", b"0")]
        async with opened.stream_as(user(BOB), FACTS, Prepared("select note from public.things")) as batches:
            assert [rows async for rows in batches] == [[(b"b",)]]
    finally:
        await opened.close()


async def test_binary_results(things: Database) -> None:
    statement = Prepared("select 7::int, '\\x00ff'::bytea, '\\x00ff'::bytea", result_formats=(0, 1, 0))
    assert (await things.run_as(user(ALICE), FACTS, statement)).rows == [(b"7", b"\x00\xff", b"\\x00ff")]


@pytest.mark.parametrize("isolation", [None, "repeatable read"])
async def test_read_only(things: Database, isolation: str | None) -> None:
    with pytest.raises(DatabaseError) as caught:
        await run(things, user(ALICE), "insert into public.things values (3)", read_only=True, isolation=isolation)
    assert caught.value.sqlstate == "25006"
    shown = await run(things, user(ALICE), "show transaction_isolation", read_only=True, isolation=isolation)
    assert shown.rows == [((isolation or "read committed").encode(),)]
    await run(things, user(ALICE), "insert into public.things values (3)")


@pytest.mark.parametrize("read_only", [True, False])
async def test_one_write_tells_sql_the_same_as_a_block(things: Database, read_only: bool) -> None:
    names = (
        "role", "search_path", "request.jwt.claims", "request.method", "request.path", "request.headers",
        "request.cookies", "app.settings.x", "transaction_read_only",
    )  # fmt: skip
    sql = "select array[" + ", ".join(f"current_setting('{name}')" for name in names) + "]::text"
    for who in (user(ALICE), user(BOB), Identity.anonymous()):
        for path in (("public",), ("auth", 'odd"one')):
            options: dict[str, Any] = {"search_path": path, "settings": {"app.settings.x": "é"}, "read_only": read_only}
            async with things.acting_as(who, FACTS, **options) as connection:
                expected = await connection.fetchval(sql)
            assert expected.startswith(f"{{{who.role},")
            for _ in range(2):
                assert (await run(things, who, sql, **options)).rows == [(expected.encode(),)]
            async with things.stream_as(who, FACTS, Prepared(sql), **options) as batches:
                assert [rows async for rows in batches] == [[(expected.encode(),)]]


async def test_before_after_and_settings_to_read(things: Database) -> None:
    result = await run(
        things, user(ALICE), "select current_setting('app.from_before')",
        before=Prepared("select set_config('app.from_before', $1, true)", (b"hello",)),
        after=Prepared("select count(*) from public.things"),
        gucs=("app.from_before", "app.never_set", "request.path"),
        settings={"app.settings.z": "1"}, role_settings={"statement_timeout": "7s"},
    )  # fmt: skip
    assert result.rows == [(b"hello",)]
    assert result.after == [(b"1",)]
    assert result.gucs == {"app.from_before": "hello", "app.never_set": None, "request.path": "/things"}
    shown = await run(things, user(ALICE), "show statement_timeout", role_settings={"statement_timeout": "7s"})
    assert shown.rows == [(b"7s",)]
    assert (await run(things, user(ALICE), "show statement_timeout")).rows != [(b"7s",)]


async def test_before_may_refuse_or_change_the_role(things: Database) -> None:
    with pytest.raises(DatabaseError, match="not today") as caught:
        await run(
            things, user(ALICE), "insert into public.things values (3)",
            before=Prepared("do $$ begin raise 'not today' using errcode = 'PT403', hint = 'tomorrow'; end $$"),
        )  # fmt: skip
    assert (caught.value.sqlstate, caught.value.hint) == ("PT403", "tomorrow")
    changed = await run(
        things, user(ALICE), "select current_user", before=Prepared("select set_config('role', 'anon', true)")
    )
    assert changed.rows == [(b"anon",)]
    assert await notes(things, user(ALICE)) == ["a"]


@pytest.mark.parametrize("isolation", [None, "serializable"])
async def test_a_check_decides_what_is_kept(things: Database, isolation: str | None) -> None:
    class TooMany(Exception):
        pass

    seen: list[Result] = []

    def check(result: Result) -> None:
        seen.append(result)
        if len(result.rows) > 1:
            raise TooMany

    await run(
        things, user(ALICE), "insert into public.things values (3) returning id", check=check, isolation=isolation
    )
    with pytest.raises(TooMany):
        await run(things, user(ALICE), "delete from public.things returning id", check=check, isolation=isolation)
    assert [len(result.rows) for result in seen] == [1, 2]
    assert len(await notes(things, user(ALICE))) == 2


async def test_rolled_back_on_order_with_deferred_constraints_reported(things: Database) -> None:
    kept: list[int] = []

    def count(result: Result) -> None:
        kept.append(len(result.rows))

    for check in (None, count):
        result = await run(
            things, user(ALICE), "insert into public.firm values (1) returning id", rollback=True, check=check
        )
        assert result.rows == [(b"1",)]
        with pytest.raises(DatabaseError) as caught:
            await run(things, user(ALICE), "insert into public.firm values (2, 99)", rollback=True, check=check)
        assert caught.value.sqlstate == "23503"
    assert kept == [1, 0]
    assert (await run(things, user(ALICE), "select count(*) from public.firm")).rows == [(b"0",)]


@pytest.mark.parametrize("isolation", [None, "read committed"])
async def test_constraints_that_only_fail_at_the_end(things: Database, isolation: str | None) -> None:
    with pytest.raises(DatabaseError) as caught:
        await run(things, user(ALICE), "insert into public.firm values (2, 99) returning id", isolation=isolation)
    assert (caught.value.sqlstate, caught.value.constraint) == ("23503", "firm_twin_fkey")
    assert (await run(things, user(ALICE), "select count(*) from public.firm")).rows == [(b"0",)]


@pytest.mark.parametrize(
    ("role", "sqlstate"), [("nobody", "22023"), ("postgres", "42501"), ("", "22023"), ("none", "22023")]
)
async def test_roles_that_cannot_be_taken(things: Database, role: str, sqlstate: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        await run(things, Identity.of_role(role), "select 1")
    assert caught.value.sqlstate == sqlstate
    with pytest.raises(DatabaseError) as in_a_block:
        async with things.acting_as(Identity.of_role(role), FACTS) as connection:
            await connection.execute("select 1")
    assert (in_a_block.value.sqlstate, in_a_block.value.message) == (sqlstate, caught.value.message)


async def test_cancelling_the_wait_cancels_the_statement(things: Database) -> None:
    task = asyncio.create_task(
        run(things, user(ALICE), "insert into public.things select 3, auth.uid(), pg_sleep(60)::text")
    )
    running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(60)::text'"
    await until(things, running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(things, running.replace("count(*)", "count(*) = 0"))
    assert await notes(things, user(ALICE)) == ["a"]


async def test_what_user_code_leaves_behind_is_taken_back(single: Database) -> None:
    things = single
    timeout = (await run(things, user(ALICE), "show statement_timeout")).rows[0][0]
    leave = (
        "select set_config('statement_timeout', '77777', false), set_config('app.left', 'yes', false),"
        " pg_advisory_lock(4711)"
    )
    await run(things, user(ALICE), leave)
    await run(things, user(ALICE), "create temp table things (id int)")
    await run(things, user(ALICE), "listen everything")
    found = await run(
        things, user(BOB),
        "select current_setting('statement_timeout'), coalesce(current_setting('app.left', true), ''),"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),"
            " to_regclass('pg_temp.things') is null,"
        " (select count(*) from pg_listening_channels())",
    )  # fmt: skip
    assert found.rows == [(timeout, b"", b"0", b"t", b"0")]


# ---- streams -----------------------------------------------------------------------------------------------------


async def test_a_stream(things: Database) -> None:
    statement = Prepared("select n, auth.uid() from generate_series(1, $1) n", (b"10",))
    async with things.stream_as(user(ALICE), FACTS, statement, batch=4) as batches:
        found = [rows async for rows in batches]
    assert [len(rows) for rows in found] == [4, 4, 2]
    assert found[2][1] == (b"10", ALICE.encode())
    async with things.stream_as(user(ALICE), FACTS, Prepared("select 1 where false")) as batches:
        assert [rows async for rows in batches] == []


async def test_a_stream_left_early(things: Database) -> None:
    statement = Prepared("select repeat('x', 1000), generate_series(1, 1000000000)")
    async with things.stream_as(user(ALICE), FACTS, statement, batch=2) as batches:
        assert len(await anext(batches)) == 2

    async def fall() -> None:
        async with things.stream_as(user(ALICE), FACTS, statement) as batches:
            await anext(batches)
            raise KeyError

    with pytest.raises(KeyError):
        await fall()
    assert await notes(things, user(ALICE)) == ["a"]


async def test_errors_of_a_stream(things: Database) -> None:
    with pytest.raises(DatabaseError) as caught:
        async with things.stream_as(user(ALICE), FACTS, Prepared("select nothing")):
            pass
    assert caught.value.sqlstate == "42703"

    async def read(batches: AsyncIterator[Any]) -> int:
        return sum([len(rows) async for rows in batches])

    with pytest.raises(DatabaseError) as late:
        async with things.stream_as(
            user(ALICE), FACTS, Prepared("select 1 / (5 - n) from generate_series(1, 9) n"), batch=2
        ) as batches:
            await read(batches)
    assert late.value.sqlstate == "22012"
    with pytest.raises(DatabaseError) as refused:
        async with things.stream_as(user(ALICE), FACTS, Prepared("insert into public.things values (3)")):
            pass
    assert refused.value.sqlstate == "25006"
    assert await notes(things, user(ALICE)) == ["a"]


# ---- one statement as a service ----------------------------------------------------------------------------------


async def test_one_statement_as_a_service(database: Database) -> None:
    statement = Prepared("select current_user, current_setting('search_path'), $1::int + 1", (b"41",))
    assert (await database.run_as_service("auth", statement)).rows == [(b"supabase_auth_admin", b'"auth"', b"42")]
    async with database.as_service("platform") as connection:
        assert await connection.fetchval("select current_user::text") != "supabase_auth_admin"


async def test_a_failed_statement_of_a_service_gives_its_session_back(database: Database) -> None:
    for _ in range(3 * database.pool_states()["auth"].limit):
        with pytest.raises(DatabaseError, match="division by zero"):
            await database.run_as_service("auth", Prepared("select 1 / $1::int", (b"0",)))
    assert database.pool_states()["auth"].size == 1
    assert (await database.run_as_service("auth", Prepared("select 1"))).rows == [(b"1",)]
