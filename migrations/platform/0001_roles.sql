-- socle: cluster
-- Every role that Supabase projects, dumps and services name.
--
-- Roles belong to the whole server, so nothing here changes a role that is already there, apart from memberships and
-- settings that are still unset. Run by a superuser, or by a role with CREATEROLE: attributes which the running role
-- may not hand out are left off (the rights check before this file refuses where that would matter).
--
-- :"operator" is the role that owns the project's own objects: `postgres` where the platform runs the server.

do $roles$
declare
  server_version constant int := current_setting('server_version_num')::int;
  me pg_catalog.pg_roles%rowtype;
  wanted record;
  membership record;
  preset record;
  attributes text;
begin
  select * into strict me from pg_catalog.pg_roles where rolname = current_user;

  -- attributes: c = CREATEROLE, d = CREATEDB, r = REPLICATION, b = BYPASSRLS, l = LOGIN, n = NOINHERIT
  for wanted in
    select * from (values
      ('anon', ''),
      ('authenticated', ''),
      ('service_role', 'b'),
      ('authenticator', 'ln'),
      ('postgres', 'lcdrb'),
      ('supabase_admin', ''),
      ('supabase_auth_admin', 'lnc'),
      ('supabase_storage_admin', 'lnc'),
      ('supabase_realtime_admin', 'ln'),
      ('supabase_functions_admin', 'lnc'),
      ('supabase_replication_admin', 'lr'),
      ('supabase_read_only_user', 'lb'),
      ('supabase_etl_admin', ''),
      ('dashboard_user', 'cdr'),
      ('pgbouncer', ''),
      ('pgsodium_keyiduser', ''),
      ('pgsodium_keyholder', ''),
      ('pgsodium_keymaker', ''),
      ('cli_login_postgres', '')
    ) as role_list (name, letters)
  loop
    continue when exists (select from pg_catalog.pg_roles where rolname = wanted.name);
    -- Beside another operator, `postgres` is only a name that dumps grant to.
    if wanted.name = 'postgres' and :'operator' <> 'postgres' then
      wanted.letters := '';
    end if;
    attributes := concat_ws(' ',
      case when position('l' in wanted.letters) > 0 then 'login' else 'nologin' end,
      case when position('n' in wanted.letters) > 0 then 'noinherit' else 'inherit' end,
      case when position('c' in wanted.letters) > 0 then 'createrole' end,
      case when position('d' in wanted.letters) > 0 and (me.rolsuper or me.rolcreatedb) then 'createdb' end,
      case when position('r' in wanted.letters) > 0
        and (me.rolsuper or (server_version >= 160000 and me.rolreplication)) then 'replication' end,
      case when position('b' in wanted.letters) > 0
        and (me.rolsuper or (server_version >= 160000 and me.rolbypassrls)) then 'bypassrls' end);
    begin
      execute format('create role %I %s', wanted.name, attributes);
    exception when duplicate_object or unique_violation then
      null; -- another node made it a moment ago
    end;
  end loop;

  -- The running role acts for the service roles; a superuser needs no membership for that.
  if not me.rolsuper then
    for wanted in
      select rolname as name from pg_catalog.pg_roles
      where rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'supabase_admin', 'supabase_auth_admin',
                        'supabase_storage_admin', 'supabase_realtime_admin', 'supabase_functions_admin')
        and rolname <> current_user
        and not case when server_version >= 160000 then
              pg_has_role(current_user, oid, 'usage') and pg_has_role(current_user, oid, 'set')
            else pg_has_role(current_user, oid, 'usage') end
    loop
      if server_version >= 160000 then
        execute format('grant %I to %I with inherit true, set true', wanted.name, current_user);
      else
        execute format('grant %I to %I', wanted.name, current_user);
      end if;
    end loop;
  end if;

  for membership in
    select * from (values
      ('anon', 'authenticator', false),
      ('authenticated', 'authenticator', false),
      ('service_role', 'authenticator', false),
      ('anon', :'operator', true),
      ('authenticated', :'operator', true),
      ('service_role', :'operator', true),
      ('authenticator', :'operator', true),
      -- Stock migrations drop and create triggers on auth.users and policies on storage.objects and realtime.messages.
      ('supabase_auth_admin', :'operator', false),
      ('supabase_storage_admin', :'operator', false),
      ('supabase_realtime_admin', :'operator', false),
      ('pg_monitor', :'operator', false),
      ('pg_read_all_data', :'operator', false),
      ('pg_signal_backend', :'operator', false),
      ('pg_read_all_data', 'supabase_read_only_user', false),
      ('pg_monitor', 'supabase_read_only_user', false)
    ) as membership_list (granted, member, with_admin)
  loop
    continue when membership.member = current_user
      or (membership.granted like 'pg\_%' and not me.rolsuper)
      or (select rolsuper from pg_catalog.pg_roles where rolname = membership.member);
    if not exists (
      select from pg_catalog.pg_auth_members
      where roleid = quote_ident(membership.granted)::regrole and member = quote_ident(membership.member)::regrole
        and admin_option >= membership.with_admin
    ) then
      execute format('grant %I to %I%s', membership.granted, membership.member,
                     case when membership.with_admin then ' with admin option' else '' end);
    end if;
  end loop;

  -- Settings of a role take effect when it logs in; for roles that are only switched to, the API reads and applies them.
  for preset in
    select * from (values
      ('anon', 'statement_timeout', '3s'),
      ('authenticated', 'statement_timeout', '8s'),
      ('authenticator', 'statement_timeout', '8s'),
      ('authenticator', 'lock_timeout', '8s'),
      ('supabase_auth_admin', 'search_path', 'auth'),
      ('supabase_auth_admin', 'idle_in_transaction_session_timeout', '60s'),
      ('supabase_storage_admin', 'search_path', 'storage'),
      ('supabase_realtime_admin', 'search_path', 'realtime'),
      ('supabase_functions_admin', 'search_path', 'supabase_functions'),
      ('supabase_admin', 'search_path', '"$user", public, auth, extensions'),
      ('postgres', 'search_path', '"$user", public, extensions')
    ) as preset_list (role_name, parameter, value)
  loop
    continue when (select rolsuper from pg_catalog.pg_roles where rolname = preset.role_name)
        and preset.role_name <> 'supabase_admin'
      or exists (
        select from pg_catalog.pg_db_role_setting as s
        where s.setrole = quote_ident(preset.role_name)::regrole and s.setdatabase = 0
          and exists (select from unnest(s.setconfig) as entry where split_part(entry, '=', 1) = preset.parameter)
      )
      or not case
        when me.rolsuper or preset.role_name = current_user then true
        when server_version >= 160000 then pg_has_role(current_user, preset.role_name, 'member with admin option')
        else me.rolcreaterole
      end;
    if preset.parameter = 'search_path' then
      execute format('alter role %I set search_path to %s', preset.role_name, preset.value);
    else
      execute format('alter role %I set %I to %L', preset.role_name, preset.parameter, preset.value);
    end if;
  end loop;
end
$roles$;
