"""What an audit of the wire against the contract found, row by row, so that it stays found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.s3_client import ANON, KEY, S3, SECRET, signed
from harness.storage import Lab, refusal
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    return replace(settings, s3_protocol=S3ProtocolSettings(access_key=KEY, secret_key=SECRET, anon_key=ANON))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/bucket/none"),
        ("GET", "/object/none/a"),
        ("POST", "/vector/ListVectorBuckets"),
        ("POST", "/bucket"),
    ],
)
async def test_an_error_names_its_charset(lab: Lab, method: str, path: str) -> None:
    answer = await lab.http.request(method, path, headers=lab.service)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert refusal(answer)[0] >= 400


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"", "Body cannot be empty when content-type is set to 'application/json'"),
        ("application/json", b"{", "Body is not valid JSON but content-type is set to 'application/json'"),
        ("text/plain", b'{"name": "a"}', "body must be object"),
        (None, b"", "body must be object"),
        ("application/json", b"[]", "body must be object"),
    ],
)
@pytest.mark.parametrize("path", ["/bucket", "/object/list/x", "/object/move", "/object/sign/x"])
async def test_a_body_that_is_no_json(lab: Lab, content_type: str | None, body: bytes, message: str, path: str) -> None:
    headers = {**lab.service, **({"content-type": content_type} if content_type else {})}
    answer = await lab.http.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (400, message)
    assert (answer.json()["statusCode"], answer.json()["code"]) == ("400", "InvalidRequest")


@pytest.mark.parametrize("path", ["/bucket/{}", "/bucket/{}/empty"])
async def test_routes_without_a_body_take_an_empty_one_as_json(lab: Lab, path: str) -> None:
    method = "POST" if path.endswith("empty") else "DELETE"
    headers = {**lab.service, "content-type": "application/json"}
    answer = await lab.http.request(method, path.format(await lab.bucket()), content=b"", headers=headers)
    assert answer.status_code == 200, answer.text


async def test_an_empty_robots_tag_is_none(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    headers = {**lab.service, "x-robots-tag": ""}
    assert (await lab.http.post(f"/object/{bucket}/a", content=b"x", headers=headers)).status_code == 200
    assert (await lab.http.get(f"/object/public/{bucket}/a")).headers["x-robots-tag"] == "none"
    row = await lab.row(bucket, "a")
    assert row is not None
    assert "xRobotsTag" not in row["metadata"]


async def test_s3_refuses_versions_as_not_implemented(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = f"{lab.url}/s3/{bucket}?versioning="
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    answer = await lab.http.put(url, content=body, headers=signed(lab, "PUT", url, body))
    assert (answer.status_code, "<Code>NotImplemented</Code>" in answer.text) == (501, True)
    answer = await lab.http.get(url, headers=signed(lab, "GET", url))
    assert "<Status>Suspended</Status>" in answer.text


async def test_s3_says_when_a_part_was_stored(lab: Lab) -> None:
    bucket, s3 = await lab.bucket(), S3(lab.url)
    begun = await s3.create_multipart_upload(Bucket=bucket, Key="a")
    place = {"Bucket": bucket, "Key": "a", "UploadId": begun["UploadId"]}
    await s3.upload_part(**place, PartNumber=1, Body=b"x")
    (part,) = (await s3.list_parts(**place))["Parts"]
    stored = await lab.admin.fetchval("select created_at from storage.s3_multipart_uploads_parts")
    assert abs((part["LastModified"] - stored).total_seconds()) < 0.001
    assert part["Size"] == 1


async def test_s3_replaces_all_of_the_metadata_of_a_copy(lab: Lab) -> None:
    bucket, s3 = await lab.bucket(), S3(lab.url)
    facts = {"ContentType": "text/plain", "CacheControl": "max-age=9", "Metadata": {"k": "v"}}
    await s3.put_object(Bucket=bucket, Key="a", Body=b"x", **facts)
    source = {"Bucket": bucket, "Key": "a"}
    await s3.copy_object(Bucket=bucket, Key="kept", CopySource=source, ContentType="image/png")
    await s3.copy_object(Bucket=bucket, Key="bare", CopySource=source, MetadataDirective="REPLACE")
    kept, bare = [await s3.head_object(Bucket=bucket, Key=key) for key in ("kept", "bare")]
    assert (kept["ContentType"], kept["CacheControl"], kept["Metadata"]) == ("text/plain", "max-age=9", {"k": "v"})
    assert (bare["ContentType"], bare["CacheControl"]) == ("application/octet-stream", "no-cache")
    assert bare["Metadata"] == {}


async def test_s3_marks_an_empty_folder_as_the_rest_does(lab: Lab) -> None:
    bucket, s3 = await lab.bucket(allowed_mime_types=["image/png"]), S3(lab.url)
    await s3.put_object(Bucket=bucket, Key="holiday/", Body=b"")
    assert await lab.row(bucket, "holiday/") is None
    assert await lab.row(bucket, "holiday/.emptyFolderPlaceholder") is not None
    await s3.put_object(Bucket=bucket, Key="holiday/", Body=b"bytes", ContentType="image/png")
    assert await lab.row(bucket, "holiday/") is not None


class TestStandardLimit:
    """UPLOAD_FILE_SIZE_LIMIT_STANDARD holds for whatever comes in one request, not for parts."""

    @pytest.fixture
    def settings(self, settings: StorageSettings) -> StorageSettings:
        return replace(settings, standard_limit=10)

    async def test_one_request(self, lab: Lab) -> None:
        bucket = await lab.bucket()
        for size, status in ((10, 200), (11, 413)):
            url, body = f"{lab.url}/s3/{bucket}/{size}", b"x" * size
            assert (await lab.http.put(url, content=body, headers=signed(lab, "PUT", url, body))).status_code == status
            form = await S3(lab.url).generate_presigned_post(bucket, f"form-{size}")
            sent = await lab.http.post(form["url"], data=form["fields"], files={"file": ("x", body)})
            assert sent.status_code == (204 if status == 200 else status)
            plain = await lab.http.post(f"/object/{bucket}/plain-{size}", content=body, headers=lab.service)
            assert plain.json().get("statusCode", "200") == str(status)

    async def test_parts(self, lab: Lab) -> None:
        bucket, s3 = await lab.bucket(), S3(lab.url)
        begun = await s3.create_multipart_upload(Bucket=bucket, Key="a")
        place = {"Bucket": bucket, "Key": "a", "UploadId": begun["UploadId"]}
        part = await s3.upload_part(**place, PartNumber=1, Body=b"x" * 11)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        await s3.complete_multipart_upload(**place, MultipartUpload=parts)
        assert len(await s3.body(Bucket=bucket, Key="a")) == 11
