"""A project's migrations and seeds: what is pending, and pushing it, with the history that the official CLI keeps.

History: `supabase_migrations.schema_migrations(version, statements, name)` and `supabase_migrations.seed_files(path,
hash)` (contract cli.md §3).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from socle_platform.errors import SocleError
from socle_platform.migrate.failures import StatementFailed
from socle_platform.migrate.quoting import quote_literal
from socle_platform.migrate.session import Connect, Operator, acting_as_operator
from socle_platform.migrate.sources import MigrationFile, SeedFile, read_sql
from socle_platform.migrate.splitter import CopyData, parse_copy, split_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_Record: TypeAlias = tuple[str, tuple[object, ...]]

_NOT_IN_A_TRANSACTION = "25001"

_ENSURE_HISTORY = """
set lock_timeout = '4s';
set client_min_messages = warning;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
create table if not exists supabase_migrations.seed_files (path text not null primary key, hash text not null);
"""
_RECORD = "insert into supabase_migrations.schema_migrations (version, name, statements) values ($1, $2, $3)"
_RECORD_SEED = """
insert into supabase_migrations.seed_files (path, hash) values ($1, $2)
on conflict (path) do update set hash = excluded.hash
"""


class RemoteVersionsUnknown(SocleError):
    """The database has migrations that this folder lacks."""

    def __init__(self, versions: Sequence[str]) -> None:
        self.versions = tuple(versions)
        listed = ", ".join(quote_literal(version) for version in versions)
        super().__init__(
            "Remote migration versions not found in local migrations directory.\n\n"
            "Bring the folder up to date. If the history itself is wrong, repair it:\n"
            f"  delete from supabase_migrations.schema_migrations where version in ({listed});"
        )


class MigrationsOutOfOrder(SocleError):
    """Some migrations are older than the newest applied one."""

    def __init__(self, migrations: Sequence[MigrationFile]) -> None:
        self.migrations = tuple(migrations)
        listed = "\n".join(f"  {migration.title}" for migration in migrations)
        super().__init__(
            "Found local migration files to be inserted before the last migration on remote database.\n\n"
            f"Run again with --include-all to apply them too:\n{listed}"
        )


class CopyNotUnderstood(SocleError):
    """COPY FROM stdin in a file has options that are not understood."""


@dataclass(frozen=True, slots=True)
class PlannedSeed:
    """A seed to be recorded: `runs` is false where only the hash changes, because it was run before."""

    seed: SeedFile
    hash: str
    runs: bool


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push will do, in this order: roles file, migrations, seeds."""

    migrations: tuple[MigrationFile, ...] = ()
    seeds: tuple[PlannedSeed, ...] = ()
    roles: Path | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return not (self.migrations or self.seeds or self.roles)

    def render(self) -> str:
        """The plan as `push --dry-run` prints it."""
        parts: list[str] = []
        if self.roles:
            parts.append(f"Would create custom roles from {self.roles.name}")
        if self.migrations:
            parts += ["Would push these migrations:", *(f" • {migration.title}" for migration in self.migrations)]
        if self.seeds:
            parts += [
                "Would seed these files:",
                *(f" • {one.seed.path}{'' if one.runs else ' (hash update)'}" for one in self.seeds),
            ]
        return "\n".join(parts)


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did. `dry_run`: nothing, this is what it would have done."""

    plan: PushPlan
    dry_run: bool
    operator: str


def plan_migrations(
    applied: Sequence[str], local: Sequence[MigrationFile], *, include_all: bool = False
) -> tuple[MigrationFile, ...]:
    """The migrations to apply, by walking both sorted lists of versions side by side. Pure.

    Raises RemoteVersionsUnknown where an applied version has no file, MigrationsOutOfOrder where a file without a
    record is older than a recorded one and `include_all` was not asked for.
    """
    known = {migration.version for migration in local}
    unknown = [version for version in sorted(applied) if version not in known]
    if unknown:
        raise RemoteVersionsUnknown(unknown)
    done = set(applied)
    pending = tuple(m for m in sorted(local, key=lambda m: m.version) if m.version not in done)
    newest = max(applied, default="")
    late = tuple(migration for migration in pending if migration.version < newest)
    if late and not include_all:
        raise MigrationsOutOfOrder(late)
    return pending


async def plan_push(
    target: Connect,
    migrations: Sequence[MigrationFile],
    *,
    seeds: Sequence[SeedFile] = (),
    roles: Path | None = None,
    include_all: bool = False,
    include_seed: bool = False,
    include_roles: bool = False,
) -> PushPlan:
    """What `push` with the same arguments would do. Changes nothing.

    Raises as `plan_migrations`, DatabaseUnreachable, MigrationFileInvalid.
    """
    async with acting_as_operator(target, progress=_quiet, lock=False) as operator:
        return await _plan(
            operator,
            migrations,
            seeds if include_seed else (),
            roles if include_roles else None,
            include_all=include_all,
        )


async def push(
    target: Connect,
    migrations: Sequence[MigrationFile],
    *,
    seeds: Sequence[SeedFile] = (),
    roles: Path | None = None,
    include_all: bool = False,
    include_seed: bool = False,
    include_roles: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
    roles_made: Callable[[], None] | None = None,
) -> PushReport:
    """Apply what is pending as the operator: each file in one transaction together with its record.

    A file whose only statement refuses to run in a transaction (`create index concurrently`) runs outside one.
    Two pushes at once wait for each other. `roles_made` is called once the file of roles ran: they are not recorded,
    and stay whatever happens to the migrations behind them. Raises StatementFailed (files before the failing one stay
    applied), and as `plan_push`.
    """
    say = progress or _quiet
    async with acting_as_operator(target, progress=say, lock=not dry_run) as operator:
        plan = await _plan(
            operator,
            migrations,
            seeds if include_seed else (),
            roles if include_roles else None,
            include_all=include_all,
        )
        if not dry_run and not plan.is_empty:
            await _ensure_history(operator)
            if plan.roles:
                say(f"Creating custom roles from {plan.roles.name}...")
                await _run_file(operator, plan.roles.name, read_sql(plan.roles), None)
                if roles_made:
                    roles_made()
            for migration in plan.migrations:
                say(f"Applying migration {migration.title}...")
                await _apply(operator, migration)
            for planned in plan.seeds:
                say(f"{'Seeding data from' if planned.runs else 'Updating seed hash to'} {planned.seed.path}...")
                sql = read_sql(planned.seed.file) if planned.runs else ""
                record = (_RECORD_SEED, (planned.seed.path, planned.hash))
                await _run_file(operator, planned.seed.path, sql, record)
        return PushReport(plan=plan, dry_run=dry_run, operator=operator.role)


def _quiet(_message: str) -> None:
    return None


async def _plan(
    operator: Operator,
    migrations: Sequence[MigrationFile],
    seeds: Sequence[SeedFile],
    roles: Path | None,
    *,
    include_all: bool,
) -> PushPlan:
    applied = await _read_rows(operator, "select version, '' from supabase_migrations.schema_migrations")
    recorded = await _read_rows(operator, "select path, hash from supabase_migrations.seed_files") if seeds else {}
    hashed = [(seed, hashlib.sha256(_bytes(seed)).hexdigest()) for seed in seeds]
    return PushPlan(
        migrations=plan_migrations(list(applied), migrations, include_all=include_all),
        seeds=tuple(
            PlannedSeed(seed, digest, runs=seed.path not in recorded)
            for seed, digest in hashed
            if recorded.get(seed.path) != digest
        ),
        roles=roles,
    )


def _bytes(seed: SeedFile) -> bytes:
    read_sql(seed.file)  # raises where the file cannot be read
    return seed.file.read_bytes()


async def _read_rows(operator: Operator, query: str) -> dict[str, str]:
    """Rows of two texts; none where the table is missing (42P01 means that nothing was pushed yet)."""
    try:
        return {row[0]: row[1] for row in await operator.connection.fetch(query)}
    except asyncpg.UndefinedTableError:
        return {}


async def _ensure_history(operator: Operator) -> None:
    connection = operator.connection
    if await connection.fetchval("select to_regnamespace('supabase_migrations') is null"):
        await connection.execute("create schema if not exists supabase_migrations")
    await connection.execute(_ENSURE_HISTORY)


async def _apply(operator: Operator, migration: MigrationFile) -> None:
    sql = migration.read()
    statements = [statement.text for statement in split_statements(sql)]
    await _run_file(operator, migration.title, sql, (_RECORD, (migration.version, migration.name, statements)))


async def _run_file(operator: Operator, title: str, sql: str, record: _Record | None) -> None:
    """Run a file's statements and its record in one transaction, statement by statement."""
    statements = [(statement.text, sql.count("\n", 0, statement.start) + 1) for statement in split_statements(sql)]
    try:
        await _run_statements(operator, title, statements, record, in_transaction=True)
    except StatementFailed as failure:
        if failure.sqlstate != _NOT_IN_A_TRANSACTION or len(statements) != 1:
            raise
        await _run_statements(operator, title, statements, record, in_transaction=False)


