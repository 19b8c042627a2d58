"""A request's body as the write path takes it: its real length, its bytes, and what they must hash to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from socle_storage.s3api.chunked import KINDS, SIGNED_TRAILER, UNSIGNED_TRAILER, Chain, ChunkedBody
from socle_storage.s3api.errors import (
    bad_digest,
    hash_mismatch,
    incomplete_body,
    invalid_argument,
    invalid_digest,
    missing_length,
)
from socle_storage.s3api.signature import UNSIGNED

if TYPE_CHECKING:
    from socle_platform.ports import Hasher
    from socle_storage.s3api.credentials import Signer
    from socle_storage.wire import Exchange

_CHECKSUMS = "x-amz-checksum-"
_HASH = re.compile(r"[0-9a-f]{64}")


class Digester(Protocol):
    """One of hashlib's objects, or one in their shape."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 in the shape of hashlib's objects."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """More bytes."""
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """Four bytes, the highest first."""
        return self._value.to_bytes(4, "big")


_ALGORITHMS: Mapping[str, Callable[[], Digester]] = {
    "crc32": Crc32,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}
"""What is computed here; CRC32C and CRC64NVME are taken as they come, nothing in Python computes them fast enough."""


@dataclass(slots=True)
class Payload:
    """A body on its way in. `size`: bytes that are to come. Take `stream`, then `verify`."""

    size: int
    _stream: AsyncGenerator[bytes, None]
    _expected: dict[str, bytes]
    _content_hash: str | None
    _chunked: ChunkedBody | None
    _digesters: dict[str, Digester]

    @property
    def hashers(self) -> Sequence[Hasher]:
        """To be fed with the bytes, by whoever stores them (off the event loop)."""
        return tuple(self._digesters.values())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Exactly `size` bytes. Raises IncompleteBody, SignatureDoesNotMatch, Aborted."""
        left = self.size
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise incomplete_body()
            yield chunk
        if left:
            raise incomplete_body()

    def verify(self) -> None:
        """Compares what came with what was announced. Raises BadDigest, XAmzContentSHA256Mismatch."""
        expected = dict(self._expected)
        if self._chunked is not None:
            for name, value in self._chunked.trailers.items():
                if name.startswith(_CHECKSUMS):
                    expected[name[len(_CHECKSUMS) :]] = _decoded(value)
        for name, digest in expected.items():
            digester = self._digesters.get(name)
            if digester is not None and digester.digest() != digest:
                raise bad_digest("Content-MD5" if name == "md5" else name)
        if self._content_hash is not None and self._digesters["content"].digest().hex() != self._content_hash:
            raise hash_mismatch()


def open_payload(exchange: Exchange, signer: Signer) -> Payload:
    """The body of a signed request. Raises MissingContentLength, InvalidDigest."""
    kind = signer.payload_hash
    expected = {
        name: _decoded(value)
        for name in _ALGORITHMS
        if name != "md5" and (value := exchange.header(_CHECKSUMS + name)) is not None
    }
    if (md5 := exchange.header("content-md5")) is not None:
        expected["md5"] = _decoded(md5)
    wanted = set(expected)
    chunked: ChunkedBody | None = None
    stream = exchange.stream()
    if kind in KINDS:
        size = _whole(exchange.header("x-amz-decoded-content-length"))
        chain = None if kind == UNSIGNED_TRAILER else Chain(signer.claim, signer.key, signer.claim.signature)
        chunked = ChunkedBody(stream, chain, has_trailer=kind in {SIGNED_TRAILER, UNSIGNED_TRAILER})
        for name in (exchange.header("x-amz-trailer") or "").lower().split(","):
            wanted.add(name.strip().removeprefix(_CHECKSUMS))
    else:
        size = _whole(exchange.header("content-length"))
        if kind != UNSIGNED and not _HASH.fullmatch(kind):
            raise invalid_argument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a known STREAMING kind, or a SHA-256"
            )
    content_hash = kind if _HASH.fullmatch(kind) else None
    digesters = {name: _ALGORITHMS[name]() for name in wanted if name in _ALGORITHMS}
    if content_hash is not None:
        digesters["content"] = hashlib.sha256()
    return Payload(
        size=size,
        _stream=stream if chunked is None else chunked.decoded(),
        _expected=expected,
        _content_hash=content_hash,
        _chunked=chunked,
        _digesters=digesters,
    )


async def read_document(exchange: Exchange, signer: Signer, limit: int) -> bytes:
    """A small body as a whole, checked. Raises IncompleteBody beyond `limit`, BadDigest and its kind."""
    if exchange.header("content-length") is None and signer.payload_hash not in KINDS:
        async for _ in exchange.stream():
            raise missing_length()
        return b""
    payload = open_payload(exchange, signer)
    if payload.size > limit:
        raise incomplete_body()
    body = b"".join([chunk async for chunk in payload.stream()])
    for hasher in payload.hashers:
        hasher.update(body)
    payload.verify()
    return body


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_digest() from None


def _whole(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 15:
        raise missing_length()
    return int(value)
