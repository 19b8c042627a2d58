"""Python values ↔ PostgreSQL's text forms (manual, «Data Types»). Pure.

Parameters go out as text without a type, results come in as text and are read by their type OID.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from socle_platform.pgwire.errors import DatabaseError


class Json:
    """Marks a value that travels as JSON text, whatever it is (a bare list would be an array)."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Json({self.value!r})"


# ---- out ----------------------------------------------------------------------------------------------------------


def encode(value: object) -> bytes | None:
    """One parameter.

    Raises TypeError for what has no form in PostgreSQL, DatabaseError 22021 for text that is not UTF-8.
    """
    text = _text_of(value)
    if text is None:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise DatabaseError("22021", 'invalid byte sequence for encoding "UTF8"') from problem


def _text_of(value: object) -> str | None:
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, Mapping):
        return json_text(cast("object", value))
    raise TypeError(f"{type(value).__name__} has no form in PostgreSQL")


def json_text(value: object) -> str:
    """JSON text of plain data, and of datetime, date, time, UUID and Decimal in their usual forms."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_json_default)


def _json_default(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Json):
        return value.value
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, Sequence | set | frozenset):
        return list(cast("Iterable[object]", value))
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def array_text(values: Iterable[object]) -> str:
    """An array literal; nested lists are further dimensions, None is NULL."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list | tuple):
        return array_text(cast("Iterable[object]", value))
    text = _text_of(value)
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytea_text(value: object) -> str:
    return "\\x" + bytes(cast("bytes", value)).hex()


def _interval_text(value: object) -> str:
    span = cast("timedelta", value)
    return f"{span.days} days {span.seconds} seconds {span.microseconds} microseconds"


def _nothing(_value: object) -> None:
    return None


_WRITERS: Final[dict[type, Callable[[Any], str | None]]] = {
    str: str.__str__,
    type(None): _nothing,
    bool: lambda value: "t" if value else "f",
    int: int.__repr__,
    float: float.__repr__,
    Decimal: str,
    UUID: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: _interval_text,
    bytes: _bytea_text,
    bytearray: _bytea_text,
    memoryview: _bytea_text,
    dict: json_text,
    list: array_text,
    tuple: array_text,
    Json: lambda value: json_text(value.value),
}

# ---- in -----------------------------------------------------------------------------------------------------------

Decode: TypeAlias = Callable[[bytes], Any]

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN: Final = re.compile(r'[^,;{}"]+')
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def _decode_bool(value: bytes) -> bool:
    return value == b"t"


def _decode_bytea(value: bytes) -> bytes:
    if value.startswith(b"\\x"):
        return bytes.fromhex(value[2:].decode())
    return _decode_escaped_bytea(value)


def _decode_escaped_bytea(value: bytes) -> bytes:
    """The old form, still there under `bytea_output = escape`."""
    out = bytearray()
    position = 0
    while position < len(value):
        if value[position] != 0x5C:
            out.append(value[position])
            position += 1
        elif value[position + 1 : position + 2] == b"\\":
            out.append(0x5C)
            position += 2
        else:
            out.append(int(value[position + 1 : position + 4], 8))
            position += 4
    return bytes(out)


def _decode_timestamp(value: bytes) -> datetime | str:
    """A datetime; ±infinity → datetime.max/min; its text where datetime cannot hold it (BC, years above 9999)."""
    text = value.decode()
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return {"infinity": datetime.max, "-infinity": datetime.min}.get(text, text)  # noqa: DTZ901 - naive is meant


def _decode_timestamptz(value: bytes) -> datetime | str:
    found = _decode_timestamp(value)
    return found.replace(tzinfo=UTC) if isinstance(found, datetime) and found.tzinfo is None else found


def _decode_json(value: bytes) -> Any:
    return json.loads(value)


def _decode_void(_value: bytes) -> None:
    return None


def decode_text(value: bytes) -> str:
    """Every type without a reader of its own."""
    return value.decode()


