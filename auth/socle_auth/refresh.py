"""The refresh_token grant: rotation, reuse, replay (contracts/auth.md §5.3)."""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_auth import audit, codes, sessions, tokens
from socle_auth.errors import AuthError, ErrorCode, OAuthError, invalid
from socle_auth.sessions import counted_token, expiry_of, last_refresh, new_session_key, session_key, tag_of
from socle_auth.store import sessions as store
from socle_auth.store import users
from socle_auth.tokens import CountedToken, parse_counted_token

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.sessions import TokenResponse
    from socle_auth.store.rows import RefreshToken, Session, User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_PLAIN = re.compile(r"[a-z0-9]{12}", re.ASCII)
_PATIENCE = 5.0
_METHOD = "token_refresh"


class Busy(Exception):
    """Somebody else holds the token's row or session just now."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The refresh token to give, with the diagnostic headers that say how it came about."""

    token: str
    headers: tuple[tuple[str, str], ...]


async def refresh_grant(service: AuthService, call: Call) -> WireResponse:
    """The grant of POST /token."""
    return sessions.reply(await refresh_session(service, call, call.body().text("refresh_token")))


async def refresh_session(
    service: AuthService, call: Call, refresh_token: str, client_id: str | None = None
) -> TokenResponse:
    """A new access token, and the refresh token that now counts.

    `client_id` is the OAuth client that asks; a client's session is refreshed by that client only, and a plain session
    by nobody's client. Concurrent refreshes of one token all succeed with one and the same successor. Raises AuthError,
    OAuthError for a wrong client.
    """
    if not refresh_token:
        raise OAuthError("invalid_request", "refresh_token required")
    counted = None if len(refresh_token) <= 12 else parse_counted_token(refresh_token)
    if counted is None and not _PLAIN.fullmatch(refresh_token):
        raise invalid("Invalid Refresh Token: Malformed")
    key = counted.session_id if counted else refresh_token
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _PATIENCE
    async with service.refresh_locks.hold(key):
        while True:
            try:
                outcome = await _try(service, call, refresh_token, counted, client_id)
            except Busy:
                if loop.time() > give_up:
                    raise AuthError(
                        ErrorCode.CONFLICT,
                        "Too many concurrent token refresh requests on the same session or refresh token",
                    ) from None
                await asyncio.sleep(0.01 + service.random_bytes(1)[0] / 255 * 0.02)
                continue
            if isinstance(outcome, AuthError):
                raise outcome  # after the commit of what it revoked
            return outcome


async def _try(
    service: AuthService, call: Call, refresh_token: str, counted: CountedToken | None, client_id: str | None
) -> TokenResponse | AuthError:
    """One attempt in one transaction. An AuthError that is returned, not raised, leaves its changes committed."""
    async with service.connect() as connection:
        if counted is not None:
            return await _refresh_counted(service, connection, call, counted, client_id)
        return await _refresh_plain(service, connection, call, refresh_token, client_id)


async def _refresh_plain(
    service: AuthService, connection: Connection, call: Call, refresh_token: str, client_id: str | None
) -> TokenResponse | AuthError:
    token = await store.find_token_and_lock(connection, refresh_token)
    if token is None:
        if await store.find_token(connection, refresh_token) is not None:
            raise Busy
        return _not_found()
    if token.session_id is None:
        await store.delete_token(connection, token.id)
        return _no_session()
    session = await store.find_and_lock(connection, token.session_id)
    if session is None:
        if await store.find(connection, token.session_id) is not None:
            raise Busy
        return _no_session()
    user = await _check(service, connection, session, token, client_id)
    issued = await _succeed_plain(service, connection, call, user, session, token)
    if isinstance(issued, AuthError):
        return issued
    return await _finish(service, connection, call, user, session, issued)


