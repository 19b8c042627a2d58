"""Removes bytes that belong to no object any more (contract storage.md §7).

Two ways lead here. Whatever lets go of a blob lists it in storage_internal.blob_gc in the same transaction; `collect`
removes what is on the list once its grace is over. What no list knows (a crash between the bytes and the row) is found
by `scan`, which compares the blob store with the rows; it leaves alone what is younger than the orphan grace, because
its row may be on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_platform.blobs import BlobStoreError
from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.events import Noted
from socle_storage.routes import build_storage
from socle_storage.tus.expiry import abandon_strays, expire

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_platform.ports import Resources, StoredBlob
    from socle_storage.context import Storage

_BATCH = 500
_SCAN_BATCH = 20_000
_FIRST_SCAN = 60.0
"""Seconds after the start, so that starting stays quick."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one run removed: blobs, and files that interrupted writers left."""

    blobs: int = 0
    leftovers: int = 0


@contextlib.asynccontextmanager
async def sweeping(settings: StorageSettings, resources: Resources) -> AsyncGenerator[None]:
    """Sweeps beside whatever the block does, until it ends."""
    task = asyncio.create_task(sweep_forever(settings, resources), name="storage sweeper")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sweep_forever(settings: StorageSettings, resources: Resources) -> None:
    """The sweeper's clock: runs until cancelled. A failure is observed, and the next turn comes anyway."""
    if settings.sweep_interval <= 0:
        return
    storage = build_storage(settings, resources)
    loop = asyncio.get_running_loop()
    next_scan = loop.time() + _FIRST_SCAN
    while True:
        try:
            await expire(storage)
            await collect(storage)
            if loop.time() >= next_scan:
                next_scan = loop.time() + settings.scan_interval
                await scan(storage)
        except (DatabaseError, DatabaseUnavailable, BlobStoreError) as error:
            storage.observe(Noted("storage", "warning", f"sweeping failed: {error}"))
        await asyncio.sleep(settings.sweep_interval)


async def collect(storage: Storage) -> int:
    """Removes the listed blobs whose grace is over; returns how many. Raises DatabaseError, DatabaseUnavailable."""
    total = 0
    while True:
        async with storage.store.lost_blobs(storage.settings.blob_grace, _BATCH) as lost:
            if not lost.blobs:
                return total
            keys = [storage.key(blob.bucket, blob.name, blob.version) for blob in lost.blobs if not blob.is_live]
            try:
                await storage.blobs.delete(keys)
            except BlobStoreError as error:
                await lost.postpone(str(error))
                storage.observe(Noted("storage", "warning", f"{len(keys)} blobs could not be removed: {error}"))
                return total
            await lost.forget()
            total += len(keys)


async def scan(storage: Storage) -> Swept:
    """Compares every stored blob with the rows and removes those without one."""
    oldest = storage.clock.now() - timedelta(seconds=storage.settings.orphan_grace)
    removed = 0
    batch: list[StoredBlob] = []
    async for blob in storage.blobs.scan():
        if blob.stored_at <= oldest:
            batch.append(blob)
        if len(batch) >= _SCAN_BATCH:
            removed += await _remove_orphans(storage, batch)
            batch = []
    removed += await _remove_orphans(storage, batch)
    leftovers = await storage.blobs.tidy(oldest) + await abandon_strays(storage)
    if removed or leftovers:
        text = f"removed {removed} stored blobs without an object and {leftovers} unfinished files"
        storage.observe(Noted("storage", "info", text))
    return Swept(removed, leftovers)


async def _remove_orphans(storage: Storage, blobs: Sequence[StoredBlob]) -> int:
    if not blobs:
        return 0
    unknown = await storage.store.unknown_versions([blob.version for blob in blobs])
    keys = [blob.key for blob in blobs if blob.version in unknown]
    for first in range(0, len(keys), _BATCH):
        await storage.blobs.delete(keys[first : first + _BATCH])
    return len(keys)
