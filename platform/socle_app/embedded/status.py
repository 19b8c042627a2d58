"""Where the server is: the note its supervisor leaves, and what is true of it now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from socle_app.embedded.layout import Layout, known_layout, read_note, write_note
from socle_app.embedded.processes import birth_mark, is_alive, is_server_of

SUPERUSER = "supabase_admin"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the running server is. Connect as any role through the socket; over TCP with that role's password."""

    socket_dir: Path
    port: int
    host: str
    data_dir: Path
    pid: int
    run_as: str
    server_dir: Path
    log: Path
    superuser: str = SUPERUSER


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What can be said from outside. `absent`: no database yet. `orphaned`: the server runs, its supervisor is gone."""

    state: Literal["absent", "stopped", "running", "orphaned"]
    data_dir: Path
    log: Path
    endpoint: Endpoint | None = None
    supervisor_pid: int | None = None


def status(state_dir: Path) -> ServerStatus:
    """The state of a project's embedded server; changes nothing, needs no lock."""
    layout = known_layout(state_dir)
    note = read_note(layout.endpoint)
    endpoint, supervisor = _endpoint(note), supervisor_of(note)
    if endpoint is None or not is_server_of(endpoint.pid, endpoint.data_dir):
        made = (layout.data / "PG_VERSION").exists() or layout.record.exists()
        return ServerStatus("stopped" if made else "absent", layout.data, layout.log)
    state: Literal["running", "orphaned"] = "running" if supervisor else "orphaned"
    return ServerStatus(state, layout.data, layout.log, endpoint, supervisor)


def note_endpoint(layout: Layout, endpoint: Endpoint) -> None:
    """Leave the note that `status` reads."""
    me = os.getpid()
    write_note(
        layout.endpoint,
        {
            "socket_dir": str(endpoint.socket_dir),
            "port": endpoint.port,
            "host": endpoint.host,
            "data_dir": str(endpoint.data_dir),
            "pid": endpoint.pid,
            "run_as": endpoint.run_as,
            "server_dir": str(endpoint.server_dir),
            "log": str(endpoint.log),
            "supervisor": me,
            "supervisor_birth": birth_mark(me),
        },
    )


def supervisor_of(note: dict[str, object]) -> int | None:
    """The process that wrote a note, if it still lives (and is not another one with its number)."""
    pid = note.get("supervisor")
    if isinstance(pid, int) and is_alive(pid) and birth_mark(pid) == note.get("supervisor_birth"):
        return pid
    return None


def _endpoint(note: dict[str, object]) -> Endpoint | None:
    try:
        return Endpoint(
            socket_dir=Path(str(note["socket_dir"])),
            port=int(str(note["port"])),
            host=str(note["host"]),
            data_dir=Path(str(note["data_dir"])),
            pid=int(str(note["pid"])),
            run_as=str(note["run_as"]),
            server_dir=Path(str(note["server_dir"])),
            log=Path(str(note["log"])),
        )
    except (KeyError, ValueError):
        return None
