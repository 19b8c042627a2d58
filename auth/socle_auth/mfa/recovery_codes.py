"""Recovery codes: what gets somebody in whose second factor is lost (§3.11b).

Ten codes are shown once, at aal2; each stands for a second factor once. They are no factor of their own: without
another proven factor there is nothing to recover, and they go with the last one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from socle_auth import audit, limits, sessions, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.mfa.factor_types import PROOF_OF, RECOVERY_CODE, ensure_enrolment_on, ensure_verification_on
from socle_auth.store import factors, users
from socle_auth.store import recovery_codes as store

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

TOTAL = 10
LENGTH = 16
NAME = "Recovery codes"
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def hash_code(user_id: str, code: str) -> str:
    """What is stored: the code has 80 bits of its own, so that a plain hash does."""
    plain = "".join(character for character in code.lower() if character.isalnum())
    return hashlib.sha256(f"{user_id}:{plain}".encode()).hexdigest()


async def show(service: AuthService, call: Call) -> WireResponse:
    """GET: how many are left."""
    user = call.require_user()
    async with service.connect() as connection:
        found = await _require_set(connection, user)
    body = {"id": found.id, "type": RECOVERY_CODE, "friendly_name": NAME, "total": found.total}
    return wire.reply(body | {"remaining": found.remaining, "created_at": wire.render_time(found.created_at)})


async def _require_set(connection: Connection, user: User) -> store.RecoverySet:
    found = await store.find_set(connection, user.id)
    if found is None:
        raise AuthError(ErrorCode.MFA_FACTOR_NOT_FOUND, "Recovery codes not found")
    return found


async def generate(service: AuthService, call: Call) -> WireResponse:
    """POST: the first set."""
    return await _generate(service, call, first=True)


async def regenerate(service: AuthService, call: Call) -> WireResponse:
    """POST …/regenerate: a new set, the former codes are void."""
    return await _generate(service, call, first=False)


async def _generate(service: AuthService, call: Call, *, first: bool) -> WireResponse:
    ensure_enrolment_on(service, RECOVERY_CODE)
    user = call.require_user()
    _require_aal2(call)
    set_id = service.new_id()
    codes = [_new_code(service) for _ in range(TOTAL)]
    async with service.connect() as connection:
        locked = await users.find(connection, user.id, lock=True)
        if locked is None or not locked.has_verified_factor:
            raise invalid("A verified factor is needed before recovery codes", 422)
        if first and await store.find_set(connection, user.id) is not None:
            raise AuthError(
                ErrorCode.MFA_VERIFIED_FACTOR_EXISTS, "Recovery codes exist already, regenerate them to get new ones"
            )
        if not first:
            await _require_set(connection, user)
        await store.put_set(connection, user.id, set_id, [hash_code(user.id, code) for code in codes], service.now())
        traits: dict[str, Any] = {"factor_id": set_id, "factor_type": RECOVERY_CODE}
        await audit.record(service, connection, call, "factor_in_progress", user, traits)
    return wire.reply({"id": set_id, "type": RECOVERY_CODE, "friendly_name": NAME, "total": TOTAL, "codes": codes})


def _new_code(service: AuthService) -> str:
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in service.random_bytes(LENGTH))


def _require_aal2(call: Call) -> None:
    if call.require_session().aal == "aal1":
        raise AuthError(ErrorCode.INSUFFICIENT_AAL, "AAL2 required to manage recovery codes", 403)


async def verify(service: AuthService, call: Call) -> WireResponse:
    """POST …/verify: a code instead of a factor."""
    from socle_auth.mfa.verification import strengthen

    ensure_verification_on(service, RECOVERY_CODE)
    user, session = call.require_user(), call.require_session()
    await limits.charge(service, limits.FACTOR_VERIFY, f"user:{user.id}")
    code = call.body().text("code")
    if not code:
        raise invalid("Code needs to be non-empty")
    async with service.connect() as connection:
        found = await _require_set(connection, user)
        if not await store.use(connection, user.id, hash_code(user.id, code), service.now()):
            raise AuthError(ErrorCode.MFA_VERIFICATION_FAILED, "Invalid recovery code entered")
        traits = {"factor_id": found.id, "factor_type": RECOVERY_CODE}
        await audit.record(service, connection, call, "verification_attempted", user, traits)
        response = await strengthen(service, connection, call, PROOF_OF[RECOVERY_CODE], session.id, session.factor_id)
    return sessions.reply(response)


async def remove(service: AuthService, call: Call) -> WireResponse:
    """DELETE."""
    user = call.require_user()
    _require_aal2(call)
    async with service.connect() as connection:
        found = await _require_set(connection, user)
        await forget(service, connection, user.id)
        traits = {"factor_id": found.id, "factor_type": RECOVERY_CODE}
        await audit.record(service, connection, call, "factor_unenrolled", user, traits)
    return wire.reply({"id": found.id})


async def forget(service: AuthService, connection: Connection, user_id: str) -> None:
    """Takes the codes away, and the strength of sessions that stood on one."""
    await store.delete_set(connection, user_id)
    await store.downgrade_sessions(connection, user_id, PROOF_OF[RECOVERY_CODE], service.now())


async def forget_without_factors(service: AuthService, connection: Connection, user_id: str) -> None:
    """The codes go with the user's last proven factor."""
    if not any(factor.is_verified for factor in await factors.of_user(connection, user_id)):
        await forget(service, connection, user_id)
