"""Measures `socle start`: seconds to the first 200 of /rest/v1/, memory when idle, the first install.

    .venv/bin/python bench/start.py [--rounds 5] [--memory-rounds 5] [--install-rounds 1] [--write] [--check]

A memory round waits 30 s. Printed and recorded: each figure's median, lowest and highest, and the limits to reach.
"""

from __future__ import annotations

import json
import os
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


def install(folder: Path) -> tuple[float, float]:
    """Seconds of the launcher's first use, packages being in the cache, and MB on disk of the environment it makes."""
    venv = folder / ".venv"
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    seconds = 0.0
    for _ in range(2):  # the first one fills the cache
        shutil.rmtree(venv, ignore_errors=True)
        began = time.monotonic()
        subprocess.run(
            [ROOT / "socle", "--version"],
            env={**environ, "SOCLE_VENV": str(venv)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.monotonic() - began
    found = {(status.st_dev, status.st_ino): status.st_blocks * 512 for status in map(Path.lstat, venv.rglob("*"))}
    return seconds, sum(found.values()) / 1e6


def main() -> None:
    parser = arguments(__doc__, rounds=5, seconds=0.0)
    parser.add_argument("--memory-rounds", type=int, default=5, help="of them, with memory at the end")
    parser.add_argument("--install-rounds", type=int, default=1, help="fresh environments to install")
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
    installing, disk = Series("first install", "s", []), Series("first install, on disk", "MB", [])
    for number in range(given.install_rounds):
        progress(f"start: install {number + 1} of {given.install_rounds}")
        with tempfile.TemporaryDirectory(prefix="socle-bench-") as name:
            seconds, size = install(Path(name))
        installing.values.append(seconds)
        disk.values.append(size)
    goals = [
        Goal("first 200 on an empty state folder", "≤", 2.5, round(first.median, 2), "s"),
        Goal("first 200 on an existing state folder", "≤", 1.0, round(again.median, 2), "s"),
    ]
    series = [first, again]
    if python.values:
        goals.append(Goal("Python when idle, RSS", "≤", 90, round(python.median, 1), "MB"))
        goals.append(Goal("PostgreSQL when idle, PSS", "≤", 60, round(postgres.median, 1), "MB"))
        series += [python, postgres]
    if installing.values:
        goals.append(Goal("first install, packages in the cache", "≤", 60, round(installing.median, 1), "s"))
        goals.append(Goal("first install, on disk", "≤", 350, round(disk.median), "MB"))
        series += [installing, disk]
    options = {"memory (no --memory-rounds)": python, "install (no --install-rounds)": installing}
    finish(given, ROOT, "start", series, goals, [what for what, each in options.items() if not each.values])


if __name__ == "__main__":
    main()
