"""The Range header: clamped, refused, and never beyond the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.storage import code_of
from socle_storage.errors import Code, StorageError
from socle_storage.ranges import ByteRange, parse_ranges

number = st.one_of(st.just(""), st.integers(0, 10**19).map(str))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 10)]),
        ("bytes=-1", [(9, 10)]),
        ("bytes=-100", [(0, 10)]),
        ("bytes=5-100", [(5, 10)]),
        ("Bytes = 2-3", [(2, 4)]),
        ("bytes=0-1,8-9", [(0, 2), (8, 10)]),
        ("bytes=0-1, 50-60", [(0, 2)]),
        ("bytes=0-1, -0", [(0, 2)]),
    ],
)
def test_what_is_asked_for(text: str, expected: list[tuple[int, int]]) -> None:
    assert parse_ranges(text, 10) == tuple(ByteRange(*pair) for pair in expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-4",
        "bytes=10-",
        "bytes=-0",
        "bytes=0-1,",
        "bytes=0-9,0-9",
        "chars=0-1",
        "bytes=0x1-2",
        "bytes=1-2;3-4",
        "bytes=+1-2",
        "bytes=\u0661-2",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(StorageError) as refused:
        parse_ranges(text, 10)
    assert (refused.value.code, refused.value.http_status) == (Code.INVALID_RANGE, 416)


def test_nothing_of_an_empty_object() -> None:
    with pytest.raises(StorageError):
        parse_ranges("bytes=0-", 0)


@given(st.lists(st.tuples(number, number), min_size=1, max_size=40), st.integers(1, 10**13))
def test_ranges_lie_within_the_object_and_do_not_exceed_it_together(pairs: list[tuple[str, str]], size: int) -> None:
    text = "bytes=" + ",".join("-".join(pair) for pair in pairs)
    code = code_of(lambda: parse_ranges(text, size))
    assert code in {None, Code.INVALID_RANGE}
    if code is not None:
        return
    ranges = parse_ranges(text, size)
    assert ranges
    assert all(0 <= each.start < each.end <= size for each in ranges)
    assert len(ranges) == 1 or sum(each.length for each in ranges) <= size


@given(st.text(max_size=50), st.integers(0, 100))
def test_any_text_is_a_range_or_a_refusal(text: str, size: int) -> None:
    assert code_of(lambda: parse_ranges(text, size)) in {None, Code.INVALID_RANGE}


def test_how_a_range_is_named() -> None:
    assert ByteRange(2, 5).render(10) == "bytes 2-4/10"
