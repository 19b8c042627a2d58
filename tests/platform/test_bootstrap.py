"""The bootstrap on the platform's own kind of server: superuser supabase_admin, operator postgres."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from harness.postgres import TestServer
from socle_platform.migrate import (
    BootstrapReport,
    DatabaseUnreachable,
    MigrationChanged,
    MigrationFailed,
    ensure_platform,
    sql_root,
)
from socle_platform.migrate.passwords import scram_verifier, verify_scram
from socle_platform.migrate.rights import PLATFORM_ROLES
from socle_platform.migrate.sources import load_platform_migrations, parse_platform_migration

USER_ID = "6e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11"


@pytest.fixture
async def empty_database(server: TestServer) -> AsyncIterator[str]:
    """A database without anything of ours, on a server that has the roles already."""
    async with server.clone("template0") as name:
        yield name


async def connect(server: TestServer, database: str, role: str = "supabase_admin") -> asyncpg.Connection:
    return await asyncpg.connect(server.dsn(database, role))


async def test_everything_is_applied_once_and_the_second_time_is_quick(server: TestServer, empty_database: str) -> None:
    dsn = server.dsn(empty_database)
    said: list[str] = []
    report = await ensure_platform(dsn, progress=said.append)
    titles = tuple(migration.title for migration in load_platform_migrations())
    assert report.applied == titles
    assert said == [f"platform migration {title}" for title in titles]
    assert report == BootstrapReport(
        operator="postgres",
        role="supabase_admin",
        superuser=True,
        database=empty_database,
        server_version=report.server_version,
        schema_reload="notify",
        applied=titles,
    )
    again = await ensure_platform(dsn, progress=said.append)
    assert again.applied == ()
    assert len(said) == len(titles)


async def test_two_nodes_that_start_at_once_apply_everything_once(server: TestServer, empty_database: str) -> None:
    reports = await asyncio.gather(*(ensure_platform(server.dsn(empty_database)) for _ in range(4)))
    assert sorted(len(report.applied) for report in reports) == [0, 0, 0, len(load_platform_migrations())]


async def test_databases_of_one_server_can_be_bootstrapped_at_once(server: TestServer) -> None:
    async with server.clone("template0") as one, server.clone("template0") as other:
        reports = await asyncio.gather(ensure_platform(server.dsn(one)), ensure_platform(server.dsn(other)))
    assert all(len(report.applied) == len(load_platform_migrations()) for report in reports)


async def test_a_changed_file_is_refused_by_name(server: TestServer, database_name: str, tmp_path: Path) -> None:
    root = tmp_path / "changed"
    shutil.copytree(sql_root() / "migrations" / "platform", root / "migrations" / "platform")
    with (root / "migrations" / "platform" / "0004_storage.sql").open("a") as file:
        file.write("\nselect 1;\n")
    with pytest.raises(MigrationChanged, match="0004_storage"):
        await ensure_platform(server.dsn(database_name), root=root)


async def test_a_further_file_is_applied_and_a_failing_one_leaves_nothing(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "more" / "migrations" / "platform"
    shutil.copytree(sql_root() / "migrations" / "platform", folder)
    (folder / "9001_more.sql").write_text("create table socle.more (a int);")
    (folder / "9002_wrong.sql").write_text("create table socle.other (a int);\nselect nonsense;\n")
    with pytest.raises(MigrationFailed, match=r"(?s)9002_wrong.*42703.*select nonsense"):
        await ensure_platform(server.dsn(database_name), root=tmp_path / "more")
    connection = await connect(server, database_name)
    assert await connection.fetchval("select to_regclass('socle.more') is null and to_regclass('socle.other') is null")
    await connection.close()
    shutil.copytree(tmp_path / "more", tmp_path / "mended")
    (tmp_path / "mended" / "migrations" / "platform" / "9002_wrong.sql").unlink()
    report = await ensure_platform(server.dsn(database_name), root=tmp_path / "mended")
    assert report.applied == ("9001_more",)


async def test_another_installation_is_told_apart(server: TestServer, empty_database: str) -> None:
    await server.run(empty_database, "create schema auth", "create type auth.aal_level as enum ('aal1')")
    with pytest.raises(MigrationFailed, match=r"(?s)0003_auth.*42710.*another Supabase installation"):
        await ensure_platform(server.dsn(empty_database))


async def test_an_older_program_on_a_newer_database_is_told(server: TestServer, database_name: str) -> None:
    await server.run(database_name, "insert into socle.migrations values (9999, 'future', 'x')")
    assert "9999" in (await ensure_platform(server.dsn(database_name))).warnings[0]


async def test_windows_newlines_and_checkouts_have_one_checksum() -> None:
    plain = parse_platform_migration("0001_x.sql", "-- socle: superuser\nselect 1;\n")
    assert parse_platform_migration("0001_x.sql", "-- socle: superuser\r\nselect 1;\r\n") == plain
    assert dataclasses.replace(plain, checksum="") == dataclasses.replace(
        parse_platform_migration("0001_x.sql", "-- socle: superuser\nselect 1;\n"), checksum=""
    )
    assert plain.superuser
    assert plain.title == "0001_x"


async def test_variables_are_quoted() -> None:
    migration = parse_platform_migration("0001_x.sql", """grant x to :"operator"; select :'operator'""")
    assert migration.render({"operator": "a\"b'c"}) == """grant x to "a""b'c"; select 'a"b''c\'"""


