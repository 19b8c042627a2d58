"""`socle serve auth`: the sign-in service alone, in the official container's place (contract auth.md §8).

Reads that container's environment (GOTRUE_*, API_EXTERNAL_URL, DATABASE_URL or GOTRUE_DB_DATABASE_URL) and serves its
routes at `/` and below `/auth/v1`. A database that the container set up is taken over as it is; an empty one is
bootstrapped. SIGINT and SIGTERM let the requests in flight finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from socle_app.environment import notes_on_names
from socle_app.observers import Log, configure_logging
from socle_platform.config.auth import AuthSettings, load_auth
from socle_platform.config.database import DatabaseSettings
from socle_platform.config.keys import KeySettings, load_keys
from socle_platform.config.reader import Reader
from socle_platform.errors import SocleError
from socle_platform.events import Observers

if TYPE_CHECKING:
    from socle_platform.db import Database

BEHIND_A_GATEWAY = "/auth/v1"
"""Where clients look for the service; answered too, so that a client can talk to it without a gateway in between."""

_BACKLOG = 2048
_LEVELS = {"warn": "warning", "trace": "debug", "fatal": "error", "panic": "error"}


class CannotListen(SocleError):
    """The address cannot be listened on."""


class SchemaTooOld(SocleError):
    """Schema auth of this database is older than this service understands."""

    def __init__(self, newest: str, needed: str) -> None:
        self.hint = "Let the container's own `auth migrate` of version 2.196 or later bring it up to date first."
        super().__init__(f"Schema auth stands at migration {newest or 'unknown'}; {needed} or later is needed")


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """Everything that one sign-in server needs to know."""

    settings: AuthSettings
    database: DatabaseSettings
    dsn: str = field(repr=False)
    keys: KeySettings = field(repr=False)
    host: str = "0.0.0.0"  # noqa: S104 - as the container does
    port: int = 8081
    log_level: str = "info"


def load_options(environ: Mapping[str, str]) -> AuthOptions:
    """Reads the container's environment. Raises ConfigError with every problem."""
    read = Reader(environ)
    settings = load_auth(read)
    keys = load_keys(read)
    dsn = _without_search_path(read.secret("GOTRUE_DB_DATABASE_URL", "DATABASE_URL"))
    if not dsn:
        read.problem("DATABASE_URL must name the database, for example postgres://supabase_auth_admin:…@db/postgres")
    if not keys.jwt_secret:
        read.problem("GOTRUE_JWT_SECRET must be the secret that tokens are signed with")
    if read.text("DB_NAMESPACE", "GOTRUE_DB_NAMESPACE", default="auth") != "auth":
        read.problem("GOTRUE_DB_NAMESPACE must be auth: the tables' schema has no other name")
    level = read.text("GOTRUE_LOG_LEVEL", "LOG_LEVEL", default="info")
    options = AuthOptions(
        settings=settings,
        database=DatabaseSettings(
            api_dsn=dsn,
            service_dsns={"auth": dsn, "platform": dsn},
            service_roles={},
            api_pool_size=1,
            service_pool_size=read.integer("GOTRUE_DB_MAX_POOL_SIZE", default=10, minimum=1),
            application_name="socle auth",
            libpq={f"PG{name}": value for name, value in read.prefixed("PG").items()},
        ),
        dsn=dsn,
        keys=keys,
        host=read.text("GOTRUE_API_HOST", "API_HOST", default="0.0.0.0"),  # noqa: S104 - as the container does
        port=read.integer("GOTRUE_API_PORT", "PORT", default=8081, minimum=0, maximum=65535),
        log_level=_LEVELS.get(level, level),
    )
    read.finish()
    return options


def _without_search_path(dsn: str) -> str:
    """The address without `search_path=auth`, which the container's documentation adds: libpq has no such parameter,
    and all our names are qualified."""
    head, question, query = dsn.partition("?")
    if not question:
        return dsn
    kept = [part for part in query.split("&") if part.partition("=")[0] != "search_path"]
    return f"{head}?{'&'.join(kept)}" if kept else head


async def serve_auth(environ: Mapping[str, str]) -> None:
    """Serves until SIGINT or SIGTERM. Raises SocleError when it cannot start."""
    options = load_options(environ)
    configure_logging(level=options.log_level, json_lines=False)
    for note in notes_on_names(environ):
        structlog.get_logger().warning(note)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with open_auth(options) as address:
        structlog.get_logger().info("listening", auth=address)
        await stopping.wait()


@contextlib.asynccontextmanager
async def open_auth(options: AuthOptions) -> AsyncGenerator[str]:
    """The running service; gives the address it listens on (port 0 is a free one)."""
    from socle_app.http_server import running
    from socle_app.key_watch import following
    from socle_app.resources import open_mailer
    from socle_auth import routes
    from socle_platform.db import Database
    from socle_platform.http import Gateway, GatewayPolicy, Mount
    from socle_platform.keys import Keyring
    from socle_platform.outgoing import OutgoingHttp, parse_allowances
    from socle_platform.ports import Resources

    observe = Observers(Log())
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(_listening(options.host, options.port))
        database = Database(options.database, observe)
        stack.push_async_callback(database.close)
        await database.start()
        await ensure_schema(database, options.dsn)
        everything = options.settings.allow_private_urls
        http = OutgoingHttp(parse_allowances(options.settings.allowed_private_hosts, everything=everything))
        stack.push_async_callback(http.close)
        keyring = Keyring(options.keys.keys())
        await stack.enter_async_context(following(keyring, options.keys, observe))
        mailer = open_mailer(options.settings)
        if mailer is None:
            structlog.get_logger().warning("GOTRUE_SMTP_HOST is not set: mails are not sent anywhere")
        resources = Resources(database, keyring, observe=observe, http=http, mailer=mailer)
        app = await stack.enter_async_context(routes.running(options.settings, resources))
        mount = Mount(BEHIND_A_GATEWAY, "auth", app, routes.render_failure, checks_key=False)
        gateway = Gateway((mount,), keyring, GatewayPolicy(require_apikey=False), observe, app)
        await stack.enter_async_context(running(gateway, listener))
        host, port, *_ = listener.getsockname()
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def ensure_schema(database: Database, dsn: str) -> None:
    """Makes schema auth usable: bootstraps an empty database, takes over one that the container set up.

    Raises SchemaTooOld, or what the bootstrap raises (naming each right that is missing).
    """
    from socle_auth.store import takeover

    log = structlog.get_logger()
    async with database.as_service("auth") as connection:
        is_there = await takeover.has_users(connection)
        present = await takeover.versions(connection)
    if not is_there:
        from socle_platform.migrate import ensure_platform

        await ensure_platform(dsn, progress=lambda text: log.info("bootstrap", step=text))
        return
    newest = max((version for version in present if len(version) == 14), default="")
    if newest < takeover.OLDEST_USABLE_VERSION:
        raise SchemaTooOld(newest, takeover.OLDEST_USABLE_VERSION)
    if newest > takeover.LAST_KNOWN_VERSION:
        log.warning("the database is newer than this service", newest=newest, known=takeover.LAST_KNOWN_VERSION)
    async with database.as_service("auth") as connection:
        reason = await takeover.ensure_additions(connection)
    if reason is not None:
        log.warning("recovery codes and wallet sign-ins will not work", reason=reason)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    """A bound socket. Raises CannotListen."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. GOTRUE_API_HOST and GOTRUE_API_PORT say where."
        ) from error
    try:
        yield listener
    finally:
        listener.close()
