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

from socle_storage.errors import invalid_content_type, too_large
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
    from socle_storage.rows import Bucket, ObjectRow
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
) -> ObjectRow:
    """Stores the request's body as the object and returns its row.

    Raises NoSuchBucket, InvalidKey, InvalidMimeType, EntityTooLarge, AccessDenied, KeyAlreadyExists, InvalidRequest,
    Aborted; then nothing was kept.
    """
    content_type = exchange.header("content-type") or DEFAULT_TYPE
    if not _MEDIA_TYPE.fullmatch(content_type.strip()):
        raise invalid_content_type()
    robots_tag = exchange.header("x-robots-tag")
    if robots_tag is not None:
        verify_robots_tag(robots_tag)
    bucket = await find_target(storage, caller, *target)
    upload = Upload(
        *target,
        owner=owner,
        upsert=upsert,
        mimetype=content_type,
        content_length=exchange.content_length,
        robots_tag=robots_tag,
    )
    if content_type.startswith("multipart/form-data"):
        return await _take_form(storage, exchange, caller, bucket, upload)
    return await _take_raw(storage, exchange, caller, bucket, upload)


async def _take_raw(storage: Storage, exchange: Exchange, caller: Caller, bucket: Bucket, upload: Upload) -> ObjectRow:
    verify_type(bucket, upload.name, upload.mimetype)
    limit = size_limit(storage, bucket, upload.name)
    if upload.content_length is not None and upload.content_length > limit:
        raise too_large()
    upload = replace(
        upload,
        cache_control=exchange.header("cache-control") or "no-cache",
        user_metadata=parse_metadata_header(exchange.header("x-metadata")),
    )
    await probe(storage, caller, upload)
    async with contextlib.aclosing(exchange.stream()) as stream:
        blob = await receive(storage, upload.bucket, upload.name, stream, limit=limit)
    return await publish(storage, caller, upload, blob)


async def _take_form(storage: Storage, exchange: Exchange, caller: Caller, bucket: Bucket, upload: Upload) -> ObjectRow:
    limit = size_limit(storage, bucket, upload.name)
    async with contextlib.aclosing(exchange.stream()) as stream:
        reader = FormReader(upload.mimetype, stream)
        before = _described(upload, await reader.start())
        verify_type(bucket, upload.name, before.mimetype)
        await probe(storage, caller, before)
        async with contextlib.aclosing(reader.file()) as file:
            blob = await receive(storage, upload.bucket, upload.name, file, limit=limit)
    after = _described(upload, reader.form)
    if reader.form.late and after.draft() != before.draft():
        try:
            verify_type(bucket, upload.name, after.mimetype)
            await probe(storage, caller, after)
        except Exception:
            await discard(storage, blob)
            raise
    return await publish(storage, caller, after, blob)


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