async def _refresh_counted(
    service: AuthService, connection: Connection, call: Call, counted: CountedToken, client_id: str | None
) -> TokenResponse | AuthError:
    session = await store.find_and_lock(connection, counted.session_id)
    if session is None:
        if await store.find(connection, counted.session_id) is not None:
            raise Busy
        return _not_found()
    if session.refresh_token_hmac_key is None or session.refresh_token_counter is None:
        return _not_found()
    if not counted.is_signed_by(session_key(service, session)):
        return _not_found()
    user = await _check(service, connection, session, None, client_id)
    issued = await _succeed_counted(service, connection, session, counted.counter)
    if isinstance(issued, AuthError):
        return issued
    await audit.record(service, connection, call, "token_refreshed", user)
    return await _finish(service, connection, call, user, session, issued)


def _not_found() -> AuthError:
    return AuthError(ErrorCode.REFRESH_TOKEN_NOT_FOUND, "Invalid Refresh Token: Refresh Token Not Found")


def _no_session() -> AuthError:
    return AuthError(ErrorCode.SESSION_NOT_FOUND, "Invalid Refresh Token: No Valid Session Found", 400)


def _already_used(*headers: tuple[str, str]) -> AuthError:
    return AuthError(ErrorCode.REFRESH_TOKEN_ALREADY_USED, "Invalid Refresh Token: Already Used", headers=headers)


async def _check(
    service: AuthService,
    connection: Connection,
    session: Session,
    token: RefreshToken | None,
    client_id: str | None,
) -> User:
    """The session's user, when the session may still be refreshed by this client."""
    user = await users.find(connection, session.user_id)
    if user is None:
        raise _not_found()
    if user.is_banned(service.now()):
        raise AuthError(ErrorCode.USER_BANNED, "Invalid Refresh Token: User Banned", 400)
    token_time = None if token is None else token.updated_at
    reason = expiry_of(session, service.settings.sessions, service.now(), user, token_time)
    if reason is not None:
        raise AuthError(ErrorCode.SESSION_EXPIRED, f"Invalid Refresh Token: Session Expired{reason}", 400)
    if session.oauth_client_id is not None and client_id is None:
        raise OAuthError("invalid_client", "Client authentication required for OAuth session")
    if session.oauth_client_id is not None and client_id != session.oauth_client_id:
        raise OAuthError("invalid_client", "Client does not match the session's OAuth client")
    if session.oauth_client_id is None and client_id is not None:
        raise OAuthError("invalid_client", "Client authentication not allowed for non-OAuth session")
    if service.settings.sessions.single_per_user:
        await _check_newest(service, connection, user, session, token)
    return user


async def _check_newest(
    service: AuthService, connection: Connection, user: User, session: Session, token: RefreshToken | None
) -> None:
    """Of a user's valid sessions with one tag, only the one refreshed last lives on."""
    if not await users.try_lock(connection, user.id):
        raise Busy
    settings = service.settings.sessions
    own = last_refresh(session, None if token is None else token.updated_at)
    for other in await store.of_user(connection, user.id):
        is_rival = (
            other.id != session.id
            and expiry_of(other, settings, service.now(), user) is None
            and tag_of(other, settings.tags) == tag_of(session, settings.tags)
        )
        if is_rival and last_refresh(other) > own:
            raise AuthError(
                ErrorCode.SESSION_EXPIRED, "Invalid Refresh Token: Session Expired (Revoked by Newer Login)", 400
            )


