"""`/render/image/…`: an object as an image of another size or format (contract storage.md §4)."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from socle_platform.errors import WireResponse
from socle_storage import objects, signing
from socle_storage.caching import Conditions, is_unchanged
from socle_storage.errors import Code, StorageError, invalid_request
from socle_storage.handlers import Auth, Call, Route, require_token
from socle_storage.images.cache import ImageCache
from socle_storage.images.rendering import Bounds, ImageTooLarge, ImageUnreadable, Rendered, render
from socle_storage.serving import Asset, Presentation, load_asset, render_headers, serve
from socle_storage.transforms import Transform, parse_signed, parse_transform

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_storage.context import Storage
    from socle_storage.rows import ObjectRow

_SVG = "image/svg+xml"
_FILE_TOO_LARGE = "The source image file is too large to process"


class Images:
    """The routes, their worker threads and their cache, for the life of the application."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings.images
        self._bounds = Bounds(settings.images.max_source_pixels, settings.images.max_frames)
        self._cache = ImageCache(cache_folder(settings), settings.images.cache_bytes)
        self._threads = ThreadPoolExecutor(settings.images.workers, thread_name_prefix="socle-image")
        self._turn = asyncio.Semaphore(2 * settings.images.workers)
        self._running: dict[tuple[str, ...], asyncio.Task[Rendered]] = {}

    def routes(self) -> Mapping[tuple[str, tuple[str, ...], int], Route]:
        """The routes; none when images are switched off, so that they are unknown."""
        if not self._settings.enabled:
            return {}
        place, operation = ("render", "image"), "storage.render.image_"
        return {
            ("GET", (*place, "public"), 2): Route(self.render_public, operation + "public", Auth.NONE),
            ("GET", (*place, "authenticated"), 2): Route(self.render_authenticated, operation + "authenticated"),
            ("GET", (*place, "sign"), 2): Route(self.render_signed, operation + "sign", Auth.NONE),
        }

    async def render_public(self, call: Call) -> None:
        transform = parse_transform(call.query(), self._settings)
        row = await objects.find_public(call.storage, call.caller, *call.target)
        await self._answer(call, row, transform, Presentation(call.exchange.query.get("download")))

    async def render_authenticated(self, call: Call) -> None:
        transform = parse_transform(call.query(), self._settings)
        row = await objects.find_readable(call.storage, call.caller, *call.target)
        await self._answer(call, row, transform, Presentation(call.exchange.query.get("download")))

    async def render_signed(self, call: Call) -> None:
        claims = signing.verify_token(call.storage, require_token(call), *call.target, signing.DOWNLOAD)
        row = await call.storage.store.require_object(call.caller.as_service(), *call.target)
        expires, said, kind = claims.get("exp"), claims.get("transformations"), claims.get("format")
        transform = parse_signed(said if isinstance(said, str) else "", kind if isinstance(kind, str) else None)
        presentation = Presentation(
            call.exchange.query.get("download"),
            datetime.fromtimestamp(expires, UTC) if isinstance(expires, int | float) else None,
        )
        await self._answer(call, row, transform, presentation)

    async def _answer(self, call: Call, row: ObjectRow, transform: Transform, presentation: Presentation) -> None:
        exchange, storage = call.exchange, call.storage
        if (row.mimetype or "").partition(";")[0].strip().lower() == _SVG:
            await serve(storage, exchange, row, presentation)
            return
        asset = await load_asset(storage, row)
        headers = render_headers(storage, exchange, asset, presentation)
        headers.append(("vary", "Accept"))
        if said := transform.render():
            headers.append(("x-transformations", said))
        conditions = Conditions(exchange.header("if-none-match"), exchange.header("if-modified-since"))
        if is_unchanged(conditions, asset.etag, asset.modified):
            kept = {"etag", "cache-control", "expires", "last-modified", "vary"}
            await exchange.respond(WireResponse(304, tuple(pair for pair in headers if pair[0] in kept)))
            return
        wanted = negotiate(transform.format, exchange.header("accept") or "")
        rendered = await self._render(storage, row.version or row.id, asset, transform, wanted)
        kept_headers = [pair for pair in headers if pair[0] not in {"content-type", "accept-ranges"}]
        kept_headers.append(("content-type", rendered.mimetype))
        await exchange.respond(WireResponse(200, tuple(kept_headers), rendered.body))

    async def _render(
        self, storage: Storage, version: str, asset: Asset, transform: Transform, wanted: str | None
    ) -> Rendered:
        """The image out of the cache, or made now; the same one is made once, however many ask for it."""
        identity = (version, transform.render(), wanted or "")
        running = self._running.get(identity)
        if running is None:
            running = asyncio.create_task(self._make(storage, identity, asset, transform, wanted))
            self._running[identity] = running
            running.add_done_callback(partial(self._forget, identity))
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await asyncio.shield(running)
        except TimeoutError:
            raise StorageError(Code.INVALID_REQUEST, 408, "Request timed out", http_status=408) from None
        except ImageUnreadable as error:
            raise invalid_request(error.message) from error
        except ImageTooLarge as error:
            raise invalid_request(error.message) from error

    def _forget(self, identity: tuple[str, ...], task: asyncio.Task[Rendered]) -> None:
        """Also looks at a failure that nobody waited for."""
        self._running.pop(identity, None)
        if not task.cancelled():
            task.exception()

    async def _make(
        self, storage: Storage, identity: tuple[str, ...], asset: Asset, transform: Transform, wanted: str | None
    ) -> Rendered:
        loop = asyncio.get_running_loop()
        cached = await loop.run_in_executor(self._threads, partial(self._cache.get, *identity))
        if cached is not None:
            mimetype, _, body = cached.partition(b"\n")
            return Rendered(body, mimetype.decode())
        if asset.size > self._settings.max_source_bytes:
            raise invalid_request(_FILE_TOO_LARGE)
        async with self._turn:
            async with contextlib.aclosing(storage.blobs.read(asset.key)) as chunks:
                source = b"".join([chunk async for chunk in chunks])
            work = partial(self._work, source, identity, transform, wanted)
            return await loop.run_in_executor(self._threads, work)

    def _work(self, source: bytes, identity: tuple[str, ...], transform: Transform, wanted: str | None) -> Rendered:
        rendered = render(source, transform, wanted, self._bounds)
        self._cache.put(rendered.mimetype.encode() + b"\n" + rendered.body, *identity)
        return rendered


def negotiate(asked: str | None, accept: str) -> str | None:
    """The format to make: the one asked for, else WebP where the client takes it by name; None is the source's own."""
    if asked == "origin":
        return None
    if asked is not None:
        return asked
    names = {piece.partition(";")[0].strip().lower() for piece in accept.split(",")}
    return "webp" if "image/webp" in names else None


def cache_folder(settings: StorageSettings) -> Path:
    """Beside the blobs where they are on a disk, else among the machine's temporary files."""
    if settings.backend == "file":
        return settings.file_path / "images"
    return Path(tempfile.gettempdir()) / f"socle-images-{settings.tenant}"
