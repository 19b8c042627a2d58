"""Medians and ratios of REST, its limits, and its part of docs/benchmarks.md with the plot."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import record
from record import Goal

LIMIT = "pgbench"
OURS = "Socle"
PLOT = Path("docs/benchmarks-rest.svg")
TARGETS = (
    ("one row", 16, LIMIT, 0.28),
    ("one row", 16, "node:http + postgres.js", 2.0),
    ("one row", 16, "@supabase/lite", 15.0),
    ("1,000 rows", 16, LIMIT, 0.9),
    ("insert", 16, LIMIT, 0.3),
)
"""(scenario, connections, against whom, ratio to reach)."""
SERVER_CPU_TARGET = ("one row", 16, 80.0)


_COLUMNS = (
    "scenario",
    "connections",
    "contender",
    "req/s (lowest to highest)",
    "p50 ms",
    "p99 ms",
    "server CPU µs",
    "PostgreSQL CPU µs",
    "Socle ÷ it",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: requests per second, latencies in ms, CPU µs per request of the server and of PostgreSQL."""

    name: str
    scenario: str
    connections: int
    rate: float
    p50: float | None = None
    p99: float | None = None
    server_cpu: float | None = None
    database_cpu: float | None = None


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 2) if known else None


def summarize(figures: list[Figure]) -> list[dict[str, Any]]:
    """A line per scenario, connections and contender, with our ratio to each of the others."""
    groups: dict[tuple[str, int, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.scenario, figure.connections, figure.name), []).append(figure)
    rates = {key: statistics.median(one.rate for one in ones) for key, ones in groups.items()}
    lines: list[dict[str, Any]] = []
    for (scenario, connections, name), ones in groups.items():
        ours = rates.get((scenario, connections, OURS))
        lines.append(
            {
                "scenario": scenario,
                "connections": connections,
                "name": name,
                "rate": round(rates[scenario, connections, name], 1),
                "lowest": round(min(one.rate for one in ones), 1),
                "highest": round(max(one.rate for one in ones), 1),
                "p50": _median([one.p50 for one in ones]),
                "p99": _median([one.p99 for one in ones]),
                "server_cpu": _median([one.server_cpu for one in ones]),
                "database_cpu": _median([one.database_cpu for one in ones]),
                "ours_to_it": None
                if ours is None or name == OURS
                else round(ours / rates[scenario, connections, name], 3),
            }
        )
    return lines


def check(summary: list[dict[str, Any]], root: Path) -> bool:
    """Whether no ratio fell below 0.8 of the recorded one; says which did."""
    recorded = record.load_results(root, "rest")
    if recorded is None:
        raise SystemExit("nothing is recorded for rest: run it with --write first")
    before = {_key(line): line["ours_to_it"] for line in recorded["lines"]}
    fallen = [
        f"{_key(line)}: {line['ours_to_it']} now, {before[_key(line)]} recorded"
        for line in summary
        if line["ours_to_it"] and before.get(_key(line)) and line["ours_to_it"] < record.TOLERANCE * before[_key(line)]
    ]
    for sentence in fallen:
        print(f"fell: {sentence}", file=sys.stderr)
    return not fallen


def _key(line: dict[str, Any]) -> tuple[str, int, str]:
    return line["scenario"], line["connections"], line["name"]


def write(summary: list[dict[str, Any]], rounds: int, seconds: float, root: Path) -> None:
    """Records the results with the limits to reach."""
    record.write_results(root, "rest", rounds, seconds, goals_of(summary), {"lines": summary})


def render_part(head: dict[str, Any]) -> list[str]:
    """Markdown: the plot, and a row per scenario, connections and contender."""
    lines = [
        "The load generator, the server and PostgreSQL share the machine. `pgbench` is the limit: the same statements,",
        "settings and query in one round trip, without HTTP.",
        "",
        f"![Requests per second by scenario]({PLOT.name})",
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for line in sorted(head["lines"], key=lambda line: (*_key(line)[:2], -line["rate"])):
        cells = [
            line["scenario"],
            line["connections"],
            line["name"],
            f"{line['rate']:,.0f} ({line['lowest']:,.0f} to {line['highest']:,.0f})",
            *(line[name] for name in ("p50", "p99", "server_cpu", "database_cpu", "ours_to_it")),
        ]
        lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |")
    return lines


def goals_of(summary: list[dict[str, Any]]) -> list[Goal]:
    """The limits to reach, as far as their contenders were measured."""
    found = {_key(line): line for line in summary}
    goals: list[Goal] = []
    for scenario, connections, name, wanted in TARGETS:
        line = found.get((scenario, connections, name))
        if line is not None and line["ours_to_it"] is not None:
            goals.append(Goal(f"{scenario}, {connections} connections, to {name}", "≥", wanted, line["ours_to_it"]))
    scenario, connections, most = SERVER_CPU_TARGET
    ours = found.get((scenario, connections, OURS))
    if ours is not None and ours["server_cpu"] is not None:
        what = f"{scenario}, {connections} connections, CPU of the server"
        goals.append(Goal(what, "≤", most, ours["server_cpu"], "µs"))
    return goals


def render_plot(summary: list[dict[str, Any]]) -> str:
    """Bars per scenario, with the fewest connections measured; the limit's is the full width."""
    connections = min(line["connections"] for line in summary)
    chosen = [line for line in summary if line["connections"] == connections]
    best = {line["scenario"]: line["rate"] for line in chosen if line["name"] == LIMIT}
    rows: list[str] = []
    y = 30
    for scenario in dict.fromkeys(line["scenario"] for line in chosen):
        rows.append(f'<text x="10" y="{y}" font-weight="bold">{escape(scenario)}</text>')
        ones = sorted((line for line in chosen if line["scenario"] == scenario), key=lambda line: -line["rate"])
        for line in ones:
            y += 20
            width = 420 * line["rate"] / max(best.get(scenario, 0), ones[0]["rate"])
            colour = {"pgbench": "#bbb", OURS: "#2a7"}.get(line["name"], "#69c")
            rows.append(f'<text x="20" y="{y}">{escape(line["name"])}</text>')
            rows.append(f'<rect x="200" y="{y - 12}" width="{width:.0f}" height="14" fill="{colour}"/>')
            rows.append(f'<text x="{205 + width:.0f}" y="{y}">{line["rate"]:,.0f}</text>')
        y += 34
    style = "font-family: sans-serif; font-size: 13px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" style="{style}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}</svg>\n'
    )
