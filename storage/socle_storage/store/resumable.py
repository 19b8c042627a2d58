"""Statements on resumable uploads: the service's own bookkeeping of what has arrived.

Every change names the position it starts from and does nothing when another process has moved it since, so two servers
on one database cannot mix their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from socle_platform.ports import PartInfo
from socle_storage.store.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = (
    "version, bucket_id, name, owner_id, upsert, metadata, length, position, upload, tail, tail_size, sealed, blob, "
    "etag, completed_at is not null as completed, expires_at"
)
_CREATE = f"""
insert into storage_internal.resumable_uploads (version, bucket_id, name, metadata, length, expires_at)
values ($1, $2, $3, $4, $5::bigint, now() + make_interval(secs => $6::float8))
returning {_COLUMNS}"""
_FIND = f"select {_COLUMNS} from storage_internal.resumable_uploads where version = $1"
_ADVANCE = """
update storage_internal.resumable_uploads
   set position = $3::bigint, tail = $4, tail_size = $5::bigint
 where version = $1 and position = $2::bigint and not sealed
returning version"""
_SEAL = """
update storage_internal.resumable_uploads
   set position = $3::bigint, tail = null, tail_size = 0, sealed = true, blob = $4, etag = $5, owner_id = $6,
       upsert = $7::boolean
 where version = $1 and position = $2::bigint and not sealed
returning version"""
_RESERVE = """
update storage_internal.resumable_uploads
   set last_part = last_part + 1, upload = coalesce(upload, $3)
 where version = $1 and position = $2::bigint and not sealed
returning last_part, upload"""
_SET_LENGTH = """
update storage_internal.resumable_uploads set length = $2::bigint where version = $1 and length is null"""
_EXPIRED = f"""
select {_COLUMNS} from storage_internal.resumable_uploads
 where expires_at <= now() order by expires_at limit $1::int"""
_OPEN = f"""
select {_COLUMNS} from storage_internal.resumable_uploads
 where completed_at is null order by version limit $1::int"""
_KNOWN_UPLOADS = """
select v.upload from unnest($1::text[]) v (upload)
 where exists (select from storage_internal.resumable_uploads u where u.upload = v.upload)
    or exists (select from storage.s3_multipart_uploads m where m.id = v.upload)"""


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """An upload in pieces. `position` bytes have arrived: `tail_size` of them in the blob `tail`, the rest in parts.

    `version`: its id, and the key of its parts. `metadata`: the header as it came. `length`: None while the client has
    not said. `upload`: the blob store's id of the parts. `sealed`: every byte is there; then `blob` and `etag` name
    bytes that came in one piece. `completed`: the object exists.
    """

    version: str
    bucket_id: str
    name: str
    owner_id: str | None
    upsert: bool
    metadata: str
    length: int | None
    position: int
    upload: str | None
    tail: str | None
    tail_size: int
    sealed: bool
    blob: str | None
    etag: str | None
    completed: bool
    expires_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ResumableUpload:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Bytes that are stored now: the position they lead to, in a new part or in a new tail, or in the whole `blob`."""

    position: int
    part: PartInfo | None = None
    tail: str | None = None
    tail_size: int = 0


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of an upload: who owns the object, and the blob if the bytes came in one piece."""

    owner: str | None
    upsert: bool
    blob: str | None = None
    etag: str | None = None


class ResumableUploads(Statements):
    """Creating, advancing and forgetting resumable uploads, as the service itself."""

    async def create_resumable(
        self, version: str, target: tuple[str, str], metadata: str, length: int | None, expiry: float
    ) -> ResumableUpload:
        """`expiry`: seconds that it is kept without being finished."""
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(_CREATE, version, *target, metadata, length, str(expiry))
        assert row is not None
        return ResumableUpload.of(row)

    async def find_resumable(self, version: str) -> ResumableUpload | None:
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(_FIND, version)
        return None if row is None else ResumableUpload.of(row)

    async def set_length(self, version: str, length: int) -> None:
        """What the client had deferred. Does nothing when it has said so already."""
        async with self.database.as_service("storage") as connection:
            await connection.execute(_SET_LENGTH, version, length)

    async def reserve_part(self, version: str, position: int, begun: str | None) -> tuple[int, str] | None:
        """A part number of one's own, and the blob store's upload id (`begun` unless there is one already).

        None: the position has moved.
        """
        async with self.database.as_service("storage") as connection:
            row = await connection.fetchrow(_RESERVE, version, position, begun)
        return None if row is None else (row["last_part"], row["upload"])

    async def advance(self, version: str, position: int, arrival: Arrival) -> bool:
        """Records stored bytes. False: the position has moved, and they do not count."""
        async with self.database.as_service("storage") as connection:
            values = (version, position, arrival.position, arrival.tail, arrival.tail_size)
            if await connection.fetchrow(_ADVANCE, *values) is None:
                return False
            await _add_part(connection, version, arrival.part)
        return True

    async def seal(self, version: str, position: int, arrival: Arrival, seal: Seal) -> bool:
        """Records the last bytes. False: the position has moved, and they do not count."""
        async with self.database.as_service("storage") as connection:
            values = (version, position, arrival.position, seal.blob, seal.etag, seal.owner, seal.upsert)
            if await connection.fetchrow(_SEAL, *values) is None:
                return False
            await _add_part(connection, version, arrival.part)
        return True

    async def parts_of(self, version: str) -> list[PartInfo]:
        """The parts that count, in order."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(
                "select number, size, etag from storage_internal.resumable_parts where version = $1 order by number",
                version,
            )
        return [PartInfo(row["number"], row["size"], row["etag"]) for row in rows]

    async def complete_resumable(self, version: str) -> None:
        async with self.database.as_service("storage") as connection:
            await connection.execute(
                "update storage_internal.resumable_uploads set completed_at = now() where version = $1", version
            )

    async def forget_resumable(self, version: str) -> None:
        async with self.database.as_service("storage") as connection:
            await connection.execute("delete from storage_internal.resumable_uploads where version = $1", version)

    async def expired_resumables(self, limit: int) -> list[ResumableUpload]:
        """Uploads whose time is over, finished ones among them."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_EXPIRED, limit)
        return [ResumableUpload.of(row) for row in rows]

    async def open_resumables(self, limit: int) -> list[ResumableUpload]:
        """Uploads that are not finished, whether their time is over or not."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_OPEN, limit)
        return [ResumableUpload.of(row) for row in rows]

    async def known_uploads(self, uploads: Sequence[str]) -> frozenset[str]:
        """Those of the blob store's upload ids that a resumable or an S3 upload names."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_KNOWN_UPLOADS, list(uploads))
        return frozenset(row["upload"] for row in rows)


async def _add_part(connection: Any, version: str, part: PartInfo | None) -> None:
    if part is not None:
        sql = "insert into storage_internal.resumable_parts (version, number, size, etag) values ($1, $2, $3, $4)"
        await connection.execute(sql, version, part.number, part.size, part.etag)
