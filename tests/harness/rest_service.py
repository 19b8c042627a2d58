"""`socle serve rest` in a thread of this process, asked over a socket in bytes of the test's own choice."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

import uvloop

from socle_app.serve_rest import load_options, open_rest

TIME_LIMIT = 10.0
"""Seconds after which an answer is overdue."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came; `headers` have lower-case names, repeated ones joined by a comma."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of an error body; None where there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found.get("code") if isinstance(found, dict) and "message" in found else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


class RestService:
    """A running service. Keeps one connection open between requests, as clients do."""

    def __init__(self, port: int, time_limit: float = TIME_LIMIT) -> None:
        self.port = port
        self._time_limit = time_limit
        self._socket: socket.socket | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        target: str | bytes,
        body: object = b"",
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
    ) -> Answer:
        """One request. A body that is neither bytes nor text is sent as JSON. Raises TimeoutError, or
        ConnectionError where the server closed without an answer."""
        raw = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [_bytes(method) + b" " + _bytes(target) + b" HTTP/1.1", b"Host: 127.0.0.1"]
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
        if raw or method in {"POST", "PUT", "PATCH"}:
            lines.append(b"Content-Length: " + str(len(raw)).encode())
        return self.send(b"\r\n".join(lines) + b"\r\n\r\n" + raw, method)

    def send(self, request: bytes, method: str = "GET") -> Answer:
        """A request in raw bytes."""
        for attempt in (1, 2):
            kept = self._socket is not None
            connection = self._socket or socket.create_connection(("127.0.0.1", self.port), timeout=self._time_limit)
            self._socket = connection
            try:
                return self._exchange(connection, request, method)
            except ConnectionError:
                self.hang_up()
                if not kept or attempt == 2:
                    raise
            except BaseException:
                self.hang_up()
                raise
        raise AssertionError

    def _exchange(self, connection: socket.socket, request: bytes, method: str) -> Answer:
        with suppress(ConnectionError):  # the answer may be there already: who refuses a request need not read it all
            connection.sendall(request)
        response = HTTPResponse(connection, method=method)
        response.begin()
        body = response.read()
        headers: dict[str, str] = {}
        for name, value in response.getheaders():
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        if response.will_close:
            self.hang_up()
        response.close()
        return Answer(response.status, response.reason, headers, body)

    def hang_up(self) -> None:
        """Closes the connection kept."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@contextmanager
def running_rest(environ: Mapping[str, str]) -> Generator[RestService]:
    """The service with these settings, on a free port of loopback, until the block ends."""
    options = load_options({"PGRST_SERVER_HOST": "127.0.0.1", "PGRST_SERVER_PORT": "0", **environ})
    started = threading.Event()
    found: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with open_rest(options) as (_, (address, _admin)):
            found.append((address, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="rest")
    thread.start()
    started.wait()
    if failed:
        thread.join()
        raise failed[0]
    address, loop, stop = found[0]
    service = RestService(int(address.rpartition(":")[2]))
    try:
        yield service
    finally:
        service.hang_up()
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
