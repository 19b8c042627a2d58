"""Every object with its bytes, in order: for moving them from one blob store to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from socle_storage.store.statements import Statements

_PAGE = """
select o.bucket_id, o.name, o.version, o.metadata ->> 'eTag' as etag,
       case when o.metadata ->> 'size' ~ '^[0-9]{1,18}$' then (o.metadata ->> 'size')::bigint end as size
  from storage.objects o
 where (o.bucket_id, o.name collate "C") > ($1, $2 collate "C")
 order by o.bucket_id, o.name collate "C"
 limit $3::int"""
_TOTAL = """
select count(*) as objects,
       coalesce(sum(case when o.metadata ->> 'size' ~ '^[0-9]{1,18}$' then (o.metadata ->> 'size')::bigint end), 0)
         as bytes
  from storage.objects o"""

_UNFINISHED = """
select (select count(*) from storage_internal.resumable_uploads u where u.completed_at is null) as resumable,
       (select count(*) from storage.s3_multipart_uploads) as multipart"""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How many uploads have bytes and no object yet: resumable ones, and those in parts by the S3 protocol."""

    resumable: int
    multipart: int

    @property
    def count(self) -> int:
        return self.resumable + self.multipart

    def render(self) -> str:
        """In words."""
        return f"{self.resumable} resumable and {self.multipart} S3 uploads are unfinished"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as far as its bytes are concerned; `size` in bytes and `etag` where the row knows them."""

    bucket: str
    name: str
    version: str | None
    size: int | None
    etag: str | None


class Inventory(Statements):
    """All objects, past row level security."""

    async def totals(self) -> tuple[int, int]:
        """How many objects there are, and how many bytes they have."""
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(_TOTAL)
        return (0, 0) if row is None else (int(row["objects"]), int(row["bytes"]))

    async def unfinished(self) -> Unfinished:
        """Uploads that are under way, or that nobody finished."""
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(_UNFINISHED)
        return Unfinished(0, 0) if row is None else Unfinished(int(row["resumable"]), int(row["multipart"]))

    async def every_object(self, page: int = 1000) -> AsyncGenerator[StoredObject, None]:
        """Page by page, each in a transaction of its own: what is added meanwhile may be missed."""
        bucket = name = ""
        while True:
            async with self.database.as_service("storage") as connection:
                rows = await connection.fetch(_PAGE, bucket, name, page)
            for row in rows:
                bucket, name = row["bucket_id"], row["name"]
                yield StoredObject(bucket, name, row["version"], row["size"], row["etag"])
            if len(rows) < page:
                return
