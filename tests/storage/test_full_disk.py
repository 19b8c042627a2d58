"""A full disk: a clean 500, nothing half-published, and the service lives on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.storage import Lab, refusal

SIZE = 6
"""Megabytes of the disk."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A few megabytes of memory as a file system; needs the right to mount."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("there is no mount program")
    command = [mount, "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield tmp_path
    subprocess.run([umount, "-l", tmp_path], check=True)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def test_a_full_disk(lab: Lab) -> None:
    bucket = await lab.bucket()
    assert (await lab.put(bucket, "before", b"x" * 1_000_000)).status_code == 200
    for name in ("large", "before"):
        answer = await lab.put(bucket, name, b"y" * 8_000_000, x_upsert="true")
        assert refusal(answer) == (500, "500", "InternalError")
        assert answer.json()["message"] == "The storage backend has no space left"

    form = {"file": ("f", b"z" * 8_000_000, "a/b")}
    answer = await lab.http.post(f"/object/{bucket}/form", headers=lab.service, files=form)
    assert refusal(answer) == (500, "500", "InternalError")
    assert await asyncio.to_thread(files, lab.folder) == await lab.versions()
    assert (await lab.http.get(f"/object/{bucket}/before", headers=lab.service)).content == b"x" * 1_000_000
    for number in range(3):
        assert (await lab.put(bucket, f"after{number}", b"x" * 1000)).status_code == 200


async def test_uploads_at_once_fill_the_disk_and_what_was_acknowledged_stays(lab: Lab) -> None:
    bucket = await lab.bucket()
    answers = await asyncio.gather(*(lab.put(bucket, f"{n}", bytes([n]) * 1_500_000) for n in range(10)))
    stored = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert 0 < len(stored) < 10
    assert {refusal(answer) for answer in answers if answer.status_code != 200} == {(500, "500", "InternalError")}
    for number in stored:
        got = await lab.http.get(f"/object/{bucket}/{number}", headers=lab.service)
        assert got.content == bytes([number]) * 1_500_000
    assert await asyncio.to_thread(files, lab.folder) == await lab.versions()
