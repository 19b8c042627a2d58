"""One session against PostgreSQL: exchanges, prepared statements, notices, cancellation, COPY, replication."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from harness.postgres import TestServer
from harness.server_messages import say
from socle_platform.pgwire import messages
from socle_platform.pgwire.block import command, written
from socle_platform.pgwire.connect import cancel, open_wire, stop
from socle_platform.pgwire.copying import CopyStream
from socle_platform.pgwire.dsn import parse_dsn
from socle_platform.pgwire.errors import ConnectFailed, ConnectionLost, DatabaseError
from socle_platform.pgwire.protocol import CommandComplete, Notification, ReadyForQuery, Signal
from socle_platform.pgwire.wire import Answer, Outcome, Wire, is_stale_statement


@pytest.fixture
async def wire(server: TestServer) -> AsyncIterator[Wire]:
    opened = await open_wire(parse_dsn(server.dsn("postgres")), statement_cache=16)
    yield opened
    opened.terminate()


async def run(wire: Wire, *statements: str, skip: int = 0) -> list[Outcome]:
    """Statements without parameters in one write, one implicit transaction."""
    parts = wire.closing()
    for sql in statements:
        statement = wire.statement(parts, sql, sql)
        parts += (messages.bind(statement.head, [b"\0\0"]), messages.EXECUTE)
    answer = await wire.exchange(b"".join([*parts, messages.SYNC]), skip)
    if answer.error is not None:
        raise answer.error
    return answer.outcomes


async def prepared(wire: Wire) -> int:
    return int((await wire.query("select count(*) from pg_prepared_statements"))[0].rows[0][0] or 0)


async def until_running(server: TestServer, wire: Wire) -> None:
    """Waits until the server sees the session at work."""
    other = await open_wire(parse_dsn(server.dsn("postgres")))
    async with asyncio.timeout(5):
        while (await other.query(f"select state from pg_stat_activity where pid = {wire.process}"))[0].rows != [
            (b"active",)
        ]:
            pass
    other.terminate()


async def test_several_statements_in_one_write(wire: Wire) -> None:
    outcomes = await run(wire, "select 1", "select 2, null", "values (3), (4)", skip=1)
    assert outcomes == [
        Outcome([], "SELECT 1"),
        Outcome([(b"2", None)], "SELECT 1"),
        Outcome([(b"3",), (b"4",)], "SELECT 2"),
    ]
    assert await run(wire, "select 1") == [Outcome([(b"1",)], "SELECT 1")]


async def test_one_write_is_one_transaction(wire: Wire) -> None:
    await wire.query("create temp table kept (n int)")
    with pytest.raises(DatabaseError) as caught:
        await run(wire, "insert into kept values (1)", "select 1/0", "insert into kept values (2)")
    assert caught.value.sqlstate == "22012"
    assert await run(wire, "select count(*) from kept") == [Outcome([(b"0",)], "SELECT 1")]
    assert wire.status == "I"


async def test_a_simple_query_may_hold_several_statements(wire: Wire) -> None:
    outcomes = await wire.query("select 1; select 2; ; create temp table x()")
    assert [outcome.tag for outcome in outcomes] == ["SELECT 1", "SELECT 1", "CREATE TABLE"]
    assert [outcome.tag for outcome in await wire.query("")] == [""]


async def test_statements_are_prepared_once(wire: Wire) -> None:
    for _ in range(5):
        await run(wire, "select 1", "select 2")
    assert wire.statements == await prepared(wire) == 2


async def test_a_statement_that_cannot_be_parsed_is_not_remembered(wire: Wire) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseError) as caught:
            await run(wire, "select 1", "select nothing_here", "select 3")
        assert caught.value.sqlstate == "42703"
    assert wire.statements == await prepared(wire) == 1
    await run(wire, "select 3")
    assert wire.statements == await prepared(wire) == 2


async def test_old_statements_are_closed(wire: Wire) -> None:
    for number in range(100):
        await run(wire, f"select {number}")
    assert wire.statements == 16
    await run(wire, "select 99")
    assert await prepared(wire) == 16
    # Used ones stay: they were moved to the young end.
    for number in range(200, 215):
        await run(wire, f"select {number}", "select 99")
    parts: list[bytes] = []
    wire.statement(parts, "select 99", "select 99")
    assert parts == []


async def test_closing_is_not_lost_when_the_write_fails(wire: Wire) -> None:
    for number in range(40):
        with pytest.raises(DatabaseError):
            await run(wire, "select 1/0", f"select {number}")
        await run(wire, f"select {number}")
    for _ in range(2):
        await run(wire, "select 'last'")
    assert await prepared(wire) == wire.statements == 16


async def test_statements_that_went_stale_are_recognised(wire: Wire) -> None:
    await wire.query("create temp table shape (a int)")
    await run(wire, "select * from shape")
    await wire.query("alter table shape add b int")
    with pytest.raises(DatabaseError) as caught:
        await run(wire, "select * from shape")
    assert is_stale_statement(caught.value)
    wire.forget_statements()
    assert await run(wire, "select * from shape") == [Outcome([], "SELECT 0")]
    await wire.query("deallocate all")
    with pytest.raises(DatabaseError) as gone:
        await run(wire, "select * from shape")
    assert is_stale_statement(gone.value)


async def test_a_statement_with_a_nul_is_never_sent(wire: Wire) -> None:
    with pytest.raises(ValueError, match="NUL"):
        await run(wire, "select 1\0")
    wire.forget_unsent()
    assert (await run(wire, "select 1"))[0].rows == [(b"1",)]


async def test_notices_notifications_and_parameters(wire: Wire, server: TestServer) -> None:
    notices: list[DatabaseError] = []
    heard: list[Notification] = []
    arrived = asyncio.Event()

    def hear(notification: Notification) -> None:
        heard.append(notification)
        arrived.set()

    wire.on_notice = notices.append
    wire.on_notification = hear
    await run(wire, "do $$ begin raise warning 'mind %', 'this' using hint = 'so'; end $$", "listen news")
    assert [(notice.severity, notice.message, notice.hint) for notice in notices] == [("WARNING", "mind this", "so")]
    await run(wire, "notify news, 'own'")
    other = await open_wire(parse_dsn(server.dsn("postgres")))
    await other.query("notify news, 'from another'")
    other.terminate()
    arrived.clear()
    while len(heard) < 2:
        await asyncio.wait_for(arrived.wait(), 5)
        arrived.clear()
    assert [(n.channel, n.payload) for n in heard] == [("news", "own"), ("news", "from another")]
    await wire.query("set application_name to 'renamed'")
    assert wire.parameters["application_name"] == "renamed"


async def test_cancelling_what_a_session_runs(wire: Wire, server: TestServer) -> None:
    running = asyncio.ensure_future(wire.query("select pg_sleep(60)"))
    await until_running(server, wire)
    await asyncio.wait_for(cancel(wire), 5)
    with pytest.raises(DatabaseError) as caught:
        await asyncio.wait_for(running, 5)
    assert caught.value.sqlstate == "57014"
    # An idle session does not mind, neither now nor later.
    await cancel(wire)
    await stop(wire)
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def test_giving_up_the_wait_leaves_the_session_busy_until_drained(wire: Wire) -> None:
    running = asyncio.ensure_future(run(wire, "select 1 from generate_series(1, 3)", "select pg_sleep(0.05)"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert wire.busy
    with pytest.raises(RuntimeError, match="busy"):
        wire.exchange(messages.SYNC)
    await asyncio.wait_for(wire.drain(), 5)
    assert not wire.busy
    # The books were kept although nobody waited: both statements are known.
    assert wire.statements == await prepared(wire) == 2


async def test_a_cancellation_that_overtakes_its_statement_is_repeated(wire: Wire) -> None:
    for _ in range(20):
        running = asyncio.ensure_future(wire.query("select pg_sleep(60)"))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait_for(stop(wire), 5)
        assert not wire.busy
        assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def test_two_exchanges_at_once_are_refused(wire: Wire) -> None:
    first = wire.exchange(messages.query("select 1"))
    with pytest.raises(RuntimeError, match="busy"):
        wire.exchange(messages.query("select 2"))
    assert (await first).outcomes[0].rows == [(b"1",)]


async def test_the_servers_end_of_a_session(wire: Wire, server: TestServer) -> None:
    other = await open_wire(parse_dsn(server.dsn("postgres")))
    running = asyncio.ensure_future(wire.query("select pg_sleep(60)"))
    await asyncio.sleep(0)
    await other.query(f"select pg_terminate_backend({wire.process}, 5000)")
    with pytest.raises(ConnectionLost) as caught:
        await asyncio.wait_for(running, 5)
    assert caught.value.error is not None
    assert caught.value.error.sqlstate == "57P01"
    assert wire.closed
    with pytest.raises(ConnectionLost):
        await wire.query("select 1")
    other.terminate()


async def test_copy_from_the_client_where_nobody_can_feed_it(wire: Wire) -> None:
    await wire.query("create temp table fed (n int)")
    with pytest.raises(ConnectionLost) as caught:
        await asyncio.wait_for(run(wire, "copy fed from stdin"), 5)
    assert caught.value.error is not None
    assert caught.value.error.sqlstate == "0A000"
    assert wire.closed


async def test_copy_to_us(wire: Wire) -> None:
    async with CopyStream(wire, "copy (select n, n * 2 from generate_series(1, 5000) n) to stdout") as stream:
        lines = [line async for line in stream]
    assert lines[0] == b"1\t2\n"
    assert len(lines) == 5000
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def test_leaving_copy_early(wire: Wire) -> None:
    async with CopyStream(wire, "copy (select repeat('x', 1000) from generate_series(1, 9000000)) to stdout") as stream:
        async for line in stream:
            assert len(line) == 1001
            break
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [("select 1", "42601"), ("copy nothing to stdout", "42P01"), ("copy (select 1/0) to stdout", "22012")],
)
async def test_copy_that_cannot_start(wire: Wire, sql: str, sqlstate: str) -> None:
    async def copy() -> None:
        async with CopyStream(wire, sql) as stream:
            async for _ in stream:
                pass

    with pytest.raises(DatabaseError) as caught:
        await copy()
    assert caught.value.sqlstate == sqlstate
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def test_copy_from_the_client_is_turned_down(wire: Wire) -> None:
    await wire.query("create temp table fed (n int)")
    with pytest.raises(DatabaseError) as caught:
        async with CopyStream(wire, "copy fed from stdin"):
            pass
    assert caught.value.sqlstate == "42601"
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def test_the_replication_stream(server: TestServer, database_name: str) -> None:
    plain = await open_wire(parse_dsn(server.dsn(database_name)))
    replication = await open_wire(parse_dsn(server.dsn(database_name) + "&replication=database"))
    await plain.query("create table watched (id int primary key); create publication everything for all tables")
    created = await replication.query("CREATE_REPLICATION_SLOT reader TEMPORARY LOGICAL pgoutput")
    assert created[0].rows[0][0] == b"reader"
    start = "START_REPLICATION SLOT reader LOGICAL 0/0 (proto_version '1', publication_names 'everything')"
    async with CopyStream(replication, start) as stream:
        await plain.query("insert into watched values (42)")
        kinds: list[bytes] = []
        async with asyncio.timeout(10):
            async for message in stream:
                if message[:1] == b"w":
                    kinds.append(message[25:26])
                if kinds[-1:] == [b"C"]:
                    break
        assert kinds == [b"B", b"R", b"I", b"C"]
        stream.send(b"r" + bytes(24) + bytes(8) + b"\0")
    assert not replication.closed
    assert (await replication.query("IDENTIFY_SYSTEM"))[0].tag == "IDENTIFY_SYSTEM"
    replication.terminate()
    plain.terminate()


async def test_logging_in_with_a_password(server: TestServer) -> None:
    wire = await open_wire(parse_dsn(server.url("postgres")))
    assert (await wire.query("select current_user"))[0].rows == [(b"postgres",)]
    wire.terminate()
    with pytest.raises(ConnectFailed) as caught:
        await open_wire(parse_dsn(server.url("postgres", password="wrong")))
    assert caught.value.error is not None
    assert caught.value.error.sqlstate == "28P01"
    with pytest.raises(ConnectFailed, match="password"):
        await open_wire(parse_dsn(server.url("postgres", password="")))
    with pytest.raises(ConnectFailed) as missing:
        await open_wire(parse_dsn(server.dsn("no_such_database")))
    assert missing.value.error is not None
    assert missing.value.error.sqlstate == "3D000"


async def test_startup_parameters(server: TestServer) -> None:
    dsn = server.dsn("postgres") + "&application_name=tester&options=-c%20statement_timeout%3D7s"
    wire = await open_wire(parse_dsn(dsn))
    found = await wire.query("show application_name; show statement_timeout; show client_encoding; show datestyle")
    assert [outcome.rows[0][0] for outcome in found] == [b"tester", b"7s", b"UTF8", b"ISO, MDY"]
    wire.terminate()


async def test_the_first_server_that_answers(server: TestServer) -> None:
    dsn = f"host=/nowhere,{server.socket_dir} port=1,{server.port} user=supabase_admin dbname=postgres"
    wire = await open_wire(parse_dsn(dsn + " target_session_attrs=read-write"))
    assert wire.address is not None
    assert wire.address.host == server.socket_dir
    wire.terminate()
    with pytest.raises(ConnectFailed, match="not standby"):
        await open_wire(parse_dsn(dsn + " target_session_attrs=standby"))


async def test_quiet_answers_are_known_again_but_errors_are_not_missed(wire: Wire) -> None:
    steps = [command("reset all"), command("select pg_catalog.pg_advisory_unlock_all()"), command("discard temp")]
    for number in range(4):
        answer = await later(wire, written(wire, steps), quiet=True)
        assert (answer.error, wire.busy, wire.status) == (None, False, "I")
        assert (answer.outcomes == []) == (number >= 2)  # the first prepared, the second was learnt
    failed = await later(wire, written(wire, [command("select 1/0")]), quiet=True)
    assert isinstance(failed.error, DatabaseError)
    assert failed.error.sqlstate == "22012"
    # another answer than the last is read, and learnt in its place
    for number in range(3):
        answer = await later(wire, written(wire, [command("reset role")]), quiet=True)
        assert answer.error is None
        assert (answer.outcomes == []) == (number >= 2)
    loud = await later(wire, written(wire, [command("reset role")]))
    assert [outcome.tag for outcome in loud.outcomes] == ["RESET"]
    assert (await wire.query("select 1"))[0].rows == [(b"1",)]


async def later(wire: Wire, payload: bytes, *, quiet: bool = False) -> Answer:
    found: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    wire.exchange_later(payload, found.set_result, quiet=quiet)
    return await asyncio.wait_for(found, 5)


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_quiet_answer_in_portions_is_no_shorter_one(cut: int) -> None:
    def answers(wire: Wire) -> list[Answer]:
        heard: list[Answer] = []
        wire.exchange_later(b"", heard.append, quiet=True)
        return heard

    said = say(Signal.BIND_COMPLETE) + say(CommandComplete("RESET")) + say(Signal.BIND_COMPLETE)
    said += say(CommandComplete("DISCARD TEMP")) + say(ReadyForQuery("I"))
    loop = asyncio.new_event_loop()
    wire = Wire(loop)
    wire.connection_made(DeafTransport())
    for _ in range(3):
        heard = answers(wire)
        wire.data_received(said[:cut])
        assert heard == []
        wire.data_received(said[cut:])
        assert [answer.error for answer in heard] == [None]
        heard = answers(wire)
        wire.data_received(said)
        assert [answer.error for answer in heard] == [None]
    loop.close()


class DeafTransport(asyncio.Transport):
    """Takes what is written and does nothing."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody reads it."""
