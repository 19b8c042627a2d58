"""Measures `socle start`: seconds to the first 200 of /rest/v1/, memory when idle, size of an installation.

    .venv/bin/python bench/start.py [--rounds 5] [--memory-rounds 5] [--write] [--check]

A memory round waits 30 s. Printed and recorded: each figure's median, lowest and highest, and the limits to reach.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil
from page import finish
from record import Goal, Series, arguments, progress
from testbed import FIRST_PORT, ROOT

PORTS = ("--port", str(FIRST_PORT), "--db-port", str(FIRST_PORT + 1))
IDLE_SECONDS = 30


def start(state: Path) -> tuple[subprocess.Popen[bytes], float, dict[str, str]]:
    """A started platform, the seconds to its first 200, and what it printed."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "socle_app", "start", "--json", "--state", str(state), *PORTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=state.parent,
    )
    request = urllib.request.Request(f"http://127.0.0.1:{FIRST_PORT}/rest/v1/")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    break
        except OSError:
            if child.poll() is not None:
                raise SystemExit("the platform did not start") from None
            time.sleep(0.005)
    seconds = time.monotonic() - began
    assert child.stdout is not None
    return child, seconds, json.loads(child.stdout.readline())


def stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    child.wait(30)


def memory(child: subprocess.Popen[bytes], values: dict[str, str]) -> tuple[float, float]:
    """MB after one call to each service and a rest: RSS of Python, PSS of all PostgreSQL processes."""
    for path in ("rest/v1/product_items?select=*", "auth/v1/settings", "storage/v1/bucket"):
        request = urllib.request.Request(f"{values['API_URL']}/{path}", headers={"apikey": values["ANON_KEY"]})
        request.add_header("authorization", f"Bearer {values['SERVICE_ROLE_KEY']}")
        urllib.request.urlopen(request, timeout=5).read()
    time.sleep(IDLE_SECONDS)
    process = psutil.Process(child.pid)
    postgres = process.children(recursive=True)
    return process.memory_info().rss / 1e6, sum(map(shared_out, postgres)) / 1e6


def shared_out(process: psutil.Process) -> int:
    """Bytes of a process, PSS; 0 for one that has ended meanwhile, as workers of PostgreSQL do."""
    try:
        return process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0


def main() -> None:
    parser = arguments(__doc__, rounds=5, seconds=0.0)
    parser.add_argument("--memory-rounds", type=int, default=5, help="of them, with memory at the end")
    given = parser.parse_args()
    first, again = Series("first start", "s", []), Series("next start", "s", [])
    python, postgres = Series("Python, RSS", "MB", []), Series("PostgreSQL, PSS", "MB", [])
    for number in range(given.rounds):
        progress(f"start: round {number + 1} of {given.rounds}")
        folder = Path(tempfile.mkdtemp(prefix="socle-bench-"))
        folder.chmod(0o755)
        try:
            child, seconds, _ = start(folder / ".socle")
            first.values.append(seconds)
            stop(child)
            child, seconds, values = start(folder / ".socle")
            again.values.append(seconds)
            try:
                if number < given.memory_rounds:
                    ours, theirs = memory(child, values)
                    python.values.append(ours)
                    postgres.values.append(theirs)
            finally:
                stop(child)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    goals = [
        Goal("first 200 on an empty state folder", "≤", 2.5, round(first.median, 2), "s"),
        Goal("first 200 on an existing state folder", "≤", 1.0, round(again.median, 2), "s"),
    ]
    series = [first, again]
    if python.values:
        goals.append(Goal("Python when idle, RSS", "≤", 90, round(python.median, 1), "MB"))
        goals.append(Goal("PostgreSQL when idle, PSS", "≤", 60, round(postgres.median, 1), "MB"))
        series += [python, postgres]
    finish(given, ROOT, "start", series, goals, () if python.values else ["memory (no --memory-rounds)"])


if __name__ == "__main__":
    main()
