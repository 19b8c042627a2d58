"""Checksums that come with a body: each kind is verified, wherever it stands."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from harness.s3_client import ANON, KEY, S3, SECRET, code_of, signed
from harness.storage import Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings
from socle_storage.errors import StorageError
from socle_storage.s3api.checksums import digester_of, parse_checksum, parse_whole_checksum

MIB = 1024 * 1024
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512")


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    protocol = S3ProtocolSettings(access_key=KEY, secret_key=SECRET, anon_key=ANON)
    return replace(settings, s3_protocol=protocol, size_limit=40 * MIB)


def checksum(algorithm: str, body: bytes) -> str:
    digester = digester_of(algorithm)
    digester.update(body)
    return base64.b64encode(digester.digest()).decode()


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("CRC32", "cbf43926"),
        ("CRC32C", "e3069283"),
        ("CRC64NVME", "ae8b14860a799888"),
        ("SHA1", hashlib.sha1(b"123456789", usedforsecurity=False).hexdigest()),
        ("SHA256", hashlib.sha256(b"123456789").hexdigest()),
    ],
)
def test_published_check_values(algorithm: str, expected: str) -> None:
    """The CRC catalogue's check values, in pieces of any length."""
    for cut in range(10):
        digester = digester_of(algorithm)
        digester.update(b"123456789"[:cut])
        digester.update(b"123456789"[cut:])
        assert digester.digest().hex() == expected


async def put(lab: Lab, bucket: str, body: bytes, **headers: str) -> httpx.Response:
    url = f"{lab.url}/s3/{bucket}/a"
    return await lab.http.put(url, content=body, headers=signed(lab, "PUT", url, body, **headers))


async def refused(lab: Lab, bucket: str, answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, f"<Code>{code}</Code>" in answer.text) == (400, True), answer.text
    assert await lab.row(bucket, "a") is None
    assert await lab.stored() == set()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_in_a_header(lab: Lab, algorithm: str) -> None:
    bucket, body = await lab.bucket(), os.urandom(100_000)
    name = f"x_amz_checksum_{algorithm.lower()}"
    answer = await put(lab, bucket, body, **{name: checksum(algorithm, body + b"!")})
    await refused(lab, bucket, answer, "BadDigest")
    assert f"The {algorithm} you specified did not match" in answer.text
    for nonsense in ("?", "AAAA", ""):
        await refused(lab, bucket, await put(lab, bucket, body, **{name: nonsense}), "InvalidRequest")
    assert (await put(lab, bucket, body, **{name: checksum(algorithm, body)})).status_code == 200


async def test_only_one_and_only_known_ones(lab: Lab) -> None:
    bucket = await lab.bucket()
    two = {f"x_amz_checksum_{name.lower()}": checksum(name, b"x") for name in ("CRC32", "SHA1")}
    await refused(lab, bucket, await put(lab, bucket, b"x", **two), "InvalidRequest")
    await refused(lab, bucket, await put(lab, bucket, b"x", x_amz_checksum_adler="AAAAAA=="), "InvalidRequest")
    await refused(lab, bucket, await put(lab, bucket, b"x", content_md5="AAAA"), "InvalidDigest")
    about = {"x_amz_checksum_algorithm": "CRC32", "x_amz_checksum_type": "FULL_OBJECT"}
    assert (await put(lab, bucket, b"x", **about)).status_code == 200


def chunks(body: bytes, trailer: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailer)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_behind_the_body(lab: Lab, algorithm: str) -> None:
    bucket, body = await lab.bucket(), os.urandom(100_000)
    name = f"x-amz-checksum-{algorithm.lower()}"

    async def send(trailer: str, announced: str = name) -> httpx.Response:
        url = f"{lab.url}/s3/{bucket}/a"
        extra = {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(len(body)),
            "content-encoding": "aws-chunked",
            **({"x-amz-trailer": announced} if announced else {}),
        }
        content = chunks(body, trailer.encode())
        return await lab.http.put(url, content=content, headers=signed(lab, "PUT", url, b"", **extra))

    right = checksum(algorithm, body)
    await refused(lab, bucket, await send(f"{name}:{checksum(algorithm, b'')}\r\n"), "BadDigest")
    await refused(lab, bucket, await send(f"{name}:AA\r\n"), "InvalidRequest")
    await refused(lab, bucket, await send(""), "MalformedTrailerError")
    await refused(lab, bucket, await send(f"{name}:{right}\r\n", announced=""), "MalformedTrailerError")
    await refused(lab, bucket, await send("", announced="x-amz-checksum-adler"), "InvalidRequest")
    assert (await send(f"{name}:{right}\r\n")).status_code == 200


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
async def test_of_a_part(lab: Lab, algorithm: str) -> None:
    bucket, s3 = await lab.bucket(), S3(lab.url)
    begun = await s3.create_multipart_upload(Bucket=bucket, Key="a")
    place = {"Bucket": bucket, "Key": "a", "UploadId": begun["UploadId"], "PartNumber": 1}
    good = await s3.upload_part(**place, Body=b"good", **{f"Checksum{algorithm}": checksum(algorithm, b"good")})
    with pytest.raises(ClientError) as error:
        await s3.upload_part(**place, Body=b"bad", **{f"Checksum{algorithm}": checksum(algorithm, b"good")})
    assert code_of(error) == (400, "BadDigest")
    parts = [{"PartNumber": 1, "ETag": good["ETag"]}]
    del place["PartNumber"]
    await s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    assert await s3.body(Bucket=bucket, Key="a") == b"good"


