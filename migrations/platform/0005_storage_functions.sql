-- Schema storage: the functions that policies and the storage service call. All run with the caller's rights, so
-- listings show what the caller's policies show.

set role supabase_storage_admin;

create function storage.foldername(name text) returns text[] language plpgsql immutable as $$
declare
  parts constant text[] := string_to_array(name, '/');
begin
  return parts[1:cardinality(parts) - 1];
end
$$;
comment on function storage.foldername(text) is 'The folders of an object''s name: a/b/c.png gives {a,b}.';

create function storage.filename(name text) returns text language plpgsql immutable as $$
declare
  parts constant text[] := string_to_array(name, '/');
begin
  return parts[cardinality(parts)];
end
$$;
comment on function storage.filename(text) is 'The last part of an object''s name: a/b/c.png gives c.png.';

create function storage.extension(name text) returns text language plpgsql immutable as $$
declare
  parts constant text[] := string_to_array(name, '/');
begin
  return reverse(split_part(reverse(parts[cardinality(parts)]), '.', 1));
end
$$;
comment on function storage.extension(text) is 'What follows the last dot of the file name; the whole file name when it has no dot.';

create function storage.operation() returns text language plpgsql stable as $$
begin
  return current_setting('storage.operation', true);
end
$$;
comment on function storage.operation() is 'Which storage operation asks, for example storage.object.upload.';

create function storage.allow_only_operation(expected_operation text) returns boolean language sql stable as $$
  select expected_operation <> ''
    and regexp_replace(storage.operation(), '^storage\.', '') = regexp_replace(expected_operation, '^storage\.', '')
    is true
$$;

create function storage.allow_any_operation(expected_operations text[]) returns boolean language sql stable as $$
  select coalesce(bool_or(storage.allow_only_operation(expected)), false) from unnest(expected_operations) as expected
$$;

create function storage.can_insert_object(bucketid text, name text, owner uuid, metadata jsonb) returns void
language plpgsql as $$
begin
  insert into storage.objects (bucket_id, name, owner, metadata) values (bucketid, name, owner, metadata);
  -- Reached only when the policies allow it; the error undoes the insert.
  raise sqlstate 'PT200' using message = 'ROLLBACK', detail = 'rollback successful insert';
end
$$;

create function storage.get_size_by_bucket() returns table (size bigint, bucket_id text) language plpgsql stable as $$
begin
  return query
    select sum((o.metadata ->> 'size')::bigint)::bigint, o.bucket_id from storage.objects as o group by o.bucket_id;
end
$$;

create function storage.get_common_prefix(p_key text, p_prefix text, p_delimiter text) returns text
language sql immutable as $$
  select left(p_key, length(p_prefix) + nullif(strpos(substr(p_key, length(p_prefix) + 1), p_delimiter), 0))
$$;
comment on function storage.get_common_prefix(text, text, text) is
  'The part of a key up to the first delimiter after the prefix, delimiter included; null when there is none.';

-- One level of a bucket: files, and folders once each (id null, no trailing delimiter). Walks the index and jumps over
-- the rest of a folder as soon as its first object was seen. The greatest code point stands for "after everything that
-- begins so".
create function storage.list_objects_with_delimiter(
  _bucket_id text,
  prefix_param text,
  delimiter_param text,
  max_keys integer default 100,
  start_after text default '',
  next_token text default '',
  sort_order text default 'asc'
) returns table (
  name text, id uuid, metadata jsonb, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz
) language plpgsql stable as $$
declare
  beyond constant text := chr(1114111);
  descending constant boolean := lower(coalesce(sort_order, 'asc')) = 'desc';
  prefix constant text := coalesce(prefix_param, '');
  start text := coalesce(nullif(next_token, ''), start_after, '');
  lower_bound text := prefix;
  upper_bound text := prefix || beyond;
  folder text;
  found_folder boolean;
  emitted integer := 0;
  entry record;
