"""Remembered buckets: never for long, never to refuse by."""

from __future__ import annotations

from harness.storage import Lab, refusal
from socle_storage.known import KnownBuckets
from socle_storage.rows import Bucket


def test_a_bucket_is_known_for_its_time_only() -> None:
    now = 100.0
    known = KnownBuckets(seconds=1.0, now=lambda: now)
    known.remember(Bucket("a", "a"))
    assert known.get("a") == Bucket("a", "a")
    now = 100.99
    assert known.get("a") is not None
    now = 101.0
    assert known.get("a") is None
    known.remember(Bucket("a", "a", public=True))
    known.forget("a")
    known.forget("a")
    assert known.get("a") is None


def test_only_so_many_are_known() -> None:
    known = KnownBuckets(now=lambda: 0.0)
    for number in range(1001):
        known.remember(Bucket(f"{number}", f"{number}"))
    assert known.get("0") is None
    assert known.get("1000") is not None


async def test_nobody_is_refused_for_what_was(lab: Lab) -> None:
    bucket = await lab.bucket(file_size_limit=1, allowed_mime_types=["image/png"])
    assert refusal(await lab.put(bucket, "a", b"xx", content_type="image/png"))[2] == "EntityTooLarge"
    await lab.admin.execute("update storage.buckets set file_size_limit = 5")
    assert (await lab.put(bucket, "a", b"xx", content_type="image/png")).status_code == 200
    assert refusal(await lab.put(bucket, "b", b"xx", content_type="text/css"))[2] == "InvalidMimeType"
    await lab.admin.execute("update storage.buckets set allowed_mime_types = null")
    assert (await lab.put(bucket, "b", b"xx", content_type="text/css")).status_code == 200


async def test_what_the_service_changes_counts_at_once(lab: Lab) -> None:
    bucket = await lab.bucket()
    assert (await lab.put(bucket, "a", b"xx")).status_code == 200
    await lab.http.put(f"/bucket/{bucket}", json={"file_size_limit": 1}, headers=lab.service)
    assert refusal(await lab.put(bucket, "b", b"xx"))[2] == "EntityTooLarge"
    await lab.http.post(f"/bucket/{bucket}/empty", headers=lab.service)
    await lab.http.delete(f"/bucket/{bucket}", headers=lab.service)
    assert refusal(await lab.put(bucket, "b", b"x")) == (400, "404", "NoSuchBucket")


async def test_a_bucket_deleted_behind_the_service_is_no_bucket(lab: Lab) -> None:
    bucket = await lab.bucket()
    assert (await lab.put(bucket, "a", b"xx")).status_code == 200
    await lab.admin.execute("delete from storage.objects")
    await lab.admin.execute("delete from storage.buckets")
    assert refusal(await lab.put(bucket, "b", b"x")) == (400, "404", "NoSuchBucket")
