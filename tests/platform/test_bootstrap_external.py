"""The bootstrap on somebody else's server, PostgreSQL 15 to 18: as superuser, and as an owner after the printed SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from harness.clusters import Cluster, installed_servers, running_cluster
from socle_platform.migrate import (
    MissingRights,
    apply_policies,
    ensure_platform,
    load_migration_files,
    load_policy_files,
    print_sql,
    push,
    sql_root,
)
from socle_platform.migrate.rights import ACTED_ROLES, Facts, missing_rights
from socle_platform.migrate.sources import load_platform_migrations

SERVERS = installed_servers()
SUPERUSER_ONLY = {migration.title for migration in load_platform_migrations() if migration.superuser}


@pytest.fixture(scope="module", params=sorted(SERVERS))
def superuser_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server that belongs to us."""
    with running_cluster(SERVERS[request.param]) as cluster:
        yield cluster


@pytest.fixture(params=sorted(SERVERS))
def owner_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server on which we are nobody: roles are the whole server's, so each test needs its own."""
    with running_cluster(SERVERS[request.param]) as cluster:
        yield cluster


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def install_dedicace(url: str) -> None:
    root = sql_root()
    await push(url, load_migration_files(root / "migrations" / "dedicace")[0])
    report = await apply_policies(url, load_policy_files(root / "policies" / "dedicace"))
    assert report.count("created") == 11


async def owns_and_reads(url: str) -> None:
    """A signed-in user inserts a product and reads it; somebody else and anon read nothing."""
    connection = await asyncpg.connect(url)
    user, other = "6e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11", "7e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11"
    try:
        async with connection.transaction():
            await connection.execute("set local role supabase_auth_admin")
            await connection.execute("insert into auth.users (id) values ($1), ($2)", user, other)
        async with connection.transaction():
            await connection.execute(
                f"""set local request.jwt.claims = '{{"sub":"{user}"}}'; set local role authenticated"""
            )
            assert await connection.fetchval("insert into product default values returning created_by::text") == user
            assert await connection.fetchval("select count(*) from product") == 1
        async with connection.transaction():
            await connection.execute(
                f"""set local request.jwt.claims = '{{"sub":"{other}"}}'; set local role authenticated"""
            )
            assert await connection.fetchval("select count(*) from product") == 0
        async with connection.transaction():
            await connection.execute("set local role anon")
            assert await connection.fetchval("select count(*) from product") == 0
        async with connection.transaction():
            await connection.execute("set local role service_role")
            assert await connection.fetchval("select count(*) from product") == 1
    finally:
        await connection.close()


async def test_as_the_superuser_postgres(superuser_cluster: Cluster) -> None:
    url = superuser_cluster.url()
    report = await ensure_platform(url, passwords={"authenticator": "a" * 43, "postgres": "must not change"})
    assert report.operator == "postgres"
    assert report.superuser
    assert report.schema_reload == "notify"
    assert report.passwords_set == ("authenticator",)
    assert (await ensure_platform(url)).applied == ()
    await install_dedicace(url)
    await owns_and_reads(url)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("show search_path") == '"$user", public, extensions'
    assert await connection.fetchval("select rolsuper from pg_roles where rolname = 'postgres'")
    await connection.close()
    await run(superuser_cluster.url(role="authenticator", password="a" * 43), "set role anon", "reset role")


async def test_as_a_superuser_of_another_name(superuser_cluster: Cluster) -> None:
    admin = superuser_cluster.url()
    await run(admin, "create role boss login superuser password 'boss'", "create database shop owner boss")
    url = superuser_cluster.url("shop", "boss", "boss")
    report = await ensure_platform(url)
    assert report.operator == "postgres"
    await install_dedicace(url)
    await owns_and_reads(url)
    connection = await asyncpg.connect(url)
    owner = await connection.fetchval("select tableowner from pg_tables where tablename = 'product'")
    assert owner == report.operator
    await connection.close()