begin
  if start <> '' then
    -- To go on after a folder, name it with the delimiter; without, a name means the file of that name, if there is one.
    if right(start, length(delimiter_param)) = delimiter_param then
      folder := start;
    elsif exists (
      select from storage.objects as o
      where o.bucket_id = _bucket_id and o.name collate "C" >= start || delimiter_param
        and o.name collate "C" < start || delimiter_param || beyond
    ) and not exists (select from storage.objects as o where o.bucket_id = _bucket_id and o.name = start) then
      folder := start || delimiter_param;
    end if;
    if descending then
      upper_bound := least(upper_bound collate "C", coalesce(folder, start) collate "C");
    else
      lower_bound := greatest(lower_bound collate "C", coalesce(folder || beyond, start || chr(1)) collate "C");
    end if;
  end if;

  while emitted < max_keys loop
    found_folder := false;
    for entry in execute format(
      'select o.name, o.id, o.metadata, o.updated_at, o.created_at, o.last_accessed_at from storage.objects as o '
      'where o.bucket_id = $1 and o.name collate "C" >= $2 and o.name collate "C" < $3 '
      'order by o.name collate "C" %s limit $4', case when descending then 'desc' else 'asc' end
    ) using _bucket_id, lower_bound, upper_bound, max_keys - emitted
    loop
      folder := storage.get_common_prefix(entry.name, prefix, delimiter_param);
      emitted := emitted + 1;
      if folder is null then
        name := entry.name;
        id := entry.id;
        metadata := entry.metadata;
        updated_at := entry.updated_at;
        created_at := entry.created_at;
        last_accessed_at := entry.last_accessed_at;
        return next;
      else
        name := left(folder, -length(delimiter_param));
        id := null;
        metadata := null;
        updated_at := null;
        created_at := null;
        last_accessed_at := null;
        return next;
        if descending then
          upper_bound := folder;
        else
          lower_bound := folder || beyond;
        end if;
        found_folder := true;
        exit;
      end if;
    end loop;
    exit when not found_folder;
  end loop;
end
$$;

-- As above for the first listing API: names without regard to case and relative to the prefix, counted offsets, and
-- other sort columns (folders first).
create function storage.search(
  prefix text,
  bucketname text,
  limits integer default 100,
  levels integer default 1,
  offsets integer default 0,
  search text default '',
  sortcolumn text default 'name',
  sortorder text default 'asc'
) returns table (
  name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb
) language plpgsql stable as $$
declare
  beyond constant text := chr(1114111);
  direction constant text := case when lower(coalesce(sortorder, 'asc')) = 'desc' then 'desc' else 'asc' end;
  sort_by constant text := lower(coalesce(sortcolumn, 'name'));
  wanted constant integer := least(coalesce(limits, 100), 1500);
  folder_length constant integer := length(coalesce(prefix, ''));
  needle constant text := lower(coalesce(prefix, '') || coalesce(search, ''));
  lower_bound text := needle;
  upper_bound text := needle || beyond;
  folder text;
  found_folder boolean;
  passed integer := 0;
  entry record;
begin
  if sort_by in ('updated_at', 'created_at', 'last_accessed_at') then
    return query execute format(
      'with matching as ('
      '  select o.*, storage.get_common_prefix(o.name, left(o.name, $2), ''/'') as folder from storage.objects as o'
      '  where o.bucket_id = $1 and lower(o.name) collate "C" >= $3 and lower(o.name) collate "C" < $4'
      ') '
      '(select distinct substr(left(m.folder, -1), $5 + 1) collate "C" as name, null::uuid, null::timestamptz, '
      '        null::timestamptz, null::timestamptz, null::jsonb '
      ' from matching as m where m.folder is not null order by name %1$s) '
      'union all '
      '(select substr(m.name, $5 + 1), m.id, m.updated_at, m.created_at, m.last_accessed_at, m.metadata '
      ' from matching as m where m.folder is null order by m.%2$I %1$s, m.name collate "C" %1$s) '
      'limit $6 offset $7', direction, sort_by
    ) using bucketname, length(needle), lower_bound, upper_bound, folder_length, wanted, offsets;
    return;
  end if;

  while passed < wanted + offsets loop
    found_folder := false;
    for entry in execute format(
      'select o.name, o.id, o.updated_at, o.created_at, o.last_accessed_at, o.metadata from storage.objects as o '
      'where o.bucket_id = $1 and lower(o.name) collate "C" >= $2 and lower(o.name) collate "C" < $3 '
      'order by lower(o.name) collate "C" %s limit $4', direction
    ) using bucketname, lower_bound, upper_bound, wanted + offsets - passed
    loop
      folder := storage.get_common_prefix(entry.name, left(entry.name, length(needle)), '/');
      passed := passed + 1;
      if passed > offsets then
        name := substr(coalesce(left(folder, -1), entry.name), folder_length + 1);
        id := case when folder is null then entry.id end;
        updated_at := case when folder is null then entry.updated_at end;
        created_at := case when folder is null then entry.created_at end;
        last_accessed_at := case when folder is null then entry.last_accessed_at end;
        metadata := case when folder is null then entry.metadata end;
        return next;
      end if;
      if folder is not null then
        if direction = 'desc' then
          upper_bound := lower(folder);
        else
          lower_bound := lower(folder) || beyond;
        end if;
        found_folder := true;
        exit;
      end if;
    end loop;
    exit when not found_folder;
  end loop;
