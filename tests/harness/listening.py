"""An ASGI application behind a real socket on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn

from socle_platform.http import ASGIApp


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncGenerator[str, None]:
    """The base URL under which the application answers until the block ends."""
    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] (uvicorn spells the same callable with its own message types)
        host="127.0.0.1",
        port=0,
        log_level="critical",
        lifespan="off",
        proxy_headers=False,
        interface="asgi3",  # it cannot tell by itself where __call__ merely returns an awaitable
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        for each in server.servers:
            each.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=5)
