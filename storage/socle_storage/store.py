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

from socle_platform.db import DatabaseError, Prepared
from socle_storage.errors import Code, already_exists, no_such_key
from socle_storage.names import uuid_or_none
from socle_storage.rows import Bucket, ObjectRow

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_platform.db import Connection, Database, Result
    from socle_storage.context import Caller

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
insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
values ($1, $2, $3, $4, $5, $6, $7)"""
_UPSERT = f"""
insert into storage.objects as o (bucket_id, name, owner, owner_id, version, metadata, user_metadata)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (name, bucket_id) do update
   set metadata = excluded.metadata,
       user_metadata = coalesce(excluded.user_metadata, o.user_metadata),
       version = excluded.version,
       owner = coalesce(excluded.owner, o.owner),
       owner_id = coalesce(excluded.owner_id, o.owner_id)
returning {_object()}, o.xmax = 0"""
_CREATE = (
    f"{_INSERT.replace('storage.objects', 'storage.objects as o')} on conflict do nothing returning {_object()}, true"
)


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
            await self._run(caller, _UPSERT if upsert else _INSERT, draft.parameters(), rollback=True)
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


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _json(value: Mapping[str, Any] | None) -> bytes | None:
    return None if value is None else json.dumps(value, separators=(",", ":")).encode()
