"""Buckets remembered for a moment, so that many small uploads do not look up the same row each time.

What this service changes itself is forgotten at once; what SQL or another process changes is noticed within the second.
Nobody is refused for what is only remembered: the row is then read again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_storage.rows import Bucket

_SECONDS = 1.0
_CAPACITY = 1000


class KnownBuckets:
    """Rows of storage.buckets by id, each for at most a second."""

    def __init__(self, seconds: float = _SECONDS, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._rows: OrderedDict[str, tuple[float, Bucket]] = OrderedDict()

    def get(self, bucket: str) -> Bucket | None:
        """The row, unless it is not known or known for too long."""
        entry = self._rows.get(bucket)
        if entry is None or self._now() - entry[0] >= self._seconds:
            return None
        return entry[1]

    def remember(self, bucket: Bucket) -> None:
        self._rows[bucket.id] = (self._now(), bucket)
        self._rows.move_to_end(bucket.id)
        if len(self._rows) > _CAPACITY:
            self._rows.popitem(last=False)

    def forget(self, bucket: str) -> None:
        self._rows.pop(bucket, None)
