"""One small function for each operation: what it takes from the request, which use case it calls, what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING

from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.errors import WireResponse
from socle_storage import buckets, listing, objects, signing
from socle_storage.bodies import Fields
from socle_storage.errors import access_denied, invalid_input, unknown_route
from socle_storage.intake import parse_metadata_header, take_upload
from socle_storage.objects import CopyOptions
from socle_storage.serving import Presentation, serve
from socle_storage.store import BucketList
from socle_storage.transforms import parse_transform
from socle_storage.uploads import Upload
from socle_storage.wire import render_json, render_raw_json

if TYPE_CHECKING:
    from socle_storage.context import Caller, Storage
    from socle_storage.rows import ObjectRow
    from socle_storage.wire import Exchange


class Auth(Enum):
    """Who may call a route: someone with a token; anyone, a bad token counting as none; anyone, tokens unread."""

    REQUIRED = auto()
    OPTIONAL = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way to a use case. `bucket` and `name` are decoded and not yet checked."""

    storage: Storage
    exchange: Exchange
    caller: Caller
    bucket: str
    name: str

    @property
    def target(self) -> tuple[str, str]:
        return (self.bucket, self.name)

    async def fields(self) -> Fields:
        """The JSON body. Raises InvalidRequest."""
        return Fields(await self.exchange.json())

    def query(self) -> Fields:
        return Fields(self.exchange.query, "querystring")

    @property
    def wants_upsert(self) -> bool:
        return self.exchange.header("x-upsert") == "true"

    async def answer(self, body: object) -> None:
        await self.exchange.answer(body)


@dataclass(frozen=True, slots=True)
class Route:
    """`operation` is what policies see as `storage.operation` (contract §5)."""

    handler: Callable[[Call], Awaitable[None]]
    operation: str
    auth: Auth = Auth.REQUIRED


# --- buckets


async def create_bucket(call: Call) -> None:
    await call.answer({"name": await buckets.create(call.storage, call.caller, await call.fields())})


async def list_buckets(call: Call) -> None:
    query = call.query()
    wanted = BucketList(
        limit=query.integer("limit", minimum=1),
        offset=query.integer("offset", minimum=0),
        column=query.choice("sortColumn", ("id", "name", "created_at", "updated_at")),
        descending=query.choice("sortOrder", ("asc", "desc")) == "desc",
        search=query.text("search") or "",
    )
    with_type = buckets.knows_type(
        call.exchange.header("x-client-info") or "", call.exchange.header("user-agent") or ""
    )
    found = await call.storage.store.list_buckets(call.caller, wanted)
    await call.answer([bucket.wire(with_type=with_type) for bucket in found])


async def get_bucket(call: Call) -> None:
    bucket = await buckets.get(call.storage, call.caller, call.bucket)
    await call.answer(bucket.wire(with_type=False))


async def update_bucket(call: Call) -> None:
    await buckets.update(call.storage, call.caller, call.bucket, await call.fields())
    await call.answer({"message": "Successfully updated"})


async def delete_bucket(call: Call) -> None:
    await buckets.delete(call.storage, call.caller, call.bucket)
    await call.answer({"message": "Successfully deleted"})


async def empty_bucket(call: Call) -> None:
    if call.name != "empty":
        raise unknown_route(call.exchange.method, call.exchange.url)
    await buckets.empty(call.storage, call.caller, call.bucket)
    await call.answer({"message": "Empty bucket has been queued. Completion may take up to an hour."})


# --- uploads


async def upload(call: Call) -> None:
    await _store(call, upsert=call.wants_upsert)


async def update(call: Call) -> None:
    await _store(call, upsert=True)


async def _store(call: Call, *, upsert: bool) -> None:
    owner = call.caller.owner
    stored = await take_upload(call.storage, call.exchange, call.caller, call.target, owner=owner, upsert=upsert)
    await call.answer({"Id": stored.id, "Key": f"{stored.bucket}/{stored.name}"})


async def upload_signed(call: Call) -> None:
    claims = signing.verify_token(call.storage, require_token(call), *call.target, signing.UPLOAD)
    owner = claims.get("owner")
    stored = await take_upload(
        call.storage,
        call.exchange,
        call.caller.as_service(),
        call.target,
        owner=owner if isinstance(owner, str) else None,
        upsert=claims.get("upsert") is True,
    )
    await call.answer({"Key": f"{stored.bucket}/{stored.name}"})


async def sign_upload(call: Call) -> None:
    asked = Upload(
        *call.target,
        owner=call.caller.owner,
        upsert=call.wants_upsert,
        mimetype=call.exchange.header("content-type") or "",
        content_length=call.exchange.content_length,
        user_metadata=parse_metadata_header(call.exchange.header("x-metadata")),
    )
    url, token = await signing.sign_upload(call.storage, call.caller, asked)
    await call.answer({"url": url, "token": token})


