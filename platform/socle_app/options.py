"""What a person may choose at `socle start`, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The start command's choices; None means "as the project or the environment says"."""

    project: Path | None = None
    state: Path | None = None
    host: str | None = None
    port: int | None = None
    database_port: int | None = None
    database_url: str | None = None
    run_as: str | None = None
    json: bool = False
    verbose: bool = False
