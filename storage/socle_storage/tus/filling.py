"""A stream becomes stored parts, and the parts become an object.

Bytes are collected up to the size of a piece (a few MiB) and stored; what is too small for a part of its own waits in a
blob called the tail, which the next request takes up again. Whatever has been received is stored even when the client
leaves in the middle, and nothing is said to have arrived before it is stored and recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from socle_platform.blobs import BlobNotFound, BlobStoreError, joined_etag, new_version
from socle_platform.ports import BlobInfo
from socle_storage.errors import StorageError
from socle_storage.store import Arrival, Seal
from socle_storage.tus.headers import offset_conflict, taken_over
from socle_storage.uploads import Upload, publish, written

if TYPE_CHECKING:
    from socle_platform.ports import PartInfo
    from socle_storage.context import Caller, Storage
    from socle_storage.store import ResumableUpload
    from socle_storage.wire import Exchange

_PIECE = 4 * 1024 * 1024
_SMALLEST_PART = 256 * 1024
_MAX_PARTS = 9000
"""Fewer than S3 takes, since a number that a lost race had reserved is not used again."""


class Filling:
    """One request's work on one upload, which it holds the lock of. `ceiling`: bytes that the upload may have."""

    def __init__(self, storage: Storage, upload: ResumableUpload, ceiling: int, seal: Seal) -> None:
        self._storage = storage
        self._upload = upload
        self._seal = seal
        length = ceiling if upload.length is None else upload.length
        fair = -(-length // _MAX_PARTS)
        is_strict = storage.blobs.minimum_part > 1
        self._piece = max(storage.blobs.minimum_part, _PIECE, fair)
        self._smallest = self._piece if is_strict else max(_SMALLEST_PART, fair)
        self._chunks: list[bytes] = []
        self._collected = 0

    @property
    def position(self) -> int:
        """Bytes that are stored and recorded."""
        return self._upload.position

    @property
    def upload(self) -> ResumableUpload:
        return self._upload

    async def run(self, stream: AsyncGenerator[bytes, None]) -> None:
        """Takes the stream; seals the upload when its last byte is there.

        Raises what the stream raises, after storing what came before; TusRefusal when another server was quicker.
        """
        await self._take_up_tail()
        try:
            async for chunk in stream:
                self._chunks.append(chunk)
                self._collected += len(chunk)
                while self._collected >= self._piece and not self._is_whole:
                    await self._store_part(self._take(self._piece))
        except BaseException:
            await asyncio.shield(self._store_rest())
            raise
        await asyncio.shield(self._store_rest())

    @property
    def _reached(self) -> int:
        """Where the upload will be once everything collected is stored."""
        return self._upload.position - self._upload.tail_size + self._collected

    @property
    def _is_whole(self) -> bool:
        return self._upload.length is not None and self._reached >= self._upload.length

    async def _take_up_tail(self) -> None:
        tail, size = self._upload.tail, self._upload.tail_size
        if tail is None or not size:
            return
        async with contextlib.aclosing(self._storage.blobs.read(self._key(tail))) as chunks:
            self._chunks = [chunk async for chunk in chunks]
        self._collected = sum(map(len, self._chunks))

    def _take(self, size: int) -> bytes:
        whole = b"".join(self._chunks)
        self._chunks = [whole[size:]] if len(whole) > size else []
        self._collected = max(len(whole) - size, 0)
        return whole[:size] if len(whole) > size else whole

    async def _store_rest(self) -> None:
        """Stores what is left of the stream; the end of the upload may be among it."""
        if self._is_whole:
            await self._store_end()
        elif self._collected >= self._smallest:
            await self._store_part(self._take(self._collected))
        elif self._collected > self._upload.tail_size:
            await self._store_tail(self._take(self._collected))

    async def _store_part(self, body: bytes) -> None:
        part = await self._write_part(body)
        upload = self._upload
        await self._advance(Arrival(upload.position - upload.tail_size + len(body), part))

    async def _store_tail(self, body: bytes) -> None:
        upload, name = self._upload, new_version()
        await self._write_blob(name, body)
        position = upload.position - upload.tail_size + len(body)
        await self._advance(Arrival(position, None, name, len(body)))

    async def _store_end(self) -> None:
        upload = self._upload
        position = self._reached
        body = self._take(self._collected)
        seal, arrival = self._seal, Arrival(position)
        if upload.position == upload.tail_size:
            blob = new_version()
            info = await self._write_blob(blob, body)
            seal = replace(seal, blob=blob, etag=info.etag)
        elif body:
            arrival = replace(arrival, part=await self._write_part(body))
        if not await self._storage.store.seal(upload.version, upload.position, arrival, seal):
            raise offset_conflict()
        await self._drop_tail()
        self._upload = replace(
            upload,
            position=position,
            tail=None,
            tail_size=0,
            sealed=True,
            blob=seal.blob,
            etag=seal.etag,
            owner_id=seal.owner,
            upsert=seal.upsert,
        )

    async def _write_part(self, body: bytes) -> PartInfo:
        storage, upload = self._storage, self._upload
        key = self._key(upload.version)
        begun = None if upload.upload is not None else await storage.blobs.begin(key)
        reserved = await storage.store.reserve_part(upload.version, upload.position, begun)
        if begun is not None and (reserved is None or reserved[1] != begun):
            await storage.blobs.abandon(key, begun)
        if reserved is None:
            raise offset_conflict()
        number, blob_upload = reserved
        self._upload = replace(upload, upload=blob_upload)
        return await storage.blobs.write_part(key, blob_upload, number, _one(body), size=len(body))

    async def _write_blob(self, version: str, body: bytes) -> BlobInfo:
        async with self._storage.blobs.writer(self._key(version)) as writer:
            await writer.write(body)
            return await writer.commit()

    async def _advance(self, arrival: Arrival) -> None:
        upload = self._upload
        if not await self._storage.store.advance(upload.version, upload.position, arrival):
            if arrival.tail is not None:
                await self._storage.blobs.delete([self._key(arrival.tail)])
            raise offset_conflict()
        await self._drop_tail()
        self._upload = replace(upload, position=arrival.position, tail=arrival.tail, tail_size=arrival.tail_size)

    async def _drop_tail(self) -> None:
        if self._upload.tail is not None:
            with contextlib.suppress(BlobStoreError):  # the sweeper finds it
                await self._storage.blobs.delete([self._key(self._upload.tail)])

    def _key(self, version: str) -> str:
        return self._storage.key(self._upload.bucket_id, self._upload.name, version)


async def complete(storage: Storage, caller: Caller, upload: ResumableUpload, target: Upload) -> None:
    """Makes the object of a sealed upload. May be called again after a crash anywhere in it.

    Raises KeyAlreadyExists, and then forgets the upload: its bytes can never become the object.
    """
    version = upload.blob or upload.version
    row = await storage.store.find_object(caller.as_service(), upload.bucket_id, upload.name)
    if row is None or row.version != version:
        blob = written(upload.bucket_id, upload.name, version, await _join(storage, upload, version))
        try:
            await publish(storage, caller, target, blob)
        except StorageError:
            await storage.store.forget_resumable(upload.version)
            raise
    await storage.store.complete_resumable(upload.version)


async def _join(storage: Storage, upload: ResumableUpload, version: str) -> BlobInfo:
    """The bytes as one blob, joined now or by an earlier attempt."""
    key = storage.key(upload.bucket_id, upload.name, version)
    if upload.blob is not None:
        info = await storage.blobs.head(key)
        return BlobInfo(info.size, upload.etag or info.etag, info.last_modified)
    parts = await storage.store.parts_of(upload.version)
    if upload.upload is None:
        raise BlobNotFound
    try:
        return await storage.blobs.finish(key, upload.upload, parts)
    except BlobNotFound:
        info = await storage.blobs.head(key)
        return BlobInfo(info.size, joined_etag(parts), info.last_modified)


async def abandon(storage: Storage, upload: ResumableUpload) -> None:
    """Forgets the bytes and the upload, whatever there is of it. The bytes of a completed one are the object's."""
    if not upload.completed:
        key = storage.key(upload.bucket_id, upload.name, upload.version)
        if upload.upload is not None:
            await storage.blobs.abandon(key, upload.upload)
        leftovers = [name for name in (upload.tail, upload.blob) if name is not None]
        await storage.blobs.delete([storage.key(upload.bucket_id, upload.name, name) for name in leftovers])
    await storage.store.forget_resumable(upload.version)


async def interruptible(exchange: Exchange, asked: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """The request's body, until somebody else wants the upload. Raises TusRefusal then, Aborted if the client left."""
    wanted = asyncio.ensure_future(asked.wait())
    coming: asyncio.Future[bytes | None] | None = None
    async with contextlib.aclosing(exchange.stream()) as stream:
        try:
            while True:
                coming = asyncio.ensure_future(anext(stream, None))
                await asyncio.wait({coming, wanted}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise taken_over()
                chunk = coming.result()
                if chunk is None:
                    return
                yield chunk
        finally:
            wanted.cancel()
            if coming is not None and not coming.done():
                coming.cancel()
                await asyncio.wait({coming})


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
