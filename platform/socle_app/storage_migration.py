"""`socle storage migrate`: the bytes of every object from disk to S3, or back (see socle_storage.relocation)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from socle_app.options import StartOptions
from socle_app.resources import open_blobs
from socle_platform.config.database import DatabaseSettings
from socle_platform.config.reader import Reader
from socle_platform.config.storage import load_storage
from socle_platform.db import Database
from socle_platform.errors import SocleError
from socle_platform.keys import Keyring
from socle_platform.ports import Resources
from socle_storage.relocation import Relocated, end_uploads, relocate
from socle_storage.routes import build_storage
from socle_storage.store.bookkeeping import ensure_bookkeeping

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from socle_app.places import Place
    from socle_platform.config.storage import StorageSettings
    from socle_platform.ports import BlobStore
    from socle_storage.context import Storage
    from socle_storage.store import Unfinished

BACKENDS = ("file", "s3")


class MigrationImpossible(SocleError):
    """The bytes cannot be moved there."""


@dataclass(frozen=True, slots=True)
class Migration:
    """Both stores, opened, and the rows that say what belongs in them. `storage` reads from the source."""

    storage: Storage
    target: BlobStore

    async def totals(self) -> tuple[int, int]:
        """How many objects there are, and how many bytes they have."""
        return await self.storage.store.totals()

    async def copy(self, progress: Callable[[Relocated], None] = lambda _: None) -> Relocated:
        """Copies what the target lacks. Raises BlobStoreError, DatabaseError, DatabaseUnavailable."""
        storage = self.storage
        return await relocate(storage.store, storage.settings.tenant, storage.blobs, self.target, progress)

    async def unfinished(self) -> Unfinished:
        """Uploads whose bytes are at the source only, and stay there."""
        return await self.storage.store.unfinished()

    async def end_uploads(self) -> int:
        """Forgets those uploads and their bytes; returns how many there were."""
        return await end_uploads(self.storage)


@contextlib.asynccontextmanager
async def open_migration(
    settings: StorageSettings, database_settings: DatabaseSettings, target: str
) -> AsyncGenerator[Migration]:
    """To `target` (file or s3) from the other one, until the block ends.

    Both stores come from the same settings: FILE_STORAGE_BACKEND_PATH and STORAGE_S3_*. Raises MigrationImpossible,
    BlobStoreUnusable, DatabaseUnavailable.
    """
    if target not in BACKENDS:
        raise MigrationImpossible(f"There is no storage backend {target!r}: {' or '.join(BACKENDS)}.")
    if not settings.s3.bucket:
        raise MigrationImpossible("STORAGE_S3_BUCKET (and STORAGE_S3_ENDPOINT, AWS_ACCESS_KEY_ID …) must be set.")
    async with contextlib.AsyncExitStack() as stack:
        database = Database(database_settings)
        stack.push_async_callback(database.close)
        await database.start()
        await ensure_bookkeeping(database)
        stores = {name: await open_blobs(replace(settings, backend=name)) for name in BACKENDS}
        for blobs in stores.values():
            stack.push_async_callback(blobs.close)
        source = next(blobs for name, blobs in stores.items() if name != target)
        resources = Resources(database, Keyring(()), blobs=source)
        yield Migration(build_storage(settings, resources), stores[target])


@dataclass(frozen=True, slots=True)
class Journey:
    """A migration as a person asks for it: of a project, to a store, in the database named or found."""

    place: Place
    target: str
    database_url: str | None = None

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncGenerator[Migration]:
        """The migration of the project's environment. Raises ConfigError besides what `open_migration` raises."""
        environ = self.place.project.environment(os.environ)
        read = Reader({"FILE_STORAGE_BACKEND_PATH": str(self.place.state.blobs), **environ})
        settings = load_storage(read)
        read.finish()
        async with self._database(environ) as dsn:
            database_settings = DatabaseSettings(
                api_dsn=dsn, service_dsns={"storage": dsn}, api_pool_size=1, service_pool_size=2
            )
            async with open_migration(settings, database_settings, self.target) as migration:
                yield migration

    @contextlib.asynccontextmanager
    async def _database(self, environ: Mapping[str, str]) -> AsyncGenerator[str]:
        """The database named, running here, or the environment's; else the project's own is started meanwhile."""
        from socle_app.source import external_url, open_source

        running = self.place.state.read_running()
        if self.database_url:
            yield self.database_url
        elif running is not None and running.socket_dir:
            url = urlsplit(running.values["DB_URL"])
            folder = quote(running.socket_dir, safe="")
            yield f"postgresql://{url.path}?host={folder}&port={url.port}&user=supabase_storage_admin"
        elif running is not None:
            yield running.values["DB_URL"]
        elif (found := external_url(environ)) is not None:
            yield found
        elif not self.place.state.path.is_dir():
            raise MigrationImpossible("No database: nothing runs here, and none was named (--db-url, DATABASE_URL).")
        else:
            async with open_source(environ, StartOptions(), self.place.state, lambda _: None) as source:
                yield source.service_dsns["storage"]
