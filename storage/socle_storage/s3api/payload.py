"""A request's body as the write path takes it: its real length, its bytes, and what they must hash to."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_storage.s3api.checksums import (
    MD5,
    PREFIX,
    Digester,
    checksum_header,
    digester_of,
    parse_checksum,
)
from socle_storage.s3api.chunked import KINDS, SIGNED_TRAILER, UNSIGNED_TRAILER, Chain, ChunkedBody
from socle_storage.s3api.credentials import headers_of
from socle_storage.s3api.errors import (
    bad_digest,
    hash_mismatch,
    incomplete_body,
    invalid_argument,
    malformed_trailer,
    missing_length,
)
from socle_storage.s3api.signature import UNSIGNED

if TYPE_CHECKING:
    from socle_platform.ports import Hasher
    from socle_storage.s3api.credentials import Signer
    from socle_storage.wire import Exchange

_CONTENT = "x-amz-content-sha256"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class Payload:
    """A body on its way in. `size`: bytes that are to come. Take `stream`, then `verify`."""

    size: int
    _stream: AsyncGenerator[bytes, None]
    _expected: dict[str, bytes]
    _chunked: ChunkedBody | None
    _trailer: str | None
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
        """Compares what came with what was announced.

        Raises BadDigest, XAmzContentSHA256Mismatch, MalformedTrailerError, InvalidRequest for what is no checksum.
        """
        expected = dict(self._expected)
        if self._chunked is not None:
            found = checksum_header(self._chunked.trailers.items())
            if (found[0] if found else None) != self._trailer:
                raise malformed_trailer()
            if found is not None:
                expected[found[0]] = parse_checksum(*found)
        for algorithm, digest in expected.items():
            if self._digesters[algorithm].digest() != digest:
                raise hash_mismatch() if algorithm == _CONTENT else bad_digest(algorithm)


def open_payload(exchange: Exchange, signer: Signer, *, checksummed: bool = True) -> Payload:
    """The body of a signed request. Raises MissingContentLength, InvalidDigest, InvalidRequest.

    `checksummed` False: an `x-amz-checksum-…` header is of something else than the body.
    """
    kind = signer.payload_hash
    expected: dict[str, bytes] = {}
    if checksummed and (announced := checksum_header(headers_of(exchange).items())) is not None:
        expected[announced[0]] = parse_checksum(*announced)
    if (md5 := exchange.header("content-md5")) is not None:
        expected[MD5] = parse_checksum(MD5, md5)
    chunked: ChunkedBody | None = None
    trailer: str | None = None
    stream = exchange.stream()
    if kind in KINDS:
        size = _whole(exchange.header("x-amz-decoded-content-length"))
        chain = None if kind == UNSIGNED_TRAILER else Chain(signer.claim, signer.key, signer.claim.signature)
        chunked = ChunkedBody(stream, chain, has_trailer=kind in {SIGNED_TRAILER, UNSIGNED_TRAILER})
        trailer = _trailer(exchange.header("x-amz-trailer") or "")
    else:
        size = _whole(exchange.header("content-length"))
        if _HASH.fullmatch(kind):
            expected[_CONTENT] = bytes.fromhex(kind)
        elif kind != UNSIGNED:
            raise invalid_argument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a known STREAMING kind, or a SHA-256"
            )
    wanted = {*expected, *filter(None, [trailer])}
    return Payload(
        size=size,
        _stream=stream if chunked is None else chunked.decoded(),
        _expected=expected,
        _chunked=chunked,
        _trailer=trailer,
        _digesters={name: digester_of("SHA256" if name == _CONTENT else name) for name in wanted},
    )


def _trailer(names: str) -> str | None:
    """The algorithm of the checksum that the trailer is to bear. Raises InvalidRequest for an unknown one."""
    announced = [name.strip() for name in names.lower().split(",")]
    found = checksum_header((name, "") for name in announced if name.startswith(PREFIX))
    return None if found is None else found[0]


async def read_document(exchange: Exchange, signer: Signer, limit: int, *, checksummed: bool = True) -> bytes:
    """A small body as a whole, checked. Raises IncompleteBody beyond `limit`, BadDigest and its kind.

    `checksummed` as for `open_payload`.
    """
    if exchange.header("content-length") is None and signer.payload_hash not in KINDS:
        async for _ in exchange.stream():
            raise missing_length()
        return b""
    payload = open_payload(exchange, signer, checksummed=checksummed)
    if payload.size > limit:
        raise incomplete_body()
    body = b"".join([chunk async for chunk in payload.stream()])
    for hasher in payload.hashers:
        hasher.update(body)
    payload.verify()
    return body


def _whole(value: str | None) -> int:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > 15:
        raise missing_length()
    return int(value)
