"""The verbs of TUS: create, append, ask, end (contract storage.md §8).

A missing or bad token is refused like everywhere else in the service; everything behind it in the protocol's own way, a
plain text under the status that says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from socle_platform.blobs import new_version
from socle_platform.errors import WireResponse
from socle_platform.http import facts_of
from socle_platform.identity import Identity
from socle_storage import signing
from socle_storage.access import require_identity
from socle_storage.addresses import Approach, public_base
from socle_storage.caching import render_http_date
from socle_storage.context import Caller
from socle_storage.errors import Code, invalid_signature, is_known, translate, unknown_route
from socle_storage.intake import parse_metadata
from socle_storage.store import Seal
from socle_storage.tus.filling import Filling, abandon, complete, interruptible
from socle_storage.tus.headers import (
    EXTENSIONS,
    STREAM,
    VERSION,
    TusRefusal,
    already_complete,
    gone_upload,
    length_required,
    maximum_exceeded,
    offset_conflict,
    offset_required,
    parse_id,
    parse_length,
    parse_pairs,
    parse_whole,
    render_id,
    size_exceeded,
    tus_required,
    type_required,
    unknown_upload,
    unsupported_type,
)
from socle_storage.tus.locks import Locks
from socle_storage.uploads import DEFAULT_TYPE, Upload, find_target, probe, size_limit, verify_type

if TYPE_CHECKING:
    from socle_platform.config.storage import TusSettings
    from socle_storage.context import Storage
    from socle_storage.rows import Bucket
    from socle_storage.store import ResumableUpload
    from socle_storage.wire import Exchange

_SIGNED = "sign"
_OPERATIONS = {"POST": "create", "PATCH": "part", "HEAD": "get", "DELETE": "delete"}
_SECONDS = re.compile(r"-?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where below the endpoint a request goes: the plain or the signed side, and the last segment if there is one."""

    signed: bool
    upload: str


