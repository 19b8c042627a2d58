"""POST /logout (contracts/auth.md §3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, wire
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import invalid
from socle_auth.store import sessions

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.errors import WireResponse


async def logout(service: AuthService, call: Call) -> WireResponse:
    """Ends sessions: every one (`global`), this one (`local`), or the `others`. A token without a session ends all."""
    scope = call.query.get("scope") or "global"
    if scope not in ("global", "local", "others"):
        raise invalid(f'Unsupported logout scope "{scope}"')
    user, session = call.require_user(), call.require_caller().session
    async with service.connect() as connection:
        await audit.record(service, connection, call, "logout", user)
        if session is None or scope == "global":
            await sessions.delete_all(connection, user.id)
        elif scope == "local":
            await sessions.delete(connection, session.id)
        else:
            await sessions.delete_all(connection, user.id, except_session=session.id)
    return wire.no_content()


ROUTES = (AuthRoute("POST", "/logout", logout, Access.USER),)
