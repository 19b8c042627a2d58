"""One embedded PostgreSQL per test run, and a database per test cloned from a template (embedded-postgres.md §6).

The run's first process starts the server on a memory disk with fsync off; workers find it through the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg

from socle_app.embedded.supervisor import EmbeddedServer
from socle_platform.config.database import DatabaseSettings
from socle_platform.db import Database
from socle_platform.migrate import ensure_platform

PASSWORD = "postgres"
PLATFORM_TEMPLATE = "template_platform"
T = TypeVar("T")
_ADDRESS = "SOCLE_TEST_POSTGRES"
_LINGERING = 4
"""Databases that a process leaves alone before it drops the oldest."""
_SERVICE_LOGINS = {
    "auth": "supabase_auth_admin",
    "storage": "supabase_storage_admin",
    "realtime": "supabase_realtime_admin",
    "platform": "supabase_admin",
}


@dataclass(frozen=True, slots=True)
class TestServer:
    """The run's server: its socket folder and port; any role may connect through the socket."""

    __test__ = False
    socket_dir: str
    port: int

    def dsn(self, database: str, role: str = "supabase_admin") -> str:
        """A DSN through the socket, as asyncpg, psql and our own client read it."""
        return f"postgresql:///{quote(database)}?host={quote(self.socket_dir, safe='')}&port={self.port}&user={role}"

    def url(self, database: str, role: str = "postgres", password: str = PASSWORD) -> str:
        """A URL over TCP with a password, as users write it."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def settings(self, database: str) -> DatabaseSettings:
        """Settings of a `Database` on it, few sessions and short limits."""
        return DatabaseSettings(
            api_dsn=self.dsn(database, "authenticator"),
            service_dsns={service: self.dsn(database, role) for service, role in _SERVICE_LOGINS.items()},
            api_pool_size=4,
            service_pool_size=4,
            acquire_timeout=10.0,
        )

    async def run(self, database: str, *statements: str) -> None:
        """Runs statements one by one as the superuser, each in its own transaction."""
        connection = await asyncpg.connect(self.dsn(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def clone(self, template: str = PLATFORM_TEMPLATE) -> AsyncGenerator[str]:
        """The name of a fresh database copied from `template`, dropped at the end."""
        name = f"t_{uuid.uuid4().hex[:16]}"
        administrator = _administrator_of(self.dsn("postgres"))
        await administrator.run(f'create database "{name}" template "{template}" owner postgres strategy file_copy')
        try:
            yield name
        finally:
            await administrator.drop(name)

    @contextlib.asynccontextmanager
    async def open(self, database: str) -> AsyncGenerator[Database]:
        """A started `Database` on that database."""
        opened = Database(self.settings(database))
        await opened.start()
        try:
            yield opened
        finally:
            await opened.close()

    async def make_template(self, name: str, source: str = PLATFORM_TEMPLATE, *statements: str) -> None:
        """A further template: a copy of `source` with `statements` run on it. Kept if it is there already."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute("select pg_advisory_lock(4711)")
            if await connection.fetchval("select 1 from pg_database where datname = $1 and datistemplate", name):
                return
            await connection.execute(f'drop database if exists "{name}"')
            await connection.execute(f'create database "{name}" template "{source}" owner postgres')
            await self.run(name, *statements)
            await connection.execute(f'alter database "{name}" with is_template true allow_connections false')
        finally:
            await connection.close()


class _Administrator:
    """One session for all the databases that a process makes and drops: a session of its own for each would cost as
    much as the copy. It lives in a thread, since each test has an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="test databases")
        self._thread.start()
        self._turn = asyncio.Lock()
        self._ended: deque[str] = deque()
        self._connection = self._submit(asyncpg.connect(dsn)).result(30)

    async def run(self, statement: str) -> None:
        await asyncio.wrap_future(self._submit(self._run(statement)))

    async def _run(self, statement: str) -> None:
        async with self._turn:
            await self._connection.execute(statement)

    async def drop(self, name: str) -> None:
        """Drops that database, or rather an earlier one: sessions that have just ended would hold PostgreSQL up for a
        tenth of a second each time."""
        self._ended.append(name)
        if len(self._ended) > _LINGERING:
            await self.run(f'drop database if exists "{self._ended.popleft()}" with (force)')

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._submit(self._connection.close()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


_administrators: dict[str, _Administrator] = {}


def _administrator_of(dsn: str) -> _Administrator:
    if dsn not in _administrators:
        _administrators[dsn] = _Administrator(dsn)
    return _administrators[dsn]


def close_administrators() -> None:
    """At the end of a process's tests."""
    while _administrators:
        _administrators.popitem()[1].close()


def current_server() -> TestServer:
    """The server of this run, as `start_server` announced it."""
    socket_dir, _, port = os.environ[_ADDRESS].rpartition(":")
    return TestServer(socket_dir, int(port))


class ServerOfRun:
    """Starts the run's server, prepares the platform template, and takes all away at the end."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")
        roomy = shm.is_dir() and shutil.disk_usage(shm).free > 1024**3 and os.access(shm, os.W_OK)
        self._folder = Path(tempfile.mkdtemp(prefix="socle-test-", dir=shm if roomy else None))
        self._folder.chmod(0o711)
        self._server = EmbeddedServer(self._folder / "state", port=free_port(), profile="test", keep_alive=False)

    def start(self) -> None:
        asyncio.run(self._start())

    async def _start(self) -> None:
        endpoint = await self._server.start()
        os.environ[_ADDRESS] = f"{endpoint.socket_dir}:{endpoint.port}"
        server = current_server()
        await server.run("postgres", f'create database "{PLATFORM_TEMPLATE}"')
        await ensure_platform(server.dsn(PLATFORM_TEMPLATE), passwords={"postgres": PASSWORD})
        await server.run(
            "postgres", f'alter database "{PLATFORM_TEMPLATE}" with is_template true allow_connections false'
        )

    def stop(self) -> None:
        asyncio.run(self._server.stop())
        shutil.rmtree(self._folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port on loopback that nobody listened on a moment ago, outside the range that outgoing connections and
    servers on port 0 are given, so that none of those takes it before its owner does."""
    while True:
        port = random.randrange(11_000, 32_000)  # noqa: S311 (no secret)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
