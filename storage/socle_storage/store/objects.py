"""Statements on storage.objects, one object or a few at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from socle_platform.db import DatabaseError, Rollback
from socle_storage.errors import Code, already_exists, no_such_key, related_missing
from socle_storage.names import uuid_or_none
from socle_storage.rows import ObjectRow
from socle_storage.store.shapes import object_json
from socle_storage.store.statements import LOCK_TIMEOUT, Statements, only

if TYPE_CHECKING:
    from socle_platform.db import Row
    from socle_storage.context import Caller


def _at(bucket: int = 1, name: int = 2) -> str:
    """The condition for one object, by the numbers of its parameters.

    The row comparison adds nothing but a reason to use the unique index: once two policies name buckets, PostgreSQL
    sees no difference between it and an index that only begins with the bucket while the table is not analysed, and
    might read the whole bucket.
    """
    return f"o.bucket_id = ${bucket} and o.name = ${name} and (o.bucket_id, o.name) >= (${bucket}, ${name})"


FIND_OBJECT = f"select {object_json()} from storage.objects o where {_at()}"
_FIND_ID = f"select o.id from storage.objects o where {_at()}"
_PLACE = """
select exists (select from storage.objects o where o.name = $2 and o.bucket_id = b.id)
  from storage.buckets b where b.id = $1"""
_FIND_BOTH = f"""
select b.public, case when o.id is null then null else {object_json()} end
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
_PUBLISHED = "o.id, o.bucket_id, o.name"
_UPSERT, _UPSERT_ROW = (
    _INSERT + _ON_CONFLICT.format(user_metadata="excluded.user_metadata", returning=columns)
    for columns in (_PUBLISHED, object_json())
)
_CREATE, _CREATE_ROW = (
    f"{_INSERT} on conflict do nothing returning {columns}" for columns in (_PUBLISHED, object_json())
)
_FOREIGN_TRIGGERS = """
select exists (
  select from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
   where t.tgrelid = 'storage.objects'::regclass and not t.tgisinternal
     and p.pronamespace not in ('storage'::regnamespace, 'storage_internal'::regnamespace))"""
_SERVICE_ROLE = "service_role"
_TRIGGERS_KNOWN_FOR = 10.0
"""Seconds."""
_NAMES = "select o.name from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[])"
_DELETE = f"delete from storage.objects o where {_at()} returning o.id"
_DELETE_MANY = (
    f"delete from storage.objects o where o.bucket_id = $1 and o.name = any($2::text[]) returning {object_json()}"
)
_MOVE = f"""
update storage.objects o
   set bucket_id = $1, name = $2, version = $3,
       owner = coalesce($4::uuid, o.owner), owner_id = coalesce($5, o.owner_id)
 where o.bucket_id = $6 and o.name = $7 and o.version is not distinct from $8
returning {object_json()}"""
_MOVE_PROBE = f"""
update storage.objects o
   set bucket_id = $1, name = $2, version = $3,
       owner = coalesce($4::uuid, o.owner), owner_id = coalesce($5, o.owner_id)
 where {_at(6, 7)}
returning o.id"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A row of storage.objects about to be written. `owner` is the token's `sub`, whatever its form."""

    bucket: str
    name: str
    owner: str | None
    metadata: Mapping[str, Any] | None
    user_metadata: Mapping[str, Any] | None
    version: str = "1"

    @property
    def place(self) -> list[bytes | None]:
        """Bucket and name, in PostgreSQL's text form."""
        return [self.bucket.encode(), self.name.encode()]

    def parameters(self) -> list[bytes | None]:
        """$1 … $7 of the statements that write it, in PostgreSQL's text form."""
        return [
            self.bucket.encode(),
            self.name.encode(),
            _text(uuid_or_none(self.owner)),
            _text(self.owner),
            self.version.encode(),
            _facts_json(self.metadata),
            _json(self.user_metadata),
        ]


class Published(NamedTuple):
    """What an upload answers with: where the object is now, and its id."""

    id: str
    bucket: str
    name: str


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


