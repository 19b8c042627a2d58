"""What goes over the socket: order, framing, and the end of a connection after what went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from socle_app import http_protocol
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


# --- requests that are not taken -------------------------------------------------------------------------------------


async def refused(port: int, *parts: bytes, ends: bool = True) -> tuple[int, dict[str, Any]]:
    """Status and body of the one answer to these bytes, after which the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
    if ends:
        writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.count(b"HTTP/1.1 ") == 1
    assert b"content-type: application/json; charset=utf-8" in head
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)


HOST = b"host: x\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        pytest.param([b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"], 414, "uri_too_long", id="target"),
        pytest.param([b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n"], 414, "uri_too_long", id="a megabyte of target"),
        pytest.param([b"GET /", *[b"a" * 50_000] * 300], 414, "uri_too_long", id="a target that never ends"),
        pytest.param([b"GET / HTTP/1.1\r\nx: " + b"a" * 140_000 + b"\r\n\r\n"], 431, None, id="a header in one piece"),
        pytest.param(
            [b"GET / HTTP/1.1\r\nx: ", *[b"a" * 9_000] * 15 + [b"\r\n\r\n"]], 431, None, id="a header in parts"
        ),
        pytest.param([b"GET / HTTP/1.1\r\nx: ", *[b"a" * 50_000] * 300], 431, None, id="a header that never ends"),
        pytest.param([b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 40_000, b"\r\n"], 431, None, id="too many headers"),
        pytest.param([b"\x16\x03\x01\x02\x00\x01\x00"], 400, "bad_request", id="TLS"),
        pytest.param([b"FROB / HTTP/1.1\r\n\r\n"], 400, "bad_request", id="no method"),
        pytest.param([b"GET / HTTP/1.1\r\nhost x\r\n\r\n"], 400, "bad_request", id="no header"),
        pytest.param(
            [b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nnope\r\n"], 400, "bad_request", id="no chunk"
        ),
    ],
)
async def test_what_is_not_taken_is_told_in_json(port: int, parts: list[bytes], status: int, code: str | None) -> None:
    answered, body = await refused(port, *parts)
    assert (answered, body["code"]) == (status, code or "request_header_fields_too_large")
    assert set(body) == {"code", "message", "details", "hint"}


async def test_a_head_just_within_the_bounds_is_taken(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    target = b"/" + b"a" * (http_protocol.TARGET_BYTES - 1)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nx: " + b"b" * 60_000 + b"\r\nconnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 3)).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_large_body_before_a_head_does_not_count_for_it(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"b" * 250_000
    writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body + b"GET /c HT")
    await reader.readuntil(b"\r\n\r\nbody")
    writer.write(b"TP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b"x-path: /c" in await asyncio.wait_for(reader.read(), 3)
    writer.close()


async def test_a_head_that_does_not_end_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    answered, body = await refused(port, b"GET / HTTP/1.1\r\nx: y\r\n", ends=False)
    assert (answered, body["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("first", [b"", b"\r\n"])
async def test_a_connection_without_a_request_is_given_up(
    port: int, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_blank_lines_do_not_keep_a_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\nbody")
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    writer.write(b"\r\n")
    assert await asyncio.wait_for(reader.read(), 3) == b""
    writer.close()


async def test_what_was_asked_before_a_broken_request_is_answered(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /stream HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n")
    said = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert b"x-path: /stream" in said


async def test_answers_are_not_held_back_for_more(port: int) -> None:
    """A small second write would wait for the first one to be acknowledged, were it not for TCP_NODELAY."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    for _ in range(10):
        writer.write(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"0\r\n\r\n")
    assert time.perf_counter() - started < 0.3
    writer.close()
