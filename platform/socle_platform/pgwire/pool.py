"""Sessions kept for reuse: the one used last goes out first, the idle ones close, the lost ones are replaced."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from socle_platform.pgwire import messages
from socle_platform.pgwire.block import command, written
from socle_platform.pgwire.connect import stop
from socle_platform.pgwire.errors import DatabaseUnavailable, PoolTimeout

if TYPE_CHECKING:
    from socle_platform.pgwire.wire import Answer, Wire


_RETIRED = -1
"""The generation of a session that ends as soon as it is free."""


class Waiter(Protocol):
    """Who waits for a session: a future, or what is handed one without a task. None says that one may be opened now."""

    def done(self) -> bool:
        """Whether nothing is wanted any more."""
        ...

    def set_result(self, result: Wire | None, /) -> None:
        """The wait is over."""
        ...

    def set_exception(self, exception: DatabaseUnavailable, /) -> None:
        """There will be none."""
        ...


class Pool:
    """At most `size` sessions of one login. Times in seconds; 0 switches a limit off.

    `reset` are statements, with `;` between, that take back whatever a session's user left behind.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Wire]],
        *,
        size: int,
        acquire_timeout: float = 10.0,
        idle_timeout: float = 30.0,
        max_lifetime: float = 1800.0,
        cancel_timeout: float = 5.0,
        reset: str = "",
    ) -> None:
        self._connect = connect
        self._size = size
        self._acquire_timeout = acquire_timeout
        self._idle_timeout = idle_timeout
        self._max_lifetime = max_lifetime
        self._cancel_timeout = cancel_timeout
        self._reset_steps = [command(sql) for sql in map(str.strip, reset.split(";")) if sql]
        self._rollback_and_reset = messages.query(f"rollback; {reset}")
        self._idle: list[Wire] = []
        self._wires: set[Wire] = set()
        self._connecting = 0
        self._waiters: deque[Waiter] = deque()
        self._deadlines: deque[tuple[float, Waiter]] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._closing = False
        self.generation = 0

    @property
    def limit(self) -> int:
        """The most that may be open."""
        return self._size

    @property
    def size(self) -> int:
        """How many sessions are open or being opened."""
        return len(self._wires) + self._connecting

    @property
    def idle(self) -> int:
        """How many of them are free."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(not waiter.done() for waiter in self._waiters)

    # ---- taking and giving back ----------------------------------------------------------------------------------

    def take(self) -> Wire | None:
        """A free session that is certainly alive, at once; None if there is none (then `acquire`)."""
        if self._idle:
            wire = self._idle.pop()
            if not (wire.closed or wire.has_news()):
                return self.current(wire)
            self._idle.append(wire)
        return None

    async def acquire(self) -> Wire:
        """A free session, a new one, or the next that becomes free.

        Raises PoolTimeout, ConnectFailed.
        """
        deadline: float | None = None
        while True:
            if self._closing:
                raise DatabaseUnavailable("the database connections are being closed")
            wire = self.take() or await self._settled()
            if wire is not None:
                return wire
            if self.size < self._size:
                return await self._open()
            loop = asyncio.get_running_loop()
            if deadline is None and self._acquire_timeout:
                deadline = loop.time() + self._acquire_timeout
            wire = await self._wait(loop, deadline)
            if wire is not None and not wire.closed:
                return self.current(wire)

    def lend(self, waiter: Waiter) -> bool:
        """Hands `waiter` a free session now, or the next that becomes free; False where one may be opened (`acquire`).

        What comes later may be over already, or not know that statements have changed: see `current`.
        """
        wire = self.take()
        if wire is not None:
            waiter.set_result(wire)
            return True
        if self._idle or self._closing or self.size < self._size:
            return False
        loop = asyncio.get_running_loop()
        self._enqueue(waiter, loop, loop.time() + self._acquire_timeout if self._acquire_timeout else None)
        return True

    def current(self, wire: Wire) -> Wire:
        """The session, with its statements forgotten if they are those of an earlier schema."""
        if wire.generation != self.generation:
            wire.generation = self.generation
            wire.forget_statements()
        return wire

    async def _settled(self) -> Wire | None:
        """Lets the loop read what idle sessions have to say (mostly goodbyes), then takes one that is still there."""
        for _ in range(8):
            if not self._idle:
                return None
            await asyncio.sleep(0)
            wire = self.take()
            if wire is not None:
                return wire
        # It talks without end: not a session to trust with a request.
        if self._idle:
            self._idle.pop().abort()
        return None

    async def _open(self) -> Wire:
        self._connecting += 1
        try:
            wire = await self._connect()
        except BaseException:
            self._connecting -= 1
            self._wake()
            raise
        self._connecting -= 1
        wire.generation = self.generation
        wire.born = asyncio.get_running_loop().time() - random.uniform(0, self._max_lifetime / 10)  # noqa: S311
        wire.on_close = self._forget
        self._wires.add(wire)
        if wire.closed:
            self._forget(wire)
            raise wire.lost()
        return wire

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float | None) -> Wire | None:
        waiter: asyncio.Future[Wire | None] = loop.create_future()
        self._enqueue(waiter, loop, deadline)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                wire = waiter.result()
                if wire is None:
                    self._wake()
                else:
                    self.release(wire)
            raise

    def _enqueue(self, waiter: Waiter, loop: asyncio.AbstractEventLoop, deadline: float | None) -> None:
        self._waiters.append(waiter)
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()
        if deadline is not None:
            self._deadlines.append((deadline, waiter))
            if self._expiry is None:
                self._expiry = loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Gives up on those that have waited long enough; one timer for all, set to the oldest that still waits."""
        loop = asyncio.get_running_loop()
        self._expiry = None
        while self._deadlines:
            deadline, waiter = self._deadlines[0]
            if waiter.done():
                self._deadlines.popleft()
            elif deadline <= loop.time():
                self._deadlines.popleft()
                waiter.set_exception(PoolTimeout())
            else:
                self._expiry = loop.call_at(deadline, self._expire)
                return

    def release(self, wire: Wire) -> None:
        """Gives back a session that is idle and outside any transaction."""
        if wire.closed:
            return
        if wire.busy or wire.status != "I":
            self.recover(wire)
            return
        now = asyncio.get_running_loop().time()
        aged = self._max_lifetime and now - wire.born > self._max_lifetime
        if self._closing or wire.generation == _RETIRED or aged:
            wire.terminate()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(wire)
                return
        wire.idle_since = now
        self._idle.append(wire)
        if self._sweeper is None and self._idle_timeout:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_timeout, self._sweep)

    def release_reset(self, wire: Wire) -> None:
        """The same once everything that its last user may have left in the session is taken back.

        The reset is written in the next turn of the loop, so that an answer that is ready goes out first.
        """
        if wire.closed:
            return
        if wire.busy:
            self.recover(wire)
            return
        asyncio.get_running_loop().call_soon(self._write_reset, wire)

    def _write_reset(self, wire: Wire, *, again: bool = False) -> None:
        """Prepared statements, which cost PostgreSQL two thirds of a simple query; that where they cannot be used."""

        def done(answer: Answer) -> None:
            if answer.error is not None and not again and not wire.closed:
                wire.forget_statements()
                self._write_reset(wire, again=True)
            elif answer.error is not None:
                wire.terminate()
            else:
                self.release(wire)

        if wire.status != "I" or again or not self._reset_steps:
            payload = self._rollback_and_reset
        elif wire.reset:
            payload = wire.reset
        else:
            known = wire.statements
            payload = written(wire, self._reset_steps)
            if wire.statements == known and wire.keeps_statements and payload.startswith(b"B"):
                wire.reset = payload
        wire.exchange_later(payload, done, quiet=True)

    def recover(self, wire: Wire) -> None:
        """Takes back a session in any state: cancels what it runs, rolls back, resets; drops it if that takes long."""
        if not wire.closed:
            self._spawn(self._recover(wire))

    async def _recover(self, wire: Wire) -> None:
        await stop(wire, self._cancel_timeout)
        if not wire.closed:
            self.release_reset(wire)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- losing and closing --------------------------------------------------------------------------------------

    def _forget(self, wire: Wire) -> None:
        """A session is over: somebody who waits may open another."""
        self._wires.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)
        self._wake()
        if self._emptied is not None and not self._wires and not self._emptied.done():
            self._emptied.set_result(None)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _sweep(self) -> None:
        self._sweeper = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for wire in list(self._idle):
            aged = self._max_lifetime and now - wire.born > self._max_lifetime
            if aged or now - wire.idle_since >= self._idle_timeout:
                wire.terminate()
        if self._idle:
            wait = self._idle[0].idle_since + self._idle_timeout - now
            self._sweeper = loop.call_later(max(wait, 0.05), self._sweep)

    def renew(self) -> None:
        """Ends every session, idle ones now and busy ones when they come back: whoever asks later gets a new one."""
        for wire in list(self._wires):
            wire.generation = _RETIRED
        for wire in list(self._idle):
            wire.terminate()

    async def close(self) -> None:
        """Ends idle sessions now and busy ones when they come back, at the latest after the cancel timeout."""
        self._closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(DatabaseUnavailable("the database connections are being closed"))
        self._waiters.clear()
        for wire in list(self._idle):
            wire.terminate()
        if self._wires:
            self._emptied = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._cancel_timeout or None):
                    await self._emptied
            except TimeoutError:
                for wire in list(self._wires):
                    wire.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
