"""Fixtures of every test: the run's PostgreSQL, a database of one's own, skips that CI does not accept."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest

from harness.postgres import ServerOfRun, TestServer, close_administrators, current_server
from harness.seaweed import Seaweed, seaweed
from socle_platform.db import Database

_server_of_run: ServerOfRun | None = None


def pytest_sessionstart(session: pytest.Session) -> None:
    """The controlling process starts the server before any worker exists."""
    global _server_of_run
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    for name in [name for name in os.environ if name.startswith(("SUPABASE_", "GOTRUE_", "PGRST_", "SOCLE_P"))]:
        del os.environ[name]
    _server_of_run = ServerOfRun()
    _server_of_run.start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    close_administrators()
    if _server_of_run is not None and not hasattr(session.config, "workerinput"):
        _server_of_run.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where SOCLE_NO_SKIPS is set (CI), a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("SOCLE_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def server() -> TestServer:
    """The run's PostgreSQL."""
    return current_server()


@pytest.fixture
async def database_name(server: TestServer) -> AsyncIterator[str]:
    """A database of one's own with the whole platform schema, dropped afterwards."""
    async with server.clone() as name:
        yield name


@pytest.fixture
async def database(server: TestServer, database_name: str) -> AsyncIterator[Database]:
    """A `Database` on `database_name`."""
    async with server.open(database_name) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_gateway() -> Iterator[Seaweed]:
    """The run's S3 gateway, where a test asks for one; each test takes buckets of its own."""
    with seaweed() as started:
        yield started