class Objects(Statements):
    """Finding, writing, moving and deleting rows of objects."""

    _foreign_triggers = True
    _triggers_until = 0.0

    async def find_object(self, caller: Caller, bucket: str, name: str) -> ObjectRow | None:
        """The object, if the caller may see it."""
        result = await self.run(caller, FIND_OBJECT, [bucket.encode(), name.encode()], read_only=True)
        return ObjectRow.of(orjson.loads(result.rows[0][0] or b"")) if result.rows else None

    async def find_public(self, caller: Caller, bucket: str, name: str) -> tuple[bool, ObjectRow | None] | None:
        """As the service: whether the bucket is public, and the object in it. None: there is no such bucket."""
        args = [bucket.encode(), name.encode()]
        result = await self.run(caller.as_service(), _FIND_BOTH, args, read_only=True)
        if not result.rows:
            return None
        public, row = result.rows[0]
        return public == b"t", None if row is None else ObjectRow.of(orjson.loads(row))

    async def probe(self, caller: Caller, draft: Draft, *, upsert: bool) -> None:
        """Writes the row as the caller and rolls it back: may the caller store this? (contract §5)

        Raises AccessDenied, or KeyAlreadyExists without `upsert`. The service role passes every policy: of it only
        that is asked which the final write would find too late: is there such a bucket, and is the name taken?
        """
        if caller.identity.role == _SERVICE_ROLE and not await self._has_foreign_triggers():
            rows = (await self.run(caller, _PLACE, draft.place, read_only=True)).rows
            if not rows:
                raise related_missing()
            if rows[0][0] == b"t" and not upsert:
                raise already_exists(Code.KEY_ALREADY_EXISTS)
            return
        try:
            await self.run(caller, _UPSERT_PROBE if upsert else _INSERT, draft.parameters(), rollback=True)
        except DatabaseError as error:
            if error.sqlstate == "23505":
                raise already_exists(Code.KEY_ALREADY_EXISTS) from error
            raise

    async def publish(self, caller: Caller, draft: Draft, *, upsert: bool) -> Published:
        """Writes the row as the service. From here on the bytes can be read.

        Without `upsert` a row that appeared since the probe is kept, and KeyAlreadyExists raised: nobody's
        acknowledged upload is replaced by a race.
        """
        row = await self._publish(caller, _UPSERT if upsert else _CREATE, draft)
        return Published(*((column or b"").decode() for column in row))

    async def publish_row(self, caller: Caller, draft: Draft, *, upsert: bool) -> ObjectRow:
        """The same; returns the whole row."""
        row = await self._publish(caller, _UPSERT_ROW if upsert else _CREATE_ROW, draft)
        return ObjectRow.of(orjson.loads(row[0] or b""))

    async def _publish(self, caller: Caller, sql: str, draft: Draft) -> Row:
        reset = await self._has_foreign_triggers()
        result = await self.run(caller.as_service(), sql, draft.parameters(), reset=reset)
        if not result.rows:
            raise already_exists(Code.KEY_ALREADY_EXISTS)
        return result.rows[0]

    async def _has_foreign_triggers(self) -> bool:
        """Whether the project has triggers of its own on storage.objects; the answer may be some seconds old.

        The service's role passes every policy, so only a trigger could run the project's code in a final write.
        """
        now = time.monotonic()
        if now >= self._triggers_until:
            async with self.database.as_service("storage") as connection:
                self._foreign_triggers = bool(await connection.fetchval(_FOREIGN_TRIGGERS))
            self._triggers_until = now + _TRIGGERS_KNOWN_FOR
        return self._foreign_triggers

    async def require_object(self, caller: Caller, bucket: str, name: str) -> ObjectRow:
        """Like find_object. Raises NoSuchKey."""
        row = await self.find_object(caller, bucket, name)
        if row is None:
            raise no_such_key()
        return row

    async def delete_object(self, caller: Caller, bucket: str, name: str) -> bool:
        """Deletes the row as the caller; False when the caller may not."""
        result = await self.run(caller, _DELETE, [bucket.encode(), name.encode()])
        return bool(result.rows)

    async def probe_move(self, caller: Caller, move: Move) -> None:
        """Moves the row as the caller and takes it back.

        Raises NoSuchKey when the caller sees no such row or may change none, AccessDenied, ResourceAlreadyExists.
        """
        async with self.acting_as(caller) as connection:
            if await connection.fetchval(_FIND_ID, move.bucket, move.name) is None:
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
        return [ObjectRow.of(only(row)) for row in rows]


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _facts_json(value: Mapping[str, Any] | None) -> bytes | None:
    """The facts of the bytes: texts and numbers of our own, but for a text that is none (half a character)."""
    try:
        return None if value is None else orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _json(value)


def _json(value: Mapping[str, Any] | None) -> bytes | None:
    if value is None:
        return None
    return b"{}" if not value else json.dumps(value, separators=(",", ":")).encode()
