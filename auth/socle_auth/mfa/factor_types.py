"""What the kinds of factors share: their switches, their proofs' names, and how a factor of a request is found."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from socle_auth.errors import AuthError, ErrorCode
from socle_auth.store import factors as store

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import Factor, User
    from socle_platform.db import Connection

TOTP = "totp"
PHONE = "phone"
WEBAUTHN = "webauthn"
RECOVERY_CODE = "recovery_code"

PROOF_OF = {TOTP: "totp", PHONE: "mfa/phone", WEBAUTHN: "mfa/webauthn", RECOVERY_CODE: "mfa/recovery_code"}
"""Factor type → amr method (§5.1)."""

_TITLES = {TOTP: "TOTP", PHONE: "Phone", WEBAUTHN: "WebAuthn", RECOVERY_CODE: "Recovery Codes"}
_ENROLL_OFF = {
    TOTP: ErrorCode.MFA_TOTP_ENROLL_NOT_ENABLED,
    PHONE: ErrorCode.MFA_PHONE_ENROLL_NOT_ENABLED,
    WEBAUTHN: ErrorCode.MFA_WEBAUTHN_ENROLL_NOT_ENABLED,
    RECOVERY_CODE: ErrorCode.MFA_RECOVERY_CODES_ENROLL_NOT_ENABLED,
}
_VERIFY_OFF = {
    TOTP: ErrorCode.MFA_TOTP_VERIFY_NOT_ENABLED,
    PHONE: ErrorCode.MFA_PHONE_VERIFY_NOT_ENABLED,
    WEBAUTHN: ErrorCode.MFA_WEBAUTHN_VERIFY_NOT_ENABLED,
    RECOVERY_CODE: ErrorCode.MFA_RECOVERY_CODES_VERIFY_NOT_ENABLED,
}


def ensure_enrolment_on(service: AuthService, factor_type: str) -> None:
    """Raises 422 `mfa_…_enroll_not_enabled`."""
    mfa = service.settings.mfa
    switches = {
        TOTP: mfa.totp.enroll_enabled,
        PHONE: mfa.phone.enroll_enabled,
        WEBAUTHN: mfa.webauthn.enroll_enabled,
        RECOVERY_CODE: mfa.recovery_codes,
    }
    if not switches[factor_type]:
        raise AuthError(_ENROLL_OFF[factor_type], f"MFA enroll is disabled for {_TITLES[factor_type]}")


def ensure_verification_on(service: AuthService, factor_type: str) -> None:
    """Raises 422 `mfa_…_verify_not_enabled`."""
    mfa = service.settings.mfa
    switches = {
        TOTP: mfa.totp.verify_enabled,
        PHONE: mfa.phone.verify_enabled,
        WEBAUTHN: mfa.webauthn.verify_enabled,
        RECOVERY_CODE: mfa.recovery_codes,
    }
    if not switches.get(factor_type, False):
        code = _VERIFY_OFF.get(factor_type, ErrorCode.VALIDATION_FAILED)
        raise AuthError(code, f"MFA verification is disabled for {_TITLES.get(factor_type, factor_type)}")


async def require_factor(connection: Connection, call: Call, user: User, *, lock: bool = False) -> Factor:
    """The factor that the path names, if it is this user's. Raises 404."""
    factor = await store.find(connection, user.id, call.path_uuid("factor_id"), lock=lock)
    if factor is None:
        raise AuthError(ErrorCode.MFA_FACTOR_NOT_FOUND, "Factor not found")
    return factor


def address_of(call: Call) -> str:
    """The caller's address as the database has it; a caller without one counts as 0.0.0.0."""
    try:
        return str(ipaddress.ip_address(call.client_ip))
    except ValueError:
        return "0.0.0.0"  # noqa: S104 - the unspecified address, to be compared only
