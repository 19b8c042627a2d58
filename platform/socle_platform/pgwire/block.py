"""A transaction block on one session: what `db.Connection` promises.

The session is taken with the first statement, and the block's opening (BEGIN and whatever must come first) travels in
the same write as that statement.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from socle_platform.pgwire import messages
from socle_platform.pgwire.codec import BUILT_IN, CATALOGUE_QUERY, FIRST_USER_OID, array_reader, decode_text, encode
from socle_platform.pgwire.connect import stop
from socle_platform.pgwire.errors import DatabaseError
from socle_platform.pgwire.wire import Outcome, Statement, Wire, is_stale_statement

if TYPE_CHECKING:
    from types import TracebackType

    from socle_platform.pgwire.codec import Decode
    from socle_platform.pgwire.pool import Pool

Record: TypeAlias = dict[str, Any]


class Rollback(Exception):
    """Raised inside a transaction block to leave it with nothing kept and nothing raised."""


class Command(NamedTuple):
    """A statement with its counted parameters in wire form, and its key in the cache of prepared statements."""

    sql: str
    key: Hashable
    values: Sequence[bytes] = (b"\0\0",)
    tail: bytes = messages.TEXT_RESULTS


def command(sql: str) -> Command:
    """A statement of our own without parameters."""
    return Command(sql, sql)


COMMIT = command("commit")


def impossible_text(problem: ValueError) -> DatabaseError:
    """What PostgreSQL would say of SQL that cannot even be sent: names that users gave may stand in it."""
    detail = "0x00" if "NUL" in str(problem) else "a lone surrogate"
    return DatabaseError("22021", f'invalid byte sequence for encoding "UTF8": {detail}')


def append_command(parts: list[bytes], wire: Wire, step: Command) -> None:
    """Appends Bind and Execute, after a Parse if need be."""
    statement = wire.statement(parts, step.key, step.sql)
    parts += (messages.bind(statement.head, step.values, step.tail), messages.EXECUTE)


def written(wire: Wire, steps: Sequence[Command]) -> bytes:
    """All steps up to their Sync, as one write. Raises DatabaseError 22021 for SQL that cannot be sent."""
    parts = wire.closing()
    try:
        for step in steps:
            append_command(parts, wire, step)
    except ValueError as problem:
        wire.forget_unsent()
        raise impossible_text(problem) from problem
    parts.append(messages.SYNC)
    return b"".join(parts)


def counted(args: Sequence[object]) -> list[bytes]:
    """The start of counted parameters. Raises DatabaseError 54023 beyond 65535."""
    if len(args) > messages.MAX_PARAMETERS:
        raise DatabaseError("54023", f"a statement cannot have more than {messages.MAX_PARAMETERS} parameters")
    return [messages.count(len(args))]


def encode_values(args: Sequence[object]) -> list[bytes]:
    """Parameters counted and in wire form.

    Raises DatabaseError 54023 beyond 65535 of them, 54000 beyond the length of a message, and as `codec.encode`.
    """
    values = counted(args)
    messages.append_values(values, map(encode, args))
    if sum(map(len, values)) > messages.LONGEST_VALUES:
        raise DatabaseError("54000", "the parameters are longer than PostgreSQL accepts in one message")
    return values


class Types:
    """Readers by type OID of one database; array types of its own are looked up once."""

    def __init__(self) -> None:
        self._readers: dict[int, Decode] = dict(BUILT_IN)

    def unknown(self, statement: Statement) -> list[int]:
        """Types of the statement's columns that only the catalogue can tell about."""
        return [
            column.type
            for column in statement.columns or ()
            if column.type >= FIRST_USER_OID and column.type not in self._readers
        ]

    def learn(self, asked: Sequence[int], rows: Sequence[tuple[bytes | None, ...]]) -> None:
        """Takes the answer to CATALOGUE_QUERY; what was asked and not found is text."""
        for oid in asked:
            self._readers[oid] = decode_text
        for array, element, delimiter in rows:
            reader = self._readers.get(int(element or 0), decode_text)
            self._readers[int(array or 0)] = array_reader(reader, (delimiter or b",").decode())

    def readers(self, statement: Statement) -> tuple[tuple[str, Decode], ...]:
        """Name and reader of each column."""
        found = statement.readers
        if found is None:
            columns = statement.columns or ()
            found = tuple((column.name, self._readers.get(column.type, decode_text)) for column in columns)
            statement.readers = found
        return found


