"""The outside world as Protocols that we own; adapters fulfil them (layout.md, glossary: Port / Adapter)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from socle_platform.events import Observe, silent

if TYPE_CHECKING:
    from socle_platform.db import Database
    from socle_platform.keys import Keyring


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """An aware UTC datetime."""
        ...


class Random(Protocol):
    """Where secrets come from."""

    def token_bytes(self, size: int) -> bytes: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemRandom:
    """The operating system's generator."""

    def token_bytes(self, size: int) -> bytes:
        return secrets.token_bytes(size)


@dataclass(frozen=True, slots=True)
class Mail:
    """One message to one recipient: subject, both bodies, and extra headers (names without line breaks)."""

    to: str
    subject: str
    html: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Mailer(Protocol):
    """Sends mail."""

    async def send(self, mail: Mail) -> None:
        """Hands the mail over. Raises MailNotSent when nobody took it."""
        ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The answer of an outgoing request, body read whole (bounded by the adapter)."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient(Protocol):
    """Outgoing HTTP. Private addresses are refused unless the adapter was told otherwise."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> HttpAnswer:
        """One exchange. Raises OutgoingFailed (network, time limit in seconds, size) or OutgoingRefused (address)."""
        ...


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """Facts about stored bytes: size in bytes, ETag with quotes, last modification."""

    size: int
    etag: str
    last_modified: datetime


class BlobWriter(Protocol):
    """A blob being written: invisible until `commit` returns, gone after `abort`."""

    async def write(self, chunk: bytes) -> None: ...

    async def commit(self) -> BlobInfo:
        """Makes the bytes durable under their key (fsync or the store's own acknowledgement)."""
        ...

    async def abort(self) -> None: ...


class BlobStore(Protocol):
    """Stored bytes by key `<tenant>/<bucket>/<name>/<version>`; a key is written once and never overwritten."""

    def writer(self, key: str) -> AbstractAsyncContextManager[BlobWriter]: ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `start` up to but not including `end`. Raises BlobNotFound before the first chunk."""
        ...

    async def head(self, key: str) -> BlobInfo: ...

    async def copy(self, source: str, target: str) -> BlobInfo: ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Forgets the keys; a missing one is no error."""
        ...

    def keys(self, prefix: str = "") -> AsyncIterator[str]: ...


@dataclass(frozen=True, slots=True)
class Resources:
    """What the roof gives every service. Two lifetimes: this one is the application's (models.md §6)."""

    database: Database
    keyring: Keyring
    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=SystemRandom)
    observe: Observe = silent
    mailer: Mailer | None = None
    http: HttpClient | None = None
    blobs: BlobStore | None = None
