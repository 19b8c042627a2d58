"""Statements on uploads in parts by the S3 protocol: storage.s3_multipart_uploads and its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_platform.ports import PartInfo
from socle_storage.store.shapes import moment
from socle_storage.store.statements import Statements

if TYPE_CHECKING:
    from socle_storage.context import Caller

_COLUMNS = (
    f"id, bucket_id, key, version, owner_id, user_metadata, metadata, in_progress_size, {moment('created_at')} as begun"
)
_CREATE = """
insert into storage.s3_multipart_uploads
       (id, upload_signature, bucket_id, key, version, owner_id, user_metadata, metadata)
values ($1, '', $2, $3, $4, $5, $6::jsonb, $7::jsonb)"""
_ADD_PART = """
with before as (
  delete from storage.s3_multipart_uploads_parts where upload_id = $1 and part_number = $2::int returning size
), added as (
  insert into storage.s3_multipart_uploads_parts (upload_id, part_number, size, etag, bucket_id, key, owner_id, version)
  select u.id, $2::int, $3::bigint, $4, u.bucket_id, u.key, u.owner_id, u.version
    from storage.s3_multipart_uploads u where u.id = $1
)
update storage.s3_multipart_uploads
   set in_progress_size = in_progress_size + $3::bigint - coalesce((select sum(size) from before), 0)
 where id = $1
returning id"""
_PARTS = f"""
select part_number, size, etag, {moment("created_at")} as stored from storage.s3_multipart_uploads_parts
 where upload_id = $1 and part_number > $2::int order by part_number limit $3::int"""
_LIST = f"""
select {_COLUMNS} from storage.s3_multipart_uploads
 where bucket_id = $1 and starts_with(key, $2)
   and (key collate "C" > $3 or (key = $3 and $4 <> '' and id collate "C" > $4))
 order by key collate "C", id collate "C" limit $5::int"""


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload in parts. `id`: the blob store's own upload id. `size`: bytes that have arrived in parts."""

    id: str
    bucket: str
    key: str
    version: str
    owner: str | None
    user_metadata: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    size: int = 0
    begun: str = ""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> MultipartUpload:
        return cls(
            id=row["id"],
            bucket=row["bucket_id"],
            key=row["key"],
            version=row["version"],
            owner=row["owner_id"],
            user_metadata=row["user_metadata"],
            metadata=row["metadata"],
            size=row["in_progress_size"],
            begun=row["begun"],
        )


class Multiparts(Statements):
    """Beginning, filling, listing and forgetting uploads in parts. The caller's right is probed elsewhere."""

    async def create_multipart(self, upload: MultipartUpload) -> None:
        async with self.database.as_service("storage") as connection:
            await connection.execute(
                _CREATE,
                upload.id,
                upload.bucket,
                upload.key,
                upload.version,
                upload.owner,
                None if upload.user_metadata is None else json.dumps(dict(upload.user_metadata)),
                None if upload.metadata is None else json.dumps(dict(upload.metadata)),
            )

    async def find_multipart(self, upload: str) -> MultipartUpload | None:
        sql = f"select {_COLUMNS} from storage.s3_multipart_uploads where id = $1"
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(sql, upload)
        return None if row is None else MultipartUpload.of(row)

    async def open_multiparts(self, limit: int) -> list[MultipartUpload]:
        """Unfinished uploads of every bucket."""
        sql = f"select {_COLUMNS} from storage.s3_multipart_uploads order by id limit $1::int"
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(sql, limit)
        return [MultipartUpload.of(row) for row in rows]

    async def add_part(self, upload: str, part: PartInfo) -> bool:
        """Records a stored part in place of an older one of that number. False: the upload is gone."""
        async with self.database.as_service("storage") as connection:
            sql = "select from storage.s3_multipart_uploads where id = $1 for update"
            if await connection.fetchrow(sql, upload) is None:
                return False
            await connection.fetchrow(_ADD_PART, upload, part.number, part.size, part.etag)
        return True

    async def multipart_parts(self, upload: str, after: int = 0, limit: int = 10_000) -> list[PartInfo]:
        """Recorded parts behind number `after`."""
        return [part for part, _ in await self.dated_parts(upload, after, limit)]

    async def dated_parts(self, upload: str, after: int, limit: int) -> list[tuple[PartInfo, str]]:
        """Recorded parts behind number `after`, each with the moment it was stored."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_PARTS, upload, after, limit)
        return [(PartInfo(row["part_number"], row["size"], row["etag"]), row["stored"]) for row in rows]

    async def forget_multipart(self, upload: str) -> None:
        async with self.database.as_service("storage") as connection:
            await connection.execute("delete from storage.s3_multipart_uploads where id = $1", upload)

    async def list_multiparts(
        self, caller: Caller, bucket: str, prefix: str, after: tuple[str, str], limit: int
    ) -> Sequence[MultipartUpload]:
        """Unfinished uploads behind (key, id): all for the service role, else what row level security shows."""
        arguments = (bucket, prefix, *after, limit)
        if caller.identity.role == "service_role":
            async with self.database.as_service("storage") as connection:
                rows = await connection.fetch(_LIST, *arguments)
        else:
            async with self.acting_as(caller) as connection:
                rows = await connection.fetch(_LIST, *arguments)
        return [MultipartUpload.of(row) for row in rows]
