"""Sessions kept for reuse: limits, order, loss and recovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from harness.postgres import TestServer
from harness.server_messages import WELCOME, read_startup, read_until_sync, say, scripted_server
from socle_platform.pgwire import messages
from socle_platform.pgwire.connect import open_wire
from socle_platform.pgwire.dsn import parse_dsn
from socle_platform.pgwire.errors import ConnectFailed, DatabaseUnavailable, PoolTimeout
from socle_platform.pgwire.pool import Pool
from socle_platform.pgwire.protocol import CommandComplete, ReadyForQuery, ServerError
from socle_platform.pgwire.wire import Wire

MakePool = Callable[..., Pool]


@pytest.fixture
async def make_pool(server: TestServer) -> AsyncIterator[MakePool]:
    made: list[Pool] = []
    opened: list[Wire] = []
    target = parse_dsn(server.dsn("postgres"))

    async def connect() -> Wire:
        opened.append(await open_wire(target))
        return opened[-1]

    def make(size: int = 2, reset: str = "reset all; discard temp", **limits: float) -> Pool:
        made.append(Pool(connect, size=size, reset=reset, **limits))
        return made[-1]

    yield make
    for wire in opened:
        wire.abort()
    for pool in made:
        await pool.close()


async def ask(wire: Wire, sql: str) -> str:
    return (await wire.query(sql))[0].rows[0][0].decode()  # type: ignore[union-attr]  # never NULL here


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the pool has no event for this
            await asyncio.sleep(0.005)


async def test_the_session_used_last_goes_out_first(make_pool: MakePool) -> None:
    pool = make_pool()
    first, second = await pool.acquire(), await pool.acquire()
    assert first is not second
    assert (pool.size, pool.idle) == (2, 0)
    pool.release(second)
    pool.release(first)
    assert await pool.acquire() is first
    assert pool.take() is second
    assert pool.take() is None


async def test_no_more_than_the_limit_and_first_come_first_served(make_pool: MakePool) -> None:
    pool = make_pool(1)
    wire = await pool.acquire()
    order: list[int] = []

    async def want(number: int) -> None:
        mine = await pool.acquire()
        order.append(number)
        pool.release(mine)

    tasks = [asyncio.create_task(want(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert (pool.waiting, pool.size) == (5, 1)
    pool.release(wire)
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert pool.size == 1


async def test_waiting_has_an_end(make_pool: MakePool) -> None:
    pool = make_pool(1, acquire_timeout=0.03)
    wire = await pool.acquire()
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    pool.release(wire)
    assert await pool.acquire() is wire


async def test_giving_up_the_wait_loses_nothing(make_pool: MakePool) -> None:
    pool = make_pool(1)
    wire = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    # The session is handed over and the wait cancelled in the same turn of the loop.
    pool.release(wire)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert await asyncio.wait_for(pool.acquire(), 1) is wire


async def test_idle_sessions_close(make_pool: MakePool) -> None:
    pool = make_pool(idle_timeout=0.05)
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    assert pool.size == 2
    await until(lambda: pool.size == 0)
    assert first.closed
    assert await ask(await pool.acquire(), "select 1") == "1"


async def test_old_sessions_are_replaced(make_pool: MakePool) -> None:
    pool = make_pool(1, max_lifetime=0.05)
    wire = await pool.acquire()
    await asyncio.sleep(0.06)
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    pool.release(wire)
    assert wire.closed
    assert await asyncio.wait_for(waiter, 5) is not wire


async def test_a_session_that_the_server_ended_is_never_handed_out(make_pool: MakePool) -> None:
    pool = make_pool(3)
    wires = [await pool.acquire() for _ in range(3)]
    admin = wires.pop()
    for wire in wires:
        pool.release(wire)
    # pg_terminate_backend returns when they are gone; this loop has not read a byte of it yet when it asks the pool.
    answer = await admin.query("; ".join(f"select pg_terminate_backend({wire.process}, 5000)" for wire in wires))
    assert [outcome.rows for outcome in answer] == [[(b"t",)]] * 2
    pool.release(admin)
    admin = pool.take() or await pool.acquire()
    assert await ask(admin, "select 1") == "1"
    fresh = pool.take() or await pool.acquire()
    assert fresh not in wires
    assert await ask(fresh, "select 1") == "1"


async def test_the_end_of_a_session_is_seen_without_the_loops_help(make_pool: MakePool) -> None:
    pool = make_pool(2)
    victim, admin = await pool.acquire(), await pool.acquire()
    pool.release(victim)
    exchange = admin.exchange(messages.query(f"select pg_terminate_backend({victim.process}, 5000)"))
    # Wait for the farewell on the victim's socket while the loop is kept from reading it.
    deadline = time.monotonic() + 5
    while not victim.has_news() and time.monotonic() < deadline:
        pass
    assert not victim.closed
    assert pool.take() is None
    assert (await exchange).error is None
    taken = await pool.acquire()
    assert taken is not victim
    assert victim.farewell is not None
    assert victim.farewell.sqlstate == "57P01"


async def test_recovering_a_cancelled_session(make_pool: MakePool) -> None:
    pool = make_pool(1)
    wire = await pool.acquire()
    await wire.query("begin; set work_mem to '65MB'")
    running = asyncio.ensure_future(wire.query("select pg_sleep(60)"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    pool.recover(wire)
    again = await asyncio.wait_for(pool.acquire(), 5)
    assert again is wire
    assert wire.status == "I"
    assert await ask(wire, "show work_mem") != "65MB"


async def test_what_a_user_left_is_taken_back_after_the_answer(make_pool: MakePool) -> None:
    pool = make_pool(1)
    wire = await pool.acquire()
    await wire.query("set work_mem to '65MB'; create temp table mine()")
    pool.release_reset(wire)
    assert not wire.busy  # nothing is written before the caller has had its turn
    again = await asyncio.wait_for(pool.acquire(), 5)
    assert again is wire
    assert await ask(wire, "show work_mem") != "65MB"
    assert await ask(wire, "select to_regclass('pg_temp.mine') is null") == "t"


async def test_a_session_that_cannot_be_reset_is_dropped(make_pool: MakePool) -> None:
    pool = make_pool(1, reset="select 1/0")
    wire = await pool.acquire()
    pool.release_reset(wire)
    again = await asyncio.wait_for(pool.acquire(), 5)
    assert again is not wire
    assert wire.closed


async def test_a_server_that_ignores_cancellation_costs_a_session_not_a_slot() -> None:
    opened = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        start = await read_startup(reader)
        if start.startswith(b"\x04\xd2\x16\x2e"):
            return
        opened += 1
        writer.write(WELCOME)
        await reader.read()

    async with scripted_server(script) as dsn:
        pool = Pool(lambda: open_wire(parse_dsn(dsn)), size=1, cancel_timeout=0.05)
        wire = await pool.acquire()
        running = asyncio.ensure_future(wire.query("select 1"))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        pool.recover(wire)
        assert await asyncio.wait_for(pool.acquire(), 5) is not wire
        assert wire.closed
        assert opened == 2
        await pool.close()


async def test_a_server_that_is_away_and_comes_back() -> None:
    up = False

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_startup(reader)
        if not up:
            writer.write(say(ServerError({"S": "FATAL", "V": "FATAL", "C": "57P03", "M": "starting up"})))
            return
        writer.write(WELCOME)
        while await read_until_sync(reader):
            writer.write(say((b"1",)) + say(CommandComplete("SELECT 1")) + say(ReadyForQuery("I")))

    async with scripted_server(script) as dsn:
        pool = Pool(lambda: open_wire(parse_dsn(dsn)), size=2)
        refusals = await asyncio.gather(*[pool.acquire() for _ in range(20)], return_exceptions=True)
        assert all(isinstance(refusal, ConnectFailed) for refusal in refusals)
        assert (pool.size, pool.waiting) == (0, 0)
        up = True
        wire = await pool.acquire()
        assert await ask(wire, "select 1") == "1"
        pool.release(wire)
        await pool.close()


async def test_renewing_ends_idle_sessions_now_and_busy_ones_when_they_come_back(make_pool: MakePool) -> None:
    pool = make_pool()
    busy, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    pool.renew()
    assert idle.closed
    assert await ask(busy, "select 'still here'") == "still here"
    pool.release(busy)
    assert busy.closed
    fresh = await pool.acquire()
    pool.release(fresh)
    assert await pool.acquire() is fresh


async def test_closing(make_pool: MakePool) -> None:
    pool = make_pool(2, cancel_timeout=5)
    busy, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    running = asyncio.ensure_future(ask(busy, "select pg_sleep(0.05)::text || 'done'"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    taken = await waiters[0]
    pool.release(taken)
    assert taken.closed
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await waiters[1]
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await pool.acquire()
    assert await running == "done"
    assert not closing.done()
    pool.release(busy)
    await asyncio.wait_for(closing, 5)
    assert busy.closed
    assert pool.size == 0


async def test_closing_does_not_wait_for_ever(make_pool: MakePool) -> None:
    pool = make_pool(1, cancel_timeout=0.05)
    wire = await pool.acquire()
    await asyncio.wait_for(pool.close(), 5)
    assert wire.closed
