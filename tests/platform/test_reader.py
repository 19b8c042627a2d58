"""The settings reader: typed values, one list of problems."""

from __future__ import annotations

import pytest

from socle_platform.config.gateway import is_loopback, load_gateway
from socle_platform.config.reader import ConfigError, Reader, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10.0), ("1.5", 1.5), ("500ms", 0.5), ("1h30m", 5400.0), ("-5s", -5.0), ("2d", 172800.0), ("1m0.5s", 60.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10 s", "1x", "1h30", "one"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("52428800", 52428800), ("50MiB", 52428800), ("50MB", 52428800), ("1.5k", 1536), ("2 GiB", 2**31)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_one_error_lists_every_problem() -> None:
    read = Reader({"A": "x", "B": "maybe", "C": "9", "D": "soon", "E": "red", "F": "big"})
    assert read.integer("A", default=1) == 1
    assert read.boolean("B", default=True) is True
    assert read.integer("C", default=2, maximum=5) == 2
    assert read.seconds("D", default=3.0) == 3.0
    assert read.choice("E", choices=("blue",), default="blue") == "blue"
    assert read.size("F", default=4) == 4
    with pytest.raises(ConfigError) as caught:
        read.finish()
    assert len(caught.value.problems) == 6
    assert all(name in str(caught.value) for name in "ABCDEF")


def test_the_first_name_that_is_set_wins_and_empty_is_unset() -> None:
    read = Reader({"NEW": "", "OLD": "value"})
    assert read.text("NEW", "OLD") == "value"
    assert read.csv("NEW", default=("a",)) == ("a",)
    assert read.csv("OLD") == ("value",)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
        ("name", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert load_gateway(Reader({"SOCLE_HOST": host})).require_apikey is not loopback


def test_gateway_url() -> None:
    assert load_gateway(Reader({"SOCLE_HOST": "0.0.0.0", "SOCLE_PORT": "80"})).url == "http://127.0.0.1:80"
    assert load_gateway(Reader({"SUPABASE_PUBLIC_URL": "https://x.test/"})).url == "https://x.test"
    assert load_gateway(Reader({"SOCLE_HOST": "::1"})).url == "http://[::1]:54321"
