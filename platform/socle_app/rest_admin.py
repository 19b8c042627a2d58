"""The admin server of `socle serve rest`: `/live`, `/ready`, `/metrics`, `/schema_cache` (contracts/rest.md §15)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from socle_app.observers import Metrics
from socle_platform.errors import WireResponse
from socle_platform.events import RequestServed
from socle_platform.http import send_response
from socle_rest.reload import SchemaLoaded, SchemaNotLoaded
from socle_rest.schema_document import render_schema

if TYPE_CHECKING:
    from socle_platform.db import Database
    from socle_platform.events import Observation
    from socle_platform.http import Receive, Scope, Send
    from socle_rest.reload import Live

_TEXT = (("content-type", "text/plain; charset=utf-8"),)
_GATEWAY_TIMEOUT = 504
_PROBE_SECONDS = 1.0
_JSON = (("content-type", "application/json; charset=utf-8"),)


class RestMetrics(Metrics):
    """The platform's request metrics, and the schema cache and connection pool under PostgREST's names."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._loads = Counter("pgrst_schema_cache_loads", "Schema cache loads", ("status",), registry=self.registry)
        self._load_seconds = Gauge(
            "pgrst_schema_cache_query_time_seconds", "Seconds the last schema cache load took", registry=self.registry
        )
        self._timeouts = Counter(
            "pgrst_db_pool_timeouts", "Requests that waited too long for a connection", registry=self.registry
        )
        for name, help_text, read in (
            ("available", "Idle connections of the pool", lambda: database.pool_states()["api"].idle),
            ("waiting", "Requests that wait for a connection", lambda: database.pool_states()["api"].waiting),
            ("max", "Most connections of the pool", lambda: database.pool_states()["api"].limit),
        ):
            Gauge(f"pgrst_db_pool_{name}", help_text, registry=self.registry).set_function(read)

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, SchemaLoaded):
            self._loads.labels("SUCCESS").inc()
            self._load_seconds.set(observation.duration)
        elif isinstance(observation, SchemaNotLoaded):
            self._loads.labels("FAIL").inc()
        else:
            super().__call__(observation)
            if isinstance(observation, RequestServed) and observation.status == _GATEWAY_TIMEOUT:
                self._timeouts.inc()


@dataclass(frozen=True, slots=True)
class AdminApp:
    """ASGI application. `probe` opens a connection to the main server, raising OSError where nobody answers."""

    live: Live
    metrics: RestMetrics
    probe: Callable[[], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_response(send, await self._answer(scope["path"]), head=scope["method"] == "HEAD")

    async def _answer(self, path: str) -> WireResponse:
        match path:
            case "/live":
                return WireResponse(200 if await self._lives() else 500)
            case "/ready":
                return WireResponse(503 if not self.live.ready else 200 if await self._lives() else 500)
            case "/metrics":
                return WireResponse(200, _TEXT, self.metrics.render())
            case "/schema_cache":
                schema = self.live.serving.schema
                return WireResponse(200, _JSON, b"" if schema is None else render_schema(schema))
            case _:
                return WireResponse(404)

    async def _lives(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self.probe()
        except (OSError, TimeoutError):
            return False
        return True
