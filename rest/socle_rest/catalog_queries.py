"""The catalogue queries that the schema cache comes from, for PostgreSQL 15 to 18.

They run with an empty search path, so that PostgreSQL qualifies every name it writes. Nested parts travel as JSON
text, because a row per column would cost more to decode than the whole rest. `$1` is an array of schema names.
"""

from __future__ import annotations

EMPTY_SEARCH_PATH = "set local search_path to ''"

# A domain's base is found through domains over domains; it is not null if any of them is, and as long as the first
# that has a length says.
_DOMAINS = """
domain_step (oid, base, not_null, typmod) as (
    select oid, typbasetype, typnotnull, typtypmod from pg_type where typtype = 'd'
    union all
    select d.oid, t.typbasetype, d.not_null or t.typnotnull, case d.typmod when -1 then t.typtypmod else d.typmod end
    from domain_step d join pg_type t on t.oid = d.base
    where t.typtype = 'd'
),
domain as (
    select d.oid, t.oid as base, t.typnamespace as namespace, d.not_null, d.typmod
    from domain_step d join pg_type t on t.oid = d.base
    where t.typtype <> 'd'
)"""

# Partitions are left out: their parent stands for them.
# Bits of pg_relation_is_updatable: 4 update, 8 insert, 16 delete.
RELATIONS = f"""
with recursive {_DOMAINS},
relation as (
    select c.oid, n.nspname, c.relname, c.relkind, d.description,
           case when c.relkind in ('r', 'p') then 28
                when c.relkind = 'm' then 0
                else pg_relation_is_updatable(c.oid, true) end as writable
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_description d on d.objoid = c.oid and d.objsubid = 0 and d.classoid = 'pg_class'::regclass
    where n.nspname = any($1::text[]) and c.relkind in ('r', 'p', 'f', 'v', 'm') and not c.relispartition
),
label as (
    select enumtypid, json_agg(enumlabel order by enumsortorder) as labels from pg_enum group by enumtypid
),
described as (
    select a.attrelid, json_agg(json_build_array(
               a.attname,
               case when t.typtype = 'd' and m.namespace = 'pg_catalog'::regnamespace then format_type(m.base, null)
                    when t.typtype <> 'd' and t.typnamespace = 'pg_catalog'::regnamespace then format_type(t.oid, null)
                    else format_type(a.atttypid, a.atttypmod) end,
               format_type(a.atttypid, a.atttypmod),
               not (a.attnotnull or coalesce(m.not_null, false)),
               case when t.typbasetype <> 0 and f.adbin is null then pg_get_expr(t.typdefaultbin, 0)
                    when a.attidentity = 'd' then format('nextval(%L)', s.objid::regclass)
                    when a.attgenerated = '' then pg_get_expr(f.adbin, f.adrelid) end,
               l.labels,
               case when sized.typmod = -1 then null
                    when sized.type in ('varchar'::regtype, 'bpchar'::regtype) then sized.typmod - 4
                    when sized.type in ('bit'::regtype, 'varbit'::regtype) then sized.typmod end,
               d.description
           ) order by a.attnum)::text as columns
    from relation r
    join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    left join domain m on m.oid = t.oid
    cross join lateral (select coalesce(m.base, a.atttypid) as type, coalesce(m.typmod, a.atttypmod) as typmod) sized
    left join label l on l.enumtypid = coalesce(m.base, t.oid)
    left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
    left join pg_depend s on a.attidentity = 'd' and s.classid = 'pg_class'::regclass
        and s.refclassid = 'pg_class'::regclass and s.refobjid = a.attrelid and s.refobjsubid = a.attnum
        and s.deptype = 'i'
    left join pg_description d on d.objoid = a.attrelid and d.objsubid = a.attnum and d.classoid = 'pg_class'::regclass
    group by a.attrelid
)
select r.nspname as schema, r.relname as name, r.relkind::text as kind, r.description, r.writable,
       coalesce(c.columns, '[]') as columns
from relation r left join described c on c.attrelid = r.oid
order by r.nspname, r.relname"""

