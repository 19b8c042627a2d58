"""GET and PUT /user: the signed-in user's own row (contracts/auth.md §3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import (
    access,
    audit,
    codes,
    emails,
    limits,
    mail_codes,
    mailing,
    passwords,
    phone_codes,
    pkce,
    texting,
    wire,
)
from socle_auth.contact_changes import DUPLICATE_EMAIL, DUPLICATE_PHONE, apply_email, apply_phone
from socle_auth.context import Access, AuthRoute
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.mailing import Letter, MailKind
from socle_auth.nonces import use_nonce
from socle_auth.pkce import Challenge
from socle_auth.registration import contact_claims, create_identity, merged
from socle_auth.store import identities, own_user, sessions, users
from socle_auth.tokens import assurance_of

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import Session, User
    from socle_auth.wire import Body
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_FRESH_FOR = timedelta(hours=24)
_RECOVERY_METHODS = frozenset({"otp", "magiclink", "recovery"})


async def get_user(service: AuthService, call: Call) -> WireResponse:
    caller = call.require_caller()
    user_id, session_id = access.person_of(caller.claims)
    found = await own_user.find(service.resources.database, user_id, session_id, service.now())
    access.check_person(
        exists=found is not None,
        has_session=found is not None and (session_id is None or found.has_session),
        is_banned=found is not None and found.is_banned,
    )
    if caller.audience != call.audience(service.settings):
        raise invalid("Token audience doesn't match request audience")
    return wire.reply_raw(found.body if found is not None else b"")


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """What is asked for. None means «leave it»; `email` and `phone` are "" for that."""

    email: str
    phone: str
    password: str | None = field(repr=False)
    current_password: str = field(repr=False)
    nonce: str = field(repr=False)
    data: Mapping[str, Any] | None
    app_metadata: Mapping[str, Any] | None
    channel: str
    challenge: Challenge | None


async def put_user(service: AuthService, call: Call) -> WireResponse:
    wanted = await parse_update(service, call.body())
    user, session = call.require_user(), call.require_caller().session
    _check_rights(service, wanted, user, session)
    audience = call.audience(service.settings)
    fresh_hash = None
    if wanted.password is not None:
        await _check_password(service, wanted, user, session)
        fresh_hash = await passwords.hash_for(service, user.id, wanted.password)
    async with service.connect() as connection:
        await _check_unused(service, connection, wanted, user, audience)
        user = await _lock(connection, user)
        user = await _apply(service, connection, call, wanted, user, session, fresh_hash)
        await audit.record(service, connection, call, "user_modified", user)
    return wire.reply(wire.render_user(user))


async def parse_update(service: AuthService, body: Body) -> UserUpdate:
    """The formats, before anything about the user is looked at."""
    email, phone, password = body.text("email"), body.text("phone"), body.text_or_none("password")
    channel = body.text("channel") or texting.SMS
    if email:
        email = emails.parse_email(email)
    if phone:
        phone = codes.parse_phone(phone)
        texting.check_channel(service, channel)
    if password is not None:
        await passwords.check_strength(service, password)
    return UserUpdate(
        email=email,
        phone=phone,
        password=password,
        current_password=body.text("current_password"),
        nonce=body.text("nonce"),
        data=body.object_or_none("data"),
        app_metadata=body.object_or_none("app_metadata"),
        channel=channel,
        challenge=pkce.read_challenge(body),
    )


def _check_rights(service: AuthService, wanted: UserUpdate, user: User, session: Session | None) -> None:
    """What this user, in this session, may change at all; in the contract's order."""
    if wanted.app_metadata is not None and user.role not in service.settings.jwt.admin_roles:
        raise AuthError(ErrorCode.NOT_ADMIN, "Updating app_metadata requires admin privileges")
    changes_email = bool(wanted.email) and wanted.email != user.email
    changes_phone = bool(wanted.phone) and wanted.phone != user.phone
    is_strong = session is not None and assurance_of(session) == "aal2"
    if user.has_verified_factor and not is_strong and (wanted.password or changes_email or changes_phone):
        message = "AAL2 session is required to update email or password when MFA is enabled."
        raise AuthError(ErrorCode.INSUFFICIENT_AAL, message, 401)
    if user.is_anonymous and wanted.password and not wanted.email and not wanted.phone:
        raise invalid("Updating password of an anonymous user without an email or phone is not allowed", 422)
    if user.is_sso_user and (wanted.password or changes_email or changes_phone or wanted.nonce):
        message = "Updating email, phone, password of a SSO account only possible via SSO"
        raise AuthError(ErrorCode.USER_SSO_MANAGED, message)


async def _check_password(service: AuthService, wanted: UserUpdate, user: User, session: Session | None) -> None:
    """May the password be changed in this session, and is it another one? The nonce, if needed, is used up here."""
    security = service.settings.security
    if security.password_change_needs_reauthentication and (
        session is None or service.now() > session.created_at + _FRESH_FOR
    ):
        if not wanted.nonce:
            raise AuthError(ErrorCode.REAUTHENTICATION_NEEDED, "Password update requires reauthentication")
        await use_nonce(service, user, wanted.nonce)
    if not user.has_password:
        return
    is_recovery = session is not None and any(claim.method in _RECOVERY_METHODS for claim in session.amr)
    if security.password_change_needs_current and not is_recovery:
        message = "Current password required when setting new password."
        if not wanted.current_password:
            raise AuthError(ErrorCode.CURRENT_PASSWORD_REQUIRED, message)
        if not (await passwords.verify_user(service, user, wanted.current_password)).fits:
            raise AuthError(ErrorCode.CURRENT_PASSWORD_INVALID, message)
    if (await passwords.verify_user(service, user, wanted.password or "")).fits:
        message = "New password should be different from the old password."
        raise AuthError(ErrorCode.SAME_PASSWORD, message)


