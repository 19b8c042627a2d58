"""One session with PostgreSQL: prepared statements, exchanges of one write and one answer, cancellation.

A wire serves one exchange at a time; whoever holds it has it alone. Opening one is `connect.open_wire`.
"""

from __future__ import annotations

import asyncio
import select
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, NamedTuple, cast

from socle_platform.pgwire import messages
from socle_platform.pgwire.errors import ConnectionLost, DatabaseError, ProtocolViolation
from socle_platform.pgwire.protocol import (
    Column,
    CommandComplete,
    CopyData,
    CopyResponse,
    Decoder,
    Direction,
    Event,
    Notification,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    Row,
    RowDescription,
    ServerError,
    ServerNotice,
    Signal,
)

if TYPE_CHECKING:
    from socle_platform.pgwire.codec import Decode
    from socle_platform.pgwire.dsn import Address, Tls

SUSPENDED = "SUSPENDED"
"""Stands for the command tag where Execute stopped at its row limit."""

_PARSE_COMPLETE = Signal.PARSE_COMPLETE
_BIND_COMPLETE = Signal.BIND_COMPLETE
_SUSPENDED = Signal.PORTAL_SUSPENDED
_EMPTY = Signal.EMPTY_QUERY
_SESSION_OVER = frozenset({"FATAL", "PANIC"})
_STALE_PLAN = "cached plan must not change result type"


class Outcome(NamedTuple):
    """What one Execute gave: its rows and its command tag (or SUSPENDED)."""

    rows: list[Row]
    tag: str


class Answer(NamedTuple):
    """A complete answer: the outcomes so far, and the error that ended it, if one did."""

    outcomes: list[Outcome]
    error: DatabaseError | ConnectionLost | None = None


_ONE_ROW = "SELECT 1"
_SKIPPED = Outcome([], _ONE_ROW)


class Statement:
    """A prepared statement of one session; `columns` is None until it has been described, () if it gives no rows."""

    __slots__ = ("columns", "head", "key", "name", "readers")

    def __init__(self, key: Hashable, name: bytes) -> None:
        self.key = key
        self.name = name
        self.head = messages.bind_head(b"", name)
        self.columns: tuple[Column, ...] | None = None
        self.readers: tuple[tuple[str, Decode], ...] | None = None


