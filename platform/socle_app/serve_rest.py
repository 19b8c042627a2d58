"""`socle serve rest`: the REST service alone, in PostgREST's place, on any PostgreSQL (contracts/rest.md §15).

Needs nothing of the platform's own schema. SIGUSR1 reloads the schema cache, SIGUSR2 the configuration; SIGINT and
SIGTERM let the requests in flight finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from socle_app.cli.console import print_warning
from socle_app.observers import Log, configure_logging
from socle_platform.config.database import load_database
from socle_platform.config.postgrest_file import load_environment
from socle_platform.config.reader import Reader
from socle_platform.config.rest import ListenSettings, RestSettings, load_rest
from socle_platform.errors import SocleError
from socle_platform.events import Noted, Observers, RequestFailed, RequestServed
from socle_platform.pgwire.dsn import DsnInvalid, parse_dsn
from socle_rest.statement_log import StatementAnswered

if TYPE_CHECKING:
    from socle_platform.config.database import DatabaseSettings
    from socle_platform.db import Database
    from socle_platform.events import Observation, Observe
    from socle_platform.http import ASGIApp, Message, Receive, Scope, Send
    from socle_platform.replicas import Replicas
    from socle_rest.reload import Live

DEFAULT_URI = "postgresql://"
_ANY_IPV4 = frozenset({"!4", "*4"})
_ANY_IPV6 = frozenset({"!6", "*6"})
_DIALABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - dialled, not bound
_BACKLOG = 2048
_READY_SECONDS = 5.0
_LOWEST_STATUS = {"crit": 1000, "error": 500, "warn": 400, "info": 0, "debug": 0}
"""Per log level: requests with this status or a higher one get a line."""


class CannotListen(SocleError):
    """The address cannot be listened on."""

    def __init__(self, where: str, reason: str) -> None:
        self.hint = "Set PGRST_SERVER_HOST and PGRST_SERVER_PORT (or PGRST_SERVER_UNIX_SOCKET) to a free address."
        super().__init__(f"Cannot listen on {where}: {reason}")


class SchemaUnavailable(SocleError):
    """The schema cache could not be loaded."""


class DatabaseUnusable(SocleError):
    """The database cannot be used, and the settings say not to wait for it."""


class NotReady(SocleError):
    """The service is not ready."""


@dataclass(frozen=True, slots=True)
class RestOptions:
    """Settings of one server, and where they can be read again from."""

    settings: RestSettings
    database: DatabaseSettings
    environ: Mapping[str, str]
    file: str | None = None

    def reread(self, stored: Mapping[str, str]) -> RestSettings:
        """The settings as file, environment and database have them now. Raises ConfigError."""
        read = Reader(load_environment(self.environ, self.file, stored))
        settings = load_rest(read)
        read.finish()
        return settings


def load_options(environ: Mapping[str, str], file: str | None = None) -> RestOptions:
    """Reads file and environment. Raises ConfigError with every problem."""
    merged = load_environment(environ, file)
    read = Reader(merged)
    settings = load_rest(read)
    database = load_database(read, DEFAULT_URI)
    read.finish()
    database = replace(database, service_roles={}, application_name="socle rest", libpq=dict(environ))
    return RestOptions(settings, database, environ, file)


def serve_rest(options: RestOptions) -> None:
    """Serves until SIGINT or SIGTERM. Raises SocleError when it cannot start."""
    import uvloop

    configure_logging(level="debug", json_lines=False)
    uvloop.run(_serve(options))


async def _serve(options: RestOptions) -> None:
    stopping = asyncio.Event()
    reasons: list[str] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    def give_up(reason: str) -> None:
        reasons.append(reason)
        stopping.set()

    async with open_rest(options, give_up) as (live, addresses):
        loop.add_signal_handler(signal.SIGUSR1, live.reload_schema)
        loop.add_signal_handler(signal.SIGUSR2, live.reload_config)
        structlog.get_logger().info("listening", rest=addresses[0], admin=addresses[1] or "off")
        await stopping.wait()
    if reasons:
        raise DatabaseUnusable(f"The database cannot be used: {reasons[0]}")


@contextlib.asynccontextmanager
async def open_rest(
    options: RestOptions, fatal: Callable[[str], None] | None = None
) -> AsyncGenerator[tuple[Live, tuple[str, str]]]:
    """The running service, with the addresses of its main and its admin server ("" if there is none)."""
    from socle_app.http_server import running
    from socle_app.rest_admin import AdminApp, RestMetrics
    from socle_platform.db import Database
    from socle_platform.ports import Resources
    from socle_rest import routes

    settings = options.settings
    observe = Observers()
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings.server))
        admin = stack.enter_context(_listening(settings.admin)) if _wanted(settings.admin) else None
        database = Database(options.database, observe)
        stack.push_async_callback(database.close)
        replicas = _replicas(options.database, database, observe)
        live = _make_live(options, observe, lambda: _renew(database, replicas), fatal)
        observe.subscribe(RestLog(lambda: live.serving.settings))
        observe.subscribe(metrics := RestMetrics(database))
        stack.push_async_callback(live.close)
        await live.start()
        if replicas is not None:
            stack.push_async_callback(replicas.close)
            await replicas.start()
        resources = Resources(database, live.serving.keyring, observe=observe)
        app = Observed(routes.build(settings, resources, live, standalone=True, replicas=replicas), observe)
        await stack.enter_async_context(running(app, listener))
        if admin is not None:
            admin_app = AdminApp(live, metrics, lambda: _reach(listener))
            await stack.enter_async_context(running(admin_app, admin))
        yield live, (_address(listener), "" if admin is None else _address(admin))


def _replicas(settings: DatabaseSettings, primary: Database, observe: Observe) -> Replicas | None:
    from socle_platform.db import Database
    from socle_platform.replicas import Replicas

    if not settings.replica_dsns:
        return None
    return Replicas(primary, [Database(replace(settings, api_dsn=one)) for one in settings.replica_dsns], observe)


def _renew(database: Database, replicas: Replicas | None) -> None:
    database.renew_sessions()
    if replicas is not None:
        replicas.renew_sessions()


def _make_live(
    options: RestOptions, observe: Observe, loaded: Callable[[], None], fatal: Callable[[str], None] | None
) -> Live:
    from socle_rest.login import connector
    from socle_rest.reload import Live

    settings = options.settings
    target = parse_dsn(options.database.api_dsn, options.environ)
    return Live(
        settings,
        settings.jwt.keyring(settings.anon_role),
        connector(target, application_name="socle rest schema"),
        reread=options.reread,
        keyring_of=lambda fresh: fresh.jwt.keyring(fresh.anon_role),
        observe=observe,
        loaded=loaded,
        fatal=fatal,
    )


def example_config(options: RestOptions) -> str:
    """The settings as a configuration file."""
    from socle_app.rest_dump import render_config

    return render_config(options.settings, options.database, options.environ)


async def read_config_text(options: RestOptions) -> str:
    """All settings as a configuration file, with those that the database keeps where it can be reached."""
    import asyncpg

    from socle_app.rest_dump import render_config
    from socle_rest.login import connector
    from socle_rest.stored_settings import load_stored_settings

    stored: dict[str, str] = {}
    if options.settings.config_in_database:
        try:
            connection = await connector(parse_dsn(options.database.api_dsn, options.environ))()
            try:
                async with connection.transaction(readonly=True):
                    stored = await load_stored_settings(connection, options.settings.pre_config)
            finally:
                connection.terminate()
        except (OSError, asyncpg.PostgresError, DsnInvalid) as error:
            print_warning(f"The settings that the database keeps are missing here: {error}")
    settings = options.reread(stored)
    return render_config(settings, options.database, load_environment(options.environ, options.file, stored))


async def check_ready(options: RestOptions) -> str:
    """Asks the admin server of a running service whether it is ready; where it was asked. Raises NotReady."""
    admin = options.settings.admin
    if not _wanted(admin):
        raise NotReady("There is no admin server to ask: PGRST_ADMIN_SERVER_PORT is not set.")
    request = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_READY_SECONDS):
            if admin.unix_socket is not None:
                where = admin.unix_socket
                reader, writer = await asyncio.open_unix_connection(where)
            else:
                _, any_host = _family_and_host(admin.host)
                host = _DIALABLE.get(any_host, any_host)
                where = f"http://{f'[{host}]' if ':' in host else host}:{admin.port}/ready"
                reader, writer = await asyncio.open_connection(host, admin.port)
            writer.write(request)
            status = (await reader.readline()).split()
            writer.close()
    except (OSError, TimeoutError) as error:
        raise NotReady(f"The admin server does not answer: {error or 'no answer in time'}") from None
    if len(status) < 2 or status[1] != b"200":
        raise NotReady(f"The service is not ready: {b' '.join(status[1:]).decode('latin-1')}")
    return where


async def read_schema_document(options: RestOptions) -> bytes:
    """The schema cache as JSON, read once. Raises SchemaUnavailable."""
    from socle_rest.reload import SchemaNotLoaded
    from socle_rest.schema_document import render_schema

    reasons: list[str] = []

    def note(observation: Observation) -> None:
        if isinstance(observation, SchemaNotLoaded):
            reasons.append(observation.reason)

    live = _make_live(options, note, lambda: None, None)
    await live.start()
    await live.close()
    if live.serving.schema is None:
        raise SchemaUnavailable(f"The schema cache could not be loaded: {reasons[-1] if reasons else 'no answer'}")
    return render_schema(live.serving.schema)


# ---- HTTP ------------------------------------------------------------------------------------------------------------


class Observed:
    """Reports every exchange to the observers, as the gateway does where there is one."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._app(scope, receive, watched)
        duration = time.perf_counter() - started
        self._observe(RequestServed("rest", scope["method"], scope["path"], status, duration, ""))


