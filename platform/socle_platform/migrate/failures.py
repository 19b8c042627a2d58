"""How a statement that PostgreSQL refused is shown: code, number, the text with a caret (contract cli.md §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    import asyncpg


class StatementFailed(SocleError):
    """A statement of an SQL file was refused by PostgreSQL; nothing of the file was kept.

    `index` counts the file's statements from 0; `position` is the 1-based character of the error in `statement`, if the
    server named one; `line` that character's line in the file, or the statement's first one, from 1.
    """

    def __init__(
        self, file: str, index: int, statement: str, error: asyncpg.PostgresError, first_line: int | None = None
    ) -> None:
        self.file = file
        self.index = index
        self.statement = statement
        self.sqlstate = error.sqlstate or "XX000"
        self.position = _number(getattr(error, "position", None))
        self.line = first_line and first_line + statement.count("\n", 0, (self.position or 1) - 1)
        self.detail: str | None = getattr(error, "detail", None)
        self.hint: str | None = getattr(error, "hint", None)
        text = getattr(error, "message", None) or str(error)
        lines = [f"{file}: ERROR: {text} (SQLSTATE {self.sqlstate})"]
        lines += [part for part in (self.detail, self.hint and f"HINT: {self.hint}") if part]
        line = f" (line {self.line})" if self.line else ""
        lines += [f"At statement: {index}{line}", mark_position(statement, self.position)]
        super().__init__("\n".join(lines))


def mark_position(statement: str, position: int | None) -> str:
    """The statement up to the line of the position, and a caret below the character; all of it without a position."""
    if position is None or not 1 <= position <= len(statement) + 1:
        return statement
    begin = statement.rfind("\n", 0, position - 1) + 1
    end = statement.find("\n", position - 1)
    shown = statement if end < 0 else statement[:end]
    # Tabs before the caret stay tabs, so that it stands under its character however wide they are shown.
    blanks = "".join("\t" if char == "\t" else " " for char in statement[begin : position - 1])
    return f"{shown}\n{blanks}^"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
