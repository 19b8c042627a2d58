"""Python values ↔ PostgreSQL's text, with PostgreSQL itself as the judge."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_platform.db import Database, DatabaseError, Json
from socle_platform.pgwire.codec import BUILT_IN, array_text, decode_text, encode, read_array

pg_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
nested = st.lists(st.none() | pg_text, min_size=1, max_size=4)


class Colour(StrEnum):
    RED = "red"


class Old(str, Enum):  # noqa: UP042 - the older way, whose str() is another text
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, b"t"),
        (False, b"f"),
        (-12, b"-12"),
        (1.5e300, b"1.5e+300"),
        (Decimal("1.10"), b"1.10"),
        ("é", "é".encode()),
        (Colour.RED, b"red"),
        (Old.RED, b"red"),
        (Level.HIGH, b"3"),
        (b"\x00\xff", b"\\x00ff"),
        (bytearray(b"a"), b"\\x61"),
        (memoryview(b"a"), b"\\x61"),
        (datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), b"2024-01-02T03:04:05.000006+00:00"),
        (datetime(2024, 1, 2), b"2024-01-02T00:00:00"),  # noqa: DTZ001 - naive is the case
        (date(2024, 1, 2), b"2024-01-02"),
        (time(1, 2), b"01:02:00"),
        (timedelta(days=-1, seconds=5, microseconds=7), b"-1 days 5 seconds 7 microseconds"),
        (UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        ([], b"{}"),
        (["a", None, 'q"\\', ""], b'{"a",NULL,"q\\"\\\\",""}'),
        ([[1, 2], [3, None]], b'{{"1","2"},{"3",NULL}}'),
        (({"a": 1},), b'{"{\\"a\\":1}"}'),
        (Json([1, "x"]), b'[1,"x"]'),
        (Json(None), b"null"),
        (Json({"at": date(2024, 1, 2), "n": Decimal("1.5"), "i": Decimal(2), "s": {1}, "u": UUID(int=0)}),
         b'{"at":"2024-01-02","n":1.5,"i":2,"s":[1],"u":"00000000-0000-0000-0000-000000000000"}'),
    ],
)  # fmt: skip
def test_parameters(value: object, text: bytes | None) -> None:
    assert encode(value) == text


def test_what_has_no_form() -> None:
    for value in (object(), {1, 2}, Json(object())):
        with pytest.raises(TypeError):
            encode(value)
    with pytest.raises(DatabaseError) as caught:
        encode("\ud800")
    assert caught.value.sqlstate == "22021"


@given(st.lists(st.none() | pg_text | nested, max_size=5))
def test_array_literals_read_back(values: list[Any]) -> None:
    assert read_array(array_text(values), decode_text) == values


@pytest.mark.parametrize("text", ["", "{", "{a", '{"a', "a", "{a,{b}", '{"a\\', "[0:1]"])
def test_broken_array_literals(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        read_array(text, decode_text)


def test_text_forms_that_only_some_settings_give() -> None:
    assert BUILT_IN[17](b"\\\\a\\001") == b"\\a\x01"
    assert BUILT_IN[1184](b"2024-01-02 03:04:05.5+05:30") == datetime(
        2024, 1, 2, 3, 4, 5, 500_000, tzinfo=timezone(timedelta(hours=5, minutes=30))
    )
    assert BUILT_IN[1114](b"infinity") == datetime.max  # noqa: DTZ901 - naive is the case
    assert BUILT_IN[1184](b"-infinity") == datetime.min.replace(tzinfo=UTC)
    assert BUILT_IN[1114](b"0044-03-15 00:00:00 BC") == "0044-03-15 00:00:00 BC"
    assert read_array("[2:3]={a,b}", decode_text) == ["a", "b"]


ROUND_TRIPS: list[tuple[str, Any]] = [
    ("bool", True),
    ("int2", -32768),
    ("int4", 2**31 - 1),
    ("int8", -(2**63)),
    ("oid", 4294967295),
    ("float4", 1.5),
    ("float8", 0.1),
    ("float8", math.inf),
    ("numeric", Decimal("12345678901234567890.000000001")),
    ("text", "line\n\t'quotes' \"double\" \\ back é 🐘"),
    ("varchar", ""),
    ("uuid", "7c0d2e6e-3b4e-4c12-9d7c-111111111111"),
    ("inet", "10.0.0.1"),
    ("date", "2024-02-29"),
    ("interval", "1 day 02:03:04"),
    ("bytea", bytes(range(256))),
    ("timestamptz", datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    ("timestamp", datetime(1, 1, 1)),  # noqa: DTZ001 - naive is the case
    ("jsonb", {"a": [1, 2.5, None, True, "x"], "b": {}}),
    ("json", {"big": 123456789012345678901234567890}),
    ("text[]", ["a", None, "NULL", "", 'q"\\', "a,b", "{}", " "]),
    ("int8[]", [1, None, 2**62]),
    ("int4[]", [[1, 2], [3, 4]]),
    ("bool[]", [True, False, None]),
    ("numeric[]", [Decimal("1.10")]),
    ("uuid[]", ["7c0d2e6e-3b4e-4c12-9d7c-111111111111"]),
    ("bytea[]", [b"\x00\\\xff", None]),
    ("jsonb[]", [{"a": 1}, {"b": [2]}]),
    ("timestamptz[]", [datetime(2024, 1, 1, tzinfo=UTC)]),
    ("varchar[]", []),
    ("mood", "sad"),
    ("mood[]", ["sad", None, "happy"]),
    ("positive", 5),
    ("positive[]", [5, 6]),
    ("very_positive[]", [12]),
]


async def test_round_trips_through_postgresql(database: Database) -> None:
    async with database.as_service("platform") as connection:
        await connection.execute("create type mood as enum ('sad', 'happy')")
        await connection.execute("create domain positive as int check (value > 0)")
        await connection.execute("create domain very_positive as positive check (value > 10)")
        await connection.execute("set local timezone to 'Asia/Kolkata'")
        for kind, value in ROUND_TRIPS:
            found = await connection.fetchval(f"select $1::{kind}", value)
            assert found == value, kind
            assert type(found) is type(value), kind
            assert await connection.fetchval(f"select $1::{kind}", None) is None
        assert math.isnan(await connection.fetchval("select $1::float8", math.nan))
        assert await connection.fetchval("select pg_sleep(0)") is None
        aware = await connection.fetchval("select '2024-01-01 12:00+00'::timestamptz")
        assert aware.utcoffset() == timedelta(hours=5, minutes=30)


async def test_parameters_get_their_types_from_postgresql(database: Database) -> None:
    async with database.as_service("platform") as connection:
        await connection.execute("create table typed (id bigint primary key, tags text[], doc jsonb, at date, b bytea)")
        tag = await connection.execute(
            "insert into typed values ($1, $2, $3, $4, $5), ($6, $7, $8, $9, $10)",
            1, ["x"], {"a": 1}, date(2024, 1, 2), b"\0", 2, None, Json([1]), None, None,
        )  # fmt: skip
        assert tag == "INSERT 0 2"
        assert await connection.fetch("select * from typed order by id") == [
            {"id": 1, "tags": ["x"], "doc": {"a": 1}, "at": "2024-01-02", "b": b"\0"},
            {"id": 2, "tags": None, "doc": [1], "at": None, "b": None},
        ]
        assert await connection.fetchval("select count(*) from typed where id = any($1)", [1, 3]) == 1


@given(st.lists(pg_text, min_size=1, max_size=3), st.binary(max_size=30))
def test_text_and_bytes_survive_their_own_encoding(texts: list[str], data: bytes) -> None:
    assert [decode_text(encode(text) or b"") for text in texts] == texts
    assert BUILT_IN[17](encode(data) or b"") == data
