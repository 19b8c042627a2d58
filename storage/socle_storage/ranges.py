"""The Range header (RFC 9110 §14; contract storage.md §3.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from socle_storage.errors import invalid_range

MAX_RANGES = 32
"""Ranges answered in one response; more is somebody playing."""
_ONE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` up to but not including `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def render(self, size: int) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def parse_ranges(text: str, size: int) -> tuple[ByteRange, ...]:
    """The ranges asked for of `size` bytes, ends clamped, those beyond the end left out.

    Raises InvalidRange when one is malformed, when none can be satisfied, when there are more than MAX_RANGES, or when
    several together ask for more than there is.
    """
    unit, equals, specs = text.partition("=")
    if unit.strip().lower() != "bytes" or not equals or size <= 0:
        raise invalid_range()
    pieces = [piece.strip() for piece in specs.split(",")]
    if len(pieces) > MAX_RANGES:
        raise invalid_range()
    ranges = [found for piece in pieces if (found := _parse_one(piece, size)) is not None]
    if not ranges or (len(ranges) > 1 and sum(each.length for each in ranges) > size):
        raise invalid_range()
    return tuple(ranges)


def _parse_one(piece: str, size: int) -> ByteRange | None:
    match = _ONE.fullmatch(piece)
    if match is None or not (match[1] or match[2]):
        raise invalid_range()
    if not match[1]:
        suffix = int(match[2])
        return ByteRange(max(size - suffix, 0), size) if suffix else None
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        raise invalid_range()
    if start >= size:
        return None
    return ByteRange(start, min(int(match[2]) + 1, size) if match[2] else size)
