"""Operations on buckets."""

from __future__ import annotations

from socle_storage import buckets
from socle_storage.bodies import Fields
from socle_storage.s3api.call import S3Call, xml_response
from socle_storage.s3api.documents import MAX_DOCUMENT, Node, render_document
from socle_storage.s3api.payload import read_document
from socle_storage.store import BucketList


async def list_buckets(call: S3Call) -> None:
    found = await call.storage.store.list_buckets(call.caller, BucketList(column="name"))
    listed: list[Node] = [("Bucket", [("Name", bucket.name), ("CreationDate", bucket.created_at)]) for bucket in found]
    tenant = call.storage.settings.tenant
    owner: list[Node] = [("ID", tenant), ("DisplayName", tenant)]
    await call.answer("ListAllMyBucketsResult", [("Owner", owner), ("Buckets", listed)])


async def create_bucket(call: S3Call) -> None:
    await read_document(call.exchange, call.signer, MAX_DOCUMENT)
    public = call.header("x-amz-acl") in {"public-read", "public-read-write"}
    await buckets.create(call.storage, call.caller, Fields({"name": call.bucket, "public": public}))
    await call.done(200, [("location", f"/{call.bucket}")])


async def delete_bucket(call: S3Call) -> None:
    await buckets.delete(call.storage, call.caller, call.bucket)
    await call.done(204)


async def head_bucket(call: S3Call) -> None:
    await buckets.get(call.storage, call.caller, call.bucket)
    await call.done(200, [("x-amz-bucket-region", call.storage.settings.region)])


async def get_location(call: S3Call) -> None:
    await buckets.get(call.storage, call.caller, call.bucket)
    region = call.storage.settings.region
    await call.exchange.respond(xml_response(200, render_document("LocationConstraint", region)))


async def get_versioning(call: S3Call) -> None:
    await buckets.get(call.storage, call.caller, call.bucket)
    await call.answer("VersioningConfiguration", [("Status", "Suspended")])
