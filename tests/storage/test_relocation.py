"""Moving every object's bytes between disk and S3."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.postgres import TestServer
from harness.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from harness.storage import Lab
from socle_app.cli import app
from socle_app.storage_migration import MigrationImpossible, open_migration
from socle_platform.ports import BlobStore
from socle_platform.s3 import S3Blobs
from socle_storage.relocation import Relocated, relocate
from socle_storage.store import MultipartUpload


@pytest.fixture
async def s3(lab: Lab, s3_gateway: Seaweed) -> AsyncIterator[S3Blobs]:
    store = S3Blobs(s3_gateway.settings(f"move-{os.getpid()}-{id(lab) % 10_000}"), lab.storage.settings.tenant)
    await store.open()
    yield store
    await store.close()


async def read(store: BlobStore, key: str) -> bytes:
    async with contextlib.aclosing(store.read(key)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_every_object_arrives_once_and_whole(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    bodies = {f"dir/{number}.bin": os.urandom(number * 700_000) for number in range(10)}
    for name, body in bodies.items():
        assert (await lab.put(bucket, name, body)).status_code == 200
    storage, steps = lab.storage, list[Relocated]()
    first = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3, steps.append)
    assert (first.objects, first.copied, first.failed) == (10, 10, ())
    assert first.bytes == sum(map(len, bodies.values()))
    assert [step.objects for step in steps] == list(range(1, 11))
    for name, body in bodies.items():
        row = await lab.row(bucket, name)
        assert row is not None
        assert await read(s3, storage.key(bucket, name, row["version"])) == body
    again = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (again.objects, again.copied) == (10, 0)


async def test_an_interrupted_run_goes_on_where_it_was(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    for number in range(5):
        await lab.put(bucket, f"{number}", b"x" * 1000)

    class Enough(Exception):
        pass

    def stop(state: Relocated) -> None:
        if state.objects == 3:
            raise Enough

    storage = lab.storage
    with pytest.raises(Enough):
        await relocate(storage.store, storage.settings.tenant, storage.blobs, s3, stop)
    rest = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (rest.objects, rest.copied) == (5, 2)


async def test_bytes_that_are_gone_or_wrong_are_named_and_not_copied(lab: Lab, s3: S3Blobs) -> None:
    bucket = await lab.bucket()
    for name in ("fine", "gone", "spoilt"):
        await lab.put(bucket, name, b"0123456789")
    storage = lab.storage
    gone, spoilt = await lab.row(bucket, "gone"), await lab.row(bucket, "spoilt")
    assert gone is not None
    assert spoilt is not None
    await storage.blobs.delete([storage.key(bucket, "gone", gone["version"])])
    (lab.folder / "blobs" / spoilt["version"][:2] / spoilt["version"]).write_bytes(b"0123456780")
    result = await relocate(storage.store, storage.settings.tenant, storage.blobs, s3)
    assert (result.copied, result.failed) == (1, (f"{bucket}/gone", f"{bucket}/spoilt"))
    assert len([blob async for blob in s3.scan()]) == 1


async def test_there_and_back_by_settings(
    lab: Lab, server: TestServer, database_name: str, s3_gateway: Seaweed
) -> None:
    bucket = await lab.bucket()
    await lab.put(bucket, "a", b"travels")
    settings, place = lab.storage.settings, server.settings(database_name)
    with_s3 = replace(settings, s3=s3_gateway.settings("there-and-back"))
    async with open_migration(with_s3, place, "s3") as migration:
        assert await migration.totals() == (1, 7)
        assert (await migration.copy()).copied == 1
    await lab.storage.blobs.delete([blob.key async for blob in lab.storage.blobs.scan()])
    async with open_migration(with_s3, place, "file") as migration:
        assert (await migration.copy()).copied == 1
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"travels"
    with pytest.raises(MigrationImpossible, match="tape"):
        await open_migration(with_s3, place, "tape").__aenter__()
    with pytest.raises(MigrationImpossible, match="STORAGE_S3_BUCKET"):
        await open_migration(settings, place, "s3").__aenter__()


@pytest.fixture
def command(
    lab: Lab,
    server: TestServer,
    database_name: str,
    s3_gateway: Seaweed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Awaitable[Result]]:
    """`socle storage migrate` in an environment that names both stores and the database."""
    environ = {
        "FILE_STORAGE_BACKEND_PATH": str(lab.folder),
        "STORAGE_S3_BUCKET": f"command-{os.getpid()}",
        "STORAGE_S3_ENDPOINT": s3_gateway.endpoint,
        "STORAGE_S3_FORCE_PATH_STYLE": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "TENANT_ID": lab.storage.settings.tenant,
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    place = ("--db-url", server.dsn(database_name, "supabase_storage_admin"))

    async def run(*arguments: str) -> Result:
        words = ["storage", "migrate", *place, *arguments]
        return await asyncio.to_thread(CliRunner().invoke, app, words, catch_exceptions=False)

    return run


async def test_the_command_says_what_it_did(lab: Lab, command: Callable[..., Awaitable[Result]]) -> None:
    bucket = await lab.bucket()
    for name in ("a", "b"):
        await lab.put(bucket, name)
    done = await command("--to", "s3")
    assert (done.exit_code, "2 objects seen, 2 copied, 0 could not be" in done.output) == (0, True), done.output
    assert "2 objects seen, 0 copied" in (await command("--to", "s3")).output
    await lab.storage.blobs.delete([blob.key async for blob in lab.storage.blobs.scan()])
    await lab.put(bucket, "c")
    await lab.storage.blobs.delete([blob.key async for blob in lab.storage.blobs.scan()])
    gone = await command("--to", "s3")
    assert (gone.exit_code, f"{bucket}/c: its bytes are not there" in gone.output) == (1, True)
    assert (await command("--to", "file")).exit_code == 1
    assert (await lab.http.get(f"/object/{bucket}/a", headers=lab.service)).content == b"hello"
    assert (await command("--to", "tape")).exit_code == 2


async def test_unfinished_uploads_are_told_and_can_be_ended(
    lab: Lab, command: Callable[..., Awaitable[Result]]
) -> None:
    """Their bytes would be missed after the change: nobody is to find out by a failed upload."""
    bucket = await lab.bucket()
    pairs = {"bucketName": bucket, "objectName": "tus"}
    described = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    headers = {**lab.service, "tus-resumable": "1.0.0", "upload-length": "10", "upload-metadata": described}
    headers["content-type"] = "application/offset+octet-stream"
    begun = await lab.http.post("/upload/resumable", content=b"12345", headers=headers)
    assert begun.status_code == 201
    key = lab.storage.key(bucket, "s3", "00000000-0000-4000-8000-000000000000")
    upload = await lab.storage.blobs.begin(key)
    await lab.storage.store.create_multipart(
        MultipartUpload(upload, bucket, "s3", "00000000-0000-4000-8000-000000000000", None, None, None)
    )
    told = await command("--to", "s3")
    assert told.exit_code == 1
    assert "1 resumable and 1 S3 uploads are unfinished" in told.output
    assert "--end-uploads" in told.output
    ended = await command("--to", "s3", "--end-uploads")
    assert (ended.exit_code, "2 unfinished uploads forgotten" in ended.output) == (0, True), ended.output
    again = await lab.http.head(begun.headers["location"], headers={**lab.service, "tus-resumable": "1.0.0"})
    assert again.status_code == 404
    assert [left async for left in lab.storage.blobs.unfinished()] == []
    assert await lab.stored() == set()
