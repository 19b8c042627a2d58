"""The live schema cache: notices, polling, settings, lost connections; a request keeps what it started with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import asyncpg
import pytest

from harness.library import ROLES
from harness.postgres import TestServer
from socle_platform.config.postgrest_file import load_environment
from socle_platform.config.reader import Reader
from socle_platform.config.rest import ListenSettings, RestSettings, SqlName, load_rest
from socle_platform.config.rest_jwt import load_rest_jwt
from socle_platform.events import Observation
from socle_platform.keys import Keyring
from socle_platform.pgwire.dsn import parse_dsn
from socle_rest.login import connector
from socle_rest.reload import (
    ListenerStarted,
    Live,
    SchemaLoaded,
    SchemaNotLoaded,
    SettingsRefused,
    SettingsReloaded,
)
from socle_rest.schema import QualifiedName

Seen = TypeVar("Seen", bound=Observation)
NO_POLL = RestSettings(schema_poll=0)


class Watcher:
    """Collects observations and waits for them."""

    def __init__(self) -> None:
        self._seen: asyncio.Queue[Observation] = asyncio.Queue()

    def __call__(self, observation: Observation) -> None:
        self._seen.put_nowait(observation)

    async def next(self, kind: type[Seen]) -> Seen:
        """The next observation of that kind; others before it are dropped."""
        async with asyncio.timeout(10):
            while True:
                observation = await self._seen.get()
                if isinstance(observation, kind):
                    return observation

    def rest(self, kind: type[Seen]) -> list[Seen]:
        """Those seen and not waited for."""
        left = [self._seen.get_nowait() for _ in range(self._seen.qsize())]
        return [one for one in left if isinstance(one, kind)]


class House:
    """One database with a live cache on it."""

    def __init__(self, server: TestServer, name: str) -> None:
        self.server = server
        self.name = name
        self.watcher = Watcher()
        self.connect = connector(parse_dsn(server.dsn(name, "library_login")), application_name=name)

    async def run(self, *statements: str) -> None:
        await self.server.run(self.name, *statements)

    @contextlib.asynccontextmanager
    async def live(
        self,
        settings: RestSettings = NO_POLL,
        reread: Callable[[Mapping[str, str]], RestSettings] | None = None,
        keyring_of: Callable[[RestSettings], Keyring] | None = None,
        loaded: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Live]:
        live = Live(
            settings,
            Keyring(()),
            self.connect,
            reread=reread,
            keyring_of=keyring_of,
            observe=self.watcher,
            loaded=loaded,
        )
        await live.start()
        try:
            yield live
        finally:
            await live.close()


@pytest.fixture
async def house(server: TestServer) -> AsyncGenerator[House]:
    async with server.clone("template0") as name:
        await server.run(name, *ROLES, "create table public.first (id int primary key)")
        yield House(server, name)


def tables(live: Live) -> set[str]:
    assert live.serving.schema is not None
    return {name.name for name in live.serving.schema.tables}


async def test_a_notice_swaps_the_cache_and_a_request_keeps_the_old_one(house: House) -> None:
    loads: list[str] = []
    async with house.live(loaded=lambda: loads.append("loaded")) as live:
        assert await house.watcher.next(SchemaLoaded)
        kept = live.serving
        assert live.ready
        await house.run("create table public.second (id int)", "notify pgrst, 'reload schema'")
        await house.watcher.next(SchemaLoaded)
        assert tables(live) == {"first", "second"}
        assert (kept.generation, live.serving.generation) == (1, 2)
        assert kept.schema is not None
        assert QualifiedName("public", "second") not in kept.schema.tables
    assert loads == ["loaded", "loaded"]


async def test_an_empty_notice_reloads_and_another_does_not(house: House) -> None:
    async with house.live() as live:
        await house.watcher.next(SchemaLoaded)
        await house.run("notify pgrst, 'something else'", "notify pgrst")
        assert (await house.watcher.next(SchemaLoaded)).generation == 2
        assert live.serving.generation == 2


async def test_many_notices_become_one_reload_more(house: House) -> None:
    async with house.live() as live:
        await house.watcher.next(SchemaLoaded)
        for _ in range(20):
            live.reload_schema()
        await house.watcher.next(SchemaLoaded)
        for _ in range(20):
            live.reload_schema()
            await asyncio.sleep(0)
        assert (await house.watcher.next(SchemaLoaded)).generation == 3
        await asyncio.sleep(0.25)  # nothing must come in the time in which the rest would
        assert house.watcher.rest(SchemaLoaded) == []


async def test_another_channel(house: House) -> None:
    async with house.live(replace(NO_POLL, channel='odd "channel"')):
        assert (await house.watcher.next(ListenerStarted)).channel == 'odd "channel"'
        await house.watcher.next(SchemaLoaded)
        await house.run('notify "odd ""channel"""')
        assert (await house.watcher.next(SchemaLoaded)).generation == 2


