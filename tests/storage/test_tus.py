"""Resumable uploads over HTTP: the protocol's verbs, who may, and what survives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest

from harness.storage import ALICE, Lab
from socle_platform.config.storage import TusSettings
from socle_storage.store import Seal
from socle_storage.tus.endpoint import ResumableEndpoint
from socle_storage.tus.expiry import abandon_strays, expire
from socle_storage.tus.filling import Filling
from socle_storage.tus.headers import TusRefusal, render_pairs

ROOT = "/upload/resumable"
TUS = {"tus-resumable": "1.0.0"}
STREAM = {"content-type": "application/offset+octet-stream"}


def described(bucket: str, name: str, **more: str) -> str:
    return render_pairs({"bucketName": bucket, "objectName": name, **more})


async def create(
    lab: Lab, bucket: str, name: str, length: int | None, *, who: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    extra = {key.replace("_", "-"): value for key, value in headers.items()}
    size = {"upload-defer-length": "1"} if length is None else {"upload-length": str(length)}
    extra.setdefault("upload-metadata", described(bucket, name, contentType="text/plain"))
    return await lab.http.post(ROOT, headers={**TUS, **size, **(who or lab.service), **extra})


async def append(
    lab: Lab, url: str, offset: int, body: bytes, *, who: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    extra = {key.replace("_", "-"): value for key, value in headers.items()}
    sent = {**TUS, **STREAM, "upload-offset": str(offset), **(who or lab.service), **extra}
    return await lab.http.patch(url, content=body, headers=sent)


async def offset_of(lab: Lab, url: str, who: dict[str, str] | None = None) -> int:
    response = await lab.http.head(url, headers={**TUS, **(who or lab.service)})
    assert response.status_code == 200, response.text
    return int(response.headers["upload-offset"])


async def content(lab: Lab, bucket: str, name: str) -> bytes:
    response = await lab.http.get(f"/object/{bucket}/{name}", headers=lab.service)
    assert response.status_code == 200, response.text
    return response.content


async def test_an_upload_in_pieces_of_any_size(lab: Lab) -> None:
    bucket = await lab.bucket()
    body = os.urandom(6_000_001)
    metadata = described(bucket, "a/b.bin", contentType="image/png", cacheControl="60", metadata='{"k": "v"}')
    created = await create(lab, bucket, "a/b.bin", len(body), upload_metadata=metadata)
    assert created.status_code == 201
    assert created.headers["upload-expires"].endswith("GMT")
    url = created.headers["location"]
    assert url.startswith(f"{lab.url}{ROOT}/")
    position = 0
    for size in (1, 300_000, 5, 4_500_000, 7, 1_199_988):
        answer = await append(lab, url, position, body[position : position + size])
        position += size
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(position)), answer.text
        if position < len(body):
            assert await lab.row(bucket, "a/b.bin") is None
            assert "upload-expires" in answer.headers
    assert position == len(body)
    assert answer.headers["tus-complete"] == "1"
    assert await content(lab, bucket, "a/b.bin") == body
    row = await lab.row(bucket, "a/b.bin")
    assert row is not None
    assert row["metadata"]["mimetype"] == "image/png"
    assert row["metadata"]["cacheControl"] == "max-age=60"
    assert row["metadata"]["size"] == len(body)
    assert row["user_metadata"] == {"k": "v"}
    assert await lab.stored() == await lab.versions()


async def test_creation_with_the_whole_upload_and_an_empty_one(lab: Lab) -> None:
    bucket = await lab.bucket()
    sent = {**TUS, **STREAM, **lab.alice, "upload-length": "5", "upload-metadata": described(bucket, "one")}
    await lab.policy("insert")
    answer = await lab.http.post(ROOT, content=b"hello", headers=sent)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "5")
    assert "upload-expires" not in answer.headers
    row = await lab.row(bucket, "one")
    assert row is not None
    assert (row["owner_id"], str(row["owner"])) == (ALICE, ALICE)
    assert row["metadata"]["eTag"] == f'"{hashlib.md5(b"hello", usedforsecurity=False).hexdigest()}"'
    empty = await create(lab, bucket, "empty", 0)
    assert (empty.status_code, empty.headers["upload-offset"]) == (201, "0")
    assert await content(lab, bucket, "empty") == b""
    assert await offset_of(lab, answer.headers["location"], lab.alice) == 5


async def test_a_deferred_length(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "later", None)).headers["location"]
    assert (await append(lab, url, 0, b"abc")).headers["upload-offset"] == "3"
    asked = await lab.http.head(url, headers={**TUS, **lab.service})
    assert asked.headers["upload-defer-length"] == "1"
    assert "upload-length" not in asked.headers
    assert (await append(lab, url, 3, b"", upload_length="2")).status_code == 413
    assert (await append(lab, url, 3, b"", upload_length="10000001")).status_code == 413
    assert (await append(lab, url, 3, b"def", upload_length="6")).headers["tus-complete"] == "1"
    assert await content(lab, bucket, "later") == b"abcdef"
    too_long = await create(lab, bucket, "endless", None)
    answer = await append(lab, too_long.headers["location"], 0, b"x" * 10_000_001)
    assert (answer.status_code, answer.text) == (413, "Maximum size exceeded\n")


async def test_what_is_asked_and_ended(lab: Lab) -> None:
    bucket = await lab.bucket()
    created = await create(lab, bucket, "a", 10)
    url = created.headers["location"]
    await append(lab, url, 0, b"12345")
    asked = await lab.http.head(url, headers={**TUS, **lab.service})
    assert asked.headers["upload-offset"] == "5"
    assert asked.headers["upload-length"] == "10"
    assert asked.headers["upload-metadata"] == described(bucket, "a", contentType="text/plain")
    assert asked.headers["cache-control"] == "no-store"
    assert (await lab.http.delete(url, headers={**TUS, **lab.service})).status_code == 204
    assert (await lab.http.head(url, headers={**TUS, **lab.service})).status_code == 404
    assert await lab.stored() == set()
    done = (await create(lab, bucket, "b", 1)).headers["location"]
    await append(lab, done, 0, b"1")
    refused = await lab.http.delete(done, headers={**TUS, **lab.service})
    assert (refused.status_code, refused.text) == (400, "Cannot terminate an already completed upload")
    assert await content(lab, bucket, "b") == b"1"


async def test_capabilities(lab: Lab) -> None:
    answer = await lab.http.options(ROOT)
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert (
        answer.headers["tus-extension"] == "creation,creation-with-upload,creation-defer-length,termination,expiration"
    )
    assert answer.headers["tus-max-size"] == "10000000"
    assert (await lab.http.options(f"{ROOT}/sign/abc")).status_code == 204


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"tus-resumable": ""}, 412),
        ({"tus-resumable": "0.2.2"}, 412),
        ({"upload-length": "-1"}, 400),
        ({"upload-length": "abc"}, 400),
        ({"upload-length": "9" * 30}, 400),
        ({"upload-length": "5", "upload-defer-length": "1"}, 400),
        ({"upload-length": "", "upload-defer-length": "2"}, 400),
        ({"upload-length": "10000001"}, 413),
        ({"upload-metadata": "bucketName !!!"}, 400),
        ({"upload-metadata": ""}, 400),
        ({"upload-metadata": "bucketName " + base64.b64encode(b"\xff").decode()}, 400),
        ({"upload-metadata": described("nowhere", "x")}, 404),
        ({"upload-metadata": described("..", "x")}, 404),
        ({"upload-concat": "partial"}, 501),
    ],
)
async def test_creations_that_are_refused(lab: Lab, headers: dict[str, str], status: int) -> None:
    bucket = await lab.bucket()
    sent = {**TUS, **lab.service, "upload-length": "5", "upload-metadata": described(bucket, "x"), **headers}
    answer = await lab.http.post(ROOT, headers={name: value for name, value in sent.items() if value})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["tus-resumable"] == "1.0.0"


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a\0b", "é", "a" * 1025, "a/./b", "back\\slash"])
async def test_names_that_are_refused(lab: Lab, name: str) -> None:
    bucket = await lab.bucket()
    answer = await create(lab, bucket, name, 5, upload_metadata=described(bucket, name))
    assert answer.status_code == 400
    assert answer.text.startswith("Invalid key")


async def test_appends_that_are_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 5)).headers["location"]

    async def status(**changed: str | None) -> int:
        sent: dict[str, str | None] = {**TUS, **STREAM, **lab.service, "upload-offset": "0"}
        sent |= {name.replace("_", "-"): value for name, value in changed.items()}
        headers = {name: value for name, value in sent.items() if value is not None}
        return (await lab.http.patch(url, content=b"abc", headers=headers)).status_code

    assert await status(upload_offset=None) == 403
    assert await status(content_type=None) == 403
    assert await status(content_type="text/plain") == 415
    assert await status(upload_offset="x") == 400
    assert await status(upload_offset="1") == 409
    assert await status(upload_length="7") == 400
    assert (await append(lab, url, 0, b"123456")).status_code == 413
    for broken in ("", "AAAA", "%00", "a/b", render_id_of("b", "n", "nothing"), "A" * 5000):
        assert (await append(lab, f"{ROOT}/{broken}", 0, b"1")).status_code in {404, 400}
    assert await offset_of(lab, url) == 0
    assert (await append(lab, url, 0, b"12345")).status_code == 204


def render_id_of(bucket: str, name: str, version: str) -> str:
    return base64.urlsafe_b64encode(f"{bucket}/{name}/{version}".encode()).rstrip(b"=").decode()


async def test_a_stream_longer_than_declared(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 8)).headers["location"]

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1234"
        await asyncio.sleep(0)
        yield b"56789"

    sent = {**TUS, **STREAM, **lab.service, "upload-offset": "0"}
    answer = await lab.http.patch(url, content=chunks(), headers=sent)
    assert (answer.status_code, answer.text) == (413, "upload's size exceeded\n")
    position = await offset_of(lab, url)
    assert position in {0, 4}
    assert (await append(lab, url, position, b"12345678"[position:])).status_code == 204
    assert await content(lab, bucket, "a") == b"12345678"


async def test_rights_at_every_request(lab: Lab) -> None:
    bucket = await lab.bucket()
    refused = await create(lab, bucket, "a", 5, who=lab.alice)
    assert (refused.status_code, refused.text) == (403, "new row violates row-level security policy")
    seen = "metadata->>'mimetype' = 'text/plain' and (metadata->>'contentLength')::int = 5"
    await lab.policy("insert", check=f"({seen}) and owner_id = '{ALICE}'")
    url = (await create(lab, bucket, "a", 5, who=lab.alice)).headers["location"]
    assert (await append(lab, url, 0, b"12", who=lab.bob)).status_code == 403
    assert (await lab.http.delete(url, headers={**TUS, **lab.bob})).status_code == 403
    assert await offset_of(lab, url, lab.bob) == 0
    assert (await append(lab, url, 0, b"12345", who=lab.alice)).status_code == 204
    again = await create(lab, bucket, "a", 5, who=lab.alice)
    assert (again.status_code, again.text) == (409, "The resource already exists")
    no_token = await lab.http.post(ROOT, headers=TUS)
    assert no_token.status_code == 400
    assert no_token.json()["message"] == "headers must have required property 'authorization'"
    bad = await lab.http.head(url, headers={**TUS, "authorization": "Bearer nonsense"})
    assert bad.status_code == 400


async def test_upsert_and_a_race_for_one_name(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"old")
    url = (await create(lab, bucket, "a", 3, x_upsert="true")).headers["location"]
    assert (await append(lab, url, 0, b"new", x_upsert="true")).status_code == 204
    assert await content(lab, bucket, "a") == b"new"
    first = (await create(lab, bucket, "b", 3)).headers["location"]
    assert (await append(lab, first, 0, b"12")).status_code == 204
    await lab.put(bucket, "b", b"quicker")
    assert (await append(lab, first, 2, b"3")).status_code == 409
    assert await content(lab, bucket, "b") == b"quicker"


async def test_types_and_limits_of_the_bucket(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=4, allowed_mime_types=["image/*"])
    assert (await create(lab, bucket, "a", 5, upload_metadata=described(bucket, "a"))).status_code == 413
    refused = await create(lab, bucket, "a", 4)
    assert (refused.status_code, refused.text) == (415, "mime type text/plain is not supported")
    untyped = await create(lab, bucket, "a", 4, upload_metadata=described(bucket, "a"))
    assert untyped.status_code == 201
    nothing = await lab.bucket(allowed_mime_types=[])
    assert (await create(lab, nothing, "a", 4)).status_code == 415
    unlimited = await lab.bucket(file_size_limit=0)
    assert (await create(lab, unlimited, "a", 4)).status_code == 201


async def test_the_signed_side(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("insert")
    signed = await lab.http.post(f"/object/upload/sign/{bucket}/a", headers=lab.alice)
    token = {"x-signature": signed.json()["token"]}
    base = {**TUS, "upload-length": "3", "upload-metadata": described(bucket, "a")}
    missing = await lab.http.post(f"{ROOT}/sign", headers=base)
    assert (missing.status_code, missing.text) == (400, "Missing x-signature header")
    other = await lab.http.post(f"{ROOT}/sign", headers={**base, **token, "upload-metadata": described(bucket, "b")})
    assert (other.status_code, other.text) == (400, "Invalid signature")
    created = await lab.http.post(f"{ROOT}/sign", headers={**base, **token})
    url = created.headers["location"]
    assert f"{ROOT}/sign/" in url
    assert (await lab.http.head(url, headers=TUS)).status_code == 400
    assert (await lab.http.head(url, headers={**TUS, **token})).status_code == 200
    sent = {**TUS, **STREAM, **token, "upload-offset": "0"}
    assert (await lab.http.patch(url, content=b"abc", headers=sent)).status_code == 204
    row = await lab.row(bucket, "a")
    assert row is not None
    assert row["owner_id"] == ALICE
    download = await lab.http.post(f"/object/sign/{bucket}/a", json={"expiresIn": 60}, headers=lab.service)
    wrong = {"x-signature": download.json()["signedURL"].partition("token=")[2]}
    assert (await lab.http.head(url, headers={**TUS, **wrong})).status_code == 400


async def test_method_override(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 3)).headers["location"]
    sent = {**TUS, **STREAM, **lab.service, "upload-offset": "0", "x-http-method-override": "PATCH"}
    assert (await lab.http.post(url, content=b"abc", headers=sent)).status_code == 204
    assert (await lab.http.put(url, content=b"abc", headers={**TUS, **lab.service})).status_code == 404


async def test_the_address_behind_a_proxy(lab: Lab) -> None:
    bucket = await lab.bucket()
    created = await create(
        lab,
        bucket,
        "a",
        3,
        x_forwarded_host="files.example",
        x_forwarded_proto="https",
        x_forwarded_port="8443",
    )
    assert created.headers["location"].startswith(f"https://files.example:8443{ROOT}/")


async def test_a_client_that_leaves_keeps_what_it_sent(lab: Lab) -> None:
    bucket = await lab.bucket()
    body = os.urandom(5_000_000)
    url = (await create(lab, bucket, "a", len(body))).headers["location"]
    address = urlsplit(lab.url)
    head = "\r\n".join(
        (
            f"PATCH {urlsplit(url).path} HTTP/1.1",
            f"host: {address.netloc}",
            *(f"{name}: {value}" for name, value in {**TUS, **STREAM, **lab.service}.items()),
            "upload-offset: 0",
            f"content-length: {len(body)}",
            "\r\n",
        )
    )
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + body[:4_400_000])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    position = 0
    async with asyncio.timeout(10):
        while position == 0:
            position = await offset_of(lab, url)
    assert 0 < position <= 4_400_000
    assert (await append(lab, url, position, body[position:])).status_code == 204
    assert await content(lab, bucket, "a") == body


async def test_a_second_request_takes_over(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 6)).headers["location"]
    waiting, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"abc"
        waiting.set()
        await go.wait()
        yield b"def"

    sent = {**TUS, **STREAM, **lab.service, "upload-offset": "0"}
    first = asyncio.create_task(lab.http.patch(url, content=slowly(), headers=sent))
    await waiting.wait()
    conflicts = 0  # the first request may still be on its way when the second asks: then it asks once more
    while conflicts < 2:
        position = await offset_of(lab, url)
        assert position in (0, 3), "what had arrived when the second request came"
        answered = (await append(lab, url, position, b"abcdef"[position:])).status_code
        if answered == 204:
            break
        assert answered == 409
        conflicts += 1
    assert conflicts < 2
    go.set()
    with contextlib.suppress(httpx.HTTPError):
        assert (await first).status_code == 400
    assert await content(lab, bucket, "a") == b"abcdef"


async def test_two_servers_never_mix_their_bytes(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 4)).headers["location"]
    version = base64.urlsafe_b64decode(url.rpartition("/")[2] + "==").decode().rpartition("/")[2]
    before = await lab.storage.store.find_resumable(version)
    assert before is not None
    assert (await append(lab, url, 0, b"ab")).status_code == 204

    async def late() -> AsyncGenerator[bytes, None]:
        yield b"xy"

    filling = Filling(lab.storage, before, 100, Seal(None, upsert=False))
    with pytest.raises(TusRefusal):
        await filling.run(late())
    assert (await append(lab, url, 2, b"cd")).status_code == 204
    assert await content(lab, bucket, "a") == b"abcd"
    assert await lab.stored() == await lab.versions()


async def test_a_sealed_upload_is_finished_after_a_crash(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash comes behind the last byte: once before the parts are joined, once before the row."""
    bucket = await lab.bucket()
    body = os.urandom(4_500_000)
    for name, broken in (("a", "publish"), ("b", "finish")):
        url = (await create(lab, bucket, name, len(body))).headers["location"]
        target = type(lab.storage.store) if broken == "publish" else type(lab.storage.blobs)

        async def crash(*_args: object, **_named: object) -> None:
            raise OSError("the machine stopped")

        with monkeypatch.context() as patch:
            patch.setattr(target, broken, crash)
            answer = await append(lab, url, 0, body)
            assert answer.status_code >= 500
        assert await lab.row(bucket, name) is None
        assert await offset_of(lab, url) == len(body)
        assert await content(lab, bucket, name) == body
        row = await lab.row(bucket, name)
        assert row is not None
        assert row["metadata"]["eTag"].endswith('-2"')


