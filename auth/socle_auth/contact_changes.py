"""A changed address comes into force (contracts/auth.md §3.4, §3.4.1, §3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, mailing, registration
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_auth.mailing import Letter, MailKind
from socle_auth.store import identities, users
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection

DUPLICATE_EMAIL = "A user with this email address has already been registered"
DUPLICATE_PHONE = "A user with this phone number has already been registered"


async def _put_identity(service: AuthService, connection: Connection, user: User, provider: str, address: str) -> bool:
    """The user's own identity carries the proven address; True when it had to be created."""
    claims = registration.claims_of_address(user.id, provider, address, verified=True)
    found = await identities.find(connection, provider, user.id)
    if found is None:
        await registration.create_identity(service, connection, user, provider, user.id, claims)
        return True
    proven = {provider: address, f"{provider}_verified": True}
    await identities.set_data(connection, found, {**found.identity_data, **proven}, service.now())
    return False


async def apply_email(service: AuthService, connection: Connection, call: Call, user: User, email: str) -> User:
    """The new address is the user's, confirmed; an anonymous user becomes permanent. Raises 422 `email_exists` when
    somebody else has it by now."""
    old = user.email
    await audit.record(service, connection, call, "user_modified", user)
    await _put_identity(service, connection, user, registration.EMAIL, email)
    try:
        async with connection.transaction():
            user = await registration.confirm_email(
                service,
                connection,
                user,
                email=email,
                email_change="",
                email_change_confirm_status=0,
                is_anonymous=False,
            )
    except DatabaseError as error:
        if error.sqlstate == "23505":
            raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL, cause=error) from error
        raise failure("Error confirm email", error) from error
    user = await users.with_identities(connection, user)
    if old and old != email:
        letter = Letter(MailKind.EMAIL_CHANGED, user, recipient=old, old_email=old)
        await mailing.notify(service, connection, call, letter)
    return user


async def apply_phone(service: AuthService, connection: Connection, call: Call, user: User, phone: str) -> User:
    """The new number is the user's, confirmed; an anonymous user becomes permanent. Raises 422 `phone_exists`."""
    old = user.phone
    await audit.record(service, connection, call, "user_modified", user)
    was_created = await _put_identity(service, connection, user, registration.PHONE, phone)
    try:
        async with connection.transaction():
            user = await registration.confirm_phone(
                service, connection, user, phone=phone, phone_change="", is_anonymous=False
            )
    except DatabaseError as error:
        if error.sqlstate == "23505":
            raise AuthError(ErrorCode.PHONE_EXISTS, DUPLICATE_PHONE, cause=error) from error
        raise failure("Error confirming user", error) from error
    user = await users.with_identities(connection, user)
    if old and old != phone:
        await mailing.notify(service, connection, call, Letter(MailKind.PHONE_CHANGED, user, old_phone=old))
    if was_created:
        letter = Letter(MailKind.IDENTITY_LINKED, user, provider=registration.PHONE)
        await mailing.notify(service, connection, call, letter)
    return user
