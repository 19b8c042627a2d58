"""What the sweeper removes, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import replace
from datetime import timedelta

from harness.storage import Lab
from socle_platform.blobs import BlobStoreError
from socle_platform.ports import Resources, StoredBlob
from socle_storage.context import Storage
from socle_storage.sweeper import collect, scan, sweep_forever


class Refusing:
    """A blob store that deletes nothing."""

    async def delete(self, _keys: object) -> None:
        raise BlobStoreError("not today")


async def write_blob(storage: Storage, version: str) -> None:
    async with storage.blobs.writer(storage.key("nobody", "nothing", version)) as writer:
        await writer.write(b"orphan")
        await writer.commit()


async def test_lost_versions_go_and_live_ones_stay(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in (b"1", b"2", b"3"):
        await lab.put(bucket, "a", body, x_upsert="true")
    await lab.put(bucket, "gone")
    await lab.http.delete(f"/object/{bucket}/gone", headers=lab.service)
    assert len(await lab.stored()) == 4
    assert await collect(lab.storage) == 3
    assert await lab.stored() == await lab.versions()
    assert await lab.admin.fetchval("select count(*) from storage_internal.blob_gc") == 0
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"3"


async def test_the_list_waits_for_its_grace(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in (b"1", b"2"):
        await lab.put(bucket, "a", body, x_upsert="true")
    patient = replace(lab.storage, settings=replace(lab.storage.settings, blob_grace=3600.0))
    assert await collect(patient) == 0
    assert (await scan(patient)).blobs == 0
    assert len(await lab.stored()) == 2
    assert await collect(lab.storage) == 1


async def test_a_listed_blob_that_a_row_names_again_stays(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a/b", b"kept")
    row = await lab.row(bucket, "a/b")
    assert row is not None
    await lab.admin.execute("insert into storage_internal.blob_gc (key) values ($1)", f"{bucket}/a/b/{row['version']}")
    assert await collect(lab.storage) == 0
    assert (await lab.http.get(f"/object/{bucket}/a/b", headers=lab.service)).content == b"kept"


async def test_a_store_that_fails_is_tried_again_later(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in (b"1", b"2"):
        await lab.put(bucket, "a", body, x_upsert="true")
    broken = replace(lab.storage, blobs=Refusing())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (it can only delete)
    assert await collect(broken) == 0
    entry = await lab.admin.fetchrow(
        "select attempts, last_error, not_before > now() as later from storage_internal.blob_gc"
    )
    assert entry is not None
    assert tuple(entry) == (1, "not today", True)
    assert await collect(lab.storage) == 0
    await lab.admin.execute("update storage_internal.blob_gc set not_before = now()")
    assert await collect(lab.storage) == 1


async def test_a_scan_finds_what_no_list_knows(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"kept")
    for _ in range(3):
        await write_blob(lab.storage, str(uuid.uuid4()))
    (lab.folder / "tmp" / "left").write_bytes(b"half")
    swept = await scan(lab.storage)
    assert (swept.blobs, swept.leftovers) == (3, 1)
    assert await lab.stored() == await lab.versions()
    assert list((lab.folder / "tmp").iterdir()) == []
    assert (await scan(lab.storage)).blobs == 0


async def test_a_scan_leaves_young_blobs_alone(lab: Lab) -> None:
    await write_blob(lab.storage, str(uuid.uuid4()))
    careful = replace(lab.storage, settings=replace(lab.storage.settings, orphan_grace=60.0))
    assert (await scan(careful)).blobs == 0
    assert len(await lab.stored()) == 1


async def test_a_row_that_vanishes_by_sql_is_listed_too(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    await lab.admin.execute("delete from storage.objects")
    assert await collect(lab.storage) == 1
    assert await lab.stored() == set()


async def test_two_sweepers_do_not_trip_over_each_other(lab: Lab) -> None:
    bucket = await lab.bucket()
    for number in range(30):
        await lab.put(bucket, "a", b"%d" % number, x_upsert="true")
    assert sum(await asyncio.gather(collect(lab.storage), collect(lab.storage))) == 29
    assert await lab.stored() == await lab.versions()


async def test_the_clock_sweeps_until_it_is_stopped(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in (b"1", b"2"):
        await lab.put(bucket, "a", body, x_upsert="true")
    settings = replace(lab.storage.settings, sweep_interval=0.02)
    resources = Resources(
        database=lab.storage.store.database, keyring=lab.keyring, blobs=lab.storage.blobs, observe=lab.seen.append
    )
    clock = asyncio.create_task(sweep_forever(settings, resources))
    async with asyncio.timeout(10):
        while len(await lab.stored()) > 1:  # noqa: ASYNC110 (the sweeper tells nobody when it has swept)
            await asyncio.sleep(0.01)
    clock.cancel()
    await asyncio.gather(clock, return_exceptions=True)
    assert clock.cancelled()
    await asyncio.wait_for(sweep_forever(replace(settings, sweep_interval=0.0), resources), 1)


async def test_a_hundred_thousand_blobs_are_compared_in_portions(lab: Lab) -> None:
    """The portions' edges: one blob more and one less than a portion."""
    moment = lab.storage.clock.now() - timedelta(days=1)

    class Many:
        def __init__(self, count: int) -> None:
            self.count = count
            self.deleted = 0

        async def scan(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 (an async generator of blobs)
            for _ in range(self.count):
                version = str(uuid.UUID(bytes=os.urandom(16)))
                yield StoredBlob(version, version, 1, moment)

        async def unfinished(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 (an async generator of nothing)
            if self.count < 0:
                yield None

        async def delete(self, keys: list[str]) -> None:
            self.deleted += len(keys)

        async def tidy(self, _before: object) -> int:
            return 0

    for count in (19_999, 20_001):
        many = Many(count)
        swept = await scan(replace(lab.storage, blobs=many))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (the part that a scan uses)
        assert (swept.blobs, many.deleted) == (count, count)
