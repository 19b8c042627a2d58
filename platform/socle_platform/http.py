"""The gateway: what every service shares on the wire.

Request ids, CORS, the apikey check, body limits, the error boundary and one observation per exchange, as one raw ASGI
application in front of the services (no Request or Response objects on the way of a request; hot-path.md §9).
Source: contract clients.md §1.
"""

from __future__ import annotations

import ipaddress
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote

from socle_platform.errors import SocleError, WireResponse
from socle_platform.events import Observe, RequestFailed, RequestServed, silent
from socle_platform.identity import Identity, RequestFacts
from socle_platform.keys import Keyring, TokenError, TokenMalformed, expiry_of
from socle_platform.quick import GiveUp, QuickApp, Reply, WholeRequest, WholeResponse, header_lines
from socle_platform.request_headers import OPAQUE_PREFIX as OPAQUE_PREFIX
from socle_platform.request_headers import Credentials, RequestHeaders, headers_of

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_DEFAULT_ALLOWED_HEADERS = (
    b"authorization, x-client-info, apikey, content-type, x-retry-count, x-supabase-api-version, accept-profile, "
    b"content-profile, prefer, range, x-upsert, cache-control, x-metadata, x-region, traceparent, tracestate, baggage"
)
_EXPOSED_HEADERS = (
    b"content-range, content-location, content-profile, location, link, etag, x-total-count, x-supabase-api-version, "
    b"x-relay-error, x-request-id, range-unit, preference-applied, proxy-status, server-timing, retry-after, "
    b"tus-resumable, upload-offset, upload-length, upload-metadata, upload-expires, tus-version, tus-extension, "
    b"tus-max-size"
)


_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (b"access-control-expose-headers", _EXPOSED_HEADERS)
_ANY_ORIGIN_LINE = header_lines((_ANY_ORIGIN,))
_EXPOSED_LINE = header_lines((_EXPOSED,))
_BODILESS = frozenset({"GET", "HEAD"})


class BodyTooLarge(SocleError):
    """The request body is larger than this service takes."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One service under its prefix.

    `render` turns an exception that the service let pass into that service's own error. `open_paths` are paths below
    the prefix that need no apikey (links in mails, provider callbacks); `checks_key` False opens all.
    `body_limit` in bytes, None where the service limits its own streams.
    """

    prefix: str
    service: str
    app: ASGIApp
    render: Callable[[Exception], WireResponse]
    checks_key: bool = True
    open_paths: tuple[str, ...] = ()
    body_limit: int | None = None
    quick: QuickApp | None = None
    """Answers the same, where it can, in the quick lane."""


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """What the gateway insists on. `require_apikey`: a request without any key is refused, not taken as anonymous."""

    require_apikey: bool = True
    trusted_proxies: tuple[IPNetwork, ...] = field(default=())


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that lower-case name, as Latin-1 text."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def route_path(scope: Scope) -> str:
    """The path below the prefix where the service is mounted, decoded, with its leading slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return (path[len(root) :] or "/") if root and path.startswith(root) else path


def decoded_path(path: bytes) -> str:
    """An ASCII path with its percent-encoding undone, as the server puts it into a scope."""
    text = path.decode("ascii")
    return unquote(text) if "%" in text else text


def request_id(scope: Scope) -> str:
    """The id of this exchange, as answered in `x-request-id`; empty outside the gateway."""
    return str(scope.get("socle.request_id", ""))


def credentials_of(scope: Scope) -> Credentials:
    """Key and token of a request: header `apikey` (or, for links and sockets, the query's), header `Authorization`."""
    headers = headers_of(scope)
    if headers.apikey is None and b"apikey=" in scope.get("query_string", b""):
        return headers.with_apikey(parse_qs(scope["query_string"].decode("latin-1")).get("apikey", [None])[0])
    return headers.credentials


def identity_of(scope: Scope, keyring: Keyring, anonymous: Identity) -> Identity:
    """Who calls: the bearer's token, else what the project key stands for, else `anonymous`. Raises TokenError."""
    credentials = credentials_of(scope)
    if credentials.bearer is not None:
        return keyring.verify(credentials.bearer)
    if credentials.apikey is None:
        return anonymous
    return identity_of_apikey(credentials.apikey, keyring)


def identity_of_apikey(apikey: str, keyring: Keyring) -> Identity:
    """Who a project key stands for: an opaque key of ours, or a signed one. Raises TokenError."""
    if apikey.startswith(OPAQUE_PREFIX):
        identity = keyring.identity_of_key(apikey)
        if identity is None:
            raise TokenMalformed("Invalid API key")
        return identity
    return keyring.verify(apikey)


def facts_of(scope: Scope) -> RequestFacts:
    """What SQL may see of the request (rest.md §13): header names in lower case, cookies apart."""
    headers_json, cookies_json = headers_of(scope).as_json()
    return RequestFacts(scope["method"], route_path(scope), headers_json, cookies_json)


def client_ip(scope: Scope, trusted_proxies: Sequence[IPNetwork] = ()) -> str:
    """The caller's address: the socket's, or behind trusted proxies the nearest untrusted one of `X-Forwarded-For`."""
    client = scope.get("client")
    address = str(client[0]) if client else "127.0.0.1"
    forwarded = header(scope, b"x-forwarded-for")
    if not forwarded or not _is_trusted(address, trusted_proxies):
        return address
    for hop in reversed([part.strip() for part in forwarded.split(",")]):
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            break
        address = hop
        if not _is_trusted(hop, trusted_proxies):
            break
    return address


def _is_trusted(address: str, networks: Sequence[IPNetwork]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def json_response(status: int, body: object, headers: Sequence[tuple[str, str]] = ()) -> WireResponse:
    """A JSON body without trailing newline."""
    raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return WireResponse(status, (("content-type", "application/json"), *headers), raw)


async def send_response(send: Send, response: WireResponse, *, head: bool = False) -> None:
    """Writes a whole response; `head` leaves the body out but not its length."""
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    if response.status not in (204, 304) and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})


