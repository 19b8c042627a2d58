"""One platform from first byte to last: PostgreSQL, bootstrap, project, services, HTTP, and the way back down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from socle_app import http_server
from socle_app.embedded.processes import birth_mark
from socle_app.environment import notes_on_names, platform_environment, status_values
from socle_app.inbox_port import Below, inbox_listener, inbox_notes, inbox_url
from socle_app.keychain import ensure_keychain
from socle_app.observers import Log, Metrics, configure_logging
from socle_app.places import Place, locate
from socle_app.preparation import prepare_database
from socle_app.source import Source, external_url, open_source
from socle_app.state import Running
from socle_platform.config.database import load_database_port
from socle_platform.config.gateway import load_gateway
from socle_platform.config.keys import load_keys
from socle_platform.config.reader import ConfigError, Reader
from socle_platform.config.settings import load
from socle_platform.errors import SocleError
from socle_platform.events import Noted, Observers

if TYPE_CHECKING:
    from socle_app.embedded.supervisor import Endpoint
    from socle_app.keychain import Keychain
    from socle_app.options import StartOptions
    from socle_platform.config.gateway import GatewaySettings
    from socle_platform.config.settings import Settings
    from socle_platform.http import ASGIApp

_WANTED_SOON = ("socle_app.app", "socle_app.resources", "uvicorn.protocols.http.httptools_impl")


class AddressTaken(SocleError):
    """The API's port is in use."""

    def __init__(self, host: str, port: int) -> None:
        self.hint = "Choose another with --port, or stop what listens there (`socle status` tells whether it is ours)."
        super().__init__(f"{host}:{port} is in use by another program")


