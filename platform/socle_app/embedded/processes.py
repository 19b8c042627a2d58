"""What the operating system knows about the server's processes: pid file, /proc, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL = 0.005


@dataclass(frozen=True, slots=True)
class PidFile:
    """`postmaster.pid` as PostgreSQL writes it; lines not yet written are None. `status`: starting, ready, stopping."""

    pid: int
    data_dir: str | None
    port: int | None
    socket_dir: str | None
    status: str | None


def parse_pid_file(text: str) -> PidFile | None:
    """None for an empty or garbled file."""
    lines = [line.strip() for line in text.splitlines()]

    def line(number: int) -> str | None:
        return lines[number] if len(lines) > number and lines[number] else None

    pid, port = line(0), line(3)
    if pid is None or not pid.lstrip("-").isdigit():
        return None
    return PidFile(abs(int(pid)), line(1), int(port) if port and port.isdigit() else None, line(4), line(7))


def read_pid_file(data_dir: Path) -> PidFile | None:
    """The server's own note, or None when there is none that can be read."""
    try:
        return parse_pid_file((data_dir / "postmaster.pid").read_text(errors="replace"))
    except OSError:
        return None


def _stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat after the command name: state first, start time 20th (proc(5)); empty when gone or unknown."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    if (PROC / "self").exists():
        fields = _stat_fields(pid)
        return bool(fields) and fields[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def birth_mark(pid: int) -> str | None:
    """Something two processes with the same pid do not share: the start time in clock ticks. None where unknown."""
    fields = _stat_fields(pid)
    return fields[19] if len(fields) > 19 else None


def processes_in(folder: Path) -> list[int]:
    """All processes whose working folder is `folder`: every process of one server, and nothing else.

    Process groups do not help: the server's children start sessions of their own.
    """
    wanted = os.path.realpath(folder)
    found: list[int] = []
    try:
        entries = os.listdir(PROC)
    except OSError:
        return found
    for entry in entries:
        if entry.isdigit() and _working_folder(int(entry)) == wanted:
            found.append(int(entry))
    return found


def _working_folder(pid: int) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / "cwd")
    except OSError:
        return None


def is_server_of(pid: int, data_dir: Path) -> bool:
    """Whether `pid` is a living process that works in `data_dir`."""
    return is_alive(pid) and _working_folder(pid) == os.path.realpath(data_dir)


def send(pid: int, sign: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        pass


async def until_gone(pids: list[int], seconds: float) -> bool:
    """Wait for processes that need not be our children. False when some outlived `seconds`."""
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def port_holder(port: int) -> str | None:
    """Who listens on a TCP port, in words; None where /proc does not tell us."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for entry in os.listdir(PROC):
        if entry.isdigit() and _holds(int(entry), sockets):
            return _describe(int(entry))
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _holds(pid: int, sockets: set[str]) -> bool:
    folder = PROC / str(pid) / "fd"
    try:
        return any(os.readlink(folder / descriptor) in sockets for descriptor in os.listdir(folder))
    except OSError:
        return False


def _describe(pid: int) -> str:
    folder = Path(_working_folder(pid) or "/")
    if (folder / "PG_VERSION").exists():
        return f"the PostgreSQL in {folder} (process {pid})"
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        words = []
    name = Path(words[0]).name if words and words[0] else "a program"
    return f"{name} (process {pid})"
