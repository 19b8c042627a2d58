"""Project migrations and seeds: what is pending, what is recorded, how a refused statement is shown."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import asyncpg
import pytest

from harness.postgres import TestServer
from socle_platform.migrate import (
    DatabaseRefused,
    DatabaseUnreachable,
    MigrationFile,
    MigrationFileInvalid,
    MigrationsOutOfOrder,
    RemoteVersionsUnknown,
    SeedFile,
    StatementFailed,
    load_migration_files,
    plan_migrations,
    plan_push,
    push,
)
from socle_platform.migrate.failures import mark_position
from socle_platform.migrate.history import CopyNotUnderstood

HISTORY = "select version, name, statements from supabase_migrations.schema_migrations order by version"


def migration(version: str, name: str = "x", path: Path = Path("x.sql")) -> MigrationFile:
    return MigrationFile(version=version, name=name, path=path)


def write(folder: Path, **files: str) -> tuple[MigrationFile, ...]:
    """Migration files v1_a=… in a folder; the names lack the v."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sql in files.items():
        (folder / f"{name.removeprefix('v')}.sql").write_text(sql)
    return load_migration_files(folder)[0]


async def fetch(server: TestServer, database: str, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(server.dsn(database))
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("applied", "local", "pending"),
    [
        ([], [], []),
        ([], ["1", "2"], ["1", "2"]),
        (["1"], ["1", "2", "3"], ["2", "3"]),
        (["1", "2"], ["1", "2"], []),
        # Versions are texts: this is the order of the official CLI.
        (["10"], ["10", "9"], ["9"]),
    ],
)
def test_what_is_pending(applied: list[str], local: list[str], pending: list[str]) -> None:
    planned = plan_migrations(applied, [migration(version) for version in local])
    assert [one.version for one in planned] == pending


def test_applied_versions_without_a_file_are_refused() -> None:
    with pytest.raises(RemoteVersionsUnknown, match=r"(?s)not found in local.*version in \('2', '4'\);") as error:
        plan_migrations(["1", "4", "2"], [migration("1"), migration("3")])
    assert error.value.versions == ("2", "4")


def test_files_older_than_the_newest_applied_one_need_consent() -> None:
    local = [migration("1"), migration("2", path=Path("2_late.sql")), migration("3"), migration("4")]
    with pytest.raises(
        MigrationsOutOfOrder, match=r"(?s)before the last migration.*--include-all.*2_late\.sql"
    ) as error:
        plan_migrations(["1", "3"], local)
    assert [one.version for one in error.value.migrations] == ["2"]
    assert [one.version for one in plan_migrations(["1", "3"], local, include_all=True)] == ["2", "4"]


def test_which_files_are_migrations(tmp_path: Path) -> None:
    for name in ("20240101000000_a.sql", "1_.sql", "readme.sql", "2.sql", "3_b.txt", "20240101000001_b c.sql"):
        (tmp_path / name).write_text("")
    found, skipped = load_migration_files(tmp_path)
    assert [(one.version, one.name) for one in found] == [
        ("1", ""),
        ("20240101000000", "a"),
        ("20240101000001", "b c"),
    ]
    assert skipped == ("2.sql", "readme.sql")
    (tmp_path / "1_again.sql").write_text("")
    with pytest.raises(MigrationFileInvalid, match=r"1_\.sql and 1_again\.sql|1_again\.sql and 1_\.sql"):
        load_migration_files(tmp_path)
    assert load_migration_files(tmp_path / "missing") == ((), ())


