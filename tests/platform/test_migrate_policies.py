"""Declared policies: what a file may say, what applying it changes, and what is left alone."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from harness.postgres import TestServer
from socle_platform.migrate import PolicyFile, PolicyFileInvalid, StatementFailed, apply_policies
from socle_platform.migrate.policy_files import Declared, parse_declaration, parse_policy_file

NOTES = """
alter table notes enable row level security;
create policy "own notes" on notes for select to authenticated using (owner = auth.uid());
create policy writers on public.notes for insert to authenticated with check (owner = auth.uid());
grant select, insert (owner, body) on notes to authenticated;
revoke all on notes from anon;
comment on policy writers on notes is 'x';
"""


@pytest.fixture
async def notes(server: TestServer, database_name: str) -> str:
    """The URL of a database with a table notes."""
    connection = await asyncpg.connect(server.dsn(database_name, "postgres"))
    await connection.execute(
        "create table notes (id int generated always as identity, owner uuid, body text, paid bool)"
    )
    await connection.close()
    return server.dsn(database_name)


async def fetch(dsn: str, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def policies(dsn: str) -> list[object]:
    return [row[0] for row in await fetch(dsn, "select policyname::text from pg_policies order by 1")]


def notes_file(sql: str = NOTES) -> PolicyFile:
    return parse_policy_file("policies/notes.sql", sql)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("create policy p on t using (true)", [("policy", (None, "t"), "p")]),
        (
            'CREATE POLICY "My ""own"" rows"\nON storage.objects FOR SELECT',
            [("policy", ("storage", "objects"), 'My "own" rows')],
        ),
        ('create policy P on "S"."T"', [("policy", ("S", "T"), "p")]),
        ("create /* x */ policy p -- y\n on t", [("policy", (None, "t"), "p")]),
        ("alter table t enable row level security", [("row security", (None, "t"), "")]),
        ("alter table if exists only a.t no force row level security", [("row security", ("a", "t"), "")]),
        ("grant select on t to anon", [("grants", (None, "t"), "anon")]),
        (
            'grant select, update (a, "on") on table a.t, b to anon, group authenticated with grant option',
            [
                ("grants", ("a", "t"), "anon"),
                ("grants", ("a", "t"), "authenticated"),
                ("grants", (None, "b"), "anon"),
                ("grants", (None, "b"), "authenticated"),
            ],
        ),
        ("revoke all privileges on t from public", [("grants", (None, "t"), "public")]),
        ("comment on policy p on t is 'x'", []),
    ],
)
def test_what_a_statement_declares(statement: str, expected: list[tuple[str, tuple[str | None, str], str]]) -> None:
    assert [(one.kind, one.table, one.name) for one in parse_declaration(statement)] == expected


@pytest.mark.parametrize(
    "statement",
    [
        "drop table t",
        "create table t (a int)",
        "create policy",
        "create policy p for select",
        "alter table t add column a int",
        "grant anon to authenticated",
        "grant usage on schema public to anon",
        "grant select on all tables in schema public to anon",
        "grant execute on function f() to anon",
        "revoke usage on sequence s from anon",
        "grant select on t",
        "select 1",
        "do $$ begin end $$",
    ],
)
def test_anything_else_is_refused(statement: str) -> None:
    with pytest.raises(PolicyFileInvalid, match=r"(?s)^x\.sql: .*At statement: 1"):
        parse_policy_file("x.sql", f"grant select on t to anon; {statement};")


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(PolicyFileInvalid, match="declared twice"):
        parse_policy_file("x.sql", "create policy p on t; create policy p on t")
    assert len(parse_policy_file("x.sql", "create policy p on t; create policy p on u").declared) == 2


async def test_a_file_is_applied_and_reported(notes: str) -> None:
    report = await apply_policies(notes, [notes_file()])
    assert [(change.kind, change.name, change.outcome) for change in report.changes] == [
        ("row security", "", "changed"),
        ("policy", "own notes", "created"),
        ("policy", "writers", "created"),
        ("grants", "authenticated", "changed"),
        ("grants", "anon", "changed"),
    ]
    assert report.render().splitlines()[1:3] == [
        '  created policy "own notes" on notes',
        '  created policy "writers" on public.notes',
    ]
    assert report.render().splitlines()[-1] == "Policies: 2 created, 3 changed, 0 removed, 0 unchanged."
    rights = await fetch(
        notes,
        "select has_table_privilege('anon', 'notes', 'select'), "
        "has_table_privilege('authenticated', 'notes', 'delete'), "
        "has_column_privilege('authenticated', 'notes', 'body', 'insert'), "
        "has_column_privilege('authenticated', 'notes', 'paid', 'insert'), "
        "has_table_privilege('service_role', 'notes', 'delete')",
    )
    assert rights == [(False, False, True, False, True)]


async def test_an_unchanged_file_takes_no_lock(notes: str) -> None:
    await apply_policies(notes, [notes_file()])
    connection = await asyncpg.connect(notes)
    async with connection.transaction():
        await connection.execute("lock table notes in access share mode")
        report = await asyncio.wait_for(apply_policies(notes, [notes_file()]), 5)
    await connection.close()
    assert report.is_unchanged
    assert report.count("unchanged") == 5


async def test_a_change_is_told_apart_from_what_stays(notes: str) -> None:
    await apply_policies(notes, [notes_file()])
    changed = NOTES.replace("for select to authenticated", "for select to anon, authenticated").replace(
        "select, insert", "insert"
    )
    report = await apply_policies(notes, [notes_file(changed)])
    assert {(change.name, change.outcome) for change in report.changes} == {
        ("", "unchanged"),
        ("own notes", "changed"),
        ("writers", "unchanged"),
        ("authenticated", "changed"),
        ("anon", "unchanged"),
    }
    assert await fetch(notes, "select has_table_privilege('authenticated', 'notes', 'select')") == [(False,)]


@pytest.mark.parametrize(
    "meddling",
    [
        "drop policy writers on notes",
        "alter policy writers on notes with check (true)",
        "grant update on notes to anon",
        "alter table notes disable row level security",
    ],
)
async def test_what_somebody_changed_by_hand_is_put_back(
    notes: str, server: TestServer, database_name: str, meddling: str
) -> None:
    await apply_policies(notes, [notes_file()])
    await server.run(database_name, meddling)
    report = await apply_policies(notes, [notes_file()])
    assert not report.is_unchanged
    assert await policies(notes) == ["own notes", "writers"]
    assert (await apply_policies(notes, [notes_file()])).is_unchanged
    assert await fetch(
        notes, "select with_check like '(owner = %uid())' from pg_policies where policyname = 'writers'"
    ) == [(True,)]
    assert await fetch(
        notes,
        "select has_table_privilege('anon', 'notes', 'update'), relrowsecurity from pg_class where relname = 'notes'",
    ) == [(False, True)]


async def test_what_a_file_no_longer_declares_is_removed(notes: str) -> None:
    await apply_policies(notes, [notes_file()])
    less = 'create policy "own notes" on notes for select to authenticated using (owner = auth.uid());'
    report = await apply_policies(notes, [notes_file(less)])
    # anon has no rights left that could be taken; row-level security stays on.
    assert [(one.kind, one.name) for one in report.changes if one.outcome == "removed"] == [
        ("policy", "writers"),
        ("grants", "authenticated"),
    ]
    assert await policies(notes) == ["own notes"]
    assert await fetch(notes, "select relrowsecurity from pg_class where relname = 'notes'") == [(True,)]
    assert await fetch(notes, "select has_table_privilege('authenticated', 'notes', 'select')") == [(False,)]


async def test_a_file_that_is_gone_takes_its_policies_along(notes: str) -> None:
    other = parse_policy_file("policies/other.sql", "create policy reads on storage.objects for select using (true)")
    await apply_policies(notes, [notes_file(), other])
    report = await apply_policies(notes, [notes_file()])
    assert [(one.file, one.name) for one in report.changes if one.outcome == "removed"] == [
        ("policies/other.sql", "reads")
    ]
    assert await policies(notes) == ["own notes", "writers"]
    assert (await apply_policies(notes, [notes_file()])).is_unchanged


async def test_a_policy_may_move_to_another_file(notes: str) -> None:
    await apply_policies(notes, [notes_file()])
    moved = parse_policy_file("policies/a.sql", NOTES)
    report = await apply_policies(notes, [moved])
    assert report.count("removed") == 0
    assert await policies(notes) == ["own notes", "writers"]


async def test_policies_that_no_file_declared_stay(notes: str, server: TestServer, database_name: str) -> None:
    await server.run(database_name, "create policy by_hand on notes using (true)")
    await apply_policies(notes, [notes_file()])
    await apply_policies(notes, [])
    assert await policies(notes) == ["by_hand"]


async def test_a_policy_of_a_migration_is_taken_over(notes: str, server: TestServer, database_name: str) -> None:
    await server.run(
        database_name, "create policy writers on notes for insert to authenticated with check (owner = auth.uid())"
    )
    report = await apply_policies(notes, [notes_file()])
    assert next(change for change in report.changes if change.name == "writers").outcome == "unchanged"


async def test_an_error_changes_nothing(notes: str) -> None:
    await apply_policies(notes, [notes_file()])
    wrong = NOTES.replace('create policy "own notes"', 'create policy "renamed"').replace("body) on", "nobody) on")
    with pytest.raises(StatementFailed, match=r"(?s)policies/notes\.sql: ERROR.*42703.*At statement: 3"):
        await apply_policies(notes, [notes_file(wrong)])
    assert await policies(notes) == ["own notes", "writers"]
    with pytest.raises(StatementFailed, match="42P01"):
        await apply_policies(notes, [notes_file("create policy p on missing_table using (true)")])


async def test_the_official_reset_is_repaired(notes: str, server: TestServer, database_name: str) -> None:
    await apply_policies(notes, [notes_file()])
    await server.run(
        database_name,
        "drop policy writers on notes",
        'drop policy "own notes" on notes',
        "truncate supabase_migrations.policy_files",
    )
    await apply_policies(notes, [notes_file()])
    assert await policies(notes) == ["own notes", "writers"]


async def test_two_runs_at_once(notes: str) -> None:
    reports = await asyncio.gather(*(apply_policies(notes, [notes_file()]) for _ in range(3)))
    assert sorted(report.count("created") for report in reports) == [0, 0, 2]


def test_a_thing_is_known_by_kind_table_and_name() -> None:
    assert Declared("policy", (None, "t"), "p") == Declared("policy", (None, "t"), "p")
    assert Declared("policy", (None, "t"), "p") != Declared("grants", (None, "t"), "p")
