"""Every SQL statement of the storage service.

Rows come back as JSON made by PostgreSQL, with moments in the wire's form. Whatever touches a caller's rights runs as
the caller under row level security; `Caller.as_service()` is past it (contract storage.md §5).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_platform.db import DatabaseError, Prepared, Rollback
from socle_storage.errors import Code, already_exists, bucket_not_empty, no_such_key
from socle_storage.names import uuid_or_none
from socle_storage.rows import Bucket, ObjectRow

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_platform.db import Connection, Database, Result
    from socle_storage.context import Caller

_BUCKET_COLUMNS = ("id", "name", "created_at", "updated_at")
LOCK_TIMEOUT = "5000"
"""Milliseconds that a final write waits for another one on the same object (contract §3.1)."""


def _moment(column: str) -> str:
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def _object(alias: str = "o") -> str:
    plain = ("id", "bucket_id", "name", "version", "owner", "owner_id", "metadata", "user_metadata")
    moments = ("created_at", "updated_at", "last_accessed_at")
    pairs = [f"'{name}', {alias}.{name}" for name in plain]
    pairs += [f"'{name}', {_moment(f'{alias}.{name}')}" for name in moments]
    return f"json_build_object({', '.join(pairs)})"


def _bucket(alias: str = "b") -> str:
    plain = ("id", "name", "public", "owner", "type", "file_size_limit", "allowed_mime_types")
    pairs = [f"'{name}', {alias}.{name}" for name in plain]
    pairs += [f"'{name}', {_moment(f'{alias}.{name}')}" for name in ("created_at", "updated_at")]
    return f"json_build_object({', '.join(pairs)})"


_FIND_BUCKET = f"select {_bucket()} from storage.buckets b where b.id = $1"
_FIND_OBJECT = f"select {_object()} from storage.objects o where o.name = $2 and o.bucket_id = $1"
_FIND_BOTH = f"""
select b.public, case when o.id is null then null else {_object()} end
  from storage.buckets b left join storage.objects o on o.bucket_id = b.id and o.name = $2
 where b.id = $1"""
_INSERT = """
insert into storage.objects as o (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
values ($1, $2, $3, $4, $5, $6, $7)"""
_ON_CONFLICT = """
on conflict (name, bucket_id) do update
   set metadata = excluded.metadata,
       user_metadata = {user_metadata},
       version = excluded.version,
       owner = coalesce(excluded.owner, o.owner),
       owner_id = coalesce(excluded.owner_id, o.owner_id)
returning {returning}"""
_UPSERT_PROBE = _INSERT + _ON_CONFLICT.format(
    user_metadata="coalesce(excluded.user_metadata, o.user_metadata)", returning="o.id"
)
_UPSERT = _INSERT + _ON_CONFLICT.format(user_metadata="excluded.user_metadata", returning=f"{_object()}, o.xmax = 0")
_CREATE = f"{_INSERT} on conflict do nothing returning {_object()}, true"
_NAMES = "select o.name from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[])"
_DELETE = "delete from storage.objects o where o.bucket_id = $1 and o.name = $2 returning o.id"
_DELETE_MANY = (
    f"delete from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[]) returning {_object()}"
)
_MOVE = f"""
update storage.objects o
   set bucket_id = $1, name = $2, version = $3,
       owner = coalesce($4::uuid, o.owner), owner_id = coalesce($5, o.owner_id)
 where o.bucket_id = $6 and o.name = $7 and o.version is not distinct from $8
returning {_object()}"""
_MOVE_PROBE = """
update storage.objects o
   set bucket_id = $1, name = $2, version = $3,
       owner = coalesce($4::uuid, o.owner), owner_id = coalesce($5, o.owner_id)
 where o.bucket_id = $6 and o.name = $7
returning o.id"""
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
_SEARCH = f"""
select coalesce(json_agg(json_build_object(
         'name', s.name, 'id', s.id, 'updated_at', {_moment("s.updated_at")}, 'created_at', {_moment("s.created_at")},
         'last_accessed_at', {_moment("s.last_accessed_at")}, 'metadata', s.metadata)), '[]')
  from storage.search($1, $2, $3::int, $4::int, $5::int, $6, $7, $8) s"""
_ENTRY = (
    "json_build_object({key}'id', l.id, 'name', l.name, 'metadata', l.metadata, "
    f"'updated_at', {_moment('l.updated_at')}, 'created_at', {_moment('l.created_at')}, "
    f"'last_accessed_at', {_moment('l.last_accessed_at')})"
)
_LEVEL_ENTRY = _ENTRY.format(key="'key', l.key, ")
_LIST_LEVEL = f"select {_LEVEL_ENTRY} from storage.search_v2($1, $2, $3::int, $4::int, $5, $6, $7, $8) l"


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
   and not exists (select from storage_internal.blob_gc g where right(g.key, 36) = v.version)"""


def _list_flat(column: str, *, descending: bool) -> str:
    """The flat listing for a sort column: after ($3, name or moment and name) in that order, $4 rows."""
    order, after = ("desc", "<") if descending else ("asc", ">")
    if column == "name":
        beyond, by = f'l.name collate "C" {after} $3 collate "C"', f'l.name collate "C" {order}'
    else:
        moment = f"date_trunc('milliseconds', l.{column})"
        start = "coalesce(nullif($5, '')::timestamptz, 'epoch'::timestamptz)"
        beyond = f'({moment}, l.name collate "C") {after} ({start}, $3 collate "C")'
        by = f'{moment} {order}, l.name collate "C" {order}'
    return f"""
select {_ENTRY.format(key="")}
  from storage.objects l
 where l.bucket_id = $1
   and l.name collate "C" >= $2 and l.name collate "C" < $2 || chr(1114111)
   and ($3 = '' or {beyond})
 order by {by}
 limit $4::int"""


_FLAT = {
    (column, descending): _list_flat(column, descending=descending)
    for column in ("name", "created_at", "updated_at")
    for descending in (False, True)
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A row of storage.objects about to be written. `owner` is the token's `sub`, whatever its form."""

    bucket: str
    name: str
    owner: str | None
    metadata: Mapping[str, Any] | None
    user_metadata: Mapping[str, Any] | None
    version: str = "1"

    def parameters(self) -> list[bytes | None]:
        """$1 … $7 of the statements that write it, in PostgreSQL's text form."""
        return [
            self.bucket.encode(),
            self.name.encode(),
            _text(uuid_or_none(self.owner)),
            _text(self.owner),
            self.version.encode(),
            _json(self.metadata),
            _json(self.user_metadata),
        ]


@dataclass(frozen=True, slots=True)
class Move:
    """An object's way from one name to another; `new_version` names the copied bytes."""

    bucket: str
    name: str
    new_bucket: str
    new_name: str
    new_version: str
    owner: str | None

    @property
    def target(self) -> tuple[str | None, ...]:
        """$1 … $5 of the statements that move it."""
        return (self.new_bucket, self.new_name, self.new_version, uuid_or_none(self.owner), self.owner)


@dataclass(frozen=True, slots=True)
class Search:
    """A request of the first listing API. `prefix` ends in a slash or is empty."""

    bucket: str
    prefix: str
    search: str = ""
    limit: int = 100
    offset: int = 0
    column: str = "name"
    order: str = "asc"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the second listing API: `limit` rows behind `after` (and `after_moment`) in the order asked for."""

    bucket: str
    prefix: str
    limit: int
    after: str = ""
    after_moment: str = ""
    column: str = "name"
    order: str = "asc"


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


class Store:
    """The statements, on one database."""

    def __init__(self, database: Database, settings: StorageSettings) -> None:
        self._database = database
        self._search_path = settings.search_path
        self._timeout = str(round(settings.statement_timeout * 1000))

    # --- how a statement runs

    def _settings(self, caller: Caller, **more: str) -> dict[str, str]:
        who = caller.identity
        return {
            "request.jwt": who.token or "",
            "request.jwt.claim.role": who.role,
            "request.jwt.claim.sub": who.subject or "",
            "storage.operation": caller.operation,
            "storage.allow_delete_query": "true",
            "statement_timeout": self._timeout,
            **more,
        }

    @asynccontextmanager
    async def acting_as(self, caller: Caller, **settings: str) -> AsyncGenerator[Connection, None]:
        """A transaction as the caller."""
        async with self._database.acting_as(
            caller.identity,
            caller.facts,
            search_path=self._search_path,
            settings=self._settings(caller, **settings),
        ) as connection:
            yield connection

    async def _run(
        self,
        caller: Caller,
        text: str,
        args: Sequence[bytes | None],
        *,
        read_only: bool = False,
        rollback: bool = False,
    ) -> Result:
        """One statement as the caller, in one round trip."""
        return await self._database.run_as(
            caller.identity,
            caller.facts,
            Prepared(text, args),
            read_only=read_only,
            rollback=rollback,
            search_path=self._search_path,
            settings=self._settings(caller) if read_only else self._settings(caller, lock_timeout=LOCK_TIMEOUT),
        )

    # --- buckets

    async def find_bucket(self, caller: Caller, bucket: str) -> Bucket | None:
        """The bucket, if the caller may see it."""
        result = await self._run(caller, _FIND_BUCKET, [bucket.encode()], read_only=True)
        return Bucket.of(json.loads(result.rows[0][0] or b"")) if result.rows else None

    # --- one object

    async def find_object(self, caller: Caller, bucket: str, name: str) -> ObjectRow | None:
        """The object, if the caller may see it."""
        result = await self._run(caller, _FIND_OBJECT, [bucket.encode(), name.encode()], read_only=True)
        return ObjectRow.of(json.loads(result.rows[0][0] or b"")) if result.rows else None

    async def find_public(self, caller: Caller, bucket: str, name: str) -> tuple[bool, ObjectRow | None] | None:
        """As the service: whether the bucket is public, and the object in it. None: there is no such bucket."""
        args = [bucket.encode(), name.encode()]
        result = await self._run(caller.as_service(), _FIND_BOTH, args, read_only=True)
        if not result.rows:
            return None
        public, row = result.rows[0]
        return public == b"t", None if row is None else ObjectRow.of(json.loads(row))

    async def probe(self, caller: Caller, draft: Draft, *, upsert: bool) -> None:
        """Writes the row as the caller and rolls it back: may the caller store this? (contract §5)

        Raises AccessDenied, or KeyAlreadyExists without `upsert`.
        """
        try:
            await self._run(caller, _UPSERT_PROBE if upsert else _INSERT, draft.parameters(), rollback=True)
        except DatabaseError as error:
            if error.sqlstate == "23505":
                raise already_exists(Code.KEY_ALREADY_EXISTS) from error
            raise

    async def publish(self, caller: Caller, draft: Draft, *, upsert: bool) -> tuple[ObjectRow, bool]:
        """Writes the row as the service; returns it and whether it is new. From here on the bytes can be read.

        Without `upsert` a row that appeared since the probe is kept, and KeyAlreadyExists raised: nobody's
        acknowledged upload is replaced by a race.
        """
        result = await self._run(caller.as_service(), _UPSERT if upsert else _CREATE, draft.parameters())
        if not result.rows:
            raise already_exists(Code.KEY_ALREADY_EXISTS)
        row, is_new = result.rows[0]
        return ObjectRow.of(json.loads(row or b"")), is_new == b"t"

    async def require_object(self, caller: Caller, bucket: str, name: str) -> ObjectRow:
        """Like find_object. Raises NoSuchKey."""
        row = await self.find_object(caller, bucket, name)
        if row is None:
            raise no_such_key()
        return row

    async def delete_object(self, caller: Caller, bucket: str, name: str) -> bool:
        """Deletes the row as the caller; False when the caller may not."""
        result = await self._run(caller, _DELETE, [bucket.encode(), name.encode()])
        return bool(result.rows)

    async def probe_move(self, caller: Caller, move: Move) -> None:
        """Moves the row as the caller and takes it back.

        Raises NoSuchKey when the caller sees no such row or may change none, AccessDenied, ResourceAlreadyExists.
        """
        async with self.acting_as(caller) as connection:
            sql = "select id from storage.objects where bucket_id = $1 and name = $2"
            if await connection.fetchval(sql, move.bucket, move.name) is None:
                raise no_such_key()
            if await connection.fetchrow(_MOVE_PROBE, *move.target, move.bucket, move.name) is None:
                raise no_such_key()
            raise Rollback

    async def move(self, caller: Caller, move: Move, version: str | None) -> ObjectRow | None:
        """Moves the row as the service, if it still has that version; None if it has not."""
        async with self.acting_as(caller.as_service(), lock_timeout=LOCK_TIMEOUT) as connection:
            row = await connection.fetchval(_MOVE, *move.target, move.bucket, move.name, version)
        return None if row is None else ObjectRow.of(row)

    # --- many objects

    async def visible_names(self, caller: Caller, bucket: str, names: Sequence[str]) -> frozenset[str]:
        """Those of the names that the caller sees an object of."""
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(_NAMES, bucket, list(names))
        return frozenset(row["name"] for row in rows)

    async def delete_objects(self, caller: Caller, bucket: str, names: Sequence[str]) -> list[ObjectRow]:
        """Deletes the rows that the caller may delete, in one transaction, and returns them."""
        async with self.acting_as(caller, lock_timeout=LOCK_TIMEOUT) as connection:
            rows = await connection.fetch(_DELETE_MANY, bucket, list(names))
        return [ObjectRow.of(_only(row)) for row in rows]

    async def search(self, caller: Caller, search: Search) -> bytes:
        """The first listing API: a JSON array, made by PostgreSQL."""
        prefix, wanted = search.prefix, search.search
        levels = len((prefix + wanted).split("/"))
        arguments = (
            prefix,
            search.bucket,
            str(search.limit),
            str(levels),
            str(search.offset),
            wanted,
            search.column,
            search.order,
        )
        result = await self._run(caller, _SEARCH, [text.encode() for text in arguments], read_only=True)
        return result.rows[0][0] or b"[]"

    async def list_level(self, caller: Caller, page: Page) -> list[dict[str, Any]]:
        """One level below the prefix: objects, and folders with a null id."""
        levels = len(page.prefix.split("/"))
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(
                _LIST_LEVEL,
                page.prefix,
                page.bucket,
                page.limit,
                levels,
                page.after,
                page.order,
                page.column,
                page.after_moment,
            )
        return [_only(row) for row in rows]

    async def list_flat(self, caller: Caller, page: Page) -> list[dict[str, Any]]:
        """Every object whose name begins with the prefix."""
        column = page.column if page.column in {"created_at", "updated_at"} else "name"
        arguments: list[object] = [page.bucket, page.prefix, page.after, page.limit]
        if column != "name":
            arguments.append(page.after_moment)
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(_FLAT[column, page.order == "desc"], *arguments)
        return [_only(row) for row in rows]

    # --- buckets

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
        sql = f"select {_bucket()} from storage.buckets b"
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
        return [Bucket.of(_only(row)) for row in rows]

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

    # --- bytes without a row; the service's own bookkeeping

    @asynccontextmanager
    async def lost_blobs(self, grace: float, limit: int) -> AsyncGenerator[LostBlobs, None]:
        """Blobs on the list whose grace (seconds) is over, held so that no other sweeper takes them."""
        async with self._database.as_service("storage") as connection:
            rows = await connection.fetch(_LOST, str(grace), limit)
            blobs = tuple(LostBlob.of(row["key"], is_live=row["is_live"]) for row in rows)
            yield LostBlobs(connection, [row["id"] for row in rows], blobs)

    async def unknown_versions(self, versions: Sequence[str]) -> frozenset[str]:
        """Those of the versions that no row has and no list names."""
        async with self._database.as_service("storage") as connection:
            rows = await connection.fetch(_UNKNOWN, list(versions))
        return frozenset(row["version"] for row in rows)


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


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _json(value: Mapping[str, Any] | None) -> bytes | None:
    return None if value is None else json.dumps(value, separators=(",", ":")).encode()


def _only(row: Mapping[str, Any]) -> Any:
    """The value of a row with one column."""
    return next(iter(row.values()))


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
