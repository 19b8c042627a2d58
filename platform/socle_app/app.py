"""The composition root: services are built, given their ports, and mounted behind the gateway. Nobody imports this."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from socle_auth import routes as auth_routes
from socle_auth.errors import render_error as render_auth_error
from socle_auth.inbox.app import Inbox
from socle_platform.config.postgrest_file import load_environment
from socle_platform.config.reader import Reader
from socle_platform.config.rest import load_rest
from socle_platform.db import DatabaseUnavailable
from socle_platform.errors import WireResponse
from socle_platform.http import Gateway, GatewayPolicy, Mount, identity_of, json_response, send_response
from socle_platform.identity import Identity
from socle_platform.keys import TokenError
from socle_platform.pgwire.dsn import parse_dsn
from socle_rest import routes as rest_routes
from socle_rest.errors import render_error as render_rest_error
from socle_rest.login import connector
from socle_rest.reload import Live
from socle_storage import routes as storage_routes
from socle_storage import sweeper as storage_sweeper
from socle_storage.errors import render as render_storage_error

if TYPE_CHECKING:
    from socle_app.observers import Metrics
    from socle_auth.context import AuthService
    from socle_platform.config.rest import RestSettings
    from socle_platform.config.settings import Settings
    from socle_platform.http import ASGIApp, Receive, Scope, Send
    from socle_platform.ports import Resources

AUTH_OPEN_PATHS = ("/verify", "/callback", "/authorize", "/sso", "/.well-known", "/oauth", "/health", "/settings")
"""Below /auth/v1: links in mails, provider callbacks and discovery, which a browser opens without a key."""

_AUTH = "/auth/v1"
_ANYBODY = Identity.anonymous()
_DISCOVERY = {
    f"/.well-known/{document}{_AUTH}": f"{_AUTH}/.well-known/{document}"
    for document in ("oauth-authorization-server", "openid-configuration")
}
"""Where clients look for what an issuer with a path says of itself (RFC 8414 §3.1), and where the service has it."""


@contextlib.asynccontextmanager
async def furnish(
    settings: Settings, environ: Mapping[str, str], api_dsn: str, resources: Resources, metrics: Metrics
) -> AsyncGenerator[ASGIApp]:
    """The whole platform as one ASGI application, with its background work, until the block ends.

    Nothing else in the code base imports a service. `environ` is what the settings were read from: settings that the
    database keeps (`ALTER ROLE authenticator SET pgrst.…`) go over it at each reload.
    """
    async with contextlib.AsyncExitStack() as stack:
        live = _live_rest(settings.rest, environ, api_dsn, resources)
        stack.push_async_callback(live.close)
        await live.start()
        auth = await stack.enter_async_context(auth_routes.running(settings.auth, resources))
        storage = storage_routes.build(settings.storage, resources)
        await stack.enter_async_context(storage_sweeper.sweeping(settings.storage, resources))
        rest = rest_routes.build(settings.rest, resources, live)
        mounts = (
            Mount("/rest/v1", "rest", rest, render_rest_error, body_limit=settings.gateway.body_limit, quick=rest),
            Mount(_AUTH, "auth", auth, _render_auth_error, open_paths=AUTH_OPEN_PATHS),
            Mount("/storage/v1", "storage", storage, render_storage_error, checks_key=False),
        )
        policy = GatewayPolicy(settings.gateway.require_apikey, settings.gateway.trusted_proxies)
        inbox = _inbox(settings, auth.service)
        front = _Front(resources, metrics, auth, inbox, is_open=settings.gateway.is_loopback)
        yield Gateway(mounts, resources.keyring, policy, resources.observe, front)


def _inbox(settings: Settings, service: AuthService) -> ASGIApp | None:
    """What no mail server takes, to be read by whoever is on this machine or has the service key."""
    wanted = settings.auth.inbox.enabled or settings.auth.inbox.texts
    return Inbox(service, is_open=settings.gateway.is_loopback) if wanted else None


def _live_rest(settings: RestSettings, environ: Mapping[str, str], api_dsn: str, resources: Resources) -> Live:
    def reread(stored: Mapping[str, str]) -> RestSettings:
        read = Reader(load_environment(environ, in_database=stored))
        fresh = load_rest(read)
        read.finish()
        return fresh

    connect = connector(parse_dsn(api_dsn), application_name="socle rest schema")
    renew = resources.database.renew_sessions
    return Live(settings, resources.keyring, connect, reread=reread, observe=resources.observe, loaded=renew)


def _render_auth_error(error: Exception) -> WireResponse:
    return render_auth_error(error, None)


class _Front:
    """What is no service: `/health`, `/metrics`, `/inbox`, discovery at the root, and the 404 for the rest.

    On a loopback address everybody on the machine may read the metrics (`is_open`), elsewhere who has the service key.
    """

    def __init__(
        self, resources: Resources, metrics: Metrics, auth: ASGIApp, inbox: ASGIApp | None, *, is_open: bool
    ) -> None:
        self._is_open = is_open
        self._auth = auth
        self._inbox = inbox
        self._resources = resources
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        if self._inbox is not None and scope["path"].startswith("/inbox/"):
            await self._inbox({**scope, "root_path": scope.get("root_path", "") + "/inbox"}, receive, send)
            return
        if (path := _DISCOVERY.get(scope["path"])) is not None:
            below = {"path": path, "raw_path": path.encode(), "root_path": scope.get("root_path", "") + _AUTH}
            await self._auth({**scope, **below}, receive, send)
            return
        await send_response(send, await self._answer(scope), head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope) -> WireResponse:
        path: str = scope["path"]
        if path == "/health":
            return await self._health()
        if path == "/metrics" and not self._may_measure(scope):
            return json_response(
                401, {"message": "The metrics need the service key"}, (("www-authenticate", "Bearer"),)
            )
        if path == "/metrics":
            headers = (("content-type", "text/plain; version=0.0.4; charset=utf-8"),)
            return WireResponse(200, headers, self._metrics.render())
        if path == "/inbox" and self._inbox is not None:
            return WireResponse(307, (("location", "inbox/"),))
        return json_response(404, {"message": "no Route matched with those values"})

    def _may_measure(self, scope: Scope) -> bool:
        try:
            return self._is_open or identity_of(scope, self._resources.keyring, _ANYBODY).role == "service_role"
        except TokenError:
            return False

    async def _health(self) -> WireResponse:
        try:
            await self._resources.database.ping()
        except DatabaseUnavailable:
            return json_response(503, {"status": "unhealthy", "database": "unreachable"})
        return json_response(200, {"status": "healthy", "database": "reachable"})