async def test_as_an_owner_with_createrole_after_the_printed_sql(owner_cluster: Cluster) -> None:
    admin = owner_cluster.url()
    await run(admin, """create role "my app" login password 'app'""", """create database shop owner "my app" """)
    url = owner_cluster.url("shop", "my%20app", "app")

    with pytest.raises(MissingRights) as refused:
        await ensure_platform(url)
    text = refused.value.message
    assert "attribute CREATEROLE" in text
    assert 'alter role "my app" createrole;' in text
    assert "create role service_role nologin bypassrls" in text
    assert "socle bootstrap --print-sql" in text

    printed = print_sql("my app", "shop")
    await run(owner_cluster.url("shop"), printed, printed)  # once is enough, twice does no harm
    report = await ensure_platform(url, passwords={"authenticator": "a" * 43, "my app": "must not change"})
    assert report.operator == "my app"
    assert not report.superuser
    assert report.schema_reload == "notify"
    assert report.warnings == ()
    assert not SUPERUSER_ONLY & set(report.applied)
    assert (await ensure_platform(url)).applied == ()
    await install_dedicace(url)
    await owns_and_reads(url)
    await run(
        url,
        "create policy p on storage.objects for select using (true)",
        "create table t (id uuid references auth.users)",
        "set session_replication_role = replica",
    )
    await run(owner_cluster.url("shop", "authenticator", "a" * 43), "set role anon", "reset role")
    await run(owner_cluster.url("shop"), "drop publication supabase_realtime")


async def test_an_owner_given_only_what_the_error_names_reloads_by_polling(owner_cluster: Cluster) -> None:
    admin = owner_cluster.url()
    await run(admin, "create role app login password 'app'", "create database shop")
    url = owner_cluster.url("shop", "app", "app")
    with pytest.raises(MissingRights) as refused:
        await ensure_platform(url)
    rights = [one.right for one in refused.value.missing]
    assert 'CREATE on database "shop"' in rights
    assert "CREATE on schema public" in rights
    await run(owner_cluster.url("shop"), *(one.statement for one in refused.value.missing))
    report = await ensure_platform(url)
    assert report.schema_reload == "poll"
    assert "print-sql" in report.warnings[0]
    await install_dedicace(url)
    await owns_and_reads(url)

    # A superuser who starts the platform later adds what was missing.
    report = await ensure_platform(owner_cluster.url("shop"))
    assert report.operator == "app"
    assert set(report.applied) == SUPERUSER_ONLY
    assert report.schema_reload == "notify"


async def test_roles_are_made_again_when_a_database_comes_to_another_server(owner_cluster: Cluster) -> None:
    url = owner_cluster.url()
    await ensure_platform(url)
    await run(url, "drop owned by pgsodium_keyholder", "drop role pgsodium_keyholder")
    assert (await ensure_platform(url)).applied == ("0001_roles",)
    assert (await ensure_platform(url)).applied == ()


FACTS = Facts(
    role="app",
    database="shop",
    server_version=180000,
    create_role=True,
    bypass_rls=False,
    create_schemas=True,
    create_in_public=True,
    open_public=True,
    roles=frozenset({"service_role"}),
    grantable=frozenset({"service_role"}),
    service_role_bypasses=True,
)


def changed(**facts: object) -> Facts:
    from dataclasses import replace

    return replace(FACTS, **facts)  # type: ignore[arg-type]  # (each test names real fields)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (FACTS, []),
        (changed(create_role=False), ['alter role "app" createrole;']),
        (changed(create_schemas=False), ['grant create on database "shop" to "app";']),
        (changed(create_in_public=False), ['grant create on schema public to "app";']),
        (changed(open_public=False), ["grant usage on schema public to public;"]),
        (
            changed(roles=frozenset[str](), service_role_bypasses=False),
            ['create role service_role nologin bypassrls; grant service_role to "app" with admin option;'],
        ),
        (changed(roles=frozenset[str](), service_role_bypasses=False, bypass_rls=True), []),
        (
            changed(roles=frozenset[str](), service_role_bypasses=False, bypass_rls=True, server_version=150000),
            ['create role service_role nologin bypassrls; grant service_role to "app" with admin option;'],
        ),
        (changed(service_role_bypasses=False), ["alter role service_role bypassrls;"]),
        (
            changed(roles=frozenset({"service_role", "anon"})),
            ['grant "anon" to "app" with admin option;'],
        ),
        (changed(roles=frozenset({"service_role", "anon"}), server_version=150000), []),
        (changed(role='a"b', create_role=False), ['alter role "a""b" createrole;']),
    ],
)
def test_missing_rights_name_their_statement(facts: Facts, expected: list[str]) -> None:
    assert [one.statement for one in missing_rights(facts)] == expected


def test_printed_sql_names_everything_only_a_superuser_can_do(tmp_path: Path) -> None:
    text = print_sql("app", "shop")
    for part in ("bypassrls", "create event trigger pgrst_ddl_watch", "session_replication_role", "for all tables"):
        assert part in text
    assert all(role in text for role in ACTED_ROLES)
    assert ":'" not in text
    assert ':"' not in text
