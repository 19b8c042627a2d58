"""GET /admin/audit (contracts/auth.md §3.13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import paging, wire
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import invalid
from socle_auth.store import audit

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse

_SCOPES = ("author", "action", "type")


async def list_entries(service: AuthService, call: Call) -> WireResponse:
    """Newest first; `query=author:ada`, `action:login` or `type:token` narrows it."""
    page = paging.parse_page(call)
    query = call.query.get("query", "")
    scope, colon, text = query.partition(":")
    if query and (not colon or scope not in _SCOPES):
        raise invalid(f"Invalid query scope: {query}")
    async with service.connect() as connection:
        entries, total = await audit.page(
            connection,
            scope or None,
            f"%{text}%" if query else None,
            limit=page.size,
            offset=page.offset,
        )
    body = [
        {
            "id": entry.id,
            "payload": entry.payload,
            "created_at": None if entry.created_at is None else wire.render_time(entry.created_at),
            "ip_address": entry.ip_address,
        }
        for entry in entries
    ]
    return wire.reply(body, headers=paging.page_headers(call, page, total))


ROUTES = (AuthRoute("GET", "/admin/audit", list_entries, Access.ADMIN),)
