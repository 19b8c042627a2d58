"""uvicorn's protocol with one timer a connection, and with the quick lane (`socle_platform.quick`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from socle_platform.http import Gateway, decoded_path
from socle_platform.quick import LONGEST_BODY, WholeRequest, WholeResponse
from socle_platform.request_headers import read_headers

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, HTTPScope

    from socle_platform.quick import GiveUp
    from socle_platform.request_headers import RequestHeaders

_GRACE = 0.125
"""Seconds that a request goes on after its client has gone: a quick write is done although nobody waits for it."""
_NO_CONTENT = frozenset({204, 304})


class _QuickCycle(RequestResponseCycle):
    """What stands for a request of the quick lane where uvicorn looks for its cycle; not initialised as one."""

    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, scope: HTTPScope, headers: RequestHeaders) -> None:
        self.scope = scope
        self.headers = headers
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = True
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.give_up: GiveUp | None = None


class QuickProtocol(HttpToolsProtocol):
    """One connection. Requests for `Gateway.quick_paths` are offered to the quick lane once they are complete."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        app = cast("object", self.app)
        self._gateway = app if isinstance(app, Gateway) else None
        self._quick_paths: tuple[bytes, ...] = self._gateway.quick_paths if self._gateway is not None else ()
        self._offered: _QuickCycle | None = None
        """The request that is being read, if it is to be offered to the quick lane."""
        self._idle_since: float | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if isinstance(self.cycle, _QuickCycle) and not self.cycle.response_complete:
            self.loop.call_later(_GRACE, _end_quick, self.cycle)

    # ---- the quick lane ------------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self._quick_paths and self.url.startswith(self._quick_paths) and self._is_plain():
            headers = read_headers(self.headers)
            if headers.body_length is not None and headers.body_length <= LONGEST_BODY:
                self.cycle = self._offered = _QuickCycle(self.scope, headers)
                return
        super().on_headers_complete()

    def _is_plain(self) -> bool:
        """Whether the request comes alone, on a connection that stays and takes what is written to it."""
        cycle, parser = self.cycle, self.parser
        assert parser is not None
        return not (
            (cycle and not cycle.response_complete)
            or self.flow.write_paused
            or self.expect_100_continue
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            or parser.should_upgrade()
            or b"#" in self.url
            or not self.url.isascii()
        )

    def on_body(self, body: bytes) -> None:
        if self._offered is not None:
            self._offered.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        cycle, self._offered = self._offered, None
        if cycle is None:
            super().on_message_complete()
            return
        assert self.parser is not None
        assert self._gateway is not None
        path, _, query = self.url.partition(b"?")
        method = self.parser.get_method().decode("ascii")
        cycle.more_body = False
        request = WholeRequest(method, path, query, cycle.headers, bytes(cycle.body))

        def reply(response: WholeResponse | None) -> None:
            if response is None:
                self._start_task(cycle, request)
            else:
                self._write_quick(cycle, method, response)

        cycle.give_up = self._gateway.begin(request, reply)
        if cycle.give_up is None:
            self._start_task(cycle, request)

    def _start_task(self, quick: _QuickCycle, request: WholeRequest) -> None:
        """Leaves the request to the ASGI application."""
        if quick.disconnected:
            return
        scope = quick.scope
        scope["method"] = request.method
        scope["path"] = decoded_path(request.path)
        scope["raw_path"] = request.path
        scope["query_string"] = request.query_string
        cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=quick.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body = quick.body
        cycle.more_body = False
        cycle.message_event.set()
        if self.cycle is quick:
            self.cycle = cycle
        self._start_asgi_task(cycle, cast("ASGI3Application", self.app))

    def _write_quick(self, cycle: _QuickCycle, method: str, response: WholeResponse) -> None:
        """The whole answer in one write."""
        cycle.response_complete = True
        if self.transport.is_closing():
            return
        status, lines, body = response
        if b"content-length:" not in lines and method != "HEAD" and status not in _NO_CONTENT:
            lines += b"content-length: %d\r\n" % len(body)
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(
            b"%b%b%b%b\r\n%b"
            % (STATUS_LINE[status], _default_lines(self.server_state.default_headers), lines, close, body)
        )
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # ---- one timer for the time between requests -----------------------------------------------------------------

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection that has waited long enough; looks again later at one that has not."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or self._idle_since is None:
            return
        rest = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if rest <= 0:
            self.transport.close()
        else:
            self._look_again(rest)


def _end_quick(cycle: _QuickCycle) -> None:
    if not cycle.response_complete and cycle.give_up is not None:
        cycle.give_up()


_rendered: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def _default_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """`date`, which the server makes anew, as another list, every second."""
    global _rendered
    if _rendered[0] is not headers:
        _rendered = (headers, b"".join([b"%b: %b\r\n" % pair for pair in headers]))
    return _rendered[1]