class AddressUnusable(SocleError):
    """The API's address cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        self.hint = "Choose an address of this machine with --host, and a port above 1023 unless you are root."
        super().__init__(f"Cannot listen on {host}:{port}: {reason}")


class StartInterrupted(SocleError):
    """Stopped before it was ready; what was done stays, and the next start goes on from there."""


class AlreadyServing(SocleError):
    """This project is being served already."""

    def __init__(self, running: Running) -> None:
        self.hint = "Use it (`socle status`), or end it with `socle stop`."
        super().__init__(f"This project is already running as process {running.pid} at {running.values['API_URL']}")


def serve(options: StartOptions) -> None:
    """Runs the platform in the foreground until SIGINT or SIGTERM. Raises SocleError when it cannot start, and
    StartInterrupted where a signal came before it was ready."""
    import uvloop

    quiet = "info" if options.json else "warning"
    configure_logging(level="debug" if options.verbose else quiet, json_lines=options.json)
    uvloop.run(_serve(options))


async def _serve(options: StartOptions) -> None:
    started = time.monotonic()
    stopping, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    is_up = False

    def stop() -> None:
        if not is_up and not stopping.is_set():
            task.cancel()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with open_platform(options) as platform:
            is_up = True
            await platform.serve(options, started, stopping)
    except asyncio.CancelledError:
        raise StartInterrupted from None


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that is up but for its HTTP port."""

    app: ASGIApp
    listener: socket.socket
    place: Place
    running: Running
    inbox: socket.socket | None = None

    async def serve(self, options: StartOptions, started: float, stopping: asyncio.Event) -> None:
        """Answers requests until `stopping` is set, then lets those in flight finish."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(http_server.running(self.app, self.listener))
            except OSError:
                raise AddressTaken(*self.listener.getsockname()[:2]) from None
            if self.inbox is not None:
                await stack.enter_async_context(http_server.running(Below(self.app), self.inbox))
            self.place.state.write_running(self.running)
            settle_memory()
            try:
                self._announce(options, time.monotonic() - started)
                await stopping.wait()
            finally:
                self.place.state.forget_running()

    def _announce(self, options: StartOptions, seconds: float) -> None:
        if options.json:
            sys.stdout.write(json.dumps(dict(self.running.values)) + "\n")
            sys.stdout.flush()
            return
        from socle_app.banner import print_ready
        from socle_app.cli.console import out

        print_ready(out, self.running, seconds)


def settle_memory() -> None:
    """From here on the collector runs, and leaves alone what was made by the start: it stays as long as we do."""
    gc.collect()
    gc.freeze()
    gc.enable()


@contextlib.asynccontextmanager
async def open_platform(options: StartOptions) -> AsyncGenerator[Platform]:
    """Everything up to the HTTP port, taken down again at the end in reverse order."""
    place = locate(options.project, options.state)
    place.state.ensure()
    if (running := place.state.read_running()) is not None:
        raise AlreadyServing(running)
    given = _given(place, options)
    gateway, keychain = _own_address_and_keys(place, given)
    observe = Observers(Log(), metrics := Metrics())
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(gateway))
        gateway = replace(gateway, port=listener.getsockname()[1])
        environ = platform_environment(given, gateway, keychain, place.state)
        settings = replace(load(environ), gateway=gateway, keys=keychain.settings)
        imports = asyncio.create_task(asyncio.to_thread(_import_services))
        inbox = stack.enter_context(inbox_listener(given, gateway))
        source = await stack.enter_async_context(open_source(given, options, place.state, observe))
        notes = await prepare_database(source, place, given, observe)
        await imports
        app = await stack.enter_async_context(_furnished(settings, environ, source, keychain, observe, metrics))
        values = status_values(gateway, keychain, source.public_url, inbox_url(environ, gateway, inbox))
        running = _describe(
            place, source.endpoint, values, (*notes, *inbox_notes(environ, gateway), *notes_on_names(given))
        )
        for text in running.notes if options.json else ():
            observe(Noted("platform", "warning", text))
        yield Platform(app, listener, place, running, inbox)


@contextlib.asynccontextmanager
async def _furnished(
    settings: Settings,
    environ: Mapping[str, str],
    source: Source,
    keychain: Keychain,
    observe: Observers,
    metrics: Metrics,
) -> AsyncGenerator[ASGIApp]:
    """The services on that database until the block ends."""
    from socle_app.app import furnish
    from socle_app.resources import open_resources

    async with (
        open_resources(settings, environ, source, keychain, observe) as resources,
        furnish(settings, environ, source.api_dsn, resources, metrics) as app,
    ):
        yield app


def _given(place: Place, options: StartOptions) -> dict[str, str]:
    """What the project, its files and the process environment say, with the command line on top."""
    chosen = {"SOCLE_HOST": options.host, "SOCLE_PORT": options.port, "SOCLE_DB_PORT": options.database_port}
    return {
        **place.project.environment(os.environ),
        **{name: str(value) for name, value in chosen.items() if value is not None},
    }


def _own_address_and_keys(place: Place, given: Mapping[str, str]) -> tuple[GatewaySettings, Keychain]:
    read = Reader(given)
    gateway, keys = load_gateway(read), load_keys(read)
    if not external_url(given) and gateway.port == load_database_port(read):
        read.problem(f"SOCLE_PORT and SOCLE_DB_PORT are both {gateway.port}: two servers cannot share it")
    if read.problems:
        raise ConfigError(list(dict.fromkeys((*read.problems, *_other_problems(given)))))
    return gateway, ensure_keychain(keys, given, place.state, loopback=gateway.is_loopback)


def _other_problems(given: Mapping[str, str]) -> tuple[str, ...]:
    """What else is wrong with the settings, so that nobody mends one after the other."""
    try:
        load(given)
    except ConfigError as error:
        return error.problems
    return ()


def _listen(gateway: GatewaySettings) -> socket.socket:
    """The API's listening socket, taken before anything slow. Raises AddressTaken."""
    family = socket.AF_INET6 if ":" in gateway.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((gateway.host, gateway.port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressTaken(gateway.host, gateway.port) from None
        raise AddressUnusable(gateway.host, gateway.port, error.strerror or str(error)) from None
    listener.set_inheritable(False)
    return listener


def _import_services() -> None:
    """Imports what the app needs while PostgreSQL starts: both take about as long."""
    for name in _WANTED_SOON:
        importlib.import_module(name)


def _describe(place: Place, endpoint: Endpoint | None, values: Mapping[str, str], notes: tuple[str, ...]) -> Running:
    return Running(
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        project=str(place.project.root),
        values=values,
        database_pid=endpoint.pid if endpoint else None,
        data_dir=str(endpoint.data_dir) if endpoint else None,
        socket_dir=str(endpoint.socket_dir) if endpoint else None,
        run_as=endpoint.run_as if endpoint else None,
        birth=birth_mark(os.getpid()),
        notes=notes,
    )