def array_reader(element: Decode, delimiter: str = ",") -> Decode:
    """A reader of array literals of `element`; NULL elements are None, further dimensions nested lists."""

    def read(value: bytes) -> list[Any]:
        return read_array(value.decode(), element, delimiter)

    return read


def read_array(text: str, element: Decode, delimiter: str = ",") -> list[Any]:
    """Reads one array literal, with or without explicit bounds. Raises ValueError if it is not one."""
    position = text.index("=") + 1 if text.startswith("[") else 0
    if not text.startswith("{", position):
        raise ValueError("not an array literal")
    outermost: list[Any] = []
    open_lists: list[list[Any]] = [outermost]
    position += 1
    while open_lists:
        char = text[position : position + 1]
        if char == "}":
            open_lists.pop()
            position += 1
        elif char == delimiter:
            position += 1
        elif char == "{":
            inner: list[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
            position += 1
        elif quoted := _QUOTED.match(text, position):
            open_lists[-1].append(element(_ESCAPE.sub(r"\1", quoted[1]).encode()))
            position = quoted.end()
        elif plain := _PLAIN.match(text, position):
            open_lists[-1].append(None if plain[0] == "NULL" else element(plain[0].encode()))
            position = plain.end()
        else:
            raise ValueError("an array literal has no end")
    return outermost


_SCALARS: Final[dict[int, tuple[int, Decode]]] = {
    # type OID: (OID of its array type, reader); OIDs from pg_type.dat, fixed for all versions
    16: (1000, _decode_bool),
    17: (1001, _decode_bytea),
    20: (1016, int),
    21: (1005, int),
    23: (1007, int),
    26: (1028, int),
    700: (1021, float),
    701: (1022, float),
    1700: (1231, lambda value: Decimal(value.decode())),
    114: (199, _decode_json),
    3802: (3807, _decode_json),
    1114: (1115, _decode_timestamp),
    1184: (1185, _decode_timestamptz),
}
_TEXT_ARRAYS: Final = (
    # array types whose elements are str: text, varchar, bpchar, name, "char", uuid, inet, cidr, macaddr, macaddr8,
    # date, time, timetz, interval, xml, jsonpath, reg…, bit, varbit, money, point, line, tsvector, tsquery, pg_lsn,
    # xid, tid, cstring, the ranges
    1009, 1015, 1014, 1003, 1002, 2951, 1041, 651, 1040, 775, 1182, 1183, 1270, 1187, 143, 4073, 2210, 2211, 1008, 2207,
    4097, 4090, 1561, 1563, 791, 1017, 629, 3643, 3645, 3221, 1011, 1010, 1263, 3905, 3907, 3909, 3911, 3913, 3927,
)  # fmt: skip

BUILT_IN: Final[Mapping[int, Decode]] = {
    2278: _decode_void,
    **{oid: reader for oid, (_, reader) in _SCALARS.items()},
    **{array: array_reader(reader) for array, reader in _SCALARS.values()},
    **{array: array_reader(decode_text) for array in _TEXT_ARRAYS},
    1020: array_reader(decode_text, ";"),  # box[] alone has another delimiter
}
"""Readers of the types that every server has; what is missing here is text."""

FIRST_USER_OID: Final = 16384
"""Types from here on differ from database to database: an array of an enum shows itself only in the catalogue."""

CATALOGUE_QUERY: Final = (
    "select t.oid, (with recursive base as ("
    "select e.oid, e.typbasetype from pg_catalog.pg_type e where e.oid = t.typelem union all "
    "select d.oid, d.typbasetype from base join pg_catalog.pg_type d on d.oid = base.typbasetype"
    ") select base.oid from base where base.typbasetype = 0), t.typdelim from pg_catalog.pg_type t"
    " where t.oid = any($1::oid[]) and t.typcategory = 'A' and t.typelem <> 0 and t.typlen = -1"
)
"""Which of these types are arrays, and of what (a domain counts as what it is made of)."""
