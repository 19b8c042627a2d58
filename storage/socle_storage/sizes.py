"""File size limits as people write them (contract storage.md §2). Pure."""

from __future__ import annotations

import re

from socle_storage.errors import invalid_size, too_large

_WITH_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)(gb|mb|kb|b)", re.IGNORECASE)
_FACTOR = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1}


def parse_size(text: str) -> int:
    """Bytes of `20MB`: decimal units, the number rounded to three significant digits. Raises InvalidRequest."""
    match = _WITH_UNIT.fullmatch(text)
    if not match or len(match[1]) > 32:
        raise invalid_size()
    return int(float(f"{float(match[1]):.3g}") * _FACTOR[match[2].lower()])


def verify_bucket_limit(value: object, ceiling: int) -> int | None:
    """A bucket's `file_size_limit` in bytes: a whole number, a text with unit, or None.

    Raises InvalidRequest, or EntityTooLarge above `ceiling`.
    """
    if value is None:
        return None
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise invalid_size()
    if isinstance(value, int | float):
        limit = int(value)
    elif isinstance(value, str):
        limit = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else parse_size(value)
    else:
        raise invalid_size()
    if limit < 0:
        raise invalid_size()
    if limit > ceiling:
        raise too_large()
    return limit