Sums = Callable[[str, list[bytes]], str]


def of_all(algorithm: str, parts: list[bytes]) -> str:
    return checksum(algorithm, b"".join(parts))


def of_parts(algorithm: str, parts: list[bytes]) -> str:
    digests = b"".join(base64.b64decode(checksum(algorithm, part)) for part in parts)
    return f"{checksum(algorithm, digests)}-{len(parts)}"


@pytest.mark.parametrize(("sums", "algorithm"), [(of_all, "CRC64NVME"), (of_parts, "SHA256"), (of_parts, "CRC32C")])
async def test_of_a_whole_made_of_parts(lab: Lab, sums: Sums, algorithm: str) -> None:
    """The completion's header is about the object, not about the document that completes it."""
    bucket, s3 = await lab.bucket(), S3(lab.url)
    bodies = [os.urandom(5 * MIB), os.urandom(1000)]

    begun = await s3.create_multipart_upload(Bucket=bucket, Key="a")
    place = {"Bucket": bucket, "Key": "a", "UploadId": begun["UploadId"]}
    parts: list[dict[str, Any]] = []
    for number, body in enumerate(bodies, 1):
        part = await s3.upload_part(**place, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    whole = {**place, "MultipartUpload": {"Parts": parts}}
    for wrong in (sums(algorithm, bodies[:1]), sums(algorithm, bodies[::-1])):
        with pytest.raises(ClientError) as error:
            await s3.complete_multipart_upload(**whole, **{f"Checksum{algorithm}": wrong})
        assert code_of(error) == (400, "BadDigest")
        assert await lab.row(bucket, "a") is None
    await s3.complete_multipart_upload(**whole, **{f"Checksum{algorithm}": sums(algorithm, bodies)})
    assert await s3.body(Bucket=bucket, Key="a") == b"".join(bodies)
    assert await lab.stored() == await lab.versions()


async def test_in_a_form(lab: Lab) -> None:
    bucket, s3 = await lab.bucket(), S3(lab.url)
    name, right = "x-amz-checksum-crc32c", checksum("CRC32C", b"by form")
    conditions = [["starts-with", f"${name}", ""]]
    signed_form = await s3.generate_presigned_post(bucket, "a", Conditions=conditions)

    async def post(value: str) -> httpx.Response:
        fields = {**signed_form["fields"], name: value}
        return await lab.http.post(signed_form["url"], data=fields, files={"file": ("x", b"by form", "text/plain")})

    await refused(lab, bucket, await post(checksum("CRC32C", b"other")), "BadDigest")
    await refused(lab, bucket, await post("x"), "InvalidRequest")
    assert (await post(right)).status_code == 204


async def test_of_a_document(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    url, body = f"{lab.url}/s3/{bucket}?delete=", b"<Delete><Object><Key>a</Key></Object></Delete>"
    for value, status in ((zlib.crc32(body) ^ 1, 400), (zlib.crc32(body), 200)):
        text = base64.b64encode(value.to_bytes(4, "big")).decode()
        headers = signed(lab, "POST", url, body, x_amz_checksum_crc32=text)
        assert (await lab.http.post(url, content=body, headers=headers)).status_code == status
        assert (await lab.row(bucket, "a") is None) is (status == 200)


@pytest.mark.parametrize("text", ["", "AAAAAA==-", "AAAAAA==-x", "AAAAAA==-123456", "AAAA-2"])
def test_what_is_no_checksum_of_a_whole(text: str) -> None:
    with pytest.raises(StorageError, match="x-amz-checksum-crc32 header is invalid"):
        parse_whole_checksum([("x-amz-checksum-crc32", text)])
    with pytest.raises(StorageError, match="not valid"):
        parse_checksum("Content-MD5", text)