class RestLog:
    """Log lines by `log-level`: requests from the status that the level asks for, what the service notes of itself."""

    def __init__(self, settings: Callable[[], RestSettings]) -> None:
        self._settings = settings
        self._logger = structlog.get_logger()
        self._notes = Log()

    def __call__(self, observation: Observation) -> None:
        level = self._settings().log_level
        if isinstance(observation, RequestServed):
            if observation.status >= _LOWEST_STATUS[level]:
                milliseconds = round(observation.duration * 1000, 2)
                self._logger.info(f"{observation.method} {observation.path} {observation.status}", ms=milliseconds)
        elif isinstance(observation, StatementAnswered):
            if observation.status >= _LOWEST_STATUS[level]:
                self._logger.info("statement", sql=observation.statement)
        elif isinstance(observation, RequestFailed) or _weight(observation) >= _LOWEST_WEIGHT[level]:
            self._notes(observation)


_WEIGHTS = ("debug", "info", "warning", "error")
_LOWEST_WEIGHT = {"crit": 3, "error": 1, "warn": 1, "info": 1, "debug": 0}


def _weight(observation: Observation) -> int:
    level = observation.level if isinstance(observation, Noted) else observation.LEVEL
    return _WEIGHTS.index(level) if level in _WEIGHTS else 1