async def test_changes_are_found_where_nothing_reports_them(house: House) -> None:
    async with house.live(RestSettings(schema_poll=0.05, channel_enabled=False)) as live:
        await house.watcher.next(SchemaLoaded)
        await house.run("alter table public.first add column extra text")
        await house.watcher.next(SchemaLoaded)
        assert live.serving.schema is not None
        assert "extra" in live.serving.schema.tables[QualifiedName("public", "first")].columns


async def test_nothing_is_polled_where_a_trigger_reports(house: House) -> None:
    await house.run(
        """create function public.watch() returns event_trigger language plpgsql as
        $$ begin notify pgrst, 'reload schema'; end $$""",
        "create event trigger watch on ddl_command_end execute function public.watch()",
    )
    async with house.live(RestSettings(schema_poll=0.05)) as live:
        await house.watcher.next(SchemaLoaded)
        await house.run("create table public.second (id int)")
        await house.watcher.next(SchemaLoaded)
        assert tables(live) == {"first", "second"}
        await house.run("alter event trigger watch disable")
        await asyncio.sleep(0.2)  # long enough for three looks
        house.watcher.rest(SchemaLoaded)
        await house.run("create table public.third (id int)")
        await asyncio.sleep(0.2)
        assert house.watcher.rest(SchemaLoaded) == []


async def test_a_lost_listener_comes_back_with_what_it_missed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socle_rest.reload.FIRST_DELAY", 0.05)
    async with house.live() as live:
        await house.watcher.next(SchemaLoaded)
        live._delay = 0.05  # pyright: ignore[reportPrivateUsage]
        await house.run(
            "create table public.second (id int)",
            f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{house.name}'",
        )
        lost = await house.watcher.next(SchemaNotLoaded)
        assert lost.retry_in == 0.05
        assert (live.ready, live.retry_after) == (False, 1)
        assert live.serving.schema is not None  # requests go on with the old one
        await house.watcher.next(SchemaLoaded)
        assert tables(live) == {"first", "second"}


