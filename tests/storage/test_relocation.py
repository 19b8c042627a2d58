"""Moving every object's bytes between disk and S3."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from harness.postgres import TestServer
from harness.seaweed import Seaweed
from harness.storage import Lab
from socle_app.storage_migration import MigrationImpossible, migrate_storage
from socle_platform.ports import BlobStore
from socle_platform.s3 import S3Blobs
from socle_storage.relocation import Relocated, relocate


@pytest.fixture
async def s3(lab: Lab, s3_gateway: Seaweed) -> AsyncIterator[S3Blobs]:
    store = S3Blobs(s3_gateway.settings(f"move-{os.getpid()}-{id(lab) % 10_000}"), lab.storage.settings.tenant)
    await store.open()
    yield store
    await store.close()


async def read(store: BlobStore, key: str) -> bytes:
    async with contextlib.aclosing(store.read(key)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_every_object_arrives_once_and_whole(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    bodies = {f"dir/{number}.bin": os.urandom(number * 700_000) for number in range(10)}
    for name, body in bodies.items():
        assert (await lab.put(bucket, name, body)).status_code == 200
    storage, steps = lab.storage, list[Relocated]()
    first = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3, steps.append)
    assert (first.objects, first.copied, first.failed) == (10, 10, ())
    assert first.bytes == sum(map(len, bodies.values()))
    assert [step.objects for step in steps] == list(range(1, 11))
    for name, body in bodies.items():
        row = await lab.row(bucket, name)
        assert row is not None
        assert await read(s3, storage.key(bucket, name, row["version"])) == body
    again = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (again.objects, again.copied) == (10, 0)


async def test_an_interrupted_run_goes_on_where_it_was(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    for number in range(5):
        await lab.put(bucket, f"{number}", b"x" * 1000)

    class Enough(Exception):
        pass

    def stop(state: Relocated) -> None:
        if state.objects == 3:
            raise Enough

    storage = lab.storage
    with pytest.raises(Enough):
        await relocate(storage.store, storage.settings.tenant, storage.blobs, s3, stop)
    rest = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (rest.objects, rest.copied) == (5, 2)


async def test_bytes_that_are_gone_or_wrong_are_named_and_not_copied(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    for name in ("fine", "gone", "spoilt"):
        await lab.put(bucket, name, b"0123456789")
    storage = lab.storage
    gone, spoilt = await lab.row(bucket, "gone"), await lab.row(bucket, "spoilt")
    assert gone is not None
    assert spoilt is not None
    await storage.blobs.delete([storage.key(bucket, "gone", gone["version"])])
    (lab.folder / "blobs" / spoilt["version"][:2] / spoilt["version"]).write_bytes(b"0123456780")
    result = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (result.copied, result.failed) == (1, (f"{bucket}/gone", f"{bucket}/spoilt"))
    assert len([blob async for blob in s3.scan()]) == 1


async def test_there_and_back_by_settings(
    lab: Lab, server: TestServer, database_name: str, s3_gateway: Seaweed
) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"travels")
    settings = replace(lab.storage.settings, s3=s3_gateway.settings("there-and-back"))
    counted: list[tuple[int, int]] = []

    def count(_state: Relocated, objects: int, size: int) -> None:
        counted.append((objects, size))

    there = await migrate_storage(settings, server.settings(database_name), "s3", count)
    assert (there.copied, counted) == (1, [(1, 7)])
    await lab.storage.blobs.delete([blob.key async for blob in lab.storage.blobs.scan()])
    back = await migrate_storage(settings, server.settings(database_name), "file")
    assert back.copied == 1
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"travels"
    with pytest.raises(MigrationImpossible, match="tape"):
        await migrate_storage(settings, server.settings(database_name), "tape")
    with pytest.raises(MigrationImpossible, match="STORAGE_S3_BUCKET"):
        await migrate_storage(lab.storage.settings, server.settings(database_name), "s3")
