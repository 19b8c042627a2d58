"""Downloads over HTTP: who may read, headers, ranges, conditions, HEAD and info."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import urlsplit

from harness.storage import Lab, refusal

BODY = bytes(range(256)) * 4


async def test_the_headers_of_a_download(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a.bin", BODY, content_type="image/png", cache_control="max-age=30")
    got = await lab.http.get(f"/object/authenticated/{bucket}/a.bin", headers=lab.service)
    row = await lab.row(bucket, "a.bin")
    assert row is not None
    assert got.content == BODY
    expected = {
        "accept-ranges": "bytes",
        "content-type": "image/png",
        "content-length": "1024",
        "etag": row["metadata"]["eTag"],
        "cache-control": "max-age=30",
        "x-robots-tag": "none",
        "x-content-type-options": "nosniff",
    }
    assert {name: got.headers[name] for name in expected} == expected
    modified = parsedate_to_datetime(got.headers["last-modified"])
    assert abs(datetime.now(UTC) - modified) < timedelta(minutes=1)
    assert "content-disposition" not in got.headers


async def test_who_may_read(lab: Lab) -> None:
    private, public = await lab.bucket(), await lab.bucket(public=True)
    for bucket in (private, public):
        await lab.put(bucket, "a", b"hello")
    expired = {"authorization": f"Bearer {lab.token('authenticated', expires_in=-99)}"}
    for who in ({}, lab.anon, lab.alice, expired):
        assert (await lab.http.get(f"/object/{public}/a", headers=who)).content == b"hello"
        assert (await lab.http.get(f"/object/public/{public}/a", headers=who)).content == b"hello"
        assert refusal(await lab.http.get(f"/object/public/{private}/a", headers=who)) == (400, "404", "NoSuchBucket")
    for who in ({}, expired):
        assert refusal(await lab.http.get(f"/object/{private}/a", headers=who)) == (400, "404", "NoSuchBucket")
        assert refusal(await lab.http.get("/object/nowhere/a", headers=who)) == (400, "404", "NoSuchBucket")
    assert refusal(await lab.http.get(f"/object/authenticated/{private}/a", headers=expired))[2] == "AccessDenied"
    assert refusal(await lab.http.get(f"/object/authenticated/{private}/a"))[2] == "InvalidRequest"
    for who in (lab.anon, lab.alice):
        assert refusal(await lab.http.get(f"/object/{private}/a", headers=who)) == (400, "404", "NoSuchKey")
    await lab.policy("select", check="bucket_id = 'x' or true")
    assert (await lab.http.get(f"/object/{private}/a", headers=lab.alice)).content == b"hello"
    assert refusal(await lab.http.get(f"/object/{private}/b", headers=lab.alice)) == (400, "404", "NoSuchKey")
    assert refusal(await lab.http.get(f"/object/{private}/b~", headers=lab.alice)) == (400, "400", "InvalidKey")


async def test_a_failing_policy_does_not_close_a_public_bucket(lab: Lab) -> None:
    private, public = await lab.bucket(), await lab.bucket(public=True)
    for bucket in (private, public):
        await lab.put(bucket, "a", b"hello")
    await lab.policy("select", check="1 / (length(name) - 1) = 1")
    assert (await lab.http.get(f"/object/{public}/a", headers=lab.alice)).content == b"hello"
    answer = await lab.http.get(f"/object/{private}/a", headers=lab.alice)
    assert refusal(answer) == (500, "500", "DatabaseError")
    assert answer.json()["message"] == "database error, code: 22012"


async def test_ranges(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", BODY)
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=0-1023", 0, 1024),
        ("bytes=10-19", 10, 20),
        ("bytes=1000-5000", 1000, 1024),
        ("bytes=1020-", 1020, 1024),
        ("bytes=-4", 1020, 1024),
        ("bytes=-5000", 0, 1024),
    ):
        got = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": asked})
        assert (got.status_code, got.content) == (206, BODY[start:end]), asked
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/1024"
        assert got.headers["content-length"] == str(end - start)
    for asked in ("bytes=1024-", "bytes=5-4", "bytes=-0", "bytes=-", "bytes=a-b", "items=0-1", "bytes", "bytes=0-1,x"):
        got = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": asked})
        assert refusal(got) == (416, "416", "InvalidRange"), asked
        assert got.json()["error"] == "invalid_range"
    await lab.put(bucket, "empty", b"")
    got = await lab.http.get(f"/object/{bucket}/empty", headers={**lab.service, "range": "bytes=0-"})
    assert refusal(got)[0] == 416
    assert (await lab.http.get(f"/object/{bucket}/empty", headers=lab.service)).content == b""


async def test_several_ranges_come_as_one_answer_in_parts(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", BODY, content_type="image/png")
    got = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": "bytes=0-1, 100-103,-2"})
    assert got.status_code == 206
    kind, _, boundary = got.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert "content-range" not in got.headers
    pieces = got.content.split(f"\r\n--{boundary}".encode())
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    assert [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]] == [BODY[0:2], BODY[100:104], BODY[-2:]]
    assert b"Content-Range: bytes 100-103/1024" in pieces[2]
    many = ",".join(f"{n}-{n}" for n in range(33))
    assert (
        refusal(await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": f"bytes={many}"}))[0] == 416
    )
    greedy = "bytes=0-1000,1-1001"
    assert refusal(await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": greedy}))[0] == 416


async def test_conditions(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", BODY, cache_control="max-age=5")
    first = await lab.http.get(f"/object/{bucket}/a", headers=lab.service)
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    earlier = format_datetime(parsedate_to_datetime(modified) - timedelta(seconds=1), usegmt=True)

    async def status(**conditions: str) -> int:
        headers = {name.replace("_", "-"): value for name, value in conditions.items()}
        return (await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, **headers})).status_code

    for tag in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        assert await status(if_none_match=tag) == 304, tag
    assert await status(if_none_match='"other"') == 200
    assert await status(if_modified_since=modified) == 304
    assert await status(if_modified_since=earlier) == 200
    assert await status(if_modified_since="nonsense") == 200
    assert await status(if_none_match='"other"', if_modified_since=modified) == 200
    assert await status(range="bytes=0-1", if_range=etag) == 206
    assert await status(range="bytes=0-1", if_range='"other"') == 200
    assert await status(range="bytes=0-1", if_range=f"W/{etag}") == 200
    assert await status(range="bytes=0-1", if_range=modified) == 206
    assert await status(range="bytes=0-1", if_range=earlier) == 200
    unchanged = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "if-none-match": etag})
    assert (unchanged.content, unchanged.headers["etag"]) == (b"", etag)
    changed = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "if-none-match": '"other"'})
    assert changed.headers["cache-control"] == "max-age=5, stale-while-revalidate=30"


async def test_head_is_get_without_the_body(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    await lab.put(bucket, "a", BODY, content_type="text/css", cache_control="max-age=5")
    for path in (f"/object/{bucket}/a", f"/object/public/{bucket}/a", f"/object/authenticated/{bucket}/a"):
        got = await lab.http.get(path, headers=lab.service)
        head = await lab.http.head(path, headers=lab.service)
        assert head.status_code == 200
        assert head.content == b""
        assert dict(head.headers) == dict(got.headers)
    different = await lab.http.head(f"/object/{bucket}/a", headers={**lab.service, "if-none-match": '"x"'})
    assert different.headers["cache-control"] == "max-age=5, must-revalidate"
    missing = await lab.http.head(f"/object/{bucket}/none", headers=lab.service)
    assert (missing.status_code, missing.content) == (400, b"")


async def test_the_bytes_are_not_asked_for_by_head(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    row = await lab.row(bucket, "a")
    assert row is not None
    await lab.storage.blobs.delete([lab.storage.key(bucket, "a", row["version"])])
    assert (await lab.http.head(f"/object/{bucket}/a", headers=lab.service)).status_code == 200
    gone = await lab.http.get(f"/object/{bucket}/a", headers=lab.service)
    assert refusal(gone) == (400, "404", "NoSuchKey")
    assert gone.json()["message"] == "The resource was not found"
    assert gone.headers["cache-control"] == "no-store"


async def test_downloads_under_a_name(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")

    async def disposition(query: str) -> str:
        return (await lab.http.get(f"/object/{bucket}/a?{query}", headers=lab.service)).headers["content-disposition"]

    assert await disposition("download=") == "attachment;"
    assert await disposition("download") == "attachment;"
    assert await disposition("download=a%20b.txt") == "attachment; filename=a%20b.txt; filename*=UTF-8''a%20b.txt"
    assert await disposition("download=%C3%A9%22%0d%0a") == (
        "attachment; filename=%C3%A9%22%0D%0A; filename*=UTF-8''%C3%A9%22%0D%0A"
    )


async def test_what_a_browser_could_run_is_served_inert(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for kind in ("text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/x+text/html"):
        await lab.put(bucket, "page", b"<script>", content_type=kind, x_upsert="true")
        got = await lab.http.get(f"/object/public/{bucket}/page")
        assert got.headers["content-type"] == "text/plain"
        assert got.headers["x-content-type-options"] == "nosniff"
    await lab.put(bucket, "image.svg", script, content_type="image/svg+xml")
    got = await lab.http.get(f"/object/public/{bucket}/image.svg")
    assert got.headers["content-type"] == "image/svg+xml"
    assert got.headers["content-security-policy"].startswith("sandbox;")


async def test_a_stored_header_that_cannot_be_one_is_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    for value in ("max-age=1\r\nset-cookie: x=1", "max-age=\u2603"):
        await lab.admin.execute(
            "update storage.objects set metadata = metadata || jsonb_build_object('cacheControl', $1::text)", value
        )
        answer = await lab.http.get(f"/object/{bucket}/a", headers=lab.service)
        assert refusal(answer) == (400, "400", "InvalidRequest")
        assert answer.json()["error"] == "invalid_header_char"


async def test_info(lab: Lab) -> None:
    bucket = await lab.bucket(public=True)
    await lab.put(bucket, "a/b.css", BODY, content_type="text/css", cache_control="max-age=5", x_metadata="eyJrIjoxfQ")
    row = await lab.row(bucket, "a/b.css")
    assert row is not None

    def moment(value: datetime) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"

    expected = {
        "id": str(row["id"]),
        "name": "a/b.css",
        "version": row["version"],
        "bucket_id": bucket,
        "size": 1024,
        "content_type": "text/css",
        "cache_control": "max-age=5",
        "etag": row["metadata"]["eTag"],
        "metadata": {"k": 1},
        "last_modified": moment(row["updated_at"]),
        "created_at": moment(row["created_at"]),
    }
    for path in ("info/public", "info/authenticated", "info"):
        got = await lab.http.get(f"/object/{path}/{bucket}/a/b.css", headers=lab.service)
        assert got.json() == expected
    private = await lab.bucket()
    assert refusal(await lab.http.get(f"/object/info/public/{private}/a"))[2] == "NoSuchBucket"
    assert refusal(await lab.http.get(f"/object/info/{private}/a"))[2] == "NoSuchBucket"
    assert refusal(await lab.http.get(f"/object/info/{private}/a", headers=lab.alice))[2] == "NoSuchKey"
    assert (await lab.http.head(f"/object/info/public/{bucket}/a/b.css")).status_code == 400


async def test_rows_of_old_know_little_and_are_served_all_the_same(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", BODY)
    await lab.admin.execute("update storage.objects set metadata = null")
    got = await lab.http.get(f"/object/{bucket}/a", headers={**lab.service, "range": "bytes=5-6"})
    assert (got.status_code, got.content) == (206, BODY[5:7])
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["etag"].startswith('"')


async def test_a_large_download_streams_and_a_reader_may_leave(lab: Lab) -> None:
    bucket = await lab.bucket()
    body = os.urandom(5_000_000)
    await lab.put(bucket, "large", body)
    assert (await lab.http.get(f"/object/{bucket}/large", headers=lab.service)).content == body
    address = urlsplit(lab.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=65536)
    token = lab.token("service_role")
    writer.write(f"GET /object/{bucket}/large HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    await reader.readexactly(100_000)
    writer.close()
    assert (await lab.http.get("/status")).status_code == 200
