"""The built-in project's schema: the owner's policies word for word, and what nobody may do in spite of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from harness.postgres import TestServer
from socle_platform.migrate import (
    apply_policies,
    ensure_platform,
    load_migration_files,
    load_policy_files,
    push,
    sql_root,
)

A, B = "6e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11", "7e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11"

OWNERS_POLICIES = {
    "storage_objects": """
-- Politique de stockage
CREATE POLICY "Allow authenticated uploads"
ON storage.objects
FOR INSERT
TO authenticated
WITH CHECK (bucket_id = 'video_dedicace');

CREATE POLICY "Allow public read"
ON storage.objects
FOR SELECT
TO anon
USING (bucket_id = 'video_dedicace');
""",
    "product": """
-- Lecture : propriétaire uniquement
CREATE POLICY "Users can view own products"
ON product FOR SELECT
TO authenticated
USING (created_by = auth.uid());

-- Création : utilisateurs authentifiés
CREATE POLICY "Users can create products"
ON product FOR INSERT
TO authenticated
WITH CHECK (created_by = auth.uid());

-- Mise à jour : propriétaire uniquement
CREATE POLICY "Users can update own products"
ON product FOR UPDATE
TO authenticated
USING (created_by = auth.uid());
""",
    "product_items": """
-- Lecture publique (pour les participants)
CREATE POLICY "Anyone can view items"
ON product_items FOR SELECT
TO anon, authenticated
USING (true);

