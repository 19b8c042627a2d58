"""uvicorn as a part of ours: on a socket that is bound already, without its signal handlers, awaitable when ready."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

import uvicorn

from socle_app.http_protocol import HttpProtocol

if TYPE_CHECKING:
    from socle_platform.http import ASGIApp

GRACE_SECONDS = 10
BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: whoever runs it has an order of going down."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=HttpProtocol,
                interface="asgi3",
                proxy_headers=False,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
                backlog=BACKLOG,
            )
        )
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @property
    def accepts(self) -> bool:
        """Whether new requests are taken."""
        return self.started and not self.should_exit


@contextlib.asynccontextmanager
async def running(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[HttpServer]:
    """A server on `listener` until the block ends; then the requests in flight finish.

    Raises OSError where somebody else listens on that address since it was bound: uvloop keeps that to itself.
    """
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    listener.listen(BACKLOG)
    server = HttpServer(app)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    await server.ready.wait()
    try:
        yield server
    finally:
        server.should_exit = True
        await task
