"""HTTP in, HTTP out: every module's ROUTES as one application, with the checks that stand before a handler."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from socle_auth import captcha, errors, limits
from socle_auth.access import caller_of
from socle_auth.context import AuthRoute, AuthService, Call
from socle_auth.errors import API_VERSION_HEADER, AuthError, ErrorCode, as_auth_error, render_error
from socle_auth.limits import Limits
from socle_auth.locks import RefreshLocks
from socle_auth.mail.templates import MailTemplates
from socle_auth.oauth.oidc import Issuers
from socle_auth.oauth.providers import outgoing_of
from socle_auth.passwords import PasswordHasher
from socle_auth.python_hooks import import_hooks
from socle_auth.redirects import BadPattern, RedirectRules
from socle_auth.sso.service_provider import ensure_usable
from socle_platform.config.reader import ConfigError
from socle_platform.events import Noted, RequestFailed
from socle_platform.http import client_ip, header, request_id, route_path

if TYPE_CHECKING:
    from starlette.requests import Request

    from socle_platform.config.auth import AuthSettings
    from socle_platform.errors import WireResponse
    from socle_platform.ports import Resources

BODY_LIMIT = 1 << 20
"""Bytes (contract §1.3)."""


def _modules() -> Iterable[ModuleType]:
    """The use cases that have routes; a new one is added here."""
    from socle_auth import (
        admin_audit,
        admin_users,
        generate_link,
        invite,
        logout,
        otp,
        public,
        reauthenticate,
        recover,
        resend,
        signup,
        token_grants,
        user,
        verify,
    )
    from socle_auth.mfa import routes as mfa
    from socle_auth.oauth import routes as oauth
    from socle_auth.oauth_server import routes as oauth_server
    from socle_auth.passkeys import routes as passkeys
    from socle_auth.sso import routes as sso

    return (
        admin_audit,
        admin_users,
        generate_link,
        invite,
        logout,
        otp,
        public,
        reauthenticate,
        recover,
        resend,
        signup,
        token_grants,
        user,
        verify,
        mfa,
        oauth,
        oauth_server,
        passkeys,
        sso,
    )


def all_routes() -> list[AuthRoute]:
    """Every route of the service, in the order of the modules."""
    return [route for module in _modules() for route in cast("tuple[AuthRoute, ...]", module.ROUTES)]


def open_service(settings: AuthSettings, resources: Resources) -> AuthService:
    """The service's parts. Raises ConfigError for a bad allow-list, proxy network or mail template, or SAML that
    cannot work."""
    try:
        rules = RedirectRules.of(settings.site_url, settings.uri_allow_list)
        networks = tuple(ipaddress.ip_network(entry, strict=False) for entry in settings.trusted_proxies)
    except BadPattern as error:
        raise ConfigError([f"GOTRUE_URI_ALLOW_LIST cannot be read: {error}"]) from None
    except ValueError as error:
        raise ConfigError([f"SOCLE_TRUSTED_PROXIES cannot be read: {error}"]) from None
    if settings.saml.enabled:
        ensure_usable(settings)
    import_hooks(settings.hook_modules)
    return AuthService(
        settings=settings,
        resources=resources,
        hasher=PasswordHasher(settings.password.argon2),
        redirects=rules,
        limits=Limits(settings.rates, lambda: resources.clock.now().timestamp()),
        refresh_locks=RefreshLocks(),
        issuers=Issuers(
            outgoing_of(resources), lambda: resources.clock.now().timestamp(), settings.external.oidc_cache
        ),
        networks=networks,
        mails=MailTemplates(
            settings.mailer,
            resources.http,
            lambda: resources.clock.now().timestamp(),
            lambda level, text: resources.observe(Noted("auth", level, text)),
        ),
    )


def build(settings: AuthSettings, resources: Resources) -> Starlette:
    """The service as an ASGI application, mounted anywhere or alone at `/`. Raises ConfigError."""
    return application(open_service(settings, resources))


@asynccontextmanager
async def running(settings: AuthSettings, resources: Resources) -> AsyncGenerator[Starlette]:
    """The application with its background work beside it, until the block ends. Raises ConfigError."""
    from socle_auth import cleanup, shared_limits
    from socle_auth.inbox import delivery

    service = open_service(settings, resources)
    await service.mails.load()
    jobs = [
        asyncio.create_task(cleanup.run(service), name="auth cleanup"),
        asyncio.create_task(delivery.run(service), name="auth inbox"),
        asyncio.create_task(shared_limits.run(service), name="auth rate limits"),
    ]
    try:
        yield application(service)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        service.hasher.close()


def application(service: AuthService) -> Starlette:
    """The routes over a service made before (its owner runs the background work)."""
    routes = [
        Route(route.path, _endpoint(service, route), methods=[route.method], include_in_schema=False)
        for route in all_routes()
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _endpoint(service: AuthService, route: AuthRoute) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        version = errors.parse_api_version(request.headers.get(API_VERSION_HEADER))
        try:
            async with asyncio.timeout(service.settings.max_request_seconds or None):
                response = await _answer(service, route, request, version)
        except TimeoutError:
            late = AuthError(ErrorCode.REQUEST_TIMEOUT, "Processing this request timed out, please retry")
            response = render_error(late, version, request_id(request.scope))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever was raised becomes the wire's own error
            response = _failed(service, request, error, version)
        return _to_starlette(response, version)

    return endpoint


async def _answer(service: AuthService, route: AuthRoute, request: Request, version: str | None) -> WireResponse:
    call = await read_call(service, request, version)
    if route.first_gate is not None:
        route.first_gate(service.settings)
    call = replace(call, caller=await caller_of(service, call, route.access))
    if route.limiter is not None:
        await limits.charge(service, route.limiter, limits.caller_key(service, call))
    if route.captcha:
        await captcha.check(service, call)
    if route.gate is not None:
        route.gate(service.settings)
    if not route.sends:
        return await route.handler(service, call)
    async with service.senders:
        return await route.handler(service, call)


def _failed(service: AuthService, request: Request, error: Exception, version: str | None) -> WireResponse:
    shown = as_auth_error(error)
    if isinstance(shown, AuthError) and (cause := shown.cause or error) and shown.status >= 500:
        scope = request.scope
        service.resources.observe(RequestFailed("auth", request.method, route_path(scope), request_id(scope), cause))
    return render_error(error, version, request_id(request.scope))


def render_failure(error: Exception) -> WireResponse:
    """What the gateway shows of an exception that passed the service's own boundary: the present rendering."""
    return render_error(error, errors.CURRENT_API_VERSION)


