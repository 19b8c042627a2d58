-- The storage service may run alone on its own login (`socle serve storage`): that login then acts for the API roles,
-- through the authenticator, as on hosted projects. Where the running role may not grant that, only this way is closed.

do $login$
begin
  if not pg_has_role('supabase_storage_admin', 'authenticator', 'member') then
    grant authenticator to supabase_storage_admin;
  end if;
exception when insufficient_privilege then
  raise notice 'supabase_storage_admin cannot act for the API roles: %', sqlerrm;
end
$login$;
