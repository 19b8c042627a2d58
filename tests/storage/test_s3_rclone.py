"""rclone, as self-hosters use it for backups, against the S3 protocol."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.storage import Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings

RCLONE = shutil.which("rclone")
pytestmark = pytest.mark.skipif(RCLONE is None, reason="rclone is not installed (apt install rclone)")


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    protocol = S3ProtocolSettings(access_key="key", secret_key="secret")
    return replace(settings, s3_protocol=protocol, size_limit=100_000_000)


async def rclone(lab: Lab, *arguments: str) -> str:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(lab.folder),
        "RCLONE_CONFIG_LAB_TYPE": "s3",
        "RCLONE_CONFIG_LAB_PROVIDER": "Other",
        "RCLONE_CONFIG_LAB_ACCESS_KEY_ID": "key",
        "RCLONE_CONFIG_LAB_SECRET_ACCESS_KEY": "secret",
        "RCLONE_CONFIG_LAB_ENDPOINT": f"{lab.url}/s3",
        "RCLONE_S3_UPLOAD_CUTOFF": "6M",
        "RCLONE_S3_CHUNK_SIZE": "5M",
        "RCLONE_RETRIES": "1",
    }
    process = await asyncio.create_subprocess_exec(
        RCLONE or "rclone",
        *arguments,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_a_backup_and_its_way_back(lab: Lab, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "small.txt").write_text("hello")
    (source / "deep" / "er" / "with space.bin").write_bytes(os.urandom(1000))
    (source / "large.bin").write_bytes(os.urandom(13_000_000))
    await rclone(lab, "mkdir", "lab:backup")
    await rclone(lab, "sync", str(source), "lab:backup")
    assert sorted((await rclone(lab, "lsf", "-R", "lab:backup")).split("\n")[:-1]) == [
        "deep/",
        "deep/er/",
        "deep/er/with space.bin",
        "large.bin",
        "small.txt",
    ]
    await rclone(lab, "check", str(source), "lab:backup")
    await rclone(lab, "copyto", "lab:backup/large.bin", "lab:backup/copy.bin")
    await rclone(lab, "sync", "lab:backup", str(back))
    assert (back / "copy.bin").read_bytes() == (source / "large.bin").read_bytes()
    assert (back / "deep" / "er" / "with space.bin").exists()
    await rclone(lab, "purge", "lab:backup/deep")
    assert await rclone(lab, "lsf", "lab:backup") == "copy.bin\nlarge.bin\nsmall.txt\n"
    await rclone(lab, "purge", "lab:backup")
    assert "backup" not in await rclone(lab, "lsd", "lab:")
