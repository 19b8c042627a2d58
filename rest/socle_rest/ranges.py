"""Row ranges: `limit`, `offset`, the Range header and Content-Range (contract rest.md §4, §5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError

if TYPE_CHECKING:
    from collections.abc import Mapping

_number = re.compile(r"\s*(-?)([0-9]+)\s*").fullmatch
_header = re.compile(r"([0-9]+)-([0-9]*)").fullmatch
_MAX_DIGITS = 40
"""A number with more digits is as good as this long a one: PostgreSQL refuses both."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows from `offset` to `last`, both counted from 0 and included; `last` None is the end."""

    offset: int = 0
    last: int | None = None

    @property
    def limit(self) -> int | None:
        """How many rows at most; None is no limit."""
        return None if self.last is None else self.last - self.offset + 1

    @property
    def is_empty(self) -> bool:
        """No row can be in it."""
        return self.last is not None and self.last < self.offset

    @property
    def asks_for_nothing(self) -> bool:
        """`limit=0`: the one empty range that is an answer rather than an error."""
        return self.last == -1

    def intersect(self, other: Range) -> Range:
        """The rows in both."""
        if self.is_empty or other.is_empty:
            return NOWHERE
        lasts = [last for last in (self.last, other.last) if last is not None]
        return Range(max(self.offset, other.offset), min(lasts) if lasts else None)

    def restrict(self, max_rows: int | None) -> Range:
        """At most `max_rows` rows of it."""
        if max_rows is None or self.asks_for_nothing:
            return NOTHING if self.asks_for_nothing else self
        capped = self.offset + max_rows - 1
        return Range(self.offset, capped if self.last is None else min(self.last, capped))


EVERYTHING = Range()
NOTHING = Range(0, -1)
NOWHERE = Range(0, -2)
"""The empty range that nobody asked for: lower bound above the upper one."""


def _parse_number(text: str) -> int | None:
    found = _number(text)
    return None if found is None else int(found.group(1) + _digits(found.group(2)))


def _digits(text: str) -> str:
    return text if len(text) <= _MAX_DIGITS else "9" * _MAX_DIGITS


def combine_ranges(limits: Mapping[str, str], offsets: Mapping[str, str]) -> dict[str, Range]:
    """One range per level, by the `limit` key of the level. What is no number is ignored."""
    ranges: dict[str, Range] = {}
    for key in {**limits, **offsets}:
        limit = _parse_number(limits.get(key, ""))
        offset = _parse_number(offsets.get(key, ""))
        if limit is None and offset is None:
            continue
        start = offset or 0
        ranges[key] = Range(start, None if limit is None else start + limit - 1)
    return ranges


def parse_range_header(text: str | None) -> Range:
    """`a-b` or `a-`; everything else asks for nothing in particular."""
    found = None if text is None else _header(text)
    if found is None:
        return EVERYTHING
    first, last = found.groups()
    return Range(int(_digits(first)), int(_digits(last)) if last else None)


def top_level_range(root: Range, header: Range) -> Range:
    """What the request asks of its top level. Raises RestError (PGRST103) when no row can be in it."""
    if root.asks_for_nothing:
        return NOTHING
    both = header.intersect(root)
    if both.is_empty:
        raise RestError(
            Code.RANGE_UNSATISFIABLE,
            details=(
                "The lower boundary must be lower than or equal to the upper boundary in the Range header."
                if header.is_empty
                else "Limit should be greater than or equal to zero."
            ),
        )
    return both


def content_range(first: int, last: int, total: int | None) -> str:
    """The header's value: `*` for no rows, `*` for an unknown total."""
    rows = f"{first}-{last}" if total != 0 and first <= last else "*"
    return f"{rows}/{'*' if total is None else total}"


def range_status(first: int, last: int, total: int | None) -> int:
    """200 for all there is, 206 for a part, 416 beyond the end."""
    if total is None:
        return 200
    if first > total:
        return 416
    return 206 if 1 + last - first < total else 200


def out_of_bounds(first: int, total: int | None) -> RestError:
    """PGRST103 for an offset beyond the last row."""
    return RestError(
        Code.RANGE_UNSATISFIABLE,
        details=f"An offset of {first} was requested, but there are only {total or 0} rows.",
    )