# --- downloads


async def download(call: Call) -> None:
    row = await objects.find_readable(call.storage, call.caller, *call.target)
    await serve(call.storage, call.exchange, row, Presentation(call.exchange.query.get("download")))


async def download_public(call: Call) -> None:
    row = await objects.find_public(call.storage, call.caller, *call.target)
    await serve(call.storage, call.exchange, row, Presentation(call.exchange.query.get("download")))


async def download_signed(call: Call) -> None:
    claims = signing.verify_token(call.storage, require_token(call), *call.target, signing.DOWNLOAD)
    row = await call.storage.store.require_object(call.caller.as_service(), *call.target)
    expires = claims.get("exp")
    presentation = Presentation(
        call.exchange.query.get("download"),
        datetime.fromtimestamp(expires, UTC) if isinstance(expires, int | float) else None,
    )
    await serve(call.storage, call.exchange, row, presentation)


async def info(call: Call) -> None:
    await _inform(call, await objects.find_readable(call.storage, call.caller, *call.target))


async def info_public(call: Call) -> None:
    await _inform(call, await objects.find_public(call.storage, call.caller, *call.target))


async def _inform(call: Call, row: ObjectRow) -> None:
    response = render_json(row.info())
    extra = (("etag", row.etag), ("cache-control", row.cache_control))
    headers = (*response.headers, *((name, value) for name, value in extra if value))
    await call.exchange.respond(WireResponse(200, headers, response.body))


# --- signed URLs


async def sign(call: Call) -> None:
    fields = await call.fields()
    fields.require("expiresIn")
    expires_in = fields.integer("expiresIn", minimum=1) or 0
    inner = fields.inner("transform")
    images = call.storage.settings.images
    transform = parse_transform(inner, images) if inner is not None and images.enabled else None
    url = await signing.sign_download(call.storage, call.caller, *call.target, expires_in, transform)
    await call.answer({"signedURL": url})


async def sign_many(call: Call) -> None:
    fields = await call.fields()
    fields.require("expiresIn", "paths")
    expires_in = fields.integer("expiresIn", minimum=1) or 0
    paths = fields.texts("paths", minimum=1, maximum=1000)
    await call.answer(await signing.sign_many(call.storage, call.caller, call.bucket, paths, expires_in))


# --- lists


async def list_objects(call: Call) -> None:
    raw = await listing.search(call.storage, call.caller, call.bucket, await call.fields())
    await call.exchange.respond(render_raw_json(raw))


async def list_objects_v2(call: Call) -> None:
    await call.answer(await listing.list_page(call.storage, call.caller, call.bucket, await call.fields()))


# --- delete, move, copy


async def delete_object(call: Call) -> None:
    await objects.delete_one(call.storage, call.caller, *call.target)
    await call.answer({"message": "Successfully deleted"})


async def delete_objects(call: Call) -> None:
    names = (await call.fields()).texts("prefixes", minimum=1)
    rows = await objects.delete_many(call.storage, call.caller, call.bucket, names)
    await call.answer([row.wire() for row in rows])


async def move_object(call: Call) -> None:
    source, target = _way(await call.fields())
    await objects.move(call.storage, call.caller, source, target)
    await call.answer({"message": "Successfully moved"})


async def copy_object(call: Call) -> None:
    fields = await call.fields()
    source, target = _way(fields)
    inner = fields.inner("metadata")
    copies = fields.boolean("copyMetadata") if "copyMetadata" in fields else True
    options = CopyOptions(
        upsert=call.wants_upsert,
        copy_metadata=copies is not False,
        metadata=None if inner is None else {name: inner.text(name) for name in ("cacheControl", "mimetype")},
        user_metadata=parse_metadata_header(call.exchange.header("x-metadata")),
    )
    row = await objects.copy(call.storage, call.caller, source, target, options)
    await call.answer({"Id": row.id, "Key": f"{row.bucket_id}/{row.name}"} | row.wire())


def _way(fields: Fields) -> tuple[tuple[str, str], tuple[str, str]]:
    bucket, source = fields.required_text("bucketId"), fields.required_text("sourceKey")
    target = fields.required_text("destinationKey")
    return (bucket, source), (fields.text("destinationBucket") or bucket, target)


# --- the service itself


async def health(call: Call) -> None:
    try:
        await call.storage.store.ping(call.caller)
    except (DatabaseError, DatabaseUnavailable):
        await call.answer({"healthy": False})
    else:
        await call.answer({"healthy": True})


