-- pgjwt in SQL on the server's own hashes, without pgcrypto: HS256, HS384, HS512 (RFC 7515, RFC 2104).
-- Functions that call others of this file have parsed bodies, so that the extension can be moved to another schema;
-- the others see pg_catalog only, so that nobody can slip an operator under them.

create function url_encode(data bytea) returns text
language sql immutable strict parallel safe
return pg_catalog.translate(pg_catalog.encode(data, 'base64'), E'+/=\n', '-_');

create function url_decode(data text) returns bytea
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return decode(rpad(translate(data, '-_', '+/'), (length(data) + 3) / 4 * 4, '='), 'base64');
end
$$;

create function _pgjwt_hmac(data bytea, key bytea, algorithm text) returns bytea
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  block constant integer := case algorithm when 'HS256' then 64 else 128 end;
  k bytea := key;
  inner_ bytea;
  outer_ bytea;
begin
  if algorithm not in ('HS256', 'HS384', 'HS512') then
    raise 'Cannot use "%": pgjwt knows HS256, HS384 and HS512', algorithm using errcode = '22023';
  end if;
  if length(k) > block then
    k := case algorithm when 'HS256' then sha256(k) when 'HS384' then sha384(k) else sha512(k) end;
  end if;
  k := decode(rpad(encode(k, 'hex'), 2 * block, '0'), 'hex');
  inner_ := substr(varbit_send(('x' || encode(k, 'hex'))::varbit # ('x' || repeat('36', block))::varbit), 5) || data;
  outer_ := substr(varbit_send(('x' || encode(k, 'hex'))::varbit # ('x' || repeat('5c', block))::varbit), 5);
  return case algorithm
    when 'HS256' then sha256(outer_ || sha256(inner_))
    when 'HS384' then sha384(outer_ || sha384(inner_))
    else sha512(outer_ || sha512(inner_)) end;
end
$$;

create function algorithm_sign(signables text, secret text, algorithm text) returns text
language sql immutable strict parallel safe
return url_encode(_pgjwt_hmac(
  pg_catalog.convert_to(signables, 'UTF8'), pg_catalog.convert_to(secret, 'UTF8'), algorithm));

create function _pgjwt_head(payload json, algorithm text) returns text
language sql immutable strict parallel safe
return pg_catalog.concat(
  url_encode(pg_catalog.convert_to(pg_catalog.format('{"alg":"%s","typ":"JWT"}', algorithm), 'UTF8')), '.',
  url_encode(pg_catalog.convert_to(payload::pg_catalog.text, 'UTF8')));

create function sign(payload json, secret text, algorithm text default 'HS256') returns text
language sql immutable strict parallel safe
return pg_catalog.concat(
  _pgjwt_head(payload, algorithm), '.', algorithm_sign(_pgjwt_head(payload, algorithm), secret, algorithm));

create function try_cast_double(inp text) returns double precision
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
  return inp::double precision;
exception when others then
  return null;
end
$$;

-- `nbf` and `exp` bound the validity where they are numbers. A token without three parts is not valid.
create function verify(token text, secret text, algorithm text default 'HS256')
returns table (header json, payload json, valid boolean)
language sql stable strict parallel safe
begin atomic
  select
    said.header,
    said.payload,
    coalesce(
      part[3] operator(pg_catalog.=)
        algorithm_sign(pg_catalog.concat(part[1], '.', part[2]), secret, algorithm)
      and pg_catalog.array_length(part, 1) operator(pg_catalog.=) 3
      and coalesce(pg_catalog.date_part('epoch', pg_catalog.now()) operator(pg_catalog.>=)
        try_cast_double(said.payload operator(pg_catalog.->>) 'nbf'), true)
      and coalesce(pg_catalog.date_part('epoch', pg_catalog.now()) operator(pg_catalog.<)
        try_cast_double(said.payload operator(pg_catalog.->>) 'exp'), true),
      false)
  from pg_catalog.string_to_array(token, '.') as part
  cross join lateral (
    select
      pg_catalog.convert_from(url_decode(part[1]), 'UTF8')::pg_catalog.json as header,
      pg_catalog.convert_from(url_decode(part[2]), 'UTF8')::pg_catalog.json as payload
  ) as said;
end;
