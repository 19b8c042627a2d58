"""Brings a database to the state the platform needs: roles, schemas, tables, functions, rights.

Forward only. Every file of migrations/platform is applied once, in order, in one transaction with its record in
`socle.migrations`; two nodes that start at once wait for each other on an advisory lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from socle_platform.errors import SocleError
from socle_platform.migrate.passwords import scram_verifier, verify_scram
from socle_platform.migrate.quoting import quote_identifier, quote_literal
from socle_platform.migrate.rights import PLATFORM_ROLES, MissingRight, MissingRights, load_facts, missing_rights
from socle_platform.migrate.session import Connect, connect, own_errors
from socle_platform.migrate.sources import PlatformMigration, load_platform_migrations
from socle_platform.migrate.splitter import split_statements

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from asyncpg import Connection as DriverConnection

#: Key of the advisory lock: the first eight bytes of SHA-256("socle bootstrap").
LOCK_KEY = 0x5AE1_09C3_70D4_2B16

_ATTEMPTS = 6
_OLDEST_SERVER = 150000
#: Cluster-wide catalogs (roles, memberships) know no advisory lock across databases: these mean "try again".
_COLLISIONS = ("XX000", "23505", "40P01", "40001")
#: duplicate_object, duplicate_table, duplicate_function, duplicate_schema
_ALREADY_THERE = ("42710", "42P07", "42723", "42P06")

_STATUS = """
select current_user::text as role, r.rolsuper as superuser, current_database()::text as database,
       current_setting('server_version_num')::int as server_version,
       (select not x.rolsuper and pg_has_role(current_user, x.oid, 'member')
        from pg_roles as x where x.rolname = 'postgres') as may_act_as_postgres,
       exists (select from pg_event_trigger where evtname = 'pgrst_ddl_watch' and evtenabled in ('O', 'A')) as notifies,
       (select count(*) from pg_roles as x where x.rolname = any($1::text[])) as role_count,
       {history}
from pg_roles as r
where r.rolname = current_user
"""
_WITH_HISTORY = """
       (select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'supabase_migrations') as operator,
       (select json_object_agg(version, checksum)::text from socle.migrations) as applied
"""
_WITHOUT_HISTORY = "null::text as operator, null::text as applied"

_SESSION = """
set local search_path = '';
set local client_min_messages = warning;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
"""


_READ_PASSWORDS = """
select rolname::text as role, rolsuper, rolpassword, true as settable
from pg_catalog.pg_authid where rolname = any($1::text[])
"""
#: Without superuser rights nobody reads passwords, so what is asked for is set each time.
_UNREAD_PASSWORDS = """
select rolname::text as role, rolsuper, null::text as rolpassword,
       case when current_setting('server_version_num')::int >= 160000
         then pg_has_role(current_user, oid, 'member with admin option')
         else not rolreplication
           and (select me.rolcreaterole from pg_catalog.pg_roles as me where me.rolname = current_user)
       end as settable
