"""The inbox as JSON, in the shapes of Mailpit's API, which tests and tools for the official stack use."""

from __future__ import annotations

import json
from email.utils import parseaddr
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from socle_auth.inbox import search
from socle_auth.store import inbox
from socle_auth.wire import render_time

if TYPE_CHECKING:
    from starlette.requests import Request

    from socle_auth.context import AuthService
    from socle_auth.store.inbox import Filter, StoredMessage

_MOST = 1000
_BODY_LIMIT = 1 << 20


class Api:
    """The routes below `api/v1`."""

    def __init__(self, service: AuthService) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/info", self.info, methods=["GET"]),
            Route("/api/v1/messages", self.messages, methods=["GET"]),
            Route("/api/v1/messages", self.delete, methods=["DELETE"]),
            Route("/api/v1/messages", self.mark, methods=["PUT"]),
            Route("/api/v1/search", self.search, methods=["GET"]),
            Route("/api/v1/search", self.delete_found, methods=["DELETE"]),
            Route("/api/v1/message/{id}", self.message, methods=["GET"]),
            Route("/api/v1/message/{id}/headers", self.headers, methods=["GET"]),
            Route("/api/v1/message/{id}/raw", self.raw, methods=["GET"]),
        ]

    async def info(self, _request: Request) -> Response:
        from importlib.metadata import version

        async with self._service.connect() as connection:
            total, unread = await inbox.counts(connection)
        return JSONResponse({"Version": f"socle {version('socle-platform')}", "Messages": total, "Unread": unread})

    async def messages(self, request: Request) -> Response:
        return await self._page(request, inbox.Filter())

    async def search(self, request: Request) -> Response:
        return await self._page(request, search.parse_search(request.query_params.get("query", "")))

    async def _page(self, request: Request, wanted: Filter) -> Response:
        start = _number(request, "start", 0)
        limit = min(_number(request, "limit", 50), _MOST)
        async with self._service.connect() as connection:
            found, matching = await inbox.page(connection, wanted, start, limit)
            total, unread = await inbox.counts(connection)
        return JSONResponse(
            {
                "total": total,
                "unread": unread,
                "count": len(found),
                "messages_count": matching,
                "messages_unread": unread,
                "start": start,
                "tags": [],
                "messages": [render_summary(message) for message in found],
            }
        )

    async def message(self, request: Request) -> Response:
        found = await self._find(request)
        if found is None:
            return _not_found()
        async with self._service.connect() as connection:
            await inbox.mark(connection, [found.id], is_read=True)
        return JSONResponse(render_message(found))

    async def headers(self, request: Request) -> Response:
        found = await self._find(request)
        if found is None:
            return _not_found()
        headers = dict[str, list[str]]()
        for name, value in _parsed(found).items():
            headers.setdefault(name, []).append(str(value))
        return JSONResponse(headers)

    async def raw(self, request: Request) -> Response:
        found = await self._find(request)
        return _not_found() if found is None else PlainTextResponse(found.source)

    async def delete(self, request: Request) -> Response:
        """The named messages; all of them when none is named."""
        body = await _body(request)
        if body is None:
            return PlainTextResponse("the body is not a JSON object with IDs", 400)
        async with self._service.connect() as connection:
            await inbox.delete(connection, _ids(body) or None)
        return PlainTextResponse("ok")

    async def mark(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return PlainTextResponse("the body is not a JSON object with IDs and Read", 400)
        async with self._service.connect() as connection:
            await inbox.mark(connection, _ids(body) or None, is_read=body.get("Read") is True)
        return PlainTextResponse("ok")

    async def delete_found(self, request: Request) -> Response:
        query = request.query_params.get("query", "").strip()
        if not query:
            return PlainTextResponse("no search query", 400)
        async with self._service.connect() as connection:
            await inbox.delete_found(connection, search.parse_search(query))
        return PlainTextResponse("ok")

    async def _find(self, request: Request) -> StoredMessage | None:
        async with self._service.connect() as connection:
            return await inbox.find(connection, request.path_params["id"])


def _not_found() -> Response:
    return PlainTextResponse("message not found", 404)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return min(int(text), 1 << 31) if text.isascii() and text.isdigit() else default


async def _body(request: Request) -> dict[str, Any] | None:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _BODY_LIMIT:
            return None
    try:
        value: object = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _ids(body: dict[str, Any]) -> list[str]:
    ids: object = body.get("IDs")
    items = cast("list[object]", ids) if isinstance(ids, list) else []
    return [item for item in items if isinstance(item, str) and "\x00" not in item]


def _address(text: str) -> dict[str, str]:
    name, address = parseaddr(text)
    return {"Name": name, "Address": address or text}


def _parsed(message: StoredMessage) -> Any:
    from email import message_from_string
    from email.policy import default

    return message_from_string(message.source, policy=default)


def render_summary(message: StoredMessage) -> dict[str, Any]:
    """A message of a list; `Snippet` is the beginning of its text."""
    return {
        "ID": message.id,
        "MessageID": message.id,
        "Read": message.is_read,
        "From": _address(message.sender),
        "To": [_address(message.recipient)],
        "Cc": [],
        "Bcc": [],
        "ReplyTo": [],
        "Subject": message.subject,
        "Created": render_time(message.created_at),
        "Tags": [message.kind] if message.kind != "mail" else [],
        "Size": message.size,
        "Attachments": 0,
        "Snippet": " ".join(message.body.split())[:250],
    }


def render_message(message: StoredMessage) -> dict[str, Any]:
    """A message whole."""
    return {
        "ID": message.id,
        "MessageID": str(_parsed(message).get("Message-ID") or message.id).strip("<>"),
        "From": _address(message.sender),
        "To": [_address(message.recipient)],
        "Cc": [],
        "Bcc": [],
        "ReplyTo": [],
        "ReturnPath": parseaddr(message.sender)[1],
        "Subject": message.subject,
        "ListUnsubscribe": {"Header": "", "Links": [], "Errors": "", "HeaderPost": ""},
        "Date": render_time(message.created_at),
        "Tags": [message.kind] if message.kind != "mail" else [],
        "Text": message.body,
        "HTML": message.html,
        "Size": message.size,
        "Inline": [],
        "Attachments": [],
    }
