"""SQL text with its parameters, and the closed alphabet that text is made of.

Texts hold keywords, quoted identifiers and `$n` only. Every value goes in as a parameter of unspecified type, in
text form, so that PostgreSQL does the typing. Types and default expressions come from the catalogue, never from the
request; the one word a request may choose, a cast's type, is either one of SQL's own type words or a quoted name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from socle_rest.schema import QualifiedName

FIXED = -1
"""Source of a parameter that belongs to the shape of the request."""
BODY = -2
OFFSET = -3
LIMIT = -4


class Statement(NamedTuple):
    """One statement (a tuple: it is made on every request).

    `sources` says for each parameter where it came from: the position of a query parameter whose filter value it is
    (0 …), BODY, OFFSET, LIMIT of the root, or FIXED."""

    text: str
    args: tuple[bytes | None, ...] = ()
    sources: tuple[int, ...] = ()


class Writer:
    """Collects the parameters of one statement while its text is composed."""

    __slots__ = ("_args", "_sources")

    def __init__(self) -> None:
        self._args: list[bytes | None] = []
        self._sources: list[int] = []

    def param(self, value: str | bytes | None, source: int = FIXED) -> str:
        """The placeholder of a new parameter."""
        self._args.append(value.encode() if isinstance(value, str) else value)
        self._sources.append(source)
        return f"${len(self._args)}"

    def statement(self, text: str) -> Statement:
        """The text with everything collected."""
        return Statement(text, tuple(self._args), tuple(self._sources))


def ident(name: str) -> str:
    """A quoted identifier. What follows a NUL is dropped: PostgreSQL has no such names."""
    return '"' + name.partition("\0")[0].replace('"', '""') + '"'


def qualified(name: QualifiedName) -> str:
    """A quoted name, with its schema if it has one."""
    return f"{ident(name.schema)}.{ident(name.name)}" if name.schema else ident(name.name)


def column_of(table: QualifiedName, name: str) -> str:
    """A column, or all of them for `*`."""
    return f"{qualified(table)}.{'*' if name == '*' else ident(name)}"


def literal(text: str) -> str:
    """A string constant, for names that come from the catalogue."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


_TYPE_WORDS: Final = frozenset(
    {
        "bigint",
        "bit",
        "bit varying",
        "boolean",
        "char",
        "char varying",
        "character",
        "character varying",
        "dec",
        "decimal",
        "double precision",
        "float",
        "int",
        "integer",
        "interval",
        "json",
        "national char",
        "national char varying",
        "national character",
        "national character varying",
        "nchar",
        "nchar varying",
        "numeric",
        "real",
        "smallint",
        "time",
        "time with time zone",
        "time without time zone",
        "timestamp",
        "timestamp with time zone",
        "timestamp without time zone",
        "varchar",
    }
)
"""Types that SQL spells with keywords: quoted they would be other names, or none."""


def type_name(word: str) -> str:
    """The type of a `::cast`: as an unquoted name would be read, so in lower case."""
    folded = " ".join(word.lower().split())
    return folded if folded in _TYPE_WORDS else ident(folded)
