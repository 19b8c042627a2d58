"""Statements on bytes without a row: the service's own bookkeeping."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_storage.store.statements import Statements

if TYPE_CHECKING:
    from socle_platform.db import Connection

_LOST = """
select g.id, g.key, o.id is not null as is_live
  from (select * from storage_internal.blob_gc
         where not_before <= now() - make_interval(secs => $1::float8)
         order by not_before limit $2::int for update skip locked) g
  left join storage.objects o
    on o.bucket_id = split_part(g.key, '/', 1)
   and o.name = regexp_replace(g.key, '^[^/]*/(.*)/[^/]*$', '\\1')
   and coalesce(o.version, '') = substring(g.key from '[^/]*$')"""
_UNKNOWN = """
select v.version
  from unnest($1::text[]) v (version)
 where not exists (select from storage.objects o where o.version = v.version)
   and not exists (select from storage_internal.blob_gc g where right(g.key, 36) = v.version)
   and not exists (select from storage_internal.resumable_uploads u where v.version in (u.tail, u.blob, u.version))"""


@dataclass(frozen=True, slots=True)
class LostBlob:
    """A blob that a row let go of. `is_live`: a row names it again."""

    bucket: str
    name: str
    version: str | None
    is_live: bool

    @classmethod
    def of(cls, key: str, *, is_live: bool) -> LostBlob:
        bucket, _, rest = key.partition("/")
        name, _, version = rest.rpartition("/")
        return cls(bucket, name, version or None, is_live)


class LostBlobs:
    """Listed blobs within the transaction that holds them."""

    def __init__(self, connection: Connection, ids: list[int], blobs: tuple[LostBlob, ...]) -> None:
        self._connection = connection
        self._ids = ids
        self.blobs = blobs

    async def forget(self) -> None:
        """Takes them off the list: they are gone."""
        await self._connection.execute("delete from storage_internal.blob_gc where id = any($1::bigint[])", self._ids)

    async def postpone(self, reason: str) -> None:
        """Leaves them for later, each time for longer, at most a day."""
        await self._connection.execute(
            "update storage_internal.blob_gc set attempts = attempts + 1, last_error = $2,"
            " not_before = now() + least(interval '1 day', interval '1 minute' * power(2, least(attempts, 12)))"
            " where id = any($1::bigint[])",
            self._ids,
            reason,
        )


class Losses(Statements):
    """What the sweeper asks."""

    @asynccontextmanager
    async def lost_blobs(self, grace: float, limit: int) -> AsyncGenerator[LostBlobs, None]:
        """Blobs on the list whose grace (seconds) is over, held so that no other sweeper takes them."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_LOST, str(grace), limit)
            blobs = tuple(LostBlob.of(row["key"], is_live=row["is_live"]) for row in rows)
            yield LostBlobs(connection, [row["id"] for row in rows], blobs)

    async def unknown_versions(self, versions: Sequence[str]) -> frozenset[str]:
        """Those of the versions that no row has and no list names."""
        async with self.database.as_service("storage") as connection:
            rows = await connection.fetch(_UNKNOWN, list(versions))
        return frozenset(row["version"] for row in rows)
