"""A real HTTP server on a free loopback port whose answers a test writes down: the other side of outgoing requests."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the site saw it; query and form with the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def json(self) -> object:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the site answers: a JSON value, or bytes as they are."""

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Answer = Reply | Callable[[Call], Reply] | Callable[[Call], Awaitable[Reply]]


class Site:
    """A started site. `on` sets the answer of a method and path; `calls` lists what came, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.port = 0
        self._answers: dict[tuple[str, str], Answer] = {}

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, method: str, path: str, answer: Answer) -> None:
        self._answers[method, path] = answer

    def called(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]

    async def handle(self, request: web.Request) -> web.Response:
        call = Call(
            request.method, request.path, dict(request.query), CIMultiDict(request.headers), await request.read()
        )
        self.calls.append(call)
        answer = self._answers.get((request.method, request.path), Reply({"error": "no such page"}, 404))
        if callable(answer):
            told = answer(call)
            answer = told if isinstance(told, Reply) else await told
        if isinstance(answer.body, bytes):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def started_site() -> AsyncGenerator[Site]:
    """A site that listens until the block ends."""
    site = Site()
    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        site.port = runner.addresses[0][1]
        yield site
    finally:
        await runner.cleanup()
