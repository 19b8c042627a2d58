-- The platform's schemas, their owners, and what the API roles may do in `public` by default.
--
-- Schemas that hold platform data belong to supabase_admin: the official CLI's remote reset drops every schema that
-- does not. `extensions` and `supabase_migrations` are on its list of exceptions and belong to the operator.

do $schemas$
declare
  schema_owner record;
  needs_public_grant boolean;
begin
  -- On the platform's own server the project's role owns the database, so that it may set things on it.
  if current_user = 'supabase_admin' and (select rolsuper from pg_catalog.pg_roles where rolname = current_user)
    and (select pg_get_userbyid(datdba) from pg_catalog.pg_database where datname = current_database()) = current_user
  then
    alter database :"database" owner to :"operator";
  elsif not has_database_privilege(:'operator', current_database(), 'create') then
    grant all on database :"database" to :"operator";
  end if;

  for schema_owner in
    select * from (values
      ('auth', 'supabase_admin'),
      ('storage', 'supabase_admin'),
      ('storage_internal', 'supabase_admin'),
      ('realtime', 'supabase_admin'),
      ('graphql_public', 'supabase_admin'),
      ('socle', 'supabase_admin'),
      ('extensions', :'operator'),
      ('supabase_migrations', :'operator')
    ) as schema_list (name, owner)
  loop
    if to_regnamespace(schema_owner.name) is null then
      execute format('create schema %I authorization %I', schema_owner.name, schema_owner.owner);
    end if;
  end loop;

  -- Everybody may look into `public` unless somebody took that away.
  select bool_or(not has_schema_privilege(role_name, 'public', 'usage')) into needs_public_grant
  from unnest(array['anon', 'authenticated', 'service_role']) as role_name;
  if needs_public_grant then
    grant usage on schema public to anon, authenticated, service_role;
  end if;
  if not has_schema_privilege(:'operator', 'public', 'create') then
    grant all on schema public to :"operator";
  end if;

  -- An operator that was there before us keeps its settings everywhere but in this database.
  if not exists (
    select from pg_catalog.pg_db_role_setting as s
    where s.setrole = quote_ident(:'operator')::regrole
      and s.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
      and exists (select from unnest(s.setconfig) as entry where entry like 'search\_path=%')
  ) then
    execute format('alter role %I in database %I set search_path to "$user", public, extensions',
                   :'operator', current_database());
  end if;
end
$schemas$;

comment on schema auth is 'Sign-in: users, sessions and everything that belongs to them.';
comment on schema storage is 'Files: buckets and the rows that describe stored objects.';
comment on schema storage_internal is 'The storage service''s own bookkeeping; not for the API.';
comment on schema realtime is 'Broadcast, presence and database changes.';
comment on schema socle is 'What the platform itself records: its migrations.';

grant usage on schema auth to anon, authenticated, service_role, :"operator", postgres;
grant all on schema auth to supabase_auth_admin, dashboard_user;
grant usage on schema storage to anon, authenticated, service_role, :"operator", postgres;
grant all on schema storage to supabase_storage_admin, dashboard_user;
grant usage on schema storage_internal to service_role;
grant all on schema storage_internal to supabase_storage_admin;
grant usage on schema realtime to anon, authenticated, service_role, :"operator", postgres;
grant all on schema realtime to supabase_realtime_admin;
grant usage on schema graphql_public to anon, authenticated, service_role, :"operator", postgres;
grant usage on schema extensions to anon, authenticated, service_role, postgres, supabase_auth_admin,
  supabase_storage_admin, supabase_realtime_admin, supabase_admin;
grant all on schema extensions to dashboard_user;

alter default privileges for role :"operator" in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role :"operator" in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role :"operator" in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on tables to :"operator", postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on sequences to :"operator", postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on functions to :"operator", postgres, anon, authenticated, service_role;

alter default privileges for role supabase_auth_admin in schema auth
  grant all on tables to :"operator", postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
  grant all on sequences to :"operator", postgres, dashboard_user;
alter default privileges for role supabase_auth_admin in schema auth
  grant all on functions to :"operator", postgres, dashboard_user;
alter default privileges for role supabase_storage_admin in schema storage
  grant all on tables to :"operator", postgres, service_role;
alter default privileges for role supabase_storage_admin in schema storage
  grant all on functions to :"operator", postgres, anon, authenticated, service_role;
alter default privileges for role supabase_realtime_admin in schema realtime
  grant all on tables to :"operator", postgres;
alter default privileges for role supabase_realtime_admin in schema realtime
  grant all on functions to :"operator", postgres, anon, authenticated, service_role;

set role supabase_admin;

create table socle.migrations (
  version int primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
);
comment on table socle.migrations is 'Platform migrations applied to this database; checksum is the SHA-256 of the file.';

reset role;
