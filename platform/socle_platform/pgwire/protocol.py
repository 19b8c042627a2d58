"""What the server says: bytes in any portions → events (manual, «Message Formats», backend messages). Pure.

A data row is the hot event and therefore a bare tuple of its columns' bytes (None for NULL); everything else is a
small frozen value or a `Signal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from struct import Struct, error
from typing import Final, TypeAlias

from socle_platform.pgwire.errors import DatabaseError, ProtocolViolation

LONGEST_MESSAGE = 0x4000_0000
"""Nothing longer exists: PostgreSQL builds messages of less than 1 GiB."""
LONGEST_ORDINARY_MESSAGE = 0x10_0000
"""For kinds that never grow with the user's data; a broken peer shows itself here instead of being waited for."""
_LONG_KINDS = frozenset(b"DdTtENAV")

Row: TypeAlias = tuple[bytes | None, ...]


class Signal(Enum):
    """Messages without content."""

    PARSE_COMPLETE = auto()
    BIND_COMPLETE = auto()
    CLOSE_COMPLETE = auto()
    NO_DATA = auto()
    PORTAL_SUSPENDED = auto()
    EMPTY_QUERY = auto()
    COPY_DONE = auto()


@dataclass(frozen=True, slots=True)
class Authentication:
    """An authentication request: 0 ok, 3 clear text, 5 MD5, 10–12 SASL; `data` is what follows the code."""

    code: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BackendKey:
    """What a CancelRequest must show."""

    process: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """A run-time setting of the session that the server reports."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """The answer is complete. `status`: I idle, T in a transaction, E in a failed one."""

    status: str


@dataclass(frozen=True, slots=True)
class CommandComplete:
    """One command ended; `tag` as `INSERT 0 1`."""

    tag: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result: type OID, table OID and column number (0 if not a plain column), type modifier, format."""

    name: str
    table: int
    number: int
    type: int
    size: int
    modifier: int
    format: int


@dataclass(frozen=True, slots=True)
class RowDescription:
    """The columns of the rows that follow."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """Type OIDs of a statement's parameters."""

    types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """The fields of an error or notice by their one-letter codes."""

    fields: dict[str, str]

    def as_error(self) -> DatabaseError:
        """The fields under their names."""
        get = self.fields.get
        return DatabaseError(
            get("C", "XX000"),
            get("M", ""),
            get("D"),
            get("H"),
            get("s"),
            get("t"),
            get("c"),
            get("n"),
            get("V") or get("S") or "ERROR",
            datatype=get("d"),
            context=get("W"),
            position=_number(get("P")),
            internal_position=_number(get("p")),
            internal_query=get("q"),
            file=get("F"),
            line=get("L"),
            routine=get("R"),
        )


@dataclass(frozen=True, slots=True)
class ServerError(ServerMessage):
    """ErrorResponse."""


@dataclass(frozen=True, slots=True)
class ServerNotice(ServerMessage):
    """NoticeResponse."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A NOTIFY of `process` on a channel that this session listens to."""

    process: int
    channel: str
    payload: str


