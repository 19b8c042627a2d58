"""One request at a time for each upload; whoever waits asks the holder to give way (contract storage.md §8).

Within one process. Between processes nothing needs a lock: what a request stores counts only if the upload is still at
the position that the request began from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from socle_storage.errors import lock_timeout

_PATIENCE = 5.0
"""Seconds until a waiting request gives up."""
_ASK_AGAIN = 0.5


@dataclass(slots=True)
class _Place:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0


class Locks:
    """The locks of all uploads that are in use right now."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._places: dict[str, _Place] = {}
        self._patience = patience

    @asynccontextmanager
    async def hold(self, upload: str) -> AsyncGenerator[asyncio.Event, None]:
        """Holds one upload; the event is set when somebody else wants it. Raises LockTimeout."""
        place = self._places.setdefault(upload, _Place())
        place.users += 1
        try:
            await self._acquire(place)
            place.asked = asyncio.Event()
            try:
                yield place.asked
            finally:
                place.lock.release()
        finally:
            place.users -= 1
            if not place.users:
                self._places.pop(upload, None)

    async def _acquire(self, place: _Place) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        while True:
            place.asked.set()
            try:
                await asyncio.wait_for(place.lock.acquire(), min(_ASK_AGAIN, self._patience))
            except TimeoutError:
                if loop.time() >= end:
                    raise lock_timeout() from None
            else:
                return