async def _succeed_plain(
    service: AuthService, connection: Connection, call: Call, user: User, session: Session, token: RefreshToken
) -> Issued | AuthError:
    """The successor of a token of the first form."""
    now = service.now()
    if token.revoked:
        active = await store.active_token(connection, session.id)
        if active is not None and active.parent == token.token:
            # its answer was lost on the way to the client: the same answer again
            await audit.record(service, connection, call, "token_refreshed", user)
            return Issued(active.token, _prefix(active.token, ("sb-auth-refresh-token-reuse-cause", "fail-to-save")))
        interval = timedelta(seconds=service.settings.security.refresh_token_reuse_interval)
        if now > token.updated_at + interval:
            if service.settings.security.refresh_token_rotation:
                await store.revoke_family(connection, token, now)
            service.note("warning", f"refresh token {token.id} of session {session.id} was used again: revoked")
            return _already_used()
    await audit.record_all(service, connection, call, ("token_refreshed", "token_revoked"), user)
    if _is_upgraded(service, session):
        await store.revoke_token(connection, token.id, now)
        return await _upgrade(service, connection, session)
    child = codes.new_refresh_token(service)
    await store.replace_token(connection, token, child, now)
    return Issued(child, _prefix(child, ("sb-auth-refresh-token-reuse", "false")))


def _prefix(token: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("sb-auth-refresh-token-prefix", token[:5]), *more)


def _is_upgraded(service: AuthService, session: Session) -> bool:
    """Whether this session moves to the second form: a share of sessions, always the same ones (§12.12)."""
    security = service.settings.security
    return (
        security.refresh_token_version == 2
        and zlib.crc32(session.id.encode()) % 100 < security.refresh_token_upgrade_percentage
    )


async def _upgrade(service: AuthService, connection: Connection, session: Session) -> Issued:
    """The first token of the second form for a session of the first."""
    if session.refresh_token_hmac_key is None or session.refresh_token_counter is None:
        key: str | None = new_session_key(service, session.id)
        session = replace(session, refresh_token_hmac_key=key)
        counter = 0
    else:
        key, counter = None, session.refresh_token_counter + 1
    await store.set_counter(connection, session.id, key, counter)
    headers = (("sb-auth-refresh-token-counter", str(counter)), ("sb-auth-refresh-token-reuse", "false"))
    return Issued(counted_token(service, session, counter), headers)


async def _succeed_counted(
    service: AuthService, connection: Connection, session: Session, counter: int
) -> Issued | AuthError:
    """The successor of a token of the second form."""
    current = session.refresh_token_counter or 0
    behind = current - counter
    if behind < 0:
        return invalid("Invalid Refresh Token: Not Issued By This Server")
    if behind == 0:
        await store.set_counter(connection, session.id, None, current + 1)
        shown = (("sb-auth-refresh-token-counter", str(current + 1)), ("sb-auth-refresh-token-reuse", "false"))
        return Issued(counted_token(service, session, current + 1), shown)
    causes = _reuse_causes(service, session, behind)
    if causes:
        shown = (
            ("sb-auth-refresh-token-counter", str(current)),
            ("sb-auth-refresh-token-reuse-cause", ",".join(causes)),
        )
        return Issued(counted_token(service, session, current), shown)
    service.note("warning", f"a refresh token {behind} steps behind was used in session {session.id}")
    if not service.settings.security.refresh_token_rotation:
        return _already_used()
    await store.delete(connection, session.id)
    return _already_used(("sb-auth-refresh-token-rotated", "true"))


def _reuse_causes(service: AuthService, session: Session, behind: int) -> list[str]:
    """Why an old token may still be used: several at once, an answer that was lost, or a setting."""
    security = service.settings.security
    causes = list[str]()
    since = abs(service.now() - last_refresh(session))
    if since < timedelta(seconds=security.refresh_token_reuse_interval):
        causes.append("concurrent-refresh")
    if behind == 1:
        causes.append("fail-to-save")
    if security.refresh_token_allow_reuse:
        causes.append("always-allow")
    return causes


async def _finish(
    service: AuthService, connection: Connection, call: Call, user: User, session: Session, issued: Issued
) -> TokenResponse:
    access = await tokens.mint(service, connection, call, user, session, _METHOD)
    await store.mark_refreshed(connection, session.id, service.now(), call.user_agent, call.client_ip or None)
    headers = (("sb-auth-user-id", user.id), ("sb-auth-session-id", session.id), *issued.headers)
    return sessions.answer(service, access, issued.token, user, session.id, headers)