-- Création : tout le monde (messages anonymes)
CREATE POLICY "Anyone can create items"
ON product_items FOR INSERT
TO anon, authenticated
WITH CHECK (true);
""",
}


@dataclass(frozen=True, slots=True)
class Callers:
    """Runs a statement as somebody, in a transaction of its own."""

    connection: asyncpg.Connection

    async def run(self, who: str | None, sql: str, *arguments: object) -> list[tuple[object, ...]]:
        role = "anon" if who is None else "service_role" if who == "service" else "authenticated"
        claims = json.dumps({"sub": who, "role": role} if role == "authenticated" else {"role": role})
        async with self.connection.transaction():
            await self.connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
            await self.connection.execute(f"set local role {role}")
            return [tuple(row) for row in await self.connection.fetch(sql, *arguments)]

    async def refused(self, who: str | None, sql: str, *arguments: object) -> str:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as error:
            await self.run(who, sql, *arguments)
        return str(error.value)


@pytest.fixture
async def callers(server: TestServer, database_name: str) -> AsyncIterator[Callers]:
    """The built-in project in a database of its own, with users A and B."""
    dsn = server.dsn(database_name)
    await push(dsn, load_migration_files(sql_root() / "migrations" / "dedicace")[0])
    await apply_policies(dsn, load_policy_files(sql_root() / "policies" / "dedicace"))
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into auth.users (id) values ($1), ($2)", A, B)
    yield Callers(connection)
    await connection.close()


@pytest.mark.parametrize("file", sorted(OWNERS_POLICIES))
def test_the_owners_policies_are_there_word_for_word(file: str) -> None:
    text = (sql_root() / "policies" / "dedicace" / f"{file}.sql").read_text()
    assert OWNERS_POLICIES[file] in "\n" + text


def test_the_migrations_have_the_owners_names() -> None:
    found, skipped = load_migration_files(sql_root() / "migrations" / "dedicace")
    assert [one.title for one in found][:3] == [
        "20240101000000_initial_schema.sql",
        "20240115000000_add_product_table.sql",
        "20240201000000_add_product_items.sql",
    ]
    assert skipped == ()


async def test_products_belong_to_their_owner(callers: Callers) -> None:
    [(product, owner)] = await callers.run(
        A, "insert into product (created_by, title) values (auth.uid(), 'Départ') returning id, created_by::text"
    )
    assert owner == A
    assert await callers.run(A, "select title, plan, session_id from product") == [("Départ", "free", None)]
    assert await callers.run(B, "select * from product") == []
    assert await callers.run(None, "select * from product") == []
    assert "row-level security" in await callers.refused(B, "insert into product (created_by) values ($1)", A)
    await callers.refused(None, "insert into product (title) values ('x')")
    assert await callers.run(B, "update product set title = 'mine' returning id") == []
    assert await callers.run(A, "update product set title = 'Retraite' returning id") == [(product,)]


async def test_nobody_gets_a_paid_plan_without_paying(callers: Callers) -> None:
    [(product,)] = await callers.run(A, "insert into product default values returning id")
    for statement in (
        "insert into product (plan) values ('basic')",
        "insert into product (session_id) values ('cs_1')",
        "update product set plan = 'basic'",
        "update product set title = 'x', plan = 'basic'",
        "update product set session_id = 'cs_1'",
        "insert into product (id, title) values (1, 'x') on conflict (id) do update set plan = 'basic'",
        "update product set created_by = auth.uid()",
        "update product set id = 42",
        "delete from product",
        "truncate product cascade",
    ):
        assert "permission denied for table product" in await callers.refused(A, statement), statement
    await callers.run("service", "update product set plan = 'basic', session_id = 'cs_1' where id = $1", product)
    assert await callers.run(A, "select plan, session_id from product") == [("basic", "cs_1")]


async def test_items_are_open_to_everybody_and_nothing_more(callers: Callers) -> None:
    [(product,)] = await callers.run(A, "insert into product default values returning id")
    assert await callers.run(
        None,
        "insert into product_items (product_id, participant_name) values ($1, 'Anonyme') returning participant_id",
        product,
    ) == [(None,)]
    await callers.run(B, "insert into product_items (product_id, participant_id) values ($1, $2)", product, B)
    for who in (None, A, B):
        assert len(await callers.run(who, "select * from product_items")) == 2
        for statement in (
            "update product_items set message = 'x'",
            "delete from product_items",
            "truncate product_items",
        ):
            await callers.refused(who, statement)
        await callers.refused(who, "insert into product_items (id, product_id) values (1000, $1)", product)
    with pytest.raises(asyncpg.UniqueViolationError):
        await callers.run(None, "insert into product_items (product_id, participant_id) values ($1, $2)", product, B)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await callers.run(None, "insert into product_items (product_id) values (-1)")


@pytest.mark.parametrize(
    ("table", "insert"),
    [
        (
            "product_item_invitations",
            "insert into product_item_invitations (item_id, invite_email) select id, 'a@b.c' from product_items",
        ),
        ("checkout_sessions", "insert into checkout_sessions (id, product_id) select 'cs_1', id from product"),
        (
            "scheduled_participations",
            "insert into scheduled_participations (product_id, email, scheduled_at, next_attempt_at) "
            "select id, 'a@b.c', now(), now() from product",
        ),
    ],
)
async def test_what_is_private_is_read_by_the_products_owner_only(callers: Callers, table: str, insert: str) -> None:
    await callers.run(A, "insert into product default values")
    await callers.run(None, "insert into product_items (product_id) select max(id) + 0 from product_items having false")
    await callers.run("service", "insert into product_items (product_id) select id from product")
    await callers.run("service", insert)
    assert len(await callers.run(A, f"select * from {table}")) == 1
    assert await callers.run(B, f"select * from {table}") == []
    await callers.refused(None, f"select * from {table}")
    for who in (A, B):
        await callers.refused(who, insert)
        await callers.refused(who, f"delete from {table}")


async def test_webhook_events_are_the_services_alone(callers: Callers) -> None:
    insert = "insert into stripe_events (id, type, created, payload) values ('evt_1', 't', now(), '{}')"
    await callers.run("service", insert)
    for who in (None, A):
        await callers.refused(who, "select * from stripe_events")
        await callers.refused(who, insert)
    with pytest.raises(asyncpg.UniqueViolationError):
        await callers.run("service", insert)


async def test_videos_are_uploaded_by_who_is_signed_in_and_read_by_all(callers: Callers) -> None:
    insert = "insert into storage.objects (bucket_id, name) values ($1, 'video_1/dedicaces_1.webm')"
    await callers.run("service", "insert into storage.buckets (id, name) values ('other', 'other')")
    await callers.run(A, insert, "video_dedicace")
    await callers.refused(None, insert, "video_dedicace")
    await callers.refused(A, insert, "other")
    await callers.run("service", insert, "other")
    for who in (None, A, B):
        assert await callers.run(who, "select bucket_id from storage.objects") == [("video_dedicace",)]
    assert await callers.run("service", "select public from storage.buckets where id = 'video_dedicace'") == [(False,)]


async def test_a_deleted_user_takes_products_along_and_leaves_messages(callers: Callers) -> None:
    await callers.run(A, "insert into product default values")
    await callers.run("service", "insert into product_items (product_id, participant_id) select id, $1 from product", B)
    await callers.connection.execute("delete from auth.users where id = $1", B)
    assert await callers.run(None, "select participant_id from product_items") == [(None,)]
    await callers.connection.execute("delete from auth.users where id = $1", A)
    assert await callers.run("service", "select count(*) from product") == [(0,)]


#: What the official CLI's remote reset does, as role postgres (contract cli.md §3.1).
OFFICIAL_RESET = """
do $reset$
declare
  thing record;
