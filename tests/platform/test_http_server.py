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
from socle_platform.errors import WireResponse
from socle_platform.http import Gateway, GatewayPolicy, Mount, Receive, Scope, Send
from socle_platform.keys import Keyring
from socle_platform.quick import GiveUp, Reply, WholeRequest, WholeResponse


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


async def test_a_target_in_plain_utf_8_is_taken(port: int) -> None:
    said = await talk(port, "GET /grün?name=ö", "POST /a")
    assert said.count("HTTP/1.1 200 OK") == 2
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = "GET /ü ".encode() * 40_000
    writer.write(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
    await writer.drain()
    for at in range(0, len(body), 7_001):
        writer.write(body[at : at + 7_001])
        await writer.drain()
    writer.write(b"GET /c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 3)).count(b"HTTP/1.1 200 OK") == 2
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


# --- the quick lane --------------------------------------------------------------------------------------------------


class Quick:
    """Answers below `/q/v1` what its path asks for, in the quick lane unless the path says otherwise."""

    def __init__(self) -> None:
        self.waiting: list[Reply] = []
        self.arrived = asyncio.Event()
        self.given_up = asyncio.Event()

    def begin(self, request: WholeRequest, reply: Reply) -> GiveUp | None:
        self.arrived.set()
        match request.path:
            case b"/not":
                return None
            case b"/later" | b"/over":
                self.waiting.append(reply)
            case b"/empty":
                reply(WholeResponse(204, b"x-quick: 1\r\n"))
            case b"/bare":
                reply(WholeResponse(200, b"x-quick: 1\r\n", b"bare"))
            case _:
                said = b"%b?%b %b" % (request.path, request.query_string, request.body)
                body = b"" if request.method == "HEAD" else said
                reply(WholeResponse(200, b"content-length: %d\r\nx-quick: 1\r\n" % len(said), body))
        return self.given_up.set


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind it."""
    body = (await receive()).get("body", b"")
    said = b"%b?%b %b" % (scope["raw_path"], scope["query_string"], body)
    headers = [(b"content-length", b"%d" % len(said)), (b"x-slow", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


def refuse(_error: Exception) -> WireResponse:
    return WireResponse(500, (), b"")


@pytest.fixture
def quick() -> Quick:
    return Quick()


@pytest.fixture
async def quick_port(quick: Quick) -> AsyncIterator[int]:
    mount = Mount(
        "/q/v1", "q", slow, lambda _: WireResponse(500, (), b""), checks_key=False, body_limit=100, quick=quick
    )
    gateway = Gateway((mount,), Keyring(()), GatewayPolicy())
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        async with running(gateway, listener):
            yield listener.getsockname()[1]


class Line:
    """One connection, on which a request is sent when the test says so."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, request: str, body: str = "", **headers: str) -> None:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{request} HTTP/1.1\r\nhost: x\r\n{lines}{length}\r\n{body}".encode())

    async def hear(self, *, has_body: bool = True) -> tuple[str, str]:
        """Head and body of the next answer."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 3)).decode()
        length = [line[15:] for line in head.split("\r\n") if line.startswith("content-length:")]
        return head, (await self.reader.readexactly(int(length[0]))).decode() if length and has_body else ""


@pytest.fixture
async def line(quick_port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", quick_port)
    yield Line(reader, writer)
    writer.close()


async def test_complete_answers_in_one_write(line: Line) -> None:
    line.send("GET /q/v1/a%20b?c=d%20e", x_request_id="an-id-of-mine")
    head, body = await line.hear()
    assert head.startswith("HTTP/1.1 200 OK\r\ndate: ")
    assert "x-quick: 1\r\n" in head
    assert "access-control-allow-origin: *\r\naccess-control-expose-headers: content-range" in head
    assert "x-request-id: an-id-of-mine\r\n" in head
    assert body == "/a%20b?c=d%20e "
    line.send("POST /q/v1/a", "some body")
    assert (await line.hear())[1] == "/a? some body"
    line.send("HEAD /q/v1/a")
    head, _ = await line.hear(has_body=False)
    assert "content-length: 4\r\n" in head
    line.send("GET /q/v1/empty")
    head, _ = await line.hear()
    assert head.startswith("HTTP/1.1 204 No Content\r\n")
    assert "content-length" not in head
    line.send("GET /q/v1/bare")
    assert (await line.hear())[1] == "bare"


async def test_a_target_beyond_ascii(line: Line) -> None:
    line.send("GET /q/v1/é")
    assert (await line.hear())[1] == "/%C3%A9? "


async def test_a_body_in_pieces(line: Line, quick: Quick) -> None:
    line.writer.write(b"POST /q/v1/a HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\none")
    line.writer.write(b"two")
    assert (await line.hear())[1] == "/a? onetwo"
    assert quick.arrived.is_set()


@pytest.mark.parametrize(
    ("request_line", "body", "headers"),
    [
        ("GET /q/v1/not", "", {}),
        ("POST /q/v1/a", "x" * 101, {}),
        ("POST /q/v1/a", "", {"transfer-encoding": "chunked"}),
        ("GET /q/v1/a", "", {"connection": "close"}),
        ("GET /q/v1/a", "", {"connection": "upgrade", "upgrade": "other"}),
        ("GET /elsewhere", "", {}),
    ],
)
async def test_what_is_not_plain_is_for_the_application(
    line: Line, request_line: str, body: str, headers: dict[str, str]
) -> None:
    line.send(request_line, body, **headers)
    if "transfer-encoding" in headers:
        line.writer.write(b"3\r\nabc\r\n0\r\n\r\n")
    head, said = await line.hear()
    assert "x-quick" not in head
    if "elsewhere" in request_line:
        assert head.startswith("HTTP/1.1 404")
    elif len(body) > 100:
        assert head.startswith("HTTP/1.1 500")
    else:
        assert f"x-slow: {request_line.split()[1]}\r\n" in head
        assert said == f"{request_line.split()[1]}? {'abc' if 'transfer-encoding' in headers else body}"


async def test_what_turns_out_not_to_be_quick_is_left_to_the_application(line: Line, quick: Quick) -> None:
    line.send("POST /q/v1/over?a=b", "kept")
    await asyncio.wait_for(quick.arrived.wait(), 3)
    line.send("GET /q/v1/next")  # meanwhile
    quick.waiting[0](None)
    head, body = await line.hear()
    assert "x-slow: /q/v1/over\r\n" in head
    assert body == "/q/v1/over?a=b kept"
    assert (await line.hear())[1].endswith("/next? ")


async def test_requests_behind_a_slow_one_wait_for_it(line: Line, quick: Quick) -> None:
    line.send("GET /q/v1/later")
    for name in "abc":
        line.send(f"GET /q/v1/{name}")
    await asyncio.wait_for(quick.arrived.wait(), 3)
    quick.waiting[0](WholeResponse(200, b"content-length: 5\r\n", b"first"))
    bodies = [(await line.hear())[1] for _ in range(4)]
    assert [body.removeprefix("/q/v1").rstrip("? ") for body in bodies] == ["first", "/a", "/b", "/c"]


async def test_a_client_that_goes_ends_its_request(line: Line, quick: Quick) -> None:
    line.send("GET /q/v1/later")
    await asyncio.wait_for(quick.arrived.wait(), 3)
    line.writer.close()
    await asyncio.wait_for(quick.given_up.wait(), 3)
    quick.waiting[0](None)  # too late for anything


async def test_a_client_that_goes_does_not_end_what_is_nearly_done(line: Line, quick: Quick) -> None:
    line.send("POST /q/v1/later", "x")
    await asyncio.wait_for(quick.arrived.wait(), 3)
    line.writer.close()
    await line.writer.wait_closed()
    quick.waiting[0](WholeResponse(201, b""))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(quick.given_up.wait(), 0.3)


async def test_a_server_that_goes_down_finishes_what_it_began(quick: Quick) -> None:
    mount = Mount("/q/v1", "q", slow, refuse, checks_key=False, quick=quick)
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        async with running(Gateway((mount,), Keyring(()), GatewayPolicy()), listener) as server:
            line = Line(*await asyncio.open_connection("127.0.0.1", listener.getsockname()[1]))
            line.send("GET /q/v1/later")
            await asyncio.wait_for(quick.arrived.wait(), 3)
            server.should_exit = True
            while server.servers[0].is_serving():  # noqa: ASYNC110 - uvicorn has no event for this
                await asyncio.sleep(0.01)
            quick.waiting[0](WholeResponse(200, b"content-length: 4\r\n", b"done"))
            head, body = await line.hear()
            assert "connection: close\r\n" in head
            assert body == "done"
            assert await asyncio.wait_for(line.reader.read(), 3) == b""
            line.writer.close()


async def test_idle_connections_end_and_busy_ones_do_not(
    quick_port: int, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        http_protocol.HttpProtocol, "timeout_keep_alive", property(lambda _: 0.2, lambda _, __: None), raising=False
    )
    other = Line(*await asyncio.open_connection("127.0.0.1", quick_port))
    other.send("GET /q/v1/a")
    await other.hear()
    for _ in range(4):
        await asyncio.sleep(0.1)
        other.send("GET /q/v1/a")
        await other.hear()
    other.send("GET /q/v1/later")
    await asyncio.sleep(0.3)
    quick.waiting[0](WholeResponse(200, b"content-length: 0\r\n"))
    await other.hear()
    assert await asyncio.wait_for(other.reader.read(), 3) == b""
    other.writer.close()