async def test_files_are_applied_in_order_as_the_operator_and_recorded(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(
        tmp_path,
        v1_first="-- one\ncreate table a (id int);\n\ninsert into a values (1), (2);",
        v2_second="alter table a add column who text default current_user;\ndo $$ begin perform 1; end $$;\n",
    )
    said: list[str] = []
    report = await push(server.dsn(database_name), files, progress=said.append)
    assert report.operator == "postgres"
    assert said == ["Applying migration 1_first.sql...", "Applying migration 2_second.sql..."]
    assert await fetch(server, database_name, HISTORY) == [
        ("1", "first", ["-- one\ncreate table a (id int)", "insert into a values (1), (2)"]),
        ("2", "second", ["alter table a add column who text default current_user", "do $$ begin perform 1; end $$"]),
    ]
    assert await fetch(server, database_name, "select id, who from a") == [(1, "postgres"), (2, "postgres")]
    assert await fetch(server, database_name, "select tableowner from pg_tables where tablename = 'a'") == [
        ("postgres",)
    ]
    assert (await push(server.dsn(database_name), files)).plan.is_empty


@pytest.mark.parametrize("role", ["supabase_admin", "postgres"])
async def test_every_login_works_with_the_operators_settings(
    server: TestServer, database_name: str, tmp_path: Path, role: str
) -> None:
    files = write(
        tmp_path,
        v1_a="set search_path = ''; set statement_timeout = '1h'; set role anon",
        v2_b="create table seen as select current_user::text as u, session_user::text as s, "
        "current_setting('search_path') as p, current_setting('statement_timeout') as t",
    )
    await push(server.dsn(database_name, role), files)
    assert await fetch(server, database_name, "select * from public.seen") == [
        ("postgres", "postgres", '"$user", public, extensions', "0")
    ]


async def test_a_refused_statement_undoes_its_file_and_is_shown_with_a_caret(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(
        tmp_path,
        v1_good="create table good (a int)",
        v2_bad="create table bad (a int);\nselect 1,\n\tnothing\nfrom good;\nselect 2",
    )
    with pytest.raises(StatementFailed) as error:
        await push(server.dsn(database_name), files)
    assert error.value.message == (
        '2_bad.sql: ERROR: column "nothing" does not exist (SQLSTATE 42703)\n'
        "At statement: 1 (line 3)\nselect 1,\n\tnothing\n\t^"
    )
    assert (error.value.index, error.value.sqlstate, error.value.line) == (1, "42703", 3)
    assert await fetch(server, database_name, HISTORY) == [("1", "good", ["create table good (a int)"])]
    assert await fetch(server, database_name, "select to_regclass('bad') is null") == [(True,)]


async def test_details_and_hints_of_the_server_are_shown(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(tmp_path, v1_a="create table a (id int primary key); insert into a values (1), (1)")
    with pytest.raises(StatementFailed, match=r"(?s)23505\)\nKey \(id\)=\(1\) already exists\.\nAt statement: 1"):
        await push(server.dsn(database_name), files)
    files = write(tmp_path, v1_a="select now(1)")
    with pytest.raises(StatementFailed, match=r"42883\)\nHINT: No function matches"):
        await push(server.dsn(database_name), files)


async def test_a_deferred_constraint_fails_the_file(server: TestServer, database_name: str, tmp_path: Path) -> None:
    files = write(
        tmp_path,
        v1_a="create table a (id int primary key deferrable initially deferred); insert into a values (1), (1)",
    )
    with pytest.raises(StatementFailed, match=r"(?s)23505.*commit"):
        await push(server.dsn(database_name), files)
    assert await fetch(server, database_name, HISTORY) == []


async def test_a_lone_statement_may_refuse_a_transaction(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(tmp_path, v1_t="create table t (a int)", v2_i="create index concurrently i on t (a);")
    await push(server.dsn(database_name), files)
    assert await fetch(
        server, database_name, "select version from supabase_migrations.schema_migrations order by 1"
    ) == [
        ("1",),
        ("2",),
    ]
    more = write(tmp_path, v3_i="create index concurrently j on t (a); select 1")
    with pytest.raises(StatementFailed, match="25001"):
        await push(server.dsn(database_name), more)


async def test_files_with_their_own_transaction_are_applied(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    await push(
        server.dsn(database_name), write(tmp_path, v1_t="begin;\ncreate table t (a int);\ncommit;\ncreate table u ();")
    )
    assert await fetch(server, database_name, "select to_regclass('t')::text, to_regclass('u')::text") == [("t", "u")]
    assert len(await fetch(server, database_name, HISTORY)) == 1


async def test_an_empty_file_is_recorded(server: TestServer, database_name: str, tmp_path: Path) -> None:
    await push(server.dsn(database_name), write(tmp_path, v1_nothing="-- later\n", v2_bom="\ufeffselect 1"))
    assert await fetch(server, database_name, HISTORY) == [("1", "nothing", []), ("2", "bom", ["select 1"])]


async def test_a_history_of_older_tools_is_completed(server: TestServer, database_name: str, tmp_path: Path) -> None:
    await server.run(
        database_name,
        "create table supabase_migrations.schema_migrations (version text primary key)",
        "insert into supabase_migrations.schema_migrations values ('1')",
        "alter table supabase_migrations.schema_migrations owner to postgres",
    )
    await push(server.dsn(database_name), write(tmp_path, v1_a="select nonsense", v2_b="select 2"))
    assert await fetch(server, database_name, HISTORY) == [("1", None, None), ("2", "b", ["select 2"])]


async def test_a_dry_run_changes_nothing(server: TestServer, database_name: str, tmp_path: Path) -> None:
    files = write(tmp_path / "migrations", v1_a="create table a (id int)")
    (tmp_path / "seed.sql").write_text("insert into a values (1)")
    (tmp_path / "roles.sql").write_text("create role nobody_made_this")
    seeds = (SeedFile("supabase/seed.sql", tmp_path / "seed.sql"),)
    report = await push(
        server.dsn(database_name),
        files,
        seeds=seeds,
        roles=tmp_path / "roles.sql",
        include_seed=True,
        include_roles=True,
        dry_run=True,
    )
    assert report.dry_run
    assert report.plan.render() == (
        "Would create custom roles from roles.sql\n"
        "Would push these migrations:\n • 1_a.sql\n"
        "Would seed these files:\n • supabase/seed.sql"
    )
    assert await fetch(server, database_name, "select to_regclass('supabase_migrations.schema_migrations')") == [
        (None,)
    ]
    without = await plan_push(server.dsn(database_name), files, seeds=seeds, roles=tmp_path / "roles.sql")
    assert without.render() == "Would push these migrations:\n • 1_a.sql"


async def test_seeds_run_once_and_later_only_their_hash_changes(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(tmp_path / "migrations", v1_a="create table a (id int)")
    seed = tmp_path / "seed.sql"
    seeds = (SeedFile("supabase/seed.sql", seed),)

    async def seed_with(sql: str) -> list[str]:
        seed.write_text(sql)
        said: list[str] = []
        await push(server.dsn(database_name), files, seeds=seeds, include_seed=True, progress=said.append)
        digest = hashlib.sha256(sql.encode()).hexdigest()
        assert await fetch(server, database_name, "select * from supabase_migrations.seed_files") == [
            ("supabase/seed.sql", digest)
        ]
        return said

    assert await seed_with("insert into a values (1);") == [
        "Applying migration 1_a.sql...",
        "Seeding data from supabase/seed.sql...",
    ]
    assert await seed_with("insert into a values (1);") == []
    assert await seed_with("insert into a values (2);") == ["Updating seed hash to supabase/seed.sql..."]
    assert await fetch(server, database_name, "select id from a") == [(1,)]


async def test_a_dump_with_lines_of_data_is_a_seed(server: TestServer, database_name: str, tmp_path: Path) -> None:
    files = write(tmp_path / "migrations", v1_a="create table a (id int, name text)")
    seed = tmp_path / "seed.sql"
    seed.write_text("COPY public.a (id, name) FROM stdin;\n1\tit's; $$\n2\t\\N\n\\.\n\nselect pg_sleep(0);\n")
    seeds = (SeedFile("supabase/seed.sql", seed),)
    await push(server.dsn(database_name), files, seeds=seeds, include_seed=True)
    assert await fetch(server, database_name, "select * from a order by id") == [(1, "it's; $$"), (2, None)]
    seed.write_text("copy a from stdin;\nx\ty\n\\.\n")
    with pytest.raises(StatementFailed, match="22P02"):
        await push(server.dsn(database_name), files, seeds=(SeedFile("b", seed),), include_seed=True)
    seed.write_text("copy a from stdin with (format csv);\n1,2\n\\.\n")
    with pytest.raises(CopyNotUnderstood, match="format csv"):
        await push(server.dsn(database_name), files, seeds=(SeedFile("b", seed),), include_seed=True)


async def test_a_refused_seed_leaves_nothing(server: TestServer, database_name: str, tmp_path: Path) -> None:
    files = write(tmp_path / "migrations", v1_a="create table a (id int)")
    (tmp_path / "s.sql").write_text("insert into a values (1); insert into b values (1)")
    seeds = (SeedFile("supabase/s.sql", tmp_path / "s.sql"),)
    with pytest.raises(StatementFailed, match=r"supabase/s\.sql: ERROR.*42P01"):
        await push(server.dsn(database_name), files, seeds=seeds, include_seed=True)
    assert await fetch(server, database_name, "select count(*) from a") == [(0,)]


async def test_roles_come_first_and_are_not_recorded(server: TestServer, database_name: str, tmp_path: Path) -> None:
    roles = tmp_path / "roles.sql"
    roles.write_text(
        "do $$ begin if to_regrole('history_test_role') is null then create role history_test_role; end if; end $$"
    )
    files = write(tmp_path / "migrations", v1_a="create table a (id int); grant select on a to history_test_role")
    await push(server.dsn(database_name), files, roles=roles, include_roles=True)
    assert len(await fetch(server, database_name, HISTORY)) == 1


async def test_notices_are_passed_on(server: TestServer, database_name: str, tmp_path: Path) -> None:
    said: list[str] = []
    files = write(tmp_path, v1_a="do $$ begin raise notice 'slow part'; raise warning 'careful'; end $$")
    await push(server.dsn(database_name), files, progress=said.append)
    assert said[1:] == ["NOTICE: slow part", "WARNING: careful"]


async def test_two_pushes_at_once_apply_each_file_once(server: TestServer, database_name: str, tmp_path: Path) -> None:
    files = write(tmp_path, v1_a="create table a (id int); select pg_sleep(0.1)", v2_b="insert into a values (1)")
    reports = await asyncio.gather(*(push(server.dsn(database_name), files) for _ in range(3)))
    assert sorted(len(report.plan.migrations) for report in reports) == [0, 0, 2]
    assert await fetch(server, database_name, "select count(*) from a") == [(1,)]


async def test_a_connection_that_breaks_is_a_plain_error(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(tmp_path, v1_a="create table a (id int); select pg_terminate_backend(pg_backend_pid()); select 1")
    with pytest.raises((DatabaseUnreachable, StatementFailed), match=r"57P01|was lost"):
        await push(server.dsn(database_name, "postgres"), files)
    assert await fetch(server, database_name, "select to_regclass('a') is null") == [(True,)]


async def test_a_history_that_is_closed_to_us_is_a_plain_error(server: TestServer, database_name: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"permission denied for schema supabase_migrations \(SQLSTATE 42501\)"):
        await plan_push(server.dsn(database_name, "supabase_storage_admin"), ())


async def test_a_file_that_is_no_text_is_named(server: TestServer, database_name: str, tmp_path: Path) -> None:
    (tmp_path / "1_a.sql").write_bytes(b"select '\xff'")
    with pytest.raises(MigrationFileInvalid, match=r"1_a\.sql: not UTF-8"):
        await push(server.dsn(database_name), load_migration_files(tmp_path)[0])


async def test_a_stock_project_with_its_extensions_and_seeded_users(
    server: TestServer, database_name: str, tmp_path: Path
) -> None:
    files = write(
        tmp_path / "migrations",
        v1_extensions='create extension if not exists "uuid-ossp" with schema extensions;\n'
        "create extension if not exists pgcrypto with schema extensions;\n"
        "create table todos (\n"
        "  id uuid primary key default extensions.uuid_generate_v4(), owner uuid references auth.users\n);",
    )
    user = "6e2f3c4a-8e0b-4b53-9d4c-0f2b0a3f6f11"
    identity = json.dumps({"sub": user, "email": "a@b.c"})
    (tmp_path / "seed.sql").write_text(
        "insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, "
        "raw_app_meta_data, raw_user_meta_data, created_at, updated_at) values "
        f"('00000000-0000-0000-0000-000000000000', '{user}', 'authenticated', 'authenticated', 'a@b.c', "
        "crypt('password', gen_salt('bf', 4)), now(), '{\"provider\":\"email\"}', '{}', now(), now());\n"
        "insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at) values "
        f"('{user}', '{user}', '{identity}', 'email', now(), now());\n"
        f"insert into todos (owner) values ('{user}');\n"
    )
    seeds = (SeedFile("supabase/seed.sql", tmp_path / "seed.sql"),)
    await push(server.dsn(database_name), files, seeds=seeds, include_seed=True)
    [(password, email, identity_email, todos)] = await fetch(
        server,
        database_name,
        "select u.encrypted_password, u.email, i.email, (select count(*) from todos where owner = u.id) "
        "from auth.users u join auth.identities i on i.user_id = u.id",
    )
    assert (email, identity_email, todos) == ("a@b.c", "a@b.c", 1)
    import bcrypt

    assert isinstance(password, str)
    assert bcrypt.checkpw(b"password", password.encode())


@pytest.mark.parametrize(
    ("statement", "position", "shown"),
    [
        ("select x", 8, "select x\n       ^"),
        ("select x", 9, "select x\n        ^"),
        ("select\n  x,\n  y", 10, "select\n  x,\n  ^"),
        ("select\n  x,\n  y", 15, "select\n  x,\n  y\n  ^"),
        ("é x", 3, "é x\n  ^"),
        ("select x", None, "select x"),
        ("select x", 99, "select x"),
    ],
)
def test_the_caret_stands_below_its_character(statement: str, position: int | None, shown: str) -> None:
    assert mark_position(statement, position) == shown
