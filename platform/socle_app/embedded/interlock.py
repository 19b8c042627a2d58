"""One server per data folder: the project's lock, and the end of whatever an earlier server left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from typing import TYPE_CHECKING

from socle_app.embedded import processes
from socle_app.embedded.errors import AddressUnusable, AlreadyRunning, PortTaken, StopFailed
from socle_app.embedded.layout import Layout, known_layout, read_note, remove_data, verify_owner
from socle_app.embedded.status import supervisor_of
from socle_platform.events import Noted, Observe, silent

if TYPE_CHECKING:
    from pathlib import Path

FAST_SECONDS = 30.0


async def stop_left_behind(state_dir: Path) -> bool:
    """Stop a server whose supervisor is gone. False when there was none.

    Raises AlreadyRunning when its supervisor lives (ask that one to end), StopFailed when it survives everything.
    """
    layout = known_layout(state_dir)
    if not layout.lock.exists():
        return False
    lock = claim(layout)
    try:
        found = bool(processes.processes_in(layout.data))
        await clear_way(layout.data)
        layout.endpoint.unlink(missing_ok=True)
    finally:
        os.close(lock)
    return found


async def delete_data(state_dir: Path) -> bool:
    """Delete a project's database for good, wherever it lives; what a start would make anew. False when there was none.

    Stops a server left behind. Raises AlreadyRunning while its supervisor lives, PathUnusable where the data is another
    project's, StopFailed.
    """
    layout = known_layout(state_dir)
    if not layout.lock.exists():
        return False
    lock = claim(layout)
    try:
        found = layout.data.exists()
        if found:
            if layout.record.exists():
                verify_owner(layout)
            await clear_way(layout.data)
            remove_data(layout)
    finally:
        os.close(lock)
    return found


def claim(layout: Layout) -> int:
    """Take the project's lock; the file descriptor keeps it, closing gives it back. Raises AlreadyRunning."""
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        note = read_note(layout.endpoint)
        port = note.get("port") if supervisor_of(note) else None
        raise AlreadyRunning(
            layout.own.parent, int(holder) if holder.isdigit() else None, port if isinstance(port, int) else None
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def verify_address_free(host: str, port: int) -> None:
    """Raises PortTaken, naming who holds the port where that can be known, or AddressUnusable."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressUnusable(host, port, error) from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortTaken(host, port, processes.port_holder(port)) from None
                raise AddressUnusable(host, port, error) from None


async def clear_way(data_dir: Path, socket_file: Path | None = None, observe: Observe = silent) -> None:
    """End what is left of an earlier server on this data and remove its notes. The caller holds the project's lock.

    A living server there (its supervisor was killed) is stopped properly, not adopted: its settings may be stale.
    """
    note = processes.read_pid_file(data_dir)
    if note is not None and processes.is_server_of(note.pid, data_dir):
        observe(Noted("database", "warning", f"stopping the PostgreSQL left behind (process {note.pid})"))
        processes.send(note.pid, signal.SIGINT)
        await processes.until_gone([note.pid], FAST_SECONDS)
    await end_processes_in(data_dir)
    _forget_notes(data_dir, socket_file)


async def end_processes_in(data_dir: Path) -> None:
    """End every process of a server whose postmaster is gone or deaf. Raises StopFailed."""
    for sign, seconds in ((signal.SIGQUIT, 1.0), (signal.SIGKILL, 5.0)):
        left = processes.processes_in(data_dir)
        if not left:
            return
        for pid in left:
            processes.send(pid, sign)
        await processes.until_gone(left, seconds)
    if left := processes.processes_in(data_dir):
        raise StopFailed(f"Processes {left} still work in {data_dir} and cannot be ended. Restart the machine.")


def _forget_notes(data_dir: Path, socket_file: Path | None) -> None:
    """Nothing works on the data, so what a dead server left says nothing; its pid may be anybody's by now.

    Without /proc we cannot know, and leave it to PostgreSQL's own judgement.
    """
    if not processes.PROC.joinpath("self").exists():
        return
    (data_dir / "postmaster.pid").unlink(missing_ok=True)
    if socket_file is not None:
        socket_file.unlink(missing_ok=True)
        socket_file.with_name(f"{socket_file.name}.lock").unlink(missing_ok=True)
