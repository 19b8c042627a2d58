"""HTTP in, HTTP out: which request is which operation, who may ask, and how errors leave.

One ASGI application, mounted under `/storage/v1` or alone at `/`. Routing is by the fixed words of the path and by how
much follows them; fixed words win over bucket names, as in the official service (contract storage.md §1 to §3).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from socle_platform.config.storage import StorageSettings
from socle_platform.events import Noted, RequestFailed
from socle_platform.http import Receive, Scope, Send, facts_of, request_id
from socle_platform.identity import Identity
from socle_platform.keys import TokenError
from socle_platform.ports import Resources
from socle_storage.access import identify, require_identity
from socle_storage.context import Caller, Storage
from socle_storage.errors import (
    feature_not_enabled,
    invalid_bucket_name,
    invalid_key,
    is_known,
    render,
    translate,
    unknown_route,
)
from socle_storage.handlers import ROUTES, Auth, Call, Route
from socle_storage.images.routes import Images
from socle_storage.s3api.endpoint import FIRST_WORD, s3_endpoint
from socle_storage.store import Store
from socle_storage.tus.endpoint import ResumableEndpoint
from socle_storage.wire import Exchange, decode_segment

if TYPE_CHECKING:
    from socle_platform.http import ASGIApp

_ANONYMOUS = Identity.anonymous()
_NO_AUTOMATIC_HEAD = (("object", "info", "public"),)
_LONGEST_PREFIX = 3
_REFUSED = frozenset({"vector", "iceberg"})
"""Kinds of buckets that are not served; their routes answer with the semantic status (contract §1.1, §10)."""


def build_storage(settings: StorageSettings, resources: Resources) -> Storage:
    """The service's parts out of the application's. Raises ValueError without a blob store."""
    if resources.blobs is None:
        raise ValueError("the storage service needs a blob store")
    return Storage(
        settings=settings,
        store=Store(resources.database, settings),
        blobs=resources.blobs,
        keyring=resources.keyring,
        clock=resources.clock,
        observe=resources.observe,
    )


def build(settings: StorageSettings, resources: Resources) -> ASGIApp:
    """The ASGI application of the storage service."""
    resumable = ResumableEndpoint(settings.tus)
    endpoints: dict[str, Endpoint] = {resumable.first_word: resumable}
    if settings.s3_protocol.enabled:
        endpoints[FIRST_WORD] = s3_endpoint
    routes = {**ROUTES, **Images(settings).routes()}
    return Application(build_storage(settings, resources), MappingProxyType(endpoints), MappingProxyType(routes))


Endpoint: TypeAlias = Callable[[Storage, Exchange], Awaitable[None]]
"""A protocol with routes and errors of its own, below one first word of the path."""


@dataclass(frozen=True, slots=True)
class Application:
    """The service behind its routes, and the protocols beside them."""

    storage: Storage
    endpoints: Mapping[str, Endpoint]
    routes: Mapping[tuple[str, tuple[str, ...], int], Route]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the storage service speaks HTTP only, not {scope['type']}")
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except Exception as error:
            if exchange.started:
                raise
            await self._refuse(exchange, error)

    async def _answer(self, exchange: Exchange) -> None:
        segments = exchange.path.split("/")[1:]
        if len(segments) == 2 and not segments[1]:
            segments = segments[:1]
        if segments[0] in _REFUSED:
            raise feature_not_enabled(segments[0])
        if (endpoint := self.endpoints.get(segments[0])) is not None:
            await endpoint(self.storage, exchange)
            return
        route, rest = find_route(self.routes, exchange.method, segments)
        if route is None:
            raise unknown_route(exchange.method, exchange.url)
        bucket = decode_segment(rest[0]) if rest else ""
        name = decode_segment("/".join(rest[1:]))
        if "\0" in exchange.scope["path"]:  # not even the request's path could be shown to PostgreSQL
            raise invalid_key(name) if len(rest) > 1 else invalid_bucket_name()
        caller = self._caller(exchange, route)
        await route.handler(Call(self.storage, exchange, caller, bucket, name))

    def _caller(self, exchange: Exchange, route: Route) -> Caller:
        facts = facts_of(exchange.scope)
        if route.auth is Auth.NONE:
            return Caller(_ANONYMOUS, facts, route.operation, authenticated=False)
        if route.auth is Auth.OPTIONAL:
            try:
                identity = identify(exchange, self.storage.keyring)
            except TokenError:
                identity = None
            if identity is None:
                return Caller(_ANONYMOUS, facts, route.operation, authenticated=False)
        else:
            identity = require_identity(exchange, self.storage.keyring)
        return Caller(identity, facts, route.operation)

    async def _refuse(self, exchange: Exchange, error: Exception) -> None:
        known = translate(error)
        if not is_known(error):
            self._observe_failure(exchange, error)
        elif known.status >= 500:
            text = f"{exchange.method} {exchange.path}: {type(error).__name__}: {error}"
            self.storage.observe(Noted("storage", "error", text))
        if exchange.method in {"POST", "PUT", "PATCH"} and not await exchange.drain():
            known.close = True
        await exchange.respond(render(known, semantic=exchange.path.split("/")[1] in _REFUSED))

    def _observe_failure(self, exchange: Exchange, error: Exception) -> None:
        scope = exchange.scope
        self.storage.observe(RequestFailed("storage", scope["method"], scope["path"], request_id(scope), error))


def find_route(
    routes: Mapping[tuple[str, tuple[str, ...], int], Route], method: str, segments: Sequence[str]
) -> tuple[Route | None, Sequence[str]]:
    """The route with the most fixed words, and the segments behind them: none, a bucket, or a bucket and a name."""
    for length in range(min(len(segments), _LONGEST_PREFIX), 0, -1):
        prefix, rest = tuple(segments[:length]), segments[length:]
        if rest and not rest[0]:
            continue
        shape = min(len(rest), 2)
        route = routes.get((method, prefix, shape))
        if route is None and method == "HEAD" and prefix not in _NO_AUTOMATIC_HEAD:
            route = routes.get(("GET", prefix, shape))
        if route is not None:
            return route, rest
    return None, ()