async def test_a_database_that_is_not_there_is_tried_again_ever_slower(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    reach = house.connect

    async def connect() -> asyncpg.Connection:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise ConnectionRefusedError("nobody listens")
        return await reach()

    monkeypatch.setattr("socle_rest.reload.FIRST_DELAY", 0.01)
    monkeypatch.setattr("socle_rest.reload.LONGEST_DELAY", 0.02)
    house.connect = connect
    async with house.live() as live:
        assert live.serving.schema is None
        delays = [(await house.watcher.next(SchemaNotLoaded)).retry_in for _ in range(3)]
        assert delays == [0.01, 0.02, 0.02]
        await house.watcher.next(SchemaLoaded)
        assert live.ready


async def test_without_recovery_a_failure_is_fatal(house: House) -> None:
    async def connect() -> asyncpg.Connection:
        raise ConnectionRefusedError("nobody listens")

    reasons: list[str] = []
    live = Live(replace(NO_POLL, automatic_recovery=False), Keyring(()), connect, fatal=reasons.append)
    await live.start()
    await live.close()
    assert reasons == ["ConnectionRefusedError: nobody listens"]


async def test_a_refused_login_is_fatal_where_somebody_can_end_the_process(server: TestServer) -> None:
    reasons: list[str] = []
    connect = connector(parse_dsn(server.dsn("postgres", "nobody_of_that_name")))
    live = Live(NO_POLL, Keyring(()), connect, fatal=reasons.append)
    await live.start()
    await live.close()
    assert "nobody_of_that_name" in reasons[0]


# ---- settings --------------------------------------------------------------------------------------------------------


def reread_over(environ: Mapping[str, str]) -> Callable[[Mapping[str, str]], RestSettings]:
    def reread(stored: Mapping[str, str]) -> RestSettings:
        read = Reader(load_environment({"SOCLE_REST_SCHEMA_POLL": "0", **environ}, None, stored))
        settings = load_rest(read)
        read.finish()
        return replace(settings, server=ListenSettings())

    return reread


async def test_settings_of_the_login_role_win_over_the_environment(house: House) -> None:
    await house.run(
        f"alter role library_login in database \"{house.name}\" set pgrst.db_max_rows = '7'",
        "create schema api",
        "create table api.third (id int)",
    )
    environ = {"PGRST_DB_MAX_ROWS": "5", "PGRST_DB_SCHEMAS": "api"}
    async with house.live(reread=reread_over(environ)) as live:
        await house.watcher.next(SchemaLoaded)
        assert (live.serving.settings.max_rows, tables(live)) == (7, {"third"})
        await house.run(
            f"alter role library_login in database \"{house.name}\" set pgrst.db_schemas = 'public'",
            "notify pgrst, 'reload config'",
        )
        await house.watcher.next(SchemaLoaded)
        assert (live.serving.settings.schemas, tables(live)) == (("public",), {"first"})


async def test_a_function_may_hold_the_settings(house: House) -> None:
    await house.run(
        """create function public.configure() returns void language sql as $$
        select set_config('pgrst.db_anon_role', 'guest', false), set_config('pgrst.db_max_rows', '3', true) $$""",
        f"alter role library_login in database \"{house.name}\" set pgrst.db_max_rows = '7'",
    )
    environ = {"PGRST_DB_PRE_CONFIG": "public.configure"}
    settings = replace(NO_POLL, pre_config=SqlName("public", "configure"))
    async with house.live(settings, reread_over(environ)) as live:
        await house.watcher.next(SchemaLoaded)
        assert (live.serving.settings.anon_role, live.serving.settings.max_rows) == ("guest", 7)
        await house.run("drop function public.configure()", "notify pgrst, 'reload config'")
        assert "configure" in (await house.watcher.next(SettingsRefused)).problems[0]


async def test_unusable_settings_leave_the_old_ones(house: House) -> None:
    async with house.live(reread=reread_over({"PGRST_DB_MAX_ROWS": "5"})) as live:
        await house.watcher.next(SchemaLoaded)
        await house.run(
            f"alter role library_login in database \"{house.name}\" set pgrst.db_tx_end = 'maybe'",
            "notify pgrst, 'reload config'",
        )
        assert "PGRST_DB_TX_END" in (await house.watcher.next(SettingsRefused)).problems[0]
        assert live.serving.settings.max_rows == 5
        await house.run(
            f"alter role library_login in database \"{house.name}\" set pgrst.db_tx_end = 'rollback'",
            "notify pgrst, 'reload config'",
        )
        await house.watcher.next(SettingsReloaded)
        assert live.serving.settings.rollback_all


async def test_new_keys_make_a_new_keyring_and_role_settings_are_read_again(house: House) -> None:
    secret = "reallyreallyreallyreallyverysafe"
    base = reread_over({})

    def reread(stored: Mapping[str, str]) -> RestSettings:
        jwt = load_rest_jwt(Reader({"PGRST_JWT_SECRET": stored.get("jwt-secret", "")}))
        return replace(base({}), jwt=jwt)

    async with house.live(reread=reread, keyring_of=lambda settings: settings.jwt.keyring("guest")) as live:
        await house.watcher.next(SchemaLoaded)
        before = live.serving.keyring
        await house.run(
            f"alter role library_login in database \"{house.name}\" set pgrst.jwt_secret = '{secret}'",
            "alter role library_reader set work_mem = '5MB'",
            "notify pgrst, 'reload config'",
        )
        try:
            await house.watcher.next(SettingsReloaded)
            assert live.serving.keyring is not before
        finally:
            await house.run("alter role library_reader reset work_mem")
        assert len(live.serving.keyring.keys) == 1
        assert live.serving.generation == 1
        assert live.serving.schema is not None
        assert ("work_mem", "5MB") in live.serving.schema.role("library_reader").settings
