"""Lists of keys, whole or by folders: both versions of the protocol's list, and of unfinished uploads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socle_storage.errors import invalid_parameter, no_such_bucket
from socle_storage.names import verify_bucket
from socle_storage.s3api.documents import Node
from socle_storage.store import Page

if TYPE_CHECKING:
    from socle_storage.s3api.call import S3Call

_LAST = "\U0010ffff"
"""Behind every name that begins the same."""
_ROWS = 1000


@dataclass(slots=True)
class Keys:
    """A page: rows of objects, common prefixes, and the last of either if more follow."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    prefixes: list[str] = field(default_factory=list[str])
    next: str | None = None

    @property
    def count(self) -> int:
        return len(self.rows) + len(self.prefixes)


async def list_objects(call: S3Call) -> None:
    """Version 1: goes on behind `marker`."""
    marker, limit = call.query.get("marker", ""), call.whole("max-keys", 1000)
    keys = await find_keys(call, marker, limit)
    nodes: list[Node] = [("Marker", call.shown(marker))]
    if keys.next is not None and call.query.get("delimiter"):
        nodes.append(("NextMarker", call.shown(keys.next)))
    await call.answer("ListBucketResult", [*_common(call, keys, limit), *nodes, *_contents(call, keys)])


async def list_objects_v2(call: S3Call) -> None:
    """Version 2: goes on behind a token of ours, else behind `start-after`."""
    token, start = call.query.get("continuation-token"), call.query.get("start-after", "")
    limit = call.whole("max-keys", 1000)
    keys = await find_keys(call, start if token is None else parse_token(token), limit)
    nodes: list[Node] = [
        ("KeyCount", keys.count),
        ("ContinuationToken", token),
        ("NextContinuationToken", None if keys.next is None else render_token(keys.next)),
        ("StartAfter", call.shown(start) if start else None),
    ]
    await call.answer("ListBucketResult", [*_common(call, keys, limit), *nodes, *_contents(call, keys)])


async def list_versions(call: S3Call) -> None:
    """Every object is its own only version, which tools that purge ask for."""
    marker, limit = call.query.get("key-marker", ""), call.whole("max-keys", 1000)
    keys = await find_keys(call, marker, limit)
    versions: list[Node] = []
    for row in keys.rows:
        facts: list[Node] = [("VersionId", "null"), ("IsLatest", True), *_facts(call, row)]
        versions.append(("Version", facts))
    nodes: list[Node] = [
        ("KeyMarker", call.shown(marker)),
        ("NextKeyMarker", None if keys.next is None else call.shown(keys.next)),
        ("NextVersionIdMarker", None if keys.next is None else "null"),
    ]
    prefixes: list[Node] = [("CommonPrefixes", [("Prefix", call.shown(prefix))]) for prefix in keys.prefixes]
    await call.answer("ListVersionsResult", [*_common(call, keys, limit), *nodes, *versions, *prefixes])


async def find_keys(call: S3Call, after: str, limit: int) -> Keys:
    """At most `limit` keys and common prefixes behind `after`, that the caller sees. Raises NoSuchBucket."""
    await require_bucket(call)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    keys = Keys()
    if not limit:
        return keys
    last = ""
    async for name, common, row in _walk(call, prefix, delimiter, after):
        if keys.count == limit:
            keys.next = last
            return keys
        if common:
            keys.prefixes.append(name)
        else:
            keys.rows.append(row)
        last = name
    return keys


async def _walk(
    call: S3Call, prefix: str, delimiter: str, after: str
) -> AsyncIterator[tuple[str, bool, dict[str, Any]]]:
    """Keys and common prefixes in order; what lies behind a prefix is skipped over, not read."""
    cursor = after + _LAST if delimiter and after.endswith(delimiter) and after.startswith(prefix) else after
    seen = ""
    while True:
        page = Page(call.bucket, prefix, _ROWS, cursor)
        rows = await call.storage.store.list_flat(call.caller, page)
        for row in rows:
            name: str = row["name"]
            common = common_prefix(name, prefix, delimiter)
            if common is None:
                yield name, False, row
            elif common != seen:
                seen = common
                yield common, True, row
        if len(rows) < _ROWS:
            return
        name = rows[-1]["name"]
        common = common_prefix(name, prefix, delimiter)
        cursor = name if common is None else common + _LAST


