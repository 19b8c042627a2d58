"""Checksums that clients send with a body, in headers, behind the body, or in a form.

Source: «Checking object integrity», Amazon S3 user guide. CRC32C and CRC64NVME are computed by anycrc, several GB/s.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Protocol

from socle_storage.s3api.errors import invalid_checksum, invalid_digest, several_checksums, unknown_checksum

PREFIX: Final = "x-amz-checksum-"
_NOT_VALUES: Final = frozenset({"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"})
MD5: Final = "Content-MD5"


class Digester(Protocol):
    """One of hashlib's objects, or one in their shape."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc:
    """A CRC in the shape of hashlib's objects. `step`: the data and the value so far → the value."""

    def __init__(self, step: Callable[[bytes, int], int], size: int) -> None:
        self._step = step
        self._size = size
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """More bytes."""
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        """`size` bytes, the highest first."""
        return self._value.to_bytes(self._size, "big")


def _crc(model: str, size: int) -> Crc:
    anycrc: Any = import_module("anycrc")
    return Crc(anycrc.Model(model).calc, size)


_DIGESTERS: Mapping[str, tuple[Callable[[], Digester], int]] = MappingProxyType(
    {
        "CRC32": (lambda: Crc(zlib.crc32, 4), 4),
        "CRC32C": (partial(_crc, "CRC32C", 4), 4),
        "CRC64NVME": (partial(_crc, "CRC64-NVME", 8), 8),
        "SHA1": (lambda: hashlib.sha1(usedforsecurity=False), 20),
        "SHA256": (hashlib.sha256, 32),
        "SHA512": (hashlib.sha512, 64),
        MD5: (lambda: hashlib.md5(usedforsecurity=False), 16),
    }
)
"""By the name that messages use: how it is computed, and how many bytes it has."""


def digester_of(algorithm: str) -> Digester:
    return _DIGESTERS[algorithm][0]()


def algorithm_of(header: str) -> str:
    """The algorithm of an `x-amz-checksum-…` header. Raises InvalidRequest for one that is not computed here."""
    name = header.removeprefix(PREFIX).upper()
    if not header.startswith(PREFIX) or name not in _DIGESTERS:
        raise unknown_checksum()
    return name


def parse_checksum(algorithm: str, text: str) -> bytes:
    """The bytes of a checksum in base64. Raises InvalidRequest, for Content-MD5 InvalidDigest."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if len(value) != _DIGESTERS[algorithm][1]:
        raise invalid_digest() if algorithm == MD5 else invalid_checksum(PREFIX + algorithm.lower())
    return value


def checksum_header(headers: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The algorithm and the text of the one checksum among the headers (or fields). Raises InvalidRequest for two."""
    found = [pair for pair in headers if pair[0].startswith(PREFIX) and pair[0] not in _NOT_VALUES]
    if len(found) > 1:
        raise several_checksums()
    return (algorithm_of(found[0][0]), found[0][1]) if found else None


@dataclass(frozen=True, slots=True)
class WholeChecksum:
    """What the completion of an upload in parts says of the whole object.

    `parts` None: the checksum of all bytes, else that of the parts' checksums, of which there are so many.
    """

    algorithm: str
    digest: bytes
    parts: int | None = None

    def fits(self, digests: Sequence[bytes]) -> bool:
        """`digests`: of the whole alone, or of each part."""
        if self.parts is None:
            return [self.digest] == list(digests)
        digester = digester_of(self.algorithm)
        digester.update(b"".join(digests))
        return digester.digest() == self.digest


def parse_whole_checksum(headers: Iterable[tuple[str, str]]) -> WholeChecksum | None:
    """`<base64>`, or `<base64>-<parts>` for a checksum of checksums. Raises InvalidRequest."""
    found = checksum_header(headers)
    if found is None:
        return None
    algorithm, text = found
    value, dash, count = text.partition("-")
    if dash and not (count.isascii() and count.isdigit() and len(count) < 6):
        raise invalid_checksum(PREFIX + algorithm.lower())
    return WholeChecksum(algorithm, parse_checksum(algorithm, value), int(count) if dash else None)
