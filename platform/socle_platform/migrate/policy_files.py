"""Files that declare row-level policies and grants: what they may hold and what they say. Pure but for reading them.

A file holds `create policy`, `grant`, `revoke`, `alter table … row level security` and `comment on policy`, in the
order in which they are to be run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from socle_platform.errors import SocleError
from socle_platform.migrate.sources import read_sql
from socle_platform.migrate.splitter import COMMENT, NAME, SPACE, WORD, scan_tokens, split_statements

if TYPE_CHECKING:
    from pathlib import Path

TableName: TypeAlias = tuple[str | None, str]
"""Schema (None: found along the search path) and table."""


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
                raise PolicyFileInvalid(f"{path}: policy {one.name!r} on {shown_table(one.table)} is declared twice")
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


def shown_table(table: TableName) -> str:
    """A table's name for people."""
    return ".".join(part for part in table if part is not None)
