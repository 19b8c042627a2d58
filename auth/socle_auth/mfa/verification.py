"""Proving a factor: the answer to a challenge, and the stronger session that comes of it (§3.11)."""

from __future__ import annotations

import hmac
import ipaddress
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_auth import audit, encryption, hooks, limits, mailing, sessions, texting
from socle_auth.errors import AuthError, ErrorCode, failure, invalid
from socle_auth.mfa import keys, totp
from socle_auth.mfa.factor_types import PHONE, PROOF_OF, WEBAUTHN, address_of, ensure_verification_on, require_factor
from socle_auth.store import factors as store
from socle_auth.store import sessions as session_store
from socle_auth.store import users
from socle_auth.wire import parse_uuid

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.factors import Challenge
    from socle_auth.store.rows import Factor
    from socle_auth.wire import Body
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_REJECTED = "Further MFA verification attempts will be rejected."


async def verify(service: AuthService, call: Call) -> WireResponse:
    """POST /factors/{factor_id}/verify."""
    body = call.body()
    user, session = call.require_user(), call.require_session()
    await limits.charge(service, limits.FACTOR_VERIFY, f"user:{user.id}")
    challenge_id = _read_challenge_id(body)
    async with service.connect() as connection:
        factor = await require_factor(connection, call, user)
        ensure_verification_on(service, factor.factor_type)
        if factor.factor_type != WEBAUTHN and not body.text("code"):
            raise invalid("Code needs to be non-empty")
        kind, answer = keys.read_answer(body) if factor.factor_type == WEBAUTHN else ("", {})
        put, refusal = await _find_open_challenge(service, connection, call, factor, challenge_id)
    if put is None:
        raise refusal or failure("Database error finding Challenge")
    if factor.factor_type != WEBAUTHN:
        await _check_code(service, call, factor, put, body.text("code"))
    async with service.connect() as connection:
        factor = await require_factor(connection, call, user, lock=True)
        put, refusal = await _find_open_challenge(service, connection, call, factor, challenge_id)
        if put is None:
            raise refusal or failure("Database error finding Challenge")
        if factor.factor_type == WEBAUTHN:
            await keys.finish(service, connection, factor, put, kind, answer)
        response = await _strengthen(service, connection, call, factor, put, session.id)
    return sessions.reply(response)


def _read_challenge_id(body: Body) -> str:
    text = body.text("challenge_id")
    challenge_id = parse_uuid(text)
    if text and challenge_id is None:
        raise AuthError(ErrorCode.BAD_JSON, "Could not parse request body as JSON: challenge_id must be an UUID")
    return challenge_id or "00000000-0000-0000-0000-000000000000"


async def _find_open_challenge(
    service: AuthService, connection: Connection, call: Call, factor: Factor, challenge_id: str
) -> tuple[Challenge | None, AuthError | None]:
    """The challenge if it may be answered now from here, or why not. An expired one is taken away: the transaction
    has to be committed before the refusal is raised."""
    put = await store.find_challenge(connection, factor.id, challenge_id)
    if put is None:
        return None, AuthError(
            ErrorCode.MFA_FACTOR_NOT_FOUND, "MFA factor with the provided challenge ID not found", 422
        )
    if put.verified_at is not None or ipaddress.ip_address(put.ip_address) != ipaddress.ip_address(address_of(call)):
        return None, AuthError(ErrorCode.MFA_IP_ADDRESS_MISMATCH, "Challenge and verify IP addresses mismatch.")
    if service.now() > put.created_at + timedelta(seconds=service.settings.mfa.challenge_expiry):
        await store.delete_challenge(connection, put.id)
        return None, AuthError(
            ErrorCode.MFA_CHALLENGE_EXPIRED,
            f"MFA challenge {put.id} has expired, verify against another challenge or create a new challenge.",
        )
    return put, None