async def test_roles_are_what_the_contract_says(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name)
    rows = await connection.fetch("select * from pg_roles where rolname = any($1)", list(PLATFORM_ROLES))
    roles = {row["rolname"]: row for row in rows}
    assert set(roles) == set(PLATFORM_ROLES)
    for name in ("anon", "authenticated", "service_role"):
        assert not roles[name]["rolcanlogin"]
        assert roles[name]["rolinherit"]
        assert roles[name]["rolbypassrls"] == (name == "service_role")
    assert roles["authenticator"]["rolcanlogin"]
    assert not roles["authenticator"]["rolinherit"]
    operator = roles["postgres"]
    assert not operator["rolsuper"]
    assert all(operator[f"rol{right}"] for right in ("canlogin", "createdb", "createrole", "replication", "bypassrls"))
    granted = await connection.fetch(
        "select roleid::regrole::text as name from pg_auth_members where member = 'authenticator'::regrole"
    )
    assert {row["name"] for row in granted} == {"anon", "authenticated", "service_role"}
    timeouts = await connection.fetch(
        "select setrole::regrole::text as role, unnest(setconfig) as setting from pg_db_role_setting"
    )
    assert {("anon", "statement_timeout=3s"), ("authenticated", "statement_timeout=8s")} <= {
        (row["role"], row["setting"]) for row in timeouts
    }
    await connection.close()


async def test_schemas_survive_the_official_reset(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name)
    rows = await connection.fetch("select nspname as name, pg_get_userbyid(nspowner) as owner from pg_namespace")
    owners = {row["name"]: row["owner"] for row in rows}
    for schema in ("auth", "storage", "storage_internal", "realtime", "graphql_public", "socle"):
        assert owners[schema] == "supabase_admin", schema
    assert owners["extensions"] == owners["supabase_migrations"] == "postgres"
    await connection.close()


