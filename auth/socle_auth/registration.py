"""Creating a user: what every way to sign up shares (contracts/auth.md §3.1, «Order on success»)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth import hooks, wire
from socle_auth.errors import AuthError, ErrorCode, failure
from socle_auth.store import identities, users
from socle_auth.store.rows import User, UserIdentity
from socle_auth.store.users import NewUser
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_platform.db import Connection

EMAIL = "email"
PHONE = "phone"


class AlreadyRegistered(Exception):
    """The address was taken between our look and our insert."""


def provider_metadata(provider: str) -> dict[str, Any]:
    """app_metadata of a user whose first identity is this provider's."""
    return {"provider": provider, "providers": [provider]}


def as_user(new: NewUser, service: AuthService, role: str = "") -> User:
    """The user-to-be, as a hook sees it before there is a row."""
    now = service.now()
    return User(
        id=new.id,
        aud=new.aud,
        role=role,
        email=new.email,
        phone=new.phone,
        encrypted_password="",
        is_sso_user=new.is_sso_user,
        is_anonymous=new.is_anonymous,
        app_metadata=new.app_metadata or {},
        user_metadata=new.user_metadata or {},
        created_at=now,
        updated_at=now,
        identities=(),
    )


async def ask_before(service: AuthService, call: Call, new: NewUser) -> None:
    """The before-user-created hook, outside any transaction. Raises its rejection."""
    if hooks.is_on(service, hooks.BEFORE_USER_CREATED):
        payload = {"user": wire.render_user(as_user(new, service))}
        await hooks.call(service, None, call, hooks.BEFORE_USER_CREATED, payload)


async def tell_after(service: AuthService, call: Call, user: User) -> None:
    """The after-user-created hook, after the commit. Its failure is a 500 although the user exists (§3.1)."""
    if not hooks.is_on(service, hooks.AFTER_USER_CREATED):
        return
    try:
        payload = {"user": wire.render_user(user)}
        await hooks.call(service, None, call, hooks.AFTER_USER_CREATED, payload)
    except AuthError as error:
        raise failure("Error invoking hook", error) from error


async def insert_user(
    service: AuthService,
    connection: Connection,
    new: NewUser,
    role: str | None = None,
    *,
    message: str = "Database error saving new user",
) -> User:
    """The new row after the project's triggers. Raises AlreadyRegistered, or 500 with what a trigger raised."""
    chosen = service.settings.jwt.default_role if role is None else role
    try:
        async with connection.transaction():
            return await users.insert(connection, new, chosen, service.now())
    except DatabaseError as error:
        if error.sqlstate == "23505" and error.schema == "auth" and error.table == "users":
            raise AlreadyRegistered from error
        service.note(
            "error",
            f"saving a new user failed: {error.sqlstate} {error.message}"
            + (f" ({error.context})" if error.context else "")
            + "; look at the triggers on auth.users: they run as supabase_auth_admin",
        )
        raise failure(message, error) from error
    except LookupError as error:
        raise failure("Database error loading user after sign-up", error) from error


def contact_claims(user_id: str, *, email: str = "", phone: str = "", verified: bool = False) -> dict[str, Any]:
    """identity_data of an identity that is an address of ours, not of a third party."""
    claims: dict[str, Any] = {"sub": user_id}
    if email:
        claims["email"] = email
    if phone:
        claims["phone"] = phone
    return {**claims, "email_verified": verified and bool(email), "phone_verified": verified and bool(phone)}


def claims_of_address(user_id: str, provider: str, address: str, *, verified: bool = False) -> dict[str, Any]:
    """contact_claims for an identity of `provider`, email or phone."""
    if provider == EMAIL:
        return contact_claims(user_id, email=address, verified=verified)
    return contact_claims(user_id, phone=address, verified=verified)


async def create_identity(
    service: AuthService,
    connection: Connection,
    user: User,
    provider: str,
    provider_id: str,
    data: Mapping[str, Any],
) -> UserIdentity:
    """A new identity of the user. Raises 422 `identity_already_exists` when the provider's id is taken."""
    try:
        async with connection.transaction():
            return await identities.insert(
                connection, service.new_id(), user.id, provider, provider_id, data, service.now()
            )
    except DatabaseError as error:
        if error.sqlstate == "23505":
            raise AuthError(ErrorCode.IDENTITY_ALREADY_EXISTS, "Identity is already linked", cause=error) from error
        raise failure("Error creating identity", error) from error


async def refresh_providers(service: AuthService, connection: Connection, user: User) -> User:
    """app_metadata's `providers` (and `provider`, the first of them) from the identities that there are."""
    providers = await identities.providers_of(connection, user.id)
    metadata = {**user.app_metadata, "providers": providers}
    if providers:
        metadata["provider"] = providers[0]
    return await users.update(connection, user, service.now(), raw_app_meta_data=metadata)


async def keep_only_identity(service: AuthService, connection: Connection, user: User, identity: UserIdentity) -> User:
    """The guard against taking over an account before its owner comes: of an unconfirmed user only this identity
    stays, with its data as user_metadata; a third party's identity also ends the password (§4.4)."""
    changes: dict[str, object] = {"raw_user_meta_data": dict(identity.identity_data)}
    if identity.provider not in (EMAIL, PHONE):
        changes["encrypted_password"] = ""
    await identities.delete_others(connection, user.id, identity.id)
    user = await users.update(connection, user, service.now(), **changes)
    return replace(await refresh_providers(service, connection, user), identities=(identity,))


def merged(metadata: Mapping[str, Any], updates: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with updates laid over it; null takes a key away (§3.7)."""
    result = {**metadata, **updates}
    return {key: value for key, value in result.items() if value is not None or key not in updates}


async def confirm_email(service: AuthService, connection: Connection, user: User, **changes: object) -> User:
    """The address is the user's: every pending code ends, and metadata and identities say it is verified."""
    now = service.now()
    metadata = merged(user.user_metadata, {"email_verified": True})
    return await users.forget_tokens(
        connection, user, now, email_confirmed_at=now, raw_user_meta_data=metadata, **changes
    )


async def confirm_phone(service: AuthService, connection: Connection, user: User, **changes: object) -> User:
    now = service.now()
    return await users.forget_tokens(connection, user, now, phone_confirmed_at=now, **changes)
