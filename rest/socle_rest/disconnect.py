"""Stops the work of requests whose client has gone, which stops their statement on the server.

Only requests that take their time are watched: quick ones cost two set operations, and one timer serves all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError

if TYPE_CHECKING:
    from types import TracebackType

    from socle_platform.http import Receive

INTERVAL = 0.125
"""Seconds between looks at what is running. A request is watched from the second look on."""


class ClientGone(RestError):
    """The client went away before its answer was complete."""

    def __init__(self) -> None:
        super().__init__(Code.CONNECTION_LOST)


class Disconnects:
    """The requests in flight of one service, in one event loop."""

    def __init__(self) -> None:
        self._fresh: set[Watch] = set()
        self._seen: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, receive: Receive) -> Watch:
        """A block that is cancelled when `receive` tells that the client has gone; then it raises ClientGone."""
        return Watch(self, receive)

    def enter(self, watch: Watch) -> None:
        """Takes up a request that has begun."""
        self._fresh.add(watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def leave(self, watch: Watch) -> None:
        """Lets go of a request that has ended."""
        self._fresh.discard(watch)
        self._seen.discard(watch)

    def _look(self) -> None:
        for watch in self._seen:
            watch.start()
        self._seen, self._fresh = self._fresh, set()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look) if self._seen else None


class Watch:
    """One request; see `Disconnects.watch`."""

    __slots__ = ("_all", "_gone", "_receive", "_task", "_watcher")

    def __init__(self, everyone: Disconnects, receive: Receive) -> None:
        self._all = everyone
        self._receive = receive
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._all.enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.leave(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientGone from error

    def start(self) -> None:
        """Listens to the client from here on."""
        self._watcher = asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()
