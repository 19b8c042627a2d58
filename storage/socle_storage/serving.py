"""Sending the bytes of an object, or only their headers, as a CDN wants it (contract storage.md §3.2).

The row says what the bytes are; the blob store is asked for them only when they are sent.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from socle_platform.errors import WireResponse
from socle_storage.caching import (
    Conditions,
    cache_control,
    is_range_current,
    is_unchanged,
    parse_moment,
    render_http_date,
)
from socle_storage.ranges import ByteRange, parse_ranges
from socle_storage.robots import is_robots_tag

if TYPE_CHECKING:
    from socle_storage.context import Storage
    from socle_storage.rows import ObjectRow
    from socle_storage.wire import Exchange

_SCRIPTABLE = ("image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml")
_URI_COMPONENT_SAFE = "-_.!~*'()"


@dataclass(frozen=True, slots=True)
class Asset:
    """What is served: the facts of the bytes, from the row (or from the store for rows that do not know)."""

    key: str
    size: int
    etag: str | None
    modified: datetime | None
    mimetype: str
    cache_control: str | None
    robots_tag: str | None


@dataclass(frozen=True, slots=True)
class Presentation:
    """How the caller wants it: `download` None is inline, "" an attachment, else one under that name.

    `expires`: the end of a signed URL, which takes the place of Cache-Control.
    """

    download: str | None = None
    expires: datetime | None = None


async def load_asset(storage: Storage, row: ObjectRow) -> Asset:
    """Raises BlobNotFound when the row does not know its bytes and the store has none."""
    key = storage.key(row.bucket_id, row.name, row.version)
    size, etag, modified = row.size, row.etag, parse_moment(row.last_modified)
    if size is None or etag is None:
        info = await storage.blobs.head(key)
        size, etag, modified = info.size, etag or info.etag, modified or info.last_modified
    return Asset(
        key=key,
        size=size,
        etag=etag,
        modified=modified,
        mimetype=row.mimetype or "application/octet-stream",
        cache_control=row.cache_control or "no-cache",
        robots_tag=row.robots_tag,
    )


async def serve(storage: Storage, exchange: Exchange, row: ObjectRow, presentation: Presentation) -> None:
    """Answers GET or HEAD with the object. Raises InvalidRange, BlobNotFound; then nothing was sent yet."""
    asset = await load_asset(storage, row)
    conditions = Conditions(
        exchange.header("if-none-match"), exchange.header("if-modified-since"), exchange.header("if-range")
    )
    headers = render_headers(storage, exchange, asset, presentation)
    if is_unchanged(conditions, asset.etag, asset.modified):
        kept = [pair for pair in headers if pair[0] in {"etag", "cache-control", "expires", "last-modified"}]
        await exchange.respond(WireResponse(304, tuple(kept)))
        return
    if exchange.method == "HEAD":
        await exchange.start(200, [*headers, ("content-length", str(asset.size))])
        await exchange.write(b"", more=False)
        return
    asked = exchange.header("range")
    if asked is None or not is_range_current(conditions, asset.etag, asset.modified):
        await _send(storage, exchange, asset, 200, headers, ByteRange(0, asset.size))
        return
    ranges = parse_ranges(asked, asset.size)
    if len(ranges) == 1:
        partial = [*headers, ("content-range", ranges[0].render(asset.size))]
        await _send(storage, exchange, asset, 206, partial, ranges[0])
    else:
        await _send_several(storage, exchange, asset, headers, ranges)


def render_headers(
    storage: Storage, exchange: Exchange, asset: Asset, presentation: Presentation
) -> list[tuple[str, str]]:
    """What every answer says about the object, its length apart."""
    headers = [
        ("accept-ranges", "bytes"),
        ("content-type", inert_type(asset.mimetype)),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", asset.robots_tag if asset.robots_tag and is_robots_tag(asset.robots_tag) else "none"),
    ]
    if asset.mimetype.partition(";")[0].strip().lower() in _SCRIPTABLE:
        headers.append(("content-security-policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'"))
    if asset.etag is not None:
        headers.append(("etag", asset.etag))
    if asset.modified is not None:
        headers.append(("last-modified", render_http_date(asset.modified)))
    if presentation.expires is not None:
        headers.append(("expires", render_http_date(presentation.expires)))
    else:
        asked = next(filter(None, map(exchange.header, storage.settings.etag_headers)), None)
        shared = storage.settings.shared_max_age
        head = exchange.method == "HEAD"
        value = cache_control(asset.cache_control, asked, asset.etag, shared_max_age=shared, head=head)
        if value:
            headers.append(("cache-control", value))
    if presentation.download is not None:
        headers.append(("content-disposition", render_disposition(presentation.download)))
    return headers


def inert_type(mimetype: str) -> str:
    """The content type to serve: a page of HTML is shown as text, so that it can do nothing."""
    return "text/plain" if "text/html" in mimetype.lower() else mimetype


def render_disposition(download: str) -> str:
    """The value of Content-Disposition (RFC 5987) for `?download=`."""
    if not download:
        return "attachment;"
    encoded = quote(download, safe=_URI_COMPONENT_SAFE, errors="replace")
    return f"attachment; filename={encoded}; filename*=UTF-8''{encoded}"


async def _send(
    storage: Storage,
    exchange: Exchange,
    asset: Asset,
    status: int,
    headers: list[tuple[str, str]],
    wanted: ByteRange,
) -> None:
    async with contextlib.aclosing(storage.blobs.read(asset.key, wanted.start, wanted.end)) as chunks:
        first = await anext(chunks, b"")
        await exchange.start(status, [*headers, ("content-length", str(wanted.length))])
        is_all = len(first) >= wanted.length
        await exchange.write(first, more=not is_all)
        del first  # a slow reader may keep the rest of this waiting for long
        if not is_all:
            await _pump(exchange, chunks)
            await exchange.write(b"", more=False)


async def _pump(exchange: Exchange, chunks: AsyncGenerator[bytes, None]) -> None:
    """Sends until the end or until nobody listens any more."""
    gone = exchange.watch_disconnect()
    try:
        async for chunk in chunks:
            if gone.done():
                return
            await exchange.write(chunk)
    finally:
        gone.cancel()


async def _send_several(
    storage: Storage,
    exchange: Exchange,
    asset: Asset,
    headers: list[tuple[str, str]],
    ranges: Sequence[ByteRange],
) -> None:
    """A multipart/byteranges answer (RFC 9110 §14.6)."""
    boundary = uuid.uuid4().hex
    kind = dict(headers)["content-type"]
    heads = [
        f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {each.render(asset.size)}\r\n\r\n".encode(
            "latin-1"
        )
        for each in ranges
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(each.length for each in ranges) + len(tail)
    kept = [pair for pair in headers if pair[0] != "content-type"]
    kept += [("content-type", f"multipart/byteranges; boundary={boundary}"), ("content-length", str(length))]
    await storage.blobs.head(asset.key)
    await exchange.start(206, kept)
    for each, head in zip(ranges, heads, strict=True):
        async with contextlib.aclosing(storage.blobs.read(asset.key, each.start, each.end)) as chunks:
            await exchange.write(head)
            async for chunk in chunks:
                await exchange.write(chunk)
    await exchange.write(tail, more=False)
