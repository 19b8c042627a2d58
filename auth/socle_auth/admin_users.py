"""/admin/users: administrators' work on users (contracts/auth.md §3.13)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import audit, codes, emails, paging, passwords, registration, wire
from socle_auth.contact_changes import DUPLICATE_EMAIL, DUPLICATE_PHONE
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.passwords import BadHash
from socle_auth.registration import EMAIL, PHONE, AlreadyRegistered
from socle_auth.store import identities, sessions, soft_delete, users
from socle_auth.store.rows import NIL_UUID
from socle_auth.store.users import NewUser
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_GO_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SORT = re.compile(r"created_at(?: (asc|desc))?", re.IGNORECASE)


# -- reading -----------------------------------------------------------------------------------------------------------


async def list_users(service: AuthService, call: Call) -> WireResponse:
    sort = call.query.get("sort", "created_at desc")
    match = _SORT.fullmatch(sort)
    if match is None:
        raise invalid(f"Bad Sort Parameters: bad field or direction for sort '{sort}'")
    ascending = (match[1] or "").lower() == "asc"
    filtered = call.query.get("filter", "")
    pattern = f"%{filtered}%" if filtered else None
    if (
        service.settings.experimental.cursor_pagination
        and not call.query.get("page")
        and not call.query.get("per_page")
    ):
        return await _list_by_cursor(service, call, pattern, ascending=ascending)
    page, audience = paging.parse_page(call), call.audience(service.settings)
    async with service.connect() as connection:
        found, total = await users.page(
            connection, audience, pattern, ascending=ascending, limit=page.size, offset=page.offset
        )
    body = {"users": [wire.render_user(user) for user in found], "aud": audience}
    return wire.reply(body, headers=paging.page_headers(call, page, total))


async def _list_by_cursor(service: AuthService, call: Call, pattern: str | None, *, ascending: bool) -> WireResponse:
    limit, after = paging.parse_cursor(call)
    audience = call.audience(service.settings)
    async with service.connect() as connection:
        found = await users.page_after(
            connection,
            audience,
            pattern,
            ascending=ascending,
            limit=limit + 1,
            after=(after.created_at, after.id) if after else None,
        )
    has_more = len(found) > limit
    found = found[:limit]
    following = paging.Cursor(found[-1].created_at, found[-1].id) if has_more else None
    pagination: dict[str, Any] = {"has_more": has_more} | ({"next_cursor": following.render()} if following else {})
    body = {"users": [wire.render_user(user) for user in found], "aud": audience, "pagination": pagination}
    return wire.reply(body, headers=paging.cursor_headers(call, following))


async def load_user(connection: Connection, call: Call, *, lock: bool = False, parameter: str = "user_id") -> User:
    """The user that the path names. Raises 404 `validation_failed` or `user_not_found`."""
    user = await users.find(connection, call.path_uuid(parameter), lock=lock)
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User not found")
    return user


async def get_user(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        return wire.reply(wire.render_user(await load_user(connection, call)))


# -- creating and changing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdminForm:
    """What an administrator wants of a user; `ban` None leaves it, zero lifts it."""

    id: str
    audience: str
    role: str
    email: str
    phone: str
    password: str | None = field(repr=False)
    password_hash: str = field(repr=False)
    email_confirm: bool
    phone_confirm: bool
    user_metadata: Mapping[str, Any] | None
    app_metadata: Mapping[str, Any] | None
    ban: timedelta | None


def parse_form(body: wire.Body) -> AdminForm:
    """The formats. Raises `bad_json`, `validation_failed`."""
    email, phone = body.text("email"), body.text("phone")
    return AdminForm(
        id=body.text("id"),
        audience=body.text("aud"),
        role=body.text("role"),
        email=emails.parse_email(email) if email else "",
        phone=codes.parse_phone(phone) if phone else "",
        password=body.text_or_none("password"),
        password_hash=body.text("password_hash"),
        email_confirm=body.boolean("email_confirm"),
        phone_confirm=body.boolean("phone_confirm"),
        user_metadata=body.object_or_none("user_metadata"),
        app_metadata=body.object_or_none("app_metadata"),
        ban=parse_ban(body.text("ban_duration")),
    )


def parse_ban(text: str) -> timedelta | None:
    """A Go duration (`24h`, `1h30m`), `none` for no ban, "" for no change. Raises `validation_failed`."""
    if not text:
        return None
    if text in ("none", "0"):
        return timedelta(0)
    parts = list(_GO_DURATION.finditer(text.removeprefix("+")))
    if not parts or "".join(part[0] for part in parts) != text.removeprefix("+"):
        raise invalid(f'invalid format for ban duration: time: invalid duration "{text}"')
    seconds = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    if seconds > 2**63 / 1e9:
        raise invalid(f'invalid format for ban duration: time: invalid duration "{text}"')
    return timedelta(seconds=seconds)


async def create_user(service: AuthService, call: Call) -> WireResponse:
    """Works whatever sign-up is set to; sends nothing; the password's strength is the administrator's business."""
    form = parse_form(call.body())
    if not form.email and not form.phone:
        raise invalid("Cannot create a user without either an email or phone")
    if form.password is not None and form.password_hash:
        raise invalid("Only a password or a password hash should be provided")
    user_id = _parse_id(form.id) or service.new_id()
    audience = form.audience or call.audience(service.settings)
    async with service.connect() as connection:
        await _check_unused(service, connection, form, audience, None)
    new = NewUser(
        id=user_id,
        aud=audience,
        email=form.email,
        phone=form.phone,
        encrypted_password=await _password_column(service, user_id, form),
        app_metadata=_new_app_metadata(form),
        user_metadata=form.user_metadata or {},
        banned_until=None if not form.ban else service.now() + form.ban,
    )
    try:
        async with service.connect() as connection:
            user = await _insert(service, connection, call, new, form)
    except AlreadyRegistered as error:
        raise _taken(error) from error
    return wire.reply(wire.render_user(user))


def _parse_id(text: str) -> str:
    if not text:
        return ""
    user_id = wire.parse_uuid(text)
    if user_id is None:
        raise invalid("ID must conform to the uuid v4 format")
    if user_id == NIL_UUID:
        raise invalid("ID cannot be a nil uuid")
    return user_id


def _new_app_metadata(form: AdminForm) -> dict[str, Any]:
    providers = [name for name, value in ((EMAIL, form.email), (PHONE, form.phone)) if value]
    metadata = {"provider": providers[0], "providers": providers}
    return registration.merged(metadata, form.app_metadata or {})


async def _password_column(service: AuthService, user_id: str, form: AdminForm) -> str:
    if form.password_hash:
        try:
            passwords.check_hash(form.password_hash)
        except BadHash as error:
            raise failure("Error creating user", error) from error
        return passwords.seal_hash(service, user_id, form.password_hash)
    if not form.password:
        return await passwords.hash_for(service, user_id, codes.new_password(service, 64))
    passwords.check_length(form.password)
    return await passwords.hash_for(service, user_id, form.password)


async def _check_unused(
    service: AuthService, connection: Connection, form: AdminForm, audience: str, user_id: str | None
) -> None:
    """Nobody else has these addresses. Raises 422 `email_exists`, `phone_exists`."""
    if form.email:
        own_domains = tuple(service.settings.experimental.linking_domains)
        other = await users.find_registered(
            connection, form.email, audience, own_domains=own_domains, except_user=user_id
        )
        if other is not None and other.id != user_id:
            raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)
    if form.phone:
        other = await users.find_by_phone(connection, form.phone, audience)
        if other is not None and other.id != user_id:
            raise AuthError(ErrorCode.PHONE_EXISTS, "Phone number already registered by another user")


async def _insert(service: AuthService, connection: Connection, call: Call, new: NewUser, form: AdminForm) -> User:
    role = form.role or service.settings.jwt.default_role
    user = await registration.insert_user(service, connection, new, role, message="Database error creating new user")
    created = list[Any]()
    for provider, address in ((EMAIL, form.email), (PHONE, form.phone)):
        if address:
            claims = registration.claims_of_address(user.id, provider, address)
            created.append(await registration.create_identity(service, connection, user, provider, user.id, claims))
    user = replace(user, identities=tuple(created))
    traits = {**_traits(user), "provider": EMAIL if form.email else PHONE}
    await audit.record(service, connection, call, "user_signedup", None, traits)
    return await _confirm(service, connection, user, form)


async def _confirm(service: AuthService, connection: Connection, user: User, form: AdminForm) -> User:
    if form.email_confirm:
        user = await registration.confirm_email(service, connection, user)
    if form.phone_confirm:
        user = await registration.confirm_phone(service, connection, user)
    return user


def _traits(user: User) -> dict[str, Any]:
    return {"user_id": user.id, "user_email": user.email, "user_phone": user.phone}


def _taken(error: BaseException) -> AuthError:
    """Somebody else took the address, or the id, at the same moment."""
    cause = error.__cause__
    if isinstance(cause, DatabaseError) and cause.constraint and "phone" in cause.constraint:
        return AuthError(ErrorCode.PHONE_EXISTS, DUPLICATE_PHONE)
    if isinstance(cause, DatabaseError) and cause.constraint == "users_pkey":
        return invalid("A user with this id already exists", 422)
    return AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)


async def update_user(service: AuthService, call: Call) -> WireResponse:
    """Changes take effect at once, without mails; a new password signs the user out everywhere."""
    form = parse_form(call.body())
    user_id = call.path_uuid("user_id")
    async with service.connect() as connection:
        known = await load_user(connection, call)
    if form.password is not None:
        await passwords.check_strength(service, form.password)
    hashed = None if form.password is None else await passwords.hash_for(service, user_id, form.password)
    try:
        async with service.connect() as connection:
            user = await load_user(connection, call, lock=True)
            await _check_unused(service, connection, form, known.aud, user_id)
            user = await _change(service, connection, user, form, hashed)
            await audit.record(service, connection, call, "user_modified", None, _traits(user))
    except DatabaseError as error:
        if error.sqlstate == "23505" and error.table == "users":
            wrapped = AlreadyRegistered()
            wrapped.__cause__ = error
            raise _taken(wrapped) from error
        raise failure("Error updating user", error) from error
    return wire.reply(wire.render_user(user))


async def _change(
    service: AuthService, connection: Connection, user: User, form: AdminForm, hashed: str | None
) -> User:
    now = service.now()
    if form.role:
        user = await users.update(connection, user, now, role=form.role.strip())
    user = await _confirm(service, connection, user, form)
    if hashed is not None:
        user = await users.forget_tokens(connection, user, now, encrypted_password=hashed)
        await sessions.delete_all(connection, user.id)
    if form.email:
        user = await _set_address(service, connection, user, EMAIL, form.email, confirmed=form.email_confirm)
    if form.phone:
        user = await _set_address(service, connection, user, PHONE, form.phone, confirmed=form.phone_confirm)
    changes: dict[str, object] = {}
    if form.app_metadata is not None:
        changes["raw_app_meta_data"] = registration.merged(user.app_metadata, form.app_metadata)
    if form.user_metadata is not None:
        changes["raw_user_meta_data"] = registration.merged(user.user_metadata, form.user_metadata)
    if form.ban is not None:
        changes["banned_until"] = now + form.ban if form.ban else None
    if changes:
        user = await users.update(connection, user, now, **changes)
    return user


async def _set_address(
    service: AuthService, connection: Connection, user: User, provider: str, address: str, *, confirmed: bool
) -> User:
    """The address and the identity that carries it; confirming one makes an anonymous user permanent."""
    now = service.now()
    found = await identities.find(connection, provider, user.id)
    claims = {provider: address, f"{provider}_verified": confirmed}
    if found is None:
        data = {**registration.claims_of_address(user.id, provider, address), **claims}
        await registration.create_identity(service, connection, user, provider, user.id, data)
    else:
        await identities.set_data(connection, found, {**found.identity_data, **claims}, now)
    changes: dict[str, object] = {provider: address}
    if user.is_anonymous and confirmed:
        changes["is_anonymous"] = False
    user = await users.update(connection, user, now, **changes)
    user = await registration.refresh_providers(service, connection, user)
    return await users.with_identities(connection, user)


# -- deleting ----------------------------------------------------------------------------------------------------------


async def delete_user(service: AuthService, call: Call) -> WireResponse:
    soft = call.optional_body().boolean("should_soft_delete")
    async with service.connect() as connection:
        user = await load_user(connection, call, lock=True)
        await audit.record(service, connection, call, "user_deleted", None, _traits(user))
        if not soft:
            try:
                await users.delete(connection, user.id)
            except DatabaseError as error:
                raise failure("Database error deleting user", error) from error
        elif user.deleted_at is None:
            await _soft_delete(service, connection, user)
    return wire.reply({})


def obscure(user_id: str, value: str) -> str:
    """An address nobody can read any more, yet the same for the same user: unique as the real one was."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{user_id}{value}".encode()).digest()).rstrip(b"=").decode()


