"""Delete, move and copy over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from harness.storage import ALICE, Lab, refusal

Body = dict[str, Any]


async def move(lab: Lab, body: Body, who: dict[str, str] | None = None) -> httpx.Response:
    return await lab.http.post("/object/move", json=body, headers=who or lab.service)


async def copy(lab: Lab, body: Body, **headers: str) -> httpx.Response:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return await lab.http.post("/object/copy", json=body, headers={**lab.service, **extra})


def way(bucket: str, source: str, target: str, to: str | None = None, **more: object) -> Body:
    """The body of a move or a copy."""
    body: Body = {"bucketId": bucket, "sourceKey": source, "destinationKey": target, **more}
    return body if to is None else {**body, "destinationBucket": to}


async def content(lab: Lab, bucket: str, name: str) -> bytes:
    return (await lab.http.get(f"/object/{bucket}/{name}", headers=lab.service)).content


async def test_delete_one(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    answer = await lab.http.delete(f"/object/{bucket}/a", headers=lab.service)
    assert (answer.status_code, answer.json()) == (200, {"message": "Successfully deleted"})
    for name in ("a", "bad~name", "none"):
        answer = await lab.http.delete(f"/object/{bucket}/{name}", headers=lab.service)
        assert refusal(answer) == (400, "404", "NoSuchKey")
    assert await lab.row(bucket, "a") is None


async def test_delete_many_answers_what_it_deleted(lab: Lab) -> None:
    bucket = await lab.bucket()
    for name in ("a", "b", "c/d"):
        await lab.put(bucket, name)
    names = ["a", "none", "c/d", "bad~", "a"]
    answer = await lab.http.request("DELETE", f"/object/{bucket}", json={"prefixes": names}, headers=lab.service)
    rows = answer.json()
    assert sorted(row["name"] for row in rows) == ["a", "c/d"]
    assert set(rows[0]) == {
        "name",
        "bucket_id",
        "owner",
        "owner_id",
        "version",
        "id",
        "updated_at",
        "created_at",
        "last_accessed_at",
        "metadata",
        "user_metadata",
    }
    assert rows[0]["owner"] == ""
    assert await lab.row(bucket, "b") is not None
    many = [f"x{n}" for n in range(1200)]
    answer = await lab.http.request("DELETE", f"/object/{bucket}", json={"prefixes": many}, headers=lab.service)
    assert answer.json() == []
    bodies: list[Body] = [{"prefixes": []}, {}, {"prefixes": ["a\u0000b"]}, {"prefixes": [{}]}]
    for body in bodies:
        answer = await lab.http.request("DELETE", f"/object/{bucket}", json=body, headers=lab.service)
        assert refusal(answer) == (400, "400", "InvalidRequest")


async def test_a_move_keeps_what_the_object_is(lab: Lab) -> None:
    bucket, other = await lab.bucket(), await lab.bucket()
    await lab.put(bucket, "a", b"data", x_metadata="eyJrIjoxfQ==", content_type="text/css")
    before = await lab.row(bucket, "a")
    answer = await move(lab, way(bucket, "a", "b/c"))
    assert answer.json() == {"message": "Successfully moved"}
    answer = await move(lab, way(bucket, "b/c", "d", other))
    assert answer.status_code == 200
    after = await lab.row(other, "d")
    assert before is not None
    assert after is not None
    assert await lab.row(bucket, "a") is None
    assert (after["id"], after["created_at"], after["user_metadata"]) == (before["id"], before["created_at"], {"k": 1})
    assert after["metadata"]["eTag"] == before["metadata"]["eTag"]
    assert await content(lab, other, "d") == b"data"


async def test_a_move_gives_the_object_to_the_mover(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.policy("all")
    await lab.put(bucket, "a", who=lab.bob)
    assert (await move(lab, way(bucket, "a", "b"), lab.alice)).status_code == 200
    row = await lab.row(bucket, "b")
    assert row is not None
    assert (str(row["owner"]), row["owner_id"]) == (ALICE, ALICE)


async def test_moves_that_are_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    for name in ("a", "b"):
        await lab.put(bucket, name, name.encode())
    cases: list[tuple[dict[str, Any], tuple[int, str, str]]] = [
        ({"sourceKey": "none", "destinationKey": "x"}, (400, "404", "NoSuchKey")),
        ({"sourceKey": "a", "destinationKey": "b"}, (400, "409", "ResourceAlreadyExists")),
        ({"sourceKey": "a", "destinationKey": "bad~"}, (400, "400", "InvalidKey")),
        ({"sourceKey": "a", "destinationKey": "../x"}, (400, "400", "InvalidKey")),
        ({"sourceKey": "bad~", "destinationKey": "x"}, (400, "404", "NoSuchKey")),
        ({"sourceKey": "a", "destinationKey": "x", "destinationBucket": "nowhere"}, (400, "404", "InvalidRequest")),
        ({"sourceKey": "a"}, (400, "400", "InvalidRequest")),
        ({"sourceKey": "a", "destinationKey": "x", "bucketId": "b~"}, (400, "400", "InvalidBucketName")),
    ]
    for body, expected in cases:
        assert refusal(await move(lab, {"bucketId": bucket, **body})) == expected, body
    assert (await content(lab, bucket, "a"), await content(lab, bucket, "b")) == (b"a", b"b")
    assert await lab.stored() == await lab.versions()
    assert (await move(lab, way(bucket, "a", "a"))).status_code == 200
    assert await lab.stored() == await lab.versions()


async def test_a_move_races_with_replacements_and_loses_nothing(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"0")

    async def replace() -> None:
        for number in range(1, 15):
            await lab.put(bucket, "a", b"%d" % number, x_upsert="true")

    replacing = asyncio.create_task(replace())
    moved = await move(lab, way(bucket, "a", "b"))
    await replacing
    assert moved.status_code in {200, 400}
    assert await lab.versions() <= await lab.stored()
    assert await content(lab, bucket, "a") == b"14"
    if moved.status_code == 200:
        assert (await content(lab, bucket, "b")).isdigit()


async def test_a_copy_has_bytes_and_facts_of_its_own(lab: Lab) -> None:
    bucket, other = await lab.bucket(), await lab.bucket(allowed_mime_types=["image/png"], file_size_limit=1)
    await lab.put(bucket, "a", b"data", content_type="text/css", cache_control="max-age=9", x_metadata="eyJrIjoxfQ==")
    answer = await copy(lab, way(bucket, "a", "x/b", other))
    body = answer.json()
    assert (answer.status_code, body["Key"], body["Id"]) == (200, f"{other}/x/b", body["id"])
    assert body["metadata"]["mimetype"] == "text/css"
    assert body["metadata"]["cacheControl"] == "max-age=9"
    assert body["user_metadata"] == {"k": 1}
    assert body["name"] == "x/b"
    await lab.http.delete(f"/object/{bucket}/a", headers=lab.service)
    assert await content(lab, other, "x/b") == b"data"


async def test_a_copy_with_other_facts(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"data", content_type="text/css", cache_control="max-age=9", x_metadata="eyJrIjoxfQ==")
    other = way(bucket, "a", "b", copyMetadata=False, metadata={"mimetype": "text/plain"})
    answer = await copy(lab, other, x_metadata="eyJuIjoyfQ==")
    body = answer.json()
    assert (body["metadata"]["mimetype"], body["metadata"]["cacheControl"]) == ("text/plain", "max-age=9")
    assert body["user_metadata"] == {"n": 2}
    answer = await copy(lab, way(bucket, "a", "c", copyMetadata=False))
    assert answer.json()["user_metadata"] is None


async def test_a_copy_onto_an_object_needs_upsert(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"one")
    await lab.put(bucket, "b", b"two")
    onto = way(bucket, "a", "b")
    assert refusal(await copy(lab, onto)) == (400, "409", "KeyAlreadyExists")
    assert (await copy(lab, onto, x_upsert="true")).status_code == 200
    assert await content(lab, bucket, "b") == b"one"
    assert (await copy(lab, way(bucket, "a", "a"), x_upsert="true")).status_code == 200
    assert await content(lab, bucket, "a") == b"one"


async def test_copies_that_are_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    cases: list[tuple[dict[str, Any], tuple[int, str, str]]] = [
        ({"sourceKey": "none", "destinationKey": "x"}, (400, "404", "NoSuchKey")),
        ({"sourceKey": "a", "destinationKey": "bad~"}, (400, "400", "InvalidKey")),
        ({"sourceKey": "a", "destinationKey": "x", "destinationBucket": "nowhere"}, (400, "404", "InvalidRequest")),
        ({"sourceKey": "a", "destinationKey": "x", "metadata": 5}, (400, "400", "InvalidRequest")),
        ({"destinationKey": "x"}, (400, "400", "InvalidRequest")),
    ]
    for body, expected in cases:
        assert refusal(await copy(lab, {"bucketId": bucket, **body})) == expected, body
    assert await lab.stored() == await lab.versions()


async def test_sql_cannot_delete_rows_past_the_service(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    await lab.admin.execute("reset storage.allow_delete_query")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="Direct deletion from storage tables is not allowed"):
        await lab.admin.execute("delete from storage.objects")
