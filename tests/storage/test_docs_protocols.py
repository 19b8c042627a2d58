"""The examples of docs/storage.md for resumable uploads and the S3 protocol, run as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.listening import listening
from harness.storage import Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings
from socle_platform.http import Gateway, Mount
from socle_platform.ports import Resources
from socle_storage.errors import render
from socle_storage.routes import build

PAGE = Path(__file__).parents[2] / "docs" / "storage.md"


def block(heading: str, language: str) -> str:
    """The first fenced block of a language below a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found[0]


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    return replace(settings, s3_protocol=S3ProtocolSettings(access_key="the-key", secret_key="the-secret"))


@pytest.fixture
async def environ(lab: Lab) -> AsyncIterator[dict[str, str]]:
    """The service behind the gateway, as `socle start` mounts it."""
    storage = lab.storage
    resources = Resources(storage.store.database, lab.keyring, blobs=storage.blobs)
    mount = Mount("/storage/v1", "storage", build(storage.settings, resources), render, checks_key=False)
    async with listening(Gateway([mount], lab.keyring)) as url:
        yield {
            **os.environ,
            "API_URL": url,
            "SECRET_KEY": lab.token("service_role"),
            "S3_PROTOCOL_ACCESS_KEY_ID": "the-key",
            "S3_PROTOCOL_ACCESS_KEY_SECRET": "the-secret",
        }


async def run(environ: dict[str, str], *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, out.decode() + err.decode()
    return out.decode()


async def test_the_resumable_example(lab: Lab, environ: dict[str, str], tmp_path: Path) -> None:
    deno = shutil.which("deno", path=str(Path(sys.executable).parent))
    assert deno is not None
    await lab.bucket("films")
    file = tmp_path / "resumable.ts"
    file.write_text(block("Resumable uploads", "ts"))
    printed = await run(environ, deno, "run", "--allow-all", "--quiet", str(file))
    assert printed == "3000000 of 3000000 bytes\nthe film is there\n"
    stored = await lab.http.get("/object/films/long/film.webm", headers=lab.service)
    assert (len(stored.content), stored.headers["cache-control"]) == (3_000_000, "max-age=3600")


async def test_the_boto3_example_prints_what_it_says(environ: dict[str, str]) -> None:
    printed = await run(environ, sys.executable, "-W", "ignore", "-c", block("The S3 protocol", "python"))
    assert printed == block("The S3 protocol", "text")


def test_the_rclone_recipe_is_a_configuration() -> None:
    assert re.match(
        r"\[socle\]\ntype = s3\nprovider = Other\nendpoint = \S+/storage/v1/s3\n", block("The S3 protocol", "ini")
    )
