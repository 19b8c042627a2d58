"""What every benchmark stands on: a platform of its own, the load generator, pgbench, CPU and memory of processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from socle_app.embedded.server_tree import find_server_tree

ROOT = Path(__file__).parents[1]
REST_FIXTURE = Path(__file__).parent / "rest_data" / "fixture.sql"
FIRST_PORT = int(os.environ.get("BENCH_PORT", "56331"))
"""The platform's port; the next is its database's, those from ten above belong to peers."""


@dataclass(frozen=True)
class Site:
    """The platform under test and its database, as the contenders need them."""

    port: int
    database_port: int
    socket_dir: str
    database_url: str
    anon_key: str
    jwt_secret: str
    postmaster: int
    service_key: str = ""
    state: Path = Path()
    data_dir: Path = Path()

    @property
    def admin(self) -> str:
        """Where psql and pgbench reach the database as its superuser, through its socket."""
        return f"host={self.socket_dir} port={self.database_port} user=supabase_admin dbname=postgres"


@contextlib.contextmanager
def platform(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Site, psutil.Process]]:
    """`socle start` in an empty project, with the tables of the REST benchmark in it."""
    home, state = folder / "project", folder / "project" / ".socle"
    home.mkdir(mode=0o755)
    ports = ("--port", str(FIRST_PORT), "--db-port", str(FIRST_PORT + 1))
    child = subprocess.Popen(
        [sys.executable, "-m", "socle_app", "start", "--json", f"--state={state}", *ports],
        stdout=subprocess.PIPE,
        stderr=(folder / "socle.log").open("wb"),
        cwd=home,
        env={**os.environ, **(environment or {})},
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise SystemExit((folder / "socle.log").read_text()[-2000:])
        values = json.loads(line)
        running = json.loads((state / "run.json").read_text())
        psql(values["DB_URL"], REST_FIXTURE.read_text())
        psql(
            values["DB_URL"],
            "create role bench_login login noinherit password 'bench'; grant authenticated, anon to bench_login;",
        )
        site = Site(
            FIRST_PORT,
            FIRST_PORT + 1,
            running["socket_dir"],
            f"postgresql://bench_login:bench@127.0.0.1:{FIRST_PORT + 1}/postgres",
            values["ANON_KEY"],
            values["JWT_SECRET"],
            running["database_pid"],
            values["SERVICE_ROLE_KEY"],
            state,
            Path(running["data_dir"]),
        )
        _wait_for_table(values["API_URL"], values["SERVICE_ROLE_KEY"])
        yield site, psutil.Process(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


def _wait_for_table(url: str, key: str) -> None:
    """Until the schema cache has the new tables."""
    request = urllib.request.Request(f"{url}/rest/v1/bench_events?limit=0", headers={"apikey": key})
    request.add_header("authorization", f"Bearer {key}")
    for _ in range(200):
        try:
            urllib.request.urlopen(request, timeout=5)
            return
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return
        time.sleep(0.1)
    raise SystemExit("the tables do not appear")


def call(site: Site, method: str, path: str, body: object = None, token: str | None = None) -> Any:
    """One JSON request to the platform, as anybody or with a token; its JSON answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"apikey": site.anon_key, "content-type": "application/json"}
    headers["authorization"] = f"Bearer {token or site.anon_key}"
    request = urllib.request.Request(f"http://127.0.0.1:{site.port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:300]!r}") from None


def psql(place: str, script: str) -> str:
    """Runs a script; what it prints, without alignment. Exits where PostgreSQL refuses it."""
    program = str(find_server_tree().program("psql"))
    done = subprocess.run(
        [program, "-qAt", "-v", "ON_ERROR_STOP=1", place],
        input=script,
        text=True,
        capture_output=True,
        env={**os.environ},
    )
    if done.returncode:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout


def start_load(
    port: int, requests: list[str], connections: int, seconds: float, *options: str
) -> subprocess.Popen[str]:
    """The load generator on its way; `finish_load` waits for it."""
    command = [sys.executable, str(Path(__file__).with_name("http_load.py")), "--port", str(port)]
    command += ["--connections", str(connections), "--seconds", str(seconds), *options]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdin is not None
    child.stdin.write(json.dumps(requests))
    child.stdin.close()
    child.stdin = None
    return child


def finish_load(child: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """What the load generator prints. Raises RuntimeError where it failed."""
    out, err = child.communicate(timeout=seconds + 60)
    if child.returncode:
        raise RuntimeError(f"the load generator: {err[-500:]}")
    found: dict[str, Any] = json.loads(out)
    return found


def load(port: int, requests: list[str], connections: int, seconds: float, *options: str) -> dict[str, Any]:
    """Requests against a port, as `http_load.py` says. Raises RuntimeError where an answer was no 2xx."""
    result = finish_load(start_load(port, requests, connections, seconds, *options), seconds)
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} answers were no 2xx; the first: {result['first_failure']}")
    return result


def pgbench(place: str, script: Path, connections: int, seconds: float, defines: Sequence[str] = ()) -> float:
    """Transactions per second of a script, prepared statements. Raises RuntimeError."""
    command = [str(find_server_tree().program("pgbench")), "-n", "-M", "prepared", "-c", str(connections), "-j", "2"]
    command += ["-T", str(max(1, round(seconds))), *(f"-D{each}" for each in defines), "-f", str(script), place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    for line in done.stdout.splitlines():
        if line.startswith("tps = "):
            return float(line.split()[2])
    raise RuntimeError(f"pgbench: {done.stderr[:500]}")


def cpu_of(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that the processes have used."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def postgres_of(site: Site) -> list[psutil.Process]:
    """The postmaster with its children."""
    postmaster = psutil.Process(site.postmaster)
    return [postmaster, *postmaster.children(recursive=True)]
