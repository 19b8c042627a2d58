"""What a storage request carries with it: the service's parts, and who calls for what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from socle_platform.blobs import blob_key
from socle_platform.identity import Identity, RequestFacts
from socle_storage.known import KnownBuckets

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_platform.events import Observe
    from socle_platform.keys import Keyring
    from socle_platform.ports import BlobStore, Clock
    from socle_storage.store import Store

_SERVICE = Identity.service()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, with what request, for which operation (`storage.operation` in policies; contract §5)."""

    identity: Identity
    facts: RequestFacts
    operation: str
    authenticated: bool = True

    @property
    def owner(self) -> str | None:
        """The owner of what this caller stores: the token's `sub`."""
        return self.identity.subject

    def as_service(self) -> Caller:
        """The same request with the service role: past row level security."""
        return Caller(_SERVICE, self.facts, self.operation, self.authenticated)


@dataclass(frozen=True, slots=True)
class Storage:
    """The service's parts. One for the life of the application."""

    settings: StorageSettings
    store: Store
    blobs: BlobStore
    keyring: Keyring
    clock: Clock
    observe: Observe
    known: KnownBuckets = field(default_factory=KnownBuckets)

    def key(self, bucket: str, name: str, version: str | None) -> str:
        """The blob key of one version of an object."""
        return blob_key(self.settings.tenant, bucket, name, version)
