"""What both blob stores share: their errors, the running MD5, and how a key is read.

BlobStoreError
├── BlobNotFound        no such key, upload or part
├── BlobStoreFull       no room left for these bytes
└── BlobStoreUnusable   the store cannot be used at all, and why
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.ports import Hasher, PartInfo

_VERSION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MAX_KEY = 1024
"""Bytes of a key that S3 takes."""
_SHELF = 512
"""Versions that share their first two digits."""


class BlobStoreError(SocleError):
    """The blob store failed."""


class BlobNotFound(BlobStoreError):
    """The blob does not exist."""


class BlobStoreFull(BlobStoreError):
    """The blob store has no room left."""


class BlobStoreUnusable(BlobStoreError):
    """The blob store cannot be used."""


class Digest:
    """The MD5 of the bytes so far, and whatever else wants to see them. Not for use from two threads at once."""

    def __init__(self, hashers: Sequence[Hasher] = ()) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashers: tuple[Hasher, ...] = (self._md5, *hashers)

    def update(self, chunk: bytes) -> None:
        for hasher in self._hashers:
            hasher.update(chunk)

    @property
    def etag(self) -> str:
        """The MD5 in hexadecimal, in quotes."""
        return f'"{self._md5.hexdigest()}"'


def joined_etag(parts: Iterable[PartInfo]) -> str:
    """The ETag of a blob made of parts, as S3 makes it: the MD5 of the parts' MD5s, and how many they were."""
    md5 = hashlib.md5(usedforsecurity=False)
    count = 0
    for part in parts:
        md5.update(bytes.fromhex(part.etag.strip('"')))
        count += 1
    return f'"{md5.hexdigest()}-{count}"'


def blob_key(tenant: str, bucket: str, name: str, version: str | None) -> str:
    """Where the bytes of one version of an object are (contract storage.md §7); rows of old may have no version.

    A name too long for S3 is replaced by its SHA-256; the version keeps the key unique.
    """
    tail = "" if version is None else f"/{version}"
    key = f"{tenant}/{bucket}/{name}{tail}"
    if len(key.encode()) <= MAX_KEY:
        return key
    return f"{tenant}/{bucket}/.long/{hashlib.sha256(name.encode()).hexdigest()}{tail}"


def _deal_shelves() -> Iterator[str]:
    """The first two digits of one version after another."""
    while True:
        yield from itertools.repeat(os.urandom(1).hex(), _SHELF)


_shelves = _deal_shelves()


def new_version() -> str:
    """A version for new bytes: a random UUID.

    Versions made one after another share their first two digits, which name a folder of the disk store: what arrives at
    the same time then waits for the fsync of one folder and not of many.
    """
    text = os.urandom(15).hex()
    variant = "89ab"[int(text[29], 16) % 4]
    return f"{next(_shelves)}{text[:6]}-{text[6:10]}-4{text[10:13]}-{variant}{text[13:16]}-{text[16:28]}"


def version_of(key: str) -> str | None:
    """The version that a key ends in: a UUID in lower case, or None."""
    last = key.rpartition("/")[2]
    return last if _VERSION.fullmatch(last) else None
