"""The S3 protocol by a genuine client (boto3), and by hand where a client behaves too well."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import replace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from harness.s3_client import ANON, KEY, S3, SECRET, code_of, signed
from harness.storage import ALICE, Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings
from socle_platform.events import Noted

MIB = 1024 * 1024


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    """With a key pair, and room for uploads in parts."""
    protocol = S3ProtocolSettings(access_key=KEY, secret_key=SECRET, anon_key=ANON)
    return replace(settings, s3_protocol=protocol, size_limit=40 * MIB, region="eu-west-3")


@pytest.fixture
def s3(lab: Lab) -> S3:
    return S3(lab.url)


async def test_buckets(lab: Lab, s3: S3) -> None:
    await s3.create_bucket(Bucket="one", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    await s3.create_bucket(Bucket="two", ACL="public-read")
    assert [bucket["Name"] for bucket in (await s3.list_buckets())["Buckets"]] == ["one", "two"]
    assert await lab.admin.fetchval("select public from storage.buckets where id = 'two'")
    await s3.head_bucket(Bucket="one")
    assert (await s3.get_bucket_location(Bucket="one"))["LocationConstraint"] == "eu-west-3"
    assert (await s3.get_bucket_versioning(Bucket="one"))["Status"] == "Suspended"
    with pytest.raises(ClientError) as error:
        await s3.create_bucket(Bucket="one")
    assert code_of(error) == (409, "BucketAlreadyExists")
    await s3.put_object(Bucket="one", Key="a", Body=b"1")
    with pytest.raises(ClientError) as error:
        await s3.delete_bucket(Bucket="one")
    assert code_of(error)[0] == 409
    await s3.delete_bucket(Bucket="two")
    with pytest.raises(ClientError) as error:
        await s3.head_bucket(Bucket="two")
    assert code_of(error)[0] == 404
    with pytest.raises(ClientError) as error:
        await s3.list_objects_v2(Bucket="two")
    assert code_of(error) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as error:
        await s3.get_bucket_acl(Bucket="one")
    assert code_of(error) == (501, "NotImplemented")


async def test_an_object_and_its_facts(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    key = "folder/a file+with (some) 'signs' = & more.txt"
    put = await s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=b"hello world",
        ContentType="text/plain",
        CacheControl="max-age=5",
        Metadata={"color": "blue"},
    )
    assert put["ETag"] == f'"{hashlib.md5(b"hello world", usedforsecurity=False).hexdigest()}"'
    head = await s3.head_object(Bucket=bucket, Key=key)
    assert head["ContentLength"] == 11
    assert head["ContentType"] == "text/plain"
    assert head["CacheControl"] == "max-age=5"
    assert head["Metadata"] == {"color": "blue"}
    assert head["ETag"] == put["ETag"]
    assert await s3.body(Bucket=bucket, Key=key) == b"hello world"
    row = await lab.row(bucket, key)
    assert row is not None
    assert row["user_metadata"] == {"color": "blue"}
    assert row["metadata"]["contentLength"] == 11
    assert (await s3.get_object_tagging(Bucket=bucket, Key=key))["TagSet"] == []
    await s3.delete_object(Bucket=bucket, Key=key)
    await s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ClientError) as error:
        await s3.get_object(Bucket=bucket, Key=key)
    assert code_of(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        await s3.head_object(Bucket=bucket, Key=key)
    assert code_of(error)[0] == 404


async def test_ranges_and_conditions(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    etag = (await s3.put_object(Bucket=bucket, Key="a", Body=b"0123456789"))["ETag"]
    assert await s3.body(Bucket=bucket, Key="a", Range="bytes=2-4") == b"234"
    part = await s3.get_object(Bucket=bucket, Key="a", Range="bytes=-3")
    assert part["ContentRange"] == "bytes 7-9/10"
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError) as error:
        await s3.get_object(Bucket=bucket, Key="a", Range="bytes=10-")
    assert code_of(error) == (416, "InvalidRange")
    with pytest.raises(ClientError) as error:
        await s3.get_object(Bucket=bucket, Key="a", IfNoneMatch=etag)
    assert code_of(error)[0] == 304
    with pytest.raises(ClientError) as error:
        await s3.get_object(Bucket=bucket, Key="a", IfMatch='"other"')
    assert code_of(error) == (412, "PreconditionFailed")
    assert await s3.body(Bucket=bucket, Key="a", IfMatch=etag) == b"0123456789"
    changed = await s3.get_object(Bucket=bucket, Key="a", ResponseContentType="text/html", ResponseCacheControl="x")
    assert (changed["ContentType"], changed["CacheControl"]) == ("text/html", "x")
    with pytest.raises(ClientError) as error:
        await s3.put_object(Bucket=bucket, Key="a", Body=b"new", IfNoneMatch="*")
    assert code_of(error) == (412, "PreconditionFailed")
    await s3.put_object(Bucket=bucket, Key="b", Body=b"new", IfNoneMatch="*")


async def test_copies(lab: Lab, s3: S3) -> None:
    bucket, other = await lab.bucket(), await lab.bucket()
    etag = (await s3.put_object(Bucket=bucket, Key="a b", Body=b"x", ContentType="text/plain", Metadata={"k": "v"}))[
        "ETag"
    ]
    source = {"Bucket": bucket, "Key": "a b"}
    copied = await s3.copy_object(Bucket=other, Key="c", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == etag
    assert (await s3.head_object(Bucket=other, Key="c"))["Metadata"] == {"k": "v"}
    await s3.copy_object(
        Bucket=bucket,
        Key="a b",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"new": "1"},
        ContentType="image/png",
    )
    head = await s3.head_object(Bucket=bucket, Key="a b")
    assert (head["Metadata"], head["ContentType"]) == ({"new": "1"}, "image/png")
    assert await s3.body(Bucket=bucket, Key="a b") == b"x"
    for condition in ({"CopySourceIfMatch": '"z"'}, {"CopySourceIfNoneMatch": etag}):
        with pytest.raises(ClientError) as error:
            await s3.copy_object(Bucket=other, Key="d", CopySource=source, **condition)
        assert code_of(error) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        await s3.copy_object(Bucket=other, Key="d", CopySource=f"{bucket}/nothing")
    assert code_of(error) == (404, "NoSuchKey")


async def test_lists_by_pages_and_folders(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    names = ["a", "a/b", "a/c/d", "a-b", "b/1", "b/2", "c d+e", "z"]
    for name in names:
        await lab.put(bucket, name.replace("+", "%2B"))
    flat = await s3.list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in flat["Contents"]] == sorted(names)
    assert flat["KeyCount"] == len(names)
    assert flat["Contents"][0]["Size"] == 5
    for version, size in ((1, 1), (1, 3), (2, 1), (2, 2), (2, 5)):
        keys, prefixes = await pages(s3, bucket, version, size)
        assert keys == ["a", "a-b", "c d+e", "z"]
        assert prefixes == ["a/", "b/"]
    deeper = await s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")
    assert [entry["Key"] for entry in deeper["Contents"]] == ["a/b"]
    assert [entry["Prefix"] for entry in deeper["CommonPrefixes"]] == ["a/c/"]
    after = await s3.list_objects_v2(Bucket=bucket, StartAfter="b/1")
    assert [entry["Key"] for entry in after["Contents"]] == ["b/2", "c d+e", "z"]
    other = await s3.list_objects_v2(Bucket=bucket, Delimiter="-")
    assert [entry["Prefix"] for entry in other["CommonPrefixes"]] == ["a-"]
    assert (await s3.list_objects_v2(Bucket=bucket, MaxKeys=0))["KeyCount"] == 0
    with pytest.raises(ClientError) as error:
        await s3.list_objects_v2(Bucket=bucket, ContinuationToken="é")
    assert code_of(error)[0] == 400


async def pages(s3: S3, bucket: str, version: int, size: int) -> tuple[list[str], list[str]]:
    keys: list[str] = []
    prefixes: list[str] = []
    more: dict[str, str] = {}
    call = s3.list_objects if version == 1 else s3.list_objects_v2
    while True:
        page = await call(Bucket=bucket, Delimiter="/", MaxKeys=size, **more)
        keys += [entry["Key"] for entry in page.get("Contents", ())]
        prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
        if not page["IsTruncated"]:
            return keys, prefixes
        assert len(page.get("Contents", ())) + len(page.get("CommonPrefixes", ())) == size
        more = {"Marker": page["NextMarker"]} if version == 1 else {"ContinuationToken": page["NextContinuationToken"]}


async def test_many_deletions(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    for name in ("a", "b", "c"):
        await lab.put(bucket, name)
    wanted = {"Objects": [{"Key": "a"}, {"Key": "b"}, {"Key": "never"}]}
    answer = await s3.delete_objects(Bucket=bucket, Delete=wanted)
    assert sorted(entry["Key"] for entry in answer["Deleted"]) == ["a", "b", "never"]
    assert [entry["Key"] for entry in (await s3.list_objects_v2(Bucket=bucket))["Contents"]] == ["c"]
    quiet = await s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert "Deleted" not in quiet


async def test_an_upload_in_parts(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    body = os.urandom(12 * MIB)
    begun = await s3.create_multipart_upload(
        Bucket=bucket, Key="big", ContentType="video/webm", CacheControl="max-age=9", Metadata={"m": "1"}
    )
    place = {"Bucket": bucket, "Key": "big", "UploadId": begun["UploadId"]}
    pieces = {1: body[: 5 * MIB], 3: body[5 * MIB : 10 * MIB], 7: body[10 * MIB :]}
    await s3.upload_part(**place, PartNumber=7, Body=b"to be replaced")
    tags = {
        number: (await s3.upload_part(**place, PartNumber=number, Body=piece))["ETag"]
        for number, piece in pieces.items()
    }
    listed = await s3.list_parts(**place, MaxParts=2)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, 5 * MIB), (3, 5 * MIB)]
    assert listed["IsTruncated"]
    rest = await s3.list_parts(**place, PartNumberMarker=listed["NextPartNumberMarker"])
    assert [part["PartNumber"] for part in rest["Parts"]] == [7]
    uploads = await s3.list_multipart_uploads(Bucket=bucket)
    assert [(entry["Key"], entry["UploadId"]) for entry in uploads["Uploads"]] == [("big", begun["UploadId"])]
    assert await lab.row(bucket, "big") is None
    wrong = {"Parts": [{"PartNumber": 1, "ETag": tags[3]}]}
    with pytest.raises(ClientError) as error:
        await s3.complete_multipart_upload(**place, MultipartUpload=wrong)
    assert code_of(error) == (400, "InvalidPart")
    order = {"Parts": [{"PartNumber": number, "ETag": tags[number]} for number in (3, 1)]}
    with pytest.raises(ClientError) as error:
        await s3.complete_multipart_upload(**place, MultipartUpload=order)
    assert code_of(error) == (400, "InvalidPartOrder")
    whole = {"Parts": [{"PartNumber": number, "ETag": tags[number]} for number in (1, 3, 7)]}
    done = await s3.complete_multipart_upload(**place, MultipartUpload=whole)
    assert done["ETag"].endswith('-3"')
    assert await s3.body(Bucket=bucket, Key="big") == body
    head = await s3.head_object(Bucket=bucket, Key="big")
    assert (head["ContentType"], head["CacheControl"], head["Metadata"]) == ("video/webm", "max-age=9", {"m": "1"})
    assert "Uploads" not in await s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        await s3.list_parts(**place)
    assert code_of(error) == (404, "NoSuchUpload")
    assert await lab.stored() == await lab.versions()
    assert not any((lab.folder / "uploads").iterdir())


async def test_parts_out_of_objects_and_an_upload_given_up(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    await s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    begun = await s3.create_multipart_upload(Bucket=bucket, Key="copy")
    place = {"Bucket": bucket, "Key": "copy", "UploadId": begun["UploadId"]}
    source = {"Bucket": bucket, "Key": "source"}
    first = await s3.upload_part_copy(**place, PartNumber=1, CopySource=source, CopySourceRange="bytes=5-9")
    second = await s3.upload_part_copy(**place, PartNumber=2, CopySource=source)
    with pytest.raises(ClientError) as error:
        await s3.upload_part_copy(**place, PartNumber=3, CopySource=source, CopySourceRange="bytes=5-10")
    assert code_of(error) == (416, "InvalidRange")
    parts = [{"PartNumber": n, "ETag": part["CopyPartResult"]["ETag"]} for n, part in ((1, first), (2, second))]
    await s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    assert await s3.body(Bucket=bucket, Key="copy") == b"567890123456789"
    given_up = await s3.create_multipart_upload(Bucket=bucket, Key="copy")
    place["UploadId"] = given_up["UploadId"]
    await s3.upload_part(**place, PartNumber=1, Body=b"x")
    with pytest.raises(ClientError) as error:
        await s3.delete_bucket(Bucket=bucket)
    assert code_of(error)[0] == 409
    await s3.abort_multipart_upload(**place)
    with pytest.raises(ClientError) as error:
        await s3.upload_part(**place, PartNumber=2, Body=b"x")
    assert code_of(error) == (404, "NoSuchUpload")
    for number in (0, 10_001):
        with pytest.raises(ClientError) as error:
            await s3.upload_part(**place, PartNumber=number, Body=b"x")
        assert code_of(error)[0] == 400


async def test_limits_on_types_and_sizes(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket(file_size_limit=5, allowed_mime_types=["text/plain"])
    with pytest.raises(ClientError) as error:
        await s3.put_object(Bucket=bucket, Key="a", Body=b"123", ContentType="image/png")
    assert code_of(error) == (415, "InvalidMimeType")
    with pytest.raises(ClientError) as error:
        await s3.put_object(Bucket=bucket, Key="a", Body=b"123456", ContentType="text/plain")
    assert code_of(error) == (413, "EntityTooLarge")
    begun = await s3.create_multipart_upload(Bucket=bucket, Key="a", ContentType="text/plain")
    place = {"Bucket": bucket, "Key": "a", "UploadId": begun["UploadId"]}
    await s3.upload_part(**place, PartNumber=1, Body=b"1234")
    await s3.upload_part(**place, PartNumber=1, Body=b"12345")
    with pytest.raises(ClientError) as error:
        await s3.upload_part(**place, PartNumber=2, Body=b"6")
    assert code_of(error) == (413, "EntityTooLarge")
    with pytest.raises(ClientError) as error:
        await s3.put_object(Bucket=bucket, Key="a/../b", Body=b"1", ContentType="text/plain")
    assert code_of(error) == (400, "InvalidKey")


@pytest.mark.parametrize(
    "config",
    [
        {"request_checksum_calculation": "when_required"},
        {"request_checksum_calculation": "when_supported"},
        {"s3": {"addressing_style": "path", "payload_signing_enabled": True}},
    ],
    ids=["plain", "trailer", "signed payload"],
)
async def test_every_way_to_send_a_body(lab: Lab, config: dict[str, Any]) -> None:
    bucket = await lab.bucket()
    s3 = S3(lab.url, **config)
    body = os.urandom(300_000)
    await s3.put_object(Bucket=bucket, Key="bytes", Body=body)
    await s3.put_object(Bucket=bucket, Key="stream", Body=io.BytesIO(body))
    await s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    await s3.put_object(Bucket=bucket, Key="sha", Body=body, ChecksumAlgorithm="SHA256")
    for key in ("bytes", "stream", "sha"):
        assert await s3.body(Bucket=bucket, Key=key) == body
    assert await s3.body(Bucket=bucket, Key="empty") == b""


async def test_presigned_addresses(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    put = await s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "a b/u"}, 60)
    assert (await lab.http.put(put, content=b"signed")).status_code == 200
    get = await s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b/u"}, 60)
    answer = await lab.http.get(get, headers={"authorization": "Bearer unrelated"})
    assert answer.content == b"signed"
    assert (await lab.http.put(get, content=b"other")).status_code == 403
    assert (await lab.http.get(get.replace("a%20b", "a%20c"))).status_code == 403
    assert (await lab.http.get(get.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"))).status_code == 403
    old = await s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b/u"}, 1)
    day = old[old.index("X-Amz-Date=") + 11 :][:8]
    assert b"Request has expired" in (await lab.http.get(old.replace(day, "20200101"))).content
    assert (await lab.http.get(get.replace("X-Amz-Expires=60", "X-Amz-Expires=9999999"))).status_code == 400


async def test_the_form_with_a_policy(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    conditions = [
        ["content-length-range", 2, 10],
        ["starts-with", "$x-amz-meta-tag", "t"],
        {"success_action_status": "201"},
    ]
    fields = {"x-amz-meta-tag": "tea", "success_action_status": "201"}
    signed = await s3.generate_presigned_post(bucket, "form.txt", Fields=fields, Conditions=conditions)
    url, fields = signed["url"], signed["fields"]

    async def post(body: bytes, **changed: str) -> httpx.Response:
        sent = {**fields, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return await lab.http.post(url, data=sent, files={"file": ("x.txt", body, "text/plain")})

    answer = await post(b"by form")
    assert answer.status_code == 201, answer.text
    assert b"<Key>form.txt</Key>" in answer.content
    assert await s3.body(Bucket=bucket, Key="form.txt") == b"by form"
    assert (await s3.head_object(Bucket=bucket, Key="form.txt"))["Metadata"] == {"tag": "tea"}
    assert (await post(b"1")).status_code == 400
    assert (await post(b"12345678901")).status_code == 413
    assert (await post(b"123", key="other.txt")).status_code == 403
    assert (await post(b"123", x_amz_meta_tag="coffee")).status_code == 403
    assert (await post(b"123", x_amz_meta_more="t")).status_code == 403
    assert (await post(b"123", policy=base64.b64encode(b"{}").decode())).status_code == 403
    assert await lab.stored() == await lab.versions()


async def test_a_session_is_its_user(lab: Lab) -> None:
    bucket = await lab.bucket()
    mine = S3(lab.url, lab.storage.settings.tenant, ANON, lab.token("authenticated", ALICE))
    with pytest.raises(ClientError) as error:
        await mine.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert code_of(error) == (403, "AccessDenied")
    for action in ("select", "insert", "update", "delete"):
        await lab.policy(
            action, check="name like 'mine/%' and current_setting('storage.operation') like 'storage.s3.%'"
        )
    await mine.put_object(Bucket=bucket, Key="mine/a", Body=b"1")
    row = await lab.row(bucket, "mine/a")
    assert row is not None
    assert row["owner_id"] == ALICE
    await lab.put(bucket, "yours")
    assert [entry["Key"] for entry in (await mine.list_objects_v2(Bucket=bucket))["Contents"]] == ["mine/a"]
    with pytest.raises(ClientError) as error:
        await mine.get_object(Bucket=bucket, Key="yours")
    assert code_of(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        await mine.delete_object(Bucket=bucket, Key="yours")
    assert code_of(error) == (403, "AccessDenied")
    answer = await mine.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "yours"}, {"Key": "mine/a"}]})
    assert [entry["Code"] for entry in answer["Errors"]] == ["AccessDenied"]
    assert [entry["Key"] for entry in answer["Deleted"]] == ["mine/a"]
    begun = await mine.create_multipart_upload(Bucket=bucket, Key="mine/b")
    other = S3(
        lab.url, lab.storage.settings.tenant, ANON, lab.token("authenticated", "22222222-2222-4222-8222-222222222222")
    )
    with pytest.raises(ClientError) as error:
        await other.upload_part(Bucket=bucket, Key="mine/b", UploadId=begun["UploadId"], PartNumber=1, Body=b"x")
    assert code_of(error) == (404, "NoSuchUpload")
    expired = S3(lab.url, lab.storage.settings.tenant, ANON, lab.token("authenticated", ALICE, expires_in=-100))
    with pytest.raises(ClientError) as error:
        await expired.list_buckets()
    assert code_of(error) == (403, "AccessDenied")


async def test_forged_signatures_are_refused_and_explained(lab: Lab) -> None:
    bucket = await lab.bucket()
    for s3, expected in (
        (S3(lab.url, secret="other"), "SignatureDoesNotMatch"),
        (S3(lab.url, key="nobody"), "InvalidAccessKeyId"),
        (S3(lab.url, lab.storage.settings.tenant, "wrong", lab.token("anon")), "SignatureDoesNotMatch"),
        (S3(lab.url, "wrong", ANON, lab.token("anon")), "InvalidAccessKeyId"),
    ):
        with pytest.raises(ClientError) as error:
            await s3.put_object(Bucket=bucket, Key="a", Body=b"1")
        assert code_of(error) == (403, expected)
    notes = [seen.text for seen in lab.seen if isinstance(seen, Noted) and seen.level == "debug"]
    assert f"PUT\n/s3/{bucket}/a\n" in notes[0]
    assert await lab.stored() == set()
    for headers in (
        {},
        {"authorization": "AWS4-HMAC-SHA256 nonsense"},
        {"authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00"},
        {"authorization": lab.service["authorization"]},
        {
            "authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20200101/r/s3/aws4_request,SignedHeaders=host,"
            f"Signature={'0' * 64}",
            "x-amz-date": "20200101T000000Z",
        },
    ):
        answer = await lab.http.get(f"/s3/{bucket}", headers=headers)
        assert answer.status_code in {400, 403}
        assert answer.content.startswith(b"<?xml")
        assert b"<Error><Resource>" in answer.content


async def test_the_address_that_was_signed_may_be_another(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    path = f"/s3/{bucket}/a"
    public = signed(lab, "GET", f"https://files.example/storage/v1{path}")
    forwarded = {"x-forwarded-host": "files.example", "x-forwarded-prefix": "/storage/v1"}
    assert (await lab.http.get(path, headers=public)).status_code == 403
    assert (await lab.http.get(path, headers={**public, **forwarded})).status_code == 200
    assert (await lab.http.get(path, headers=signed(lab, "GET", f"{lab.url}{path}"))).status_code == 200
    ported = signed(lab, "GET", f"http://files.example:8000/base{path}")
    seen = {"x-forwarded-host": "files.example", "x-forwarded-port": "8000", "x-forwarded-prefix": "/base/"}
    assert (await lab.http.get(path, headers={**ported, **seen})).status_code == 200
    other = signed(lab, "GET", f"{lab.url}/s3/{bucket}/b")
    assert (await lab.http.get(path, headers=other)).status_code == 403


async def test_a_presigned_address_is_for_that_object_and_nothing_else(lab: Lab, s3: S3) -> None:
    """The key was chosen by a stranger; the signer meant a bucket for strangers."""
    bucket, secret = await lab.bucket(), await lab.bucket("secret")
    await lab.put(secret, "plan", b"the plan")
    url = await s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "s3/secret/plan"}, 60)
    query = url.partition("?")[2]
    for prefix in (f"/s3/{bucket}", f"/%733/{bucket}", f"/s3/{bucket}/"):
        answer = await lab.http.get(f"/s3/secret/plan?{query}", headers={"x-forwarded-prefix": prefix})
        assert answer.status_code == 403, prefix
    put = await s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "mine"}, 60)
    for header, value in (
        ("x-amz-copy-source", "secret/plan"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-meta-owner", "somebody"),
    ):
        answer = await lab.http.put(put, content=b"", headers={header: value})
        assert (answer.status_code, b"not signed" in answer.content) == (403, True)
    assert await lab.row(bucket, "mine") is None


async def test_bodies_that_are_not_what_was_signed(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = f"{lab.url}/s3/{bucket}/a"
    right = signed(lab, "PUT", url, b"right")
    answer = await lab.http.put(url, content=b"wrong", headers=right)
    assert (answer.status_code, b"XAmzContentSHA256Mismatch" in answer.content) == (400, True)
    md5 = base64.b64encode(b"0" * 16).decode()
    answer = await lab.http.put(url, content=b"x", headers=signed(lab, "PUT", url, b"x", content_md5=md5))
    assert b"BadDigest" in answer.content
    answer = await lab.http.put(url, content=b"x", headers=signed(lab, "PUT", url, b"x", content_md5="?"))
    assert b"InvalidDigest" in answer.content
    assert await lab.stored() == set()
    assert await lab.row(bucket, "a") is None
    for body in (
        b"",
        b"<Delete/>",
        b"<nonsense",
        b"<!DOCTYPE d [<!ENTITY a 'b'>]><Delete><Object><Key>&a;</Key></Object></Delete>",
    ):
        url = f"{lab.url}/s3/{bucket}?delete="
        answer = await lab.http.post(url, content=body, headers=signed(lab, "POST", url, body))
        assert b"MalformedXML" in answer.content
    for method, path, status in (
        ("DELETE", "", 405),
        ("PATCH", f"/{bucket}/a", 405),
        ("GET", f"/{bucket}?policy", 501),
        ("PUT", f"/{bucket}/a?tagging", 501),
        ("GET", f"/{bucket}/a%00b", 400),
        ("GET", "/%2e%2e/a", 404),
        ("GET", f"/{bucket}?max-keys=x", 400),
        ("POST", f"/{bucket}/a?uploadId=nothing", 404),
    ):
        address = f"{lab.url}/s3{path}"
        raw = httpx.Request(method, address)
        answer = await lab.http.send(httpx.Request(method, raw.url, headers=signed(lab, method, address)))
        assert answer.status_code == status, (method, path, answer.text)


async def test_html_is_inert(lab: Lab, s3: S3) -> None:
    bucket = await lab.bucket()
    await s3.put_object(Bucket=bucket, Key="a.html", Body=b"<script>", ContentType="text/html")
    url = await s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a.html"}, 60)
    answer = await lab.http.get(url)
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
