"""The `select` parameter (contract rest.md §2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socle_rest.query_values import Field, SelectEmbed, SelectField
from socle_rest.query_words import (
    IDENT,
    MAX_DEPTH,
    NAME,
    Unreadable,
    explained,
    plain_name,
    read_field,
    skip_blanks,
    too_deep,
    trimmed,
)

if TYPE_CHECKING:
    from socle_rest.query_values import SelectItem

_alias = re.compile(rf"({NAME}):(?!:)", re.DOTALL).match
_count = re.compile(rf"count\(\)(?:::({IDENT}))?(?=[),]|\Z)").match
_field_tail = re.compile(rf"(?:::({IDENT}))?(?:\.(sum|avg|count|max|min)\(\))?(?:::({IDENT}))?(?=[),]|\Z)").match
_embed_head = re.compile(
    rf"({NAME})(?:!(?:(left|inner)(?=[!(])|({NAME})))?(?:!(?:(left|inner)(?=[!(])|({NAME})))?(?=\()", re.DOTALL
).match


def parse_select(text: str) -> tuple[SelectItem, ...]:
    """The `select` parameter. Raises RestError (PGRST100)."""
    if text == "*":
        return _STAR
    try:
        items, _ = _read_items(text, 0, 0)
    except Unreadable:
        raise explained("select parameter", text) from None
    return items


_STAR = (SelectField(Field("*")),)


_starts_item = re.compile(r'[\w $"\t]|\*(?=[),]|\Z)|\.\.\.(?=[\w $"])').match


def _read_items(text: str, at: int, depth: int) -> tuple[tuple[SelectItem, ...], int]:
    """Items up to what cannot be one: a closing parenthesis, the end. None at all is allowed."""
    if depth > MAX_DEPTH:
        raise too_deep("select parameter", "embeds")
    if _starts_item(text, at) is None:
        return (), at
    items: list[SelectItem] = []
    while True:
        item, at = _read_item(text, at, depth)
        items.append(item)
        at = skip_blanks(text, at)
        if at == len(text) or text[at] != ",":
            return tuple(items), at
        at += 1


def _read_item(text: str, at: int, depth: int) -> tuple[SelectItem, int]:
    at = skip_blanks(text, at)
    if text.startswith("*", at):
        if at + 1 == len(text) or text[at + 1] in "),":
            return _STAR[0], at + 1
        raise Unreadable
    spread = text.startswith("...", at)
    if spread:
        at += 3
    alias = None
    if not spread and (found := _alias(text, at)) is not None:
        alias, at = plain_name(found.group(1)), found.end()
    embed = _embed_head(text, at)
    if embed is not None and (spread or embed.group(1) != "count"):
        children, end = _read_items(text, embed.end() + 1, depth + 1)
        if not text.startswith(")", end):
            raise Unreadable
        name, join, hint, join2, hint2 = embed.groups()
        first = hint if hint is not None else hint2
        return (
            SelectEmbed(plain_name(name), children, alias, plain_name(first) if first else None, join or join2, spread),
            end + 1,
        )
    if spread:
        raise Unreadable
    return _read_select_field(text, at, alias)


def _read_select_field(text: str, at: int, alias: str | None) -> tuple[SelectField, int]:
    if (found := _count(text, at)) is not None:
        return SelectField(Field("*"), alias, None, "count", trimmed(found.group(1))), found.end()
    named, at = read_field(text, at)
    tail = _field_tail(text, at)
    if tail is None:
        raise Unreadable
    cast, aggregate, aggregate_cast = tail.groups()
    after = trimmed(aggregate_cast) if aggregate is not None else None
    return SelectField(named, alias, trimmed(cast), aggregate, after), tail.end()
