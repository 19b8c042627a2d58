-- uuid-ossp in SQL, for the embedded server (PostgreSQL 18 or later). Names, arguments, results and volatilities as
-- the original has them. Functions that call others of this file have parsed bodies, so that the extension can be
-- moved to another schema; the others see pg_catalog only, so that nobody can slip an operator under them.

create function uuid_nil() returns uuid
language sql immutable strict parallel safe
return '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid;

create function uuid_ns_dns() returns uuid
language sql immutable strict parallel safe
return '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::pg_catalog.uuid;

create function uuid_ns_url() returns uuid
language sql immutable strict parallel safe
return '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::pg_catalog.uuid;

create function uuid_ns_oid() returns uuid
language sql immutable strict parallel safe
return '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::pg_catalog.uuid;

create function uuid_ns_x500() returns uuid
language sql immutable strict parallel safe
return '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::pg_catalog.uuid;

create function uuid_generate_v4() returns uuid
language sql volatile strict parallel safe
return pg_catalog.gen_random_uuid();

-- 100 ns steps since 1582-10-15, of which the clock gives microseconds and chance the rest; a random clock sequence;
-- a random node with the multicast bit set, which RFC 4122 §4.5 offers in place of a MAC address.
create function uuid_generate_v1mc() returns uuid
language plpgsql volatile strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  chance constant bytea := uuid_send(gen_random_uuid());
  ticks constant bigint := floor(extract(epoch from clock_timestamp()) * 1000000)::bigint * 10
    + get_byte(chance, 2) % 10 + 122192928000000000;
  clock constant text := lpad(to_hex(ticks), 16, '0');
  tail bytea := substr(chance, 1, 2) || substr(chance, 11, 6);
begin
  tail := set_byte(tail, 0, get_byte(tail, 0) & 63 | 128);
  tail := set_byte(tail, 2, get_byte(tail, 2) | 1);
  return (substr(clock, 9, 8) || substr(clock, 5, 4) || '1' || substr(clock, 2, 3) || encode(tail, 'hex'))::uuid;
end
$$;

-- SQL cannot learn the machine's MAC address: the same, with a random node.
create function uuid_generate_v1() returns uuid
language sql volatile strict parallel safe
return uuid_generate_v1mc();

create function uuid_generate_v3(namespace uuid, name text) returns uuid
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  h bytea := decode(md5(uuid_send(namespace) || convert_to(name, getdatabaseencoding())), 'hex');
begin
  h := set_byte(h, 6, get_byte(h, 6) & 15 | 48);
  return encode(set_byte(h, 8, get_byte(h, 8) & 63 | 128), 'hex')::uuid;
end
$$;

-- SHA-1 (FIPS 180-4), which the server itself does not have, in masked bigints.
create function uuid_generate_v5(namespace uuid, name text) returns uuid
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp
as $$
declare
  m bytea := uuid_send(namespace) || convert_to(name, getdatabaseencoding());
  w bigint[]; x bigint;
  a bigint; b bigint; c bigint; d bigint; e bigint;
  h0 bigint := 1732584193; h1 bigint := 4023233417; h2 bigint := 2562383102; h3 bigint := 271733878;
  h4 bigint := 3285377520;
begin
  m := m || '\x80' || decode(repeat('00', (119 - length(m) % 64) % 64), 'hex') || int8send(8::bigint * length(m));
  for chunk in 0..length(m) / 64 - 1 loop
    for t in 0..15 loop w[t] := substr(m, 64 * chunk + 4 * t + 1, 4)::bigint; end loop;
    for t in 16..79 loop
      x := w[t - 3] # w[t - 8] # w[t - 14] # w[t - 16];
      w[t] := ((x << 1) | (x >> 31)) & 4294967295;
    end loop;
    a := h0; b := h1; c := h2; d := h3; e := h4;
    for t in 0..79 loop
      x := ((a << 5) | (a >> 27)) & 4294967295;
      x := x + e + w[t] + case
        when t < 20 then (d # (b & (c # d))) + 1518500249
        when t < 40 then (b # c # d) + 1859775393
        when t < 60 then ((b & c) | (d & (b | c))) + 2400959708
        else (b # c # d) + 3395469782 end & 4294967295;
      e := d; d := c; c := ((b << 30) | (b >> 2)) & 4294967295; b := a; a := x;
    end loop;
    h0 := h0 + a & 4294967295; h1 := h1 + b & 4294967295; h2 := h2 + c & 4294967295;
    h3 := h3 + d & 4294967295; h4 := h4 + e & 4294967295;
  end loop;
  m := substr(int8send(h0), 5) || substr(int8send(h1), 5) || substr(int8send(h2), 5) || substr(int8send(h3), 5);
  m := set_byte(m, 6, get_byte(m, 6) & 15 | 80);
  return encode(set_byte(m, 8, get_byte(m, 8) & 63 | 128), 'hex')::uuid;
end
$$;
