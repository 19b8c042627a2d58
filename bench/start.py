"""Measures `socle start`: seconds to the first 200 of /rest/v1/, memory when idle, size of an installation.

    .venv/bin/python bench/start.py [--rounds 5]

Prints one JSON line per figure with its median, and the rows it came from.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
PORT, DATABASE_PORT = 56321, 56322
PORTS = ("--port", str(PORT), "--db-port", str(DATABASE_PORT))
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
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/rest/v1/")
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
    return process.memory_info().rss / 1e6, sum(each.memory_full_info().pss for each in postgres) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows: dict[str, list[float]] = {
        "first start, s": [],
        "next start, s": [],
        "Python RSS, MB": [],
        "PostgreSQL PSS, MB": [],
    }
    for number in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="socle-bench-"))
        folder.chmod(0o755)
        try:
            child, seconds, _ = start(folder / ".socle")
            rows["first start, s"].append(seconds)
            stop(child)
            child, seconds, values = start(folder / ".socle")
            rows["next start, s"].append(seconds)
            if number == 0 or rounds > 1:
                python, postgres = memory(child, values)
                rows["Python RSS, MB"].append(python)
                rows["PostgreSQL PSS, MB"].append(postgres)
            stop(child)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for name, figures in rows.items():
        line = {"figure": name, "median": round(statistics.median(figures), 2), "rows": [round(f, 2) for f in figures]}
        print(json.dumps(line), flush=True)
    size = subprocess.run(
        ["du", "-sm", str(ROOT / ".venv")], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    print(json.dumps({"figure": ".venv, MB (with the test tools if they are in)", "median": int(size)}))


if __name__ == "__main__":
    main()
