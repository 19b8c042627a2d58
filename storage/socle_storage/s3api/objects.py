"""Operations on single objects, and the deletion of many."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from socle_platform.errors import WireResponse
from socle_storage import objects
from socle_storage.caching import Conditions, is_range_current, is_unchanged, parse_moment, parse_tags, render_http_date
from socle_storage.errors import Code, StorageError, invalid_range, no_such_bucket, no_such_key, too_large
from socle_storage.names import PLACEHOLDER, verify_bucket, verify_key
from socle_storage.objects import CopyOptions
from socle_storage.ranges import ByteRange, parse_ranges
from socle_storage.s3api.call import S3Call, metadata_headers
from socle_storage.s3api.documents import MAX_DOCUMENT, Node, parse_document
from socle_storage.s3api.errors import malformed_xml, precondition_failed
from socle_storage.s3api.payload import open_payload, read_document
from socle_storage.serving import Asset, load_asset
from socle_storage.uploads import (
    DEFAULT_TYPE,
    Upload,
    discard,
    find_target,
    probe,
    publish,
    receive,
    single_limit,
    verify_type,
)

if TYPE_CHECKING:
    from datetime import datetime

    from socle_storage.context import Caller
    from socle_storage.rows import ObjectRow

MAX_DELETES = 1000
_OVERRIDES = {
    "response-content-type": "content-type",
    "response-content-disposition": "content-disposition",
    "response-cache-control": "cache-control",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-expires": "expires",
}


async def put_object(call: S3Call) -> None:
    """Stores the body. `If-None-Match: *` only where there is no such object yet.

    An empty body under a name that ends in a slash is a folder, which is marked as everywhere in the service.
    """
    storage, caller = call.storage, call.caller
    payload = open_payload(call.exchange, call.signer)
    key = f"{call.key}{PLACEHOLDER}" if call.key.endswith("/") and not payload.size else call.key
    bucket = await find_target(storage, caller, call.bucket, key)
    upload = Upload(
        call.bucket,
        key,
        owner=caller.owner,
        upsert=call.header("if-none-match") != "*",
        mimetype=call.header("content-type") or DEFAULT_TYPE,
        cache_control=call.header("cache-control") or "no-cache",
        content_length=payload.size,
        user_metadata=call.user_metadata,
    )
    verify_type(bucket, key, upload.mimetype)
    limit = single_limit(storage, bucket, key)
    if payload.size > limit:
        raise too_large()
    with _conditionally(upload.upsert):
        await probe(storage, caller, upload)
        async with contextlib.aclosing(payload.stream()) as stream:
            blob = await receive(storage, call.bucket, key, stream, limit=limit, hashers=payload.hashers)
        try:
            payload.verify()
        except StorageError:
            await discard(storage, blob)
            raise
        await publish(storage, caller, upload, blob)
    await call.done(200, [("etag", blob.etag)])


@contextlib.contextmanager
def _conditionally(upsert: bool) -> Generator[None]:
    """Without `upsert`, an object that is there already is a failed condition."""
    try:
        yield
    except StorageError as error:
        if not upsert and error.code is Code.KEY_ALREADY_EXISTS:
            raise precondition_failed() from error
        raise


async def get_object(call: S3Call) -> None:
    """The bytes, or one range of them; HEAD without them."""
    row = await _find(call, call.caller)
    asset = await load_asset(call.storage, row)
    headers = _headers(call, row, asset)
    _verify_conditions(call, asset)
    conditions = Conditions(call.header("if-none-match"), call.header("if-modified-since"), call.header("if-range"))
    if is_unchanged(conditions, asset.etag, asset.modified):
        kept = [pair for pair in headers if pair[0] in {"etag", "last-modified", "cache-control"}]
        await call.exchange.respond(WireResponse(304, tuple(kept)))
        return
    part = _range(call, conditions, asset)
    status = 200 if part is None else 206
    wanted = part or ByteRange(0, asset.size)
    if part is not None:
        headers.append(("content-range", part.render(asset.size)))
    headers.append(("content-length", str(wanted.length)))
    if call.exchange.method == "HEAD":
        await call.exchange.start(status, headers)
        await call.exchange.write(b"", more=False)
        return
    async with contextlib.aclosing(call.storage.blobs.read(asset.key, wanted.start, wanted.end)) as chunks:
        first = await anext(chunks, b"")
        await call.exchange.start(status, headers)
        await call.exchange.write(first)
        async for chunk in chunks:
            await call.exchange.write(chunk)
        await call.exchange.write(b"", more=False)


def _headers(call: S3Call, row: ObjectRow, asset: Asset) -> list[tuple[str, str]]:
    """As stored, or as the query overrides it. A presigned page can do nothing in the browser that opens it."""
    values = {
        "accept-ranges": "bytes",
        "content-type": asset.mimetype,
        "cache-control": asset.cache_control or "",
        "etag": asset.etag or "",
        "last-modified": render_http_date(asset.modified) if asset.modified is not None else "",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
    }
    values |= {name: call.query[key] for key, name in _OVERRIDES.items() if key in call.query}
    return [*((name, value) for name, value in values.items() if value), *metadata_headers(row.user_metadata)]


def _verify_conditions(call: S3Call, asset: Asset) -> None:
    """If-Match and If-Unmodified-Since. Raises PreconditionFailed."""
    match, since = call.header("if-match"), parse_moment(call.header("if-unmodified-since"))
    if match is not None:
        if not _matches(match, asset.etag):
            raise precondition_failed()
    elif since is not None and _is_newer(asset.modified, since):
        raise precondition_failed()


def _matches(wanted: str, etag: str | None) -> bool:
    tags = {tag.strip('"') for tag in parse_tags(wanted)}
    return wanted.strip() == "*" or (etag is not None and etag.strip('"') in tags)


def _is_newer(modified: datetime | None, moment: datetime) -> bool:
    return modified is not None and modified.replace(microsecond=0) > moment


def _range(call: S3Call, conditions: Conditions, asset: Asset) -> ByteRange | None:
    """The one range asked for; several, or nonsense, are the whole object. Raises InvalidRange beyond its end."""
    asked = call.header("range")
    if asked is None or not is_range_current(conditions, asset.etag, asset.modified):
        return None
    if not asked.strip().startswith("bytes=") or "," in asked:
        return None
    return parse_ranges(asked, asset.size)[0]


async def _find(call: S3Call, caller: Caller) -> ObjectRow:
    """The object, as the caller sees it. Raises NoSuchBucket, InvalidKey, NoSuchKey."""
    verify_bucket(call.bucket)
    verify_key(call.key)
    row = await call.storage.store.find_object(caller, call.bucket, call.key)
    if row is not None:
        return row
    if await call.storage.store.find_bucket(caller.as_service(), call.bucket) is None:
        raise no_such_bucket()
    raise no_such_key()


async def get_tagging(call: S3Call) -> None:
    await _find(call, call.caller)
    await call.answer("Tagging", [("TagSet", [])])


async def delete_object(call: S3Call) -> None:
    """What is not there is deleted already."""
    try:
        await objects.delete_one(call.storage, call.caller, call.bucket, call.key)
    except StorageError as error:
        if error.code is not Code.NO_SUCH_KEY:
            raise
        if await call.storage.store.find_bucket(call.caller.as_service(), call.bucket) is None:
            raise no_such_bucket() from error
    await call.done(204)


async def delete_objects(call: S3Call) -> None:
    """Deletes what the caller may, and says for each name what became of it."""
    body = await read_document(call.exchange, call.signer, MAX_DOCUMENT)
    root = parse_document(body, "Delete")
    names = [element.findtext("Key") or "" for element in root.iterfind("Object")]
    if not names or not all(names) or len(names) > MAX_DELETES:
        raise malformed_xml()
    verify_bucket(call.bucket)
    if await call.storage.store.find_bucket(call.caller.as_service(), call.bucket) is None:
        raise no_such_bucket()
    rows = await objects.delete_many(call.storage, call.caller, call.bucket, names)
    deleted = {row.name for row in rows}
    rest = [name for name in names if name not in deleted]
    kept = await call.storage.store.visible_names(call.caller.as_service(), call.bucket, rest)
    quiet = (root.findtext("Quiet") or "").strip().lower() == "true"
    nodes: list[Node] = []
    for name in dict.fromkeys(names):
        if name in kept:
            nodes.append(("Error", [("Key", name), ("Code", "AccessDenied"), ("Message", "Access Denied")]))
        elif not quiet:
            nodes.append(("Deleted", [("Key", name)]))
    await call.answer("DeleteResult", nodes)


async def copy_object(call: S3Call) -> None:
    """A copy of the object that `x-amz-copy-source` names, under its conditions."""
    source = parse_source(call.header("x-amz-copy-source") or "")
    await verify_source(call, source)
    replaces = (call.header("x-amz-metadata-directive") or "COPY").upper() == "REPLACE"
    given: Mapping[str, str | None] = {
        "mimetype": call.header("content-type") or DEFAULT_TYPE,
        "cacheControl": call.header("cache-control") or "no-cache",
    }
    options = CopyOptions(
        upsert=True, copy_metadata=not replaces, metadata=given, user_metadata=call.user_metadata if replaces else None
    )
    await find_target(call.storage, call.caller, call.bucket, call.key)
    row = await objects.copy(call.storage, call.caller, source, (call.bucket, call.key), options)
    await call.answer("CopyObjectResult", [("LastModified", row.updated_at), ("ETag", row.etag)])


def parse_source(text: str) -> tuple[str, str]:
    """Bucket and key of a copy source. Raises InvalidKey and its kind."""
    path = unquote(text.partition("?")[0]).removeprefix("/")
    bucket, _, key = path.partition("/")
    return verify_bucket(bucket), verify_key(key)


async def verify_source(call: S3Call, source: tuple[str, str]) -> Asset:
    """The source of a copy, if its conditions hold. Raises NoSuchKey, PreconditionFailed."""
    row = await call.storage.store.require_object(call.caller, *source)
    asset = await load_asset(call.storage, row)
    match, none_match = call.header("x-amz-copy-source-if-match"), call.header("x-amz-copy-source-if-none-match")
    since = parse_moment(call.header("x-amz-copy-source-if-modified-since"))
    until = parse_moment(call.header("x-amz-copy-source-if-unmodified-since"))
    if match is not None and not _matches(match, asset.etag):
        raise precondition_failed()
    if none_match is not None and _matches(none_match, asset.etag):
        raise precondition_failed()
    if since is not None and none_match is None and not _is_newer(asset.modified, since):
        raise precondition_failed()
    if until is not None and match is None and _is_newer(asset.modified, until):
        raise precondition_failed()
    return asset


def parse_source_range(text: str | None, size: int) -> ByteRange:
    """`x-amz-copy-source-range`: both ends are given, and within the source. Raises InvalidRange."""
    if text is None:
        return ByteRange(0, size)
    ranges = parse_ranges(text, size)
    if len(ranges) != 1 or not text.strip().endswith(f"-{ranges[0].end - 1}"):
        raise invalid_range()
    return ranges[0]
