"""Declarative policies: files that say which row-level policies and grants their tables have.

Applying drops and re-creates what a file declares, drops what it declared before and no longer does, and leaves alone
what no file ever declared. What was applied is recorded in
`supabase_migrations.policy_files`, so that an unchanged file takes no lock on its tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from socle_platform.migrate.failures import StatementFailed
from socle_platform.migrate.policy_files import Declared, PolicyFile, TableName, shown_table
from socle_platform.migrate.quoting import quote_identifier
from socle_platform.migrate.session import Connect, Operator, acting_as_operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Outcome: TypeAlias = Literal["created", "changed", "unchanged", "removed"]

_CREATE_RECORD = """
create table supabase_migrations.policy_files (
  path text not null primary key,
  hash text not null,
  declared jsonb not null,
  applied_at timestamptz not null default now()
)
"""
_POLICIES = """
select polname::text as name,
       json_build_array(polpermissive, polcmd, array(
         select coalesce(pg_get_userbyid(nullif(role, 0))::text, 'public') from unnest(polroles) as role order by 1
       ), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))::text as state
from pg_policy where polrelid = $1::text::regclass
"""
_GRANTS = """
select coalesce(pg_get_userbyid(nullif(grantee, 0))::text, 'public') as role,
       json_agg(json_build_array(column_name, privilege_type, is_grantable)
                order by column_name, privilege_type)::text as state
from (
  select null::text as column_name, acl.*
  from pg_class as c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as acl
  where c.oid = $1::text::regclass
  union all
  select a.attname::text, acl.*
  from pg_attribute as a, aclexplode(a.attacl) as acl
  where a.attrelid = $1::text::regclass and not a.attisdropped
) as privileges
group by grantee
"""
_ROW_SECURITY = """
select json_build_array(relrowsecurity, relforcerowsecurity)::text from pg_class where oid = $1::text::regclass
"""
_RECORD = """
insert into supabase_migrations.policy_files (path, hash, declared) values ($1, $2, $3::text::jsonb)
on conflict (path) do update set hash = excluded.hash, declared = excluded.declared, applied_at = now()
"""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What became of one declared thing. `name` is the policy's, or the role's for grants, or empty."""

    file: str
    kind: str
    table: str
    name: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PoliciesReport:
    """Everything declared, and what was removed, in file order."""

    changes: tuple[PolicyChange, ...]

    @property
    def is_unchanged(self) -> bool:
        """Nothing had to be done."""
        return all(change.outcome == "unchanged" for change in self.changes)

    def count(self, outcome: Outcome) -> int:
        """How many things had this outcome."""
        return sum(change.outcome == outcome for change in self.changes)

    def render(self) -> str:
        """One line per thing that changed, and a summary."""
        lines = [
            f"  {change.outcome} {change.kind} {json.dumps(change.name, ensure_ascii=False)} on {change.table}"
            for change in self.changes
            if change.outcome != "unchanged"
        ]
        outcomes: tuple[Outcome, ...] = ("created", "changed", "removed", "unchanged")
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in outcomes)
        return "\n".join([*lines, f"Policies: {counts}."])


async def apply_policies(
    target: Connect, files: Sequence[PolicyFile], *, progress: Callable[[str], None] | None = None
) -> PoliciesReport:
    """Bring the database to what the files declare, in one transaction. `files` are all of the project's.

    Raises StatementFailed (nothing was changed), DatabaseUnreachable.
    """
    async with acting_as_operator(target, progress=progress or _quiet) as operator:
        await operator.reset()
        async with operator.connection.transaction():
            return PoliciesReport(tuple(await _apply(operator, files)))


def _quiet(_message: str) -> None:
    return None


_State: TypeAlias = "dict[Declared, str | None]"