def parse_place(path: str, root: str) -> Place | None:
    """None: a path that is none of the endpoint's."""
    if path != root and not path.startswith(root + "/"):
        return None
    segments = [segment for segment in path[len(root) :].split("/") if segment]
    signed = bool(segments) and segments[0] == _SIGNED
    rest = segments[1:] if signed else segments
    if len(rest) > 1:
        return None
    return Place(signed, rest[0] if rest else "")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: who calls, where, and by which verb."""

    exchange: Exchange
    caller: Caller
    place: Place
    method: str

    def header(self, name: str) -> str | None:
        return self.exchange.header(name)

    @property
    def has_body(self) -> bool:
        """Whether the request brings bytes of the file."""
        return self.header("content-type") == STREAM


class ResumableEndpoint:
    """The protocol below `settings.path`, for the life of the application."""

    def __init__(self, settings: TusSettings) -> None:
        self._root = settings.path
        self._expiry = settings.expiry
        self._locks = Locks()
        self._slots = asyncio.Semaphore(settings.max_concurrent)

    @property
    def first_word(self) -> str:
        """The first segment of the endpoint's path."""
        return self._root.split("/")[1]

    async def __call__(self, storage: Storage, exchange: Exchange) -> None:
        place = parse_place(exchange.path, self._root)
        if place is None:
            raise unknown_route(exchange.method, exchange.url)
        method = (exchange.header("x-http-method-override") or exchange.method).upper()
        if method == "OPTIONS":
            await exchange.respond(self._capabilities(storage))
            return
        operation = f"storage.tus.upload.{_OPERATIONS.get(method, 'get')}{'_signed' if place.signed else ''}"
        facts = facts_of(exchange.scope)
        if place.signed:
            caller = Caller(Identity.service(), facts, operation)
        else:
            caller = Caller(require_identity(exchange, storage.keyring), facts, operation)
        visit = Visit(exchange, caller, place, method)
        try:
            response = await self._answer(storage, visit)
        except TusRefusal as refusal:
            await _refuse(exchange, refusal.status, refusal.text)
        except Exception as error:
            if not is_known(error):
                raise
            known = translate(error)
            await _refuse(exchange, 400 if known.code is Code.ABORTED else known.status, known.message)
        else:
            headers = (("tus-resumable", VERSION), ("cache-control", "no-store"), *response.headers)
            await exchange.respond(WireResponse(response.status, headers, response.body))

    def _capabilities(self, storage: Storage) -> WireResponse:
        headers = (
            ("tus-version", VERSION),
            ("tus-extension", EXTENSIONS),
            ("tus-max-size", str(storage.settings.size_limit)),
            ("access-control-allow-methods", "POST, PATCH, HEAD, DELETE, OPTIONS"),
        )
        return WireResponse(204, headers)

    async def _answer(self, storage: Storage, visit: Visit) -> WireResponse:
        version = visit.header("tus-resumable")
        if version is None or version != VERSION:
            raise tus_required()
        match visit.method:
            case "POST":
                return await self._create(storage, visit)
            case "HEAD" if visit.place.upload:
                return await self._ask(storage, visit)
            case "PATCH" if visit.place.upload:
                return await self._append(storage, visit)
            case "DELETE" if visit.place.upload:
                return await self._end(storage, visit)
            case _:
                raise TusRefusal(404, "Not found\n")

    # --- the verbs

    async def _create(self, storage: Storage, visit: Visit) -> WireResponse:
        if visit.header("upload-concat") is not None:
            raise TusRefusal(501, "Concatenation extension is not (yet) supported.\n")
        length = parse_length(visit.header("upload-length"), visit.header("upload-defer-length"))
        text = visit.header("upload-metadata")
        if text is None:
            raise TusRefusal(400, "Metadata header is required")
        pairs = parse_pairs(text)
        target = (pairs.get("bucketName", ""), pairs.get("objectName", ""))
        seal = _permission(storage, visit, target)
        bucket = await find_target(storage, visit.caller, *target)
        wanted = describe(target, pairs, length, seal)
        if not visit.place.signed:
            await probe(storage, visit.caller, wanted)
        ceiling = size_limit(storage, bucket, target[1], standard=False)
        if length is not None and length > ceiling:
            raise maximum_exceeded()
        _verify_type(bucket, target[1], pairs)
        upload = await storage.store.create_resumable(new_version(), target, text, length, self._expiry)
        headers = [("location", self._location(storage, visit, upload))]
        if visit.has_body or length == 0:
            async with self._locks.hold(upload.version) as asked:
                upload = await self._fill(storage, visit, upload, (seal, ceiling), asked)
            headers.append(("upload-offset", str(upload.position)))
        return WireResponse(201, (*headers, *_state_of(upload)))

    async def _append(self, storage: Storage, visit: Visit) -> WireResponse:
        offset_text, kind = visit.header("upload-offset"), visit.header("content-type")
        if offset_text is None:
            raise offset_required()
        offset = parse_whole(offset_text, "upload-offset")
        if kind is None:
            raise type_required()
        if kind != STREAM:
            raise unsupported_type()
        upload = await self._find(storage, visit)
        target = (upload.bucket_id, upload.name)
        seal = _permission(storage, visit, target)
        bucket = await find_target(storage, visit.caller, *target)
        ceiling = size_limit(storage, bucket, upload.name, standard=False)
        if not visit.place.signed and not upload.sealed:
            await probe(storage, visit.caller, describe(target, parse_pairs(upload.metadata), upload.length, seal))
        async with self._locks.hold(upload.version) as asked:
            upload = await self._find(storage, visit)
            if offset != upload.position:
                raise offset_conflict()
            upload = await _learn_length(storage, visit, upload, ceiling)
            upload = await self._fill(storage, visit, upload, (seal, ceiling), asked)
        return WireResponse(204, (("upload-offset", str(upload.position)), *_state_of(upload)))

    async def _ask(self, storage: Storage, visit: Visit) -> WireResponse:
        upload = await self._find(storage, visit)
        _permission(storage, visit, (upload.bucket_id, upload.name))
        async with self._locks.hold(upload.version):
            upload = await self._find(storage, visit)
            if upload.sealed and not upload.completed:
                upload = await _finish(storage, visit.caller, upload)
        length = ("upload-defer-length", "1") if upload.length is None else ("upload-length", str(upload.length))
        headers = (("upload-offset", str(upload.position)), length, ("upload-metadata", upload.metadata))
        return WireResponse(200, (*headers, *_state_of(upload)))

    async def _end(self, storage: Storage, visit: Visit) -> WireResponse:
        upload = await self._find(storage, visit)
        target = (upload.bucket_id, upload.name)
        seal = _permission(storage, visit, target)
        if upload.sealed:
            raise already_complete()
        if not visit.place.signed:
            await probe(storage, visit.caller, describe(target, parse_pairs(upload.metadata), upload.length, seal))
        async with self._locks.hold(upload.version):
            upload = await self._find(storage, visit)
            if upload.sealed:
                raise already_complete()
            await abandon(storage, upload)
        return WireResponse(204)

    # --- what they share

    async def _find(self, storage: Storage, visit: Visit) -> ResumableUpload:
        """The upload that the address names. Raises TusRefusal: 404, or 410 when its time is over."""
        bucket, name, version = parse_id(visit.place.upload)
        upload = await storage.store.find_resumable(version)
        if upload is None or (upload.bucket_id, upload.name) != (bucket, name):
            raise unknown_upload()
        if upload.expires_at <= storage.clock.now():
            raise gone_upload()
        return upload

    async def _fill(
        self, storage: Storage, visit: Visit, upload: ResumableUpload, terms: tuple[Seal, int], asked: asyncio.Event
    ) -> ResumableUpload:
        """Takes the request's bytes, and makes the object if they were the last."""
        seal, ceiling = terms
        room = (ceiling if upload.length is None else upload.length) - upload.position
        declared = visit.exchange.content_length
        if visit.has_body and declared is not None and declared > room:
            raise maximum_exceeded() if upload.length is None else size_exceeded()
        if not upload.sealed:
            filling = Filling(storage, upload, ceiling, seal)
            body = interruptible(visit.exchange, asked) if visit.has_body else _nothing()
            stream = _within(body, room, upload)
            async with self._slots, contextlib.aclosing(body), contextlib.aclosing(stream):
                await filling.run(stream)
            upload = filling.upload
        if upload.sealed and not upload.completed:
            upload = await _finish(storage, visit.caller, upload)
        return upload

    def _location(self, storage: Storage, visit: Visit, upload: ResumableUpload) -> str:
        base = public_base(storage.settings, Approach.of(visit.exchange))
        side = f"/{_SIGNED}" if visit.place.signed else ""
        return f"{base}{self._root}{side}/{render_id(upload.bucket_id, upload.name, upload.version)}"


