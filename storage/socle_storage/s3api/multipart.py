"""Uploads in parts: begun, filled in any order, joined or given up."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import TYPE_CHECKING

from socle_platform.blobs import BlobNotFound, joined_etag, new_version
from socle_platform.ports import BlobInfo, PartInfo
from socle_storage.errors import invalid_parameter, no_such_upload, too_large
from socle_storage.s3api.checksums import digester_of, parse_whole_checksum
from socle_storage.s3api.credentials import headers_of
from socle_storage.s3api.documents import MAX_DOCUMENT, Node, parse_document
from socle_storage.s3api.errors import bad_digest, invalid_part, invalid_part_order, malformed_xml, part_too_small
from socle_storage.s3api.objects import parse_source, parse_source_range, verify_source
from socle_storage.s3api.payload import open_payload, read_document
from socle_storage.store import MultipartUpload
from socle_storage.uploads import (
    DEFAULT_TYPE,
    Upload,
    find_target,
    probe,
    publish,
    size_limit,
    verify_type,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_storage.s3api.call import S3Call
    from socle_storage.s3api.checksums import WholeChecksum

MAX_PARTS = 10_000
MAX_PART_SIZE = 5 * 1024**3


async def create_upload(call: S3Call) -> None:
    """Begins an upload; its id is the blob store's own."""
    storage, caller = call.storage, call.caller
    bucket = await find_target(storage, caller, call.bucket, call.key)
    mimetype = call.header("content-type") or DEFAULT_TYPE
    verify_type(bucket, call.key, mimetype)
    facts = {"mimetype": mimetype, "cacheControl": call.header("cache-control") or "no-cache"}
    version = new_version()
    draft = MultipartUpload(
        id="",
        bucket=call.bucket,
        key=call.key,
        version=version,
        owner=caller.owner,
        user_metadata=call.user_metadata,
        metadata=facts,
    )
    await probe(storage, caller, _upload(call, draft))
    blob_upload = await storage.blobs.begin(storage.key(call.bucket, call.key, version))
    await storage.store.create_multipart(
        MultipartUpload(
            id=blob_upload,
            bucket=draft.bucket,
            key=draft.key,
            version=version,
            owner=draft.owner,
            user_metadata=draft.user_metadata,
            metadata=facts,
        )
    )
    nodes: list[Node] = [("Bucket", call.bucket), ("Key", call.key), ("UploadId", blob_upload)]
    await call.answer("InitiateMultipartUploadResult", nodes)


async def upload_part(call: S3Call) -> None:
    number = _number(call)
    payload = open_payload(call.exchange, call.signer)
    upload = await _find(call)
    await _verify_room(call, upload, payload.size)
    await probe(call.storage, call.caller, _upload(call, upload))
    key = call.storage.key(upload.bucket, upload.key, upload.version)
    async with contextlib.aclosing(payload.stream()) as stream:
        try:
            part = await call.storage.blobs.write_part(
                key,
                upload.id,
                number,
                stream,
                size=payload.size,
                hashers=payload.hashers,
                verify=payload.verify,
            )
        except BlobNotFound as error:
            raise no_such_upload() from error
    await _record(call, upload, part)
    await call.done(200, [("etag", part.etag)])


async def copy_part(call: S3Call) -> None:
    """A part out of an object that is here already."""
    number = _number(call)
    source = parse_source(call.header("x-amz-copy-source") or "")
    asset = await verify_source(call, source)
    wanted = parse_source_range(call.header("x-amz-copy-source-range"), asset.size)
    upload = await _find(call)
    await _verify_room(call, upload, wanted.length)
    await probe(call.storage, call.caller, _upload(call, upload))
    key = call.storage.key(upload.bucket, upload.key, upload.version)
    part = await call.storage.blobs.copy_part(key, upload.id, number, asset.key, wanted.start, wanted.end)
    await _record(call, upload, part)
    moment = call.storage.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    await call.answer("CopyPartResult", [("LastModified", moment), ("ETag", part.etag)])


async def complete_upload(call: S3Call) -> None:
    """Joins the parts that the client names, in their order, into the object."""
    announced = parse_whole_checksum(headers_of(call.exchange).items())
    body = await read_document(call.exchange, call.signer, MAX_DOCUMENT, checksummed=False)
    upload = await _find(call)
    named = parse_parts(body) if body.strip() else []
    recorded = await call.storage.store.multipart_parts(upload.id)
    parts = choose_parts(named, recorded, call.storage.blobs.minimum_part)
    bucket = await find_target(call.storage, call.caller, call.bucket, call.key)
    if sum(part.size for part in parts) > size_limit(call.storage, bucket, call.key, standard=False):
        raise too_large()
    wanted = _upload(call, upload)
    await probe(call.storage, call.caller, wanted)
    info = await _join(call, upload, parts)
    blob = written(upload.bucket, upload.key, upload.version, info)
    if announced is not None and not await _is_right(call, upload, announced, parts):
        raise bad_digest(announced.algorithm)
    await publish(call.storage, call.caller, wanted, blob)
    await call.storage.store.forget_multipart(upload.id)
    nodes: list[Node] = [
        ("Location", f"{upload.bucket}/{upload.key}"),
        ("Bucket", upload.bucket),
        ("Key", upload.key),
        ("ETag", blob.etag),
    ]
    await call.answer("CompleteMultipartUploadResult", nodes)


async def abort_upload(call: S3Call) -> None:
    upload = await _find(call)
    await probe(call.storage, call.caller, _upload(call, upload))
    await call.storage.blobs.abandon(call.storage.key(upload.bucket, upload.key, upload.version), upload.id)
    await call.storage.store.forget_multipart(upload.id)
    await call.done(204)


