"""Declarative policies: files that say which row-level policies and grants their tables have (issue «dedicace»).

A file holds `create policy`, `grant`, `revoke`, `alter table … row level security` and `comment on policy`, in the
order in which they are to be run. Applying drops and re-creates what a file declares, drops what it declared before and
no longer does, and leaves alone what no file ever declared. What was applied is recorded in
`supabase_migrations.policy_files`, so that an unchanged file takes no lock on its tables.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg

from socle_platform.errors import SocleError
from socle_platform.migrate.failures import StatementFailed
from socle_platform.migrate.quoting import quote_identifier
from socle_platform.migrate.session import Connect, Operator, acting_as_operator
from socle_platform.migrate.sources import read_sql
from socle_platform.migrate.splitter import COMMENT, NAME, SPACE, WORD, scan_tokens, split_statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Outcome: TypeAlias = Literal["created", "changed", "unchanged", "removed"]
TableName: TypeAlias = tuple[str | None, str]
"""Schema (None: found along the search path) and table."""

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


class PolicyFileInvalid(SocleError):
    """A policies file holds something else than policies and grants."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One thing that a file declares about a table: a policy, the grants of a role, or row-level security itself."""

    kind: Literal["policy", "grants", "row security"]
    table: TableName
    name: str


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A parsed policies file: `path` is the name it is recorded under; `statements` are (number, text)."""

    path: str
    hash: str
    statements: tuple[str, ...]
    declared: tuple[Declared, ...]


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


def load_policy_files(folder: Path, *, prefix: str = "") -> tuple[PolicyFile, ...]:
    """All policies files of a folder, in the order of their names.

    Raises PolicyFileInvalid, MigrationFileInvalid.
    """
    found = sorted(folder.glob("*.sql")) if folder.is_dir() else []
    return tuple(parse_policy_file(f"{prefix}{path.name}", read_sql(path)) for path in found)


def parse_policy_file(path: str, sql: str) -> PolicyFile:
    """What a policies file declares. Pure.

    Raises PolicyFileInvalid for a statement that is none of those allowed, or a policy declared twice.
    """
    statements = tuple(statement.text for statement in split_statements(sql))
    declared: dict[Declared, None] = {}
    for number, statement in enumerate(statements):
        try:
            found = parse_declaration(statement)
        except PolicyFileInvalid as error:
            raise PolicyFileInvalid(f"{path}: {error.message}\nAt statement: {number}\n{statement}") from None
        for one in found:
            if one.kind == "policy" and one in declared:
                raise PolicyFileInvalid(f"{path}: policy {one.name!r} on {_shown(one.table)} is declared twice")
            declared[one] = None
    return PolicyFile(
        path=path, hash=hashlib.sha256(sql.encode()).hexdigest(), statements=statements, declared=tuple(declared)
    )


def parse_declaration(statement: str) -> tuple[Declared, ...]:
    """What one statement declares; nothing for a comment on a policy. Pure.

    Raises PolicyFileInvalid for any other kind of statement.
    """
    words = _Words(statement)
    if words.take("create", "policy"):
        name = words.name()
        words.expect("on")
        return (Declared("policy", words.table(), name),)
    if words.take("alter", "table"):
        words.take("if", "exists")
        words.take("only")
        table = words.table()
        words.take("no")
        if not (words.take("enable") or words.take("disable") or words.take("force")):
            raise PolicyFileInvalid("of ALTER TABLE only … ROW LEVEL SECURITY belongs here")
        words.expect("row", "level", "security")
        return (Declared("row security", table, ""),)
    if words.take("grant"):
        return words.grants("to")
    if words.take("revoke"):
        return words.grants("from")
    if words.take("comment", "on", "policy"):
        return ()
    raise PolicyFileInvalid("only CREATE POLICY, GRANT, REVOKE, ROW LEVEL SECURITY and COMMENT ON POLICY belong here")


class _Words:
    """The words of a statement, read from the front."""

    def __init__(self, statement: str) -> None:
        self._tokens = [
            (token.kind, statement[token.start : token.end])
            for token in scan_tokens(statement)
            if token.kind not in (SPACE, COMMENT)
        ]
        self._next = 0

    def take(self, *words: str) -> bool:
        ahead = self._tokens[self._next : self._next + len(words)]
        found = len(ahead) == len(words) and all(
            kind == WORD and text.lower() == word for (kind, text), word in zip(ahead, words, strict=True)
        )
        if found:
            self._next += len(words)
        return found

    def expect(self, *words: str) -> None:
        if not self.take(*words):
            raise PolicyFileInvalid(f"expected {' '.join(words).upper()}")

    def name(self) -> str:
        kind, text = self._tokens[self._next] if self._next < len(self._tokens) else ("", "")
        if kind not in (WORD, NAME):
            raise PolicyFileInvalid("expected a name")
        self._next += 1
        return text[1:-1].replace('""', '"') if kind == NAME else text.lower()

    def symbol(self, char: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next][1] == char
        self._next += found
        return found

    def table(self) -> TableName:
        first = self.name()
        return (first, self.name()) if self.symbol(".") else (None, first)

    def grants(self, direction: str) -> tuple[Declared, ...]:
        depth = 0
        while depth or not self.take("on"):
            if self._next >= len(self._tokens):
                raise PolicyFileInvalid("only rights on tables belong here, not memberships")
            depth += {"(": 1, ")": -1}.get(self._tokens[self._next][1], 0)
            self._next += 1
        for other in ("all", "database", "domain", "function", "schema", "sequence", "type", "parameter", "routine"):
            if self.take(other):
                raise PolicyFileInvalid(f"only rights on tables belong here, not on {other.upper()}")
        self.take("table")
        tables = [self.table()]
        while self.symbol(","):
            tables.append(self.table())
        self.expect(direction)
        roles = [self._role()]
        while self.symbol(","):
            roles.append(self._role())
        return tuple(Declared("grants", table, role) for table in tables for role in roles)

    def _role(self) -> str:
        self.take("group")
        return self.name()


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


def _shown(table: TableName) -> str:
    return ".".join(part for part in table if part is not None)


def _change(file: str, one: Declared, outcome: Outcome) -> PolicyChange:
    return PolicyChange(file=file, kind=one.kind, table=_shown(one.table), name=one.name, outcome=outcome)


def _render_record(states: _State) -> str:
    return json.dumps([[one.kind, *one.table, one.name, state] for one, state in states.items()])


def _parse_record(text: str) -> _State:
    rows: list[list[Any]] = json.loads(text)
    return {Declared(kind, (schema, table), name): state for kind, schema, table, name, state in rows}