def _to_starlette(answer: WireResponse, version: str | None) -> Response:
    response = Response(answer.body, answer.status)
    if answer.status == 204 and "content-length" in response.headers:
        del response.headers["content-length"]
    for name, value in answer.headers:
        response.headers.append(name, value)
    if version and API_VERSION_HEADER not in response.headers:
        response.headers[API_VERSION_HEADER] = version
    return response


async def read_call(service: AuthService, request: Request, version: str | None = None) -> Call:
    """The request as a value. Raises 413 beyond the body limit."""
    headers = dict[str, str]()
    for name, value in request.headers.items():
        headers.setdefault(name, value)
    query = dict[str, str]()
    for name, value in request.query_params.multi_items():
        query.setdefault(name, value)
    if "\x00" in request.url.path or any("\x00" in value for value in query.values()):
        raise errors.invalid("The request contains a character that cannot be stored")
    return Call(
        method=request.method,
        path=route_path(request.scope),
        headers=headers,
        query=query,
        params={name: str(value) for name, value in request.path_params.items()},
        raw_body=await _read_body(request),
        client_ip=_client_address(service, request),
        request_id=request_id(request.scope),
        api_version=version,
        scheme=request.url.scheme,
        root_path=str(request.scope.get("root_path", "")),
    )


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > BODY_LIMIT:
        raise AuthError(ErrorCode.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
    parts, size = list[bytes](), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise AuthError(ErrorCode.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
        parts.append(chunk)
    return b"".join(parts)


def _client_address(service: AuthService, request: Request) -> str:
    """The caller's address (§1.12); "" when it is no IP address (a socket of the machine itself)."""
    address = client_ip(request.scope, service.networks)
    if service.settings.security.sb_forwarded_for:
        forwarded = header(request.scope, b"sb-forwarded-for") or ""
        address = forwarded.partition(",")[0].strip() or address
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