# ---- sockets ---------------------------------------------------------------------------------------------------------


def _wanted(settings: ListenSettings) -> bool:
    return settings.port is not None or settings.unix_socket is not None


@contextlib.contextmanager
def _listening(settings: ListenSettings) -> Generator[socket.socket]:
    """A bound socket, gone at the end together with its file. Raises CannotListen."""
    if settings.unix_socket is not None:
        listener = _unix_listener(Path(settings.unix_socket), settings.unix_socket_mode)
    else:
        listener = _tcp_listener(settings)
    try:
        listener.set_inheritable(False)
        yield listener
    finally:
        listener.close()
        if settings.unix_socket is not None:
            Path(settings.unix_socket).unlink(missing_ok=True)


def _tcp_listener(settings: ListenSettings) -> socket.socket:
    family, host = _family_and_host(settings.host)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(settings.host == "!6"))
        listener.bind((host, settings.port or 0))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"{settings.host}:{settings.port}", _reason(error)) from None
    return listener


def _family_and_host(host: str) -> tuple[socket.AddressFamily, str]:
    """`*` and its kin are any address, of one or both families; a name is looked up. Raises CannotListen."""
    if host in _ANY_IPV4 or (host == "*" and not socket.has_dualstack_ipv6()):
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 - what the setting asks for
    if host in _ANY_IPV6 or host == "*":
        return socket.AF_INET6, "::"
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CannotListen(host, _reason(error)) from None
    return family, str(address[0])


def _unix_listener(path: Path, mode: int) -> socket.socket:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(str(path), _reason(error)) from None
    return listener


async def _reach(listener: socket.socket) -> None:
    """Opens a connection to what listens there, and closes it. Raises OSError."""
    if listener.family == socket.AF_UNIX:
        _, writer = await asyncio.open_unix_connection(listener.getsockname())
    else:
        host, port, *_ = listener.getsockname()
        _, writer = await asyncio.open_connection(_DIALABLE.get(host, host), port)
    writer.close()


def _reason(error: OSError) -> str:
    return "it is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror or str(error)


def _address(listener: socket.socket) -> str:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return os.fsdecode(name)
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"
