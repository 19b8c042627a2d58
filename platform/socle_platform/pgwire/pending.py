"""An exchange that no task waits for: written where its session is handed over, ended where the answer arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.pgwire.block import written
from socle_platform.pgwire.errors import DatabaseError, DatabaseUnavailable
from socle_platform.pgwire.wire import is_stale_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from socle_platform.pgwire.block import Command
    from socle_platform.pgwire.pool import Pool
    from socle_platform.pgwire.wire import Answer, Outcome, Wire


class Pending:
    """One whole transaction in one write; a `pool.Waiter`.

    `done` is called once, with the last step's outcome, with the error, or with None: then nothing has been kept, and
    the same has to be tried in another way (a session must be opened first, or statements be prepared anew).
    It is not called after `cancel`.
    """

    __slots__ = ("_done", "_pool", "_reset", "_steps", "_wire")

    def __init__(
        self,
        pool: Pool,
        steps: Sequence[Command],
        done: Callable[[Outcome | DatabaseError | DatabaseUnavailable | None], None],
        *,
        reset: bool,
    ) -> None:
        self._pool = pool
        self._steps = steps
        self._done: Callable[[Outcome | DatabaseError | DatabaseUnavailable | None], None] | None = done
        self._reset = reset
        self._wire: Wire | None = None

    def cancel(self) -> None:
        """Stops the statement on the server, wherever it is."""
        self._done = None
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abandon()
            self._pool.recover(wire)

    # ---- as the pool sees it -------------------------------------------------------------------------------------

    def done(self) -> bool:
        return self._done is None

    def set_result(self, result: Wire | None, /) -> None:
        if result is None or result.closed:
            self._finish(None)
            return
        wire = self._pool.current(result)
        try:
            payload = written(wire, self._steps)
        except DatabaseError as error:
            self._pool.release(wire)
            self._finish(error)
            return
        self._wire = wire
        wire.exchange_later(payload, self._answered, len(self._steps) - 1)

    def set_exception(self, exception: DatabaseUnavailable, /) -> None:
        self._finish(exception)

    # ---- the answer ----------------------------------------------------------------------------------------------

    def _answered(self, answer: Answer) -> None:
        wire, self._wire = self._wire, None
        assert wire is not None
        outcomes, error = answer
        if error is None and len(outcomes) != len(self._steps):
            error = wire.violated("fewer results than statements")
        if isinstance(error, DatabaseError) and is_stale_statement(error):
            wire.forget_statements()
            self._pool.release(wire)
            self._finish(None)
            return
        if self._reset:
            self._pool.release_reset(wire)
        else:
            self._pool.release(wire)
        self._finish(outcomes[-1] if error is None else error)

    def _finish(self, found: Outcome | DatabaseError | DatabaseUnavailable | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(found)
