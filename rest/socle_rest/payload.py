"""The request body: which keys it has, and the JSON text that PostgreSQL reads it from (contract rest.md §8, §9)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import orjson

from socle_rest.errors import Code, RestError
from socle_rest.media import Kind, MediaType
from socle_rest.query import split_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_KEYS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Payload:
    """A body that was looked at. `text` is JSON, or the raw bytes for a single unnamed argument.

    `keys` are those that all rows have, or the argument names; `pairs` are the fields of a form sent to a function."""

    text: bytes
    keys: frozenset[str] = _NO_KEYS
    pairs: tuple[tuple[str, str], ...] | None = None

    @property
    def is_object(self) -> bool:
        """Whether the JSON text starts as an object rather than an array."""
        return self.text.lstrip(b" \t\n\r").startswith(b"{")


_NO_ROWS = Payload(b"[]")


def parse_payload(body: bytes, media_type: MediaType, columns: frozenset[str] | None, *, is_call: bool) -> Payload:
    """The body of an insert, update, upsert or function call. Raises RestError (PGRST102).

    `columns` (the parameter) names the keys to use, and then a JSON body is not looked into."""
    match media_type.kind:
        case Kind.JSON:
            if columns is not None:
                return Payload(body, columns)
            return Payload(b"{}") if is_call and not body else _of_json(body)
        case Kind.CSV:
            return _of_csv(body)
        case Kind.FORM:
            return _of_form(body, is_call=is_call)
        case Kind.TEXT | Kind.XML | Kind.OCTETS if is_call:
            return Payload(body)
        case _:
            raise RestError(Code.BODY_UNREADABLE, message=f"Content-Type not acceptable: {media_type.name}")


def _of_json(body: bytes) -> Payload:
    try:
        document = cast("object", orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise RestError(Code.BODY_UNREADABLE, message="Empty or invalid json") from error
    if isinstance(document, dict):
        return Payload(body, frozenset(cast("dict[str, object]", document)))
    if not isinstance(document, list) or not document:
        return _NO_ROWS
    return Payload(body, _uniform_keys(cast("list[object]", document), "All object keys must match"))


def _uniform_keys(rows: list[object], complaint: str) -> frozenset[str]:
    first = rows[0]
    if isinstance(first, dict):
        keys = cast("dict[str, object]", first).keys()
        if all(isinstance(row, dict) and cast("dict[str, object]", row).keys() == keys for row in rows):
            return frozenset(keys)
    raise RestError(Code.BODY_UNREADABLE, message=complaint)


def _of_form(body: bytes, *, is_call: bool) -> Payload:
    pairs = tuple((key, value or "") for key, value in split_pairs(body))
    fields = dict(pairs)
    return Payload(orjson.dumps(fields), frozenset(fields), pairs if is_call else None)


def _of_csv(body: bytes) -> Payload:
    try:
        lines = list(_read_csv(body.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise RestError(Code.BODY_UNREADABLE, message="The CSV body is not UTF-8") from error
    if not lines:
        raise RestError(Code.BODY_UNREADABLE, message="The CSV body has no header line")
    header, *records = lines
    rows: list[object] = [
        {name: None if value == "NULL" else value for name, value in zip(header, record, strict=False)}
        for record in records
    ]
    if not rows:
        return _NO_ROWS
    return Payload(orjson.dumps(rows), _uniform_keys(rows, "All lines must have same number of fields"))


_csv_field = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|\Z)').match


def _read_csv(text: str) -> Iterator[list[str]]:
    """The records of RFC 4180; blank lines are none."""
    record: list[str] = []
    at = 0
    while at < len(text) or record:
        found = _csv_field(text, at)
        if found is None:
            raise RestError(Code.BODY_UNREADABLE, message=f"The CSV body is unreadable at character {at + 1}")
        quoted, plain, end = found.groups()
        record.append(plain if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if end != ",":
            if record != [""]:
                yield record
            record = []
