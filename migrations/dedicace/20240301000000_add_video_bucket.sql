-- The bucket of the recorded videos. Private: who may read and write is said in policies/dedicace/storage_objects.sql.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values (
  'video_dedicace',
  'video_dedicace',
  false,
  null, -- bytes; 104857600 would stop uploads at 100 MiB, null leaves it to the service's own limit
  null  -- array['video/webm', 'video/mp4'] would take videos only, null takes anything
)
on conflict (id) do nothing;