class Wire(asyncio.Protocol):
    """A session. Attributes of note:

    status      I idle, T in a transaction, E in a failed one: as of the last complete answer
    parameters  what the server reports of its settings
    closed      the session is over; `farewell` is the server's last word, if it had one
    reset       the pool's reset as it was written last, while all its statements are prepared; else empty
    born, idle_since  loop times in seconds, kept for the pool
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, statement_cache: int = 256) -> None:
        self._loop = loop
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._events: list[Event] = []
        self._answers = 0
        self._waiter: asyncio.Future[Answer] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._after: Callable[[Answer], None] | None = None
        self._is_quiet = False
        self._heard = b""
        self._quiet_answer = b""
        self.listener: Callable[[list[Event]], None] | None = None
        self._statements: OrderedDict[Hashable, Statement] = OrderedDict()
        # One write must never evict its own statements; 0 keeps none.
        self._statement_limit = max(16, statement_cache) if statement_cache else 0
        self._named = 0
        self._evicted: list[bytes] = []
        self._parsing: deque[Statement] = deque()
        self._describing: deque[Statement] = deque()
        self.status = "I"
        self.busy = False
        self.closed = False
        self.failure: ConnectionLost | None = None
        self.farewell: DatabaseError | None = None
        self.parameters: dict[str, str] = {}
        self.process = 0
        self.secret = b""
        self.address: Address | None = None
        self.tls: Tls | None = None
        self.reset = b""
        self.born = self.idle_since = loop.time()
        self.generation = 0
        self.on_close: Callable[[Wire], None] | None = None
        self.on_notice: Callable[[DatabaseError], None] | None = None
        self.on_notification: Callable[[Notification], None] | None = None

    # ---- the transport's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self.busy and self.listener is None and not (self._events or self._parsing or self._describing):
            row = self._decoder.lone_row(data)
            if row is not None:
                self.status = "I"
                self._hand_over(Answer([_SKIPPED, Outcome([row], _ONE_ROW)]))
                return
            if self._is_quiet:
                if data == self._quiet_answer:
                    self._decoder.ready += 1
                    self.status = "I"
                    self._hand_over(Answer([]))
                    return
                self._heard = b"" if self._decoder.is_waiting else data
        try:
            events = self._decoder.feed(data)
        except ProtocolViolation as problem:
            self.give_up(problem)
            return
        if self.listener is not None:
            self.listener(events)
        elif not self.busy:
            self._read_idle(events)
        elif self._decoder.ready == self._answers:
            self._keep(events)
        else:
            self._complete(events)

    def _keep(self, events: list[Event]) -> None:
        """An answer that is not complete yet."""
        waiter = self._waiter
        if self._after is None and (waiter is None or waiter.done()):
            events = [event for event in events if type(event) is not tuple]
        self._events += events
        if events and type(events[-1]) is CopyResponse and events[-1].direction is not Direction.OUT:
            # Only copy_both() may start this; here nobody would ever feed it.
            self.failure = ConnectionLost(error=DatabaseError("0A000", "COPY from the client is not possible here"))
            self.abort()

    def _complete(self, events: list[Event]) -> None:
        """The answer's end."""
        if self._events:
            self._heard = b""
            self._events += events
            events = self._events
            self._events = []
        # Read here and not by whoever waits: it may be cancelled between the answer's arrival and its own turn.
        fresh = bool(self._parsing or self._describing)
        answer = self._read(events)
        if self._is_quiet and self._heard and not fresh and answer.error is None and self.status == "I":
            self._quiet_answer = self._heard
        self._hand_over(answer)

    def _hand_over(self, answer: Answer) -> None:
        """Gives a complete answer to whoever waits for it."""
        self._answers = self._decoder.ready
        self.busy = self._is_quiet = False
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
            return
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        after, self._after = self._after, None
        if after is not None:
            after(answer)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.busy = False
        for event in self._events:
            if type(event) is ServerError:
                self.farewell = event.as_error()
        self._events = []
        listener, waiter, drained, after = self.listener, self._waiter, self._drained, self._after
        self._after = None
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer([], self.lost()))
        if drained is not None and not drained.done():
            drained.set_result(None)
        if listener is not None:
            listener([])
        if self.on_close is not None:
            self.on_close(self)
        if after is not None:
            after(Answer([], self.lost()))

    # ---- ends ----------------------------------------------------------------------------------------------------

    def lost(self) -> ConnectionLost:
        """The error that tells of this session's end."""
        if self.failure is not None:
            return self.failure
        detail = f": {self.farewell.message}" if self.farewell else ""
        return ConnectionLost(f"the connection to the database was lost{detail}", self.farewell)

    def give_up(self, problem: ConnectionLost) -> None:
        """Ends the session because of `problem`."""
        self.failure = problem
        self.abort()

    def abort(self) -> None:
        """Ends the session at once, without a word."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def terminate(self) -> None:
        """Ends the session with a goodbye."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(messages.TERMINATE)
            self._transport.close()
        self._end()

    def pause(self) -> None:
        """Stops reading from the socket: the server waits once the buffers between are full."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def reserve(self) -> None:
        """Marks an idle session as busy, for whoever reads the events themselves; `synchronise` ends it."""
        if self.closed:
            raise self.lost()
        if self.busy:
            raise RuntimeError("this database session is busy with another exchange")
        self.busy = True

    def synchronise(self, unread: list[Event]) -> None:
        """Counts answers from here on; `unread` came after the last one."""
        self._answers = self._decoder.ready
        self.busy = False
        self._read_idle(unread)

    def has_news(self) -> bool:
        """Whether something lies unread on an idle session's socket: most likely its end."""
        return self._poll is not None and bool(self._poll.poll(0))

    # ---- exchanges -----------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Writes messages as they are. Raises ConnectionLost when the session is over."""
        if self.closed or self._transport is None:
            raise self.lost()
        self._transport.write(data)

    def exchange(self, payload: bytes, skip: int = 0) -> asyncio.Future[Answer]:
        """Writes messages that end in one Sync (or are one simple query); gives the answer up to ReadyForQuery.

        The rows of the first `skip` results are dropped. Raises ConnectionLost if nothing can be sent. When the wait is
        cancelled, the session stays busy: `drain` before anything else.
        """
        if self.closed or self._transport is None:
            raise self.lost()
        if self.busy:
            raise RuntimeError("this database session is busy with another exchange")
        self.busy = True
        self._decoder.skip_rows(skip)
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(payload)
        return waiter

    def exchange_later(
        self, payload: bytes, after: Callable[[Answer], None], skip: int = 0, *, quiet: bool = False
    ) -> None:
        """The same without a task: `after` is called with the answer, also where nothing can be sent.

        `quiet`: only the error counts, if there is one. An answer that is the last quiet one byte for byte is not read.
        """
        if self.closed or self._transport is None:
            after(Answer([], self.lost()))
            return
        self.busy = True
        self._decoder.skip_rows(skip)
        self._after = after
        self._is_quiet = quiet
        self._transport.write(payload)

    def abandon(self) -> None:
        """Nobody waits for the answer of `exchange_later` any more: `drain` before anything else."""
        self._after = None

    async def drain(self) -> None:
        """Waits until the answer of a cancelled exchange is complete, or the session is over."""
        if self.busy:
            self._drained = self._loop.create_future()
            await self._drained

    async def query(self, sql: str) -> list[Outcome]:
        """A simple query of one or more statements. Raises DatabaseError, ConnectionLost."""
        answer = await self.exchange(messages.query(sql))
        if answer.error is not None:
            raise answer.error
        return answer.outcomes

    def _read(self, events: list[Event]) -> Answer:
        """A complete answer → the outcome of each Execute. Keeps the books of statements and transaction status."""
        outcomes: list[Outcome] = []
        rows: list[Row] = []
        failed: ServerError | None = None
        for event in events:
            if event is _BIND_COMPLETE:
                pass
            elif isinstance(event, tuple):
                rows.append(event)
            elif isinstance(event, CommandComplete):
                outcomes.append(Outcome(rows, event.tag))
                rows = []
            elif isinstance(event, ReadyForQuery):
                self.status = event.status
            elif isinstance(event, ServerError):
                failed = event
            elif event is _SUSPENDED or event is _EMPTY:
                outcomes.append(Outcome(rows, SUSPENDED if event is _SUSPENDED else ""))
                rows = []
            elif not self._read_other(event):
                return Answer(outcomes, self.violated(f"{type(event).__name__} in the middle of an answer"))
        if (self._parsing or self._describing) and not self._forget_unparsed(failed):
            return Answer(outcomes, self.violated("no answer to a Parse or Describe"))
        return Answer(outcomes, None if failed is None else self._error_of(failed))

    def violated(self, what: str) -> ProtocolViolation:
        """Ends the session because the server sent `what`; the error to tell of it."""
        problem = ProtocolViolation(f"the database sent {what}")
        self.give_up(problem)
        return problem

    def _error_of(self, failed: ServerError) -> DatabaseError | ConnectionLost:
        error = failed.as_error()
        if error.severity not in _SESSION_OVER:
            return error
        self.farewell = error
        self.abort()
        return self.lost()

    def _read_other(self, event: Event) -> bool:
        """The rarer messages of an answer; False for one that has no place in it."""
        if event is _PARSE_COMPLETE:
            if self._parsing:
                self._parsing.popleft()
        elif isinstance(event, RowDescription) or event is Signal.NO_DATA:
            if self._describing:
                self._describing.popleft().columns = event.columns if isinstance(event, RowDescription) else ()
        elif isinstance(event, ParameterDescription | CopyData | CopyResponse):
            pass
        elif event is not Signal.CLOSE_COMPLETE and event is not Signal.COPY_DONE:
            return self.read_aside(event)
        return True

    def read_aside(self, event: Event) -> bool:
        """Messages that may come at any time."""
        if isinstance(event, ParameterStatus):
            self.parameters[event.name] = event.value
        elif isinstance(event, ServerNotice):
            if self.on_notice is not None:
                self.on_notice(event.as_error())
        elif isinstance(event, Notification):
            if self.on_notification is not None:
                self.on_notification(event)
        else:
            return False
        return True

    def _read_idle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ServerError):
                self.farewell = event.as_error()
                self.abort()
            elif not self.read_aside(event):
                self.violated(f"{type(event).__name__} without being asked")
                return

    # ---- prepared statements -------------------------------------------------------------------------------------

    def statement(self, parts: list[bytes], key: Hashable, sql: str, *, describe: bool = False) -> Statement:
        """The prepared statement for `key`, which must always come with the same `sql`.

        Appends to `parts` what has to be said first: Parse if this session does not know it yet, Describe if its
        columns are wanted and unknown. Raises ValueError for SQL that holds a NUL or a lone surrogate.
        """
        found = self._statements.get(key)
        if found is None:
            self._named += 1
            found = Statement(key, b"s%d" % self._named if self._statement_limit else b"")
            parts.append(messages.parse(found.name, sql))
            self._parsing.append(found)
            if self._statement_limit:
                self._statements[key] = found
            if len(self._statements) > self._statement_limit:
                _, oldest = self._statements.popitem(last=False)
                self.reset = b""
                self._evicted.append(oldest.name)
        else:
            self._statements.move_to_end(key)
        if describe and found.columns is None and found not in self._describing:
            parts.append(messages.describe_statement(found.name))
            self._describing.append(found)
        return found

    def _forget_unparsed(self, failed: ServerError | None) -> bool:
        """After an answer that left a Parse or Describe open; False if no error explains it."""
        self.forget_unsent()
        return failed is not None

    def forget_unsent(self) -> None:
        """Takes back what `statement` has noted for a write that was never made."""
        if self._parsing:
            self.reset = b""
        for statement in self._parsing:
            self._statements.pop(statement.key, None)
        self._parsing.clear()
        self._describing.clear()

    def closing(self) -> list[bytes]:
        """The Close messages that are due; put them first in the next write, where nothing can make them be skipped."""
        if not self._evicted:
            return []
        due = [messages.close_statement(name) for name in self._evicted]
        self._evicted = []
        return due

    def forget_statements(self) -> None:
        """Prepares everything anew from here on."""
        self.reset = b""
        self._evicted += [statement.name for statement in self._statements.values()]
        self._statements.clear()

    @property
    def keeps_statements(self) -> bool:
        """Whether anything stays prepared."""
        return self._statement_limit > 0

    @property
    def statements(self) -> int:
        """How many prepared statements this session holds."""
        return len(self._statements)


def is_stale_statement(error: DatabaseError) -> bool:
    """Whether a prepared statement is to blame: its table changed shape, or somebody deallocated it."""
    return error.sqlstate == "26000" or (error.sqlstate == "0A000" and error.message == _STALE_PLAN)
