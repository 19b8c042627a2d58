"""What goes over the socket: order, framing, and the end of a connection after what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from socle_app.http_server import running
from socle_platform.http import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what the path asks for."""
    path = scope["path"]
    headers: list[tuple[bytes, bytes]] = [(b"x-path", path.encode())]
    parts: list[Any] = [b"body"]
    status = 200
    match path:
        case "/stream":
            parts = [b"one,", b"two"]
        case "/announced":
            headers.append((b"content-length", b"7"))
            parts = [b"one,", b"two"]
        case "/empty":
            status, parts = 204, [b""]
        case "/split":
            headers += [(b"content-length", b"4"), (b"x-bad", b"a\r\nx-injected: 1")]
        case "/name":
            headers += [(b"content-length", b"4"), (b"x bad", b"a")]
        case "/short":
            headers.append((b"content-length", b"9"))
        case "/close":
            headers += [(b"content-length", b"4"), (b"connection", b"close")]
        case "/boom":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            raise RuntimeError("after the start")
        case _:
            headers.append((b"content-length", b"4"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1]})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        async with running(app, listener):
            yield listener.getsockname()[1]


async def talk(port: int, *requests: str, version: str = "1.1") -> str:
    """All that the server says to these requests, sent at once, the last of them asking for the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number, request in enumerate(requests):
        close = "connection: close\r\n" if number == len(requests) - 1 else ""
        writer.write(f"{request} HTTP/{version}\r\nhost: x\r\n{close}\r\n".encode())
    said = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    return said.decode()


async def test_answers_on_one_connection_keep_their_order(port: int) -> None:
    said = await talk(port, "GET /a", "GET /stream", "HEAD /b", "GET /empty", "GET /announced", "GET /c")
    assert said.count("HTTP/1.1 ") == 6
    paths = [line.removeprefix("x-path: ") for line in said.split("\r\n") if line.startswith("x-path")]
    assert paths == ["/a", "/stream", "/b", "/empty", "/announced", "/c"]
    assert said.count("\r\n\r\nbody") == 2
    assert "4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n" in said
    assert "HTTP/1.1 204 No Content\r\n" in said
    assert said.count("date: ") == 6


@pytest.mark.parametrize("path", ["/split", "/name"])
async def test_headers_that_break_the_message_are_not_sent(port: int, path: str) -> None:
    said = await talk(port, f"GET {path}", "GET /after")
    assert "x-injected" not in said
    assert "x bad" not in said
    assert "x-path: /after" not in said or said.startswith("HTTP/1.1 500")


async def test_a_wrong_length_ends_the_connection(port: int) -> None:
    assert "x-path: /after" not in await talk(port, "GET /short", "GET /after")


async def test_an_answer_that_fails_before_its_body_is_not_completed(port: int) -> None:
    said = await talk(port, "GET /boom", "GET /after")
    assert "x-path: /after" not in said
    assert "0\r\n\r\n" not in said


async def test_connections_end_when_either_side_wants_it(port: int) -> None:
    assert "x-path: /after" not in await talk(port, "GET /close", "GET /after")
    assert (await talk(port, "GET /a", version="1.0")).endswith("\r\n\r\nbody")