async def test_the_operator_may_do_what_stock_migrations_do(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name, "postgres")
    assert await connection.fetchval("show search_path") == '"$user", public, extensions'
    trigger = "on_auth_user_created after insert on auth.users for each row execute function handle_new_user()"
    for statement in (
        "create table profiles (id uuid primary key references auth.users on delete cascade, n text)",
        "create function handle_new_user() returns trigger language plpgsql security definer set search_path = '' as "
        "$$ begin insert into public.profiles (id, n) values (new.id, new.email); return new; end $$",
        "drop trigger if exists on_auth_user_created on auth.users",
        f"create trigger {trigger}",
        "drop trigger if exists on_auth_user_created on auth.users",
        f"create trigger {trigger}",
        "create policy p on storage.objects for select using (true)",
        "drop policy p on storage.objects",
        "create policy r on realtime.messages for select using (realtime.topic() = 'x')",
        "drop publication if exists supabase_realtime",
        "create publication supabase_realtime",
        "alter publication supabase_realtime add table profiles",
        "set session_replication_role = replica",
        "alter role authenticator set pgrst.db_schemas = 'public'",
        "alter role anon set statement_timeout = '3s'",
        "alter database current_database_name set app.settings.jwt_secret = 'x'",
        "create schema private",
        "create role app_reader nologin",
        "drop role app_reader",
    ):
        await connection.execute(statement.replace("current_database_name", f'"{database_name}"'))
    await connection.execute("reset session_replication_role")
    await connection.execute("insert into auth.users (id, email) values ($1, 'a@b.c')", USER_ID)
    assert await connection.fetchval("select n from profiles") == "a@b.c"
    await connection.close()
    await server.run(database_name, "alter role authenticator reset pgrst.db_schemas")


async def test_the_usual_extensions_are_there(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name, "postgres")
    assert await connection.fetchval(
        "select uuid_generate_v4() <> uuid_generate_v4() and digest('', 'md5') is not null"
    )
    found = await connection.fetch(
        "select extname::text, extnamespace::regnamespace::text, extowner::regrole::text from pg_extension order by 1"
    )
    assert [tuple(row) for row in found if row["extname"] != "plpgsql"] == [
        (name, "extensions", "postgres") for name in ("pg_stat_statements", "pgcrypto", "uuid-ossp")
    ]
    await connection.close()


