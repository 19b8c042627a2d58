"""Fields of bodies and queries: conversions, and complaints in the words of JSON schema."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.storage import code_of
from socle_storage.bodies import Fields, parse_integer
from socle_storage.errors import Code, StorageError
from socle_storage.robots import is_robots_tag, verify_robots_tag
from socle_storage.sizes import parse_size, verify_bucket_limit

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def complaint(ask: Any) -> str:
    with pytest.raises(StorageError) as refused:
        ask()
    assert (refused.value.http_status, refused.value.status) == (400, 400)
    return refused.value.message


def test_scalars_are_converted() -> None:
    fields = Fields({"n": "10", "t": 5, "b": "true", "z": None, "f": 3.0, "one": "x", "no": 0})
    assert fields.integer("n") == 10
    assert fields.integer("f") == 3
    assert fields.text("t") == "5"
    assert fields.boolean("b") is True
    assert fields.boolean("no") is False
    assert (fields.text("z"), fields.integer("z"), fields.boolean("z")) == ("", 0, False)
    assert fields.texts("one") == ["x"]
    assert (fields.text("absent"), fields.integer("absent"), fields.boolean("absent")) == (None, None, None)


def test_complaints_name_the_place() -> None:
    values: dict[str, Any] = {"n": "x", "s": {}, "l": [], "c": "blue", "o": 1, "deep": {"list": [{}]}, "nul": "a\0b"}
    fields = Fields(values)
    assert complaint(lambda: Fields([])) == "body must be object"
    assert complaint(lambda: fields.require("gone")) == "body must have required property 'gone'"
    assert complaint(lambda: fields.integer("n")) == "body/n must be integer"
    assert complaint(lambda: Fields({"n": 0}, "querystring").integer("n", minimum=1)) == "querystring/n must be >= 1"
    assert complaint(lambda: fields.text("s")) == "body/s must be string"
    assert complaint(lambda: fields.texts("l", minimum=1)) == "body/l must NOT have fewer than 1 items"
    assert complaint(lambda: fields.texts("c", maximum=0)) == "body/c must NOT have more than 0 items"
    assert complaint(lambda: fields.choice("c", ("red",))) == "body/c must be equal to one of the allowed values"
    assert complaint(lambda: fields.inner("o")) == "body/o must be object"
    assert complaint(lambda: fields.boolean("c")) == "body/c must be boolean"
    assert complaint(lambda: fields.number("c")) == "body/c must be number"
    assert complaint(lambda: fields.text("nul")) == "body/nul must be valid text"
    inner = fields.inner("deep")
    assert inner is not None
    assert complaint(lambda: inner.texts("list")) == "body/deep/list/0 must be string"


@given(json_values)
def test_any_value_is_taken_or_refused_by_an_error_of_ours(value: object) -> None:
    for kind in ("text", "integer", "boolean", "number", "texts", "inner"):
        ask = getattr(Fields({"x": value}), kind)
        assert code_of(partial(ask, "x")) in {None, Code.INVALID_REQUEST}
    assert code_of(lambda: verify_bucket_limit(value, 10**9)) in {None, Code.INVALID_REQUEST, Code.ENTITY_TOO_LARGE}


@given(st.text(max_size=25))
def test_any_text_is_an_integer_or_none(text: str) -> None:
    number = parse_integer(text)
    assert number is None or number == int(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20MB", 20_000_000),
        ("1.5kb", 1500),
        ("3B", 3),
        ("2gb", 2_000_000_000),
        ("1234567b", 1_230_000),
        ("0mb", 0),
        ("0.0004kb", 0),
    ],
)
def test_sizes_are_decimal_and_rounded(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "20", "MB", "20 MB", "20MiB", "-1MB", "1e3MB", "20mb\n", "\u0662MB", "9" * 400 + "gb"]
)
def test_sizes_that_are_none(text: str) -> None:
    assert complaint(lambda: parse_size(text)).startswith("Invalid file size format")


@pytest.mark.parametrize("value", [True, 1.5, -1, [], {}, "ten"])
def test_limits_that_are_none(value: object) -> None:
    with pytest.raises(StorageError):
        verify_bucket_limit(value, 100)


@pytest.mark.parametrize(
    "value",
    [
        "all",
        "noindex, nofollow",
        "max-snippet: -1",
        "max-image-preview: large, max-video-preview: 0",
        "googlebot: noindex, nosnippet",
        "unavailable_after: 2031-06-25",
        "unavailable_after: Wed, 25 Jun 2031 15:00:00 GMT, noindex",
        "bot: unavailable_after: 2031-06-25, noindex",
    ],
)
def test_robots_tags(value: str) -> None:
    assert verify_robots_tag(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "dance",
        "noindex,",
        ",noindex",
        "noindex,,nofollow",
        "max-snippet: many",
        "max-snippet: -2",
        "max-image-preview: huge",
        "googlebot:",
        "unavailable_after: someday",
        "bot: dance",
    ],
)
def test_robots_tags_that_are_none(value: str) -> None:
    assert not is_robots_tag(value)
    assert complaint(lambda: verify_robots_tag(value)).startswith("Invalid X-Robots-Tag header: ")


@given(st.text(alphabet="abcd:, -_unavailable_after:0123noindex", max_size=60))
def test_any_text_is_a_robots_tag_or_a_refusal(value: str) -> None:
    is_robots_tag(value)
