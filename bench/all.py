"""Measures everything in about six minutes, one benchmark after the other; one that fails does not stop the next.

    .venv/bin/python bench/all.py [--write] [--check] [--quick]

`--quick` only shows that everything runs: a second for each measurement, small objects, no figure worth keeping.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = {
    "start": ["--rounds=5", "--memory-rounds=1"],
    "rest": ["--rounds=3", "--seconds=1", "--connections=16"],
    "auth": ["--rounds=3", "--seconds=2"],
    "storage": ["--rounds=3", "--seconds=1"],
}
QUICK = {
    "start": ["--rounds=1", "--memory-rounds=0", "--install-rounds=0"],
    "rest": ["--rounds=1", "--seconds=1", "--connections=16", "--peers=Socle"],
    "auth": ["--rounds=1", "--seconds=1"],
    "storage": ["--rounds=1", "--seconds=1", "--size=64", "--objects=10000"],
}
LONGEST = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="record the results and draw docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="fail where a ratio fell below 0.8 of the recorded one")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    options = [name for name, wanted in (("--write", given.write), ("--check", given.check)) if wanted]
    failed: list[str] = []
    began = time.monotonic()
    for number, (name, own) in enumerate((QUICK if given.quick else PROGRAMS).items()):
        print(f"— {name} ({number + 1} of {len(PROGRAMS)})", file=sys.stderr, flush=True)
        started = time.monotonic()
        program = str(Path(__file__).with_name(f"{name}.py"))
        try:
            code = subprocess.run([sys.executable, program, *own, *options], timeout=LONGEST).returncode
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            failed.append(name)
        took = f"{name}: {'failed' if code else 'done'} in {time.monotonic() - started:.0f} s"
        print(took, file=sys.stderr, flush=True)
    print(f"all: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