class Direction(Enum):
    """Who sends the CopyData that follows."""

    IN = auto()
    OUT = auto()
    BOTH = auto()


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """The session turns to COPY; format codes as for columns."""

    direction: Direction
    format: int
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CopyData:
    """A portion of COPY or of the replication stream."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NegotiateVersion:
    """The server knows only an older minor version, or not these options."""

    newest: int
    options: tuple[str, ...]


Event: TypeAlias = (
    Row
    | Signal
    | Authentication
    | BackendKey
    | ParameterStatus
    | ReadyForQuery
    | CommandComplete
    | RowDescription
    | ParameterDescription
    | ServerError
    | ServerNotice
    | Notification
    | CopyResponse
    | CopyData
    | NegotiateVersion
)

_header: Final = Struct("!BI").unpack_from
_int32: Final = Struct("!i").unpack_from
_uint32: Final = Struct("!I").unpack_from
_uint16: Final = Struct("!H").unpack_from
_column: Final = Struct("!IhIhiH")

_READY: Final = {status.encode(): ReadyForQuery(status) for status in "ITE"}
_SIGNALS: Final = {
    ord("1"): Signal.PARSE_COMPLETE,
    ord("2"): Signal.BIND_COMPLETE,
    ord("3"): Signal.CLOSE_COMPLETE,
    ord("n"): Signal.NO_DATA,
    ord("s"): Signal.PORTAL_SUSPENDED,
    ord("I"): Signal.EMPTY_QUERY,
    ord("c"): Signal.COPY_DONE,
}
_DATA_ROW: Final = ord("D")
_BIND_COMPLETE: Final = ord("2")
_COMMAND_COMPLETE: Final = ord("C")
_READY_FOR_QUERY: Final = ord("Z")
_ERROR: Final = ord("E")
_ENDS_RESULT: Final = frozenset(b"CIs")
_SELECTED_ONE: Final = b"C\0\0\0\rSELECT 1\0"
_SKIPPED_STARTS: Final = b"2\0\0\0\4D"
_ROW_STARTS: Final = _SELECTED_ONE + b"2\0\0\0\4D"
_ROW_ENDS: Final = _SELECTED_ONE + b"Z\0\0\0\5I"


class Decoder:
    """Turns the server's bytes into events, whatever the portions they come in.

    Rows are decoded in one pass without an intermediate copy of the message. Raises ProtocolViolation, after which it
    must not be fed again. Holds at most one incomplete message.
    """

    __slots__ = ("_have", "_need", "_pending", "_skip", "ready")

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._have = 0
        self._need = 0
        self._skip = 0
        self.ready = 0
        """How many ReadyForQuery have been seen."""

    @property
    def is_waiting(self) -> bool:
        """Whether the rest of a message is still to come."""
        return bool(self._pending)

    def skip_rows(self, results: int) -> None:
        """Drops the rows of the next `results` results: a settings statement's row tells nothing."""
        self._skip = results

    def lone_row(self, data: bytes) -> Row | None:
        """The row of an answer that is there as a whole: one result to skip, then one row. None for any other.

        Most answers are so, and this is them at a quarter of the cost of `feed`, which reads all that this does not.
        """
        if self._skip != 1 or self._pending or not data.startswith(_SKIPPED_STARTS):
            return None
        try:
            start = 6 + _uint32(data, 6)[0]
            if not data.startswith(_ROW_STARTS, start):
                return None
            start += len(_ROW_STARTS)
            stop = start + _uint32(data, start)[0]
            if data[stop:] != _ROW_ENDS:
                return None
            row = _row(data, start + 4, stop)
        except (error, ProtocolViolation):
            return None
        self._skip = 0
        self.ready += 1
        return row

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order."""
        if self._pending:
            self._pending.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pending)
            self._pending.clear()
        events: list[Event] = []
        position = 0
        end = len(data)
        need = 5
        try:
            while end - position >= 5:
                kind, length = _header(data, position)
                stop = position + length + 1
                if stop > end:
                    need = _checked(kind, length) + 1
                    break
                if kind == _DATA_ROW:
                    if not self._skip:
                        events.append(_row(data, position + 5, stop))
                elif kind == _BIND_COMPLETE and length == 4:
                    events.append(Signal.BIND_COMPLETE)
                elif length < 4:
                    raise ProtocolViolation("a message from the database is shorter than its own header")
                else:
                    events.append(self._event(kind, data, position + 5, stop))
                position = stop
        except (error, IndexError, UnicodeDecodeError, KeyError) as problem:
            raise ProtocolViolation(f"a message from the database cannot be read: {problem}") from problem
        if position < end:
            self._pending.append(data[position:] if position else data)
            self._have = end - position
            self._need = need
        return events

    def _event(self, kind: int, data: bytes, start: int, stop: int) -> Event:
        if kind in _ENDS_RESULT and self._skip:
            self._skip -= 1
        if kind == _READY_FOR_QUERY:
            self._skip = 0
            self.ready += 1
            return _READY[data[start:stop]]
        signal = _SIGNALS.get(kind)
        if signal is not None:
            if start != stop:
                raise ProtocolViolation("a message from the database has content where none belongs")
            return signal
        if kind == _COMMAND_COMPLETE:
            return _command_complete(data[start:stop])
        if kind == _ERROR:
            self._skip = 0
        reader = _READERS.get(kind)
        if reader is None:
            raise ProtocolViolation(f"the database sent a message of unknown kind {chr(kind)!r}")
        return reader(data[start:stop])


def _checked(kind: int, length: int) -> int:
    """The length of a message that is still incomplete, if such a message can be."""
    if not 4 <= length <= (LONGEST_MESSAGE if kind in _LONG_KINDS else LONGEST_ORDINARY_MESSAGE):
        raise ProtocolViolation(f"the database announced a message of kind {chr(kind)!r} with {length} bytes")
    if kind not in _SIGNALS and kind not in _READERS and kind not in (_DATA_ROW, _COMMAND_COMPLETE, _READY_FOR_QUERY):
        raise ProtocolViolation(f"the database sent a message of unknown kind {chr(kind)!r}")
    return length


def _row(data: bytes, position: int, stop: int) -> Row:
    (columns,) = _uint16(data, position)
    position += 2
    values: list[bytes | None] = []
    for _ in range(columns):
        (size,) = _int32(data, position)
        position += 4
        if size >= 0:
            after = position + size
            if after > stop:
                raise ProtocolViolation("a column is longer than its row")
            values.append(data[position:after])
            position = after
        elif size == -1:
            values.append(None)
        else:
            raise ProtocolViolation("a column has a negative length")
    if position != stop:
        raise ProtocolViolation("a row is longer or shorter than its columns")
    return tuple(values)


@lru_cache(maxsize=256)
def _command_complete(body: bytes) -> CommandComplete:
    return CommandComplete(_only_text(body))


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _only_text(body: bytes) -> str:
    value, rest = _text(body, 0)
    _finish(body, rest)
    return value


def _text(body: bytes, position: int) -> tuple[str, int]:
    end = body.find(b"\0", position)
    if end < 0:
        raise ProtocolViolation("a text in a message from the database has no end")
    return body[position:end].decode(), end + 1


def _finish(body: bytes, position: int) -> None:
    if position != len(body):
        raise ProtocolViolation("a message from the database is longer than its content")


def _authentication(body: bytes) -> Authentication:
    return Authentication(_uint32(body)[0], body[4:])


def _backend_key(body: bytes) -> BackendKey:
    # Protocol 3.0 says four bytes of secret, 3.2 up to 256.
    if not 8 <= len(body) <= 260:
        raise ProtocolViolation("a cancellation key has an impossible length")
    return BackendKey(_uint32(body)[0], body[4:])


def _parameter_status(body: bytes) -> ParameterStatus:
    name, position = _text(body, 0)
    value, position = _text(body, position)
    _finish(body, position)
    return ParameterStatus(name, value)


def _row_description(body: bytes) -> RowDescription:
    (columns,) = _uint16(body)
    position = 2
    described: list[Column] = []
    for _ in range(columns):
        name, position = _text(body, position)
        table, number, kind, size, modifier, form = _column.unpack_from(body, position)
        described.append(Column(name, table, number, kind, size, modifier, form))
        position += _column.size
    _finish(body, position)
    return RowDescription(tuple(described))


def _parameter_description(body: bytes) -> ParameterDescription:
    (parameters,) = _uint16(body)
    _finish(body, 2 + 4 * parameters)
    return ParameterDescription(Struct(f"!{parameters}I").unpack_from(body, 2))


def _fields(body: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    position = 0
    while body[position]:
        code = chr(body[position])
        # The server may not know its own locale's encoding before the session starts: never fail on an error's text.
        end = body.find(b"\0", position + 1)
        if end < 0:
            raise ProtocolViolation("a field of an error has no end")
        fields[code] = body[position + 1 : end].decode(errors="replace")
        position = end + 1
    _finish(body, position + 1)
    return fields


def _notification(body: bytes) -> Notification:
    (process,) = _uint32(body)
    channel, position = _text(body, 4)
    payload, position = _text(body, position)
    _finish(body, position)
    return Notification(process, channel, payload)


def _copy_response(direction: Direction) -> Callable[[bytes], CopyResponse]:
    def read(body: bytes) -> CopyResponse:
        (columns,) = _uint16(body, 1)
        _finish(body, 3 + 2 * columns)
        return CopyResponse(direction, body[0], Struct(f"!{columns}H").unpack_from(body, 3))

    return read


def _negotiate_version(body: bytes) -> NegotiateVersion:
    newest, options = _uint32(body)[0], _uint32(body, 4)[0]
    position = 8
    names: list[str] = []
    for _ in range(min(options, len(body))):
        name, position = _text(body, position)
        names.append(name)
    _finish(body, position)
    return NegotiateVersion(newest, tuple(names))


_READERS: Final[dict[int, Callable[[bytes], Event]]] = {
    ord("R"): _authentication,
    ord("K"): _backend_key,
    ord("S"): _parameter_status,
    ord("T"): _row_description,
    ord("t"): _parameter_description,
    ord("E"): lambda body: ServerError(_fields(body)),
    ord("N"): lambda body: ServerNotice(_fields(body)),
    ord("A"): _notification,
    ord("G"): _copy_response(Direction.IN),
    ord("H"): _copy_response(Direction.OUT),
    ord("W"): _copy_response(Direction.BOTH),
    ord("d"): CopyData,
    ord("v"): _negotiate_version,
}