begin
  for thing in
    select nspname from pg_namespace
    where pg_get_userbyid(nspowner) <> 'supabase_admin' and nspname !~ '^pg_'
      and nspname not in (
        'information_schema', '_analytics', '_realtime', '_supavisor', 'pgbouncer', 'pgmq', 'pgsodium', 'pgtle',
        'supabase_migrations', 'vault', 'extensions', 'public')
  loop
    execute format('drop schema if exists %I cascade', thing.nspname);
  end loop;
  for thing in select oid::regprocedure as name from pg_proc where pronamespace = 'public'::regnamespace loop
    execute format('drop routine if exists %s cascade', thing.name);
  end loop;
  for thing in
    select oid::regclass as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
  loop
    execute format('drop table if exists %s cascade', thing.name);
  end loop;
  for thing in
    select oid::regclass as name from pg_class
    where relkind in ('r', 'p') and (
      (relnamespace = 'auth'::regnamespace and relname <> 'schema_migrations')
      or relnamespace = 'supabase_migrations'::regnamespace)
  loop
    execute format('truncate table %s restart identity cascade', thing.name);
  end loop;
  for thing in select policyname, schemaname, tablename from pg_policies loop
    execute format('drop policy if exists %I on %I.%I', thing.policyname, thing.schemaname, thing.tablename);
  end loop;
  for thing in select pubname from pg_publication where pubname not like 'supabase_realtime%' loop
    execute format('drop publication if exists %I', thing.pubname);
  end loop;
end
$reset$
"""


async def test_the_official_reset_can_be_followed_by_a_push(
    server: TestServer, database_name: str, callers: Callers
) -> None:
    await callers.run(A, "insert into product default values")
    operator = await asyncpg.connect(server.dsn(database_name, "postgres"))
    await operator.execute("create schema private")
    await operator.execute(OFFICIAL_RESET)
    await operator.close()
    assert await callers.connection.fetchval(
        "select to_regnamespace('private') is null and count(*) = 0 from auth.users"
    )
    assert (await ensure_platform(server.dsn(database_name))).applied == ()
    migrations = load_migration_files(sql_root() / "migrations" / "dedicace")[0]
    assert (await push(server.dsn(database_name), migrations)).plan.migrations == migrations
    files = load_policy_files(sql_root() / "policies" / "dedicace")
    assert (await apply_policies(server.dsn(database_name), files)).count("created") == 11
    await callers.connection.execute("insert into auth.users (id) values ($1)", A)
    await callers.run(A, "insert into product default values")
    assert len(await callers.run(A, "select * from product")) == 1
