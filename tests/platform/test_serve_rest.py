"""`socle serve rest` on a database that knows nothing of the platform: sockets, admin server, signals, settings."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from harness.library import ROLES
from harness.postgres import TestServer
from socle_app.rest_dump import render_config
from socle_app.serve_rest import (
    CannotListen,
    NotReady,
    SchemaUnavailable,
    check_ready,
    load_options,
    open_rest,
    read_config_text,
    read_schema_document,
)
from socle_platform.config.postgrest_file import load_environment
from socle_platform.config.reader import ConfigError

FIXTURE = (
    "create table public.things (id int primary key, name text)",
    "insert into public.things values (1, 'one')",
    "grant select on public.things to library_reader",
    "grant usage on schema public to library_reader",
)


@pytest.fixture
async def environ(server: TestServer, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """An environment for the service on a small database, with both servers on sockets in files."""
    async with server.clone("template0") as name:
        await server.run(name, *ROLES, *FIXTURE)
        yield {
            "PGRST_DB_URI": server.dsn(name, "library_login"),
            "PGRST_DB_ANON_ROLE": "library_reader",
            "PGRST_SERVER_UNIX_SOCKET": str(tmp_path / "rest.sock"),
            "PGRST_ADMIN_SERVER_UNIX_SOCKET": str(tmp_path / "admin.sock"),
        }


def mode_of(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def get(place: str, path: str) -> tuple[int, str]:
    """Status and body of a GET, over the socket file or the host and port that `place` names."""
    connector = aiohttp.UnixConnector(place) if place.startswith("/") else aiohttp.TCPConnector()
    host = "rest" if place.startswith("/") else place
    async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://{host}{path}") as answer:
        return answer.status, await answer.text()


async def test_tables_over_a_socket_file(environ: dict[str, str]) -> None:
    path = Path(environ["PGRST_SERVER_UNIX_SOCKET"])
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    async with open_rest(load_options({**environ, "PGRST_SERVER_UNIX_SOCKET_MODE": "600"})) as (_, addresses):
        assert addresses == (str(path), environ["PGRST_ADMIN_SERVER_UNIX_SOCKET"])
        assert mode_of(path) == 0o600
        assert await get(addresses[0], "/things") == (200, '[{"id":1,"name":"one"}]')
        assert (await get(addresses[0], "/nothing"))[0] == 404
    assert mode_of(path) is None


async def test_a_port_and_no_admin_server(environ: dict[str, str]) -> None:
    del environ["PGRST_SERVER_UNIX_SOCKET"], environ["PGRST_ADMIN_SERVER_UNIX_SOCKET"]
    options = load_options({**environ, "PGRST_SERVER_HOST": "127.0.0.1", "PGRST_SERVER_PORT": "0"})
    async with open_rest(options) as (_, (address, admin)):
        assert admin == ""
        assert (await get(address, "/things"))[0] == 200
    with pytest.raises(NotReady, match="no admin server"):
        await check_ready(options)


@pytest.mark.parametrize("host", ["!4", "*4", "*", "localhost", "127.0.0.1"])
async def test_any_host_answers_on_loopback(environ: dict[str, str], host: str) -> None:
    del environ["PGRST_SERVER_UNIX_SOCKET"]
    options = load_options({**environ, "PGRST_SERVER_HOST": host, "PGRST_SERVER_PORT": "0"})
    async with open_rest(options) as (_, (address, admin)):
        port = address.rpartition(":")[2]
        assert (await get(f"127.0.0.1:{port}", "/things"))[0] == 200
        assert (await get(admin, "/live"))[0] == 200


async def test_the_admin_server(environ: dict[str, str]) -> None:
    options = load_options(environ)
    async with open_rest(options) as (live, (address, admin)):
        await get(address, "/things")
        assert await get(admin, "/live") == (200, "")
        assert await get(admin, "/ready") == (200, "")
        assert (await get(admin, "/config"))[0] == 404
        status, metrics = await get(admin, "/metrics")
        assert status == 200
        assert 'pgrst_schema_cache_loads_total{status="SUCCESS"} 1.0' in metrics
        assert "pgrst_db_pool_max 10.0" in metrics
        assert "pgrst_db_pool_available 1.0" in metrics
        assert 'socle_requests_total{method="GET",service="rest",status="200"} 1.0' in metrics
        assert '"tableName":"things"' in (await get(admin, "/schema_cache"))[1]
        assert await check_ready(options) == admin
        os.unlink(address)  # noqa: PTH108 - as somebody else would
        assert (await get(admin, "/live"))[0] == 500
        assert (await get(admin, "/ready"))[0] == 500
        await live.close()
    with pytest.raises(NotReady, match="does not answer"):
        await check_ready(options)


async def test_without_a_database_it_answers_503_and_tells_when_to_try_again(environ: dict[str, str]) -> None:
    environ["PGRST_DB_URI"] = "postgresql://127.0.0.1:1/nowhere"
    async with open_rest(load_options(environ)) as (_, (address, admin)):
        status, body = await get(address, "/things")
        assert (status, "PGRST002" in body) == (503, True)
        assert (await get(admin, "/ready"))[0] == 503
        assert (await get(admin, "/live"))[0] == 200
        assert await get(admin, "/schema_cache") == (200, "")
        assert 'loads_total{status="FAIL"}' in (await get(admin, "/metrics"))[1]
    with pytest.raises(SchemaUnavailable):
        await read_schema_document(load_options(environ))


async def test_an_address_in_use_is_said(environ: dict[str, str]) -> None:
    del environ["PGRST_SERVER_UNIX_SOCKET"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        options = load_options({**environ, "PGRST_SERVER_HOST": "127.0.0.1", "PGRST_SERVER_PORT": port})
        with pytest.raises(CannotListen, match="in use by another program"):
            async with open_rest(options):
                pass
    options = load_options({**environ, "PGRST_SERVER_UNIX_SOCKET": "/does/not/exist.sock"})
    with pytest.raises(CannotListen, match="No such file"):
        async with open_rest(options):
            pass


async def test_a_changed_schema_is_served_on_new_sessions(environ: dict[str, str], server: TestServer) -> None:
    name = environ["PGRST_DB_URI"].partition("?")[0].rpartition("/")[2]
    async with open_rest(load_options(environ)) as (live, (address, _)):
        assert await get(address, "/things?id=eq.1") == (200, '[{"id":1,"name":"one"}]')
        generation = live.serving.generation
        await server.run(
            name,
            "alter table public.things alter column id type text",
            "update public.things set id = 'a'",
            "notify pgrst",
        )
        async with asyncio.timeout(10):
            while live.serving.generation == generation:  # noqa: ASYNC110 - the service tells nobody
                await asyncio.sleep(0.01)
        assert await get(address, "/things?id=eq.a") == (200, '[{"id":"a","name":"one"}]')


async def test_settings_in_file_environment_and_database(
    environ: dict[str, str], server: TestServer, tmp_path: Path
) -> None:
    name = environ["PGRST_DB_URI"].partition("?")[0].rpartition("/")[2]
    await server.run(name, f"alter role library_login in database \"{name}\" set pgrst.db_max_rows = '3'")
    file = tmp_path / "rest.conf"
    file.write_text('db-max-rows = 9\nlog-level = "warn"\napp.settings.x = "y"\n')
    dumped = await read_config_text(load_options(environ, str(file)))
    assert "db-max-rows = 3\n" in dumped
    assert 'log-level = "warn"\n' in dumped
    assert 'app.settings.x = "y"\n' in dumped
    file.write_text(dumped)
    assert await read_config_text(load_options({}, str(file))) == dumped


def test_the_dump_keeps_what_needs_quoting(tmp_path: Path) -> None:
    secret = 'a "quoted" $ecret with \\ and #, long enough'
    given = {"PGRST_JWT_SECRET": secret, "PGRST_JWT_ROLE_CLAIM_KEY": "$.a[?(@ == 'b')]", "PGRST_DB_CONFIG": "false"}
    options = load_options(given)
    file = tmp_path / "rest.conf"
    file.write_text(render_config(options.settings, options.database, given))
    read = load_environment({}, str(file))
    assert read["PGRST_JWT_SECRET"] == secret
    assert read["PGRST_JWT_ROLE_CLAIM_KEY"] == "$.a[?(@ == 'b')]"
    assert load_options({}, str(file)).settings == options.settings


def test_every_mistake_is_listed_before_anything_starts() -> None:
    with pytest.raises(ConfigError) as caught:
        load_options({"PGRST_DB_TX_END": "maybe", "PGRST_DB_POOL": "none"})
    assert len(caught.value.problems) == 2


async def test_signals_reload_and_stop_the_process(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rest.conf"
    file.write_text("db-max-rows = 1\n")
    program = "import os, sys; from socle_app.serve_rest import *; serve_rest(load_options(os.environ, sys.argv[1]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(file),
        env={**os.environ, **environ, "PGRST_LOG_LEVEL": "info"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    output = process.stderr

    async def line_with(word: str) -> str:
        async with asyncio.timeout(20):
            while word.encode() not in (line := await output.readline()):
                assert line, "the process ended"
            return line.decode()

    try:
        await line_with("listening")
        process.send_signal(signal.SIGUSR1)
        assert "generation=2" in await line_with("schema loaded")
        file.write_text("db-max-rows = many\n")
        process.send_signal(signal.SIGUSR2)
        assert "PGRST_DB_MAX_ROWS" in await line_with("settings refused")
        assert "hint" in (await get(environ["PGRST_SERVER_UNIX_SOCKET"], "/nothing"))[1]
        file.write_text('client-error-verbosity = "minimal"\n')
        process.send_signal(signal.SIGUSR2)
        await line_with("settings reloaded")
        assert "hint" not in (await get(environ["PGRST_SERVER_UNIX_SOCKET"], "/nothing"))[1]
    finally:
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        await output.read()
        assert await process.wait() == 0


async def test_without_recovery_the_process_ends_with_an_error(tmp_path: Path) -> None:
    program = "import os; from socle_app.serve_rest import *; serve_rest(load_options(os.environ))"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={
            **os.environ,
            "PGRST_DB_URI": "postgresql://127.0.0.1:1/nowhere",
            "PGRST_DB_POOL_AUTOMATIC_RECOVERY": "false",
            "PGRST_SERVER_UNIX_SOCKET": str(tmp_path / "rest.sock"),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, output = await process.communicate()
    assert process.returncode == 1
    assert b"The database cannot be used" in output
