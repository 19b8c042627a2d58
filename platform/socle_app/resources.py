"""Opens what every service shares, and closes it in reverse order: database pools, keyring, outgoing HTTP, blobs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from socle_app.key_watch import following
from socle_platform.config.database import load_database
from socle_platform.config.reader import Reader
from socle_platform.db import Database
from socle_platform.outgoing import OutgoingHttp, parse_allowances
from socle_platform.ports import Resources

if TYPE_CHECKING:
    from socle_app.keychain import Keychain
    from socle_app.source import Source
    from socle_platform.config.auth import AuthSettings
    from socle_platform.config.settings import Settings
    from socle_platform.config.storage import StorageSettings
    from socle_platform.events import Observe
    from socle_platform.ports import BlobStore, Mailer


@contextlib.asynccontextmanager
async def open_resources(
    settings: Settings, environ: Mapping[str, str], source: Source, keychain: Keychain, observe: Observe
) -> AsyncGenerator[Resources]:
    """The shared parts of one platform, until the block ends."""
    read = Reader(environ)
    database_settings = load_database(read, source.api_dsn, source.service_dsns)
    read.finish()
    async with contextlib.AsyncExitStack() as stack:
        database = Database(database_settings)
        await database.start()
        stack.push_async_callback(database.close)
        allowed = parse_allowances(
            settings.auth.allowed_private_hosts,
            everything=settings.auth.allow_private_urls or settings.gateway.is_loopback,
        )
        http = OutgoingHttp(allowed)
        stack.push_async_callback(http.close)
        blobs = await open_blobs(settings.storage)
        stack.push_async_callback(blobs.close)
        mailer = open_mailer(settings.auth)
        keyring = keychain.keyring()
        await stack.enter_async_context(following(keyring, keychain.settings, observe))
        yield Resources(database, keyring, observe=observe, http=http, blobs=blobs, mailer=mailer)


def open_mailer(settings: AuthSettings) -> Mailer | None:
    """The mail server that the settings name; None where mails stay in the inbox."""
    from socle_platform.smtp import SmtpMailer

    return SmtpMailer(settings.smtp, settings.external_url) if settings.smtp.host else None


async def open_blobs(settings: StorageSettings) -> BlobStore:
    """The blob store that the settings name, proven usable. Raises BlobStoreUnusable."""
    if settings.backend == "s3":
        from socle_platform.s3 import S3Blobs

        store: BlobStore = S3Blobs(settings.s3, settings.tenant)
    else:
        from socle_platform.disk import DiskBlobs

        store = DiskBlobs(settings.file_path, legacy_bucket=settings.file_bucket)
    await store.open()
    return store
