"""Forgetting uploads that nobody finished: resumable ones whose time is over, and stored parts that nobody names."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from socle_storage.tus.filling import abandon

if TYPE_CHECKING:
    from socle_platform.ports import UnfinishedUpload
    from socle_storage.context import Storage

_BATCH = 200


async def expire(storage: Storage) -> int:
    """Forgets resumable uploads whose time is over; returns how many. Raises DatabaseError, BlobStoreError."""
    total = 0
    while expired := await storage.store.expired_resumables(_BATCH):
        for upload in expired:
            await abandon(storage, upload)
        total += len(expired)
    return total


async def abandon_strays(storage: Storage) -> int:
    """Forgets parts in the blob store that belong to no upload (a crash between the two, or a lost race).

    A plain upload that goes to the store in parts is named by nobody either, so only old ones count as strays.
    """
    settings = storage.settings
    oldest = storage.clock.now() - timedelta(seconds=max(settings.orphan_grace, settings.tus.expiry))
    old = [upload async for upload in storage.blobs.unfinished() if upload.touched_at <= oldest]
    removed = 0
    for first in range(0, len(old), _BATCH):
        removed += await _abandon_unknown(storage, old[first : first + _BATCH])
    return removed


async def _abandon_unknown(storage: Storage, uploads: list[UnfinishedUpload]) -> int:
    known = await storage.store.known_uploads([upload.upload for upload in uploads])
    strays = [upload for upload in uploads if upload.upload not in known]
    for stray in strays:
        await storage.blobs.abandon(stray.key, stray.upload)
    return len(strays)
