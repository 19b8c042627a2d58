"""`socle serve storage`: the storage service alone, in the official container's place (contract storage.md).

Reads that container's environment (DATABASE_URL, AUTH_JWT_SECRET or PGRST_JWT_SECRET, JWT_JWKS, STORAGE_BACKEND,
FILE_STORAGE_BACKEND_PATH, STORAGE_S3_*, FILE_SIZE_LIMIT, …) and serves its routes at `/`. SIGINT and SIGTERM let the
requests in flight finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from socle_app.environment import notes_on_names
from socle_app.observers import Log, configure_logging
from socle_platform.config.database import DatabaseSettings
from socle_platform.config.reader import Reader
from socle_platform.config.storage import StorageSettings, load_storage
from socle_platform.errors import SocleError
from socle_platform.events import Observers, RequestServed
from socle_platform.keys import Key, Keyring, parse_jwks, secret_key

if TYPE_CHECKING:
    from socle_platform.http import ASGIApp, Message, Receive, Scope, Send

_BACKLOG = 2048


class CannotListen(SocleError):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Everything that one storage server needs to know."""

    settings: StorageSettings
    database: DatabaseSettings
    keys: tuple[Key, ...] = field(repr=False)
    anonymous_role: str = "anon"
    log_level: str = "info"


def load_options(environ: Mapping[str, str]) -> StorageOptions:
    """Reads the container's environment. Raises ConfigError with every problem."""
    read = Reader(environ)
    settings = load_storage(read)
    dsn = read.secret("DATABASE_URL")
    if not dsn:
        read.problem("DATABASE_URL must name the database, for example postgres://supabase_storage_admin:…@db/postgres")
    pool = read.integer("DATABASE_MAX_CONNECTIONS", default=20, minimum=2)
    options = StorageOptions(
        settings=settings,
        database=DatabaseSettings(
            api_dsn=read.secret("DATABASE_POOL_URL", default=dsn),
            service_dsns={"storage": dsn},
            service_roles={},
            api_pool_size=max(pool - 2, 1),
            service_pool_size=2,
            connect_timeout=read.integer("DATABASE_CONNECTION_TIMEOUT", default=3000, minimum=1) / 1000,
            application_name=read.text("DATABASE_APPLICATION_NAME", default="socle storage"),
            libpq={f"PG{name}": value for name, value in read.prefixed("PG").items()},
        ),
        keys=_load_keys(read),
        anonymous_role=read.text("DB_ANON_ROLE", default="anon"),
        log_level={"warn": "warning", "trace": "debug", "fatal": "error"}.get(
            level := read.text("LOG_LEVEL", default="info"), level
        ),
    )
    read.finish()
    return options


def _load_keys(read: Reader) -> tuple[Key, ...]:
    secret = read.secret("AUTH_JWT_SECRET", "PGRST_JWT_SECRET")
    if not secret:
        read.problem("AUTH_JWT_SECRET (or PGRST_JWT_SECRET) must be the secret that tokens are signed with")
    document = read.secret("JWT_JWKS")
    keys: tuple[Key, ...] = ()
    try:
        keys = parse_jwks(json.loads(document)) if document else ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        read.problem(f"JWT_JWKS is no JSON web key set: {error}")
    return (secret_key(secret), *keys) if secret else keys


async def serve_storage(environ: Mapping[str, str]) -> None:
    """Serves until SIGINT or SIGTERM. Raises SocleError when it cannot start."""
    options = load_options(environ)
    configure_logging(level=options.log_level, json_lines=False)
    for note in notes_on_names(environ):
        structlog.get_logger().warning(note)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with open_storage(options) as address:
        structlog.get_logger().info("listening", storage=address, backend=options.settings.backend)
        await stopping.wait()


@contextlib.asynccontextmanager
async def open_storage(options: StorageOptions) -> AsyncGenerator[str, None]:
    """The running service; gives the address it listens on (port 0 is a free one)."""
    from socle_app.http_server import running
    from socle_app.resources import open_blobs
    from socle_platform.db import Database
    from socle_platform.ports import Resources
    from socle_storage import routes, sweeper
    from socle_storage.store.bookkeeping import ensure_bookkeeping

    settings = options.settings
    observe = Observers(Log())
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(settings.host, settings.port))
        database = Database(options.database, observe)
        stack.push_async_callback(database.close)
        await database.start()
        await ensure_bookkeeping(database)
        blobs = await open_blobs(settings)
        stack.push_async_callback(blobs.close)
        keyring = Keyring(options.keys, anonymous_role=options.anonymous_role)
        resources = Resources(database, keyring, observe=observe, blobs=blobs)
        await stack.enter_async_context(sweeper.sweeping(settings, resources))
        await stack.enter_async_context(running(_Observed(routes.build(settings, resources), observe), listener))
        host, port, *_ = listener.getsockname()
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket, None, None]:
    """A bound socket. Raises CannotListen."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotListen(
            f"Cannot listen on {host}:{port}: {reason}. SERVER_HOST and SERVER_PORT say where."
        ) from error
    try:
        yield listener
    finally:
        listener.close()


class _Observed:
    """Reports every exchange to the observers, as the gateway does where there is one."""

    def __init__(self, app: ASGIApp, observe: Observers) -> None:
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
        self._observe(RequestServed("storage", scope["method"], scope["path"], status, duration, ""))
