"""Signing in: a session, its proof, its tokens (contracts/auth.md §3.0 «Session», §5)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import codes, encryption, tokens, wire
from socle_auth.store import sessions as store
from socle_auth.store import users
from socle_auth.store.rows import AmrClaim, Session, User

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.errors import WeakPassword
    from socle_platform.config.auth import SessionSettings
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """Every successful sign-in. `headers` are the diagnostic ones of §1.14."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    expires_at: int
    user: User
    session_id: str
    provider_token: str = field(default="", repr=False)
    provider_refresh_token: str = field(default="", repr=False)
    weak_password: WeakPassword | None = None
    headers: tuple[tuple[str, str], ...] = ()


def render_session(response: TokenResponse) -> dict[str, Any]:
    """§3.0 Session."""
    body: dict[str, Any] = {
        "access_token": response.access_token,
        "token_type": "bearer",
        "expires_in": response.expires_in,
        "expires_at": response.expires_at,
        "refresh_token": response.refresh_token,
        "user": wire.render_user(response.user),
    }
    if response.provider_token:
        body["provider_token"] = response.provider_token
    if response.provider_refresh_token:
        body["provider_refresh_token"] = response.provider_refresh_token
    if response.weak_password is not None:
        weak = response.weak_password
        body["weak_password"] = {"message": weak.message, "reasons": list(weak.reasons)}
    return body


def reply(response: TokenResponse) -> WireResponse:
    return wire.reply(render_session(response), headers=response.headers)


def fragment_values(response: TokenResponse, **more: str) -> dict[str, str]:
    """The session as it travels in an address (§4.3)."""
    values = {
        "access_token": response.access_token,
        "token_type": "bearer",
        "expires_in": str(response.expires_in),
        "expires_at": str(response.expires_at),
        "refresh_token": response.refresh_token,
    }
    if response.provider_token:
        values["provider_token"] = response.provider_token
    if response.provider_refresh_token:
        values["provider_refresh_token"] = response.provider_refresh_token
    return values | more


async def issue_session(
    service: AuthService,
    connection: Connection,
    call: Call,
    user: User,
    method: str,
    *,
    not_after: datetime | None = None,
    tag: str | None = None,
    oauth_client_id: str | None = None,
    scopes: str | None = None,
) -> TokenResponse:
    """A new session of the user, proven by `method` (an amr method of §5.1), with both its tokens.

    `user` needs identities and factors loaded; the answer's user is the row as it is after the sign-in.
    """
    now = service.now()
    session = Session(
        id=service.new_id(),
        user_id=user.id,
        created_at=now,
        updated_at=now,
        not_after=not_after,
        tag=tag,
        user_agent=call.user_agent,
        ip=call.client_ip or None,
        oauth_client_id=oauth_client_id,
        scopes=scopes,
        amr=(AmrClaim(method, now),),
    )
    counted = service.settings.security.refresh_token_version == 2
    if counted:
        session = replace(session, refresh_token_hmac_key=new_session_key(service, session.id), refresh_token_counter=0)
    await store.insert(connection, session)
    await store.add_proof(connection, service.new_id(), session.id, method, now)
    if counted:
        refresh_token = counted_token(service, session, 0)
        diagnostic = ("sb-auth-refresh-token-counter", "0")
    else:
        refresh_token = codes.new_refresh_token(service)
        await store.insert_token(connection, refresh_token, user.id, session.id, "", now)
        diagnostic = ("sb-auth-refresh-token-prefix", refresh_token[:5])
    user = await users.update(connection, user, now, last_sign_in_at=now)
    access = await tokens.mint(service, connection, call, user, session, method)
    headers = (("sb-auth-user-id", user.id), ("sb-auth-session-id", session.id), diagnostic)
    return answer(service, access, refresh_token, user, session.id, headers)


