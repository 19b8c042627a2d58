"""Quoting for the few statements that take no parameters (roles, schemas, settings)."""

from __future__ import annotations


def quote_identifier(name: str) -> str:
    """A name as an SQL identifier: always in double quotes.

    Raises ValueError for an empty name and for one with a NUL.
    """
    if not name or "\0" in name:
        raise ValueError("not a possible SQL identifier")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """A text as an SQL string constant, whatever standard_conforming_strings says.

    Raises ValueError for a text with a NUL.
    """
    if "\0" in text:
        raise ValueError("not a possible SQL string")
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
