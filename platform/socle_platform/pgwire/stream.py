"""A result in portions: one portal, asked for so many rows at a time, so that neither side holds it whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from socle_platform.pgwire import messages
from socle_platform.pgwire.block import COMMIT, Command, append_command, impossible_text
from socle_platform.pgwire.errors import DatabaseError
from socle_platform.pgwire.wire import SUSPENDED, Outcome, Wire, is_stale_statement

if TYPE_CHECKING:
    from types import TracebackType

    from socle_platform.pgwire.pool import Pool
    from socle_platform.pgwire.protocol import Row

_PORTAL = b"rows"


class RowStream:
    """A transaction around one statement; iterates over lists of at most `batch` rows.

    Commits when left normally, rolls back when left by an exception; either way the rest is not fetched.
    """

    def __init__(self, pool: Pool, opening: Sequence[Command], step: Command, batch: int, *, reset: bool) -> None:
        if batch < 1:
            raise ValueError("a portion has at least one row")
        self._pool = pool
        self._opening = opening
        self._step = step
        self._execute = messages.execute(_PORTAL, batch) + messages.SYNC
        self._reset = reset
        self._wire: Wire | None = None
        self._next: list[Row] = []
        self._more = False

    async def __aenter__(self) -> Self:
        wire = self._wire = self._pool.take() or await self._pool.acquire()
        try:
            try:
                await self._start(wire)
            except DatabaseError as error:
                if not is_stale_statement(error):
                    raise
                wire.forget_statements()
                await wire.query("rollback")
                await self._start(wire)
        except BaseException:
            self._pool.recover(wire)
            raise
        return self

    async def _start(self, wire: Wire) -> None:
        """The opening and the first portion in one write."""
        parts = wire.closing()
        try:
            for step in self._opening:
                append_command(parts, wire, step)
            statement = wire.statement(parts, self._step.key, self._step.sql)
        except ValueError as problem:
            wire.forget_unsent()
            raise impossible_text(problem) from problem
        head = messages.bind_head(_PORTAL, statement.name)
        parts += (messages.bind(head, self._step.values, self._step.tail), self._execute)
        self._take(await self._exchange(wire, b"".join(parts), len(self._opening)))

    async def _exchange(self, wire: Wire, payload: bytes, skip: int = 0) -> Outcome:
        answer = await wire.exchange(payload, skip)
        if answer.error is not None:
            raise answer.error
        if len(answer.outcomes) != skip + 1:
            raise wire.violated("fewer results than statements")
        return answer.outcomes[-1]

    def _take(self, outcome: Outcome) -> None:
        self._next = outcome.rows
        self._more = outcome.tag == SUSPENDED

    def __aiter__(self) -> RowStream:
        return self

    async def __anext__(self) -> list[Row]:
        if not self._next and self._more:
            assert self._wire is not None
            self._take(await self._exchange(self._wire, self._execute))
        if not self._next:
            raise StopAsyncIteration
        rows, self._next = self._next, []
        return rows

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wire, self._wire = self._wire, None
        assert wire is not None
        if error is not None:
            self._pool.recover(wire)
            return
        try:
            parts: list[bytes] = []
            append_command(parts, wire, COMMIT)
            parts.append(messages.SYNC)
            await self._exchange(wire, b"".join(parts))
        except BaseException:
            self._pool.recover(wire)
            raise
        if self._reset:
            self._pool.release_reset(wire)
        else:
            self._pool.release(wire)
