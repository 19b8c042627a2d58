"""Start, stop, death and return of the embedded server, on a real one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from harness.embedded import connected
from harness.postgres import free_port
from socle_app.embedded import EmbeddedServer, delete_data, status, stop_left_behind
from socle_app.embedded.account import own_name
from socle_app.embedded.errors import (
    AccountUnusable,
    AddressUnusable,
    AlreadyRunning,
    ForeignMajor,
    NotDataFolder,
    PathUnusable,
    PortTaken,
    StartFailed,
)
from socle_app.embedded.processes import is_alive, processes_in
from socle_platform.events import Noted, Observation

if TYPE_CHECKING:
    from harness.embedded import ServerMaker

CHILD = """
import asyncio, sys, threading
from pathlib import Path
from socle_app.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]), port=int(sys.argv[2]), host="", profile="test", keep_alive=False)
    endpoint = await server.start()
    print(endpoint.pid, flush=True)

asyncio.run(main()) if sys.argv[3] == "main" else threading.Thread(target=lambda: asyncio.run(main())).start()
sys.stdin.read()
"""


async def test_a_first_start_makes_the_database(folder: Path, server_of: ServerMaker) -> None:
    state = folder / ".socle"
    server = server_of(state, host="127.0.0.1")
    endpoint = await server.start()
    async with connected(endpoint) as connection:
        row = await connection.fetchrow(
            "select current_user as who, current_setting('wal_level') as wal, current_setting('server_encoding') as "
            "encoding, datlocale, datlocprovider::text, 'Z' < 'a' as by_code_point, rolsuper "
            "from pg_database, pg_roles where datname = 'postgres' and rolname = current_user"
        )
        assert row is not None
        assert dict(row) == {
            "who": "supabase_admin",
            "wal": "logical",
            "encoding": "UTF8",
            "datlocale": "C.UTF-8",
            "datlocprovider": "b",
            "by_code_point": True,
            "rolsuper": True,
        }
    found = status(state)
    assert found.state == "running"
    assert found.endpoint == endpoint
    assert found.supervisor_pid == os.getpid()
    assert (endpoint.data_dir.stat().st_mode & 0o777) == 0o700
    assert "ready to accept connections" in endpoint.log.read_text()

    await server.stop()
    assert not is_alive(endpoint.pid)
    found = status(state)
    assert (found.state, found.endpoint, found.data_dir) == ("stopped", None, endpoint.data_dir)


async def test_the_next_start_finds_everything_again(state: Path, server_of: ServerMaker) -> None:
    first = server_of(state)
    async with connected(await first.start()) as connection:
        await connection.execute("create table kept as select 42 as answer")
    await first.stop()
    async with connected(await server_of(state).start()) as connection:
        assert await connection.fetchval("select answer from kept") == 42


def test_nothing_there_is_absent(tmp_path: Path) -> None:
    assert status(tmp_path / "none").state == "absent"
    assert not (tmp_path / "none").exists()


async def test_every_role_enters_by_the_socket_and_none_by_tcp_without_a_password(
    state: Path, server_of: ServerMaker
) -> None:
    endpoint = await server_of(state, host="127.0.0.1").start()
    async with connected(endpoint) as connection:
        await connection.execute("create role authenticator login noinherit")
        await connection.execute("create role postgres login password 'postgres'")
    async with connected(endpoint, "authenticator") as connection:
        assert await connection.fetchval("select current_user") == "authenticator"
    address = f"127.0.0.1:{endpoint.port}/postgres"
    for login in ("supabase_admin:guess", "postgres:guess"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://{login}@{address}")
    connection = await asyncpg.connect(f"postgresql://postgres:postgres@{address}")
    await connection.close()


async def test_one_project_has_one_server(state: Path, server_of: ServerMaker) -> None:
    first = server_of(state)
    endpoint = await first.start()
    with pytest.raises(AlreadyRunning) as caught:
        await server_of(state).start()
    assert caught.value.pid == os.getpid()
    assert caught.value.port == endpoint.port
    assert "socle stop" in caught.value.message
    with pytest.raises(AlreadyRunning):
        await stop_left_behind(state)
    assert first.alive
    await first.stop()
    await server_of(state).start()


async def test_a_killed_postmaster_comes_back_with_every_row(state: Path, server_of: ServerMaker) -> None:
    told: list[Observation] = []
    server = server_of(state, keep_alive=True, observe=told.append, settings={"synchronous_commit": "on"})
    endpoint = await server.start()
    async with connected(endpoint) as connection:
        await connection.execute("create table kept (n integer)")
        await connection.execute("insert into kept values (1)")
    busy = await asyncpg.connect(
        host=str(endpoint.socket_dir), port=endpoint.port, user="supabase_admin", database="postgres"
    )
    # A session that computes does not notice its postmaster's death, and would hold the shared memory for long.
    computing = asyncio.ensure_future(busy.execute("do $$ begin for i in 1..2000000000 loop end loop; end $$"))
    async with connected(endpoint) as connection:
        running = "select 1 from pg_stat_activity where query like 'do $$%' and state = 'active'"
        while not await connection.fetchval(running):  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    os.kill(endpoint.pid, signal.SIGKILL)
    async with asyncio.timeout(15):
        await server.dead.wait()
        assert not server.ready.is_set()
        await server.ready.wait()
    assert not server.dead.is_set()
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await computing
    again = status(state).endpoint
    assert again is not None
    assert again.pid != endpoint.pid
    async with connected(again) as connection:
        assert await connection.fetchval("select n from kept") == 1
    assert [note.level for note in told if isinstance(note, Noted)] == ["error", "warning"]


async def test_a_killed_backend_needs_no_new_server(state: Path, server_of: ServerMaker) -> None:
    server = server_of(state, keep_alive=True)
    endpoint = await server.start()
    async with connected(endpoint) as connection:
        victim = await connection.fetchval("select pg_backend_pid()")
        os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(10):
        while True:
            try:
                async with connected(endpoint) as connection:
                    assert await connection.fetchval("select 1") == 1
                    break
            except (asyncpg.PostgresError, OSError):
                await asyncio.sleep(0.02)
    assert server.alive
    assert not server.dead.is_set()


def start_child(state: Path, thread: str) -> tuple[subprocess.Popen[str], int]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state), str(free_port()), thread],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def sleeper(user: int | None = None, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], user=user, cwd=cwd)  # noqa: S607


async def gone(pid: int) -> bool:
    for _ in range(400):
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_the_server_ends_with_a_killed_supervisor(state: Path) -> None:
    with (started := start_child(state, "main"))[0] as child:
        assert status(state).state == "running"
        child.kill()
    assert await gone(started[1])
    assert status(state).state == "stopped"


async def test_a_server_left_behind_is_found_stopped_and_replaced(state: Path, server_of: ServerMaker) -> None:
    # Started from a thread that ended: the kernel was not asked to end it with its parent.
    with (started := start_child(state, "thread"))[0] as child:
        child.kill()
    orphan = started[1]
    found = status(state)
    assert (found.state, found.supervisor_pid) == ("orphaned", None)
    endpoint = await server_of(state).start()
    assert not is_alive(orphan)
    async with connected(endpoint) as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_server_left_behind_can_just_be_stopped(state: Path) -> None:
    with (started := start_child(state, "thread"))[0] as child:
        child.kill()
    assert await stop_left_behind(state)
    assert not is_alive(started[1])
    assert status(state).state == "stopped"
    assert not await stop_left_behind(state)


async def test_a_database_can_be_deleted_for_good(state: Path, server_of: ServerMaker) -> None:
    server = server_of(state)
    await server.start()
    with pytest.raises(AlreadyRunning):
        await delete_data(state)
    await server.stop()
    assert await delete_data(state)
    assert status(state).state == "absent"
    assert not (state / "postgres" / "data").exists()
    assert not await delete_data(state)


@pytest.mark.parametrize("left", ["", "garbage\n", "{pid}\n{data}\n1\n5432\n\n\n 1 1\nready   \n"])
async def test_stale_pid_files_do_not_matter(state: Path, left: str, server_of: ServerMaker) -> None:
    data = state / "postgres" / "data"
    # A living process of the server's own user whose number the file names by accident.
    stranger = sleeper(user=data.stat().st_uid)
    try:
        (data / "postmaster.pid").write_text(left.format(pid=stranger.pid, data=data))
        os.chown(data / "postmaster.pid", data.stat().st_uid, data.stat().st_gid)
        server = server_of(state)
        await server.start()
        assert server.alive
        assert is_alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_shell_in_the_data_folder_survives(state: Path, server_of: ServerMaker) -> None:
    with sleeper(cwd=state / "postgres" / "data") as shell:
        await server_of(state).start()
        assert is_alive(shell.pid)
        shell.kill()


async def test_a_taken_port_is_named_with_its_holder_and_the_flag(state: Path, server_of: ServerMaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = int(holder.getsockname()[1])
        with pytest.raises(PortTaken) as caught:
            await server_of(state, host="127.0.0.1", port=port).start()
    assert str(port) in caught.value.message
    assert f"process {os.getpid()}" in caught.value.message
    assert "--db-port" in caught.value.message
    assert status(state).state == "stopped"


async def test_an_address_of_another_machine_is_refused(state: Path, server_of: ServerMaker) -> None:
    with pytest.raises(AddressUnusable, match=r"192\.0\.2\.1"):
        await server_of(state, host="192.0.2.1").start()


async def test_another_major_version_is_refused_untouched(state: Path, server_of: ServerMaker) -> None:
    version = state / "postgres" / "data" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ForeignMajor) as caught:
        await server_of(state).start()
    assert caught.value.found == "17"
    assert "pg_dump DB_URL" in caught.value.message
    assert version.read_text() == "17\n"


async def test_a_folder_with_something_else_is_refused(folder: Path, server_of: ServerMaker) -> None:
    server = server_of(folder / "state")
    data = folder / "state" / "postgres" / "data"
    data.mkdir(parents=True)
    for made in (data.parents[1], data.parent):
        made.chmod(0o755)
    (data / "photo.jpg").write_bytes(b"?")
    with pytest.raises(NotDataFolder):
        await server.start()
    assert (data / "photo.jpg").exists()
    assert not server.alive


async def test_a_half_made_database_is_made_anew(folder: Path, server_of: ServerMaker) -> None:
    half = folder / ".socle" / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    for made in (half.parents[1], half.parent):
        made.chmod(0o755)
    endpoint = await server_of(folder / ".socle").start()
    assert endpoint.data_dir.is_dir()
    assert not half.exists()


async def test_a_failed_start_says_why_and_leaves_nothing(state: Path, server_of: ServerMaker) -> None:
    server = server_of(state, settings={"shared_preload_libraries": "no_such_library"})
    with pytest.raises(StartFailed, match="no_such_library"):
        await server.start()
    assert not server.alive
    assert processes_in(state / "postgres" / "data") == []
    await server_of(state).start()


async def test_a_cancelled_start_leaves_nothing(folder: Path, server_of: ServerMaker) -> None:
    starting = asyncio.ensure_future(server_of(folder / ".socle").start())
    await asyncio.sleep(0.1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert status(folder / ".socle").state == "absent"
    await server_of(folder / ".socle").start()


async def test_a_long_path_gets_a_short_socket(folder: Path, server_of: ServerMaker) -> None:
    deep = folder.joinpath(*["a-folder-with-a-rather-long-name"] * 4)
    deep.mkdir(parents=True)
    for made in [deep, *deep.parents[:3]]:
        made.chmod(0o755)
    server = server_of(deep / ".socle")
    endpoint = await server.start()
    assert endpoint.data_dir.is_relative_to(deep)
    assert len(str(endpoint.socket_dir)) < 40
    async with connected(endpoint) as connection:
        assert await connection.fetchval("select 1") == 1
    await server.stop()
    assert not endpoint.socket_dir.exists()


async def test_a_colon_in_the_path_is_refused_before_anything_is_made(folder: Path, server_of: ServerMaker) -> None:
    with pytest.raises(PathUnusable, match="--state"):
        await server_of(folder / "a:b").start()
    assert not (folder / "a:b").exists()


async def test_an_unknown_user_is_refused(folder: Path, server_of: ServerMaker) -> None:
    with pytest.raises(AccountUnusable, match="--run-as"):
        await server_of(folder / ".socle", run_as="no-such-user").start()


async def test_logs_turn_over_at_each_start(state: Path, server_of: ServerMaker) -> None:
    for server in (server_of(state), server_of(state)):
        await server.start()
        await server.stop()
    log = status(state).log
    assert "database system is shut down" in log.with_name("postgres.log.1").read_text()
    assert log.read_text().count("starting PostgreSQL") == 1


def test_the_note_of_a_start_is_for_its_owner_only(state: Path) -> None:
    async def run() -> int:
        server = EmbeddedServer(state, port=free_port(), host="", profile="test", keep_alive=False)
        await server.start()
        try:
            note = state / "postgres" / "endpoint.json"
            assert json.loads(note.read_text())["run_as"] in ("nobody", own_name())
            return note.stat().st_mode & 0o777
        finally:
            await server.stop()

    assert asyncio.run(run()) == 0o600
