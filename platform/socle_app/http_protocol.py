"""uvicorn's HTTP/1.1 protocol with a short way for the usual answer: one head, one body of known length, one write.

Everything else (streams, HEAD, the last answer of a connection …) goes uvicorn's own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from socle_platform.http import Message

_CONTROL_BYTES = bytes({*range(0x20), 0x7F} - {0x09})
_ELSEWHERE = frozenset({b"connection", b"transfer-encoding"})
"""Headers that change how the message is framed."""
_MAX_NAMES = 1024
_proper_names: set[bytes] = set()
"""Names that have been looked at before."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.send = _Sender(cycle).send  # type: ignore[method-assign]  # uvicorn has no other way to choose a cycle
        super()._start_asgi_task(cycle, app)


class _Sender:
    """Holds the start of an answer back until its body comes, as ASGI wants it, so that both can leave together."""

    __slots__ = ("_cycle", "_send", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._start: Message | None = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self._cycle.response_started:
            # A second one is uvicorn's 500 for an application that failed in between.
            self._start = message
            return
        start: Any = self._start
        if start is None:
            await self._send(message)
            return
        self._start = None
        if not self._is_plain(message) or (head := self._head(start, len(message.get("body", b"")))) is None:
            await self._send(start)
            await self._send(message)
            return
        cycle = self._cycle
        cycle.transport.write(head + message["body"] if message.get("body") else head)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        cycle.on_response()

    def _is_plain(self, message: Message) -> bool:
        """Whether this is all of the body, and the client can take it now and then ask again."""
        cycle = self._cycle
        return (
            message["type"] == "http.response.body"
            and not message.get("more_body")
            and cycle.keep_alive
            and not (cycle.disconnected or cycle.flow.write_paused or cycle.access_log)
            and cycle.scope["method"] != "HEAD"
        )

    def _head(self, start: Message, length: int) -> bytes | None:
        """Status line and headers; None when they are not of the usual kind, or not right."""
        status: int = start["status"]
        announced: bytes | None = None
        headers = [*self._cycle.default_headers, *start.get("headers", ())]
        parts = [STATUS_LINE[status]]
        for name, value in headers:
            if name == b"content-length":
                announced = value
            elif name not in _proper_names and not _is_proper(name):
                return None
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        # Each line ends in two control characters; there must be no others.
        if len(head.translate(None, _CONTROL_BYTES)) != len(head) - 2 * len(headers) - 4:
            return None
        if announced is None:
            return head if status in {204, 304} and not length else None
        return head if announced == b"%d" % length and status not in {204, 304} else None


def _is_proper(name: bytes) -> bool:
    if name in _ELSEWHERE or name != name.lower() or HEADER_RE.search(name) or len(_proper_names) >= _MAX_NAMES:
        return False
    _proper_names.add(name)
    return True