async def strengthen_session(
    service: AuthService,
    connection: Connection,
    call: Call,
    user: User,
    session_id: str,
    method: str,
    factor_id: str | None,
) -> TokenResponse:
    """A second factor was proven: the same session, one more proof, aal2, and new tokens (§3.11).

    The refresh token known so far cannot give the stronger session: its successor has to be shown (the second form
    steps by two for that reason). Raises LookupError when the session is gone.
    """
    now = service.now()
    await store.add_proof(connection, service.new_id(), session_id, method, now)
    session = await store.find(connection, session_id)
    if session is None:
        raise LookupError("the session is gone")
    session = replace(session, aal=tokens.assurance_of(session), factor_id=factor_id)
    await store.set_level(connection, session_id, session.aal, factor_id, now)
    if session.refresh_token_counter is not None and session.refresh_token_hmac_key is not None:
        counter = session.refresh_token_counter + 2
        await store.set_counter(connection, session_id, None, counter)
        refresh_token = counted_token(service, session, counter)
    else:
        refresh_token = codes.new_refresh_token(service)
        active = await store.active_token(connection, session_id)
        if active is not None:
            await store.revoke_token(connection, active.id, now)
        await store.insert_token(
            connection, refresh_token, user.id, session_id, "" if active is None else active.token, now
        )
    access = await tokens.mint(service, connection, call, user, session, method)
    return answer(service, access, refresh_token, user, session_id)


def answer(
    service: AuthService,
    access: tokens.AccessToken,
    refresh_token: str,
    user: User,
    session_id: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> TokenResponse:
    """Both tokens as one answer; `expires_in` counts from now to the token's true end."""
    return TokenResponse(
        access_token=access.text,
        refresh_token=refresh_token,
        expires_in=access.expires_at - int(service.now().timestamp()),
        expires_at=access.expires_at,
        user=user,
        session_id=session_id,
        headers=headers,
    )


def new_session_key(service: AuthService, session_id: str) -> str:
    """A key for refresh tokens of the second form, as stored in the session's row."""
    key = base64.urlsafe_b64encode(service.random_bytes(32)).rstrip(b"=").decode()
    return encryption.seal(service.settings.security.encryption, session_id, key, service.random_bytes)


def session_key(service: AuthService, session: Session) -> bytes:
    """The session's key. Raises Undecipherable."""
    text = encryption.unseal(service.settings.security.encryption, session.id, session.refresh_token_hmac_key or "")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def counted_token(service: AuthService, session: Session, counter: int) -> str:
    """The refresh token of the second form for this place of the counter."""
    return tokens.encode_counted_token(session.id, counter, session_key(service, session))


def last_refresh(session: Session, token_time: datetime | None = None) -> datetime:
    """When the session was last refreshed; a session from before that column has its token's time, or its own."""
    if session.refreshed_at is not None:
        return session.refreshed_at
    return session.created_at if token_time is None else max(session.created_at, token_time)


def expiry_of(
    session: Session, limits: SessionSettings, now: datetime, user: User, token_time: datetime | None = None
) -> str | None:
    """Why the session may no longer be refreshed, as the end of «Session Expired…»; None while it may (§5.3)."""
    if session.not_after is not None and now > session.not_after:
        return ""
    if limits.timebox is not None and now > session.created_at + timedelta(seconds=limits.timebox):
        return ""
    if limits.inactivity_timeout is not None and now > last_refresh(session, token_time) + timedelta(
        seconds=limits.inactivity_timeout
    ):
        return " (Inactivity)"
    is_low = session.aal == "aal1" and user.has_verified_factor
    if limits.allow_low_aal is not None and is_low:
        return (
            " (Low AAL: User Needs MFA Verification)"
            if now > session.created_at + timedelta(seconds=limits.allow_low_aal)
            else None
        )
    return None


def tag_of(session: Session, tags: tuple[str, ...]) -> str:
    """The session's tag among the configured ones; the first is for those without."""
    if not tags:
        return ""
    return session.tag if session.tag in tags else tags[0]