async def _apply(operator: Operator, files: Sequence[PolicyFile]) -> list[PolicyChange]:
    connection = operator.connection
    if not await _table_exists(operator, ("supabase_migrations", "policy_files")):
        await connection.execute(_CREATE_RECORD)
    recorded = {
        row["path"]: (str(row["hash"]), _parse_record(row["declared"]))
        for row in await connection.fetch("select path, hash, declared::text from supabase_migrations.policy_files")
    }
    changes: list[PolicyChange] = []
    kept_elsewhere = {one for file in files for one in file.declared}
    for path in sorted(set(recorded) - {file.path for file in files}):
        gone = [one for one in recorded[path][1] if one not in kept_elsewhere]
        changes += await _remove(operator, path, gone)
        await connection.execute("delete from supabase_migrations.policy_files where path = $1", path)
    for file in files:
        known_hash, known = recorded.get(file.path, ("", {}))
        before = await _read_states(operator, [*file.declared, *known])
        if known_hash == file.hash and all(before[one] == known.get(one) for one in file.declared):
            changes += [_change(file.path, one, "unchanged") for one in file.declared]
            continue
        gone = [one for one in known if one not in kept_elsewhere]
        changes += await _remove(operator, file.path, gone)
        await _withdraw(operator, file)
        for number, statement in enumerate(file.statements):
            await _run(operator, file, number, statement)
        after = await _read_states(operator, file.declared)
        changes += [_change(file.path, one, _outcome(before[one], after[one])) for one in file.declared]
        await connection.execute(_RECORD, file.path, file.hash, _render_record(after))
    return changes


def _outcome(before: str | None, after: str | None) -> Outcome:
    if before == after:
        return "unchanged"
    return "created" if before is None else "changed"


async def _run(operator: Operator, file: PolicyFile, number: int, statement: str) -> None:
    try:
        await operator.connection.execute(statement)
    except asyncpg.PostgresError as error:
        raise StatementFailed(file.path, number, statement, error) from error


async def _withdraw(operator: Operator, file: PolicyFile) -> None:
    """Take away what the file is about to declare, so that its statements are the whole truth."""
    for one in file.declared:
        if await _table_exists(operator, one.table):
            await _drop(operator, one)


async def _remove(operator: Operator, path: str, gone: Iterable[Declared]) -> list[PolicyChange]:
    changes: list[PolicyChange] = []
    for one in gone:
        # Row-level security that was once switched on stays on: a file that falls away must not open a table.
        if one.kind == "row security" or not await _table_exists(operator, one.table):
            continue
        state = (await _read_states(operator, [one]))[one]
        if state is not None:
            await _drop(operator, one)
            changes.append(_change(path, one, "removed"))
    return changes


async def _drop(operator: Operator, one: Declared) -> None:
    table = _qualified(one.table)
    if one.kind == "policy":
        exists = (await _read_states(operator, [one]))[one] is not None
        if exists:
            await operator.connection.execute(f"drop policy {quote_identifier(one.name)} on {table}")
    elif one.kind == "grants" and await _role_exists(operator, one.name):
        role = "public" if one.name == "public" else quote_identifier(one.name)
        await operator.connection.execute(f"revoke all on table {table} from {role}")


async def _role_exists(operator: Operator, role: str) -> bool:
    return role == "public" or bool(
        await operator.connection.fetchval("select exists (select from pg_roles where rolname = $1::text)", role)
    )


async def _table_exists(operator: Operator, table: TableName) -> bool:
    return bool(await operator.connection.fetchval("select to_regclass($1::text) is not null", _qualified(table)))


async def _read_states(operator: Operator, things: Iterable[Declared]) -> _State:
    """How each thing is now: None where there is no such policy, grant or table."""
    states: _State = {}
    cache: dict[TableName, dict[tuple[str, str], str]] = {}
    for one in things:
        if one.table not in cache:
            cache[one.table] = await _read_table(operator, one.table)
        states[one] = cache[one.table].get((one.kind, one.name))
    return states


async def _read_table(operator: Operator, table: TableName) -> dict[tuple[str, str], str]:
    if not await _table_exists(operator, table):
        return {}
    connection, name = operator.connection, _qualified(table)
    found = {("policy", row["name"]): row["state"] for row in await connection.fetch(_POLICIES, name)}
    found |= {("grants", row["role"]): row["state"] for row in await connection.fetch(_GRANTS, name)}
    found["row security", ""] = await connection.fetchval(_ROW_SECURITY, name)
    return found


def _qualified(table: TableName) -> str:
    return ".".join(quote_identifier(part) for part in table if part is not None)


def _change(file: str, one: Declared, outcome: Outcome) -> PolicyChange:
    return PolicyChange(file=file, kind=one.kind, table=shown_table(one.table), name=one.name, outcome=outcome)


def _render_record(states: _State) -> str:
    return json.dumps([[one.kind, *one.table, one.name, state] for one, state in states.items()])


def _parse_record(text: str) -> _State:
    rows: list[list[Any]] = json.loads(text)
    return {Declared(kind, (schema, table), name): state for kind, schema, table, name, state in rows}
