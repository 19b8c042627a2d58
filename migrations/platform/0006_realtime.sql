-- Schema realtime, as far as projects' own SQL refers to it: the table whose policies decide who may join a private
-- channel, and the name of the channel being asked about. And the publication that says which tables are watched.

set role supabase_realtime_admin;

create table realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  constraint messages_pkey primary key (id, inserted_at),
  constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private is true;
alter table realtime.messages enable row level security;
comment on table realtime.messages is
  'Messages sent from SQL; its policies say who may read (select) and write (insert) on private channels.';

create function realtime.topic() returns text language sql stable as $$
  select nullif(current_setting('realtime.topic', true), '')
$$;
comment on function realtime.topic() is 'The private channel that is being joined or written to.';

reset role;

grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to :"operator", postgres;
grant execute on function realtime.topic() to public;

set role :"operator";

do $publication$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$publication$;

reset role;
