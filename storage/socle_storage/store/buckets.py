"""Statements on storage.buckets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_platform.db import DatabaseError
from socle_storage.errors import Code, already_exists, bucket_not_empty
from socle_storage.names import uuid_or_none
from socle_storage.rows import Bucket
from socle_storage.store.shapes import bucket_json
from socle_storage.store.statements import LOCK_TIMEOUT, Statements, only

if TYPE_CHECKING:
    from socle_storage.context import Caller

_BUCKET_COLUMNS = ("id", "name", "created_at", "updated_at")
_FIND_BUCKET = f"select {bucket_json()} from storage.buckets b where b.id = $1"
_CREATE_BUCKET = """
insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types, type)
values ($1, $2, $3, $4, $5, $6, $7::text[], 'STANDARD')"""
_UPDATE_BUCKET = """
update storage.buckets b
   set public = coalesce($2::boolean, b.public),
       file_size_limit = case when $3::boolean then $4::bigint else b.file_size_limit end,
       allowed_mime_types = case when $5::boolean then $6::text[] else b.allowed_mime_types end
 where b.id = $1
returning b.id"""
_EMPTY_BATCH = """
delete from storage.objects
 where id in (select o.id from storage.objects o where o.bucket_id = $1 and o.created_at < $2 limit $3)"""


@dataclass(frozen=True, slots=True)
class BucketList:
    """Which buckets to list, and how."""

    limit: int | None = None
    offset: int | None = None
    column: str | None = None
    descending: bool = False
    search: str = ""


@dataclass(frozen=True, slots=True)
class BucketChange:
    """What to change of a bucket: None leaves `public`; the other two are changed only if `has_…` says so."""

    public: bool | None = None
    has_size_limit: bool = False
    file_size_limit: int | None = None
    has_mime_types: bool = False
    allowed_mime_types: tuple[str, ...] | None = None


class Buckets(Statements):
    """Finding, changing, emptying and deleting buckets."""

    async def find_bucket(self, caller: Caller, bucket: str) -> Bucket | None:
        """The bucket, if the caller may see it."""
        result = await self.run(caller, _FIND_BUCKET, [bucket.encode()], read_only=True)
        return Bucket.of(json.loads(result.rows[0][0] or b"")) if result.rows else None

    async def create_bucket(self, caller: Caller, bucket: Bucket) -> None:
        """Raises AccessDenied, BucketAlreadyExists."""
        try:
            async with self.acting_as(caller) as connection:
                await connection.execute(
                    _CREATE_BUCKET,
                    bucket.id,
                    bucket.name,
                    uuid_or_none(caller.owner),
                    caller.owner,
                    bucket.public,
                    bucket.file_size_limit,
                    None if bucket.allowed_mime_types is None else list(bucket.allowed_mime_types),
                )
        except DatabaseError as error:
            if error.sqlstate == "23505":
                raise already_exists(Code.BUCKET_ALREADY_EXISTS) from error
            raise

    async def list_buckets(self, caller: Caller, wanted: BucketList) -> list[Bucket]:
        """The buckets that the caller sees."""
        sql = f"select {bucket_json()} from storage.buckets b"
        arguments: list[object] = []
        if wanted.search:
            arguments.append(f"%{_escape_like(wanted.search)}%")
            sql += f" where b.name ilike ${len(arguments)}"
        if wanted.column in _BUCKET_COLUMNS:
            sql += f" order by b.{wanted.column} {'desc' if wanted.descending else 'asc'}"
        for word, number in (("limit", wanted.limit), ("offset", wanted.offset)):
            if number is not None:
                arguments.append(number)
                sql += f" {word} ${len(arguments)}::bigint"
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(sql, *arguments)
        return [Bucket.of(only(row)) for row in rows]

    async def update_bucket(self, caller: Caller, bucket: str, change: BucketChange) -> bool:
        """Changes what was given; False when the caller sees no such bucket or may not change it."""
        types = change.allowed_mime_types
        async with self.acting_as(caller) as connection:
            row = await connection.fetchrow(
                _UPDATE_BUCKET,
                bucket,
                change.public,
                change.has_size_limit,
                change.file_size_limit,
                change.has_mime_types,
                None if types is None else list(types),
            )
        return row is not None

    async def count_objects(self, caller: Caller, bucket: str, limit: int) -> int:
        """How many objects the bucket holds, counted as the service, at most `limit`."""
        sql = "select count(*) from (select from storage.objects where bucket_id = $1 limit $2::bigint) o"
        async with self.acting_as(caller.as_service()) as connection:
            return int(await connection.fetchval(sql, bucket, limit))

    async def delete_bucket(self, caller: Caller, bucket: str) -> bool:
        """Deletes the row as the caller; False when the caller sees none or may not. Raises ResourceNotEmpty."""
        try:
            async with self.acting_as(caller, lock_timeout=LOCK_TIMEOUT) as connection:
                row = await connection.fetchrow("delete from storage.buckets where id = $1 returning id", bucket)
        except DatabaseError as error:
            if error.sqlstate == "23503" and error.constraint == "objects_bucketId_fkey":
                raise bucket_not_empty() from error
            raise
        return row is not None

    async def empty_bucket(self, caller: Caller, bucket: str, batch: int = 1000) -> None:
        """Deletes every object that was there when it began, as the service, some at a time."""
        service = caller.as_service()
        async with self.acting_as(service) as connection:
            began = await connection.fetchval("select now()")
        while True:
            async with self.acting_as(service) as connection:
                tag = await connection.execute(_EMPTY_BATCH, bucket, began, batch)
            if int(tag.rpartition(" ")[2]) < batch:
                return

    async def ping(self, caller: Caller) -> None:
        """Reads one row as the service. Raises what PostgreSQL says."""
        async with self.acting_as(caller.as_service()) as connection:
            await connection.fetch("select id from storage.buckets limit 1")


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
