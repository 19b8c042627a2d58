"""A small database for tests of REST requests: books with everything a request can ask of them, and who may ask."""

from __future__ import annotations

ROLES = (
    "do $$ begin create role shop_login login noinherit; exception when duplicate_object then null; end $$",
    "do $$ begin create role shop_anon; exception when duplicate_object then null; end $$",
    "do $$ begin create role shop_user; exception when duplicate_object then null; end $$",
    "do $$ begin create role shop_stranger; exception when duplicate_object then null; end $$",
    "do $$ begin create role shop_slow; exception when duplicate_object then null; end $$",
    "grant shop_anon, shop_user, shop_slow to shop_login",
    "alter role shop_slow set statement_timeout = '50ms'",
    "alter role shop_user set default_transaction_isolation = 'repeatable read'",
)

BOOKSHOP = """
create schema shop;
create schema other;

create domain shop.money as numeric;
create function shop.json(shop.money) returns json language sql immutable as $$ select to_json($1::text || ' EUR') $$;
create function shop.money(json) returns shop.money language sql immutable as
    $$ select replace($1 #>> '{}', ' EUR', '')::numeric $$;
create function shop.money(text) returns shop.money language sql immutable as
    $$ select replace($1, ' EUR', '')::numeric $$;
create cast (shop.money as json) with function shop.json(shop.money) as implicit;
create cast (json as shop.money) with function shop.money(json) as implicit;
create cast (text as shop.money) with function shop.money(text) as implicit;

create table shop.authors (id int primary key, name text not null, born date);
create table shop.books (
    id int primary key,
    title text not null default 'untitled',
    author_id int references shop.authors,
    price shop.money,
    facts jsonb,
    tags text[],
    stock int not null default 7
);
create table shop.covers (book_id int primary key references shop.books, colour text);
create table shop.labels (id int primary key, name text);
create table shop.book_labels (
    book_id int references shop.books, label_id int references shop.labels, primary key (book_id, label_id)
);
create table shop.reviews (id int primary key, book_id int references shop.books, stars int, text text);
create table shop.places (x int, y int, name text, primary key (x, y));
create table shop.counted (id serial primary key, name text);
create table shop.owned (id int primary key, owner text, note text);
create table shop.hidden (id int);
create table shop.typed (id int primary key, big bigint, n numeric, j json, b bytea, ts timestamptz, r int4range);
create table other.things (id int primary key, name text);
create view shop.titles as select id, title from shop.books;
create view shop.totals as select author_id, count(*) as books from shop.books group by author_id;

insert into shop.authors values (1, 'Ada', '1815-12-10'), (2, 'Bob', null), (3, 'Cyd', '1950-01-01');
insert into shop.books values
    (1, 'One', 1, 10.50, '{"pages": 100, "of": {"a": ["x", "y"]}}', '{red,blue}', 7),
    (2, 'Two', 1, 20, '{"pages": 200}', '{red}', 7),
    (3, 'Three', 2, 5, null, null, 0),
    (4, 'Four, "quoted"', null, null, '{"pages": 50}', '{}', 1);
insert into shop.covers values (1, 'green');
insert into shop.labels values (1, 'new'), (2, 'old');
insert into shop.book_labels values (1, 1), (1, 2), (2, 1);
insert into shop.reviews values (1, 1, 5, 'Good cats'), (2, 1, 3, 'Fine dogs'), (3, 2, 1, null);
insert into shop.places values (1, 1, 'here'), (1, 2, 'there');
insert into shop.owned values (1, 'ada', 'a'), (2, 'bob', 'b');
insert into shop.typed values (
    1, 9007199254740993, 12345678901234567890.123456789, '{"a":1,  "a":2}', '\\x00ff', '2020-01-01 12:00+00', '[1,5)');
insert into other.things values (1, 'thing');

alter table shop.owned enable row level security;
create policy own on shop.owned using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');

create function shop.loud(shop.books) returns text language sql stable as $$ select upper($1.title) $$;
create function shop.best_review(shop.books) returns setof shop.reviews rows 1 language sql stable as
    $$ select * from shop.reviews where book_id = $1.id order by stars desc limit 1 $$;
create function shop.add(a int, b int default 1) returns int language sql immutable as $$ select a + b $$;
create function shop.join_up(sep text, variadic parts text[]) returns text language sql immutable as
    $$ select array_to_string(parts, sep) $$;
create function shop.books_over(p int) returns setof shop.books language sql stable as
    $$ select * from shop.books where price > p order by id $$;
create function shop.one_book() returns shop.books language sql stable as $$ select * from shop.books where id = 1 $$;
create function shop.pair(out a int, out b text) language sql stable as $$ select 1, 'x' $$;
create function shop.grid(n int) returns table (i int, j int) language sql stable as
    $$ select i, i * i from generate_series(1, n) i $$;
create function shop.numbers() returns setof int language sql stable as $$ select generate_series(1, 3) $$;
create function shop.nothing() returns void language sql as $$ select $$;
create function shop.null_text() returns text language sql as $$ select null::text $$;
create function shop.echo(json) returns json language sql as $$ select $1 $$;
create function shop.shout(text) returns text language sql as $$ select upper($1) $$;
create function shop.size_of(bytea) returns int language sql as $$ select length($1) $$;
create function shop.raise_it(code text, text text) returns void language plpgsql as
    $$ begin raise exception using errcode = code, message = text; end $$;
create function shop.respond() returns json language plpgsql as $$ begin
    raise sqlstate 'PGRST' using message = '{"code":"123","message":"ABC","hint":"H"}',
        detail = '{"status":332,"headers":{"X-Header":"str"},"status_text":"My Custom Status"}'; end $$;
create function shop.with_headers() returns text language sql as $$
    select set_config('response.headers', '[{"X-One": "1"}, {"Vary": "Me"}]', true),
           set_config('response.status', '299', true); select 'ok' $$;
create function shop.bad_headers() returns text language sql as
    $$ select set_config('response.headers', 'nonsense', true); select 'ok' $$;
create function shop.settings() returns json language sql stable as $$ select json_build_object(
    'role', current_user, 'path', current_setting('request.path'), 'method', current_setting('request.method'),
    'headers', current_setting('request.headers')::json, 'cookies', current_setting('request.cookies')::json,
    'claims', current_setting('request.jwt.claims')::json, 'zone', current_setting('timezone'),
    'search_path', current_setting('search_path'), 'app', current_setting('app.settings.flavour', true),
    'isolation', current_setting('transaction_isolation'), 'read_only', current_setting('transaction_read_only')) $$;
create function shop.careful() returns text language sql set default_transaction_isolation = 'serializable'
    set statement_timeout = '1234ms' as $$ select current_setting('transaction_isolation') || ' ' ||
    current_setting('statement_timeout') $$;
create function shop.sleep(seconds float) returns void language sql as $$ select pg_sleep(seconds) $$;
create function shop.before() returns void language plpgsql as $$ begin
    if current_setting('request.headers')::json ->> 'x-refuse' is not null then raise 'refused'; end if;
    perform set_config('response.headers', '[{"X-Before": "yes"}]', true); end $$;
create function shop.leave_behind() returns text language sql as
    $$ select set_config('request.jwt.claims', '{"sub":"ada","role":"shop_user"}', false) $$;

create domain shop."text/html" as text;
create domain shop."application/vnd.names" as bytea;
create function shop.page() returns shop."text/html" language sql stable as $$ select '<p>hi</p>'::text $$;
create function shop.name_step(state bytea, one shop.authors) returns bytea language sql as
    $$ select state || convert_to(one.name || ';', 'utf8') $$;
create function shop.name_end(state bytea) returns shop."application/vnd.names" language sql as $$ select state $$;
create aggregate shop.name_agg(shop.authors) (
    sfunc = shop.name_step, stype = bytea, initcond = '', finalfunc = shop.name_end);

grant usage on schema shop, other to shop_anon, shop_user, shop_slow;
grant all on all tables in schema shop, other to shop_anon, shop_user, shop_slow;
grant all on all sequences in schema shop to shop_anon, shop_user, shop_slow;
revoke all on shop.hidden from shop_anon, shop_user;
revoke select on shop.counted from shop_anon;
"""
