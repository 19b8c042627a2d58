"""Who may call: tokens of requests and what they prove (contracts/auth.md §1.8, §1.9)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from socle_auth import wire
from socle_auth.context import Access, Call, Caller
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.sessions import expiry_of
from socle_auth.store import users
from socle_auth.store.rows import NIL_UUID
from socle_platform.http import OPAQUE_PREFIX
from socle_platform.keys import TokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_auth.context import AuthService
    from socle_platform.identity import Identity

_BEARER = re.compile(r"bearer\s+(\S+)\s*", re.IGNORECASE | re.ASCII)


def bearer_of(call: Call) -> str | None:
    """The token of the Authorization header, or None when it is missing or has another form."""
    match = _BEARER.fullmatch(call.headers.get("authorization", "").strip())
    return match[1] if match else None


async def caller_of(service: AuthService, call: Call, access: Access) -> Caller | None:
    """Who calls a route of this access. Raises the error of §1.8 or §1.9."""
    match access:
        case Access.PUBLIC:
            return None
        case Access.OPTIONAL:
            return await require_user(service, call) if bearer_of(call) else None
        case Access.TOKEN:
            identity = user_token(service, call)
            return Caller(identity.role, identity.claims, token=identity.token)
        case Access.USER:
            return await require_user(service, call)
        case Access.PERMANENT_USER:
            caller = await require_user(service, call)
            if caller.is_anonymous:
                raise AuthError(ErrorCode.NO_AUTHORIZATION, "Anonymous user not allowed to perform these actions", 403)
            return caller
        case Access.ADMIN:
            return await require_admin(service, call)


def _identity(service: AuthService, call: Call, *, opaque: bool) -> Identity:
    """The proven bearer. An opaque key (`sb_secret_…`) counts only where `opaque` says so, and only for routes of
    administrators; clients send it in either header."""
    token = bearer_of(call)
    if opaque:
        for candidate in (token, call.headers.get("apikey")):
            if candidate and candidate.startswith(OPAQUE_PREFIX):
                identity = service.resources.keyring.identity_of_key(candidate)
                if identity is not None and (token is None or token == candidate):
                    return identity
    if token is None or token.startswith(OPAQUE_PREFIX):
        raise AuthError(ErrorCode.NO_AUTHORIZATION, "This endpoint requires a valid Bearer token")
    try:
        return service.resources.keyring.verify(token)
    except TokenError as error:
        message = f"invalid JWT: unable to parse or verify signature, {error.message}"
        raise AuthError(ErrorCode.BAD_JWT, message, cause=error) from None


def user_token(service: AuthService, call: Call) -> Identity:
    """The proven access token of a person, whose row and session nobody has looked for yet."""
    identity = _identity(service, call, opaque=False)
    if identity.claims.get("token_use") == "id":
        raise AuthError(ErrorCode.BAD_JWT, "invalid claim: an ID token is not an access token")
    return identity


def person_of(claims: Mapping[str, object]) -> tuple[str, str | None]:
    """The ids of the user and the session that a token names; None for one without a session."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise AuthError(ErrorCode.BAD_JWT, "invalid claim: missing sub claim")
    user_id = wire.parse_uuid(subject)
    if user_id is None:
        raise AuthError(ErrorCode.BAD_JWT, "invalid claim: sub claim must be a UUID", 400)
    return user_id, _session_id(claims)


def check_person(*, exists: bool, has_session: bool, is_banned: bool) -> None:
    """What must be true of a token's user; `has_session` also where it names none."""
    if not exists:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User from sub claim in JWT does not exist", 403)
    if not has_session:
        raise AuthError(ErrorCode.SESSION_NOT_FOUND, "Session from session_id claim in JWT does not exist", 403)
    if is_banned:
        raise AuthError(ErrorCode.USER_BANNED, "User is banned")


async def require_user(service: AuthService, call: Call) -> Caller:
    """The signed-in user, whose row and session exist and who is not banned."""
    identity = user_token(service, call)
    user_id, session_id = person_of(identity.claims)
    async with service.connect() as connection:
        user, session = await users.find_with_session(connection, user_id, session_id)
    check_person(
        exists=user is not None,
        has_session=session_id is None or (session is not None and session.user_id == user_id),
        is_banned=user is not None and user.is_banned(service.now()),
    )
    return Caller(identity.role, identity.claims, user, session, identity.token)


def _session_id(claims: Mapping[str, object]) -> str | None:
    claim = claims.get("session_id")
    if not isinstance(claim, str) or claim in ("", NIL_UUID):
        return None
    session_id = wire.parse_uuid(claim)
    if session_id is None:
        raise AuthError(ErrorCode.BAD_JWT, "invalid claim: session_id claim must be a UUID")
    return session_id


async def require_admin(service: AuthService, call: Call) -> Caller:
    """An administrator by role. A token bound to a session dies with it; a key without one is accepted as it is."""
    identity = _identity(service, call, opaque=True)
    if identity.role not in service.settings.jwt.admin_roles:
        raise AuthError(ErrorCode.NOT_ADMIN, "User not allowed")
    session_id = _session_id(identity.claims)
    if session_id is None:
        return Caller(identity.role, identity.claims, token=identity.token)
    user_id = wire.parse_uuid(identity.subject or "")
    async with service.connect() as connection:
        user, session = await users.find_with_session(connection, user_id or NIL_UUID, session_id)
    expired = (
        user is None
        or session is None
        or session.user_id != user.id
        or expiry_of(session, service.settings.sessions, service.now(), user) is not None
    )
    if expired:
        raise AuthError(ErrorCode.SESSION_EXPIRED, "Session expired", 403)
    return Caller(identity.role, identity.claims, user, session, identity.token)
