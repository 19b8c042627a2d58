"""`kill -9` at random moments under a mixed load: no row without bytes, nothing acknowledged lost, nothing left over.

Ten rounds, four of them on S3; SOCLE_KILL_ROUNDS asks for more. What the server acknowledged is known here, outside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from harness.postgres import TestServer, free_port
from harness.seaweed import ACCESS_KEY, SECRET_KEY, Seaweed
from harness.storage import SECRET
from socle_platform.config.storage import StorageSettings, TusSettings
from socle_platform.db import Database
from socle_platform.disk import DiskBlobs
from socle_platform.keys import Keyring, secret_key
from socle_platform.ports import BlobStore, Resources
from socle_platform.s3 import S3Blobs
from socle_storage.context import Storage
from socle_storage.routes import build_storage
from socle_storage.sweeper import collect, scan

ROUNDS = int(os.environ.get("SOCLE_KILL_ROUNDS", "10"))
ROUNDS_ON_S3 = max(ROUNDS * 2 // 5, 1)
WORKERS = 6
PROGRAM = (
    "import asyncio, os; from socle_app.serve_storage import serve_storage; asyncio.run(serve_storage(os.environ))"
)
TOKEN = Keyring([secret_key(SECRET)]).sign({"role": "service_role"})


def digest(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Ledger:
    """What one worker was told: per name the digest of its content, None when it is gone.

    `doubtful`: the outcomes of the request that got no answer, any of which may be true.
    """

    known: dict[str, str | None] = field(default_factory=dict[str, str | None])
    doubtful: dict[str, set[str | None]] = field(default_factory=dict[str, set[str | None]])
    refused: list[str] = field(default_factory=list[str])

    def may_be(self, name: str, content: str | None) -> bool:
        return content in self.doubtful.get(name, {self.known.get(name)})


class Worker:
    """Uploads, overwrites, copies, moves and deletes names of its own until the server is gone."""

    def __init__(self, number: int, seed: int) -> None:
        self.ledger = Ledger()
        self._random = random.Random(seed * 100 + number)  # noqa: S311 (chosen to be repeatable)
        self._prefix = f"w{number}"

    async def run(self, http: httpx.AsyncClient) -> None:
        with contextlib.suppress(httpx.TransportError):
            while True:
                await self._one(http)

    async def _one(self, http: httpx.AsyncClient) -> None:
        present = [name for name, content in self.ledger.known.items() if content is not None]
        action = self._random.choice(["upload", "upload", "overwrite", "overwrite", "move", "delete", "copy"])
        name = self._random.choice(present) if present else ""
        new = f"{self._prefix}/{uuid.UUID(int=self._random.getrandbits(128))}"
        if action == "upload" or not present:
            await self._put(http, new, upsert=False)
        elif action == "overwrite":
            await self._put(http, name, upsert=True)
        elif action == "delete":
            await self._send(http.delete(f"/object/kill/{name}"), {name: None})
        else:
            content = self.ledger.known[name]
            way = {"bucketId": "kill", "sourceKey": name, "destinationKey": new}
            outcome = {new: content} if action == "copy" else {name: None, new: content}
            await self._send(http.post(f"/object/{action}", json=way), outcome)

    async def _put(self, http: httpx.AsyncClient, name: str, *, upsert: bool) -> None:
        size = self._random.choice([0, 100, 1000, 70_000, 300_000, 1_500_000, 6_500_000])
        body = self._random.randbytes(size)

        async def chunks() -> AsyncIterator[bytes]:
            for first in range(0, size, 50_000):
                yield body[first : first + 50_000]

        headers = {"x-upsert": str(upsert).lower(), "content-type": "a/b"}
        content = chunks() if self._random.random() < 0.5 else body
        await self._send(http.post(f"/object/kill/{name}", content=content, headers=headers), {name: digest(body)})

    async def _send(self, request: Awaitable[httpx.Response], outcome: dict[str, str | None]) -> None:
        ledger = self.ledger
        for name, content in outcome.items():
            ledger.doubtful[name] = {ledger.known.get(name), content}
        response = await request
        for name in outcome:
            del ledger.doubtful[name]
        if response.status_code == 200:
            ledger.known |= outcome
        else:
            ledger.refused.append(response.text)


@dataclass(slots=True)
class Scene:
    """The folder or bucket, the database, and how to start a server on them."""

    environ: dict[str, str]
    storage: Storage
    admin: asyncpg.Connection[asyncpg.Record]
    rounds: int

    async def start(self, port: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            env={**self.environ, "SERVER_PORT": str(port)},
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/status")).status_code == 200:
                        return process
                assert process.returncode is None
                await asyncio.sleep(0.02)

    async def _forgotten(self) -> None:
        """Waits until PostgreSQL has noticed that the server is gone: a last commit may still be on its way."""
        sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1"
        async with asyncio.timeout(20):
            while await self.admin.fetchval(sql, "socle storage"):  # noqa: ASYNC110 (nobody tells)
                await asyncio.sleep(0.01)

    async def contents(self) -> dict[str, str]:
        """Name → digest of the bytes of every row; fails where a row lacks them or they are not what the row says."""
        found: dict[str, str] = {}
        for row in await self.admin.fetch("select name, version, metadata ->> 'eTag' etag from storage.objects"):
            key = self.storage.key("kill", row["name"], row["version"])
            async with contextlib.aclosing(self.storage.blobs.read(key)) as chunks:
                body = b"".join([chunk async for chunk in chunks])
            assert row["etag"] == f'"{digest(body)}"'
            found[row["name"]] = digest(body)
        return found

    async def verify(self, ledgers: list[Ledger]) -> None:
        """Every acknowledged state is there; after the sweeper the store holds exactly the rows' bytes."""
        await self._forgotten()
        contents = await self.contents()
        for ledger in ledgers:
            assert ledger.refused == []
            for name in {*ledger.known, *ledger.doubtful}:
                assert ledger.may_be(name, contents.get(name)), (name, ledger.known.get(name), contents.get(name))
        versions = {row["version"] for row in await self.admin.fetch("select version from storage.objects")}
        async with asyncio.timeout(10):  # what was on its way to a gateway may arrive behind the first sweep
            while True:
                await collect(self.storage)
                await scan(self.storage)
                found = {blob.version async for blob in self.storage.blobs.scan()}
                if found == versions or isinstance(self.storage.blobs, DiskBlobs):
                    break
        assert found == versions
        assert await self.contents() == contents
        assert [upload async for upload in self.storage.blobs.unfinished()] == []