def _permission(storage: Storage, visit: Visit, target: tuple[str, str]) -> Seal:
    """Whose object it will be, and whether it may replace one: by the signed token, else by caller and `x-upsert`."""
    if not visit.place.signed:
        return Seal(visit.caller.owner, visit.header("x-upsert") == "true")
    token = visit.header("x-signature")
    if not token:
        raise invalid_signature("Missing x-signature header")
    claims = signing.verify_token(storage, token, *target, signing.UPLOAD)
    owner = claims.get("owner")
    return Seal(owner if isinstance(owner, str) else None, claims.get("upsert") is True)


def describe(target: tuple[str, str], pairs: Mapping[str, str], length: int | None, seal: Seal) -> Upload:
    """The upload as its metadata describes it."""
    seconds = pairs.get("cacheControl", "")
    custom = pairs.get("metadata")
    return Upload(
        *target,
        owner=seal.owner,
        upsert=seal.upsert,
        mimetype=pairs.get("contentType") or DEFAULT_TYPE,
        cache_control=f"max-age={seconds}" if _SECONDS.fullmatch(seconds) else "no-cache",
        content_length=length,
        user_metadata=parse_metadata(custom) if custom else None,
    )


def _verify_type(bucket: Bucket, name: str, pairs: Mapping[str, str]) -> None:
    """Only a type that was sent is looked at, and then an empty list refuses all (contract §8)."""
    kind = pairs.get("contentType")
    if not kind:
        return
    if bucket.allowed_mime_types == ():
        verify_type(replace(bucket, allowed_mime_types=("none/none",)), name, kind)
    verify_type(bucket, name, kind)


async def _learn_length(storage: Storage, visit: Visit, upload: ResumableUpload, ceiling: int) -> ResumableUpload:
    """The length that the client had put off, if it says it now. Raises TusRefusal."""
    text = visit.header("upload-length")
    if text is None:
        return upload
    length = parse_whole(text, "upload-length")
    if upload.length is not None:
        if length != upload.length:
            raise length_required()
        return upload
    if length < upload.position:
        raise size_exceeded()
    if length > ceiling:
        raise maximum_exceeded()
    await storage.store.set_length(upload.version, length)
    return replace(upload, length=length)


async def _finish(storage: Storage, caller: Caller, upload: ResumableUpload) -> ResumableUpload:
    pairs = parse_pairs(upload.metadata)
    target = describe((upload.bucket_id, upload.name), pairs, upload.length, Seal(upload.owner_id, upload.upsert))
    await asyncio.shield(complete(storage, caller, upload, target))
    return replace(upload, completed=True)


def _state_of(upload: ResumableUpload) -> tuple[tuple[str, str], ...]:
    if upload.completed:
        return (("tus-complete", "1"),)
    return (("upload-expires", render_http_date(upload.expires_at)),)


async def _within(body: AsyncGenerator[bytes, None], room: int, upload: ResumableUpload) -> AsyncGenerator[bytes, None]:
    """The body as long as it has room. Raises TusRefusal (413)."""
    async for chunk in body:
        room -= len(chunk)
        if room < 0:
            raise maximum_exceeded() if upload.length is None else size_exceeded()
        yield chunk


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


async def _refuse(exchange: Exchange, status: int, text: str) -> None:
    headers = [("tus-resumable", VERSION), ("tus-version", VERSION), ("content-type", "text/plain; charset=utf-8")]
    if exchange.method in {"POST", "PATCH", "PUT"} and not await exchange.drain():
        headers.append(("connection", "close"))
    await exchange.respond(WireResponse(status, tuple(headers), text.encode()))
