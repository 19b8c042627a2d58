-- socle: superuser
-- Tells the REST service at once when the schema changes. Without these it looks for itself every few seconds.
-- Repeatable: an administrator may run it by hand for an owner that is not superuser.

create or replace function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql as $$
begin
  if exists (
    select from pg_catalog.pg_event_trigger_ddl_commands() as ddl
    where ddl.schema_name is distinct from 'pg_temp'
      and ddl.command_tag in (
        'CREATE SCHEMA', 'ALTER SCHEMA',
        'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
        'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
        'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
        'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE PROCEDURE', 'ALTER PROCEDURE', 'CREATE AGGREGATE',
        'CREATE TRIGGER', 'CREATE RULE', 'CREATE TYPE', 'ALTER TYPE', 'CREATE DOMAIN', 'ALTER DOMAIN',
        'CREATE CAST', 'CREATE EXTENSION', 'ALTER EXTENSION', 'COMMENT', 'GRANT', 'REVOKE'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

create or replace function extensions.pgrst_drop_watch() returns event_trigger language plpgsql as $$
begin
  if exists (
    select from pg_catalog.pg_event_trigger_dropped_objects() as dropped
    where not dropped.is_temporary
      and dropped.object_type in (
        'schema', 'table', 'table column', 'foreign table', 'view', 'materialized view', 'function', 'procedure',
        'aggregate', 'trigger', 'type', 'domain', 'cast', 'rule', 'extension', 'table constraint'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

-- Names that dumps of hosted projects mention; what they do there is not needed here.
create or replace function extensions.grant_pg_cron_access() returns event_trigger language plpgsql
  as $$ begin null; end $$;
create or replace function extensions.grant_pg_net_access() returns event_trigger language plpgsql
  as $$ begin null; end $$;
create or replace function extensions.grant_pg_graphql_access() returns event_trigger language plpgsql
  as $$ begin null; end $$;
create or replace function extensions.set_graphql_placeholder() returns event_trigger language plpgsql
  as $$ begin null; end $$;

drop event trigger if exists pgrst_ddl_watch;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
drop event trigger if exists pgrst_drop_watch;
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
drop event trigger if exists issue_pg_cron_access;
create event trigger issue_pg_cron_access on ddl_command_end when tag in ('CREATE EXTENSION')
  execute function extensions.grant_pg_cron_access();
drop event trigger if exists issue_pg_net_access;
create event trigger issue_pg_net_access on ddl_command_end when tag in ('CREATE EXTENSION')
  execute function extensions.grant_pg_net_access();
drop event trigger if exists issue_pg_graphql_access;
create event trigger issue_pg_graphql_access on ddl_command_end when tag in ('CREATE FUNCTION')
  execute function extensions.grant_pg_graphql_access();
drop event trigger if exists issue_graphql_placeholder;
create event trigger issue_graphql_placeholder on sql_drop when tag in ('DROP EXTENSION')
  execute function extensions.set_graphql_placeholder();
