"""Splits SQL text into statements as psql does: quotes, comments, parentheses, BEGIN ATOMIC bodies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_SPACE = re.compile(r"\s+")
# Letters: those of ASCII, the underscore, and all beyond ASCII. Said by what they are not, which compiles fast.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_WORD = re.compile(_LETTER + r"[^\x00-#%-/:-@\[-^`{-\x7f]*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DOLLAR = re.compile(r"\$(?:" + _LETTER + r"[^\x00-/:-@\[-^`{-\x7f]*)?\$")
_PARAMETER = re.compile(r"\$\d+")
_PLAIN_STRING = re.compile(r"'[^']*(?:''[^']*)*'?")
_ESCAPE_STRING = re.compile(r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*(?:'|\\?$)", re.DOTALL)
_STRING_GOES_ON = re.compile(r"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:\s|--[^\n\r]*(?:[\n\r]|$))*(?=')")
_QUOTED_NAME = re.compile(r'"[^"]*(?:""[^"]*)*"?')
_LINE_COMMENT = re.compile(r"--[^\n\r]*")
_END_OF_DATA = re.compile(r"^\\\.[ \t\r]*$", re.MULTILINE)
_COMMENT_EDGE = re.compile(r"/\*|\*/")

#: Kinds of a token; blanks and comments carry no meaning.
SPACE, COMMENT, WORD, NAME, STRING, OTHER = "space", "comment", "word", "name", "string", "other"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL: its kind, and where it lies (character offsets, end exclusive)."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its semicolon and the blanks around it; `start`/`end` are offsets into the whole text.

    Comments before a statement belong to it, and so do the lines of data after `copy … from stdin;`, as pg_dump writes
    them, up to and with the line `\\.`.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CopyData:
    """`copy table (columns) from stdin;` with its lines. `columns` is None where none are named."""

    schema: str | None
    table: str
    columns: tuple[str, ...] | None
    data: str
    options: str


def scan_tokens(sql: str, position: int = 0) -> Iterator[Token]:
    """Cut the text into tokens, gaplessly. What is left open (a quote, a comment) reaches to the end."""
    while position < len(sql):
        kind, end = _next_token(sql, position)
        yield Token(kind, position, end)
        position = end


def split_statements(sql: str) -> list[Statement]:
    """The statements of an SQL text in order; pieces of nothing but blanks and comments are left out."""
    statements: list[Statement] = []
    begin = 0
    while begin < len(sql):
        end, meaningful, copies = _statement_end(sql, begin)
        after = end + 1
        if copies:
            end = after = _data_end(sql, after)
        if meaningful:
            statements.append(_trimmed(sql, begin, end))
        begin = after
    return statements


def parse_copy(statement: str) -> CopyData | None:
    """What a `copy … from stdin` with its data says; None for any other statement."""
    end, _, copies = _statement_end(statement, 0)
    if not copies:
        return None
    names: list[str] = []
    columns: list[str] | None = None
    tokens = [token for token in scan_tokens(statement[:end]) if token.kind not in (SPACE, COMMENT)]
    for number, token in enumerate(tokens):
        text = statement[token.start : token.end]
        if token.kind == WORD and text.lower() == "from" and number:
            options = statement[tokens[number + 1].end : end].strip()
            return CopyData(
                schema=names[-2] if len(names) > 1 else None,
                table=names[-1],
                columns=None if columns is None else tuple(columns),
                data=_data(statement, end + 1),
                options=options,
            )
        if text == "(":
            columns = []
        elif token.kind in (WORD, NAME) and number:
            name = text[1:-1].replace('""', '"') if token.kind == NAME else text.lower()
            (names if columns is None else columns).append(name)
    return None


def _statement_end(sql: str, begin: int) -> tuple[int, bool, bool]:
    """Where the semicolon (or the end) is, whether there is a statement at all, and whether lines of data follow."""
    block = _BlockDepth()
    words: list[str] = []
    meaningful = False
    for token in scan_tokens(sql, begin):
        text = sql[token.start : token.end]
        if token.kind == OTHER and text == ";" and block.is_closed():
            copies = words[:1] == ["copy"] and ("from", "stdin") in pairwise(words)
            return token.start, meaningful, copies
        if token.kind not in (SPACE, COMMENT):
            meaningful = True
            words.append(text.lower() if token.kind == WORD else "")
            block.see(token.kind, text)
    return len(sql), meaningful, False


def _data_end(sql: str, after: int) -> int:
    ending = _END_OF_DATA.search(sql, after)
    return len(sql) if ending is None else ending.end()


def _data(sql: str, after: int) -> str:
    """The lines after the one with the semicolon."""
    first = sql.find("\n", after)
    if first < 0:
        return ""
    ending = _END_OF_DATA.search(sql, first)
    return sql[first + 1 : len(sql) if ending is None else ending.start()]


class _BlockDepth:
    """Whether a semicolon ends the statement: not inside parentheses, nor in the BEGIN ATOMIC body of a routine."""

    _ROUTINE = re.compile(r"create (?:or replace )?(?:function|procedure)\b")

    def __init__(self) -> None:
        self._head: list[str] = []
        self._parentheses = 0
        self._begins = 0
        self._routine: bool | None = None

    def is_closed(self) -> bool:
        return self._parentheses <= 0 and self._begins <= 0

    def see(self, kind: str, text: str) -> None:
        if kind == OTHER:
            self._parentheses += {"(": 1, ")": -1}.get(text, 0)
            if self._parentheses < 0:
                self._parentheses = 0
        elif kind == WORD and self._parentheses == 0:
            self._see_word(text.lower())

    def _see_word(self, word: str) -> None:
        if self._routine is None:
            self._head.append(word)
            if len(self._head) == 4 or (self._head[0] != "create"):
                self._routine = self._ROUTINE.match(" ".join(self._head)) is not None
            elif self._ROUTINE.match(" ".join(self._head)):
                self._routine = True
        if self._routine:
            if word == "begin" or (word == "case" and self._begins > 0):
                self._begins += 1
            elif word == "end" and self._begins > 0:
                self._begins -= 1


def _next_token(sql: str, position: int) -> tuple[str, int]:
    char = sql[position]
    if match := _SPACE.match(sql, position):
        return SPACE, match.end()
    if char == "-" and (match := _LINE_COMMENT.match(sql, position)):
        return COMMENT, match.end()
    if sql.startswith("/*", position):
        return COMMENT, _block_comment_end(sql, position)
    if char == "'":
        return STRING, _string_end(sql, position, _PLAIN_STRING)
    if char == '"':
        match = _QUOTED_NAME.match(sql, position)
        assert match is not None
        return NAME, match.end()
    if char == "$":
        return _dollar(sql, position)
    if match := _WORD.match(sql, position):
        if match.end() < len(sql) and sql[match.end()] == "'" and match[0] in ("e", "E"):
            return STRING, _string_end(sql, match.end(), _ESCAPE_STRING)
        return WORD, match.end()
    if match := _NUMBER.match(sql, position):
        return OTHER, match.end()
    return OTHER, position + 1


def _dollar(sql: str, position: int) -> tuple[str, int]:
    if opening := _DOLLAR.match(sql, position):
        closing = sql.find(opening[0], opening.end())
        return STRING, len(sql) if closing < 0 else closing + len(opening[0])
    if parameter := _PARAMETER.match(sql, position):
        return OTHER, parameter.end()
    return OTHER, position + 1


def _string_end(sql: str, position: int, pattern: re.Pattern[str]) -> int:
    """A string constant goes on after a line break, in the same kind of quoting."""
    while True:
        match = pattern.match(sql, position)
        if match is None:
            return len(sql)
        goes_on = _STRING_GOES_ON.match(sql, match.end())
        if goes_on is None:
            return match.end()
        position = goes_on.end()


def _block_comment_end(sql: str, position: int) -> int:
    """Block comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def _trimmed(sql: str, begin: int, end: int) -> Statement:
    raw = sql[begin:end]
    text = raw.strip()
    start = begin + len(raw) - len(raw.lstrip())
    return Statement(text=text, start=start, end=start + len(text))
