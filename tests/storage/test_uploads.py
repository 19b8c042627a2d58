"""Uploads over HTTP: raw, as a form, limits, types, and what is left behind when one fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from harness.listening import listening
from harness.storage import ALICE, Lab, refusal
from socle_platform.http import Receive, Scope, Send
from socle_storage.routes import build


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


async def test_a_raw_upload_is_stored_with_its_facts(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await lab.put(bucket, "folder/hello.txt", b"hello", who=lab.service, cache_control="max-age=60")
    assert answer.status_code == 200, answer.text
    row = await lab.row(bucket, "folder/hello.txt")
    assert row is not None
    assert answer.json() == {"Id": str(row["id"]), "Key": f"{bucket}/folder/hello.txt"}
    moment = row["metadata"].pop("lastModified")
    assert moment.endswith("Z")
    assert row["metadata"] == {
        "eTag": f'"{md5(b"hello")}"',
        "size": 5,
        "mimetype": "text/plain",
        "cacheControl": "max-age=60",
        "contentLength": 5,
        "httpStatusCode": 200,
    }
    assert row["user_metadata"] == {}
    assert row["path_tokens"] == ["folder", "hello.txt"]
    assert await lab.stored() == {row["version"]}


async def test_the_owner_is_the_subject_of_the_token(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("insert")
    assert (await lab.put(bucket, "mine", who=lab.alice)).status_code == 200
    row = await lab.row(bucket, "mine")
    assert row is not None
    assert (str(row["owner"]), row["owner_id"]) == (ALICE, ALICE)
    odd = lab.bearer("authenticated", "no-uuid")
    assert (await lab.put(bucket, "odd", who=odd)).status_code == 200
    row = await lab.row(bucket, "odd")
    assert row is not None
    assert (row["owner"], row["owner_id"]) == (None, "no-uuid")


async def test_a_second_upload_needs_upsert_and_lets_the_old_bytes_go(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"one")
    again = await lab.put(bucket, "a", b"two")
    assert refusal(again) == (400, "409", "KeyAlreadyExists")
    assert again.json()["error"] == "Duplicate"
    before = await lab.row(bucket, "a")
    assert (await lab.put(bucket, "a", b"three", x_upsert="true")).status_code == 200
    after = await lab.row(bucket, "a")
    assert before is not None
    assert after is not None
    assert (after["id"], after["created_at"]) == (before["id"], before["created_at"])
    assert after["version"] != before["version"]
    listed = await lab.admin.fetchval("select key from storage_internal.blob_gc")
    assert listed == f"{bucket}/a/{before['version']}"


async def test_put_creates_and_replaces(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in (b"one", b"two"):
        answer = await lab.http.put(f"/object/{bucket}/a", content=body, headers=lab.service)
        assert answer.status_code == 200
    got = await lab.http.get(f"/object/{bucket}/a", headers=lab.service)
    assert got.content == b"two"
    assert got.headers["content-type"] == "application/octet-stream"


RAW_TYPES = ["application/json", "text/plain", "text/plain;charset=UTF-8", "x/y; a=b"]


async def test_a_raw_body_of_any_type_is_bytes(lab: Lab) -> None:
    bucket = await lab.bucket()
    for kind in RAW_TYPES:
        assert (await lab.put(bucket, "a", b"{broken json", content_type=kind, x_upsert="true")).status_code == 200
        row = await lab.row(bucket, "a")
        assert row is not None
        assert row["metadata"]["mimetype"] == kind


NO_TYPES = ["nonsense", "a b/c", "/", "text/"]


async def test_a_content_type_that_is_none_is_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    for kind in NO_TYPES:
        answer = await lab.put(bucket, "a", content_type=kind)
        assert refusal(answer) == (400, "415", "InvalidMimeType")
        assert answer.json()["message"] == "Invalid Content-Type header"


async def test_user_metadata_comes_by_header_and_is_replaced(lab: Lab) -> None:
    bucket = await lab.bucket()
    packed = base64.b64encode(json.dumps({"a": 1, "ü": "☃"}).encode()).decode()
    await lab.put(bucket, "a", x_metadata=packed)
    row = await lab.row(bucket, "a")
    assert row is not None
    assert row["user_metadata"] == {"a": 1, "ü": "☃"}
    for bad in ("%%%", base64.b64encode(b"[1]").decode(), base64.b64encode(b"{").decode()):
        assert (await lab.put(bucket, "a", x_metadata=bad, x_upsert="true")).status_code == 200
        row = await lab.row(bucket, "a")
        assert row is not None
        assert row["user_metadata"] == {}


# --- forms


Part = tuple[str, str | tuple[str, bytes, str]]


async def form(
    lab: Lab, bucket: str, name: str, *parts: Part, who: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    """A form whose parts go out in the order given; (file name, bytes, type) makes a file."""
    files: list[tuple[str, Any]] = [(key, value if isinstance(value, tuple) else (None, value)) for key, value in parts]
    return await lab.http.post(f"/object/{bucket}/{name}", files=files, headers={**(who or lab.service), **headers})


async def test_a_form_as_the_javascript_client_sends_it(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await form(
        lab,
        bucket,
        "a.png",
        ("cacheControl", "3600"),
        ("metadata", '{"k": "v"}'),
        ("", ("blob", b"\x89PNG", "image/png")),
    )
    assert answer.status_code == 200, answer.text
    row = await lab.row(bucket, "a.png")
    assert row is not None
    assert row["metadata"]["mimetype"] == "image/png"
    assert row["metadata"]["cacheControl"] == "max-age=3600"
    assert row["metadata"]["size"] == 4
    assert row["user_metadata"] == {"k": "v"}


async def test_fields_after_the_file_count_too(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await form(
        lab,
        bucket,
        "a",
        ("file", ("a.bin", b"data", "application/octet-stream")),
        ("cacheControl", "30"),
        ("userMetadata", '{"late": true}'),
        ("contentType", "text/css"),
    )
    assert answer.status_code == 200, answer.text
    row = await lab.row(bucket, "a")
    assert row is not None
    assert (row["metadata"]["mimetype"], row["metadata"]["cacheControl"]) == ("text/css", "max-age=30")
    assert row["user_metadata"] == {"late": True}


async def test_a_field_after_the_file_does_not_slip_past_a_policy(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("insert", check="user_metadata ->> 'secret' is null and metadata ->> 'mimetype' = 'image/png'")
    file = ("", ("x", b"data", "image/png"))
    assert (await form(lab, bucket, "fine", file, who=lab.alice)).status_code == 200
    for late in (("metadata", '{"secret": "1"}'), ("contentType", "text/html")):
        answer = await form(lab, bucket, "late", file, late, who=lab.alice)
        assert refusal(answer) == (400, "403", "AccessDenied")
    assert await lab.row(bucket, "late") is None
    assert await lab.stored() == await lab.versions()


async def test_a_form_without_a_file_has_no_content(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await form(lab, bucket, "a", ("cacheControl", "3600"))
    assert refusal(answer) == (400, "400", "InvalidRequest")
    assert answer.json()["message"] == "No content provided"


async def test_only_one_file_and_ten_fields(lab: Lab) -> None:
    bucket = await lab.bucket()
    file = ("", ("x", b"data", "image/png"))
    assert refusal(await form(lab, bucket, "a", file, file))[1] == "400"
    assert refusal(await form(lab, bucket, "a", *[(f"f{n}", "1") for n in range(11)], file))[1] == "400"
    assert (await form(lab, bucket, "a", *[(f"f{n}", "1") for n in range(10)], file)).status_code == 200
    assert await lab.stored() == await lab.versions()


async def test_metadata_beyond_a_mebibyte_is_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    large = json.dumps({"a": "x" * (1024 * 1024)})
    answer = await form(lab, bucket, "a", ("metadata", large), ("", ("x", b"data", "image/png")))
    assert refusal(answer) == (400, "413", "EntityTooLarge")
    assert answer.json()["message"] == "The user_metadata exceeded the maximum allowed size"


BROKEN_FORMS = [
    b"",
    b"no boundary at all",
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\ncut short',
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\ndata\r\n--B',
    b"--B\r\n: \r\n\r\n",
    b"--B\r\n" + b"X: y\r\n" * 100 + b"\r\n",
]


async def test_a_broken_form_is_refused_and_leaves_nothing(lab: Lab) -> None:
    bucket = await lab.bucket()
    for body in BROKEN_FORMS:
        answer = await lab.put(bucket, "a", body, content_type="multipart/form-data; boundary=B")
        assert refusal(answer) == (400, "400", "InvalidRequest")
        assert await lab.row(bucket, "a") is None
        assert await lab.stored() == set()


NO_BOUNDARIES = ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x=y"]


async def test_a_form_without_boundary_is_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    for kind in NO_BOUNDARIES:
        assert refusal(await lab.put(bucket, "a", content_type=kind)) == (400, "400", "InvalidRequest")


# --- limits


async def test_the_buckets_limit_counts_on_the_stream(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=1000)

    async def chunks(total: int) -> AsyncIterator[bytes]:
        for _ in range(total // 100):
            yield b"x" * 100

    async def send(total: int, name: str) -> Any:
        return await lab.http.post(f"/object/{bucket}/{name}", content=chunks(total), headers=lab.service)

    assert (await send(1000, "fits")).status_code == 200
    answer = await send(1100, "large")
    assert refusal(answer) == (400, "413", "EntityTooLarge")
    assert answer.json()["message"] == "The object exceeded the maximum allowed size"
    assert refusal(await lab.put(bucket, "declared", b"x" * 1001)) == (400, "413", "EntityTooLarge")
    answer = await form(lab, bucket, "form", ("", ("x", b"x" * 1001, "a/b")))
    assert refusal(answer) == (400, "413", "EntityTooLarge")
    assert (await form(lab, bucket, "form", ("", ("x", b"x" * 1000, "a/b")))).status_code == 200
    assert await lab.stored() == await lab.versions()
    assert len(await lab.versions()) == 2


async def test_the_services_limit_counts_in_every_bucket(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=50_000_000)
    assert refusal(await lab.put(bucket, "a", b"x" * 10_000_001)) == (400, "413", "EntityTooLarge")
    assert (await lab.put(bucket, "a", b"x" * 10_000_000)).status_code == 200


async def test_the_mark_of_an_empty_folder_is_empty_and_of_any_type(lab: Lab) -> None:
    bucket = await lab.bucket(allowed_mime_types=["image/png"])
    assert (await lab.put(bucket, "new/.emptyFolderPlaceholder", b"")).status_code == 200
    answer = await lab.put(bucket, "other/.emptyFolderPlaceholder", b"x")
    assert refusal(answer) == (400, "413", "EntityTooLarge")


TYPES: list[tuple[list[str], str, bool]] = [
    (["image/png"], "image/png", True),
    (["image/png"], "image/jpeg", False),
    (["image/png"], "image/png;charset=x", False),
    (["image/*"], "image/png;charset=x", True),
    (["image/*", "text/plain"], "text/plain", True),
    (["image/*"], "video/mp4", False),
    (["*"], "video/mp4", True),
    ([], "video/mp4", True),
    (["video/webm", "video/mp4"], "video/webm", True),
]


async def test_the_buckets_types(lab: Lab) -> None:
    for allowed, kind, fits in TYPES:
        bucket = await lab.bucket(allowed_mime_types=allowed)
        answer = await lab.put(bucket, "a", content_type=kind)
        if fits:
            assert answer.status_code == 200, (allowed, kind)
            continue
        assert refusal(answer) == (400, "415", "InvalidMimeType")
        assert answer.json()["message"] == f"mime type {kind} is not supported"
        assert answer.json()["error"] == "invalid_mime_type"
    assert await lab.stored() == await lab.versions()


async def test_the_type_of_a_form_is_its_files(lab: Lab) -> None:
    bucket = await lab.bucket(allowed_mime_types=["image/png"])
    assert (await form(lab, bucket, "a", ("", ("x", b"x", "image/png")))).status_code == 200
    assert refusal(await form(lab, bucket, "b", ("", ("x", b"x", "text/html"))))[2] == "InvalidMimeType"


BAD_NAMES = (
    "%2e%2e/%2e%2e/etc/passwd",
    "a/%2e%2e/b",
    "a/%2e/b",
    "nul%00byte",
    "back%5Cslash",
    "tilde~",
    "hash%23",
    "percent%25",
    "%7Bbraces%7D",
    "%C3%A9t%C3%A9",
    "%C0%AE%C0%AE/overlong",
    "%ff%fe",
    "%0d%0aset-cookie:x",
    "n" * 1025,
    "",
)
GOOD_NAMES = ("a+b", "a%20b", "c%2Bd", "(1) !*'&$=@;:,%3F.png", "n" * 1024, "a//b", "..a/b..")


async def test_names_that_no_object_may_have(lab: Lab) -> None:
    bucket = await lab.bucket()
    for name in BAD_NAMES:
        assert refusal(await lab.put(bucket, name)) == (400, "400", "InvalidKey"), name
    assert await lab.stored() == set()


async def test_names_are_decoded_once(lab: Lab) -> None:
    bucket = await lab.bucket()
    for name in GOOD_NAMES:
        answer = await lab.put(bucket, name)
        assert answer.status_code == 200, answer.text
        assert answer.json()["Key"] == f"{bucket}/{unquote(name)}"
        assert (await lab.http.get(f"/object/{bucket}/{name}", headers=lab.service)).content == b"hello"


async def test_a_name_can_be_a_file_and_a_folder(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"file")
    await lab.put(bucket, "a/b", b"below")
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"file"
    assert (await lab.http.get(f"/object/{bucket}/a/b", headers=lab.service)).content == b"below"


async def test_an_unknown_bucket_and_a_bad_bucket_name(lab: Lab) -> None:
    answer = await lab.put("nowhere", "a")
    assert refusal(answer) == (400, "404", "NoSuchBucket")
    assert answer.json()["message"] == "Bucket not found"
    assert refusal(await lab.put("b%7Ed", "a")) == (400, "400", "InvalidBucketName")


async def test_without_a_token_and_with_a_bad_one(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await lab.http.post(f"/object/{bucket}/a", content=b"x")
    assert answer.json() == {
        "statusCode": "400",
        "error": "Error",
        "message": "headers must have required property 'authorization'",
        "code": "InvalidRequest",
    }
    expired = {"authorization": f"Bearer {lab.token('service_role', expires_in=-60)}"}
    assert refusal(await lab.put(bucket, "a", who=expired)) == (400, "403", "AccessDenied")
    assert (await lab.put(bucket, "a", who=expired)).json()["message"] == '"exp" claim timestamp check failed'
    assert refusal(await lab.put(bucket, "a", who={"authorization": "Bearer x.y.z"}))[1:] == ("403", "AccessDenied")
    unknown = lab.bearer("no_such_role")
    assert refusal(await lab.put(bucket, "a", who=unknown)) == (400, "403", "AccessDenied")


async def test_behind_the_gateway_a_missing_token_is_an_empty_one(lab: Lab) -> None:
    app = build(lab.storage.settings, lab.resources)

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/storage/v1"}, receive, send)

    async with listening(mounted) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/storage/v1/bucket")
        assert refusal(answer) == (400, "403", "AccessDenied")
        assert answer.json()["message"] == "Invalid Compact JWS"
        assert (await http.get("/storage/v1/bucket", headers=lab.service)).json() == []


SCHEMES = ["Bearer {}", "bearer {}", "{}"]


async def test_the_token_with_and_without_scheme(lab: Lab) -> None:
    bucket = await lab.bucket()
    for scheme in SCHEMES:
        who = {"authorization": scheme.format(lab.token("service_role"))}
        assert (await lab.put(bucket, "a", who=who, x_upsert="true")).status_code == 200


async def test_opaque_keys_stand_for_their_role(lab: Lab) -> None:
    bucket = await lab.bucket()
    for who in (
        {"authorization": "Bearer sb_secret_test", "apikey": "sb_secret_test"},
        {"apikey": "sb_secret_test"},
        {"authorization": "Bearer sb_secret_test"},
    ):
        assert (await lab.put(bucket, "a", who=who, x_upsert="true")).status_code == 200
    who = {"apikey": "sb_publishable_test", "authorization": "Bearer sb_publishable_test"}
    assert refusal(await lab.put(bucket, "b", who=who)) == (400, "403", "AccessDenied")
    assert refusal(await lab.put(bucket, "b", who={"apikey": "sb_secret_wrong"}))[2] == "AccessDenied"


# --- connections that break off


async def raw_request(lab: Lab, head: str, body: bytes, *, wait: bool = True) -> bytes:
    """Sends bytes as they are and closes; returns what came back."""
    address = urlsplit(lab.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    await writer.drain()
    if wait:
        answer = await asyncio.wait_for(reader.read(65536), 10)
    else:
        await asyncio.sleep(0.05)
        answer = b""
    writer.close()
    return answer


async def test_a_body_cut_short_is_never_published(lab: Lab) -> None:
    bucket = await lab.bucket()
    token = lab.token("service_role")
    head = f"POST /object/{bucket}/cut HTTP/1.1\nHost: x\nAuthorization: {token}\nContent-Type: a/b\n"
    await raw_request(lab, head + "Content-Length: 100000", b"x" * 50_000, wait=False)
    await raw_request(lab, head + "Transfer-Encoding: chunked", b"5\r\nhello\r\n", wait=False)
    for _ in range(100):
        if not list((lab.folder / "tmp").iterdir()):
            break
        await asyncio.sleep(0.02)
    assert await lab.row(bucket, "cut") is None
    assert await lab.stored() == set()
    assert list((lab.folder / "tmp").iterdir()) == []


async def test_content_length_and_decoded_length_are_not_believed(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=10)
    answer = await lab.put(bucket, "a", b"x" * 11, x_amz_decoded_content_length="1")
    assert refusal(answer) == (400, "413", "EntityTooLarge")


async def test_a_refused_large_body_still_gets_its_answer(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=10)
    answer = await lab.put(bucket, "a", b"x" * 5_000_000)
    assert refusal(answer) == (400, "413", "EntityTooLarge")
    answer = await lab.put(bucket, "a", b"x" * 5)
    assert answer.status_code == 200


async def test_racing_creations_leave_one_object_and_one_blob(lab: Lab) -> None:
    bucket = await lab.bucket()
    answers = await asyncio.gather(*(lab.put(bucket, "race", f"{n}".encode() * 1000) for n in range(6)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200, 400, 400, 400, 400, 400]
    assert await lab.stored() == await lab.versions()
    winner = next(index for index, answer in enumerate(answers) if answer.status_code == 200)
    got = await lab.http.get(f"/object/{bucket}/race", headers=lab.service)
    assert got.content == f"{winner}".encode() * 1000


async def test_racing_replacements_list_every_lost_version(lab: Lab) -> None:
    bucket = await lab.bucket()
    answers = await asyncio.gather(*(lab.put(bucket, "race", b"%d" % n, x_upsert="true") for n in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    lost = {row["key"].rpartition("/")[2] for row in await lab.admin.fetch("select key from storage_internal.blob_gc")}
    assert lost | await lab.versions() == await lab.stored()
    assert len(lost) == 7


ROBOTS = [
    "noindex",
    "noindex, nofollow",
    "googlebot: noindex, max-snippet: -1",
    "unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT",
]


async def test_a_robots_tag_is_kept_and_shown(lab: Lab) -> None:
    bucket = await lab.bucket()
    for value in ROBOTS:
        assert (await lab.put(bucket, "a", x_robots_tag=value, x_upsert="true")).status_code == 200
        assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).headers["x-robots-tag"] == value


async def test_a_bad_robots_tag_is_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    answer = await lab.put(bucket, "a", x_robots_tag="dance")
    assert refusal(answer) == (400, "400", "InvalidRequest")
    assert answer.json()["error"] == "invalid_x_robots_tag"
