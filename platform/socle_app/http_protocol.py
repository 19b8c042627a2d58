"""One HTTP connection: uvicorn's protocol, with bounds on what a client may send before its request is understood.

A request target past 64 KiB is answered 414, a head past 128 KiB 431, one that does not end in time 408, what is no
HTTP 400; each as JSON with the keys that every client knows, and each ends the connection. What a refused client still
sends is read and dropped for a moment, so that the answer is not lost in a reset (RFC 9112 §9.6).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from socle_app.quick_protocol import QuickProtocol

TARGET_BYTES: Final = 65_535
"""The longest request target: what the parser of URLs takes."""
HEAD_BYTES: Final = 128 * 1024
"""The longest request head, target included."""
HEAD_SECONDS: Final = 30.0
"""A head must be complete within this time of its first byte, or of the connection."""
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 16 * 1024 * 1024
_WRITE_BUFFER: Final = 4 * 1024
"""Bytes that may wait in memory for one client before its answer is held up: a thousand slow ones count. What goes out
in one write stays in memory until all of it has gone: this is also how many small chunks a slow client keeps."""


class _Refusal(Exception):
    """Ends the parsing: the request is not taken."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


_MALFORMED = _Refusal(400, "bad_request", "Invalid HTTP request received.")


class HttpProtocol(QuickProtocol):
    """One connection."""

    _chunk = 0
    """Bytes of what is being parsed."""
    _first_chunk = 0
    """Bytes of the chunk that the head being read began in: an earlier request may have had part of it."""
    _fed = 0
    """Bytes of the chunks that the head being read has part in, but for the one being parsed."""
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None
    _refusal: _Refusal | None = None
    _dropped = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # (as uvicorn's own)
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._drop(data)
            return
        if not data.isascii() and self._is_between_requests():
            data = _with_plain_target(data)
        self._chunk = len(data)
        super().data_received(data)
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._in_head:
            self._fed += self._chunk
            if self._fed - self._first_chunk > HEAD_BYTES:
                self._refuse(_too_large())
                return
            self._await_head()
        elif (last := self._last) is not None and last.response_complete:
            self._await_head()

    def _is_between_requests(self) -> bool:
        return not self._in_head and ((last := self._last) is None or not last.more_body)

    @property
    def _last(self) -> RequestResponseCycle | None:
        """The exchange begun last; none at first, whatever uvicorn's types say."""
        return self.cycle

    # ---- what the parser says ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._fed = 0
        self._first_chunk = self._chunk
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET_BYTES:
            self._refusal = _Refusal(
                414, "uri_too_long", f"The request target is longer than {TARGET_BYTES} bytes; send a shorter one."
            )
            raise self._refusal

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_has_come()
        if self._fed + self._chunk > HEAD_BYTES and self._size_of_head() > HEAD_BYTES:
            self._refusal = _too_large()
            raise self._refusal
        super().on_headers_complete()

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # ---- time --------------------------------------------------------------------------------------------------------

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if (last := self._last) is not None and not last.response_complete:
            self._await_head()
        elif self._in_head:
            message = f"The request head was not complete within {HEAD_SECONDS:.0f} seconds."
            self._refuse(_Refusal(408, "request_timeout", message))
        else:
            self.transport.close()

    # ---- refusals ----------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when the parser gave up: also for what the callbacks above refused."""
        del msg
        self._refuse(self._refusal or _MALFORMED)

    def _refuse(self, refusal: _Refusal) -> None:
        """Answers, unless answers are due before or this one has begun, and ends the connection."""
        self._refusal = refusal
        self._head_has_come()
        cycle = self._last
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        body = _body(refusal)
        head = (
            b"content-type: application/json; charset=utf-8\r\n"
            b"connection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        defaults = b"".join([b"%b: %b\r\n" % pair for pair in self.server_state.default_headers])
        self.transport.write(STATUS_LINE[refusal.status] + defaults + head + body)
        self._end_when_read()

    def _end_when_read(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._head_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > _LINGER_BYTES:
            self.transport.close()


_beyond_ascii = re.compile(rb"[\x80-\xff]").sub


def _with_plain_target(data: bytes) -> bytes:
    """A request whose first line, which the parser takes in ASCII alone, has its other bytes percent-encoded.

    RFC 3986 leaves no room for them, but people write `?name=eq.Zürich` to curl, and PostgREST answers."""
    line, end, rest = data.partition(b"\n")
    if line.isascii():
        return data
    return _beyond_ascii(lambda found: b"%%%02X" % found.group()[0], line) + end + rest


def _too_large() -> _Refusal:
    return _Refusal(431, "request_header_fields_too_large", f"The request head is larger than {HEAD_BYTES} bytes.")


def _body(refusal: _Refusal) -> bytes:
    """The error in the shape that the clients of all services read (contract clients.md §3)."""
    return json.dumps({"code": refusal.code, "message": str(refusal), "details": None, "hint": None}).encode()