from pg_catalog.pg_roles where rolname = any($1::text[]) and rolname <> current_user
"""


class MigrationChanged(SocleError):
    """A platform migration was changed after it had been applied."""


class MigrationFailed(SocleError):
    """A platform migration could not be applied."""


class ServerTooOld(SocleError):
    """The server is older than PostgreSQL 15."""


@dataclass(frozen=True, slots=True)
class BootstrapReport:
    """What a bootstrap did and found.

    `applied` names the migrations of this run; `operator` is the role that owns the project's own objects and runs its
    migrations; `schema_reload` says how the REST service learns of changes ("poll" where event triggers are missing);
    `passwords_set` names roles that got a new password.
    """

    operator: str
    role: str
    superuser: bool
    database: str
    server_version: int
    schema_reload: Literal["notify", "poll"]
    applied: tuple[str, ...] = ()
    passwords_set: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class _Status:
    role: str
    superuser: bool
    database: str
    server_version: int
    operator: str
    notifies: bool
    roles_complete: bool
    applied: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class _Passwords:
    changed: tuple[str, ...]
    refused: tuple[str, ...]


def _quiet(_message: str) -> None:
    return None


async def ensure_platform(
    target: Connect,
    *,
    passwords: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = _quiet,
    root: Path | None = None,
) -> BootstrapReport:
    """Bring the database to the newest platform migration; with nothing to do this is one query.

    `passwords` maps roles to the passwords they shall have. They are sent as verifiers. The password of a superuser is
    left alone, except that of supabase_admin by itself (the embedded server).

    Raises MissingRights (naming each right and its statement), MigrationChanged, MigrationFailed, ServerTooOld,
    DatabaseUnreachable, DatabaseRefused.
    """
    started = time.monotonic()
    migrations = load_platform_migrations(root)
    connection = await connect(target)
    try:
        with own_errors():
            report = await _until_undisturbed(lambda: _ensure(connection, migrations, passwords or {}, progress))
    finally:
        await connection.close()
    return replace(report, seconds=time.monotonic() - started)


async def _until_undisturbed(attempt: Callable[[], Awaitable[BootstrapReport]]) -> BootstrapReport:
    """Try again when another database of the server is being bootstrapped at the same moment."""
    for number in range(_ATTEMPTS):
        try:
            return await attempt()
        except asyncpg.PostgresError as error:
            if error.sqlstate not in _COLLISIONS:
                raise
            await asyncio.sleep(0.05 * 2**number)
    return await attempt()


async def _ensure(
    connection: DriverConnection[Any],
    migrations: Sequence[PlatformMigration],
    passwords: Mapping[str, str],
    progress: Callable[[str], None],
) -> BootstrapReport:
    status = await _load_status(connection)
    pending = _pending(migrations, status)
    applied: tuple[str, ...] = ()
    if pending:
        async with connection.transaction():
            await connection.execute(_SESSION)
            await connection.execute("select pg_catalog.pg_advisory_xact_lock($1)", LOCK_KEY)
            status = await _load_status(connection)
            pending = _pending(migrations, status)
            if pending and not status.superuser:
                await _verify_rights(connection, status)
            await _apply(connection, pending, status, progress)
            passed = await _ensure_passwords(connection, status, passwords)
        applied = tuple(migration.title for migration in pending)
        status = await _load_status(connection)
    else:
        passed = await _ensure_passwords(connection, status, passwords)
    return BootstrapReport(
        operator=status.operator,
        role=status.role,
        superuser=status.superuser,
        database=status.database,
        server_version=status.server_version,
        schema_reload="notify" if status.notifies else "poll",
        applied=applied,
        passwords_set=passed.changed,
        warnings=_warnings(migrations, status, passed.refused),
    )


async def _load_status(connection: DriverConnection[Any]) -> _Status:
    # Inside a transaction a savepoint lets the look-up fail; outside none is needed.
    guard = connection.transaction() if connection.is_in_transaction() else contextlib.nullcontext()
    try:
        async with guard:
            row = await connection.fetchrow(_STATUS.format(history=_WITH_HISTORY), list(PLATFORM_ROLES))
    except asyncpg.UndefinedTableError:
        row = await connection.fetchrow(_STATUS.format(history=_WITHOUT_HISTORY), list(PLATFORM_ROLES))
    except asyncpg.InsufficientPrivilegeError as error:
        role = str(await connection.fetchval("select current_user::text"))
        raise MissingRights(role, [_membership("supabase_admin", role)]) from error
    assert row is not None
    if row["server_version"] < _OLDEST_SERVER:
        raise ServerTooOld(f"PostgreSQL {row['server_version'] // 10000} is too old: 15 to 18 are supported")
    operator = row["operator"]
    if operator is None:
        operator = "postgres" if row["superuser"] or row["may_act_as_postgres"] else row["role"]
    applied = {int(version): checksum for version, checksum in json.loads(row["applied"] or "{}").items()}
    return _Status(
        role=row["role"],
        superuser=row["superuser"],
        database=row["database"],
        server_version=row["server_version"],
        operator=operator,
        notifies=row["notifies"],
        roles_complete=row["role_count"] == len(PLATFORM_ROLES),
        applied=applied,
    )


def _membership(granted: str, role: str) -> MissingRight:
    return MissingRight(
        f"membership in role {quote_identifier(granted)}",
        f"grant {quote_identifier(granted)} to {quote_identifier(role)} with admin option;",
    )


def _pending(migrations: Sequence[PlatformMigration], status: _Status) -> tuple[PlatformMigration, ...]:
    """What is to be applied, in order.

    Raises MigrationChanged when an applied file is no longer what it was.
    """
    changed = [m.title for m in migrations if status.applied.get(m.version, m.checksum) != m.checksum]
    if changed:
        raise MigrationChanged(
            f"applied platform migrations are not what they were: {', '.join(changed)}. "
            "They are never edited after release; put the released files back."
        )
    return tuple(
        migration
        for migration in migrations
        if (migration.version not in status.applied and (status.superuser or not migration.superuser))
        or (migration.cluster and not status.roles_complete)
    )


def _warnings(migrations: Sequence[PlatformMigration], status: _Status, refused: Sequence[str]) -> tuple[str, ...]:
    warnings: list[str] = []
    if not status.notifies:
        warnings.append(
            "no event triggers: schema changes are noticed by polling "
            "(`socle bootstrap --print-sql` prints what a superuser runs once to have them noticed at once)"
        )
    if refused:
        warnings.append(f"no right to set the passwords of {', '.join(refused)}: an administrator has to")
    newer = sorted(set(status.applied) - {migration.version for migration in migrations})
    if newer:
        warnings.append(f"the database was migrated by a newer version of Socle (platform migration {newer[-1]})")
    return tuple(warnings)


async def _verify_rights(connection: DriverConnection[Any], status: _Status) -> None:
    missing = missing_rights(await load_facts(connection, status.role, status.database, status.server_version))
    if missing:
        raise MissingRights(status.role, missing)


async def _apply(
    connection: DriverConnection[Any],
    pending: Sequence[PlatformMigration],
    status: _Status,
    progress: Callable[[str], None],
) -> None:
    variables = {"operator": status.operator, "database": status.database}
    for migration in pending:
        progress(f"platform migration {migration.title}")
        script = migration.render(variables)
        if migration.version not in status.applied:
            record = ", ".join(
                (str(migration.version), quote_literal(migration.name), quote_literal(migration.checksum))
            )
            # 0001 comes before the table that records it.
            if migration.version > 1:
                script += f"\ninsert into socle.migrations (version, name, checksum) values ({record});"
        try:
            await connection.execute(script)
        except asyncpg.PostgresError as error:
            if error.sqlstate in _COLLISIONS:
                raise
            raise _failure(migration, script, status, error) from error
    unrecorded = [m for m in pending if m.version <= 1 and m.version not in status.applied]
    for migration in unrecorded:
        await connection.execute(
            "insert into socle.migrations (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )


def _failure(migration: PlatformMigration, script: str, status: _Status, error: asyncpg.PostgresError) -> SocleError:
    statement = _statement_at(script, int(getattr(error, "position", None) or 0))
    context = "\n".join(part for part in (getattr(error, "internal_query", None), statement) if part)
    text = f"platform migration {migration.title}: {error} (SQLSTATE {error.sqlstate})"
    if error.sqlstate in _ALREADY_THERE:
        text += (
            "\nThe database has objects of these names that Socle did not make, as another Supabase installation does. "
            "Use a database of its own, and bring the data over with a dump."
        )
    if error.sqlstate == "42501" and not status.superuser:
        return MissingRights(status.role, [MissingRight(text, context or "socle bootstrap --print-sql")])
    return MigrationFailed(f"{text}\n{context}" if context else text)


def _statement_at(script: str, position: int) -> str | None:
    if position <= 0:
        return None
    for statement in split_statements(script):
        if statement.start < position <= statement.end:
            return statement.text
    return None


async def _ensure_passwords(
    connection: DriverConnection[Any], status: _Status, passwords: Mapping[str, str]
) -> _Passwords:
    if not passwords:
        return _Passwords((), ())
    stored: dict[str, str | None] = {}
    refused: list[str] = []
    rows = await connection.fetch(_READ_PASSWORDS if status.superuser else _UNREAD_PASSWORDS, list(passwords))
    for row in rows:
        embedded_owner = row["role"] == status.role == "supabase_admin"
        if row["rolsuper"] and not embedded_owner:
            continue
        if row["settable"]:
            stored[row["role"]] = row["rolpassword"]
        else:
            refused.append(row["role"])
    changed = tuple(role for role in sorted(stored) if not verify_scram(passwords[role], stored[role]))
    if changed:
        await connection.execute(
            "\n".join(
                f"alter role {quote_identifier(role)} password {quote_literal(scram_verifier(passwords[role]))};"
                for role in changed
            )
        )
    return _Passwords(changed, tuple(sorted(refused)))
