"""Where a project and its state folder lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from socle_app.project import Project, find_project
from socle_app.state import StateFolder


@dataclass(frozen=True, slots=True)
class Place:
    """A project with its state folder."""

    project: Project
    state: StateFolder


def locate(project: Path | None, state: Path | None) -> Place:
    """The project named, found upwards from here, or the built-in one; state in its `.socle` unless named."""
    found = find_project(project, Path.cwd())
    return Place(found, StateFolder(state or found.root / ".socle"))
