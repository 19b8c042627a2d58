"""The main job on a PostgreSQL that is not ours: as superuser, and as an owner after the printed SQL was run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from harness.clusters import Cluster, installed_servers, running_cluster
from harness.program import running_program

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "quickstart.py"
SAID = [
    "alice wrote Sixty years of Alice",
    "bob sees 0 - anyone sees 0",
    "bob as alice: 42501",
    "anyone wrote Charles",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    servers = installed_servers()
    if "15" not in servers:
        pytest.skip("no system PostgreSQL 15: install postgresql-15 to run this")
    with running_cluster(servers["15"]) as running:
        yield running


def run_sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def example_says(folder: Path, url: str) -> list[str]:
    folder.chmod(0o755)
    with running_program(folder, "--db-url", url) as program:
        environ = {**os.environ, **{name: program.values[name] for name in ("API_URL", "PUBLISHABLE_KEY")}}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(EXAMPLE)], env=environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr + program.log.read_text()
        with program.client() as client:
            name = f"/storage/v1/object/video_dedicace/{uuid.uuid4()}.webm"
            sent = client.post(name, content=b"film", headers={"content-type": "video/webm"})
            assert sent.status_code == 200, sent.text
            assert client.get(name).content == b"film"
        return done.stdout.splitlines()


def test_as_superuser(cluster: Cluster, tmp_path: Path) -> None:
    run_sql(cluster.url(), "create database as_superuser")
    assert example_says(tmp_path, cluster.url("as_superuser")) == SAID
    assert example_says(tmp_path, cluster.url("as_superuser")) == SAID, "and again on what is there"


def test_as_an_owner_after_the_printed_sql(cluster: Cluster, tmp_path: Path) -> None:
    run_sql(cluster.url(), "create role app login password 'app'", "create database owned owner app")
    command = [sys.executable, "-m", "socle_app", "bootstrap", "--print-sql", "--owner", "app", "--database", "owned"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    run_sql(cluster.url("owned"), printed)
    assert example_says(tmp_path, cluster.url("owned", "app", "app")) == SAID


def test_a_login_without_the_rights_is_told_which_are_missing(cluster: Cluster, tmp_path: Path) -> None:
    run_sql(cluster.url(), "create role nobody_special login password 'x'", "create database plain")
    tmp_path.chmod(0o755)
    with (
        pytest.raises(RuntimeError, match="--print-sql"),
        running_program(tmp_path, "--db-url", cluster.url("plain", "nobody_special", "x")),
    ):
        pass
