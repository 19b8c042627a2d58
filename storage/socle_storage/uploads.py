"""The one way that bytes become an object, for every protocol: probe, receive, publish.

    verify   bucket and name exist and are well formed, type and declared size are allowed
    probe    the caller's own INSERT or upsert, rolled back: no byte is stored for somebody who may not
    receive  the stream into a new version, counted and hashed on the way; durable when it returns
    publish  the row, as the service: from that moment readers get the new version

A crash before `publish` leaves bytes without a row, which the sweeper removes; there is never a row without bytes. The
trigger on storage.objects puts the replaced version on the sweeper's list in the same transaction.
Contract storage.md §3.1, §5, §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from socle_platform.blobs import BlobNotFound, BlobStoreError, new_version
from socle_platform.db import DatabaseError
from socle_storage.errors import (
    StorageError,
    invalid_mime_type,
    no_such_bucket,
    related_missing,
    too_large,
    translate,
)
from socle_storage.names import is_placeholder, verify_bucket, verify_key
from socle_storage.store import Draft

if TYPE_CHECKING:
    from socle_platform.ports import BlobInfo, Hasher
    from socle_storage.context import Caller, Storage
    from socle_storage.rows import Bucket
    from socle_storage.store import Published

_T = TypeVar("_T")
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Upload:
    """What is about to be stored, as far as it is known before the bytes.

    `owner` is the `sub` of the token. `content_length` is what the client declared (policies see it), never a limit.
    """

    bucket: str
    name: str
    owner: str | None
    upsert: bool
    mimetype: str = DEFAULT_TYPE
    cache_control: str = "no-cache"
    content_length: int | None = None
    user_metadata: Mapping[str, Any] | None = None
    robots_tag: str | None = None

    def draft(self) -> Draft:
        """The row that the probe writes."""
        metadata: dict[str, Any] = {"mimetype": self.mimetype}
        if self.content_length is not None:
            metadata["contentLength"] = self.content_length
        return Draft(self.bucket, self.name, self.owner, metadata, self.user_metadata)


@dataclass(frozen=True, slots=True)
class WrittenBlob:
    """Bytes that are stored durably and belong to no row yet. ETag with quotes; size in bytes."""

    bucket: str
    name: str
    version: str
    size: int
    etag: str
    last_modified: datetime


async def find_target(storage: Storage, caller: Caller, bucket: str, name: str, *, afresh: bool = False) -> Bucket:
    """The bucket to store into, past row level security. Raises InvalidBucketName, InvalidKey, NoSuchBucket.

    It may be up to a second old unless `afresh`.
    """
    verify_bucket(bucket)
    found = None if afresh else storage.known.get(bucket)
    if found is None:
        found = await storage.store.find_bucket(caller.as_service(), bucket)
        if found is None:
            raise no_such_bucket()
        storage.known.remember(found)
    verify_key(name)
    return found


def single_limit(storage: Storage, bucket: Bucket, name: str) -> int:
    """Bytes that the object may have when the S3 protocol sends it in one request."""
    limit = size_limit(storage, bucket, name, standard=False)
    return min(limit, storage.settings.standard_limit or limit)


def size_limit(storage: Storage, bucket: Bucket, name: str, *, standard: bool = True) -> int:
    """Bytes that the object may have. `standard`: a plain upload, which may have a lower ceiling of its own."""
    if is_placeholder(name):
        return 0
    limits = [storage.settings.size_limit]
    if bucket.file_size_limit is not None and (standard or bucket.file_size_limit):
        limits.append(bucket.file_size_limit)
    if standard and storage.settings.standard_limit:
        limits.append(storage.settings.standard_limit)
    return min(limits)


def verify_type(bucket: Bucket, name: str, mimetype: str) -> None:
    """Raises InvalidMimeType unless the bucket takes it; a bucket without a list takes everything.

    The raw header is split at `/`, so `image/png;charset=x` is not `image/png` (contract §2).
    """
    allowed = bucket.allowed_mime_types
    if not allowed or is_placeholder(name):
        return
    major, slash, minor = mimetype.partition("/")
    minor = minor.partition("/")[0]
    for entry in allowed:
        wanted, _, ending = entry.partition("/")
        if slash and (entry == "*" or (wanted == major and ending.partition("/")[0] in {"*", minor})):
            return
    raise invalid_mime_type(mimetype)


async def probe(storage: Storage, caller: Caller, upload: Upload) -> None:
    """May this caller store this here? Raises AccessDenied, KeyAlreadyExists or NoSuchBucket. Nothing is kept."""
    try:
        await storage.store.probe(caller, upload.draft(), upsert=upload.upsert)
    except (DatabaseError, StorageError) as error:
        if translate(error).message != related_missing().message or storage.known.get(upload.bucket) is None:
            raise
        storage.known.forget(upload.bucket)
        raise no_such_bucket() from error


async def receive(
    storage: Storage,
    bucket: str,
    name: str,
    stream: AsyncIterable[bytes],
    *,
    limit: int,
    hashers: Sequence[Hasher] = (),
) -> WrittenBlob:
    """Stores the stream as a new version. Raises EntityTooLarge beyond `limit` bytes; then nothing is kept.

    Whatever the stream raises passes through, and nothing is kept.
    """
    version = new_version()
    key = storage.key(bucket, name, version)
    try:
        async with storage.blobs.writer(key, hashers=hashers) as writer:
            async for chunk in limited(stream, limit):
                await writer.write(chunk)
            info = await writer.commit()
    except BlobNotFound as error:
        raise BlobStoreError("The storage folder is not complete.") from error
    return written(bucket, name, version, info)


def written(bucket: str, name: str, version: str, info: BlobInfo) -> WrittenBlob:
    """The bytes under the key of that version, stored some other way (parts, a copy)."""
    return WrittenBlob(bucket, name, version, info.size, info.etag, info.last_modified)


async def limited(stream: AsyncIterable[bytes], limit: int) -> AsyncIterator[bytes]:
    """The stream, as long as it stays within `limit` bytes. Raises EntityTooLarge."""
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > limit:
            raise too_large()
        yield chunk


async def publish(storage: Storage, caller: Caller, upload: Upload, blob: WrittenBlob) -> Published:
    """Makes the bytes the object. Finishes even when the caller goes away. Raises KeyAlreadyExists without `upsert`."""
    facts, own = facts_of(upload, blob), upload.user_metadata or {}
    draft = Draft(upload.bucket, upload.name, upload.owner, facts, own, blob.version)
    return await publishing(storage, blob, storage.store.publish(caller, draft, upsert=upload.upsert))


async def publishing(storage: Storage, blob: WrittenBlob, write: Coroutine[Any, Any, _T]) -> _T:
    """Writes the row of bytes just written; forgets the bytes if PostgreSQL says no.

    When no answer comes the row may exist: the bytes stay, and the sweeper decides.
    """
    try:
        return await asyncio.shield(write)
    except (DatabaseError, StorageError):
        await discard(storage, blob)
        raise


async def discard(storage: Storage, blob: WrittenBlob) -> None:
    """Forgets bytes that will have no row."""
    await storage.blobs.delete([storage.key(blob.bucket, blob.name, blob.version)])


def facts_of(upload: Upload, blob: WrittenBlob) -> dict[str, Any]:
    """The `metadata` of the row (contract §3.1)."""
    facts: dict[str, Any] = {
        "eTag": blob.etag,
        "size": blob.size,
        "mimetype": upload.mimetype,
        "cacheControl": upload.cache_control,
        "lastModified": render_moment(blob.last_modified),
        "contentLength": blob.size,
        "httpStatusCode": 200,
    }
    if upload.robots_tag is not None:
        facts["xRobotsTag"] = upload.robots_tag
    return facts


def render_moment(moment: datetime) -> str:
    """ISO 8601, UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
