-- Dumps of older projects create pgsodium; nothing of it is here, so its functions stay undefined.
-- `create extension` hides notices of its script; this one is meant to be seen.
set local client_min_messages = notice;

do $$
begin
  if pg_catalog.to_regnamespace('pgsodium') is null then
    create schema pgsodium;
  end if;
  raise notice 'pgsodium is an empty stand-in in the embedded server: it has no functions';
end
$$;