async def _soft_delete(service: AuthService, connection: Connection, user: User) -> None:
    """The row stays for what refers to it; whatever tells who it was goes."""
    now = service.now()
    user = await users.forget_tokens(
        connection,
        user,
        now,
        email=obscure(user.id, user.email),
        phone=obscure(user.id, user.phone)[:15],
        email_change=obscure(user.id, user.email_change),
        phone_change=obscure(user.id, user.phone_change)[:15],
        encrypted_password="",
        raw_app_meta_data={},
        raw_user_meta_data={},
        deleted_at=now,
    )
    for identity in await identities.of_user(connection, user.id):
        await identities.set_data(connection, identity, {}, now)
        hidden = obscure(user.id, f"{identity.provider}:{identity.provider_id}")
        await identities.set_provider_id(connection, identity.id, hidden)
    await soft_delete.remove_belongings(connection, user.id)


ROUTES = (
    AuthRoute("GET", "/admin/users", list_users, Access.ADMIN),
    AuthRoute("POST", "/admin/users", create_user, Access.ADMIN),
    AuthRoute("GET", "/admin/users/{user_id}", get_user, Access.ADMIN),
    AuthRoute("PUT", "/admin/users/{user_id}", update_user, Access.ADMIN),
    AuthRoute("DELETE", "/admin/users/{user_id}", delete_user, Access.ADMIN),
)
