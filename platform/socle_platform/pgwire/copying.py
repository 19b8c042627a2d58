"""COPY … TO STDOUT and the replication stream: data that comes as the server has it (manual, «COPY Operations»).

wire = await open_wire(parse_dsn("postgresql://…?replication=database"))
async with CopyStream(wire, "START_REPLICATION SLOT s LOGICAL 0/0 (…)") as stream:
    async for message in stream:
        stream.send(standby_status)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from socle_platform.pgwire import messages
from socle_platform.pgwire.connect import cancel
from socle_platform.pgwire.errors import DatabaseError, ProtocolViolation
from socle_platform.pgwire.inbox import Inbox
from socle_platform.pgwire.protocol import (
    CommandComplete,
    CopyData,
    CopyResponse,
    Direction,
    Notification,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
    ServerError,
    ServerNotice,
    Signal,
)

if TYPE_CHECKING:
    from types import TracebackType

    from socle_platform.pgwire.wire import Wire


class CopyStream:
    """One COPY on an idle session, which it has to itself until left; iterates over the data messages.

    The server is held back while nobody reads. Leaving early ends the stream on the server, too; `end_timeout` seconds
    are granted for that, then the session is dropped. Raises DatabaseError, ConnectionLost; DatabaseError 42601 for a
    statement that starts no COPY towards us.
    """

    def __init__(self, wire: Wire, sql: str, *, end_timeout: float = 5.0) -> None:
        self._wire = wire
        self._sql = sql
        self._end_timeout = end_timeout
        self._inbox: Inbox | None = None
        self._both = False
        self._open = False
        self._done = False
        self._failure: DatabaseError | None = None

    async def __aenter__(self) -> Self:
        wire = self._wire
        wire.reserve()
        self._inbox = Inbox(wire)
        try:
            wire.send(messages.query(self._sql))
            if not await self._started():
                raise self._failure or DatabaseError("42601", "the statement starts no COPY towards the client")
        except BaseException:
            await self._leave()
            raise
        return self

    async def _started(self) -> bool:
        while not self._done:
            event = await self._next()
            if isinstance(event, CopyResponse):
                self._open = True
                self._both = event.direction is Direction.BOTH
                if event.direction is Direction.IN:
                    self._wire.send(messages.copy_fail("nothing to copy"))
                    self._open = False
                return self._open
        return False

    async def _next(self) -> CopyData | CopyResponse | None:
        """The next message that matters; None for one that only changes our books."""
        assert self._inbox is not None
        event = await self._inbox.get()
        if isinstance(event, CopyData | CopyResponse):
            return event
        if isinstance(event, ServerError):
            self._failure = event.as_error()
            self._open = False
        elif isinstance(event, ReadyForQuery):
            self._wire.status = event.status
            self._open = False
            self._done = True
        elif event is Signal.COPY_DONE:
            if self._both and self._open:
                self._wire.send(messages.COPY_DONE)
            self._open = False
        elif isinstance(event, ServerNotice | Notification | ParameterStatus):
            self._wire.read_aside(event)
        elif not isinstance(event, CommandComplete | RowDescription | tuple):
            raise self._wire.violated(f"{type(event).__name__} in the middle of COPY")
        return None

    def send(self, data: bytes) -> None:
        """One CopyData message to the server (replication: a standby status update). Raises ConnectionLost."""
        self._wire.send(messages.copy_data(data))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._done:
            event = await self._next()
            if isinstance(event, CopyData):
                return event.data
            if isinstance(event, CopyResponse):
                raise ProtocolViolation("the database started COPY twice")
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        assert self._inbox is not None
        try:
            async with asyncio.timeout(self._end_timeout):
                if self._open and self._both:
                    self._open = False
                    self._wire.send(messages.COPY_DONE)
                elif self._open:
                    await cancel(self._wire, self._end_timeout)
                while not self._done and not self._wire.closed:
                    await self._next()
        except BaseException as problem:
            self._wire.abort()
            if not isinstance(problem, Exception):
                raise
        finally:
            self._inbox.detach()
