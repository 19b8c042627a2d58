"""An upload as an HTTP request, raw or as a form, through the write path (contract storage.md §3.1)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from socle_storage.errors import StorageError, invalid_content_type, too_large
from socle_storage.forms import MAX_FIELD, Form, FormReader
from socle_storage.robots import verify_robots_tag
from socle_storage.uploads import (
    DEFAULT_TYPE,
    Upload,
    discard,
    find_target,
    probe,
    publish,
    receive,
    size_limit,
    verify_type,
)

if TYPE_CHECKING:
    from socle_storage.context import Caller, Storage
    from socle_storage.rows import Bucket
    from socle_storage.store import Published
    from socle_storage.wire import Exchange

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+\s*(;.*)?", re.ASCII | re.DOTALL)


async def take_upload(
    storage: Storage,
    exchange: Exchange,
    caller: Caller,
    target: tuple[str, str],
    *,
    owner: str | None,
    upsert: bool,
) -> Published:
    """Stores the request's body as the object and returns where it is.

    Raises NoSuchBucket, InvalidKey, InvalidMimeType, EntityTooLarge, AccessDenied, KeyAlreadyExists, InvalidRequest,
    Aborted; then nothing was kept.
    """
    content_type = exchange.header("content-type") or DEFAULT_TYPE
    if not _MEDIA_TYPE.fullmatch(content_type.strip()):
        raise invalid_content_type()
    robots_tag = exchange.header("x-robots-tag") or None
    if robots_tag:
        verify_robots_tag(robots_tag)
    upload = Upload(
        *target,
        owner=owner,
        upsert=upsert,
        mimetype=content_type,
        cache_control=exchange.header("cache-control") or "no-cache",
        content_length=exchange.content_length,
        user_metadata=parse_metadata_header(exchange.header("x-metadata")),
        robots_tag=robots_tag,
    )
    if content_type.startswith("multipart/form-data"):
        return await _take_form(storage, exchange, caller, upload)
    return await _take_raw(storage, exchange, caller, upload)


async def _take_raw(storage: Storage, exchange: Exchange, caller: Caller, upload: Upload) -> Published:
    limit = await _admit(storage, caller, upload, upload.content_length)
    await probe(storage, caller, upload)
    async with contextlib.aclosing(exchange.stream()) as stream:
        blob = await receive(storage, upload.bucket, upload.name, stream, limit=limit)
    return await publish(storage, caller, upload, blob)


async def _take_form(storage: Storage, exchange: Exchange, caller: Caller, upload: Upload) -> Published:
    await find_target(storage, caller, upload.bucket, upload.name)
    async with contextlib.aclosing(exchange.stream()) as stream:
        reader = FormReader(upload.mimetype, stream)
        before = _described(upload, await reader.start())
        limit = await _admit(storage, caller, before)
        await probe(storage, caller, before)
        async with contextlib.aclosing(reader.file()) as file:
            blob = await receive(storage, upload.bucket, upload.name, file, limit=limit)
    after = _described(upload, reader.form)
    if reader.form.late and after.draft() != before.draft():
        try:
            await _admit(storage, caller, after)
            await probe(storage, caller, after)
        except Exception:
            await discard(storage, blob)
            raise
    return await publish(storage, caller, after, blob)


async def _admit(storage: Storage, caller: Caller, upload: Upload, size: int | None = None) -> int:
    """Bytes that the upload may have. Raises NoSuchBucket, InvalidMimeType, or EntityTooLarge for the declared `size`.

    What a remembered bucket refuses is asked of its row once more.
    """
    bucket = await find_target(storage, caller, upload.bucket, upload.name)
    try:
        return _limit(storage, bucket, upload, size)
    except StorageError:
        bucket = await find_target(storage, caller, upload.bucket, upload.name, afresh=True)
        return _limit(storage, bucket, upload, size)


def _limit(storage: Storage, bucket: Bucket, upload: Upload, size: int | None) -> int:
    verify_type(bucket, upload.name, upload.mimetype)
    limit = size_limit(storage, bucket, upload.name)
    if size is not None and size > limit:
        raise too_large()
    return limit


def _described(upload: Upload, form: Form) -> Upload:
    """The upload as the form's fields describe it."""
    seconds = form.fields.get("cacheControl")
    text = form.fields.get("metadata", form.fields.get("userMetadata"))
    return replace(
        upload,
        mimetype=form.fields.get("contentType") or form.mimetype or DEFAULT_TYPE,
        cache_control=f"max-age={seconds}" if seconds else "no-cache",
        user_metadata=None if text is None else parse_metadata(text),
    )


def parse_metadata_header(value: str | None) -> Mapping[str, Any] | None:
    """User metadata out of `x-metadata`: base64 of JSON. A bad value is ignored. Raises EntityTooLarge."""
    if value is None:
        return None
    try:
        text = base64.b64decode(value + "=" * (-len(value) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return parse_metadata(text)


def parse_metadata(text: str) -> Mapping[str, Any] | None:
    """User metadata: a JSON object. Anything else is ignored. Raises EntityTooLarge beyond 1 MiB."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_FIELD:
        raise too_large("user_metadata")
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