# Keys of all schemas, because an exposed view may show the keys of a hidden table. A partition's copies of its
# parent's foreign keys (conparentid) would only double them.
KEYS = """
select c.contype::text as kind, c.conname as name, c.conrelid::bigint as relation, n.nspname as schema,
       r.relname as table, c.confrelid::bigint as referenced, fn.nspname as target_schema, f.relname as target,
       (select json_agg(json_build_array(k.number, a.attname) order by k.place)
          from unnest(c.conkey) with ordinality as k (number, place)
          join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number)::text as columns,
       (select json_agg(json_build_array(k.number, a.attname) order by k.place)
          from unnest(c.confkey) with ordinality as k (number, place)
          join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.number)::text as referenced_columns
from pg_constraint c
join pg_class r on r.oid = c.conrelid
join pg_namespace n on n.oid = r.relnamespace
left join pg_class f on f.oid = c.confrelid
left join pg_namespace fn on fn.oid = f.relnamespace
where (c.contype in ('p', 'u') or c.contype = 'f' and c.conparentid = 0)
  and n.nspname not in ('pg_catalog', 'information_schema')
order by n.nspname, r.relname, c.conname"""

VIEWS = """
select c.oid::bigint as oid, n.nspname as schema, c.relname as name, w.ev_action::text as tree,
       (select json_agg(a.attname order by a.attnum) from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0)::text as columns
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_rewrite w on w.ev_class = c.oid and w.ev_type = '1'
where c.relkind in ('v', 'm') and n.nspname = any($1::text[])
order by n.nspname, c.relname"""

# Arguments are numbered among the input ones. A length would cut or pad a value: bit and character lose it.
FUNCTIONS = f"""
with recursive {_DOMAINS},
candidate as (
    select p.*, n.nspname, coalesce(m.base, p.prorettype) as result, m.oid is not null as is_domain
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    left join domain m on m.oid = p.prorettype
    where n.nspname = any($1::text[]) and p.prokind = 'f'
      and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
),
argument as (
    select p.oid, a.name, a.type, a.mode, row_number() over (partition by p.oid order by a.place) as place
    from candidate p
    cross join lateral unnest(
        coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes::text[]
    ) with ordinality as a (type, name, mode, place)
    where a.type is not null and coalesce(a.mode, 'i') in ('i', 'b', 'v')
),
described as (
    select a.oid, json_agg(json_build_array(
               coalesce(a.name, ''),
               format_type(a.type, null),
               case a.type when 'bit'::regtype then 'bit varying'
                           when 'bit[]'::regtype then 'bit varying[]'
                           when 'bpchar'::regtype then 'character varying'
                           when 'bpchar[]'::regtype then 'character varying[]'
                           else format_type(a.type, null) end,
               a.place <= p.pronargs - p.pronargdefaults,
               coalesce(a.mode = 'v', false)
           ) order by a.place)::text as parameters,
           bool_and(coalesce(a.name, '') <> '') or count(*) = 1 and bool_and(a.type in (
               'bytea'::regtype, 'json'::regtype, 'jsonb'::regtype, 'text'::regtype, 'xml'::regtype)) as callable
    from argument a join candidate p on p.oid = a.oid
    group by a.oid
)
select p.oid::bigint as oid, p.nspname as schema, p.proname as name, d.description,
       coalesce(a.parameters, '[]') as parameters,
       tn.nspname as type_schema, coalesce(c.relname, t.typname) as type_name, p.proretset as is_set,
       t.typtype = 'c' or coalesce(p.proargmodes::text[] && '{{t,b,o}}', false) as is_composite, p.is_domain,
       p.provolatile::text as volatility, p.provariadic > 0 as has_variadic, to_json(p.proconfig)::text as settings
from candidate p
join pg_type t on t.oid = p.result
join pg_namespace tn on tn.oid = t.typnamespace
left join pg_class c on c.oid = t.typrelid
left join described a on a.oid = p.oid
left join pg_description d on d.objoid = p.oid and d.classoid = 'pg_proc'::regclass
where coalesce(a.callable, true)"""

