"""Buckets: create, list, change, empty, delete (contract storage.md §2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from socle_storage.errors import (
    access_denied,
    bucket_not_empty,
    feature_not_enabled,
    invalid_mime_type,
    invalid_request,
    no_content,
    no_such_bucket,
)
from socle_storage.names import verify_bucket, verify_new_bucket
from socle_storage.rows import Bucket
from socle_storage.sizes import verify_bucket_limit

if TYPE_CHECKING:
    from socle_storage.bodies import Fields
    from socle_storage.context import Caller, Storage
    from socle_storage.store import BucketChange

MAX_TYPE = 1000
_TYPE = re.compile(r"[a-zA-Z0-9.+-]+/[a-zA-Z0-9.+-]+(;\s*charset=[a-zA-Z0-9-]+)?")
_OLD_CLIENT = re.compile(r"supabase-py/(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
_OLD_AGENT = re.compile(r"supabase-py/storage3 v(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)


async def create(storage: Storage, caller: Caller, fields: Fields) -> str:
    """Creates a bucket out of a request body and returns its name. Raises AccessDenied, BucketAlreadyExists, …"""
    name = fields.required_text("name")
    bucket_id = fields.text("id") or name
    kind = fields.choice("type", ("STANDARD", "ANALYTICS"))
    public = fields.boolean("public") or False
    verify_new_bucket(name)
    verify_new_bucket(bucket_id)
    if kind == "ANALYTICS":
        raise feature_not_enabled("Iceberg buckets are not enabled for this tenant")
    bucket = Bucket(
        id=bucket_id,
        name=name,
        public=public,
        file_size_limit=verify_bucket_limit(fields.raw("file_size_limit"), storage.settings.size_limit),
        allowed_mime_types=_mime_types(fields),
    )
    await storage.store.create_bucket(caller, bucket)
    return name


async def get(storage: Storage, caller: Caller, bucket: str) -> Bucket:
    """Raises NoSuchBucket when there is none, or none that the caller sees."""
    found = await storage.store.find_bucket(caller, bucket)
    if found is None:
        raise no_such_bucket()
    return found


async def update(storage: Storage, caller: Caller, bucket: str, fields: Fields) -> None:
    """Changes what the body names: absent is unchanged, null is cleared. Raises NoSuchBucket, AccessDenied, …"""
    from socle_storage.store import BucketChange as Change

    verify_bucket(bucket)
    if not any(name in fields for name in ("public", "file_size_limit", "allowed_mime_types")):
        raise no_content()
    change: BucketChange = Change(
        public=fields.boolean("public"),
        has_size_limit="file_size_limit" in fields,
        file_size_limit=verify_bucket_limit(fields.raw("file_size_limit"), storage.settings.size_limit),
        has_mime_types="allowed_mime_types" in fields,
        allowed_mime_types=_mime_types(fields),
    )
    if not await storage.store.update_bucket(caller, bucket, change):
        raise no_such_bucket()
    storage.known.forget(bucket)


async def delete(storage: Storage, caller: Caller, bucket: str) -> None:
    """Deletes an empty bucket. Raises NoSuchBucket, ResourceNotEmpty, ResourceReferenced, AccessDenied."""
    if await storage.store.find_bucket(caller.as_service(), bucket) is None:
        raise no_such_bucket()
    if await storage.store.count_objects(caller, bucket, 1):
        raise bucket_not_empty()
    if not await storage.store.delete_bucket(caller, bucket):
        raise no_such_bucket()
    storage.known.forget(bucket)


async def empty(storage: Storage, caller: Caller, bucket: str) -> None:
    """Removes every object that is there now. Only for the service role: others are refused with a real 403."""
    if caller.identity.role != "service_role":
        raise access_denied("Access denied: Invalid role").at(403)
    if await storage.store.find_bucket(caller, bucket) is None:
        raise no_such_bucket()
    ceiling = storage.settings.empty_bucket_max
    if await storage.store.count_objects(caller, bucket, ceiling + 1) > ceiling:
        text = "Unable to empty the bucket because it contains too many objects"
        raise invalid_request(text, status=409)
    await storage.store.empty_bucket(caller, bucket)


def knows_type(client_info: str, user_agent: str) -> bool:
    """Whether this client can read `type` in the list of buckets: old Python clients fail on it (contract §2)."""
    return not (_is_before(_OLD_CLIENT, client_info, (2, 18, 0)) or _is_before(_OLD_AGENT, user_agent, (0, 12, 1)))


def _is_before(pattern: re.Pattern[str], text: str, version: Sequence[int]) -> bool:
    match = pattern.search(text)
    return match is not None and tuple(map(int, match.groups())) < tuple(version)


def _mime_types(fields: Fields) -> tuple[str, ...] | None:
    """The list in a body; empty texts are left out, null and absent are None. Raises InvalidMimeType."""
    if "allowed_mime_types" not in fields or fields.is_null("allowed_mime_types"):
        return None
    types = tuple(filter(None, fields.texts("allowed_mime_types")))
    for entry in types:
        if len(entry) > MAX_TYPE or not (entry.endswith("*") or _TYPE.fullmatch(entry)):
            raise invalid_mime_type(entry)
    return types
