-- The extensions that every hosted project finds in schema `extensions`, as far as this server has them and lets us:
-- migrations call uuid_generate_v4() and crypt() without creating them first.

set role :"operator";

do $extensions$
declare
  wanted text;
begin
  foreach wanted in array array['uuid-ossp', 'pgcrypto', 'pg_stat_statements'] loop
    continue when not exists (select from pg_catalog.pg_available_extensions where name = wanted);
    begin
      execute format('create extension if not exists %I with schema extensions', wanted);
    exception when others then
      raise notice 'extension % was not created: %', wanted, sqlerrm;
    end;
  end loop;
end
$extensions$;

reset role;
