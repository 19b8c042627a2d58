"""The embedded PostgreSQL of one project: made, started, watched, brought back, stopped (embedded-postgres.md §2).

`postgres` is our direct child. It ends when we end, however we end (parent death signal), comes back when it dies
while we live, and one `flock` per project keeps every other supervisor away: PostgreSQL's own interlocks cannot see
into another container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_app.embedded import interlock, processes
from socle_app.embedded.access import write_access
from socle_app.embedded.account import own_name, resolve_account
from socle_app.embedded.data_folder import data_owner, make_data, start_flushing, verify_data
from socle_app.embedded.errors import EmbeddedError, PathUnusable, StartFailed
from socle_app.embedded.extensions import ensure_extensions
from socle_app.embedded.launch import spawn, trampolined
from socle_app.embedded.layout import Layout, ensure_home, ensure_own, known_layout, socket_dir
from socle_app.embedded.logfile import last_words, open_log, rotate_log, trim_log
from socle_app.embedded.server_tree import ServerTree, find_server_tree, reachable_tree
from socle_app.embedded.settings import Profile, machine_memory, plan_settings
from socle_app.embedded.status import Endpoint, note_endpoint
from socle_platform.events import Noted, Observe, silent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from socle_app.embedded.account import Account

__all__ = ["EmbeddedServer", "Endpoint"]

STOP_SECONDS = 30.0
QUIT_SECONDS = 5.0
FLUSH_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
STABLE_SECONDS = 5.0
HOUSEKEEPING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Seat:
    """What stays the same over the restarts of one server."""

    account: Account
    layout: Layout
    tree: ServerTree
    socket_dir: Path
    command: tuple[str, ...]


class EmbeddedServer:
    """The server of the project whose state folder is `state_dir`.

    `host` "" means no TCP, only the socket. `run_as` names the operating system user when we are root (default: the
    owner of existing data, else nobody). `settings` are further PostgreSQL settings, over those of `profile`.
    `keep_alive` brings the server back when it dies; it needs the event loop of `start` to run on, so leave it off
    where each call has a loop of its own (`asyncio.run`). Start from the main thread: the kernel ends the server
    together with us only then.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int,
        host: str = "127.0.0.1",
        run_as: str | None = None,
        profile: Profile = "auto",
        settings: Mapping[str, str] | None = None,
        observe: Observe = silent,
        keep_alive: bool = True,
        shared_dir: Path | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.dead = asyncio.Event()
        """Set when an unexpected death is noticed, cleared when the server is back."""
        self.ready = asyncio.Event()
        """Set while the server takes connections; cleared when its death is noticed and by `stop`."""
        self._state_dir = state_dir
        self._port, self._host = port, host
        self._run_as = run_as
        self._profile: Profile = profile
        self._extra = dict(settings or {})
        self._observe = observe
        self._keep_alive = keep_alive
        self._shared_dir = shared_dir
        self._stop_seconds = stop_seconds
        self._lock: int | None = None
        self._seat: _Seat | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._flusher: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether the server's process runs now."""
        return self._process is not None and self._process.poll() is None

    async def start(self) -> Endpoint:
        """Make the database if there is none, start the server, wait until it takes connections.

        No time limit while it recovers. Raises the EmbeddedErrors of `errors`; nothing is left running then.
        """
        try:
            return await self._start()
        except OSError as error:
            raise PathUnusable(
                f"The embedded PostgreSQL cannot work in {self._state_dir}: {error}. "
                "Start as the user who owns that folder, free some space, or choose another with --state."
            ) from error

    async def _start(self) -> Endpoint:
        tree = find_server_tree()
        account = resolve_account(self._run_as, data_owner(known_layout(self._state_dir).data))
        known = ensure_own(self._state_dir, account)
        self._lock = interlock.claim(known)
        try:
            layout = ensure_home(known, account, self._shared_dir)
            tree = reachable_tree(tree, account, self._shared_dir)
            fresh = not verify_data(layout.data, tree, account)
            if fresh:
                await make_data(layout, tree, account)
            self._seat = self._prepare(layout, tree, account)
            rotate_log(layout.log)
            endpoint = await self._bring_up(self._seat)
            if fresh and self._profile != "test":
                self._flusher = start_flushing(layout, tree, account)
        except BaseException:
            await self.stop()
            raise
        if self._keep_alive:
            self._keeper = asyncio.create_task(self._keep(self._seat), name="embedded-postgres")
        return endpoint

    async def stop(self) -> None:
        """End the server: fast, then at once, then by force; sessions are closed, nothing acknowledged is lost.

        Does nothing when it does not run. Raises StopFailed when processes survive even that.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        try:
            await self._end_child()
        finally:
            self.ready.clear()
            await self._end_flusher()
            if self._lock is not None:
                known_layout(self._state_dir).endpoint.unlink(missing_ok=True)
                os.close(self._lock)
                self._lock = None

    # --- starting

    def _prepare(self, layout: Layout, tree: ServerTree, account: Account) -> _Seat:
        write_access(layout.hba, layout.ident, self._host, own_name())
        sockets = socket_dir(layout, self._port, account)
        settings = {
            **plan_settings(self._profile, machine_memory()),
            **self._extra,
            "listen_addresses": self._host,
            "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"',
            "hba_file": str(layout.hba),
            "ident_file": str(layout.ident),
            "extension_control_path": f"{ensure_extensions(layout.extensions, tree)}:$system",
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        arguments = ["-D", str(layout.data), "-p", str(self._port), *options]
        command = trampolined(account, tree.program("postgres"), arguments, signal.SIGINT)
        return _Seat(account, layout, tree, sockets, tuple(command))

    async def _bring_up(self, seat: _Seat) -> Endpoint:
        await interlock.clear_way(seat.layout.data, seat.socket_dir / f".s.PGSQL.{self._port}", self._observe)
        if self._host:
            interlock.verify_address_free(self._host, self._port)
        with open_log(seat.layout.log) as log:
            before = log.tell()
            self._process = process = spawn(seat.command, log)
        while not _is_ready(process, seat.layout.data):
            if process.poll() is not None:
                raise StartFailed(last_words(seat.layout.log, before), seat.layout.log)
            await asyncio.sleep(processes.POLL)
        endpoint = Endpoint(
            seat.socket_dir,
            self._port,
            self._host,
            seat.layout.data,
            process.pid,
            seat.account.name,
            seat.tree.root,
            seat.layout.log,
        )
        note_endpoint(seat.layout, endpoint)
        self.dead.clear()
        self.ready.set()
        return endpoint

    # --- staying up

    async def _keep(self, seat: _Seat) -> None:
        """Bring the server back each time it dies, until `stop`."""
        pause, since = FIRST_PAUSE, time.monotonic()
        while (process := self._process) is not None:
            if not await processes.until_told(process, HOUSEKEEPING_SECONDS):
                self._tidy(seat)
                continue
            self.ready.clear()
            self.dead.set()
            self._say("error", f"PostgreSQL (process {process.pid}) died; starting it again")
            if time.monotonic() - since < STABLE_SECONDS:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
            await self._revive(seat)
            since = time.monotonic()

    def _tidy(self, seat: _Seat) -> None:
        with contextlib.suppress(OSError):
            trim_log(seat.layout.log)
        if self._flusher is not None and self._flusher.poll() is not None:
            self._flusher = None

    async def _revive(self, seat: _Seat) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                endpoint = await self._bring_up(seat)
            except (EmbeddedError, OSError) as error:
                self._say("error", f"{error} — trying again in {pause:.1f} s")
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                self._say("warning", f"PostgreSQL is back (process {endpoint.pid})")
                return

    def _say(self, level: str, text: str) -> None:
        self._observe(Noted("database", level, text))

    # --- stopping

    async def _end_child(self) -> None:
        process, seat = self._process, self._seat
        if process is None or seat is None:
            return
        for sign, seconds in ((signal.SIGINT, self._stop_seconds), (signal.SIGQUIT, QUIT_SECONDS)):
            if process.poll() is None:
                process.send_signal(sign)
                await processes.until_ended(process, seconds)
        if process.poll() is None:
            process.kill()
            await processes.until_ended(process, QUIT_SECONDS)
        await interlock.end_processes_in(seat.layout.data)
        self._process = None
        with contextlib.suppress(OSError):
            seat.socket_dir.rmdir()

    async def _end_flusher(self) -> None:
        flusher, self._flusher = self._flusher, None
        if flusher is not None and not await processes.until_ended(flusher, FLUSH_SECONDS):
            flusher.kill()
            flusher.wait()


def _is_ready(process: subprocess.Popen[bytes], data_dir: Path) -> bool:
    """The pid is compared: a note left by a killed server says `ready` too."""
    note = processes.read_pid_file(data_dir)
    return note is not None and note.pid == process.pid and note.status == "ready"
