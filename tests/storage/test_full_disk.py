"""A full disk: a clean 500, nothing half-published, and the service lives on."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.storage import Lab, refusal
from socle_storage.tus.headers import render_pairs

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
    first = await lab.put(bucket, "0", bytes([0]) * 1_500_000)
    assert first.status_code == 200, "alone it has room; at once, each may take the last room from the others"
    others = await asyncio.gather(*(lab.put(bucket, f"{n}", bytes([n]) * 1_500_000) for n in range(1, 10)))
    answers = [first, *others]
    stored = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert len(stored) < 10
    assert {refusal(answer) for answer in answers if answer.status_code != 200} == {(500, "500", "InternalError")}
    for number in stored:
        got = await lab.http.get(f"/object/{bucket}/{number}", headers=lab.service)
        assert got.content == bytes([number]) * 1_500_000
    assert await asyncio.to_thread(files, lab.folder) == await lab.versions()


async def test_a_resumable_upload_goes_on_when_there_is_room_again(lab: Lab) -> None:
    bucket = await lab.bucket()
    body = bytes(range(256)) * 35_000
    tus = {"tus-resumable": "1.0.0", **lab.service}
    described = render_pairs({"bucketName": bucket, "objectName": "slow"})
    sent = {**tus, "upload-length": str(len(body)), "upload-metadata": described}
    url = (await lab.http.post("/upload/resumable", headers=sent)).headers["location"]

    async def append(start: int) -> httpx.Response:
        headers = {**tus, "upload-offset": str(start), "content-type": "application/offset+octet-stream"}
        return await lab.http.patch(url, content=body[start:], headers=headers)

    answer = await append(0)
    assert (answer.status_code, answer.text) == (500, "The storage backend has no space left")
    position = int((await lab.http.head(url, headers=tus)).headers["upload-offset"])
    assert 0 < position < len(body)
    assert await lab.row(bucket, "slow") is None
    subprocess.run(["mount", "-o", "remount,size=40m", lab.folder], check=True)  # noqa: ASYNC221, S607 (as above)
    assert (await append(position)).status_code == 204
    stored = await lab.http.get(f"/object/{bucket}/slow", headers=lab.service)
    assert stored.content == body
    assert await asyncio.to_thread(files, lab.folder) == await lab.versions()
