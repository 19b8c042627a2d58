"""Uploads in pieces on both backends, and over `kill -9`: on a disk, and on a real S3 gateway."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import httpx
import pytest

from harness.postgres import TestServer, free_port
from harness.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from harness.storage import SECRET, Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings
from socle_platform.disk import DiskBlobs
from socle_platform.ports import BlobStore
from socle_platform.s3 import S3Blobs
from socle_storage.sweeper import collect, scan
from socle_storage.tus.headers import render_pairs

PROGRAM = (
    "import asyncio, os; from socle_app.serve_storage import serve_storage; asyncio.run(serve_storage(os.environ))"
)
TUS = {"tus-resumable": "1.0.0"}
STREAM = {**TUS, "content-type": "application/offset+octet-stream"}
MIB = 1024 * 1024


@pytest.fixture(params=["file", "s3"])
def settings(request: pytest.FixtureRequest, settings: StorageSettings) -> StorageSettings:
    protocol = S3ProtocolSettings(access_key="key", secret_key="secret")
    settings = replace(settings, backend=request.param, size_limit=60 * MIB, tenant="resume", s3_protocol=protocol)
    if request.param == "file":
        return settings
    gateway: Seaweed = request.getfixturevalue("s3_gateway")
    return replace(settings, s3=gateway.settings("resume-test"))


@pytest.fixture
async def blobs(settings: StorageSettings) -> AsyncIterator[BlobStore]:
    on_s3 = settings.backend == "s3"
    store: BlobStore = S3Blobs(settings.s3, settings.tenant) if on_s3 else DiskBlobs(settings.file_path)
    await store.open()
    if on_s3:
        await store.delete([blob.key async for blob in store.scan()])
    yield store
    await store.close()


@contextlib.asynccontextmanager
async def served(lab: Lab, server: TestServer, database: str, port: int) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`socle serve storage` in a process of its own; killed at the end."""
    settings = lab.storage.settings
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": server.dsn(database, "supabase_storage_admin"),
        "AUTH_JWT_SECRET": SECRET,
        "TENANT_ID": settings.tenant,
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": str(port),
        "FILE_SIZE_LIMIT": str(settings.size_limit),
        "FILE_STORAGE_BACKEND_PATH": str(settings.file_path),
        "STORAGE_BACKEND": settings.backend,
        "STORAGE_S3_BUCKET": settings.s3.bucket,
        "STORAGE_S3_ENDPOINT": settings.s3.endpoint,
        "STORAGE_S3_FORCE_PATH_STYLE": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/status")).status_code == 200:
                        break
                assert process.returncode is None
                await asyncio.sleep(0.02)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def create(http: httpx.AsyncClient, headers: dict[str, str], bucket: str, name: str, length: int) -> str:
    described = render_pairs({"bucketName": bucket, "objectName": name})
    sent = {**TUS, **headers, "upload-length": str(length), "upload-metadata": described}
    created = await http.post("/upload/resumable", headers=sent)
    assert created.status_code == 201, created.text
    return created.headers["location"]


async def settled(lab: Lab) -> None:
    """After the sweeper exactly the rows' bytes are left."""
    await collect(lab.storage)
    await scan(lab.storage)
    assert await lab.stored() == await lab.versions()


async def test_pieces_of_every_size(lab: Lab) -> None:
    bucket = await lab.bucket()
    body = os.urandom(13 * MIB + 17)
    url = await create(lab.http, lab.service, bucket, "a/b", len(body))
    position = 0
    for size in (1, 100_000, 6 * MIB, 3 * MIB, 5, 6 * MIB):
        piece = body[position : position + size]
        answer = await lab.http.patch(
            url, content=piece, headers={**STREAM, **lab.service, "upload-offset": str(position)}
        )
        position += len(piece)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(position)), answer.text
    assert position == len(body)
    stored = await lab.http.get(f"/object/{bucket}/a/b", headers=lab.service)
    assert stored.content == body
    await settled(lab)


async def test_parts_by_the_s3_protocol(lab: Lab) -> None:
    bucket = await lab.bucket()
    boto3: Any = import_module("boto3")
    transfer: Any = import_module("boto3.s3.transfer")
    options: Any = transfer.TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)
    client: Any = boto3.client(
        "s3",
        endpoint_url=f"{lab.url}/s3",
        region_name="x",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    body = os.urandom(17 * MIB)

    def work() -> bytes:
        client.upload_fileobj(io.BytesIO(body), bucket, "parts", Config=options)
        client.copy({"Bucket": bucket, "Key": "parts"}, bucket, "copy", Config=options)
        return bytes(client.get_object(Bucket=bucket, Key="copy")["Body"].read())

    assert await asyncio.to_thread(work) == body
    await settled(lab)


@pytest.mark.timeout(120)
async def test_a_killed_server_keeps_what_it_acknowledged(lab: Lab, server: TestServer, database_name: str) -> None:
    bucket = await lab.bucket()
    body = os.urandom(16 * MIB)
    chance = random.Random(815)  # noqa: S311 (chosen to be repeatable)
    port = free_port()
    url, acknowledged, kills = "", 0, 0

    async def slowly(start: int) -> AsyncIterator[bytes]:
        for first in range(start, len(body), 100_000):
            yield body[first : first + 100_000]
            await asyncio.sleep(0.006)

    while True:
        async with (
            served(lab, server, database_name, port) as process,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http,
        ):
            url = url or await create(http, lab.service, bucket, "video", len(body))
            asked = await http.head(url, headers={**TUS, **lab.service})
            position = int(asked.headers["upload-offset"])
            assert position >= acknowledged
            acknowledged = position
            if position == len(body):
                break
            sent = {**STREAM, **lab.service, "upload-offset": str(position)}
            patching = asyncio.create_task(http.patch(url, content=slowly(position), headers=sent))
            patience = 0.2 + chance.random() * 0.5 if kills < 3 else None
            _, late = await asyncio.wait({patching}, timeout=patience)
            if late:
                kills += 1
                process.kill()
            with contextlib.suppress(httpx.TransportError):
                assert (await patching).status_code == 204
    assert kills >= 2
    stored = await lab.http.get(f"/object/{bucket}/video", headers=lab.service)
    assert stored.content == body
    await settled(lab)
