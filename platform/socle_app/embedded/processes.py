"""What the operating system knows about the server's processes: pid file, /proc, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    import subprocess

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
    """Every process of the server whose data is `folder`: a `postgres` that works in it (a shell there is not).

    Process groups do not help: the server's children start sessions of their own.
    """
    wanted = os.path.realpath(folder)
    return [pid for pid in _all_processes() if _link(pid, "cwd") == wanted and _is_postgres(pid)]


def _all_processes() -> list[int]:
    try:
        return [int(entry) for entry in os.listdir(PROC) if entry.isdigit()]  # noqa: PTH208 — names, not paths
    except OSError:
        return []


def _link(pid: int, name: str) -> str | None:
    try:
        return str((PROC / str(pid) / name).readlink())
    except OSError:
        return None


def _is_postgres(pid: int) -> bool:
    """By its program file, which may have been replaced or removed since."""
    return Path((_link(pid, "exe") or "").removesuffix(" (deleted)")).name == "postgres"


def is_server_of(pid: int, data_dir: Path) -> bool:
    """Whether `pid` is a living `postgres` that works in `data_dir`."""
    return is_alive(pid) and _link(pid, "cwd") == os.path.realpath(data_dir) and _is_postgres(pid)


def send(pid: int, sign: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


async def until_ended(child: subprocess.Popen[bytes], seconds: float | None = None) -> bool:
    """Wait for the end of a child of ours, for ever if `seconds` is None. False when it outlived them."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while child.poll() is None:
        if deadline is not None and time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


async def until_told(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """As `until_ended`, for long waits: the kernel wakes us, by a process descriptor, where it can."""
    if child.poll() is not None:
        return True
    try:
        descriptor = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        return await until_ended(child, seconds)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    child.wait()
    return True


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
    return next((_describe(pid) for pid in _all_processes() if _holds(pid, sockets)), None)


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
        return any(str(descriptor.readlink()) in sockets for descriptor in folder.iterdir())
    except OSError:
        return False


def _describe(pid: int) -> str:
    folder = Path(_link(pid, "cwd") or "/")
    if (folder / "PG_VERSION").exists():
        return f"the PostgreSQL in {folder} (process {pid})"
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        words = []
    name = Path(words[0]).name if words and words[0] else "a program"
    return f"{name} (process {pid})"