async def _run_statements(
    operator: Operator,
    title: str,
    statements: Sequence[tuple[str, int]],
    record: _Record | None,
    *,
    in_transaction: bool,
) -> None:
    """`statements` with the line of the file that each begins at."""
    connection = operator.connection
    await operator.reset()
    if in_transaction:
        await connection.execute("begin")
    for index, (statement, line) in enumerate(statements):
        await _run_statement(operator, title, index, statement, line=line)
    if record:
        # What the file set must not bear on its record.
        await _run_statement(operator, title, len(statements), operator.take_role())
        await _run_statement(operator, title, len(statements), *record)
    if connection.is_in_transaction():
        # Deferred constraints speak up here.
        await _run_statement(operator, title, len(statements), "commit")


async def _run_statement(
    operator: Operator,
    title: str,
    index: int,
    statement: str,
    arguments: Sequence[object] = (),
    *,
    line: int | None = None,
) -> None:
    connection = operator.connection
    try:
        if (copy := parse_copy(statement)) is not None:
            await _copy(operator, title, copy)
        else:
            await connection.execute(statement, *arguments)
    except asyncpg.PostgresError as error:
        if connection.is_in_transaction():
            await connection.execute("rollback")
        raise StatementFailed(title, index, statement.strip(), error, line) from error


async def _copy(operator: Operator, title: str, copy: CopyData) -> None:
    if copy.options:
        raise CopyNotUnderstood(
            f"{title}: COPY {copy.table} FROM stdin is understood without options only, not with {copy.options}"
        )
    await operator.connection.copy_to_table(
        copy.table, schema_name=copy.schema, columns=copy.columns, source=io.BytesIO(copy.data.encode())
    )
