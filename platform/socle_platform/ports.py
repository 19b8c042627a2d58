"""The outside world as Protocols that we own; adapters fulfil them (layout.md, glossary: Port / Adapter)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
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
    """One message to one recipient: subject and both bodies; `kind` names what it is for (`signup`, `recovery`, …)."""

    to: str
    subject: str
    html: str
    text: str
    kind: str = ""


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
    """Facts about stored bytes: size in bytes, ETag with quotes, last modification (aware, UTC).

    The ETag of `commit` and `finish` is the MD5 of the bytes, or S3's `"md5-N"` for parts. `head` may know only a
    weaker one: the row that describes the blob is the authority.
    """

    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class PartInfo:
    """One part of an unfinished upload: its number (from 1), size in bytes, ETag with quotes (the MD5 of the part)."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob as a scan finds it: a key that `delete` takes, the version in it, size, and when it was put there."""

    key: str
    version: str
    size: int
    stored_at: datetime


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload in parts as a scan finds it: the arguments of `abandon`, and when it last grew or began."""

    key: str
    upload: str
    touched_at: datetime


class Hasher(Protocol):
    """Anything that digests bytes (hashlib's objects do)."""

    def update(self, data: bytes, /) -> None: ...


class BlobWriter(Protocol):
    """A blob being written: invisible until `commit` returns."""

    async def write(self, chunk: bytes) -> None:
        """Takes the next bytes; waits when the store is slower than the writer. Raises BlobStoreFull."""
        ...

    async def commit(self) -> BlobInfo:
        """Makes the bytes durable under their key (fsync or the store's own acknowledgement)."""
        ...


class BlobStore(Protocol):
    """Stored bytes by key `<tenant>/<bucket>/<name>/<version>`; a key is written once and never overwritten.

    Every method raises BlobStoreError (socle_platform.blobs). `minimum_part`: bytes that every part but the last must
    have.
    """

    @property
    def minimum_part(self) -> int: ...

    async def open(self) -> None:
        """Gets ready and proves it with a put, a get and a delete. Raises BlobStoreUnusable, saying what failed."""
        ...

    async def close(self) -> None: ...

    def writer(self, key: str, *, hashers: Sequence[Hasher] = ()) -> AbstractAsyncContextManager[BlobWriter]:
        """A new blob; leaving the block without `commit` forgets it. `hashers` see every byte, off the event loop."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Bytes from `start` up to but not including `end`. Raises BlobNotFound before the first chunk.

        Close it (`contextlib.aclosing`): it holds a file or a connection.
        """
        ...

    async def head(self, key: str) -> BlobInfo:
        """Raises BlobNotFound."""
        ...

    async def copy(self, source: str, target: str) -> BlobInfo:
        """The same bytes under a second key, without passing through here. Raises BlobNotFound."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Forgets the keys; a missing one is no error."""
        ...

    def scan(self) -> AsyncIterator[StoredBlob]:
        """Every blob that has a version in its key, in no particular order."""
        ...

    async def begin(self, key: str) -> str:
        """Starts an upload in parts, which survives a restart, and returns its id."""
        ...

    async def write_part(
        self,
        key: str,
        upload: str,
        number: int,
        chunks: AsyncIterable[bytes],
        *,
        size: int,
        hashers: Sequence[Hasher] = (),
        verify: Callable[[], None] | None = None,
    ) -> PartInfo:
        """Stores one part of exactly `size` bytes durably; the same number again replaces it.

        `verify` is called once the hashers saw every byte and before the part counts; what it raises passes through.
        Raises BlobNotFound for an unknown upload, BlobStoreError when the chunks are more or fewer bytes.
        """
        ...

    async def copy_part(
        self, key: str, upload: str, number: int, source: str, start: int = 0, end: int | None = None
    ) -> PartInfo:
        """One part out of an existing blob. Raises BlobNotFound."""
        ...

    async def finish(self, key: str, upload: str, parts: Sequence[PartInfo]) -> BlobInfo:
        """Joins the parts, in order, into the blob and forgets the upload. Raises BlobNotFound for a missing part."""
        ...

    async def abandon(self, key: str, upload: str) -> None:
        """Forgets an unfinished upload; an unknown one is no error."""
        ...

    def unfinished(self) -> AsyncIterator[UnfinishedUpload]:
        """Every upload in parts that was neither finished nor abandoned."""
        ...

    async def tidy(self, before: datetime) -> int:
        """Removes what interrupted writers left behind before that moment; returns how much."""
        ...


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
