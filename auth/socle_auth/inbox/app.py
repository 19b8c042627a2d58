"""The inbox as an ASGI application, and who may look into it."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from socle_auth.inbox.api import Api
from socle_auth.inbox.pages import Pages
from socle_platform.db import DatabaseUnavailable
from socle_platform.http import credentials_of, header, identity_of_apikey
from socle_platform.keys import TokenError

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_platform.http import ASGIApp, Message, Receive, Scope, Send


class Inbox:
    """The pages and the API behind their door.

    On a loopback address everybody on the machine may look (`is_open`), but no page of another site: neither by its own
    requests nor by a name that it points here. Elsewhere the service key is asked for, as `apikey`, as a bearer token,
    or as the password that a browser asks its user for.
    """

    def __init__(self, service: AuthService, *, is_open: bool) -> None:
        self._service = service
        self._is_open = is_open
        self._app: ASGIApp = Starlette(routes=[*Pages(service).routes(), *Api(service).routes()])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        send = _private(send)
        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except DatabaseUnavailable:
            await PlainTextResponse("the database cannot be reached", 503)(scope, receive, send)

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        if _is_foreign(scope):
            return PlainTextResponse("The inbox answers no other site", 403)
        if self._is_open:
            own = urlsplit(self._service.settings.external_url).hostname
            if not _is_local_name(header(scope, b"host") or "", own):
                return PlainTextResponse("The inbox is only shown under this machine's own name", 403)
            return None
        if self._has_key(scope):
            return None
        challenge = {"www-authenticate": 'Basic realm="inbox (any name; the service key is the password)"'}
        return PlainTextResponse("The inbox needs the service key", 401, challenge)

    def _has_key(self, scope: Scope) -> bool:
        credentials = credentials_of(scope)
        for key in (credentials.apikey, credentials.bearer, _basic_password(header(scope, b"authorization") or "")):
            if not key:
                continue
            try:
                identity = identity_of_apikey(key, self._service.resources.keyring)
            except TokenError:
                continue
            if identity.role in self._service.settings.jwt.admin_roles:
                return True
        return False


def _private(send: Send) -> Send:
    """No other site reads an answer, and nobody stores it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                *message.get("headers", ()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
            ]
            # Set to nobody, so that the gateway does not open it to everybody.
            message = {**message, "headers": [*kept, (b"access-control-allow-origin", b"https://nobody.invalid")]}
        await send(message)

    return sending


def _is_foreign(scope: Scope) -> bool:
    """Whether a page of another site sent this."""
    origin = header(scope, b"origin")
    if origin and urlsplit(origin).netloc != header(scope, b"host"):
        return True
    site, mode = header(scope, b"sec-fetch-site"), header(scope, b"sec-fetch-mode")
    return site in ("cross-site", "same-site") and not (mode == "navigate" and scope["method"] == "GET")


def _is_local_name(host: str, own: str | None) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", own) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _basic_password(authorization: str) -> str:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
