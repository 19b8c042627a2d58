"""`socle --version`."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from harness.postgres import TestServer
from socle_app.cli import app
from socle_app.embedded import server_tree


@pytest.mark.parametrize("option", ["--version", "-V"])
async def test_both_versions_are_told(server: TestServer, option: str) -> None:
    told = CliRunner().invoke(app, [option])
    assert told.exit_code == 0
    program, postgres = told.stdout.splitlines()
    assert program == f"socle {version('socle-platform')}"
    async with server.clone() as name, server.open(name) as database, database.as_service("platform") as connection:
        assert postgres == f"embedded PostgreSQL {await connection.fetchval('show server_version')}"


def test_without_a_server_for_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_tree, "PACKAGE", "no_such_wheel")
    told = CliRunner().invoke(app, ["--version"])
    assert told.exit_code == 0
    assert told.stdout.splitlines()[1] == "embedded PostgreSQL not installed for this system (--db-url uses another)"
