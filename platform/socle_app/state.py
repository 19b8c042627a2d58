"""The state folder of a project (`.socle/`, 0700): generated keys, and what a running platform says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from socle_app.embedded.layout import OWN_MARK, STATE_NAME
from socle_app.embedded.processes import birth_mark, is_alive
from socle_platform.errors import SocleError


@dataclass(frozen=True, slots=True)
class Running:
    """A started platform as `run.json` tells it. `values` has the names of `status -o json` (contract cli.md §4).

    `birth` tells its process from another one that got the same number since; `notes` is what a person should know.
    """

    pid: int
    started_at: str
    project: str
    values: Mapping[str, str] = field(repr=False)
    database_pid: int | None = None
    data_dir: str | None = None
    socket_dir: str | None = None
    run_as: str | None = None
    birth: str | None = None
    notes: Sequence[str] = ()


class StateUnreadable(SocleError):
    """A file of the state folder cannot be read."""

    def __init__(self, path: Path, reason: object) -> None:
        self.hint = "Restore it from a backup. Without it keys and passwords that were made for this project are new."
        super().__init__(f"{path} cannot be read: {reason}")


class StateFolder:
    """Paths below one state folder, and the small files in it. Files with secrets are 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.run_file = self.path / "run.json"
        self.keys_file = self.path / "keys.json"
        self.signing_keys_file = self.path / "signing_keys.json"
        self.log_file = self.path / "socle.log"
        self.project_file = self.path / "project"
        """There once the project was applied whole: what comes later is the person's to push."""
        self.roles_file = self.path / "roles"
        """There once the project's roles were made, which no database records."""
        self.blobs = self.path / "storage"

    def ensure(self) -> None:
        """Creates the folder, closed to others, and keeps it out of version control.

        A folder that was there keeps its mode.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            pass
        else:
            if self.path.name != STATE_NAME:
                (self.path / OWN_MARK).touch()
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")

    def read_keys(self) -> dict[str, str]:
        """Generated secrets by environment name; empty when none were generated. Raises StateUnreadable."""
        try:
            found: object = json.loads(self.keys_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise StateUnreadable(self.keys_file, error) from error
        if not isinstance(found, dict):
            raise StateUnreadable(self.keys_file, "it holds no JSON object")
        return cast("dict[str, str]", found)

    def write_keys(self, keys: Mapping[str, str]) -> None:
        self._write_secret(self.keys_file, dict(keys))

    def read_running(self) -> Running | None:
        """The running platform, or None when there is none (a file left by a killed one does not count)."""
        try:
            document = json.loads(self.run_file.read_text(encoding="utf-8"))
            running = Running(**document)
        except (OSError, ValueError, TypeError):
            return None
        if not is_alive(running.pid) or running.birth not in (None, birth_mark(running.pid)):
            return None
        return running

    def write_running(self, running: Running) -> None:
        self._write_secret(self.run_file, asdict(running))

    def forget_running(self) -> None:
        with suppress(OSError):
            self.run_file.unlink()

    def _write_secret(self, path: Path, document: Mapping[str, Any]) -> None:
        fresh = path.with_suffix(".new")
        with suppress(OSError):
            fresh.unlink()
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
