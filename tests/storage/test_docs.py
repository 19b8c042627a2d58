"""The examples of docs/storage.md, run as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.listening import listening
from harness.storage import Lab
from socle_platform.http import Gateway, Mount
from socle_platform.ports import Resources
from socle_storage.errors import render
from socle_storage.routes import build

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def block(language: str, number: int = 0) -> str:
    """A fenced block of the page."""
    pattern = rf"^```{language}\n(.*?)^```$"
    found: list[str] = re.findall(pattern, PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return found[number]


@pytest.fixture
async def environ(lab: Lab) -> AsyncIterator[dict[str, str]]:
    """The service behind the gateway, as `socle start` mounts it."""
    storage = lab.storage
    resources = Resources(storage.store.database, lab.keyring, blobs=storage.blobs)
    mount = Mount("/storage/v1", "storage", build(storage.settings, resources), render, checks_key=False)
    async with listening(Gateway([mount], lab.keyring)) as url:
        yield {
            "PATH": os.environ["PATH"],
            "API_URL": url,
            "SECRET_KEY": lab.token("service_role"),
            "PUBLISHABLE_KEY": lab.token("anon"),
        }


async def run(environ: dict[str, str], *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, out.decode() + err.decode()
    return out.decode()


async def test_the_python_example_prints_what_it_says(environ: dict[str, str]) -> None:
    assert await run(environ, sys.executable, "-c", block("python")) == block("text")


async def test_the_shell_example_runs(environ: dict[str, str]) -> None:
    bash, curl = shutil.which("bash"), shutil.which("curl")
    assert bash is not None
    if curl is None:
        pytest.skip("there is no curl")
    printed = await run(environ, bash, "-euo", "pipefail", "-c", block("sh"))
    assert '"b.txt"' in printed
    assert printed.endswith('{"message":"Successfully deleted"}')


async def test_the_sql_example_is_sql(lab: Lab) -> None:
    await lab.admin.execute(block("sql"))
    bucket = await lab.bucket("videos")
    subject = "11111111-1111-4111-8111-111111111111"
    assert (await lab.put(bucket, f"{subject}/a", who=lab.alice)).status_code == 200
    assert (await lab.put(bucket, "other/a", who=lab.alice)).status_code == 400
    assert (await lab.http.get(f"/object/{bucket}/{subject}/a", headers=lab.alice)).content == b"hello"
