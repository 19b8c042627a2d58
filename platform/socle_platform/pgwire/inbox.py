"""Events one by one, for the conversations that are no exchange: start-up, COPY, replication."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_platform.pgwire.protocol import Event
    from socle_platform.pgwire.wire import Wire

_FULL = 1024
"""Events that may wait unread before the server is made to wait."""


class Inbox:
    """Takes over a wire's events until detached. The server is held back while nobody reads."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._events: deque[Event] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._held = False
        wire.listener = self._put

    def _put(self, events: list[Event]) -> None:
        self._events.extend(events)
        if len(self._events) > _FULL and not self._held:
            self._held = True
            self._wire.pause()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def get(self) -> Event:
        """The next event. Raises ConnectionLost once the session is over and everything has been read."""
        while not self._events:
            if self._held:
                self._held = False
                self._wire.resume()
            if self._wire.closed:
                raise self._wire.lost()
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._events.popleft()

    def detach(self) -> None:
        """Gives the events back to the wire."""
        self._wire.listener = None
        if self._held:
            self._wire.resume()
        self._wire.synchronise(list(self._events))