async def test_expiry_and_strays(lab: Lab) -> None:
    bucket = await lab.bucket()
    url = (await create(lab, bucket, "a", 5_000_000)).headers["location"]
    await append(lab, url, 0, b"x" * 300_000)
    await append(lab, url, 300_000, b"tail")
    kept = (await create(lab, bucket, "b", 5)).headers["location"]
    await append(lab, kept, 0, b"1234")
    assert len(await lab.stored()) == 2
    assert await expire(lab.storage) == 0
    settings = replace(lab.storage.settings, tus=replace(lab.storage.settings.tus, expiry=0.0))
    eager = replace(lab.storage, settings=settings)
    assert await abandon_strays(eager) == 0
    stray = await lab.storage.blobs.begin(lab.storage.key("b", "n", "11111111-1111-4111-8111-111111111111"))
    assert await abandon_strays(lab.storage) == 0
    assert await abandon_strays(eager) == 1
    assert not (lab.folder / "uploads" / stray).exists()
    await lab.admin.execute("update storage_internal.resumable_uploads set expires_at = now() where name = 'a'")
    assert (await append(lab, url, 300_004, b"1")).status_code == 410
    assert await expire(lab.storage) == 1
    assert (await append(lab, url, 300_004, b"1")).status_code == 404
    assert len(await lab.stored()) == 1
    assert (await append(lab, kept, 4, b"5")).status_code == 204
    assert await content(lab, bucket, "b") == b"12345"


def test_the_endpoint_can_be_elsewhere() -> None:
    assert ResumableEndpoint(TusSettings(path="/files/tus")).first_word == "files"
