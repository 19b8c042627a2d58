"""Users and what belongs to them out of an SQL dump, with COPY or with INSERT (pg_dump, `supabase db dump`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]

_BELONGINGS = {"identities": "identities", "mfa_factors": "factors", "webauthn_credentials": "passkeys"}
"""Tables of what belongs to a user, and what it is called beside the user's own columns."""

_TABLES = "|".join(("users", *_BELONGINGS))
_COPY = re.compile(rf'^COPY "?auth"?\."?(?P<table>{_TABLES})"? \((?P<columns>[^)]*)\) FROM stdin;$')
_INSERT = re.compile(
    rf'INSERT INTO "?auth"?\."?(?P<table>{_TABLES})"? \((?P<columns>[^)]*)\)(?: OVERRIDING \w+ VALUE)? VALUES\s*'
)
_VALUE = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')(?:::\w+)?|(?P<word>[^\s,()']+)(?:::\w+)?)\s*(?P<end>[,)])")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


def users_of(path: Path) -> Iterator[tuple[str, Row]]:
    """Each user's row with its identities, factors and passkeys, and where it is in the file."""
    owned: dict[str, dict[str, list[Row]]] = {}
    for table, _, row in _rows(path, frozenset(_BELONGINGS)):
        owned.setdefault(str(row["user_id"]), {}).setdefault(_BELONGINGS[table], []).append(row)
    for _, place, row in _rows(path, frozenset({"users"})):
        yield place, {**row, "identities": [], **owned.get(str(row["id"]), {})}


def _rows(path: Path, tables: frozenset[str]) -> Iterator[tuple[str, str, Row]]:
    """Table, place and row of those tables."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        columns: list[str] | None = None
        table = ""
        pending = list[str]()
        quotes = 0
        for number, line in enumerate(file, 1):
            text = line.rstrip("\n")
            if columns is not None:
                if text == "\\.":
                    columns = None
                else:
                    values = [_unescape(value) for value in text.split("\t")]
                    yield table, f"line {number}", dict(zip(columns, values, strict=True))
            elif pending or _INSERT.match(text):
                pending.append(line)
                quotes += line.count("'")
                if text.rstrip().endswith(";") and quotes % 2 == 0:
                    yield from _inserted("".join(pending), tables, number)
                    pending, quotes = [], 0
            elif (match := _COPY.match(text)) is not None:
                # The other tables' lines are read over: none of them looks like a beginning of ours.
                table = match["table"]
                columns = _names(match["columns"]) if table in tables else None


def _names(columns: str) -> list[str]:
    return [name.strip().strip('"') for name in columns.split(",")]


def _inserted(statement: str, tables: frozenset[str], number: int) -> Iterator[tuple[str, str, Row]]:
    match = _INSERT.match(statement)
    if match is None or match["table"] not in tables:
        return
    columns, at = _names(match["columns"]), match.end()
    while (at := statement.find("(", at)) >= 0:
        at += 1
        values = list[Any]()
        while (value := _VALUE.match(statement, at)) is not None:
            values.append(_literal(value["text"], value["word"]))
            at = value.end()
            if value["end"] == ")":
                break
        yield match["table"], f"statement before line {number + 1}", dict(zip(columns, values, strict=True))


def _literal(text: str | None, word: str | None) -> Any:
    if text is not None:
        return text[1:-1].replace("''", "'")
    return {"NULL": None, "DEFAULT": None, "true": True, "false": False}.get(word or "", word)


def _unescape(value: str) -> str | None:
    if value == "\\N":
        return None
    return _ESCAPED.sub(lambda match: _ESCAPES.get(match[1], match[1]), value) if "\\" in value else value
