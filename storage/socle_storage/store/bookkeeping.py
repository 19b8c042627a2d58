"""The service's own table and triggers on a database that was not set up by this platform.

The same as migrations/platform does for its own databases: a list of blobs that no row names any more, filled by
triggers on storage.objects. Safe to run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.db import DatabaseError
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.db import Connection, Database

_STATE = """
select to_regclass('storage.objects') is not null as has_objects,
       to_regclass('storage_internal.blob_gc') is not null
         and to_regclass('storage_internal.resumable_parts') is not null and exists (
         select from pg_trigger
          where tgrelid = to_regclass('storage.objects') and tgname = 'list_lost_blob_on_delete') as is_ready
"""
_STEPS = (
    "create schema if not exists storage_internal",
    """
create table if not exists storage_internal.blob_gc (
  id bigint generated always as identity constraint blob_gc_pkey primary key,
  key text not null,
  not_before timestamptz not null default now(),
  attempts integer not null default 0,
  last_error text,
  created_at timestamptz not null default now()
)""",
    "create index if not exists blob_gc_due_idx on storage_internal.blob_gc (not_before)",
    """
create or replace function storage_internal.list_lost_blob() returns trigger language plpgsql security definer
set search_path = '' as $$
begin
  insert into storage_internal.blob_gc (key)
  values (concat_ws('/', old.bucket_id, old.name, coalesce(old.version, '')));
  return null;
end
$$""",
    "revoke execute on function storage_internal.list_lost_blob() from public",
    """
create or replace trigger list_lost_blob_on_update after update of version on storage.objects
  for each row when (old.version is distinct from new.version)
  execute function storage_internal.list_lost_blob()""",
    """
create or replace trigger list_lost_blob_on_delete after delete on storage.objects
  for each row execute function storage_internal.list_lost_blob()""",
    """
create table if not exists storage_internal.resumable_uploads (
  version text constraint resumable_uploads_pkey primary key,
  bucket_id text not null,
  name text not null,
  owner_id text,
  upsert boolean not null default false,
  metadata text not null default '',
  length bigint,
  position bigint not null default 0,
  upload text,
  last_part integer not null default 0,
  tail text,
  tail_size bigint not null default 0,
  sealed boolean not null default false,
  blob text,
  etag text,
  completed_at timestamptz,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null
)""",
    """
create table if not exists storage_internal.resumable_parts (
  version text not null
    constraint resumable_parts_version_fkey references storage_internal.resumable_uploads on delete cascade,
  number integer not null,
  size bigint not null,
  etag text not null,
  constraint resumable_parts_pkey primary key (version, number)
)""",
    "create index if not exists resumable_uploads_expires_idx on storage_internal.resumable_uploads (expires_at)",
)


class StorageSchemaMissing(SocleError):
    """The database has no storage schema."""

    hint = "`socle bootstrap --db-url …` brings a database up; one of the official stack has the schema already."


class BookkeepingRefused(SocleError):
    """The storage service's login may not create its own schema."""

    hint = "Grant it once: `grant create on database … to …`, or run `socle bootstrap --db-url …` as its owner."


async def ensure_bookkeeping(database: Database) -> bool:
    """Creates what is missing, as the storage service's login; True if anything was.

    Raises StorageSchemaMissing, BookkeepingRefused, DatabaseUnavailable.
    """
    try:
        async with database.as_service("storage") as connection:
            state = await connection.fetchrow(_STATE)
            if state is None or not state["has_objects"]:
                raise StorageSchemaMissing
            if state["is_ready"]:
                return False
            await _create(connection)
    except DatabaseError as error:
        raise BookkeepingRefused(f"The storage service cannot create its own schema: {error.message}") from error
    return True


async def _create(connection: Connection) -> None:
    for statement in _STEPS:
        await connection.execute(statement)