async def test_the_operator_is_no_superuser(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name, "postgres")
    for statement in (
        "copy (select 1) to program 'true'",
        "select pg_read_file('/etc/hostname')",
        "alter role postgres superuser",
        "set role supabase_admin",
        "update socle.migrations set checksum = ''",
        "drop schema auth cascade",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


async def test_new_tables_in_public_are_open_to_the_api_roles(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name, "postgres")
    await connection.execute("create table notes (a int); create function f() returns int language sql return 1")
    for role in ("anon", "authenticated", "service_role"):
        assert await connection.fetchval("select has_table_privilege($1, 'notes', 'select, insert')", role)
        assert not await connection.fetchval("select has_table_privilege($1, 'auth.users', 'select')", role)
        assert not await connection.fetchval("select has_schema_privilege($1, 'socle', 'usage')", role)
    await connection.close()


@pytest.mark.parametrize(
    ("settings", "uid", "role", "email", "claims"),
    [
        ({}, None, None, None, None),
        ({"request.jwt.claims": ""}, None, None, None, None),
        (
            {"request.jwt.claims": f'{{"sub":"{USER_ID}","role":"authenticated","email":"a@b.c"}}'},
            USER_ID,
            "authenticated",
            "a@b.c",
            {"sub": USER_ID, "role": "authenticated", "email": "a@b.c"},
        ),
        ({"request.jwt.claims": '{"role":"anon"}'}, None, "anon", None, {"role": "anon"}),
        (
            {
                "request.jwt.claims": '{"role":"anon","email":"x"}',
                "request.jwt.claim.sub": USER_ID,
                "request.jwt.claim.role": "r",
                "request.jwt.claim.email": "",
                "request.jwt.claim": '{"a":1}',
            },
            USER_ID,
            "r",
            "x",
            {"a": 1},
        ),
    ],
)
async def test_who_is_asking(
    server: TestServer,
    database_name: str,
    settings: dict[str, str],
    uid: str | None,
    role: str | None,
    email: str | None,
    claims: dict[str, object] | None,
) -> None:
    connection = await connect(server, database_name)
    async with connection.transaction():
        for name, value in settings.items():
            await connection.execute("select set_config($1, $2, true)", name, value)
        await connection.execute("set local role anon")
        row = await connection.fetchrow(
            "select auth.uid()::text, auth.role(), auth.email(), auth.jwt() is not distinct from $1::text::jsonb",
            None if claims is None else json.dumps(claims),
        )
    assert row is not None
    assert tuple(row)[:3] == (uid, role, email)
    assert row[3]
    await connection.close()


async def test_a_subject_that_is_no_uuid_is_an_error(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name)
    await connection.execute("""select set_config('request.jwt.claims', '{"sub":"42"}', false)""")
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await connection.fetchval("select auth.uid()")
    await connection.close()


async def test_schema_changes_are_announced(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name, "postgres")
    heard: asyncio.Queue[object] = asyncio.Queue()
    listener = await connect(server, database_name, "authenticator")

    def note(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard.put_nowait(payload)

    await listener.add_listener("pgrst", note)
    for statement in ("create table t (a int)", "comment on table t is 'x'", "drop table t"):
        await connection.execute(statement)
        assert await asyncio.wait_for(heard.get(), 5) == "reload schema"
    await connection.execute("create temp table passing (a int)")
    await connection.execute("drop table passing")
    await connection.execute("notify pgrst, 'end'")
    assert await asyncio.wait_for(heard.get(), 5) == "end"
    await listener.close()
    await connection.close()


@pytest.mark.parametrize("table", ["storage.objects", "storage.buckets"])
async def test_deleting_objects_by_sql_is_refused_for_everybody(
    server: TestServer, database_name: str, table: str
) -> None:
    connection = await connect(server, database_name)
    for role in ("service_role", "postgres", "supabase_admin"):
        await connection.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="Use the Storage API instead"):
            await connection.execute(f"delete from {table}")
        async with connection.transaction():
            await connection.execute("set local storage.allow_delete_query = 'true'")
            await connection.execute(f"delete from {table}")
    await connection.close()


async def test_upstream_versions_are_recorded(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name)
    row = await connection.fetchrow("select count(*), min(version), max(version) from auth.schema_migrations")
    assert row is not None
    assert tuple(row) == (70, "00", "20260625000000")
    await connection.close()


async def test_the_graphql_entry_point_says_that_it_is_off(server: TestServer, database_name: str) -> None:
    connection = await connect(server, database_name)
    answer = await connection.fetchval("""select graphql_public.graphql(query => '{ a }')::text""")
    assert answer == '{"errors": [{"message": "pg_graphql extension is not enabled."}]}'
    await connection.close()


async def test_passwords_are_set_when_they_differ_and_only_then(server: TestServer, database_name: str) -> None:
    wanted = {"supabase_etl_admin": "pässword ½", "supabase_read_only_user": "r" * 43, "nobody_of_that_name": "x"}
    dsn = server.dsn(database_name)
    first = await ensure_platform(dsn, passwords=wanted)
    assert first.passwords_set == ("supabase_etl_admin", "supabase_read_only_user")
    assert (await ensure_platform(dsn, passwords=wanted)).passwords_set == ()
    await server.run(database_name, "alter role supabase_etl_admin login")
    connection = await asyncpg.connect(dsn, user="supabase_etl_admin", password="pässword ½", host="127.0.0.1")
    assert await connection.fetchval("select current_user") == "supabase_etl_admin"
    await connection.close()
    changed = await ensure_platform(dsn, passwords={**wanted, "supabase_etl_admin": "another"})
    assert changed.passwords_set == ("supabase_etl_admin",)


@pytest.mark.parametrize("password", ["secret", "x" * 64, "pässwörd", "Ⅸ", "ﬁ", "a\u00adb", "אב", "\u0007"])
def test_verifiers_prove_their_own_password_only(password: str) -> None:
    verifier = scram_verifier(password)
    assert verify_scram(password, verifier)
    assert not verify_scram(password + "!", verifier)
    for other in (None, "", "md5abc", verifier.replace("SHA-256$", "SHA-256$$"), "SCRAM-SHA-256$1:a$b:c"):
        assert not verify_scram(password, other)


async def test_no_database_is_a_plain_error(server: TestServer) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"no_such_database.*3D000"):
        await ensure_platform(server.dsn("no_such_database"))
    with pytest.raises(DatabaseUnreachable):
        await ensure_platform("postgresql://127.0.0.1:1/x?user=a")
    with pytest.raises(DatabaseUnreachable):
        await ensure_platform("postgresql://[bad")
