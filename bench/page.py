"""Draws docs/benchmarks.md and its plots from bench/results/*.json and bench/notes.toml.

.venv/bin/python bench/page.py
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from record import Goal, Series, keeps_up, load_results, show, write_results
from rest_report import PLOT as REST_PLOT
from rest_report import render_part, render_plot

DOCUMENT = Path("docs/benchmarks.md")
PLOT = Path("docs/benchmarks-limits.svg")
NOTES = Path("bench/notes.toml")
PARTS = {"start": "Start and memory", "rest": "REST", "auth": "Auth", "storage": "Storage"}
_WIDEST = 3.0


def draw(root: Path) -> None:
    """Writes the page and its plots anew; a benchmark without results is said to have none."""
    found = {name: load_results(root, name) for name in PARTS}
    known = {name: result for name, result in found.items() if result is not None}
    notes: dict[str, dict[str, str]] = tomllib.loads((root / NOTES).read_text())
    (root / PLOT).write_text(render_limits(known))
    if "rest" in known:
        (root / REST_PLOT).write_text(render_plot(known["rest"]["lines"]))
    (root / DOCUMENT).write_text(render_page(found, notes))


def render_page(found: Mapping[str, Mapping[str, Any] | None], notes: Mapping[str, Mapping[str, str]]) -> str:
    goals = [Goal(**line) for result in found.values() if result is not None for line in result["goals"]]
    lines = [
        "# Benchmarks",
        "",
        "Drawn by `bench/page.py` from `bench/results/`; do not edit. `socle bench all --write` measures and draws",
        "everything anew in some minutes, `socle bench NAME --write` one part; `socle bench NAME --check` fails when a",
        "ratio fell below 0.8 of the recorded one. Contenders take turns within each round, so that a busy moment",
        "hits all of them; figures are medians over the rounds, with the lowest and the highest. Ratios can be",
        "compared between machines, absolute figures cannot.",
        "",
        f"{sum(goal.is_met for goal in goals)} of {len(goals)} limits are reached.",
        "",
        f"![How far each limit is reached]({PLOT.name})",
    ]
    for name, title in PARTS.items():
        lines += ["", f"## {title}", ""]
        result = found[name]
        lines += ["Not measured yet."] if result is None else _render_result(name, result, notes.get(name, {}))
    return "\n".join(lines) + "\n"


def _render_result(name: str, result: Mapping[str, Any], notes: Mapping[str, str]) -> list[str]:
    each = f" of {result['seconds']:g} s" if result["seconds"] else ""
    times = f"{result['rounds']} round{'s' if result['rounds'] > 1 else ''}"
    lines = [
        f"{result['date']}, {result['machine']}, load {result['load']} before; {times}{each}; `bench/{name}.py`.",
    ]
    if "about" in notes:
        lines += ["", notes["about"].strip()]
    lines += ["", "| limit to reach | wanted | found | |", "|---|---|---|---|"]
    goals = [Goal(**line) for line in result["goals"]]
    for goal in goals:
        mark = "reached" if goal.is_met else "**missed**"
        wanted, measured = (f"{value:g} {goal.unit}".rstrip() for value in (goal.wanted, goal.found))
        lines.append(f"| {goal.what} | {goal.sense} {wanted} | {measured} | {mark} |")
    for goal in goals:
        if not goal.is_met:
            lines += ["", f"**Missed: {goal.what}.** {notes.get(goal.what, 'Not explained yet.').strip()}"]
    lines.append("")
    if name == "rest":
        return lines + render_part(dict(result))
    lines += ["| measured | median | lowest | highest | unit |", "|---|---|---|---|---|"]
    for row in result["series"]:
        cells = (f"{row[column]:,}" for column in ("median", "lowest", "highest"))
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['unit']} |")
    return lines + [f"\nLeft out: {reason}." for reason in result["left_out"]]


def render_limits(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A bar per limit, as a share of the limit (the line); to the right of the line is reached."""
    left, unit = 430, 110
    rows: list[str] = []
    y = 36
    for name, result in found.items():
        rows.append(f'<text x="10" y="{y}" font-weight="bold">{escape(PARTS[name])}</text>')
        for goal in (Goal(**line) for line in result["goals"]):
            y += 20
            width = unit * min(goal.reach, _WIDEST)
            colour = "#2a7" if goal.is_met else "#c55"
            says = f"{goal.found:g} {goal.unit}".rstrip() + f" ({goal.sense} {goal.wanted:g})"
            rows.append(f'<text x="20" y="{y}">{escape(goal.what)}</text>')
            rows.append(f'<rect x="{left}" y="{y - 12}" width="{width:.0f}" height="14" fill="{colour}"/>')
            rows.append(f'<text x="{left + width + 6:.0f}" y="{y}">{escape(says)}</text>')
        y += 30
    line = left + unit
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{y}" style="font: 12px sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}'
        f'<line x1="{line}" y1="18" x2="{line}" y2="{y - 16}" stroke="#333" stroke-dasharray="4 3"/>'
        f'<text x="{line}" y="14" text-anchor="middle">the limit</text></svg>\n'
    )


def finish(
    given: argparse.Namespace,
    root: Path,
    name: str,
    series: Sequence[Series],
    goals: Sequence[Goal],
    left_out: Sequence[str] = (),
) -> None:
    """Shows, compares and records, as asked. Exits with 1 where a ratio fell."""
    show(series, goals)
    for reason in left_out:
        print(f"left out: {reason}")
    keeps = not given.check or keeps_up(root, name, goals)
    if given.write:
        more = {"series": [each.summary() for each in series], "left_out": list(left_out)}
        write_results(root, name, given.rounds, given.seconds, goals, more)
        draw(root)
    if not keeps:
        raise SystemExit(1)


if __name__ == "__main__":
    draw(Path(__file__).parents[1])
