"""Conditional requests and Cache-Control."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_storage.caching import (
    Conditions,
    cache_control,
    is_range_current,
    is_unchanged,
    parse_moment,
    parse_tags,
    render_http_date,
)

MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"


@pytest.mark.parametrize(
    ("conditions", "unchanged"),
    [
        (Conditions(), False),
        (Conditions(if_none_match='"a"'), True),
        (Conditions(if_none_match='W/"a"'), True),
        (Conditions(if_none_match='"b", "a"'), True),
        (Conditions(if_none_match='"b","c"'), False),
        (Conditions(if_none_match="*"), True),
        (Conditions(if_none_match="a"), False),
        (Conditions(if_none_match='"b"', if_modified_since=DATE), False),
        (Conditions(if_modified_since=DATE), True),
        (Conditions(if_modified_since="Fri, 02 Jan 2026 03:04:04 GMT"), False),
        (Conditions(if_modified_since="2026-01-02T03:04:05Z"), True),
        (Conditions(if_modified_since="yesterday"), False),
        (Conditions(if_modified_since=""), False),
    ],
)
def test_when_nothing_has_changed(conditions: Conditions, unchanged: bool) -> None:
    assert is_unchanged(conditions, '"a"', MODIFIED) is unchanged


def test_a_row_that_knows_nothing_has_always_changed() -> None:
    assert not is_unchanged(Conditions(if_none_match='"a"', if_modified_since=DATE), None, None)
    assert not is_unchanged(Conditions(if_modified_since=DATE), None, None)


@pytest.mark.parametrize(
    ("if_range", "current"),
    [(None, True), ('"a"', True), ('W/"a"', False), ('"b"', False), (DATE, True), ("nonsense", False)],
)
def test_when_a_range_counts(if_range: str | None, current: bool) -> None:
    assert is_range_current(Conditions(if_range=if_range), '"a"', MODIFIED) is current


@pytest.mark.parametrize(
    ("stored", "asked", "shared", "head", "value"),
    [
        ("max-age=5", None, 9, False, "max-age=5"),
        ("max-age=5", '"a"', 0, False, "max-age=5"),
        ("max-age=5", '"a"', 9, False, "max-age=5, s-maxage=9"),
        ("max-age=5", '"b"', 9, False, "max-age=5, s-maxage=9, stale-while-revalidate=30"),
        ("max-age=5", '"a"', 9, True, "max-age=5, s-maxage=9"),
        ("max-age=5", '"b"', 9, True, "max-age=5, must-revalidate"),
        ("max-age=5", '"a"', 0, True, "max-age=5"),
        (None, None, 0, False, ""),
        (None, '"b"', 0, False, "stale-while-revalidate=30"),
    ],
)
def test_cache_control(stored: str | None, asked: str | None, shared: int, head: bool, value: str) -> None:
    assert cache_control(stored, asked, '"a"', shared_max_age=shared, head=head) == value


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 (hypothesis wants bounds without a zone)
def test_a_date_survives_the_header(moment: datetime) -> None:
    assert parse_moment(render_http_date(moment)) == moment.replace(microsecond=0)
    assert parse_moment(moment.isoformat()) == moment


@given(st.text(max_size=40))
def test_any_text_is_tags_and_perhaps_a_moment(text: str) -> None:
    parse_tags(text)
    moment = parse_moment(text)
    assert moment is None or moment.utcoffset() == timedelta(0)