end
$$;

create function storage.search_by_timestamp(
  p_prefix text,
  p_bucket_id text,
  p_limit integer,
  p_level integer,
  p_start_after text,
  p_sort_order text,
  p_sort_column text,
  p_sort_column_after text
) returns table (
  key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz,
  metadata jsonb
) language plpgsql stable as $$
begin
  return query execute format(
    'with entries as ('
    '  select o.name, o.id, o.updated_at, o.created_at, o.last_accessed_at, o.metadata,'
    '         storage.get_common_prefix(o.name, $1, ''/'') as folder'
    '  from storage.objects as o'
    '  where o.bucket_id = $2 and o.name collate "C" >= $1 and o.name collate "C" < $1 || chr(1114111)'
    '), level as ('
    '  select left(e.folder, -1) as name, null::uuid as id, min(e.created_at) as updated_at,'
    '         min(e.created_at) as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata'
    '  from entries as e where e.folder is not null group by e.folder'
    '  union all'
    '  select e.name, e.id, e.updated_at, e.created_at, e.last_accessed_at, e.metadata'
    '  from entries as e where e.folder is null'
    '), timed as ('
    -- Clients hold times in milliseconds, so that is how far the order looks.
    '  select l.*, coalesce(date_trunc(''milliseconds'', l.%1$I), ''epoch''::timestamptz) as at from level as l'
    ') '
    'select split_part(t.name, ''/'', $3), t.name, t.id, t.updated_at, t.created_at, t.last_accessed_at, t.metadata '
    'from timed as t '
    'where $5 = '''' or (t.at, t.name collate "C") %2$s (coalesce(nullif($6, '''')::timestamptz, ''epoch''::timestamptz), $5) '
    'order by t.at %3$s, t.name collate "C" %3$s limit $4',
    p_sort_column,
    case when p_sort_order = 'asc' then '>' else '<' end,
    case when p_sort_order = 'asc' then 'asc' else 'desc' end
  ) using coalesce(p_prefix, ''), p_bucket_id, p_level, p_limit, coalesce(p_start_after, ''),
          coalesce(p_sort_column_after, '');
end
$$;

create function storage.search_v2(
  prefix text,
  bucket_name text,
  limits integer default 100,
  levels integer default 1,
  start_after text default '',
  sort_order text default 'asc',
  sort_column text default 'name',
  sort_column_after text default ''
) returns table (
  key text, name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz,
  metadata jsonb
) language plpgsql stable as $$
declare
  wanted constant integer := least(coalesce(limits, 100), 1500);
  direction constant text := case when lower(coalesce(sort_order, 'asc')) = 'desc' then 'desc' else 'asc' end;
  sort_by constant text := lower(coalesce(sort_column, 'name'));
begin
  if sort_by in ('updated_at', 'created_at') then
    return query select * from storage.search_by_timestamp(
      prefix, bucket_name, wanted, levels, start_after, direction, sort_by, sort_column_after);
  else
    return query
      select split_part(l.name, '/', levels), l.name, l.id, l.updated_at, l.created_at, l.last_accessed_at, l.metadata
      from storage.list_objects_with_delimiter(bucket_name, prefix, '/', wanted, start_after, '', direction) as l;
  end if;
end
$$;

-- Unfinished S3 uploads in key order; keys that go on after the delimiter are folded into one row.
create function storage.list_multipart_uploads_with_delimiter(
  bucket_id text,
  prefix_param text,
  delimiter_param text,
  max_keys integer default 100,
  next_key_token text default '',
  next_upload_token text default ''
) returns table (key text, id text, created_at timestamptz) language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
    with uploads as (
      select u.key as full_key, u.id, u.created_at,
             storage.get_common_prefix(u.key, coalesce(prefix_param, ''), delimiter_param) as folder
      from storage.s3_multipart_uploads as u
      where u.bucket_id = list_multipart_uploads_with_delimiter.bucket_id
        and starts_with(u.key, coalesce(prefix_param, ''))
    ), entries as (
      select distinct on (coalesce(u.folder, u.full_key) collate "C", case when u.folder is null then u.id end)
             coalesce(u.folder, u.full_key) collate "C" as key, u.id, u.created_at
      from uploads as u
      order by coalesce(u.folder, u.full_key) collate "C", case when u.folder is null then u.id end, u.created_at
    )
    select e.key, e.id, e.created_at
    from entries as e
    where next_key_token = '' or e.key > next_key_token collate "C"
      or (next_upload_token <> '' and e.key = next_key_token and e.id collate "C" > next_upload_token)
    order by e.key, e.id collate "C"
    limit max_keys;
end
$$;

reset role;
