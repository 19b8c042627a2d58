"""One ASGI application over a table of routes: the request as a value, the checks before a handler, the error boundary.

No framework's objects stand on the way of a request: a static path is found by one look-up, the few with parameters
by their patterns.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from socle_auth import captcha, errors, limits
from socle_auth.access import caller_of
from socle_auth.context import AuthRoute, AuthService, Call
from socle_auth.errors import API_VERSION_HEADER, AuthError, ErrorCode, as_auth_error, render_error
from socle_platform.errors import WireResponse
from socle_platform.events import RequestFailed
from socle_platform.http import client_ip, header, request_id, route_path, send_response
from socle_platform.request_headers import headers_of

if TYPE_CHECKING:
    from socle_platform.http import Receive, Scope, Send

BODY_LIMIT = 1 << 20
"""Bytes (contract §1.3)."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_PLAIN_TEXT = (("content-type", "text/plain; charset=utf-8"),)
_NOT_FOUND = WireResponse(404, _PLAIN_TEXT, b"Not Found")

ByMethod = dict[str, AuthRoute]


class Application:
    """The routes over a service made before (its owner runs the background work)."""

    def __init__(self, service: AuthService, routes: Sequence[AuthRoute]) -> None:
        self.service = service
        self._static: dict[str, ByMethod] = {}
        self._patterns: dict[re.Pattern[str], ByMethod] = {}
        for route in routes:
            if "{" in route.path:
                methods = self._patterns.setdefault(_pattern_of(route.path), {})
            else:
                methods = self._static.setdefault(route.path, {})
            methods.setdefault(route.method, route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        if scope["type"] != "http":
            return
        method: str = scope["method"]
        found = self._find("GET" if method == "HEAD" else method, route_path(scope))
        response = found if isinstance(found, WireResponse) else await self._serve(*found, scope, receive)
        await send_response(send, response, head=method == "HEAD")

    def _find(self, method: str, path: str) -> tuple[AuthRoute, Mapping[str, str]] | WireResponse:
        """The route with its parameters, or the plain answer where there is none (§1.15)."""
        methods = self._static.get(path, {})
        if (route := methods.get(method)) is not None:
            return route, {}
        allowed = set(methods)
        for pattern, others in self._patterns.items():
            if (match := pattern.fullmatch(path)) is None:
                continue
            if (route := others.get(method)) is not None:
                return route, match.groupdict()
            allowed |= others.keys()
        if not allowed:
            return _NOT_FOUND
        allow = ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))
        return WireResponse(405, (*_PLAIN_TEXT, ("allow", allow)), b"Method Not Allowed")

    async def _serve(self, route: AuthRoute, params: Mapping[str, str], scope: Scope, receive: Receive) -> WireResponse:
        service = self.service
        version = errors.parse_api_version(header(scope, API_VERSION_HEADER.encode()))
        try:
            async with asyncio.timeout(service.settings.max_request_seconds or None):
                response = await _answer(service, route, await read_call(service, scope, receive, params, version))
        except TimeoutError:
            late = AuthError(ErrorCode.REQUEST_TIMEOUT, "Processing this request timed out, please retry")
            response = render_error(late, version, request_id(scope))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever was raised becomes the wire's own error
            response = _failed(service, scope, error, version)
        if version and not any(name == API_VERSION_HEADER for name, _ in response.headers):
            return replace(response, headers=(*response.headers, (API_VERSION_HEADER, version)))
        return response


def _pattern_of(path: str) -> re.Pattern[str]:
    """`/users/{id}` as a pattern: a parameter is anything but a slash."""
    parts = _PARAMETER.split(path)
    return re.compile("".join(f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)))


async def _answer(service: AuthService, route: AuthRoute, call: Call) -> WireResponse:
    if route.first_gate is not None:
        route.first_gate(service.settings)
    caller = await caller_of(service, call, route.access)
    if caller is not None:
        call = call.by(caller)
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


def _failed(service: AuthService, scope: Scope, error: Exception, version: str | None) -> WireResponse:
    shown = as_auth_error(error)
    if isinstance(shown, AuthError) and (cause := shown.cause or error) and shown.status >= 500:
        service.resources.observe(RequestFailed("auth", scope["method"], route_path(scope), request_id(scope), cause))
    return render_error(error, version, request_id(scope))


async def read_call(
    service: AuthService, scope: Scope, receive: Receive, params: Mapping[str, str], version: str | None = None
) -> Call:
    """The request as a value. Raises 413 beyond the body limit."""
    raw_query: bytes = scope.get("query_string", b"")
    query = _first_of(parse_qsl(raw_query.decode("latin-1"), keep_blank_values=True)) if raw_query else {}
    if "\x00" in scope["path"] or any("\x00" in value for value in query.values()):
        raise errors.invalid("The request contains a character that cannot be stored")
    headers = _first_of([(str(name, "latin-1"), str(value, "latin-1")) for name, value in scope["headers"]])
    return Call(
        method=scope["method"],
        path=route_path(scope),
        headers=headers,
        query=query,
        params=params,
        raw_body=await _read_body(scope, receive) if headers_of(scope).may_have_body else b"",
        client_ip=_client_address(service, scope),
        request_id=request_id(scope),
        api_version=version,
        scheme=scope.get("scheme", "http"),
        root_path=scope.get("root_path", ""),
    )


def _first_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """By name; of a repeated one the first counts."""
    found = dict[str, str]()
    for name, value in pairs:
        found.setdefault(name, value)
    return found


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    declared = header(scope, b"content-length") or ""
    if declared.isdigit() and int(declared) > BODY_LIMIT:
        raise AuthError(ErrorCode.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
    parts, size = list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.invalid("The request ended before its body")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > BODY_LIMIT:
            raise AuthError(ErrorCode.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _client_address(service: AuthService, scope: Scope) -> str:
    """The caller's address (§1.12); "" when it is no IP address (a socket of the machine itself)."""
    address = client_ip(scope, service.networks)
    if service.settings.security.sb_forwarded_for:
        forwarded = header(scope, b"sb-forwarded-for") or ""
        address = forwarded.partition(",")[0].strip() or address
    return _canonical_address(address)


@lru_cache(maxsize=4096)
def _canonical_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
