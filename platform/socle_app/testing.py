"""A pytest plugin for users of Socle: a running platform with a database of its own for each test.

Enable it in a `conftest.py` and ask for `socle`:

    pytest_plugins = ["socle_app.testing"]

    def test_nobody_reads_my_products(socle):
        client = supabase.create_client(socle.url, socle.anon_key)

One embedded PostgreSQL serves the run; the project (the `supabase/` folder found from the test run's directory, or the
built-in one) is applied to a template once, and each test gets a copy of it in well under 100 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from socle_app.environment import platform_environment
from socle_app.keychain import Keychain, ensure_keychain
from socle_app.observers import Metrics
from socle_app.places import Place, locate
from socle_app.source import LOCAL_PASSWORD, Source, embedded_source
from socle_platform.config.gateway import GatewaySettings
from socle_platform.config.keys import KeySettings
from socle_platform.config.settings import load
from socle_platform.errors import SocleError
from socle_platform.events import Observe, silent

if TYPE_CHECKING:
    from socle_app.embedded.supervisor import Endpoint

_TEMPLATE = "socle_project"
_START_SECONDS = 30.0
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 (looked at and used only where it is roomy)


class PlatformNotStarted(SocleError):
    """The platform of a test did not start in time."""


@dataclass(frozen=True, slots=True)
class TestPlatform:
    """A running platform: its URL, its keys, and a URL of its database for the operator role."""

    __test__ = False
    url: str
    database_url: str
    keys: KeySettings = field(repr=False)

    @property
    def anon_key(self) -> str:
        return self.keys.anon_key

    @property
    def service_role_key(self) -> str:
        return self.keys.service_role_key


@pytest.fixture(scope="session")
def socle_project() -> Iterator[ProjectTemplate]:
    """The run's PostgreSQL with the project applied to a template."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(project_template(locate(None, None)))


@pytest.fixture
def socle(socle_project: ProjectTemplate) -> Iterator[TestPlatform]:
    """A running platform on a fresh copy of the project's database."""
    with socle_project.platform() as platform:
        yield platform


@contextlib.contextmanager
def project_template(project: Place) -> Generator[ProjectTemplate]:
    """An embedded PostgreSQL in a folder of its own, with the project applied once, until the block ends."""
    from socle_app.embedded.supervisor import EmbeddedServer

    roomy = _MEMORY_DISK.is_dir() and shutil.disk_usage(_MEMORY_DISK).free > 1024**3
    folder = Path(tempfile.mkdtemp(prefix="socle-test-", dir=_MEMORY_DISK if roomy else None))
    folder.chmod(0o711)
    place = locate(None if project.project.built_in else project.project.root, folder / "state")
    place.state.ensure()
    server = EmbeddedServer(place.state.path, port=_free_port(), profile="test", keep_alive=False)
    try:
        endpoint = asyncio.run(server.start())
        template = ProjectTemplate(place, endpoint)
        asyncio.run(template.prepare())
        yield template
    finally:
        asyncio.run(server.stop())
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class ProjectTemplate:
    """A template database with a project applied; `platform()` serves a fresh copy of it."""

    place: Place
    endpoint: Endpoint

    async def prepare(self) -> None:
        """Makes the template. Raises the errors of `socle_platform.migrate`."""
        from socle_app.preparation import apply_project
        from socle_platform.migrate import ensure_platform

        source = self._source(_TEMPLATE)
        await self._administer(f'create database "{_TEMPLATE}"')
        await ensure_platform(source.admin_dsn, passwords=source.passwords)
        await apply_project(source.operator_dsn, self.place, lambda _text: None)
        await self._administer(f'alter database "{_TEMPLATE}" with is_template true allow_connections false')

    @contextlib.contextmanager
    def platform(
        self, overrides: Mapping[str, str] | None = None, observe: Observe = silent
    ) -> Generator[TestPlatform]:
        """A running platform on a fresh copy. `overrides` are settings by environment name."""
        name = f"t_{uuid.uuid4().hex[:16]}"
        asyncio.run(
            self._administer(f'create database "{name}" template "{_TEMPLATE}" owner postgres strategy file_copy')
        )
        try:
            with running_platform(self._source(name), self.place, overrides, observe) as platform:
                yield platform
        finally:
            asyncio.run(self._administer(f'drop database "{name}" with (force)'))

    def _source(self, database: str) -> Source:
        return embedded_source(self.endpoint, LOCAL_PASSWORD, self.place.state, database)

    async def _administer(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self._source("postgres").admin_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextlib.contextmanager
def running_platform(
    source: Source, place: Place, overrides: Mapping[str, str] | None = None, observe: Observe = silent
) -> Generator[TestPlatform]:
    """A platform on a prepared database, answering on a port of its own until the block ends."""
    keychain = ensure_keychain(KeySettings(), {}, place.state, loopback=True)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    gateway = GatewaySettings(port=int(listener.getsockname()[1]))
    given = {**place.project.environment({}), **(overrides or {})}
    environ = platform_environment(given, gateway, keychain, place.state)
    gateway = replace(gateway, require_apikey=environ.get("SOCLE_REQUIRE_APIKEY") == "true")
    thread = _PlatformThread(source, environ, gateway, keychain, listener, observe)
    thread.start()
    try:
        yield TestPlatform(gateway.url, source.public_url, keychain.settings)
    finally:
        thread.stop()


class _PlatformThread:
    """Runs one platform in a thread with an event loop of its own, so that synchronous clients can talk to it."""

    def __init__(
        self,
        source: Source,
        environ: Mapping[str, str],
        gateway: GatewaySettings,
        keychain: Keychain,
        listener: socket.socket,
        observe: Observe,
    ) -> None:
        self._source, self._environ, self._gateway = source, environ, gateway
        self._keychain, self._listener, self._observe = keychain, listener, observe
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="socle-test-platform", daemon=True)

    def start(self) -> None:
        """Returns when it answers; raises what kept it from starting."""
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise PlatformNotStarted
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Lets requests in flight finish; raises what went wrong while it went down."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_START_SECONDS)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 (whatever it is, the thread that waits shall raise it)
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from socle_app.app import furnish
        from socle_app.http_server import running
        from socle_app.resources import open_resources

        settings = replace(load(self._environ), gateway=self._gateway, keys=self._keychain.settings)
        async with (
            open_resources(settings, self._environ, self._source, self._keychain, self._observe) as resources,
            furnish(settings, self._environ, self._source.api_dsn, resources, Metrics()) as app,
            running(app, self._listener),
        ):
            self._loop = asyncio.get_running_loop()
            self._ready.set()
            await self._stopping.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