class Block:
    """One transaction. Not for two tasks at once."""

    def __init__(
        self, pool: Pool, types: Types, role: str, opening: Sequence[Command], release: Callable[[Wire], None]
    ) -> None:
        self._pool = pool
        self._types = types
        self._role = role
        self._queue = list(opening)
        self._begun = False
        self._release = release
        self._wire: Wire | None = None
        self._running = False
        self._over = False
        self._savepoints = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._over = True
        wire = self._wire
        if wire is not None:
            if error is not None:
                self._pool.recover(wire)
            elif self._begun:
                await self._commit(wire)
            else:
                self._pool.release(wire)
        return isinstance(error, Rollback)

    async def _commit(self, wire: Wire) -> None:
        try:
            if wire.busy or (wire.status != "T" and not self._will_mend()):
                raise _failed_before()
            parts = wire.closing()
            for step in (*self._queue, COMMIT):
                append_command(parts, wire, step)
            parts.append(messages.SYNC)
            answer = await wire.exchange(b"".join(parts))
            if answer.error is not None:
                raise answer.error
            if not answer.outcomes or answer.outcomes[-1].tag != "COMMIT":
                raise _failed_before()
        except BaseException:
            self._pool.recover(wire)
            raise
        self._release(wire)

    def _will_mend(self) -> bool:
        return any(step.sql.startswith("rollback to") for step in self._queue)

    # ---- statements ----------------------------------------------------------------------------------------------

    async def execute(self, sql: str, *args: object) -> str:
        _, outcome = await self._perform(sql, args, describe=False)
        return outcome.tag

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        statement, outcome = await self._perform(sql, args)
        readers = self._types.readers(statement)
        return [_record(readers, row) for row in outcome.rows]

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        statement, outcome = await self._perform(sql, args)
        return _record(self._types.readers(statement), outcome.rows[0]) if outcome.rows else None

    async def fetchval(self, sql: str, *args: object) -> Any:
        statement, outcome = await self._perform(sql, args)
        if not outcome.rows or not outcome.rows[0]:
            return None
        value = outcome.rows[0][0]
        return None if value is None else self._types.readers(statement)[0][1](value)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return _Savepoint(self)

    async def _perform(self, sql: str, args: Sequence[object], *, describe: bool = True) -> tuple[Statement, Outcome]:
        if self._over:
            raise RuntimeError("the transaction block is over")
        if self._running:
            raise RuntimeError("another statement is running in this transaction block")
        step = Command(sql, (self._role, sql), encode_values(args))
        self._running = True
        try:
            statement, outcome = await self._attempt(step, describe=describe)
            if describe and outcome.rows and statement.readers is None and (asked := self._types.unknown(statement)):
                lookup = Command(CATALOGUE_QUERY, CATALOGUE_QUERY, encode_values([asked]))
                _, found = await self._attempt(lookup, describe=False)
                self._types.learn(asked, found.rows)
            return statement, outcome
        finally:
            self._running = False

    async def _attempt(self, step: Command, *, describe: bool, again: bool = False) -> tuple[Statement, Outcome]:
        wire = self._wire
        if wire is None:
            wire = self._wire = self._pool.take() or await self._pool.acquire()
        elif wire.busy:
            # The caller gave up an earlier statement and stayed: the server must have stopped it before it hears more.
            await stop(wire)
        if self._begun and wire.status == "I":
            raise _failed_before()
        fresh, queue = not self._begun, self._queue
        parts = wire.closing()
        try:
            for queued in queue:
                append_command(parts, wire, queued)
            statement = wire.statement(parts, step.key, step.sql, describe=describe)
        except ValueError as problem:
            wire.forget_unsent()
            raise impossible_text(problem) from problem
        parts += (messages.bind(statement.head, step.values), messages.EXECUTE, messages.SYNC)
        self._begun, self._queue = True, []
        answer = await wire.exchange(b"".join(parts), len(queue))
        if answer.error is None:
            if len(answer.outcomes) != len(queue) + 1:
                raise wire.violated("fewer results than statements")
            return statement, answer.outcomes[-1]
        if isinstance(answer.error, DatabaseError) and is_stale_statement(answer.error):
            wire.forget_statements()
            if fresh and not again:
                # Nothing but the opening has happened, so nothing is lost by starting over.
                await wire.query("rollback")
                self._begun, self._queue = False, queue
                return await self._attempt(step, describe=describe, again=True)
        raise answer.error

    # ---- savepoints ----------------------------------------------------------------------------------------------

    def open_savepoint(self) -> Command:
        """Queues a SAVEPOINT; it travels with the next statement."""
        self._savepoints += 1
        step = command(f"savepoint s{self._savepoints}")
        self._queue.append(step)
        return step

    def close_savepoint(self, step: Command, *, keep: bool) -> None:
        """Queues its end. Raises DatabaseError 25P02 when a failed statement was hidden inside it."""
        self._savepoints -= 1
        if step in self._queue:
            # It never left: neither did anything after it.
            del self._queue[self._queue.index(step) :]
            return
        name = step.sql.removeprefix("savepoint ")
        hidden = keep and self._wire is not None and self._wire.status == "E" and not self._will_mend()
        if hidden or not keep:
            self._queue.append(command(f"rollback to {name}"))
        self._queue.append(command(f"release {name}"))
        if hidden:
            raise _failed_before()


class _Savepoint:
    def __init__(self, block: Block) -> None:
        self._block = block
        self._step: Command | None = None

    async def __aenter__(self) -> None:
        self._step = self._block.open_savepoint()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._step is not None
        self._block.close_savepoint(self._step, keep=error is None)
        return isinstance(error, Rollback)


def _record(readers: tuple[tuple[str, Decode], ...], row: tuple[bytes | None, ...]) -> Record:
    return {name: None if value is None else read(value) for (name, read), value in zip(readers, row, strict=True)}


def _failed_before() -> DatabaseError:
    return DatabaseError("25P02", "the transaction was rolled back because a statement in it had failed")