def common_prefix(name: str, prefix: str, delimiter: str) -> str | None:
    """The part of a name up to the first delimiter behind the prefix, None without one."""
    if not delimiter:
        return None
    at = name.find(delimiter, len(prefix))
    return None if at < 0 else name[: at + len(delimiter)]


async def require_bucket(call: S3Call) -> None:
    """Raises NoSuchBucket when there is none at all."""
    verify_bucket(call.bucket)
    if await call.storage.store.find_bucket(call.caller.as_service(), call.bucket) is None:
        raise no_such_bucket()


def render_token(name: str) -> str:
    """Where a list goes on, as a token."""
    return base64.urlsafe_b64encode(name.encode()).decode()


def parse_token(token: str) -> str:
    """Raises InvalidParameter."""
    try:
        name = base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, ValueError):
        raise invalid_parameter("continuation-token") from None
    if "\0" in name:
        raise invalid_parameter("continuation-token")
    return name


def _common(call: S3Call, keys: Keys, limit: int) -> Sequence[Node]:
    delimiter = call.query.get("delimiter", "")
    return [
        ("Name", call.bucket),
        ("Prefix", call.shown(call.query.get("prefix", ""))),
        ("Delimiter", call.shown(delimiter) if delimiter else None),
        ("EncodingType", "url" if call.encodes else None),
        ("MaxKeys", limit),
        ("IsTruncated", keys.next is not None),
    ]


def _contents(call: S3Call, keys: Keys) -> Sequence[Node]:
    nodes: list[Node] = [("Contents", _facts(call, row)) for row in keys.rows]
    nodes += [("CommonPrefixes", [("Prefix", call.shown(prefix))]) for prefix in keys.prefixes]
    return nodes


def _facts(call: S3Call, row: dict[str, Any]) -> list[Node]:
    facts: dict[str, Any] = row["metadata"] or {}
    return [
        ("Key", call.shown(row["name"])),
        ("LastModified", row["updated_at"]),
        ("ETag", facts.get("eTag")),
        ("Size", facts.get("size", 0)),
        ("StorageClass", "STANDARD"),
    ]


async def list_uploads(call: S3Call) -> None:
    """Unfinished uploads in parts, by key and id."""
    await require_bucket(call)
    limit = call.whole("max-uploads", 1000, minimum=1)
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
    marker, id_marker = call.query.get("key-marker", ""), call.query.get("upload-id-marker", "")
    rows = await call.storage.store.list_multiparts(call.caller, call.bucket, prefix, (marker, id_marker), limit + 1)
    shown: Callable[[str], str] = call.shown
    uploads: list[Node] = []
    prefixes: dict[str, None] = {}
    for row in rows[:limit]:
        common = common_prefix(row.key, prefix, delimiter)
        if common is not None:
            prefixes[common] = None
            continue
        found: list[Node] = [
            ("Key", shown(row.key)),
            ("UploadId", row.id),
            ("StorageClass", "STANDARD"),
            ("Initiated", row.begun),
        ]
        uploads.append(("Upload", found))
    more = len(rows) > limit
    nodes: list[Node] = [
        ("Bucket", call.bucket),
        ("KeyMarker", shown(marker)),
        ("UploadIdMarker", id_marker),
        ("NextKeyMarker", shown(rows[limit - 1].key) if more else None),
        ("NextUploadIdMarker", rows[limit - 1].id if more else None),
        ("Prefix", shown(prefix)),
        ("Delimiter", shown(delimiter) if delimiter else None),
        ("EncodingType", "url" if call.encodes else None),
        ("MaxUploads", limit),
        ("IsTruncated", more),
        *uploads,
        *(("CommonPrefixes", [("Prefix", shown(each))]) for each in prefixes),
    ]
    await call.answer("ListMultipartUploadsResult", nodes)
