"""Which request is which operation, and errors as XML with their real status (contract storage.md §9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from socle_platform.errors import WireResponse
from socle_platform.events import Noted, RequestFailed
from socle_platform.http import facts_of, request_id
from socle_storage.context import Caller
from socle_storage.errors import invalid_key, is_known, translate
from socle_storage.s3api import buckets, listing, multipart, objects
from socle_storage.s3api.call import S3Call, xml_response
from socle_storage.s3api.credentials import authenticate, has_claim, raw_query
from socle_storage.s3api.documents import render_document
from socle_storage.s3api.errors import method_not_allowed, not_implemented
from socle_storage.s3api.forms import post_object
from socle_storage.s3api.signature import parse_fields
from socle_storage.wire import decode_segment

if TYPE_CHECKING:
    from socle_storage.context import Storage
    from socle_storage.wire import Exchange

FIRST_WORD: Final = "s3"


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` is what policies see behind `storage.s3.`."""

    handler: Callable[[S3Call], Awaitable[None]]
    name: str


_UNSUPPORTED = {
    "acl": "access control lists",
    "accelerate": "transfer acceleration",
    "analytics": "analytics",
    "attributes": "object attributes",
    "cors": "CORS rules of buckets",
    "encryption": "server-side encryption settings",
    "intelligent-tiering": "storage classes",
    "inventory": "inventories",
    "legal-hold": "object locks",
    "lifecycle": "lifecycle rules",
    "logging": "access logs of buckets",
    "metrics": "metrics of buckets",
    "notification": "notifications of buckets",
    "object-lock": "object locks",
    "ownershipControls": "ownership controls",
    "policy": "bucket policies",
    "policyStatus": "bucket policies",
    "publicAccessBlock": "public access blocks",
    "replication": "replication",
    "requestPayment": "request payment",
    "restore": "archives",
    "retention": "object locks",
    "select": "queries on objects",
    "tagging": "writing tags",
    "torrent": "torrents",
    "versioning": "versions of objects",
    "website": "websites",
}
_OBJECT: Mapping[tuple[str, str], Operation] = {
    ("GET", "uploadId"): Operation(multipart.list_parts, "upload.list_parts"),
    ("GET", "tagging"): Operation(objects.get_tagging, "object.get_tagging"),
    ("GET", ""): Operation(objects.get_object, "object.get"),
    ("HEAD", ""): Operation(objects.get_object, "object.info"),
    ("PUT", "uploadId copy"): Operation(multipart.copy_part, "upload.part_copy"),
    ("PUT", "uploadId"): Operation(multipart.upload_part, "upload.part"),
    ("PUT", "copy"): Operation(objects.copy_object, "object.copy"),
    ("PUT", ""): Operation(objects.put_object, "upload"),
    ("POST", "uploads"): Operation(multipart.create_upload, "upload.create_multipart"),
    ("POST", "uploadId"): Operation(multipart.complete_upload, "upload.complete_multipart"),
    ("DELETE", "uploadId"): Operation(multipart.abort_upload, "upload.abort_multipart"),
    ("DELETE", ""): Operation(objects.delete_object, "object.delete"),
}
_BUCKET: Mapping[tuple[str, str], Operation] = {
    ("GET", "location"): Operation(buckets.get_location, "bucket.get_location"),
    ("GET", "versioning"): Operation(buckets.get_versioning, "bucket.get_versioning"),
    ("GET", "uploads"): Operation(listing.list_uploads, "upload.list_multipart"),
    ("GET", "versions"): Operation(listing.list_versions, "object.list"),
    ("GET", "list-type"): Operation(listing.list_objects_v2, "object.list"),
    ("GET", ""): Operation(listing.list_objects, "object.list"),
    ("HEAD", ""): Operation(buckets.head_bucket, "bucket.get"),
    ("PUT", ""): Operation(buckets.create_bucket, "bucket.create"),
    ("POST", "delete"): Operation(objects.delete_objects, "object.delete_many"),
    ("DELETE", ""): Operation(buckets.delete_bucket, "bucket.delete"),
}
_LIST = Operation(buckets.list_buckets, "bucket.list")
_WORDS = ("location", "versions", "versioning", "uploads", "list-type", "delete", "uploadId", "tagging")


async def s3_endpoint(storage: Storage, exchange: Exchange) -> None:
    """Answers one request of the protocol."""
    try:
        await _answer(storage, exchange)
    except Exception as error:
        if exchange.started:
            raise
        await _refuse(storage, exchange, error)


async def _answer(storage: Storage, exchange: Exchange) -> None:
    bucket, _, key = exchange.path.removeprefix(f"/{FIRST_WORD}").removeprefix("/").partition("/")
    bucket, key = decode_segment(bucket), decode_segment(key)
    kind = (exchange.header("content-type") or "").lower()
    if exchange.method == "POST" and not key and kind.startswith("multipart/form-data") and not has_claim(exchange):
        await post_object(storage, exchange, bucket)
        return
    signer = authenticate(storage, exchange)
    if "\0" in exchange.scope["path"]:
        raise invalid_key(key)
    query = parse_fields(raw_query(exchange))
    operation = find_operation(exchange.method, bucket, key, query, copies="x-amz-copy-source" in _names(exchange))
    caller = Caller(signer.identity, facts_of(exchange.scope), f"storage.s3.{operation.name}")
    await operation.handler(S3Call(storage, exchange, signer, caller, bucket, key, query))


def find_operation(method: str, bucket: str, key: str, query: Mapping[str, str], *, copies: bool) -> Operation:
    """Raises NotImplemented for what the service does not offer, MethodNotAllowed for what nobody does."""
    if not bucket:
        if method != "GET":
            raise method_not_allowed()
        return _LIST
    table = _OBJECT if key else _BUCKET
    word = next((word for word in _WORDS if word in query and word in {name for _, name in table}), "")
    if key and method == "PUT" and copies:
        word = f"{word} copy".strip()
    operation = table.get((method, word))
    unsupported = next((query_word for query_word in _UNSUPPORTED if query_word in query), None)
    if unsupported is not None and (operation is None or word == ""):
        raise not_implemented(_UNSUPPORTED[unsupported])
    if operation is None:
        raise method_not_allowed()
    return operation


def _names(exchange: Exchange) -> frozenset[str]:
    return frozenset(name.decode("latin-1") for name, _ in exchange.scope["headers"])


async def _refuse(storage: Storage, exchange: Exchange, error: Exception) -> None:
    known, scope = translate(error), exchange.scope
    if not is_known(error):
        storage.observe(RequestFailed("storage", scope["method"], scope["path"], request_id(scope), error))
    elif known.status >= 500 and known.status != 501:
        text = f"{exchange.method} {exchange.path}: {type(error).__name__}: {error}"
        storage.observe(Noted("storage", "error", text))
    headers: list[tuple[str, str]] = []
    if exchange.method in {"POST", "PUT"} and (exchange.header("expect") or not await exchange.drain()):
        headers.append(("connection", "close"))
    if exchange.method == "HEAD":
        await exchange.respond(WireResponse(known.status, tuple(headers)))
        return
    resource = exchange.path.removeprefix(f"/{FIRST_WORD}").strip("/")
    nodes = [("Resource", decode_segment(resource)), ("Code", str(known.code)), ("Message", known.message)]
    safe = [(name, "".join(c if c.isprintable() else "\ufffd" for c in text)) for name, text in nodes]
    nodes_with_id = [*safe, ("RequestId", request_id(scope) or None)]
    body = render_document("Error", nodes_with_id, namespace=False)
    await exchange.respond(xml_response(known.status, body, headers))
