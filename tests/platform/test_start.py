"""Starts that go wrong: what a person reads, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.postgres import free_port
from socle_app import http_server
from socle_app.detach import stop_running
from socle_app.embedded.processes import birth_mark
from socle_app.state import Running, StateFolder, StateUnreadable
from socle_platform.http import Receive, Scope, Send


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def socle(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "socle_app", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "300", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_that_has_the_number_of_a_killed_platform_is_left_alone(folder: Path) -> None:
    state = StateFolder(folder / ".socle")
    state.ensure()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        mark = birth_mark(bystander.pid)
        state.write_running(Running(bystander.pid, "now", "p", {"API_URL": "http://x"}, birth=mark))
        assert state.read_running() is not None
        state.write_running(Running(bystander.pid, "now", "p", {"API_URL": "http://x"}, birth="1"))
        assert state.read_running() is None
        assert not stop_running(state)
        assert bystander.poll() is None
    finally:
        bystander.communicate(b"\n")


@pytest.mark.parametrize("text", ['{"JWT', "[]", "\x00"])
def test_damaged_keys_are_not_replaced_by_new_ones(folder: Path, text: str) -> None:
    state = StateFolder(folder / ".socle")
    state.ensure()
    state.keys_file.write_text(text)
    with pytest.raises(StateUnreadable, match=r"keys\.json cannot be read"):
        state.read_keys()
    assert state.keys_file.read_text() == text


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"SOCLE_DB_PORT": "abc"}, "SOCLE_DB_PORT must be a whole number, not 'abc'"),
        ({"SOCLE_DB_PORT": "99999"}, "SOCLE_DB_PORT must be between 1 and 65535, not 99999"),
        ({"GOTRUE_SMTP_MAX_FREQUENCY": "5x"}, "GOTRUE_SMTP_MAX_FREQUENCY must be a duration"),
        ({"SOCLE_DB_PORT": "no", "PGRST_DB_MAX_ROWS": "few"}, "- PGRST_DB_MAX_ROWS"),
        ({"SOCLE_DB_PORT": "54999", "SOCLE_PORT": "54999"}, "SOCLE_PORT and SOCLE_DB_PORT are both 54999"),
    ],
)
def test_settings_that_cannot_be_are_named_before_anything_starts(
    folder: Path, environ: dict[str, str], complaint: str
) -> None:
    done = socle(folder, "start", "--json", **environ)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / ".socle" / "postgres").exists()


def test_doctor_reports_settings_that_cannot_be_read(folder: Path) -> None:
    done = socle(folder, "doctor", "--json", SOCLE_DB_PORT="abc", GOTRUE_JWT_EXP="soon")
    assert done.returncode == 1
    problems = [finding["text"] for finding in json.loads(done.stdout) if finding["level"] == "error"]
    assert problems == [
        "SOCLE_DB_PORT must be a whole number, not 'abc'",
        "GOTRUE_JWT_EXP must be a whole number, not 'soon'",
    ]


def test_doctor_tells_where_the_first_start_will_put_the_data(folder: Path) -> None:
    done = socle(folder, "doctor", "--json", SOCLE_PORT=str(free_port()), SOCLE_DB_PORT=str(free_port()))
    assert done.returncode == 0, done.stdout
    texts = {finding["subject"]: finding["text"] for finding in json.loads(done.stdout)}
    assert f"no data yet, a start makes it in {folder / '.socle' / 'postgres'}" in texts["postgres"]


def test_doctor_reports_a_config_that_cannot_be_read(folder: Path) -> None:
    (folder / "supabase").mkdir()
    (folder / "supabase" / "config.toml").write_text("[api]\nport = true\nmax_rows = 'many'\n")
    done = socle(folder, "doctor", "--json")
    assert done.returncode == 1
    problems = [finding["text"] for finding in json.loads(done.stdout) if finding["level"] == "error"]
    assert len(problems) == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["postgresql://me:s3cret@127.0.0.1:1/x", "postgresql://me:s3cret@h:no/x", "nonsense"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(folder: Path, url: str) -> None:
    for command in (("start", "--json", "--port", str(free_port()), "--db-url", url), ("bootstrap", "--db-url", url)):
        done = socle(folder, *command)
        assert done.returncode == 1
        assert "✗ cannot connect to the database" in done.stderr
        assert ("at 127.0.0.1:1:" in done.stderr) == ("127.0.0.1" in url)
        assert "s3cret" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    found = json.loads(socle(folder, "doctor", "--json", DATABASE_URL=url).stdout)
    assert found[-1]["text"].startswith("cannot be reached")


def test_a_detached_start_that_fails_tells_its_reason_only(folder: Path) -> None:
    state = StateFolder(folder / ".socle")
    state.ensure()
    state.log_file.write_text("a line of yesterday\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = socle(folder, "start", "--detach", "--port", str(port), "--db-port", str(free_port()))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is in use by another program" in done.stderr
    assert "yesterday" not in done.stderr
    assert '"event"' not in done.stderr


def test_the_log_of_a_detached_start_is_closed_to_others(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        socle(folder, "start", "--detach", "--port", str(taken.getsockname()[1]))
    assert stat.S_IMODE((folder / ".socle" / "socle.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_gives_the_start_up(folder: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-m", "socle_app", "start", "--json"]
    ports = ["--port", str(free_port()), "--db-port", str(free_port())]
    making = folder / ".socle" / "postgres" / "log" / "initdb.log"
    with subprocess.Popen(
        [*command, *ports], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while not making.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(sign)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert out == ""
    assert err.startswith("✗ Stopped before it was ready")
    assert not (folder / ".socle" / "run.json").exists()


async def test_an_address_somebody_else_took_meanwhile_is_an_error() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """Answers nothing."""

    with socket.socket() as listener, socket.socket() as other:
        for one in (listener, other):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        other.bind(listener.getsockname())
        other.listen()
        with pytest.raises(OSError, match="in use"):
            async with http_server.running(app, listener):
                pytest.fail("it serves nowhere")