async def _check_code(service: AuthService, call: Call, factor: Factor, put: Challenge, code: str) -> None:
    """Proves a code and asks the hook about it. Raises `mfa_verification_failed` or `mfa_verification_rejected`."""
    settings = service.settings.security.encryption
    if factor.factor_type == PHONE:
        remote = await texting.verify_remotely(service, factor.phone, code)
        if remote is False:
            raise AuthError(ErrorCode.OTP_EXPIRED, "Token has expired or is invalid", 403)
        expected = encryption.unseal(settings, put.id, put.otp_code)
        valid = remote is True or (bool(expected) and hmac.compare_digest(expected.encode(), code.encode()))
        message = "Invalid MFA Phone code entered"
    else:
        secret = encryption.unseal(settings, factor.id, factor.secret)
        valid = totp.is_valid(secret, code, service.now())
        message = "Invalid TOTP code entered"
        await _reseal_secret(service, factor, secret)
    await _ask_hook(service, call, factor, valid=valid)
    if not valid:
        raise AuthError(ErrorCode.MFA_VERIFICATION_FAILED, message)


async def _reseal_secret(service: AuthService, factor: Factor, secret: str) -> None:
    """A secret that is stored plainly or under an old key is sealed again at use (§5.4)."""
    settings = service.settings.security.encryption
    if not encryption.is_stale(settings, factor.secret):
        return
    async with service.connect() as connection:
        sealed = encryption.seal(settings, factor.id, secret, service.random_bytes)
        await store.set_secret(connection, factor.id, sealed)


async def _ask_hook(service: AuthService, call: Call, factor: Factor, *, valid: bool) -> None:
    """A rejection signs the user out everywhere."""
    if not hooks.is_on(service, hooks.MFA_VERIFICATION_ATTEMPT):
        return
    payload = {
        "user_id": factor.user_id,
        "factor_id": factor.id,
        "factor_type": factor.factor_type,
        "valid": valid,
    }
    answer = await hooks.call(service, None, call, hooks.MFA_VERIFICATION_ATTEMPT, payload)
    if answer is None or answer.get("decision") != "reject":
        return
    async with service.connect() as connection:
        await session_store.delete_all(connection, factor.user_id)
    raise AuthError(ErrorCode.MFA_VERIFICATION_REJECTED, str(answer.get("message") or _REJECTED))


async def _strengthen(
    service: AuthService, connection: Connection, call: Call, factor: Factor, put: Challenge, session_id: str
) -> sessions.TokenResponse:
    """The factor counts from now on; weaker sessions of the user and factors of the type left unproven go."""
    now, user = service.now(), call.require_user()
    traits = {"factor_id": factor.id, "challenge_id": put.id, "factor_type": factor.factor_type}
    await audit.record(service, connection, call, "verification_attempted", user, traits)
    if factor.factor_type == WEBAUTHN:
        await store.delete_challenge(connection, put.id)
    else:
        await store.mark_challenge_verified(connection, put.id, now)
    if not factor.is_verified:
        await store.mark_verified(connection, factor.id, now)
        letter = mailing.Letter(mailing.MailKind.FACTOR_ENROLLED, user, factor_type=factor.factor_type)
        await mailing.notify(service, connection, call, letter)
    await store.delete_unverified(connection, user.id, factor.factor_type)
    return await strengthen(service, connection, call, PROOF_OF[factor.factor_type], session_id, factor.id)


async def strengthen(
    service: AuthService, connection: Connection, call: Call, method: str, session_id: str, factor_id: str | None
) -> sessions.TokenResponse:
    """The session at aal2 by this proof; every weaker session of the user ends."""
    user = await users.find(connection, call.require_user().id)
    if user is None:
        raise AuthError(ErrorCode.USER_NOT_FOUND, "User from sub claim in JWT does not exist", 403)
    try:
        response = await sessions.strengthen_session(service, connection, call, user, session_id, method, factor_id)
    except LookupError as error:
        message = "Session from session_id claim in JWT does not exist"
        raise AuthError(ErrorCode.SESSION_NOT_FOUND, message, 403) from error
    await session_store.delete_weaker(connection, user.id, "aal2")
    return response