async def _check_unused(
    service: AuthService, connection: Connection, wanted: UserUpdate, user: User, audience: str
) -> None:
    if wanted.email and wanted.email != user.email:
        own_domains = tuple(service.settings.experimental.linking_domains)
        other = await users.find_registered(
            connection, wanted.email, audience, own_domains=own_domains, except_user=user.id
        )
        if other is not None and other.id != user.id:
            raise AuthError(ErrorCode.EMAIL_EXISTS, DUPLICATE_EMAIL)
    if wanted.phone and wanted.phone != user.phone:
        other = await users.find_by_phone(connection, wanted.phone, audience)
        if other is not None:
            raise AuthError(ErrorCode.PHONE_EXISTS, DUPLICATE_PHONE)


async def _lock(connection: Connection, user: User) -> User:
    locked = await users.find(connection, user.id, lock=True)
    if locked is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User from sub claim in JWT does not exist", 403)
    return locked


async def _apply(
    service: AuthService,
    connection: Connection,
    call: Call,
    wanted: UserUpdate,
    user: User,
    session: Session | None,
    fresh_hash: str | None,
) -> User:
    now = service.now()
    if fresh_hash is not None:
        user = await _store_password(service, connection, call, user, session, fresh_hash)
    if wanted.data is not None:
        user = await users.update(connection, user, now, raw_user_meta_data=merged(user.user_metadata, wanted.data))
    if wanted.app_metadata is not None:
        metadata = merged(user.app_metadata, wanted.app_metadata)
        user = await users.update(connection, user, now, raw_app_meta_data=metadata)
    if wanted.email and wanted.email != user.email:
        user = await _change_email(service, connection, call, wanted, user)
    if wanted.phone and wanted.phone != user.phone:
        user = await _change_phone(service, connection, call, wanted, user)
    return user


async def _store_password(
    service: AuthService, connection: Connection, call: Call, user: User, session: Session | None, fresh_hash: str
) -> User:
    """Every pending code ends, every other session too: whoever knew the old password is out."""
    is_first = not user.has_password
    user = await users.forget_tokens(
        connection,
        user,
        service.now(),
        encrypted_password=fresh_hash,
        confirmation_sent_at=None,
        recovery_sent_at=None,
        email_change_sent_at=None,
        phone_change_sent_at=None,
        reauthentication_sent_at=None,
    )
    await sessions.delete_all(connection, user.id, except_session=None if session is None else session.id)
    await audit.record(service, connection, call, "user_updated_password", user)
    if is_first and service.settings.experimental.email_identity_on_password:
        user = await _ensure_email_identity(service, connection, user)
    await mailing.notify(service, connection, call, Letter(MailKind.PASSWORD_CHANGED, user))
    return user


async def _ensure_email_identity(service: AuthService, connection: Connection, user: User) -> User:
    """A user of a third party who sets a password also signs in by address from now on."""
    if not user.email or not user.is_email_confirmed:
        return user
    if await identities.find(connection, "email", user.id) is not None:
        return user
    claims = contact_claims(user.id, email=user.email, verified=True)
    await create_identity(service, connection, user, "email", user.id, claims)
    return await users.with_identities(connection, user)


async def _change_email(
    service: AuthService, connection: Connection, call: Call, wanted: UserUpdate, user: User
) -> User:
    """At once for an anonymous user where mail is confirmed automatically; everybody else has to prove it (§12.35)."""
    if user.is_anonymous and service.settings.mailer.autoconfirm:
        user = await apply_email(service, connection, call, user, wanted.email)
        return await _with_providers(service, connection, user)
    await pkce.begin_mail_flow(
        service, connection, user.id, wanted.challenge, method="email_change", provider_type="email_change"
    )
    return await mail_codes.send_email_change(service, connection, call, user, wanted.email, wanted.challenge)


async def _change_phone(
    service: AuthService, connection: Connection, call: Call, wanted: UserUpdate, user: User
) -> User:
    if service.settings.sms.autoconfirm:
        user = await apply_phone(service, connection, call, user, wanted.phone)
        return await _with_providers(service, connection, user)
    user, _ = await phone_codes.send_code(
        service, connection, call, user, wanted.phone, phone_codes.PHONE_CHANGE, wanted.channel
    )
    return user


async def _with_providers(service: AuthService, connection: Connection, user: User) -> User:
    from socle_auth.registration import refresh_providers

    return await refresh_providers(service, connection, user)


ROUTES = (
    AuthRoute("GET", "/user", get_user, Access.TOKEN),
    AuthRoute("PUT", "/user", put_user, Access.USER, limiter=limits.USER, sends=True),
)
