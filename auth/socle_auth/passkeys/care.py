"""Listing, renaming and removing passkeys, by their owner and by administrators (§3.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socle_auth import audit, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.passkeys.registration import require_management_level
from socle_auth.store import passkeys as store
from socle_auth.store import users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.passkeys import Passkey
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_LONGEST_NAME = 120


def render_passkey(passkey: Passkey) -> dict[str, Any]:
    body: dict[str, Any] = {"id": passkey.id}
    if passkey.friendly_name:
        body["friendly_name"] = passkey.friendly_name
    body["created_at"] = wire.render_time(passkey.created_at)
    if passkey.last_used_at is not None:
        body["last_used_at"] = wire.render_time(passkey.last_used_at)
    return body


def _passkey_id(call: Call) -> str:
    passkey_id = wire.parse_uuid(call.params.get("passkey_id", ""))
    if passkey_id is None:
        raise _not_found()
    return passkey_id


def _not_found() -> AuthError:
    return invalid("Passkey not found", 404)


async def list_own(service: AuthService, call: Call) -> WireResponse:
    """GET /passkeys."""
    async with service.connect() as connection:
        found = await store.of_user(connection, call.require_user().id)
    return wire.reply([render_passkey(passkey) for passkey in found])


async def rename_own(service: AuthService, call: Call) -> WireResponse:
    """PATCH /passkeys/{passkey_id}."""
    user, passkey_id = call.require_user(), _passkey_id(call)
    name = call.body().text("friendly_name")
    if not name:
        raise invalid("friendly_name is required")
    if len(name) > _LONGEST_NAME:
        raise invalid(f"friendly_name must be {_LONGEST_NAME} characters or less")
    async with service.connect() as connection:
        renamed = await store.rename(connection, user.id, passkey_id, name, service.now())
        if renamed is None:
            raise _not_found()
        await audit.record(service, connection, call, "passkey_updated", user, {"passkey_id": passkey_id})
    return wire.reply(render_passkey(renamed))


async def delete_own(service: AuthService, call: Call) -> WireResponse:
    """DELETE /passkeys/{passkey_id}."""
    user = call.require_user()
    require_management_level(call)
    passkey_id = _passkey_id(call)
    async with service.connect() as connection:
        if not await store.delete(connection, user.id, passkey_id):
            raise _not_found()
        await audit.record(service, connection, call, "passkey_deleted", user, {"passkey_id": passkey_id})
    return wire.no_content()


async def _require_named_user(connection: Connection, call: Call) -> User:
    user = await users.find(connection, call.path_uuid("user_id"))
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User not found")
    return user


async def list_of_user(service: AuthService, call: Call) -> WireResponse:
    """GET /admin/users/{user_id}/passkeys."""
    async with service.connect() as connection:
        user = await _require_named_user(connection, call)
        found = await store.of_user(connection, user.id)
    return wire.reply([render_passkey(passkey) for passkey in found])


async def delete_of_user(service: AuthService, call: Call) -> WireResponse:
    """DELETE /admin/users/{user_id}/passkeys/{passkey_id}."""
    async with service.connect() as connection:
        user = await _require_named_user(connection, call)
        passkey_id = _passkey_id(call)
        if not await store.delete(connection, user.id, passkey_id):
            raise _not_found()
        traits = {"user_id": user.id, "passkey_id": passkey_id}
        await audit.record(service, connection, call, "passkey_deleted", None, traits)
    return wire.no_content()
