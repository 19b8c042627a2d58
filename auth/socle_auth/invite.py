"""POST /invite: an administrator asks somebody in (contracts/auth.md §3.13)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from socle_auth import audit, emails, mail_codes, registration, wire
from socle_auth.contact_changes import DUPLICATE_EMAIL
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.registration import EMAIL, AlreadyRegistered
from socle_auth.store import users
from socle_auth.store.users import NewUser

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


async def invite(service: AuthService, call: Call) -> WireResponse:
    """A new user without a password, or one who never confirmed, gets the invitation; a confirmed one is refused."""
    body = call.body()
    email = emails.parse_email(body.text("email"))
    audience = call.audience(service.settings)
    async with service.connect() as connection:
        user = await users.find_by_email(connection, email, audience)
    new = None
    if user is None:
        new = new_invited_user(service, email, audience, body.object("data"))
        await registration.ask_before(service, call, new)
    try:
        async with service.connect() as connection:
            user = await ensure_invited_user(service, connection, call, user, new)
            user = await mail_codes.send_invite(service, connection, call, user)
    except AlreadyRegistered as error:
        raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL) from error
    await registration.tell_after(service, call, user)
    return wire.reply(wire.render_user(user))


def new_invited_user(service: AuthService, email: str, audience: str, data: Mapping[str, Any]) -> NewUser:
    return NewUser(
        id=service.new_id(),
        aud=audience,
        email=email,
        app_metadata=registration.provider_metadata(EMAIL),
        user_metadata=data,
    )


async def ensure_invited_user(
    service: AuthService, connection: Connection, call: Call, user: User | None, new: NewUser | None
) -> User:
    """The user who may be invited: locked, unconfirmed, in the audit log. Raises `email_exists`, AlreadyRegistered."""
    if user is not None:
        user = await users.find(connection, user.id, lock=True)
        if user is not None and user.is_email_confirmed:
            raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)
    if user is None:
        if new is None:
            raise AuthError(ErrorCode.USER_NOT_FOUND, "User with this email not found")
        user = await registration.insert_user(service, connection, new)
        claims = registration.contact_claims(user.id, email=user.email)
        identity = await registration.create_identity(service, connection, user, EMAIL, user.id, claims)
        user = replace(user, identities=(identity,))
    traits = {"user_id": user.id, "user_email": user.email}
    await audit.record(service, connection, call, "user_invited", None, traits)
    return user


ROUTES = (AuthRoute("POST", "/invite", invite, Access.ADMIN, sends=True),)