async def status(call: Call) -> None:
    await call.exchange.respond(WireResponse(200))


async def version(call: Call) -> None:
    text = call.storage.settings.version.encode()
    await call.exchange.respond(WireResponse(200, (("content-type", "text/plain; charset=utf-8"),), text))


async def purge(call: Call) -> None:
    """There is no cache in front that we would have to tell; the answer is the official one."""
    if call.caller.identity.role != "service_role":
        raise access_denied("Access denied: Invalid role").at(403)
    await call.answer({"message": "success", "statusCode": "200"})


def require_token(call: Call) -> str:
    """The token of a signed URL. Raises InvalidRequest."""
    token = call.exchange.query.get("token")
    if token is None:
        raise invalid_input("querystring must have required property 'token'")
    return token


_BARE, _BUCKET, _NAME = 0, 1, 2


def _table() -> dict[tuple[str, tuple[str, ...], int], Route]:
    object_, optional, none = "storage.object.", Auth.OPTIONAL, Auth.NONE
    head_info, get_info = "object.head_authenticated_info", "object.get_authenticated_info"
    return {
        ("POST", ("bucket",), _BARE): Route(create_bucket, "storage.bucket.create"),
        ("GET", ("bucket",), _BARE): Route(list_buckets, "storage.bucket.list"),
        ("GET", ("bucket",), _BUCKET): Route(get_bucket, "storage.bucket.get"),
        ("PUT", ("bucket",), _BUCKET): Route(update_bucket, "storage.bucket.update"),
        ("DELETE", ("bucket",), _BUCKET): Route(delete_bucket, "storage.bucket.delete"),
        ("POST", ("bucket",), _NAME): Route(empty_bucket, "storage.bucket.empty"),
        ("POST", ("object",), _NAME): Route(upload, object_ + "upload"),
        ("PUT", ("object",), _NAME): Route(update, object_ + "upload_update"),
        ("PUT", ("object", "upload", "sign"), _NAME): Route(upload_signed, object_ + "upload_signed", none),
        ("POST", ("object", "upload", "sign"), _NAME): Route(sign_upload, object_ + "sign_upload_url"),
        ("GET", ("object",), _NAME): Route(download, object_ + "get_authenticated", optional),
        ("HEAD", ("object",), _NAME): Route(download, head_info, optional),
        ("GET", ("object", "authenticated"), _NAME): Route(download, object_ + "get_authenticated"),
        ("HEAD", ("object", "authenticated"), _NAME): Route(download, head_info),
        ("GET", ("object", "public"), _NAME): Route(download_public, object_ + "get_public", none),
        ("HEAD", ("object", "public"), _NAME): Route(download_public, object_ + "info_public", none),
        ("GET", ("object", "sign"), _NAME): Route(download_signed, object_ + "get_signed", none),
        ("GET", ("object", "info"), _NAME): Route(info, get_info, optional),
        ("GET", ("object", "info", "authenticated"), _NAME): Route(info, get_info),
        ("GET", ("object", "info", "public"), _NAME): Route(info_public, object_ + "info_public", none),
        ("POST", ("object", "sign"), _NAME): Route(sign, object_ + "sign"),
        ("POST", ("object", "sign"), _BUCKET): Route(sign_many, object_ + "sign_many"),
        ("POST", ("object", "list"), _BUCKET): Route(list_objects, object_ + "list"),
        ("POST", ("object", "list-v2"), _BUCKET): Route(list_objects_v2, object_ + "list_v2"),
        ("DELETE", ("object",), _NAME): Route(delete_object, object_ + "delete"),
        ("DELETE", ("object",), _BUCKET): Route(delete_objects, object_ + "delete_many"),
        ("POST", ("object", "move"), _BARE): Route(move_object, object_ + "move"),
        ("POST", ("object", "copy"), _BARE): Route(copy_object, object_ + "copy"),
        ("GET", ("health",), _BARE): Route(health, "storage.health", none),
        ("GET", ("status",), _BARE): Route(status, "storage.status", none),
        ("GET", ("version",), _BARE): Route(version, "storage.version", none),
        ("DELETE", ("cdn",), _BARE): Route(purge, "storage.cdn.purge"),
        ("DELETE", ("cdn",), _BUCKET): Route(purge, "storage.cdn.purge"),
        ("DELETE", ("cdn",), _NAME): Route(purge, "storage.cdn.purge"),
    }


ROUTES: Mapping[tuple[str, tuple[str, ...], int], Route] = MappingProxyType(_table())
"""Method, fixed words, and what follows them (nothing, a bucket, a bucket and a name) → route."""
