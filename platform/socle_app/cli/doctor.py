"""`socle doctor`: what could keep the platform from running here, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from socle_app.cli.platform import ProjectOption, StateOption

if TYPE_CHECKING:
    from socle_app.diagnosis import Finding

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    project: ProjectOption = None,
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as a JSON array.")] = False,
) -> None:
    """Check ports, versions, rights, disk and keys."""
    import asyncio
    import json
    from dataclasses import asdict

    from socle_app.cli.console import out
    from socle_app.diagnosis import examine

    findings = asyncio.run(examine(_absolute(project), _absolute(state)))
    if as_json:
        out.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            _print(finding)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    from rich.markup import escape

    from socle_app.cli.console import out

    out.print(f"{_MARKS[finding.level]} [bold]{finding.subject}[/] {escape(finding.text)}")
    if finding.remedy:
        out.print(f"  [yellow]→[/] {escape(finding.remedy)}")


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None
