-- Whatever lets go of a stored blob, under whatever role, puts it on the list of blobs to remove in the same
-- transaction. The key is bucket/name/version, the version empty for rows that never had one.

set role supabase_storage_admin;

create function storage_internal.list_lost_blob() returns trigger language plpgsql security definer
set search_path = '' as $$
begin
  insert into storage_internal.blob_gc (key)
  values (concat_ws('/', old.bucket_id, old.name, coalesce(old.version, '')));
  return null;
end
$$;
revoke execute on function storage_internal.list_lost_blob() from public;

create trigger list_lost_blob_on_update after update of version on storage.objects
  for each row when (old.version is distinct from new.version)
  execute function storage_internal.list_lost_blob();
create trigger list_lost_blob_on_delete after delete on storage.objects
  for each row execute function storage_internal.list_lost_blob();

reset role;