# Functions of one row: with a relation's row type as result they are relationships, else computed fields.
ROW_FUNCTIONS = """
select fn.nspname as schema, p.proname as name, an.nspname as table_schema, ac.relname as table,
       rn.nspname as target_schema, rc.relname as target, not p.proretset or p.prorows = 1 as to_one,
       p.proretset as is_set, format_type(p.prorettype, null) as type
from pg_proc p
join pg_namespace fn on fn.oid = p.pronamespace
join pg_class ac on ac.reltype = p.proargtypes[0] and ac.relkind in ('r', 'p', 'f', 'v', 'm')
join pg_namespace an on an.oid = ac.relnamespace
left join pg_class rc on rc.reltype = p.prorettype and rc.relkind in ('r', 'p', 'f', 'v', 'm')
left join pg_namespace rn on rn.oid = rc.relnamespace
where p.pronargs = 1 and p.prokind = 'f' and an.nspname = any($1::text[])
order by fn.nspname, p.proname, p.oid"""

REPRESENTATIONS = """
select format_type(c.castsource, null) as source, format_type(c.casttarget, null) as target,
       n.nspname as schema, p.proname as name
from pg_cast c
join pg_type s on s.oid = c.castsource
join pg_type t on t.oid = c.casttarget
join pg_proc p on p.oid = c.castfunc
join pg_namespace n on n.oid = p.pronamespace
where c.castcontext = 'i' and c.castmethod = 'f' and has_function_privilege(c.castfunc, 'execute')
  and (s.typtype = 'd' and c.casttarget in ('json'::regtype, 'text'::regtype)
       or t.typtype = 'd' and c.castsource in ('json'::regtype, 'text'::regtype))"""

# A media type is a domain named like one. Aggregates over a relation's row (or any row) produce it from many rows;
# functions that return it produce it themselves.
MEDIA_HANDLERS = """
with media as (
    select t.oid, t.typname, n.nspname
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where t.typbasetype <> 0 and (t.typname = '*/*' or t.typname ~* '^[a-z0-9.-]+/[a-z0-9.+-]+$')
)
select n.nspname as schema, p.proname as name, m.typname as media_type,
       case when a.typname <> 'anyelement' then an.nspname end as target_schema,
       case when a.typname <> 'anyelement' then a.typname end as target
from media m
join pg_proc p on p.prorettype = m.oid and p.prokind = 'a' and p.pronargs = 1
join pg_namespace n on n.oid = p.pronamespace
join pg_type a on a.oid = p.proargtypes[0]
join pg_namespace an on an.oid = a.typnamespace
where n.nspname = any($1::text[]) and (
    a.oid = 'anyelement'::regtype
    or exists (select from pg_class c where c.oid = a.typrelid and c.relkind in ('r', 'p', 'f', 'v', 'm')))
union all
select m.nspname, m.typname, m.typname, n.nspname, p.proname
from media m
join pg_proc p on p.prorettype = m.oid and p.prokind = 'f' and not p.proretset
join pg_namespace n on n.oid = p.pronamespace
where n.nspname = any($1::text[])"""

SCHEMAS = """
select n.nspname as schema, d.description
from pg_namespace n
left join pg_description d on d.objoid = n.oid and d.classoid = 'pg_namespace'::regclass
where n.nspname = any($1::text[])"""

SERVER = "select current_setting('server_version_num')::int as version"

# Only what the login role may set for itself can be applied on behalf of the role.
ROLE_SETTINGS = """
select r.rolname as role, to_json(r.rolconfig)::text as settings,
       (select json_agg(g.name) from pg_settings g
         where g.name = any (select split_part(one, '=', 1) from unnest(r.rolconfig) one)
           and (g.context = 'user' or has_parameter_privilege(g.name, 'set')))::text as allowed
from pg_roles r
where r.rolconfig is not null
  and exists (select from pg_auth_members m
               where m.roleid = r.oid and m.member = (select oid from pg_roles where rolname = current_user))"""
