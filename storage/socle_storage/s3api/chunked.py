"""Bodies in chunks with signatures of their own, and checksums behind them (`aws-chunked`).

Source: «Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks» and «… Including
Trailing Headers», Amazon S3 API reference. Bytes pass through as they come; a chunk whose signature is wrong ends the
stream with an error, before anything of the body can be published.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from socle_storage.s3api.errors import incomplete_body, signature_mismatch
from socle_storage.s3api.signature import EMPTY_HASH, Claim, sign

SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
KINDS: Final = frozenset({SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER})
_HEAD = re.compile(rb"([0-9a-fA-F]{1,15})(?:;chunk-signature=([0-9a-f]{64}))?")
_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16


@dataclass(slots=True)
class Chain:
    """The chain of signatures: each chunk's covers the one before."""

    claim: Claim
    key: bytes
    previous: str

    def verify(self, algorithm: str, signature: bytes | None, *hashes: str) -> None:
        """Raises SignatureDoesNotMatch."""
        text = "\n".join((algorithm, self.claim.date, self.claim.scope.render(), self.previous, *hashes))
        expected = sign(self.key, text)
        if signature is None or not hmac.compare_digest(expected.encode(), signature):
            raise signature_mismatch()
        self.previous = expected


@dataclass(slots=True)
class ChunkedBody:
    """Decodes one body. `chain` None: the chunks are not signed. `trailers` are complete once the stream has ended."""

    source: AsyncIterator[bytes]
    chain: Chain | None
    has_trailer: bool
    trailers: dict[str, str] = field(default_factory=dict[str, str])
    _buffer: bytearray = field(default_factory=bytearray)

    async def decoded(self) -> AsyncGenerator[bytes, None]:
        """The bytes themselves. Raises IncompleteBody, SignatureDoesNotMatch."""
        while True:
            match = _HEAD.fullmatch(await self._line())
            if match is None:
                raise incomplete_body()
            size = int(match[1], 16)
            digest = hashlib.sha256()
            left = size
            while left:
                piece = await self._some(left)
                left -= len(piece)
                if self.chain is not None:
                    digest.update(piece)
                yield piece
            if self.chain is not None:
                self.chain.verify("AWS4-HMAC-SHA256-PAYLOAD", match[2], EMPTY_HASH, digest.hexdigest())
            if not size:
                break
            if await self._line():
                raise incomplete_body()
        await self._read_trailers()

    async def _read_trailers(self) -> None:
        signed: list[bytes] = []
        signature: bytes | None = None
        while len(self.trailers) < _MAX_TRAILERS:
            line = await self._line(at_end=True)
            if not line:
                break
            name, colon, value = line.partition(b":")
            if not colon:
                raise incomplete_body()
            if name == b"x-amz-trailer-signature":
                signature = value.strip()
                continue
            self.trailers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
            signed.append(name.lower() + b":" + value.strip() + b"\n")
        if self.chain is not None and self.has_trailer:
            digest = hashlib.sha256(b"".join(signed)).hexdigest()
            self.chain.verify("AWS4-HMAC-SHA256-TRAILER", signature, digest)

    async def _some(self, limit: int) -> bytes:
        if not self._buffer:
            await self._more()
        piece = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        return piece

    async def _line(self, *, at_end: bool = False) -> bytes:
        """A line without its end. `at_end`: what is left may lack one."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE:
                raise incomplete_body()
            chunk = await anext(self.source, None)
            if chunk is None:
                if not at_end:
                    raise incomplete_body()
                end = len(self._buffer)
                break
            self._buffer += chunk
        if end > _MAX_LINE:
            raise incomplete_body()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    async def _more(self) -> None:
        chunk = await anext(self.source, None)
        if chunk is None:
            raise incomplete_body()
        self._buffer += chunk
