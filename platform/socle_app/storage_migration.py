"""`socle storage migrate`: the bytes of every object from disk to S3, or back (see socle_storage.relocation)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from socle_app.resources import open_blobs
from socle_platform.db import Database
from socle_platform.errors import SocleError
from socle_storage.relocation import Relocated, relocate
from socle_storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from socle_platform.config.database import DatabaseSettings
    from socle_platform.config.storage import StorageSettings

BACKENDS = ("file", "s3")


class MigrationImpossible(SocleError):
    """The bytes cannot be moved there."""


async def migrate_storage(
    settings: StorageSettings,
    database_settings: DatabaseSettings,
    target: str,
    progress: Callable[[Relocated, int, int], None] = lambda _state, _objects, _bytes: None,
) -> Relocated:
    """Copies to `target` (file or s3) what it lacks; `progress` gets the state, and the totals of objects and bytes.

    Both stores come from the same settings: FILE_STORAGE_BACKEND_PATH and STORAGE_S3_*. Afterwards STORAGE_BACKEND can
    be changed. Raises MigrationImpossible, BlobStoreUnusable, BlobStoreError, DatabaseError, DatabaseUnavailable.
    """
    if target not in BACKENDS:
        raise MigrationImpossible(f"There is no storage backend {target!r}: {' or '.join(BACKENDS)}.")
    if not settings.s3.bucket:
        raise MigrationImpossible("STORAGE_S3_BUCKET (and STORAGE_S3_ENDPOINT, AWS_ACCESS_KEY_ID …) must be set.")
    async with contextlib.AsyncExitStack() as stack:
        database = Database(database_settings)
        stack.push_async_callback(database.close)
        await database.start()
        stores = {name: await open_blobs(replace(settings, backend=name)) for name in BACKENDS}
        for blobs in stores.values():
            stack.push_async_callback(blobs.close)
        store = Store(database, settings)
        objects, size = await store.totals()
        source = next(blobs for name, blobs in stores.items() if name != target)
        return await relocate(
            store, settings.tenant, source, stores[target], lambda state: progress(state, objects, size)
        )
