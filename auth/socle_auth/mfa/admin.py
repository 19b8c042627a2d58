"""Administrators and their users' factors (§3.13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, codes, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.mfa.enrolment import remove_factor
from socle_auth.mfa.factor_types import PHONE, require_factor
from socle_auth.store import factors as store
from socle_auth.store import users
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


async def require_named_user(connection: Connection, call: Call) -> User:
    """The user that the path names. Raises 404."""
    user = await users.find(connection, call.path_uuid("user_id"))
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User not found")
    return user


async def list_factors(service: AuthService, call: Call) -> WireResponse:
    """GET /admin/users/{user_id}/factors."""
    async with service.connect() as connection:
        user = await require_named_user(connection, call)
    return wire.reply([wire.render_factor(factor) for factor in user.factors or ()])


async def update_factor(service: AuthService, call: Call) -> WireResponse:
    """PUT /admin/users/{user_id}/factors/{factor_id}: name, and the number of a phone factor."""
    body = call.body()
    name = body.text_or_none("friendly_name") or None
    phone = codes.parse_phone(body.text("phone")) if body.text("phone") else None
    async with service.connect() as connection:
        user = await require_named_user(connection, call)
        factor = await require_factor(connection, call, user, lock=True)
        if phone is not None and factor.factor_type != PHONE:
            phone = None
        try:
            updated = await store.rename(connection, factor.id, name, phone, service.now())
        except DatabaseError as error:
            if error.sqlstate != "23505":
                raise
            raise AuthError(
                ErrorCode.MFA_FACTOR_NAME_CONFLICT, "Another factor of this user has that name or phone number"
            ) from error
        if updated is None:
            raise invalid("Factor not found", 404)
        traits = {"user_id": user.id, "factor_id": factor.id, "factor_type": factor.factor_type}
        await audit.record(service, connection, call, "factor_updated", None, traits)
    return wire.reply(wire.render_factor(updated))


async def delete_factor(service: AuthService, call: Call) -> WireResponse:
    """DELETE /admin/users/{user_id}/factors/{factor_id}."""
    async with service.connect() as connection:
        user = await require_named_user(connection, call)
        factor = await require_factor(connection, call, user, lock=True)
        await remove_factor(service, connection, factor)
        traits = {"user_id": user.id, "factor_id": factor.id}
        await audit.record(service, connection, call, "factor_deleted", None, traits)
    return wire.reply(wire.render_factor(factor))
