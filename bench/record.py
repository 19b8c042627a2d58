"""Recorded results: bench/results/NAME.json, and whether a new run keeps up with them."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

RESULTS = Path("bench/results")
TOLERANCE = 0.8


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit to reach. Without a unit it is a ratio of one run, which `check` may compare between runs."""

    what: str
    sense: Literal["≥", "≤"]
    wanted: float
    found: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.found >= self.wanted if self.sense == "≥" else self.found <= self.wanted

    @property
    def reach(self) -> float:
        """How far it is reached: 1 is the limit itself, more is better."""
        if self.sense == "≥":
            return self.found / self.wanted
        return self.wanted / self.found if self.found > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Series:
    """What was measured in every round, in one unit."""

    name: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def summary(self) -> dict[str, Any]:
        digits = 0 if self.median >= 1000 else 2
        lowest, middle, highest = (round(each, digits) for each in (min(self.values), self.median, max(self.values)))
        return {"name": self.name, "unit": self.unit, "median": middle, "lowest": lowest, "highest": highest}


def ratio(above: Series, below: Series) -> float:
    """Of the medians."""
    return round(above.median / below.median, 3)


def arguments(description: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of one measurement")
    parser.add_argument("--write", action="store_true", help="record the results and draw docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="fail where a ratio fell below 0.8 of the recorded one")
    return parser


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(series: Sequence[Series], goals: Sequence[Goal]) -> None:
    """Prints the figures and the limits."""
    for each in series:
        line = each.summary()
        print(f"{line['name']:<60} {line['median']:>12,} {line['unit']}  ({line['lowest']:,} to {line['highest']:,})")
    for goal in goals:
        mark = "reached" if goal.is_met else "MISSED"
        print(f"{goal.what:<60} {goal.found:>12,} {goal.unit}  {goal.sense} {goal.wanted:g}: {mark}")


def machine() -> str:
    """The class of the machine, in words."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} CPUs ({platform.machine()}), {memory:.0f} GB, Python {platform.python_version()}"


def write_results(
    root: Path, name: str, rounds: int, seconds: float, goals: Sequence[Goal], more: Mapping[str, Any]
) -> None:
    """Records one benchmark."""
    head = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load": round(psutil.getloadavg()[2], 1),
        "rounds": rounds,
        "seconds": seconds,
    }
    place = root / RESULTS / f"{name}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**head, "goals": [asdict(goal) for goal in goals], **more}, indent=1, ensure_ascii=False)
    place.write_text(text + "\n")


def load_results(root: Path, name: str) -> dict[str, Any] | None:
    """What was recorded, or None."""
    place = root / RESULTS / f"{name}.json"
    if not place.is_file():
        return None
    found: dict[str, Any] = json.loads(place.read_text())
    return found


def keeps_up(root: Path, name: str, goals: Sequence[Goal]) -> bool:
    """Whether no ratio is worse than 0.8 of the recorded one; says which is. Exits where nothing is recorded."""
    recorded = load_results(root, name)
    if recorded is None:
        raise SystemExit(f"nothing is recorded for {name}: run it with --write first")
    before = {line["what"]: Goal(**line) for line in recorded["goals"]}
    fallen = [
        f"{goal.what}: {goal.found} now, {before[goal.what].found} recorded"
        for goal in goals
        if not goal.unit and goal.what in before and goal.reach < TOLERANCE * before[goal.what].reach
    ]
    for sentence in fallen:
        progress(f"fell: {sentence}")
    return not fallen
