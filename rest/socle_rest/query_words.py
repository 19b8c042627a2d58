"""Names, JSON paths and what is built of nothing else: the words of the query grammar (contract rest.md §2).

These readers, and those of `query_select` and `query_filter`, are made for speed and only find out *that* a text is
wrong; `grammar` then says where and why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError
from socle_rest.query_values import Field, JsonStep

if TYPE_CHECKING:
    from socle_rest.query_values import EmbedPath

MAX_DEPTH = 100
"""Embeds within embeds, and parentheses within parentheses, that a request may have."""

QUOTED = r'"(?:[^\\"]|\\.)*"'
IDENT = r"[\w $]+"
NAME = rf"(?:{QUOTED}|{IDENT}(?:-(?!>){IDENT})*)"
KEY = r"[^(\-:.,>)]+"

_name = re.compile(NAME, re.DOTALL).match
_names = re.compile(rf"{NAME}(?:[ \t]*,[ \t]*{NAME})*", re.DOTALL).match
_path_names = re.compile(rf"{NAME}(?:\.{NAME})*", re.DOTALL).match
_each_name = re.compile(NAME, re.DOTALL).findall
_step = re.compile(rf"(->>?)(?:(-?[0-9]+)(?=->|::|\.|,|\Z)|({QUOTED}|{KEY}(?:-(?!>){KEY})*))", re.DOTALL).match
_escaped = re.compile(r"\\(.)", re.DOTALL)


class Unreadable(Exception):
    """A reader met a text that the grammar does not have."""


def plain_name(raw: str) -> str:
    """A name as meant: unquoted and unescaped, or trimmed around its dashes."""
    if raw[0] == '"':
        return _escaped.sub(r"\1", raw[1:-1]) if "\\" in raw else raw[1:-1]
    return "-".join([part.strip() for part in raw.split("-")]) if "-" in raw else raw.strip()


def _read_path(text: str, at: int) -> tuple[tuple[JsonStep, ...], int]:
    steps: list[JsonStep] = []
    while (found := _step(text, at)) is not None:
        arrow, index, key = found.groups()
        if index is not None:
            steps.append(JsonStep(arrow, index if index[0] == "-" else "+" + index, is_index=True))
        else:
            steps.append(JsonStep(arrow, plain_name(key)))
        at = found.end()
        if len(steps) > MAX_DEPTH:
            raise too_deep("JSON path", "steps")
    if text.startswith("->", at):
        raise Unreadable
    return tuple(steps), at


def read_field(text: str, at: int) -> tuple[Field, int]:
    """A name with its JSON path, blanks around."""
    at = skip_blanks(text, at)
    found = _name(text, at)
    if found is None:
        raise Unreadable
    at = found.end()
    path: tuple[JsonStep, ...] = ()
    if text.startswith("->", at):
        path, at = _read_path(text, at)
    return Field(plain_name(found.group()), path), skip_blanks(text, at)


def trimmed(raw: str | None) -> str | None:
    """A trimmed word, or None for none."""
    return None if raw is None else raw.strip()


def skip_blanks(text: str, at: int) -> int:
    """The position of the first character that is neither space nor tab."""
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def explained(kind: str, text: str, shown: str | None = None) -> RestError:
    """The PGRST100 for a text that a reader refused."""
    from socle_rest.grammar import explain

    message, details = explain(kind, text)
    label = f"failed to parse {kind} ({text if shown is None else shown})"
    return RestError(Code.QUERY_UNREADABLE, message=f'"{label}" {message}', details=details)


def parse_tree_path(key: str) -> tuple[EmbedPath, Field]:
    """`embed.embed.column->path`: the embeds to walk, and the field."""
    found = _path_names(key)
    if found is None:
        raise explained("tree path", key)
    raw = found.group()
    names = [plain_name(one) for one in (_each_name(raw) if "." in raw else (raw,))]
    path: tuple[JsonStep, ...] = ()
    if key.startswith("->", found.end()):
        try:
            path, _ = _read_path(key, found.end())
        except Unreadable:
            raise explained("tree path", key) from None
    return tuple(names[:-1]), Field(names[-1], path)


def parse_names(text: str, parameter: str) -> tuple[str, ...]:
    found = _names(text)
    if found is None or text[found.end() :].lstrip(" \t").startswith(","):
        raise explained(f"{parameter} parameter", text)
    return tuple(plain_name(one) for one in _each_name(found.group()))


def too_deep(kind: str, what: str) -> RestError:
    """The PGRST100 for a text that is nested deeper than MAX_DEPTH."""
    return RestError(
        Code.QUERY_UNREADABLE,
        message=f"failed to parse {kind}",
        details=f"{what} are nested more than {MAX_DEPTH} deep",
    )
