"""The quick lane: requests that wait for one thing only are answered by callbacks, without a task.

As an ASGI call each request is a task: a coroutine in several layers, its futures, and the turns of the loop between
them, which was more than half of what a one-row read cost the server. In the quick lane the last byte of a request
begins the exchange with the database, and the last byte of its answer ends the request. What is not that simple, or
turns out not to be, is left to the ASGI application, which can do everything; the stages of a request (who calls,
what to do, how to answer) are the same functions in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from socle_platform.request_headers import RequestHeaders

Header: TypeAlias = tuple[bytes, bytes]

LONGEST_BODY = 64 * 1024
"""Bytes of a body that may wait in memory until it is complete; what is longer is for the ASGI application."""


class WholeRequest(NamedTuple):
    """A request with its whole body. `path` is still percent-encoded, and for a service below its mount."""

    method: str
    path: bytes
    query_string: bytes
    headers: RequestHeaders
    body: bytes = b""
    request_id: bytes = b""


class WholeResponse(NamedTuple):
    """A response with its whole body; `lines` are its headers as `header_lines` gives them."""

    status: int
    lines: bytes
    body: bytes = b""


Reply: TypeAlias = Callable[[WholeResponse | None], None]
"""Called once. None: nothing has been done, the ASGI application has to answer."""

GiveUp: TypeAlias = Callable[[], None]
"""Stops what is going on for a request whose client has gone; the reply is not called after it."""


class QuickApp(Protocol):
    """What answers in the quick lane."""

    def begin(self, request: WholeRequest, reply: Reply) -> GiveUp | None:
        """Begins to answer, or returns None: then the ASGI application has to. Raises nothing."""
        ...


_NO_CONTROL_CHARACTERS = bytes(code for code in range(256) if code in b"\t\r\n" or (code >= 0x20 and code != 0x7F))


def header_lines(headers: Sequence[Header]) -> bytes:
    """Headers as they go over the wire. Raises ValueError for a value that would not stay in its line."""
    lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    number = len(headers)
    if lines.count(b"\n") != number or lines.count(b"\r") != number or lines.translate(None, _NO_CONTROL_CHARACTERS):
        raise ValueError("a header holds a control character")
    return lines
