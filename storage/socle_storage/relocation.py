"""Moves every object's bytes from one blob store to another, and proves each copy (`socle storage migrate`).

A key names one version for ever and appears whole or not at all, so what is at the target already needs no second copy:
an interrupted run is simply run again. The service may go on serving meanwhile; a last run after it has stopped takes
what was added. Nothing is deleted at the source. Unfinished uploads are not moved: they end, or they are ended.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from socle_platform.blobs import BlobNotFound, BlobStoreError, blob_key
from socle_storage.tus.filling import abandon

if TYPE_CHECKING:
    from socle_platform.ports import BlobStore
    from socle_storage.context import Storage
    from socle_storage.store import Store, StoredObject

_BATCH = 200
_WHOLE = re.compile(r'"[0-9a-f]{32}"')
"""An ETag that is the MD5 of the whole; one of parts says nothing about the whole."""


@dataclass(frozen=True, slots=True)
class Relocated:
    """How far it is: objects and bytes seen, of them copied now, and the names whose bytes are gone or wrong."""

    objects: int = 0
    bytes: int = 0
    copied: int = 0
    failed: tuple[str, ...] = ()


async def relocate(
    store: Store,
    tenant: str,
    source: BlobStore,
    target: BlobStore,
    progress: Callable[[Relocated], None] = lambda _: None,
) -> Relocated:
    """Copies what the target lacks. Objects whose bytes cannot be read or do not fit their row are named, not copied.

    Raises BlobStoreError when the target fails, DatabaseError, DatabaseUnavailable.
    """
    state = Relocated()
    async with contextlib.aclosing(store.every_object()) as objects:
        async for each in objects:
            state = await _relocate_one(tenant, source, target, each, state)
            progress(state)
    return state


async def _relocate_one(
    tenant: str, source: BlobStore, target: BlobStore, each: StoredObject, state: Relocated
) -> Relocated:
    key = blob_key(tenant, each.bucket, each.name, each.version)
    seen = replace(state, objects=state.objects + 1, bytes=state.bytes + (each.size or 0))
    if await _is_there(target, key, each.size):
        return seen
    try:
        await _copy(source, target, key, each)
    except (BlobNotFound, CopyDiffers):
        return replace(seen, failed=(*seen.failed, f"{each.bucket}/{each.name}"))
    return replace(seen, copied=seen.copied + 1)


class CopyDiffers(BlobStoreError):
    """The bytes are not what the row says."""


async def _is_there(target: BlobStore, key: str, size: int | None) -> bool:
    try:
        info = await target.head(key)
    except BlobNotFound:
        return False
    return size is None or info.size == size


async def _copy(source: BlobStore, target: BlobStore, key: str, each: StoredObject) -> None:
    """Copies through the target's own writer, which hashes; then the copy is compared with the row and read back."""
    async with target.writer(key) as writer, contextlib.aclosing(source.read(key)) as chunks:
        async for chunk in chunks:
            await writer.write(chunk)
        info = await writer.commit()
    fits = each.size in {None, info.size}
    if each.etag is not None and _WHOLE.fullmatch(each.etag):
        fits = fits and info.etag == each.etag
    if not fits or (await target.head(key)).size != info.size:
        await target.delete([key])
        raise CopyDiffers


async def end_uploads(storage: Storage) -> int:
    """Forgets every unfinished upload and its bytes, so that clients begin again; returns how many there were."""
    ended = 0
    while resumables := await storage.store.open_resumables(_BATCH):
        for resumable in resumables:
            await abandon(storage, resumable)
        ended += len(resumables)
    while multiparts := await storage.store.open_multiparts(_BATCH):
        for upload in multiparts:
            await storage.blobs.abandon(storage.key(upload.bucket, upload.key, upload.version), upload.id)
            await storage.store.forget_multipart(upload.id)
        ended += len(multiparts)
    return ended
