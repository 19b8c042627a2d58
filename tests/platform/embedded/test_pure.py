"""The parts of the embedded server that need none: sizes, pid files, access rules, log lines, places."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from socle_app.embedded.access import is_loopback, render_hba, render_ident
from socle_app.embedded.layout import known_layout, read_note, write_note
from socle_app.embedded.logfile import LARGE, last_words, rotate_log, trim_log
from socle_app.embedded.processes import PidFile, parse_pid_file
from socle_app.embedded.settings import MIB, machine_memory, plan_settings, recovery_settings

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("memory", "buffers", "connections"),
    [(512 * MIB, "32MB", "40"), (2 * GIB, "128MB", "100"), (4 * GIB, "256MB", "100"), (512 * GIB, "256MB", "100")],
)
def test_memory_decides_the_profile(memory: int, buffers: str, connections: str) -> None:
    settings = plan_settings("auto", memory)
    assert settings["shared_buffers"] == buffers
    assert settings["max_connections"] == connections
    assert settings["wal_level"] == "logical"


@pytest.mark.parametrize("profile", ["auto", "small", "normal"])
def test_only_tests_are_not_durable(profile: str) -> None:
    names = {"fsync", "synchronous_commit", "full_page_writes"}
    assert not names & plan_settings(profile, 8 * GIB).keys()  # type: ignore[arg-type] # the values are Profile's
    assert names <= plan_settings("test", 8 * GIB).keys()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has syncfs")
@pytest.mark.parametrize(
    ("kernel", "able"),
    [("6.18.44-x", True), ("5.8.0", True), ("5.4.0-91-generic", False), ("4.19.0", False), ("odd", False)],
)
def test_recovery_is_quick_where_the_kernel_tells_errors(kernel: str, able: bool) -> None:
    assert bool(recovery_settings(kernel)) == able


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 2 * GIB),
        (MEMINFO, 8 * GIB),
        ({**MEMINFO, "sys/fs/cgroup/memory.max": "max\n"}, 8 * GIB),
        ({**MEMINFO, "sys/fs/cgroup/memory.max": "1073741824\n"}, GIB),
        ({**MEMINFO, "proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/memory.max": "536870912\n"}, 512 * MIB),
        (
            {
                **MEMINFO,
                "proc/self/cgroup": "4:memory:/box\n1:cpu:/\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "268435456\n",
            },
            256 * MIB,
        ),
        ({**MEMINFO, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
    ],
)
def test_the_memory_of_machine_and_container(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert machine_memory(machine(tmp_path, files)) == expected


def test_pid_files() -> None:
    text = "4711\n/srv/data\n1700000000\n54322\n/srv/socket\n127.0.0.1\n  1234  0\nready   \n"
    assert parse_pid_file(text) == PidFile(4711, "/srv/data", 54322, "/srv/socket", "ready")
    assert parse_pid_file("4711\n/srv/data\n") == PidFile(4711, "/srv/data", None, None, None)
    assert parse_pid_file("-12\n/d\n") == PidFile(12, "/d", None, None, None)  # single-user mode
    assert parse_pid_file("") is None
    assert parse_pid_file("garbage\nready\n") is None


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback_lets_only_this_machine_in(host: str) -> None:
    assert is_loopback(host)
    assert "host all all 127.0.0.1/32 scram-sha-256" in render_hba(host)
    assert "host all all all" not in render_hba(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "*", "example.org"])
def test_other_addresses_let_others_in_with_passwords(host: str) -> None:
    assert not is_loopback(host)
    rules = [line.split() for line in render_hba(host).splitlines() if not line.startswith("#")]
    assert ["host", "all", "all", "all", "scram-sha-256"] in rules
    assert {line[-1] for line in rules} == {"scram-sha-256", "map=socle"}


def test_only_our_user_is_mapped() -> None:
    assert render_ident('odd "name"').splitlines()[1] == 'socle "odd ""name""" all'


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "it ended without a word"
    log.write_text("before FATAL:  old\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("x LOG:  starting\nx FATAL:  no room\nx DETAIL:  none at all\nx HINT:  Make some.\n")
    assert last_words(log, start) == "no room none at all HINT: Make some."
    log.write_text("initdb: error: bad\n\n")
    assert last_words(log) == "initdb: error: bad"


def test_logs_turn_over(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    for number in range(7):
        log.write_text(str(number))
        rotate_log(log)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "postgres.log.1": "6",
        "postgres.log.2": "5",
        "postgres.log.3": "4",
        "postgres.log.4": "3",
    }
    rotate_log(log)  # none there: nothing to do


def test_a_large_log_is_turned_over_in_use(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    with log.open("ab", buffering=0) as server:
        server.write(b"small\n")
        trim_log(log)
        assert log.read_bytes() == b"small\n"
        server.truncate(LARGE + 1)
        trim_log(log)
        server.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert log.with_name("postgres.log.1").stat().st_size == LARGE + 1


def test_notes(tmp_path: Path) -> None:
    note = tmp_path / "note.json"
    assert read_note(note) == {}
    write_note(note, {"a": 1})
    assert read_note(note) == {"a": 1}
    assert note.stat().st_mode & 0o777 == 0o600
    note.write_text("[1]")
    assert read_note(note) == {}
    note.write_text("{")
    assert read_note(note) == {}


def test_the_layout_follows_its_record(tmp_path: Path) -> None:
    assert known_layout(tmp_path).data == tmp_path / "postgres" / "data"
    (tmp_path / "postgres").mkdir()
    write_note(tmp_path / "postgres" / "location.json", {"home": "/srv/elsewhere"})
    assert known_layout(tmp_path).data == Path("/srv/elsewhere/data")
    assert known_layout(tmp_path).log == tmp_path / "postgres" / "log" / "postgres.log"
