"""One HTTP exchange of the storage service: reading the request as a stream, writing the answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import orjson

from socle_platform.errors import WireResponse
from socle_platform.http import send_response
from socle_storage.errors import JSON, StorageError, aborted, invalid_header, not_json, translate

if TYPE_CHECKING:
    from socle_platform.http import Receive, Scope, Send

_SHORT = 128
"""Characters of a header's value that is remembered once rendered: answers resemble each other."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")
MAX_JSON = 1024 * 1024
"""Bytes of a JSON body."""
_DRAIN_BYTES, _DRAIN_SECONDS = 16 * 1024 * 1024, 5.0
"""How much of a refused body is read away so that the client gets to see the answer."""


class Exchange:
    """A request and its answer. `path` is below the mount point and still percent-encoded."""

    __slots__ = ("_ended", "_headers", "_query", "_receive", "_send", "method", "path", "scope", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path = raw_path(scope)
        self.started = False
        self._receive = receive
        self._send = send
        self._query: dict[str, str] | None = None
        self._headers: dict[bytes, bytes] | None = None
        self._ended = False

    # --- the request

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        if self._headers is None:
            self._headers = dict(reversed(self.scope["headers"]))
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> Mapping[str, str]:
        """The query's last value of each name."""
        if self._query is None:
            raw: bytes = self.scope.get("query_string", b"")
            self._query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}
        return self._query

    @property
    def url(self) -> str:
        """Path and query as they came, for messages."""
        query: bytes = self.scope.get("query_string", b"")
        return f"{self.path}?{query.decode('latin-1')}" if query else self.path

    @property
    def content_length(self) -> int | None:
        """What the client declared, in bytes."""
        text = self.header("content-length")
        return int(text) if text is not None and text.isascii() and text.isdigit() else None

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises Aborted when the client leaves before its end."""
        while not self._ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise aborted()
            self._ended = not message.get("more_body", False)
            if body := message.get("body"):
                yield body

    async def json(self) -> Any:
        """The body as JSON, None when there is none or it is marked as something else.

        Raises InvalidRequest, EntityTooLarge.
        """
        body = bytearray()
        async for chunk in self.stream():
            body += chunk
            if len(body) > MAX_JSON:
                raise translate(_too_large())
        content_type = (self.header("content-type") or "").lower()
        if content_type and "json" not in content_type:
            return None
        if not body:
            if content_type:
                raise not_json("cannot be empty when")
            return None
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise not_json("is not valid JSON but") from None

    async def drain(self) -> bool:
        """Reads away what is left of a refused body; False when it is too much, and the connection has to end."""
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for chunk in self.stream():
                    left -= len(chunk)
                    if left < 0:
                        return False
        except (StorageError, TimeoutError):
            return False
        return True

    def watch_disconnect(self) -> asyncio.Task[None]:
        """A task that ends when the client has gone. To be cancelled by whoever asked for it."""
        return asyncio.create_task(self._until_disconnect())

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # --- the answer

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Status line and headers. Raises InvalidRequest for a value that no header can have."""
        rendered = [
            _known_header(name, value) if len(value) <= _SHORT else _header(name, value) for name, value in headers
        ]
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": rendered})

    async def write(self, chunk: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def respond(self, response: WireResponse) -> None:
        """A whole answer; without its body for HEAD."""
        self.started = True
        await send_response(self._send, response, head=self.method == "HEAD")

    async def answer(self, body: object, status: int = 200) -> None:
        """A JSON answer."""
        await self.respond(render_json(body, status))


def render_json(body: object, status: int = 200) -> WireResponse:
    """JSON as the service writes it."""
    return render_raw_json(orjson.dumps(body), status)


def render_raw_json(raw: bytes, status: int = 200) -> WireResponse:
    """JSON that is bytes already."""
    return WireResponse(status, (("content-type", JSON),), raw)


def raw_path(scope: Scope) -> str:
    """The path below the mount point, percent-encoding kept, with its leading slash."""
    raw: bytes | None = scope.get("raw_path")
    path = scope["path"] if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root: str = scope.get("root_path", "")
    return (path[len(root) :] or "/") if root and path.startswith(root) else path


def decode_segment(text: str) -> str:
    """One decoding of percent signs. What is no UTF-8 becomes U+FFFD, which no name may hold."""
    return unquote(text) if "%" in text else text


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if _CONTROL.search(value):
        raise invalid_header(name, value)
    try:
        return name.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise invalid_header(name, value) from None


_known_header = lru_cache(maxsize=4096)(_header)


def _too_large() -> Exception:
    from socle_platform.http import BodyTooLarge

    return BodyTooLarge()
