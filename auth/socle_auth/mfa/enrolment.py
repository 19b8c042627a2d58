"""Enrolling a factor, and removing one (§3.11)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from socle_auth import audit, codes, encryption, mailing, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.mfa import recovery_codes, totp
from socle_auth.mfa.factor_types import PHONE, PROOF_OF, TOTP, WEBAUTHN, ensure_enrolment_on, require_factor
from socle_auth.store import factors as store
from socle_auth.store.rows import Factor
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import Session, User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_UNIQUE_VIOLATION = "23505"
_LONGEST_NAME = 1024


async def enroll(service: AuthService, call: Call) -> WireResponse:
    """POST /factors."""
    body = call.body()
    user, session = call.require_user(), call.require_session()
    factor_type = body.text("factor_type")
    if factor_type not in (TOTP, PHONE, WEBAUTHN):
        raise invalid("factor_type needs to be totp, phone, or webauthn")
    ensure_enrolment_on(service, factor_type)
    phone = ""
    if factor_type == PHONE:
        if not body.text("phone"):
            raise invalid("Phone number required to enroll Phone factor")
        phone = codes.parse_phone(body.text("phone"))
    name = body.text("friendly_name")
    if len(name) > _LONGEST_NAME:
        raise invalid(f"friendly_name must not be longer than {_LONGEST_NAME} characters")
    secret = totp.encode_secret(service.random_bytes(totp.SECRET_BYTES)) if factor_type == TOTP else ""
    factor = _new_factor(service, user, factor_type, name, secret, phone)
    async with service.connect() as connection:
        if phone:
            await _make_room_for_phone(connection, user, phone)
        await _ensure_room(service, connection, user, session, name)
        await _insert(connection, factor)
        traits = {"factor_id": factor.id} | ({} if factor_type == TOTP else {"factor_type": factor_type})
        await audit.record(service, connection, call, "factor_in_progress", user, traits)
    answer: dict[str, Any] = {"id": factor.id, "type": factor_type, "friendly_name": name}
    if factor_type == TOTP:
        answer["totp"] = _render_totp(service, user, secret, body.text("issuer"))
    elif factor_type == PHONE:
        answer["phone"] = body.text("phone")
    return wire.reply(answer)


def _new_factor(service: AuthService, user: User, factor_type: str, name: str, secret: str, phone: str) -> Factor:
    factor_id, now = service.new_id(), service.now()
    return Factor(
        id=factor_id,
        user_id=user.id,
        friendly_name=name,
        factor_type=factor_type,
        status="unverified",
        created_at=now,
        updated_at=now,
        secret=encryption.seal(service.settings.security.encryption, factor_id, secret, service.random_bytes),
        phone=phone,
    )


def _render_totp(service: AuthService, user: User, secret: str, issuer: str) -> dict[str, str]:
    site = urlsplit(service.settings.site_url).netloc
    uri = totp.render_uri(secret, issuer or site, user.email or user.phone or user.id)
    return {"qr_code": totp.render_qr(uri), "secret": secret, "uri": uri}


async def _make_room_for_phone(connection: Connection, user: User, phone: str) -> None:
    """A number that was never proven may be tried again; a proven one is refused."""
    for factor in await store.of_user(connection, user.id):
        if factor.factor_type != PHONE or factor.phone != phone:
            continue
        if factor.is_verified:
            raise AuthError(
                ErrorCode.MFA_VERIFIED_FACTOR_EXISTS,
                "A verified phone factor already exists, unenroll the existing factor to continue",
            )
        await store.delete(connection, factor.id)


async def _ensure_room(service: AuthService, connection: Connection, user: User, session: Session, name: str) -> None:
    """Whether one more factor of this name may be. Abandoned ones of anybody are swept away first."""
    mfa = service.settings.mfa
    await store.delete_abandoned(connection, service.now() - timedelta(seconds=mfa.factor_expiry))
    known = await store.of_user(connection, user.id)
    if any(factor.friendly_name == name for factor in known):
        raise _name_conflict(name)
    verified = sum(factor.is_verified for factor in known)
    if len(known) >= mfa.max_enrolled or verified >= mfa.max_verified:
        raise AuthError(
            ErrorCode.TOO_MANY_ENROLLED_MFA_FACTORS,
            "Maximum number of verified factors reached, unenroll to continue",
        )
    if verified and session.aal == "aal1":
        raise AuthError(ErrorCode.INSUFFICIENT_AAL, "AAL2 required to enroll a new factor", 403)


def _name_conflict(name: str) -> AuthError:
    return AuthError(
        ErrorCode.MFA_FACTOR_NAME_CONFLICT,
        f'A factor with the friendly name "{name}" for this user already exists',
    )


async def _insert(connection: Connection, factor: Factor) -> None:
    try:
        await store.insert(connection, factor)
    except DatabaseError as error:
        if error.sqlstate != _UNIQUE_VIOLATION:
            raise
        raise _name_conflict(factor.friendly_name) from error


async def unenroll(service: AuthService, call: Call) -> WireResponse:
    """DELETE /factors/{factor_id}."""
    user, session = call.require_user(), call.require_session()
    async with service.connect() as connection:
        factor = await require_factor(connection, call, user, lock=True)
        if factor.is_verified and session.aal == "aal1":
            raise AuthError(ErrorCode.INSUFFICIENT_AAL, "AAL2 required to unenroll verified factor", 422)
        await remove_factor(service, connection, factor)
        traits = {"factor_id": factor.id, "factor_status": factor.status, "session_id": session.id}
        await audit.record(service, connection, call, "factor_unenrolled", user, traits)
        letter = mailing.Letter(mailing.MailKind.FACTOR_UNENROLLED, user, factor_type=factor.factor_type)
        await mailing.notify(service, connection, call, letter)
    return wire.reply({"id": factor.id})


async def remove_factor(service: AuthService, connection: Connection, factor: Factor) -> None:
    """Takes the factor away, and the strength of sessions that stood on it."""
    await store.delete(connection, factor.id)
    await store.downgrade_sessions(connection, factor.id, PROOF_OF[factor.factor_type], service.now())
    await recovery_codes.forget_without_factors(service, connection, factor.user_id)
