-- What `bench/rest.py` measures on: notes behind row level security, rows without, orders with customers, events.
create table bench_notes (
    id bigint primary key, owner uuid not null, title text not null, body text not null,
    created_at timestamptz not null default now()
);
insert into bench_notes (id, owner, title, body)
select n, ('00000000-0000-4000-8000-' || lpad((n % 50)::text, 12, '0'))::uuid, 'note ' || n, repeat(md5(n::text), 3)
from generate_series(1, 100000) n;
create index on bench_notes (owner);
alter table bench_notes enable row level security;
create policy own on bench_notes for select to authenticated using (owner = (select auth.uid()));

create table bench_rows (
    id int primary key, name text not null, price numeric(10, 2) not null, tags text[] not null, data jsonb not null
);
insert into bench_rows
select n, 'row ' || n, n * 1.25, array['a', 'b' || n % 7], jsonb_build_object('n', n, 'text', md5(n::text))
from generate_series(1, 1000) n;

create table bench_customers (id int primary key, name text not null, country text not null);
insert into bench_customers select n, 'customer ' || n, chr(65 + n % 26) from generate_series(1, 1000) n;
create table bench_orders (
    id int primary key, customer_id int not null references bench_customers, status text not null,
    total numeric(10, 2) not null, placed_at timestamptz not null
);
insert into bench_orders
select n, 1 + n % 1000, (array['open', 'paid', 'sent'])[1 + n % 3], n % 500, timestamptz '2026-01-01' + n * interval '1 minute'
from generate_series(1, 50000) n;
create index on bench_orders (status, placed_at desc);

create table bench_events (
    id bigint generated always as identity primary key, owner uuid not null default auth.uid(),
    kind text not null, payload jsonb not null
);
alter table bench_events enable row level security;
create policy own on bench_events for all to authenticated
    using (owner = (select auth.uid())) with check (owner = (select auth.uid()));

create function bench_add(a int, b int) returns int language sql immutable as $$ select a + b $$;

grant select on bench_notes, bench_rows, bench_customers, bench_orders to authenticated;
grant select, insert on bench_events to authenticated;
analyze bench_notes, bench_rows, bench_customers, bench_orders;
