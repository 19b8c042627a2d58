"""Buckets and objects as values, in the shape that the wire shows (contract storage.md §1, §2, §3.4).

Moments are text already: ISO 8601, UTC, milliseconds, `Z`. PostgreSQL writes them so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A row of storage.buckets. `file_size_limit` in bytes."""

    id: str
    name: str
    public: bool = False
    owner: str | None = None
    type: str = "STANDARD"
    file_size_limit: int | None = None
    allowed_mime_types: tuple[str, ...] | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Bucket:
        values: dict[str, Any] = dict(row)
        if values["allowed_mime_types"] is not None:
            values["allowed_mime_types"] = tuple(values["allowed_mime_types"])
        return cls(**values)

    def wire(self, *, with_type: bool = True) -> Json:
        """The JSON of a bucket; a missing owner is the empty text, as old clients insist."""
        body: Json = {"id": self.id, "name": self.name, "owner": self.owner or "", "public": self.public}
        if with_type:
            body["type"] = self.type
        body["file_size_limit"] = self.file_size_limit
        body["allowed_mime_types"] = None if self.allowed_mime_types is None else list(self.allowed_mime_types)
        return body | {"created_at": self.created_at, "updated_at": self.updated_at}


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A row of storage.objects. `metadata` are the facts of the bytes: eTag, size, mimetype, cacheControl, …"""

    id: str
    bucket_id: str
    name: str
    version: str | None
    owner: str | None = None
    owner_id: str | None = None
    metadata: Json | None = None
    user_metadata: Json | None = None
    created_at: str | None = None
    updated_at: str | None = None
    last_accessed_at: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ObjectRow:
        return cls(**row)

    def fact(self, name: str) -> Any:
        """One entry of `metadata`, or None."""
        return None if self.metadata is None else self.metadata.get(name)

    @property
    def size(self) -> int | None:
        """Bytes, where the row knows."""
        return _whole(self.fact("size"))

    @property
    def etag(self) -> str | None:
        return _text(self.fact("eTag"))

    @property
    def mimetype(self) -> str | None:
        return _text(self.fact("mimetype"))

    @property
    def cache_control(self) -> str | None:
        return _text(self.fact("cacheControl"))

    @property
    def robots_tag(self) -> str | None:
        return _text(self.fact("xRobotsTag"))

    @property
    def last_modified(self) -> str | None:
        """When the bytes were stored, as text; the row's own `updated_at` where metadata says nothing."""
        return _text(self.fact("lastModified")) or self.updated_at

    def wire(self) -> Json:
        """The JSON of an object row (contract §3.4)."""
        return {
            "name": self.name,
            "bucket_id": self.bucket_id,
            "owner": self.owner or "",
            "owner_id": self.owner_id or "",
            "version": self.version or "",
            "id": self.id,
            "updated_at": self.updated_at,
            "created_at": self.created_at,
            "last_accessed_at": self.last_accessed_at,
            "metadata": self.metadata,
            "user_metadata": self.user_metadata,
        }

    def info(self) -> Json:
        """The JSON of `/object/info` (contract §3.2)."""
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "bucket_id": self.bucket_id,
            "size": self.size,
            "content_type": self.mimetype,
            "cache_control": self.cache_control,
            "etag": self.etag,
            "metadata": self.user_metadata,
            "last_modified": self.updated_at,
            "created_at": self.created_at,
        }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) else None