async def list_parts(call: S3Call) -> None:
    upload = await _find(call)
    limit = call.whole("max-parts", 1000, minimum=1)
    after = call.whole("part-number-marker", 0, maximum=MAX_PARTS)
    parts = await call.storage.store.dated_parts(upload.id, after, limit + 1)
    more = len(parts) > limit
    listed: list[Node] = []
    for part, moment in parts[:limit]:
        facts: list[Node] = [
            ("PartNumber", part.number),
            ("LastModified", moment),
            ("ETag", part.etag),
            ("Size", part.size),
        ]
        listed.append(("Part", facts))
    nodes: list[Node] = [
        ("Bucket", upload.bucket),
        ("Key", call.shown(upload.key)),
        ("UploadId", upload.id),
        ("PartNumberMarker", after),
        ("NextPartNumberMarker", parts[limit - 1][0].number if more else None),
        ("MaxParts", limit),
        ("IsTruncated", more),
        ("StorageClass", "STANDARD"),
        *listed,
    ]
    await call.answer("ListPartsResult", nodes)


def parse_parts(body: bytes) -> list[tuple[int, str]]:
    """Numbers and ETags (without quotes) of a completion, ascending. Raises MalformedXML, InvalidPartOrder."""
    found: list[tuple[int, str]] = []
    for element in parse_document(body, "CompleteMultipartUpload").iterfind("Part"):
        number = (element.findtext("PartNumber") or "").strip()
        if not (number.isascii() and number.isdigit()) or not 1 <= len(number) <= 5:
            raise malformed_xml()
        found.append((int(number), (element.findtext("ETag") or "").strip().strip('"')))
    if not found or len(found) > MAX_PARTS:
        raise malformed_xml()
    if any(left[0] >= right[0] for left, right in pairwise(found)):
        raise invalid_part_order()
    return found


def choose_parts(named: Sequence[tuple[int, str]], recorded: Sequence[PartInfo], minimum: int) -> list[PartInfo]:
    """The recorded parts that are named; all if none are. Raises InvalidPart, EntityTooSmall, MalformedXML."""
    known = {part.number: part for part in recorded}
    chosen = list(recorded) if not named else [known[number] for number, _ in named if number in known]
    if not chosen and not named:
        raise malformed_xml()
    tags = [part.etag.strip('"') for part in chosen]
    if named and tags != [etag for _, etag in named]:
        raise invalid_part()
    if any(part.size < minimum for part in chosen[:-1]):
        raise part_too_small()
    return chosen


async def _join(call: S3Call, upload: MultipartUpload, parts: Sequence[PartInfo]) -> BlobInfo:
    """The bytes as one blob, joined now or by an attempt that did not live to say so."""
    key = call.storage.key(upload.bucket, upload.key, upload.version)
    try:
        return await call.storage.blobs.finish(key, upload.id, parts)
    except BlobNotFound:
        info = await call.storage.blobs.head(key)
        return BlobInfo(info.size, joined_etag(parts), info.last_modified)


async def _is_right(call: S3Call, upload: MultipartUpload, announced: WholeChecksum, parts: Sequence[PartInfo]) -> bool:
    """Whether the joined bytes have the checksum that came with the completion; they are read once for it."""
    key = call.storage.key(upload.bucket, upload.key, upload.version)
    if announced.parts not in {None, len(parts)}:
        return False
    digests: list[bytes] = []
    start = 0
    for size in [sum(part.size for part in parts)] if announced.parts is None else [part.size for part in parts]:
        digester = digester_of(announced.algorithm)
        async with contextlib.aclosing(call.storage.blobs.read(key, start, start + size)) as chunks:
            async for chunk in chunks:
                digester.update(chunk)
        digests.append(digester.digest())
        start += size
    return announced.fits(digests)


async def _find(call: S3Call) -> MultipartUpload:
    """The upload that the query names, of this key and of this caller. Raises NoSuchUpload."""
    upload = await call.storage.store.find_multipart(call.query.get("uploadId", ""))
    if upload is None or (upload.bucket, upload.key) != (call.bucket, call.key):
        raise no_such_upload()
    if call.caller.identity.role != "service_role" and upload.owner != call.caller.owner:
        raise no_such_upload()
    return upload


async def _verify_room(call: S3Call, upload: MultipartUpload, size: int) -> None:
    """Raises EntityTooLarge when this part cannot be within the limit of the whole."""
    bucket = await find_target(call.storage, call.caller, upload.bucket, upload.key)
    limit = size_limit(call.storage, bucket, upload.key, standard=False)
    if size > MAX_PART_SIZE or size > limit:
        raise too_large()
    if upload.size + size > limit:
        number = _number(call)
        parts = await call.storage.store.multipart_parts(upload.id, number - 1, 1)
        replaced = parts[0].size if parts and parts[0].number == number else 0
        if upload.size - replaced + size > limit:
            raise too_large()


async def _record(call: S3Call, upload: MultipartUpload, part: PartInfo) -> None:
    if not await call.storage.store.add_part(upload.id, part):
        raise no_such_upload()


def _upload(call: S3Call, upload: MultipartUpload) -> Upload:
    facts = upload.metadata or {}
    return Upload(
        upload.bucket,
        upload.key,
        owner=call.caller.owner,
        upsert=True,
        mimetype=facts.get("mimetype") or DEFAULT_TYPE,
        cache_control=facts.get("cacheControl") or "no-cache",
        user_metadata=upload.user_metadata,
    )


def _number(call: S3Call) -> int:
    text = call.query.get("partNumber", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= MAX_PARTS:
        raise invalid_parameter("partNumber", "Part number must be an integer between 1 and 10000, inclusive")
    return int(text)
