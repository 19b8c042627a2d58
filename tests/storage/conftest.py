"""A storage service on a database of the test's own and a folder of the test's own, behind a real socket."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from harness.listening import listening
from harness.postgres import TestServer
from harness.storage import SECRET, Lab
from socle_platform.config.storage import StorageSettings
from socle_platform.db import Database
from socle_platform.disk import DiskBlobs
from socle_platform.events import Observation
from socle_platform.keys import Keyring, secret_key
from socle_platform.ports import BlobStore, Resources
from socle_storage.routes import build, build_storage


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for blobs, in memory where there is such a place: these tests are not about the disk's speed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="socle-blobs-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def settings(folder: Path) -> StorageSettings:
    return StorageSettings(file_path=folder, size_limit=10_000_000, blob_grace=0.0, orphan_grace=0.0)


@pytest.fixture
async def blobs(settings: StorageSettings) -> AsyncIterator[BlobStore]:
    store = DiskBlobs(settings.file_path, legacy_bucket=settings.file_bucket)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring([secret_key(SECRET)], opaque_keys={"sb_secret_test": "service_role", "sb_publishable_test": "anon"})


@pytest.fixture
async def lab(
    server: TestServer,
    database_name: str,
    database: Database,
    settings: StorageSettings,
    blobs: BlobStore,
    keyring: Keyring,
) -> AsyncIterator[Lab]:
    seen: list[Observation] = []
    resources = Resources(database=database, keyring=keyring, blobs=blobs, observe=seen.append)
    admin = await asyncpg.connect(server.dsn(database_name))
    await admin.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=json.loads)
    await admin.execute("set storage.allow_delete_query = 'true'")
    async with (
        listening(build(settings, resources)) as url,
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        yield Lab(build_storage(settings, resources), url, http, keyring, admin, settings.file_path, seen)
    await admin.close()
