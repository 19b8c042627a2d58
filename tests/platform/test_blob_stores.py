"""Both blob stores keep one contract; the disk's own promises are below."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.seaweed import Seaweed
from socle_platform.blobs import (
    BlobNotFound,
    BlobStoreError,
    BlobStoreFull,
    BlobStoreUnusable,
    blob_key,
    joined_etag,
    version_of,
)
from socle_platform.disk import DiskBlobs
from socle_platform.ports import BlobStore, PartInfo
from socle_platform.s3 import S3Blobs

MIB = 1024 * 1024


@pytest.fixture(params=["disk", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    opened: BlobStore
    if request.param == "disk":
        opened = DiskBlobs(tmp_path / "store")
    else:
        s3_gateway: Seaweed = request.getfixturevalue("s3_gateway")
        opened = S3Blobs(s3_gateway.settings(f"b-{uuid.uuid4().hex[:12]}"), "tenant")
    await opened.open()
    yield opened
    await opened.close()


def new_key(name: str = "folder/a file (1).txt") -> str:
    return blob_key("tenant", "bucket", name, str(uuid.uuid4()))


def etag_of(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


async def write(store: BlobStore, key: str, *chunks: bytes) -> str:
    async with store.writer(key) as writer:
        for chunk in chunks:
            await writer.write(chunk)
        return (await writer.commit()).etag


async def read(store: BlobStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    async with contextlib.aclosing(store.read(key, start, end)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def stream(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def test_bytes_come_back_whole_and_in_ranges(store: BlobStore) -> None:
    body = os.urandom(200_000)
    key = new_key()
    etag = await write(store, key, body[:7], b"", body[7:])
    assert etag == etag_of(body)
    assert await read(store, key) == body
    assert await read(store, key, 10, 20) == body[10:20]
    assert await read(store, key, 150_000) == body[150_000:]
    assert await read(store, key, 5, 5) == b""
    assert (await store.head(key)).size == len(body)


async def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    key = new_key()
    assert await write(store, key) == etag_of(b"")
    assert await read(store, key) == b""
    assert (await store.head(key)).size == 0


async def test_a_large_blob_streams_in_parts(store: BlobStore) -> None:
    chunk = os.urandom(MIB)
    sha = hashlib.sha256()
    key = new_key()
    async with store.writer(key, hashers=(sha,)) as writer:
        for _ in range(13):
            await writer.write(chunk)
        info = await writer.commit()
    assert info.size == 13 * MIB
    assert info.etag == etag_of(chunk * 13)
    assert sha.digest() == hashlib.sha256(chunk * 13).digest()
    assert etag_of(await read(store, key)) == info.etag


async def test_a_writer_left_without_commit_leaves_nothing(store: BlobStore) -> None:
    key = new_key()
    for size in (10, 6 * MIB):
        with contextlib.suppress(RuntimeError):
            async with store.writer(key) as writer:
                await writer.write(b"x" * size)
                raise RuntimeError("the client has gone")
        with pytest.raises(BlobNotFound):
            await read(store, key)
    assert [blob async for blob in store.scan()] == []
    assert [upload async for upload in store.unfinished()] == []


async def test_missing_blobs_are_not_found_and_deleting_them_is_no_error(store: BlobStore) -> None:
    key = new_key()
    for attempt in (read(store, key), store.head(key), store.copy(key, new_key()), read(store, key, 3, 3)):
        with pytest.raises(BlobNotFound):
            await attempt
    await store.delete([key, "tenant/bucket/no-version"])


async def test_a_copy_outlives_its_source(store: BlobStore) -> None:
    source, target = new_key("a"), new_key("b")
    await write(store, source, b"same")
    assert (await store.copy(source, target)).size == 4
    await store.delete([source])
    assert await read(store, target) == b"same"
    with pytest.raises(BlobNotFound):
        await read(store, source)


async def test_a_scan_finds_every_blob_under_a_key_that_delete_takes(store: BlobStore) -> None:
    keys = [new_key(f"n{number}") for number in range(5)]
    for key in keys:
        await write(store, key, b"12345")
    found = [blob async for blob in store.scan()]
    assert {blob.version for blob in found} == {version_of(key) for key in keys}
    assert {blob.size for blob in found} == {5}
    assert all(abs(datetime.now(UTC) - blob.stored_at) < timedelta(minutes=5) for blob in found)
    await store.delete([blob.key for blob in found])
    assert [blob async for blob in store.scan()] == []


async def test_parts_are_joined_in_the_order_asked_for(store: BlobStore) -> None:
    first, second = os.urandom(6 * MIB), os.urandom(1000)
    key = new_key()
    upload = await store.begin(key)
    await store.write_part(key, upload, 1, stream(b"to be replaced" * 400_000), size=14 * 400_000)
    two = await store.write_part(key, upload, 2, stream(second), size=1000)
    one = await store.write_part(key, upload, 1, stream(first[:10], first[10:]), size=6 * MIB)
    assert [found.upload async for found in store.unfinished()] == [upload]
    info = await store.finish(key, upload, [one, two])
    assert (info.size, info.etag) == (6 * MIB + 1000, joined_etag([one, two]))
    assert await read(store, key) == first + second
    assert [found async for found in store.unfinished()] == []


async def test_parts_can_be_copied_from_a_blob(store: BlobStore) -> None:
    body = os.urandom(6 * MIB)
    source, key = new_key("source"), new_key("target")
    await write(store, source, body)
    upload = await store.begin(key)
    one = await store.copy_part(key, upload, 1, source, 0, 5 * MIB)
    two = await store.copy_part(key, upload, 2, source, 5 * MIB)
    await store.finish(key, upload, [one, two])
    assert await read(store, key) == body


@pytest.mark.parametrize("sent", [b"too much", b"few"])
async def test_a_part_of_another_size_than_announced_is_refused(store: BlobStore, sent: bytes) -> None:
    key = new_key()
    upload = await store.begin(key)
    with pytest.raises(BlobStoreError):
        await store.write_part(key, upload, 1, stream(sent), size=5)
    with pytest.raises(BlobStoreError):
        await store.finish(key, upload, [PartInfo(1, 5, etag_of(sent))])
    await store.abandon(key, upload)


@pytest.mark.parametrize("size", [1000, 6 * MIB])
async def test_a_part_that_is_not_agreed_to_leaves_the_one_before(store: BlobStore, size: int) -> None:
    class Wrong(Exception):
        pass

    def disagree() -> None:
        assert seen.digest() == hashlib.sha256(bad).digest()
        raise Wrong

    good, bad, seen = os.urandom(size), os.urandom(size), hashlib.sha256()
    key = new_key()
    upload = await store.begin(key)
    one = await store.write_part(key, upload, 1, stream(good), size=size)
    with pytest.raises(Wrong):
        await store.write_part(key, upload, 1, stream(bad[:100], bad[100:]), size=size, hashers=[seen], verify=disagree)
    await store.finish(key, upload, [one])
    assert await read(store, key) == good


async def test_an_unknown_or_abandoned_upload_has_no_parts(store: BlobStore) -> None:
    key = new_key()
    upload = await store.begin(key)
    await store.abandon(key, upload)
    await store.abandon(key, upload)
    with pytest.raises(BlobNotFound):
        await store.write_part(key, upload, 1, stream(b"x"), size=1)
    with pytest.raises(BlobNotFound):
        await store.finish(key, upload, [PartInfo(1, 1, '"00000000000000000000000000000000"')])


async def test_a_long_name_still_has_a_key_that_s3_takes(store: BlobStore) -> None:
    key = new_key("n" * 1024)
    assert len(key) <= 1024
    assert key != new_key("m" * 1024)
    await write(store, key, b"long")
    assert await read(store, key) == b"long"


# --- what only the S3 store promises


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"secret_key": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"access_key": "nobody"}, "AWS_ACCESS_KEY_ID"),
        ({"endpoint": "http://127.0.0.1:9"}, "Could not connect"),
    ],
)
async def test_an_unusable_s3_store_says_why(s3_gateway: Seaweed, change: dict[str, str], hint: str) -> None:
    store = S3Blobs(replace(s3_gateway.settings("some-bucket"), **change), "tenant")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (texts only)
    with pytest.raises(BlobStoreUnusable, match=hint):
        await store.open()


# --- what only the disk store promises


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskBlobs]:
    opened = DiskBlobs(tmp_path / "store", legacy_bucket="stub")
    await opened.open()
    yield opened
    await opened.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_no_name_becomes_a_path(disk: DiskBlobs, tmp_path: Path) -> None:
    for name in ("../../../evil", "/etc/passwd", "a\\..\\b", "x" * 1000):
        await write(disk, f"tenant/bucket/{name}/{uuid.uuid4()}", b"data")
    assert len(files(tmp_path / "store" / "blobs")) == 4
    assert {path.parent.parent for path in files(tmp_path)} == {tmp_path / "store" / "blobs"}


@pytest.mark.parametrize("key", ["tenant/bucket/name", "tenant/../../etc/passwd", "t/\0/x", "", "a/b\\c", "stub//x"])
async def test_a_key_without_version_is_never_written_and_never_leads_outside(disk: DiskBlobs, key: str) -> None:
    with pytest.raises(BlobNotFound):
        await write(disk, key, b"x")
    with pytest.raises(BlobNotFound):
        await read(disk, key)


async def test_files_of_the_official_container_are_read_where_they_lie(disk: DiskBlobs, tmp_path: Path) -> None:
    version = str(uuid.uuid4())
    old = tmp_path / "store" / "stub" / "tenant" / "bucket" / "folder" / "cat.png"
    old.mkdir(parents=True)
    (old / version).write_bytes(b"versioned")
    (old.parent / "dog.png").write_bytes(b"unversioned")
    assert await read(disk, f"tenant/bucket/folder/cat.png/{version}") == b"versioned"
    assert await read(disk, "tenant/bucket/folder/dog.png", 2) == b"versioned"
    await disk.delete([f"tenant/bucket/folder/cat.png/{version}"])
    assert not (old / version).exists()


async def test_a_symbolic_link_does_not_lead_outside(disk: DiskBlobs, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "store" / "stub" / "tenant"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BlobNotFound):
        await read(disk, "tenant/link")


async def test_what_a_killed_writer_left_is_tidied(disk: DiskBlobs, tmp_path: Path) -> None:
    (tmp_path / "store" / "tmp" / "left").write_bytes(b"half")
    assert await disk.tidy(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await disk.tidy(datetime.now(UTC) + timedelta(seconds=1)) == 1
    assert files(tmp_path / "store") == []


async def test_a_hard_link_counts_from_when_it_was_made(disk: DiskBlobs, tmp_path: Path) -> None:
    source, target = new_key(), new_key()
    await write(disk, source, b"old")
    for path in files(tmp_path / "store" / "blobs"):
        os.utime(path, (1, 1))
    await disk.copy(source, target)
    assert all(blob.stored_at > datetime.now(UTC) - timedelta(minutes=1) for blob in [b async for b in disk.scan()])


async def test_an_open_reader_keeps_its_bytes_when_they_are_deleted(disk: DiskBlobs) -> None:
    body = os.urandom(300_000)
    key = new_key()
    await write(disk, key, body)
    async with contextlib.aclosing(disk.read(key)) as chunks:
        got = await anext(chunks)
        await disk.delete([key])
        async for chunk in chunks:
            got += chunk
    assert got == body


async def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = DiskBlobs(tmp_path / "file" / "store")
    with pytest.raises(BlobStoreUnusable, match="FILE_STORAGE_BACKEND_PATH"):
        await store.open()
    await store.close()


async def test_cancelling_a_writer_leaves_no_file(disk: DiskBlobs, tmp_path: Path) -> None:
    started = asyncio.Event()

    async def endless() -> None:
        async with disk.writer(new_key()) as writer:
            while True:
                await writer.write(b"x" * MIB)
                started.set()

    task = asyncio.create_task(endless())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Four megabytes of memory as a file system; needs the right to mount."""
    place = tmp_path / "small"
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("there is no mount program")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run([umount, "-l", place], check=True)


async def test_a_full_disk_refuses_and_leaves_nothing(small_disk: Path) -> None:
    store = DiskBlobs(small_disk)
    await store.open()
    for _ in range(2):
        with pytest.raises(BlobStoreFull):
            await write(store, new_key(), *[b"x" * MIB] * 6)
    assert files(small_disk) == []
    key = new_key()
    await write(store, key, b"still alive")
    assert await read(store, key) == b"still alive"
    await store.close()