@contextlib.asynccontextmanager
async def scene_of(
    rounds: int, server: TestServer, database: Database, settings: StorageSettings, blobs: BlobStore, **more: str
) -> AsyncGenerator[Scene, None]:
    name = more.pop("DATABASE")
    await blobs.open()
    storage = build_storage(settings, Resources(database, Keyring([secret_key(SECRET)]), blobs=blobs))
    admin = await asyncpg.connect(server.dsn(name))
    await admin.execute("insert into storage.buckets (id, name) values ('kill', 'kill')")
    environ = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": server.dsn(name, "supabase_storage_admin"),
        "AUTH_JWT_SECRET": SECRET,
        "TENANT_ID": settings.tenant,
        "SERVER_HOST": "127.0.0.1",
        "SOCLE_STORAGE_BLOB_GRACE": "0",
        "SOCLE_STORAGE_SWEEP_INTERVAL": "0.05",
        **more,
    }
    yield Scene(environ, storage, admin, rounds)
    await admin.close()
    await blobs.close()


@pytest.fixture(params=["disk", "s3"])
async def scene(
    request: pytest.FixtureRequest, server: TestServer, database: Database, database_name: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    settings = StorageSettings(
        file_path=tmp_path, tenant="kill", blob_grace=0.0, orphan_grace=0.0, tus=TusSettings(expiry=0)
    )
    if request.param == "disk":
        more = {"FILE_STORAGE_BACKEND_PATH": str(tmp_path), "DATABASE": database_name}
        disk = DiskBlobs(tmp_path)
        async with scene_of(ROUNDS - ROUNDS_ON_S3, server, database, settings, disk, **more) as ready:
            yield ready
        return
    gateway: Seaweed = request.getfixturevalue("s3_gateway")
    settings = replace(settings, backend="s3", s3=gateway.settings("kill-test"))
    more = {
        "DATABASE": database_name,
        "STORAGE_BACKEND": "s3",
        "STORAGE_S3_BUCKET": "kill-test",
        "STORAGE_S3_ENDPOINT": gateway.endpoint,
        "STORAGE_S3_FORCE_PATH_STYLE": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    blobs = S3Blobs(settings.s3, settings.tenant)
    async with scene_of(ROUNDS_ON_S3, server, database, settings, blobs, **more) as ready:
        yield ready


@pytest.mark.timeout(60 + 15 * ROUNDS)
async def test_a_killed_server_loses_nothing_and_leaves_nothing(scene: Scene) -> None:
    moment = random.Random(4711)  # noqa: S311 (chosen to be repeatable)
    port = free_port()
    headers = {"authorization": f"Bearer {TOKEN}"}
    ledgers: list[Ledger] = []
    for number in range(scene.rounds):
        process = await scene.start(port)
        workers = [Worker(index, number) for index in range(WORKERS)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:
            running = asyncio.gather(*(worker.run(http) for worker in workers))
            await asyncio.sleep(0.1 + moment.random() * 0.6)
            process.kill()
            await process.wait()
            await running
        ledgers += [worker.ledger for worker in workers]
        await scene.verify(ledgers[-WORKERS:])
    assert sum(len(ledger.known) for ledger in ledgers) > scene.rounds