def preflight_headers(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """The answer to a CORS preflight, which allows whatever headers were asked for; None when this is not one."""
    asked = origin = wanted = None
    for key, value in scope["headers"]:
        if key == b"access-control-request-headers":
            asked = value
        elif key == b"access-control-request-method":
            wanted = value
        elif key == b"origin":
            origin = value
    if origin is None or wanted is None:
        return None
    return [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", _ALLOWED_METHODS),
        (b"access-control-allow-headers", asked or _DEFAULT_ALLOWED_HEADERS),
        (b"access-control-max-age", b"86400"),
        (b"content-length", b"0"),
        (b"vary", b"Origin, Access-Control-Request-Headers"),
    ]


class Gateway:
    """Dispatches by prefix to the mounted services. `fallback` answers everything else (health, metrics, pages)."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        keyring: Keyring,
        policy: GatewayPolicy | None = None,
        observe: Observe = silent,
        fallback: ASGIApp | None = None,
    ) -> None:
        self._mounts: Mapping[str, Mount] = {mount.prefix: mount for mount in mounts}
        self._keyring = keyring
        self._policy = policy or GatewayPolicy()
        self._observe = observe
        self._fallback = fallback or _not_found
        self._quick: Mapping[bytes, Mount] = {
            mount.prefix.encode(): mount for mount in mounts if mount.quick is not None
        }
        self.quick_paths = tuple(prefix + b"/" for prefix in self._quick)
        """Starts of the paths that `begin` may answer."""

    def begin(self, request: WholeRequest, reply: Reply) -> GiveUp | None:
        """As `QuickApp.begin`, with what the gateway adds to every exchange; refusals are for the ASGI application."""
        method, path, query_string, headers, body, _ = request
        end = path.find(b"/", path.find(b"/", 1) + 1)
        mount = self._quick.get(path[:end])
        if (
            mount is None
            or mount.quick is None
            or (mount.checks_key and not self._admits(headers))
            or (mount.body_limit is not None and len(body) > mount.body_limit)
        ):
            return None
        started = time.perf_counter()
        request_id = headers.request_id or _new_request_id()

        def finish(response: WholeResponse | None) -> None:
            if response is None:
                reply(None)
                return
            status, lines, content = response
            origin = b"" if b"access-control-allow-origin:" in lines else _ANY_ORIGIN_LINE
            exposed = b"" if b"access-control-expose-headers:" in lines else _EXPOSED_LINE
            reply(WholeResponse(status, b"%b%b%bx-request-id: %b\r\n" % (lines, origin, exposed, request_id), content))
            duration = time.perf_counter() - started
            self._observe(
                RequestServed(mount.service, method, decoded_path(path), status, duration, request_id.decode())
            )

        return mount.quick.begin(WholeRequest(method, path[end:], query_string, headers, body, request_id), finish)

    def _admits(self, headers: RequestHeaders) -> bool:
        """Whether the key in these headers is known to be good; checked anew when it ends or ours change."""
        keys, until = headers.remembered.get(self, _NEVER)
        if keys is self._keyring.keys and self._keyring.time_of_day() < until:
            return True
        apikey = headers.credentials.apikey
        if apikey is None:
            return False
        try:
            identity = identity_of_apikey(apikey, self._keyring)
        except TokenError:
            return False
        headers.remembered[self] = (self._keyring.keys, expiry_of(identity))
        return True

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] not in ("http", "websocket"):
            return self._fallback(scope, receive, send)
        mount = self._mounts.get("/".join(scope["path"].split("/", 3)[:3]))
        if scope["type"] == "http":
            return self._serve(mount, scope, receive, send)
        if mount is None:
            return self._fallback(scope, receive, send)
        return mount.app({**scope, "root_path": scope.get("root_path", "") + mount.prefix}, receive, send)

    async def _serve(self, mount: Mount | None, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        exchange = _Exchange(headers_of(scope).request_id or _new_request_id(), send)
        request_id = scope["socle.request_id"] = exchange.request_id.decode()
        method: str = scope["method"]
        if method == "OPTIONS" and (allowed := preflight_headers(scope)) is not None:
            await exchange.send({"type": "http.response.start", "status": 200, "headers": allowed})
            await exchange.send({"type": "http.response.body", "body": b""})
        elif mount is None:
            await self._fallback(scope, receive, exchange.send)
        else:
            scope["root_path"] = scope.get("root_path", "") + mount.prefix
            if mount.checks_key:
                _move_query_key(scope)
            try:
                if mount.checks_key and (refusal := self._refuse_key(mount, scope)) is not None:
                    await send_response(exchange.send, refusal, head=method == "HEAD")
                else:
                    await mount.app(scope, _within(mount.body_limit, scope, receive), exchange.send)
            except Exception as error:  # noqa: BLE001 - the boundary: what a service let pass is its 500
                await self._fail(mount, scope, exchange, error)
        service = mount.service if mount else "platform"
        duration = time.perf_counter() - started
        self._observe(RequestServed(service, method, scope["path"], exchange.status, duration, request_id))

    async def _fail(self, mount: Mount, scope: Scope, exchange: _Exchange, error: Exception) -> None:
        """Answers an exception by its service's error; raises it when the answer has begun."""
        if not isinstance(error, BodyTooLarge):
            self._observe(RequestFailed(mount.service, scope["method"], scope["path"], request_id(scope), error))
        if exchange.status:
            raise error
        await send_response(exchange.send, mount.render(error), head=scope["method"] == "HEAD")

    def _refuse_key(self, mount: Mount, scope: Scope) -> WireResponse | None:
        credentials = credentials_of(scope)
        if credentials.apikey is None:
            if not self._policy.require_apikey or _is_open(route_path(scope), mount.open_paths):
                return None
            return json_response(
                401,
                {
                    "message": "No API key found in request",
                    "hint": "Send the project's key in the `apikey` header; `socle status` shows it.",
                },
            )
        try:
            identity_of_apikey(credentials.apikey, self._keyring)
        except TokenError:
            return json_response(
                401,
                {
                    "message": "Invalid API key",
                    "hint": "The `apikey` is not one of this project's; `socle status` shows them.",
                },
            )
        return None


_NEVER = ((), 0.0)


class _Exchange:
    """Adds what every response carries, and remembers its status (0 until it has begun)."""

    __slots__ = ("_send", "request_id", "status")

    def __init__(self, request_id: bytes, send: Send) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0

    def send(self, message: Message) -> Awaitable[None]:
        """As the server's own `send`, whose wait it hands on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name for name, _ in headers}
            if b"access-control-allow-origin" not in names:
                headers.append(_ANY_ORIGIN)
            if b"access-control-expose-headers" not in names:
                headers.append(_EXPOSED)
            headers.append((b"x-request-id", self.request_id))
            message["headers"] = headers
        return self._send(message)


def _move_query_key(scope: Scope) -> None:
    """Makes the header of a key that a link carries in its query: for a service it would be a filter of its own."""
    query: bytes = scope["query_string"]
    if b"apikey=" not in query or headers_of(scope).apikey is not None:
        return
    kept = [part for part in query.split(b"&") if not part.startswith(b"apikey=")]
    apikey = credentials_of(scope).apikey
    if apikey is not None:
        scope["query_string"] = b"&".join(kept)
        scope["headers"] = [*scope["headers"], (b"apikey", apikey.encode("latin-1", "replace"))]
        scope["socle.headers"] = None


def _new_request_id() -> bytes:
    """96 bits that name one exchange; nothing relies on their being hard to guess."""
    return b"%024x" % random.getrandbits(96)


def _is_open(path: str, open_paths: Sequence[str]) -> bool:
    return any(path == open_path or path.startswith(open_path.rstrip("/") + "/") for open_path in open_paths)


def _within(limit: int | None, scope: Scope, receive: Receive) -> Receive:
    """`receive` that raises BodyTooLarge past `limit` bytes, whatever Content-Length promised; at once if it does."""
    if limit is None or (scope["method"] in _BODILESS and not headers_of(scope).may_have_body):
        return receive
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise BodyTooLarge
        return message

    return limited


async def _not_found(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send_response(send, json_response(404, {"message": "no Route matched with those values"}))
