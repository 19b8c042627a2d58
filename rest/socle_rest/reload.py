"""Keeps what requests are served with alive: settings, schema cache and keys, reloaded without failing a request.

One task owns one database connection. It loads the cache, listens on `db-channel` for `reload schema` and
`reload config`, and, where no event trigger reports schema changes, looks for them now and then. Every change builds
a new `Serving` and swaps the reference; requests keep the one they started with (contracts/rest.md §15).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass, replace
from enum import Flag, auto
from typing import TYPE_CHECKING, ClassVar

import asyncpg

from socle_platform.config.reader import ConfigError
from socle_platform.events import Observation, silent
from socle_rest.catalog import load_role_settings, load_schema
from socle_rest.changes import CatalogChanges
from socle_rest.stored_settings import load_stored_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from socle_platform.config.rest import RestSettings
    from socle_platform.events import Observe
    from socle_platform.keys import Keyring
    from socle_rest.login import Connect
    from socle_rest.schema import Schema

COOLDOWN = 0.1
"""Seconds after a reload in which further notices are merged into one."""
FIRST_DELAY, LONGEST_DELAY = 1.0, 32.0
"""Seconds before the first and, doubling, the last kind of retry."""
MINIMUM_VERSION = 150000


@dataclass(frozen=True, slots=True)
class Serving:
    """What a request is served with. `schema` is None until the first load; `generation` counts the loads, so that a
    statement prepared under one schema is not taken for one of the next."""

    settings: RestSettings
    keyring: Keyring
    schema: Schema | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class SchemaLoaded(Observation):
    """The schema cache was read. Duration in seconds; `missing` are configured schemas that do not exist (yet)."""

    duration: float
    relations: int
    relationships: int
    functions: int
    generation: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchemaNotLoaded(Observation):
    """The connection was lost, or the schema cache could not be read; the next attempt is in `retry_in` seconds."""

    LEVEL: ClassVar[str] = "warning"
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class ListenerStarted(Observation):
    """Notices on the channel arrive from now on."""

    channel: str


@dataclass(frozen=True, slots=True)
class SettingsReloaded(Observation):
    """The settings were read again."""


@dataclass(frozen=True, slots=True)
class SettingsRefused(Observation):
    """The settings could not be used; the previous ones stay."""

    LEVEL: ClassVar[str] = "warning"
    problems: tuple[str, ...]


class _Work(Flag):
    """What has been asked for and not been done."""

    NONE = 0
    CONFIG = auto()
    SCHEMA = auto()


class Live:
    """The current `Serving`, and the task that renews it.

    `connect` opens a connection of the login role (`login.connector`), raising OSError or asyncpg's errors.
    `reread` turns the settings kept in the database into settings of the service (raising ConfigError); None keeps
    `settings` as they are. `keyring_of` makes the keys that go with new settings; None keeps the keyring. `loaded` is
    called after each new schema cache is in (to forget prepared statements), `fatal` with the reason when the database
    cannot be used and `db-pool-automatic-recovery` is off, or the login is refused, which waiting does not mend.
    """

    def __init__(
        self,
        settings: RestSettings,
        keyring: Keyring,
        connect: Connect,
        *,
        reread: Callable[[Mapping[str, str]], RestSettings] | None = None,
        keyring_of: Callable[[RestSettings], Keyring] | None = None,
        observe: Observe = silent,
        loaded: Callable[[], None] | None = None,
        fatal: Callable[[str], None] | None = None,
    ) -> None:
        self.serving = Serving(settings, keyring)
        self.listening = False
        """Whether notices arrive. Without `db-channel-enabled`: whether the last connection worked."""
        self._connect = connect
        self._reread = reread
        self._keyring_of = keyring_of
        self._observe = observe
        self._loaded = loaded
        self._fatal = fatal
        self._wanted = _Work.SCHEMA
        self._called = asyncio.Event()
        self._attempted = asyncio.Event()
        self._retry_at = 0.0
        self._delay = FIRST_DELAY
        self._stale = True
        self._changes = CatalogChanges()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the task and waits for the first attempt to load, however it ends."""
        self._task = asyncio.create_task(self._watch(), name="rest schema cache")
        await self._attempted.wait()

    async def close(self) -> None:
        """Ends the task and its connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def reload_schema(self) -> None:
        """Asks for a new schema cache (a notice, SIGUSR1). Returns at once."""
        self._want(_Work.SCHEMA)

    def reload_config(self) -> None:
        """Asks for the settings to be read again (a notice, SIGUSR2). Returns at once."""
        self._want(_Work.CONFIG)

    @property
    def ready(self) -> bool:
        """Whether the cache is loaded, nothing has failed since, and the database is there."""
        return self.serving.schema is not None and not self._stale and self.listening

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next attempt, at least 1: the `Retry-After` of a 503."""
        return max(1, math.ceil(self._retry_at - time.monotonic()))

    def _want(self, work: _Work) -> None:
        self._wanted |= work
        self._called.set()

    async def _watch(self) -> None:
        while True:
            try:
                async with self._session() as connection:
                    await self._work(connection)
            except Exception as error:  # noqa: BLE001 - not even a fault of our own may end the reloading
                self.listening = False
                self._stale = True
                self._wanted |= _Work.SCHEMA  # notices may have been missed
                self._retry_at = time.monotonic() + self._delay
                reason = f"{type(error).__name__}: {error}"
                self._observe(SchemaNotLoaded(reason, self._delay))
                self._attempted.set()
                hopeless = isinstance(error, asyncpg.InvalidAuthorizationSpecificationError)
                if self._fatal is not None and (hopeless or not self.serving.settings.automatic_recovery):
                    self._fatal(reason)
                    return
                await asyncio.sleep(self._delay)
                self._delay = min(2 * self._delay, LONGEST_DELAY)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncGenerator[asyncpg.Connection]:
        connection = await self._connect()
        try:
            connection.add_termination_listener(self._on_termination)
            settings = self.serving.settings
            if settings.channel_enabled:
                await connection.add_listener(settings.channel, self._on_notice)
                self._observe(ListenerStarted(settings.channel))
            self.listening = True
            yield connection
        finally:
            connection.terminate()

    async def _work(self, connection: asyncpg.Connection) -> None:
        """Does what is asked for until the connection or the channel is no longer the right one."""
        listened = (self.serving.settings.channel_enabled, self.serving.settings.channel)
        while True:
            wanted, self._wanted = self._wanted, _Work.NONE
            self._called.clear()
            if wanted:
                await self._renew(connection, wanted)
                await asyncio.sleep(COOLDOWN)
            if listened != (self.serving.settings.channel_enabled, self.serving.settings.channel):
                return
            idle = not self._wanted and not await self._called_within(self._changes.interval)
            if idle and await self._changes.happened(connection):
                self._want(_Work.SCHEMA)
            if connection.is_closed():
                raise ConnectionResetError("the database closed the connection")

    async def _renew(self, connection: asyncpg.Connection, wanted: _Work) -> None:
        """One swap at the end, so that no request sees new settings with an old schema cache.

        With `db-config` the settings are read again with the schema cache, too."""
        started = time.monotonic()
        before = fresh = self.serving
        if _Work.CONFIG in wanted or before.settings.config_in_database:
            fresh = await self._with_settings(connection, before)
        accepted = fresh is not before
        if _Work.SCHEMA in wanted or fresh.schema is None or _reads_differently(before.settings, fresh.settings):
            schema = await self._read_schema(connection, fresh.settings)
            fresh = replace(fresh, schema=schema, generation=before.generation + 1)
        elif self._reread is not None:
            fresh = replace(fresh, schema=replace(fresh.schema, roles=await load_role_settings(connection)))
        self.serving = fresh
        if _Work.CONFIG in wanted and accepted:
            self._observe(SettingsReloaded())
        if fresh.generation != before.generation:
            if self._loaded is not None:
                self._loaded()
            self._observe(_told(fresh, time.monotonic() - started))
        self._stale = False
        self._delay = FIRST_DELAY
        self._attempted.set()

    async def _with_settings(self, connection: asyncpg.Connection, before: Serving) -> Serving:
        """The same with the settings as they are now, or the very same if those cannot be used."""
        if self._reread is None:
            return before
        stored: dict[str, str] = {}
        if before.settings.config_in_database:
            try:
                stored = await self._stored(connection, before.settings)
            except asyncpg.PostgresError as error:
                self._observe(SettingsRefused((f"the settings in the database cannot be read: {error}",)))
        try:
            settings = self._reread(stored)
        except ConfigError as error:
            self._observe(SettingsRefused(error.problems))
            return before
        other_keys = (settings.jwt, settings.anon_role) != (before.settings.jwt, before.settings.anon_role)
        if other_keys and self._keyring_of is not None:
            return replace(before, settings=settings, keyring=self._keyring_of(settings))
        return replace(before, settings=settings)

    async def _stored(self, connection: asyncpg.Connection, settings: RestSettings) -> dict[str, str]:
        transaction = connection.transaction(readonly=True)
        await transaction.start()
        try:
            return await load_stored_settings(connection, settings.pre_config)
        finally:
            if not connection.is_closed():
                await transaction.rollback()

    async def _read_schema(self, connection: asyncpg.Connection, settings: RestSettings) -> Schema:
        await self._changes.begin(connection, settings)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            schema = await load_schema(
                connection,
                settings.schemas,
                extra_search_path=settings.extra_search_path,
                hoisted=settings.hoisted_tx_settings,
            )
        if schema.server_version < MINIMUM_VERSION:
            raise asyncpg.InterfaceError(f"PostgreSQL 15 or later is needed, this is {schema.server_version}")
        return schema

    async def _called_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._called.wait()
        except TimeoutError:
            return False
        return True

    def _on_notice(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload in {"", "reload schema"}:
            self.reload_schema()
        elif payload == "reload config":
            self.reload_config()

    def _on_termination(self, _connection: object) -> None:
        self.listening = False
        self._called.set()


def _reads_differently(before: RestSettings, after: RestSettings) -> bool:
    """Whether the cache must be read again for the new settings."""
    return (before.schemas, before.extra_search_path, before.hoisted_tx_settings) != (
        after.schemas,
        after.extra_search_path,
        after.hoisted_tx_settings,
    )


def _told(serving: Serving, duration: float) -> SchemaLoaded:
    schema = serving.schema
    assert schema is not None
    return SchemaLoaded(
        duration,
        len(schema.tables),
        sum(map(len, schema.relationships.values())),
        len(schema.functions),
        serving.generation,
        schema.missing,
    )
