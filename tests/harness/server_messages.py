"""A PostgreSQL server's side of the wire, for tests of our client: events → bytes, and a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from struct import pack

from socle_platform.pgwire.protocol import (
    Authentication,
    BackendKey,
    CommandComplete,
    CopyData,
    CopyResponse,
    Direction,
    Event,
    NegotiateVersion,
    Notification,
    ParameterDescription,
    ParameterStatus,
    ReadyForQuery,
    RowDescription,
    ServerError,
    ServerNotice,
    Signal,
)

_SIGNALS = {
    Signal.PARSE_COMPLETE: b"1",
    Signal.BIND_COMPLETE: b"2",
    Signal.CLOSE_COMPLETE: b"3",
    Signal.NO_DATA: b"n",
    Signal.PORTAL_SUSPENDED: b"s",
    Signal.EMPTY_QUERY: b"I",
    Signal.COPY_DONE: b"c",
}
_COPIES = {Direction.IN: b"G", Direction.OUT: b"H", Direction.BOTH: b"W"}


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message with its right length."""
    return kind + pack("!I", len(body) + 4) + body


def say(event: Event) -> bytes:
    """An event as the server sends it."""
    if isinstance(event, tuple):
        columns = [b"\xff\xff\xff\xff" if value is None else pack("!i", len(value)) + value for value in event]
        return message(b"D", pack("!H", len(event)) + b"".join(columns))
    if isinstance(event, Signal):
        return message(_SIGNALS[event])
    if isinstance(event, ServerError | ServerNotice):
        fields = b"".join(code.encode() + text(value) for code, value in event.fields.items())
        return message(b"E" if isinstance(event, ServerError) else b"N", fields + b"\0")
    return message(*_described(event))


def _described(event: Event) -> tuple[bytes, bytes]:
    match event:
        case Authentication(code, data):
            return b"R", pack("!I", code) + data
        case BackendKey(process, secret):
            return b"K", pack("!I", process) + secret
        case ParameterStatus(name, value):
            return b"S", text(name) + text(value)
        case ReadyForQuery(status):
            return b"Z", status.encode()
        case CommandComplete(tag):
            return b"C", text(tag)
        case RowDescription(columns):
            parts = [
                text(c.name) + pack("!IhIhiH", c.table, c.number, c.type, c.size, c.modifier, c.format) for c in columns
            ]
            return b"T", pack("!H", len(columns)) + b"".join(parts)
        case ParameterDescription(types):
            return b"t", pack(f"!H{len(types)}I", len(types), *types)
        case Notification(process, channel, payload):
            return b"A", pack("!I", process) + text(channel) + text(payload)
        case CopyResponse(direction, form, columns):
            return _COPIES[direction], pack(f"!BH{len(columns)}H", form, len(columns), *columns)
        case CopyData(data):
            return b"d", data
        case NegotiateVersion(newest, options):
            return b"v", pack("!II", newest, len(options)) + b"".join(map(text, options))
        case _:
            raise AssertionError(event)


WELCOME = (
    say(Authentication(0, b""))
    + say(ParameterStatus("server_version", "18.0"))
    + say(BackendKey(4711, b"\0\0\0\1"))
    + say(ReadyForQuery("I"))
)

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted_server(script: Script) -> AsyncGenerator[str]:
    """A server on loopback that runs `script` for each connection; gives its address as a DSN without TLS."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await script(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://someone:secret@127.0.0.1:{port}/somewhere?sslmode=disable"
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def read_startup(reader: asyncio.StreamReader) -> bytes:
    """The startup message's body."""
    length = int.from_bytes(await reader.readexactly(4))
    return await reader.readexactly(length - 4)


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Kind and body of one message of the client."""
    kind = await reader.readexactly(1)
    length = int.from_bytes(await reader.readexactly(4))
    return kind, await reader.readexactly(length - 4)


async def read_until_sync(reader: asyncio.StreamReader) -> list[tuple[bytes, bytes]]:
    """The client's messages up to its Sync, or one simple query."""
    found: list[tuple[bytes, bytes]] = []
    while True:
        found.append(await read_message(reader))
        if found[-1][0] in (b"S", b"Q"):
            return found
