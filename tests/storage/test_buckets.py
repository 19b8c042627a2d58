"""Buckets over HTTP."""

from __future__ import annotations

import re
from typing import Any

from harness.storage import ALICE, Lab, refusal

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def create(lab: Lab, who: dict[str, str] | None = None, **body: object) -> Any:
    return await lab.http.post("/bucket", json=body, headers=who or lab.service)


async def test_the_life_of_a_bucket(lab: Lab) -> None:
    answer = await create(lab, name="one", public=True, file_size_limit="1.5MB", allowed_mime_types=["image/*", ""])
    assert (answer.status_code, answer.json()) == (200, {"name": "one"})
    bucket = (await lab.http.get("/bucket/one", headers=lab.service)).json()
    assert MOMENT.fullmatch(bucket.pop("created_at"))
    assert MOMENT.fullmatch(bucket.pop("updated_at"))
    assert bucket == {
        "id": "one",
        "name": "one",
        "owner": "",
        "public": True,
        "file_size_limit": 1_500_000,
        "allowed_mime_types": ["image/*"],
    }
    answer = await lab.http.put("/bucket/one", json={"public": False}, headers=lab.service)
    assert answer.json() == {"message": "Successfully updated"}
    answer = await lab.http.put("/bucket/one", json={"file_size_limit": None}, headers=lab.service)
    bucket = (await lab.http.get("/bucket/one", headers=lab.service)).json()
    assert (bucket["public"], bucket["file_size_limit"], bucket["allowed_mime_types"]) == (False, None, ["image/*"])
    answer = await lab.http.put(
        "/bucket/one", json={"allowed_mime_types": None, "file_size_limit": 5}, headers=lab.service
    )
    bucket = (await lab.http.get("/bucket/one", headers=lab.service)).json()
    assert (bucket["file_size_limit"], bucket["allowed_mime_types"]) == (5, None)
    answer = await lab.http.request(
        "DELETE", "/bucket/one", content=b"", headers={**lab.service, "content-type": "application/json"}
    )
    assert answer.json() == {"message": "Successfully deleted"}
    for method in ("GET", "DELETE"):
        answer = await lab.http.request(method, "/bucket/one", headers=lab.service)
        assert refusal(answer) == (400, "404", "NoSuchBucket")
        assert answer.json()["error"] == "Bucket not found"
    assert refusal(await lab.http.put("/bucket/one", json={"public": True}, headers=lab.service))[2] == "NoSuchBucket"


async def test_the_owner_of_a_bucket(lab: Lab) -> None:
    await lab.admin.execute(
        "create policy p on storage.buckets for all to authenticated using (true) with check (true)"
    )
    await create(lab, lab.alice, name="mine")
    row = await lab.admin.fetchrow("select owner, owner_id, public from storage.buckets")
    assert row is not None
    assert (str(row["owner"]), row["owner_id"], row["public"]) == (ALICE, ALICE, False)
    assert (await lab.http.get("/bucket/mine", headers=lab.alice)).json()["owner"] == ALICE


async def test_names_and_limits_that_are_refused(lab: Lab) -> None:
    cases: list[tuple[dict[str, Any], tuple[int, str, str]]] = [
        ({}, (400, "400", "InvalidRequest")),
        ({"name": ""}, (400, "400", "InvalidBucketName")),
        ({"name": "a/b"}, (400, "400", "InvalidBucketName")),
        ({"name": " a"}, (400, "400", "InvalidBucketName")),
        ({"name": "a "}, (400, "400", "InvalidBucketName")),
        ({"name": "é"}, (400, "400", "InvalidBucketName")),
        ({"name": "x" * 101}, (400, "400", "InvalidBucketName")),
        ({"name": "x--table-s3"}, (400, "400", "InvalidBucketName")),
        ({"name": ".."}, (400, "400", "InvalidBucketName")),
        ({"name": "a", "id": "../x"}, (400, "400", "InvalidBucketName")),
        ({"name": {}}, (400, "400", "InvalidRequest")),
        ({"name": "a", "public": "maybe"}, (400, "400", "InvalidRequest")),
        ({"name": "a", "file_size_limit": "20 potatoes"}, (400, "400", "InvalidRequest")),
        ({"name": "a", "file_size_limit": -1}, (400, "400", "InvalidRequest")),
        ({"name": "a", "file_size_limit": 10_000_001}, (400, "413", "EntityTooLarge")),
        ({"name": "a", "file_size_limit": "11mb"}, (400, "413", "EntityTooLarge")),
        ({"name": "a", "allowed_mime_types": ["thing"]}, (400, "415", "InvalidMimeType")),
        ({"name": "a", "allowed_mime_types": ["a/" + "b" * 1000]}, (400, "415", "InvalidMimeType")),
        ({"name": "a", "type": "ANALYTICS"}, (400, "409", "FeatureNotEnabled")),
        ({"name": "a", "type": "OTHER"}, (400, "400", "InvalidRequest")),
    ]
    for body, expected in cases:
        assert refusal(await create(lab, **body)) == expected, body
    for name in ("x" * 100, "with space", "(a)!'*&$=@;:,?.+-_"):
        assert (await create(lab, name=name)).status_code == 200, name
    again = await create(lab, name="with space")
    assert refusal(again) == (400, "409", "BucketAlreadyExists")
    assert again.json()["message"] == "The resource already exists"
    assert (await create(lab, name="number", file_size_limit=1000)).status_code == 200
    assert (await create(lab, name="text", file_size_limit="1000")).status_code == 200
    nothing = await lab.http.put("/bucket/number", json={"name": "x"}, headers=lab.service)
    assert refusal(nothing) == (400, "400", "InvalidRequest")


