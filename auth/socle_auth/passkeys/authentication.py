"""Signing in with a passkey alone (§3.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import audit, sessions, wire
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.passkeys.ceremony import (
    CHALLENGE_BYTES,
    Assertion,
    CeremonyFailed,
    authentication_options,
    credential_id_of,
    relying_party,
    user_handle_of,
    verify_assertion,
)
from socle_auth.passkeys.registration import put_challenge, read_answer, take_challenge, verification_failed
from socle_auth.store import passkeys as store
from socle_auth.store import users

if TYPE_CHECKING:
    from typing import Any

    from socle_auth.context import AuthService, Call
    from socle_auth.store.passkeys import Passkey
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

METHOD = "passkey"


async def begin(service: AuthService, call: Call) -> WireResponse:
    """POST /passkeys/authentication/options: no user is named, the credential will."""
    del call
    challenge = service.random_bytes(CHALLENGE_BYTES)
    async with service.connect() as connection:
        answer = await put_challenge(service, connection, None, store.AUTHENTICATION, challenge)
    options = authentication_options(relying_party(service.settings), challenge, [])
    return wire.reply(answer | {"options": options})


async def finish(service: AuthService, call: Call) -> WireResponse:
    """POST /passkeys/authentication/verify."""
    challenge_id, answer = read_answer(call.body())
    challenge = await take_challenge(service, challenge_id, store.AUTHENTICATION, None)
    try:
        async with service.connect() as connection:
            passkey, proven = await _prove(service, connection, answer, challenge)
            user = await users.find(connection, passkey.user_id)
            if user is None:
                raise CeremonyFailed
            _ensure_may_sign_in(service, user)
            await store.mark_used(connection, passkey.id, proven.sign_count, proven.backed_up, service.now())
            await audit.record(service, connection, call, "login", user, {"passkey_id": passkey.id})
            response = await sessions.issue_session(service, connection, call, user, METHOD)
    except CeremonyFailed as error:
        raise verification_failed(error) from error
    return sessions.reply(response)


async def _prove(
    service: AuthService, connection: Connection, answer: dict[str, Any], challenge: bytes
) -> tuple[Passkey, Assertion]:
    """The stored passkey that made the answer; the handle has to name its owner. Raises CeremonyFailed."""
    passkey = await store.find_by_credential(connection, credential_id_of(answer))
    if passkey is None or user_handle_of(answer) != passkey.user_id:
        raise CeremonyFailed
    return passkey, verify_assertion(relying_party(service.settings), answer, challenge, passkey.credential)


def _ensure_may_sign_in(service: AuthService, user: User) -> None:
    if user.email and not user.is_email_confirmed:
        raise AuthError(ErrorCode.EMAIL_NOT_CONFIRMED, "Email not confirmed", 403)
    if user.phone and not user.is_phone_confirmed:
        raise AuthError(ErrorCode.PHONE_NOT_CONFIRMED, "Phone not confirmed", 403)
    if user.is_banned(service.now()):
        raise AuthError(ErrorCode.USER_BANNED, "User is banned")
