"""Reading, deleting, moving and copying objects (contract storage.md §3.2, §3.4, §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_platform.blobs import new_version
from socle_platform.db import DatabaseError
from socle_storage.errors import Code, StorageError, access_denied, invalid_request, no_such_bucket, no_such_key
from socle_storage.names import verify_bucket, verify_key
from socle_storage.store import Draft, Move
from socle_storage.uploads import WrittenBlob, discard, publishing, render_moment, written

if TYPE_CHECKING:
    from socle_storage.context import Caller, Storage
    from socle_storage.rows import ObjectRow

_DELETE_BATCH = 500
MAX_DELETES = 1000
_MOVE_ATTEMPTS = 5


async def find_readable(storage: Storage, caller: Caller, bucket: str, name: str) -> ObjectRow:
    """The object, if it may be read: in a public bucket by anyone, else by whom the policies let see its row.

    Raises NoSuchBucket (also to those without a token for a bucket that is not public) or NoSuchKey. Usually one
    statement: a row that the caller sees is readable whatever the bucket is.
    """
    verify_bucket(bucket)
    failed: DatabaseError | None = None
    if caller.authenticated and _is_key(name):
        try:
            row = await storage.store.find_object(caller, bucket, name)
        except DatabaseError as error:  # a policy that fails says nothing about a public bucket
            failed, row = error, None
        if row is not None:
            return row
    found = await storage.store.find_public(caller, bucket, name)
    if found is None or not (found[0] or caller.authenticated):
        raise no_such_bucket()
    verify_key(name)
    public, row = found
    if public and row is not None:
        return row
    if failed is not None and not public:
        raise failed
    raise no_such_key()


async def find_public(storage: Storage, caller: Caller, bucket: str, name: str) -> ObjectRow:
    """The object in a public bucket. Raises NoSuchBucket when the bucket is not public, NoSuchKey."""
    verify_bucket(bucket)
    found = await storage.store.find_public(caller, bucket, name)
    if found is None or not found[0]:
        raise no_such_bucket()
    verify_key(name)
    if found[1] is None:
        raise no_such_key()
    return found[1]


async def delete_one(storage: Storage, caller: Caller, bucket: str, name: str) -> None:
    """Raises NoSuchKey when there is no such object, AccessDenied when it is there and the caller may not delete it."""
    verify_bucket(bucket)
    await storage.store.require_object(caller.as_service(), bucket, name)
    if not await storage.store.delete_object(caller, bucket, name):
        raise access_denied()


async def delete_many(storage: Storage, caller: Caller, bucket: str, names: Sequence[str]) -> list[ObjectRow]:
    """Deletes what the caller may delete, and returns it; the rest is silently left. Raises InvalidRequest."""
    verify_bucket(bucket)
    if storage.settings.hard_limits and len(names) > MAX_DELETES:
        raise invalid_request(f"Bulk object requests are limited to {MAX_DELETES} objects per request.")
    deleted: list[ObjectRow] = []
    for first in range(0, len(names), _DELETE_BATCH):
        deleted += await storage.store.delete_objects(caller, bucket, names[first : first + _DELETE_BATCH])
    return deleted


async def move(storage: Storage, caller: Caller, source: tuple[str, str], target: tuple[str, str]) -> None:
    """Gives an object another name, perhaps in another bucket; id and moment of creation stay.

    Raises NoSuchKey, AccessDenied, ResourceAlreadyExists. A move onto itself changes nothing.
    """
    verify_bucket(source[0])
    verify_bucket(target[0])
    verify_key(target[1])
    way = Move(*source, *target, new_version(), caller.owner)
    await storage.store.probe_move(caller, way)
    if source == target:
        return
    for _ in range(_MOVE_ATTEMPTS):
        row = await storage.store.require_object(caller.as_service(), *source)
        info = await storage.blobs.copy(storage.key(*source, row.version), storage.key(*target, way.new_version))
        blob = written(*target, way.new_version, info)
        if await _move_row(storage, caller, way, row.version, blob):
            return
        await discard(storage, blob)
    raise StorageError(Code.RESOURCE_LOCKED, 423, "The resource is locked")


async def _move_row(storage: Storage, caller: Caller, way: Move, version: str | None, blob: WrittenBlob) -> bool:
    """False when the source was replaced or went away since its bytes were copied."""
    try:
        return await asyncio.shield(storage.store.move(caller, way, version)) is not None
    except DatabaseError:
        await discard(storage, blob)
        raise


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """`copy_metadata` False: `user_metadata` as given; `metadata` (cacheControl, mimetype) where it says something."""

    upsert: bool = False
    copy_metadata: bool = True
    metadata: Mapping[str, str | None] | None = None
    user_metadata: Mapping[str, Any] | None = None


async def copy(
    storage: Storage, caller: Caller, source: tuple[str, str], target: tuple[str, str], options: CopyOptions
) -> ObjectRow:
    """A second object with the same bytes. Raises NoSuchKey, AccessDenied, KeyAlreadyExists."""
    verify_bucket(source[0])
    verify_bucket(target[0])
    verify_key(target[1])
    origin = await storage.store.require_object(caller, *source)
    facts: dict[str, Any] = dict(origin.metadata or {})
    if not options.copy_metadata:
        facts |= {name: value for name, value in (options.metadata or {}).items() if value is not None}
    user_metadata = origin.user_metadata if options.copy_metadata else options.user_metadata
    draft = Draft(*target, caller.owner, facts, user_metadata)
    await storage.store.probe(caller, draft, upsert=options.upsert)
    return await copy_row(storage, caller, origin, draft, upsert=options.upsert)


async def copy_row(storage: Storage, caller: Caller, origin: ObjectRow, draft: Draft, *, upsert: bool) -> ObjectRow:
    """Copies the bytes and writes the row, past row level security: the caller was probed already."""
    version = new_version()
    info = await storage.blobs.copy(
        storage.key(origin.bucket_id, origin.name, origin.version), storage.key(draft.bucket, draft.name, version)
    )
    blob = written(draft.bucket, draft.name, version, info)
    facts = {**(draft.metadata or {}), "lastModified": render_moment(storage.clock.now())}
    facts.setdefault("eTag", info.etag)
    final = Draft(draft.bucket, draft.name, draft.owner, facts, draft.user_metadata, version)
    return await publishing(storage, blob, storage.store.publish_row(caller, final, upsert=upsert))


def _is_key(name: str) -> bool:
    try:
        verify_key(name)
    except StorageError:
        return False
    return True
