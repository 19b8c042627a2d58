-- Resumable uploads in progress (TUS): what has arrived of each, and until when it is kept.

set role supabase_storage_admin;

create table storage_internal.resumable_uploads (
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
);
create index resumable_uploads_expires_idx on storage_internal.resumable_uploads (expires_at);
comment on table storage_internal.resumable_uploads is 'Uploads in pieces: position bytes have arrived, in stored parts and a tail too small for one.';

create table storage_internal.resumable_parts (
  version text not null
    constraint resumable_parts_version_fkey references storage_internal.resumable_uploads on delete cascade,
  number integer not null,
  size bigint not null,
  etag text not null,
  constraint resumable_parts_pkey primary key (version, number)
);

reset role;