async def test_lists_of_buckets(lab: Lab) -> None:
    for name in ("b", "a", "c_x", "cyx"):
        await create(lab, name=name)

    async def names(query: str = "", **headers: str) -> list[str]:
        answer = await lab.http.get(f"/bucket?{query}", headers={**lab.service, **headers})
        return [bucket["name"] for bucket in answer.json()]

    assert await names() == ["b", "a", "c_x", "cyx"]
    assert await names("sortColumn=name&sortOrder=desc") == ["cyx", "c_x", "b", "a"]
    assert await names("sortColumn=name&limit=2&offset=1") == ["b", "c_x"]
    assert await names("search=C_") == ["c_x"]
    assert await names("search=%25") == []
    for query in ("limit=0", "limit=x", "offset=-1", "sortColumn=owner", "sortOrder=up"):
        assert refusal(await lab.http.get(f"/bucket?{query}", headers=lab.service)) == (400, "400", "InvalidRequest")
    one = (await lab.http.get("/bucket?limit=1", headers=lab.service)).json()[0]
    assert set(one) == {
        "id",
        "name",
        "owner",
        "public",
        "type",
        "file_size_limit",
        "allowed_mime_types",
        "created_at",
        "updated_at",
    }
    assert (await lab.http.head("/bucket", headers=lab.service)).status_code == 200
    for headers in ({"x-client-info": "supabase-py/2.17.9"}, {"user-agent": "supabase-py/storage3 v0.12.0"}):
        old = (await lab.http.get("/bucket", headers={**lab.service, **headers})).json()
        assert all("type" not in bucket for bucket in old)
    new = (await lab.http.get("/bucket", headers={**lab.service, "x-client-info": "supabase-py/2.18.0"})).json()
    assert new[0]["type"] == "STANDARD"


async def test_only_an_empty_bucket_can_be_deleted(lab: Lab) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a")
    answer = await lab.http.delete(f"/bucket/{bucket}", headers=lab.service)
    assert refusal(answer) == (400, "409", "ResourceNotEmpty")
    await lab.http.post(f"/bucket/{bucket}/empty", headers=lab.service)
    await lab.admin.execute(
        "insert into storage.s3_multipart_uploads (id, upload_signature, bucket_id, key, version)"
        " values ('u', '', $1, 'k', 'v')",
        bucket,
    )
    answer = await lab.http.delete(f"/bucket/{bucket}", headers=lab.service)
    assert refusal(answer) == (400, "409", "ResourceReferenced")
    assert "pending multipart upload" in answer.json()["message"]


async def test_emptying_is_for_the_service_role(lab: Lab) -> None:
    bucket, other = await lab.bucket(), await lab.bucket()
    for number in range(5):
        await lab.put(bucket, f"f/{number}")
    await lab.put(other, "a")
    await lab.policy("all")
    answer = await lab.http.post(f"/bucket/{bucket}/empty", headers=lab.alice)
    assert refusal(answer) == (403, "403", "AccessDenied")
    assert answer.json()["message"] == "Access denied: Invalid role"
    answer = await lab.http.post(f"/bucket/{bucket}/empty", json={}, headers=lab.service)
    assert answer.json() == {"message": "Empty bucket has been queued. Completion may take up to an hour."}
    assert await lab.row(other, "a") is not None
    assert await lab.row(bucket, "f/0") is None
    assert await lab.admin.fetchval("select count(*) from storage_internal.blob_gc") == 5
    assert refusal(await lab.http.post("/bucket/none/empty", headers=lab.service)) == (400, "404", "NoSuchBucket")
    assert (await lab.http.post(f"/bucket/{bucket}/fill", headers=lab.service)).status_code == 404


async def test_kinds_of_buckets_that_are_not_served(lab: Lab) -> None:
    answer = await lab.http.post("/vector/CreateVectorBucket", json={}, headers=lab.service)
    assert refusal(answer) == (409, "409", "FeatureNotEnabled")
    answer = await lab.http.get("/iceberg/v1/config", headers=lab.service)
    assert answer.status_code == 409
