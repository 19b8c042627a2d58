-- The little library that docs/rest.md asks. Load it into the database of a started platform
--   psql postgresql://postgres:postgres@127.0.0.1:54322/postgres -f docs/examples/rest.sql
-- or into any PostgreSQL that has the roles anon and authenticated.

create table authors (
    id int primary key,
    name text not null,
    born date
);
comment on table authors is 'Authors
People who wrote our books.';
comment on column authors.name is 'As it stands on the cover';

create table books (
    id int primary key,
    title text not null,
    author_id int references authors,
    translator_id int constraint translated_by references authors,
    pages int not null default 100,
    tags text[] not null default '{}',
    facts jsonb
);
create table covers (book_id int primary key references books, colour text not null);
create table shelves (id int primary key, room text not null);
create table placements (
    book_id int references books,
    shelf_id int references shelves,
    primary key (book_id, shelf_id)
);
create table reviews (id int primary key, book_id int not null references books, stars int not null, text text);
create table loans (id int primary key, book_id int not null references books, reader text not null);

insert into authors values
    (1, 'Ursula', '1929-10-21'),
    (2, 'Jorge', '1899-08-24'),
    (3, 'Andrew', null);
insert into books values
    (1, 'The Dispossessed', 1, null, 341, '{novel,future}', '{"year": 1974, "prizes": ["Hugo", "Nebula"]}'),
    (2, 'Ficciones', 2, 3, 203, '{stories}', '{"year": 1944, "prizes": []}'),
    (3, 'The Lathe of Heaven', 1, null, 184, '{novel}', '{"year": 1971, "prizes": ["Locus"]}'),
    (4, 'Beowulf', null, null, 120, '{}', null);
insert into covers values (1, 'red'), (2, 'grey');
insert into shelves values (1, 'Cellar'), (2, 'Attic');
insert into placements values (1, 1), (1, 2), (2, 2);
insert into reviews values (1, 1, 5, 'A whole world'), (2, 1, 3, null), (3, 2, 4, 'Mirrors');
insert into loans values (1, 1, 'ada'), (2, 3, 'bob');

-- rows that only their own reader sees
alter table loans enable row level security;
create policy own_loans on loans using (reader = current_setting('request.jwt.claims', true)::json ->> 'sub');

-- a view: keys are followed through it
create view long_books as select id, title, author_id from books where pages > 200;

-- a computed field, and two computed relationships
create function shout(books) returns text language sql immutable as $$ select upper($1.title) $$;
create function best_review(books) returns setof reviews rows 1 language sql stable as
    $$ select * from reviews where book_id = $1.id order by stars desc limit 1 $$;
create function books_like_it(books) returns setof books language sql stable as
    $$ select * from books where tags && $1.tags and id <> $1.id order by id $$;

-- functions to call
create function add(a int, b int default 1) returns int language sql immutable as $$ select a + b $$;
create function total(variadic numbers int[]) returns bigint language sql immutable as
    $$ select sum(n) from unnest(numbers) n $$;
create function books_of(author text) returns setof books language sql stable as
    $$ select b.* from books b join authors a on a.id = b.author_id where a.name = author order by b.id $$;
create function page_count(book_id int, out pages int, out is_long boolean) language sql stable as
    $$ select b.pages, b.pages > 200 from books b where b.id = book_id $$;
create function count_words(text) returns int language sql immutable as
    $$ select cardinality(regexp_split_to_array(trim($1), '\s+')) $$;
create function close_shelf(shelf int) returns void language sql as $$ delete from placements where shelf_id = shelf $$;
create function borrow() returns void language plpgsql as $$ begin
    raise sqlstate 'PT402' using message = 'The fee is not paid', hint = 'Ask at the desk.';
end $$;
create function refuse() returns void language plpgsql as $$ begin
    raise sqlstate 'PGRST' using
        message = '{"code": "LIB01", "message": "The library is closed"}',
        detail = '{"status": 403, "headers": {"X-Opens": "09:00"}}';
end $$;
create function with_headers() returns text language sql as $$
    select set_config('response.headers', '[{"Cache-Control": "max-age=60"}, {"X-Shelf": "A3"}]', true),
           set_config('response.status', '202', true);
    select 'accepted' $$;
create function who_am_i() returns json language sql stable as $$ select json_build_object(
    'role', current_user,
    'sub', current_setting('request.jwt.claims', true)::json ->> 'sub',
    'method', current_setting('request.method', true),
    'path', current_setting('request.path', true)) $$;

-- a function that answers in a media type of its own, and one handler for every author
create domain "text/html" as text;
create function welcome() returns "text/html" language sql stable as $$ select '<h1>Welcome</h1>'::text $$;
create domain "text/x-names" as text;
create function names_step(state text, one authors) returns text language sql immutable as
    $$ select state || one.name || E'\n' $$;
create function names_done(state text) returns "text/x-names" language sql immutable as $$ select state $$;
create aggregate names_of(authors) (sfunc = names_step, stype = text, initcond = '', finalfunc = names_done);

-- runs before each request (PGRST_DB_PRE_REQUEST=public.check_client)
create function check_client() returns void language plpgsql as $$ begin
    if current_setting('request.headers', true)::json ->> 'x-client' = 'too-old' then
        raise sqlstate 'PT426' using message = 'Please update your client';
    end if;
end $$;

-- a second schema (PGRST_DB_SCHEMAS=public,archive)
create schema archive;
create table archive.letters (id int primary key, text text not null);
insert into archive.letters values (1, 'Dear reader');

grant usage on schema archive to anon, authenticated;
grant select on all tables in schema archive to anon, authenticated;
grant all on authors, books, covers, shelves, placements, reviews, long_books to anon, authenticated;
grant all on loans to authenticated;
revoke all on loans from anon;

notify pgrst, 'reload schema';
