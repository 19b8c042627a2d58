"""Settings of second factors and passkeys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

_FLOOR = 300.0


@dataclass(frozen=True, slots=True)
class FactorTypeSettings:
    enroll_enabled: bool = False
    verify_enabled: bool = False


@dataclass(frozen=True, slots=True)
class PhoneFactorSettings:
    enroll_enabled: bool = False
    verify_enabled: bool = False
    otp_length: int = 6
    template: str = "Your code is {{ .Code }}"
    max_frequency: float = 60.0


@dataclass(frozen=True, slots=True)
class MfaSettings:
    """Durations in seconds; never below 300."""

    challenge_expiry: float = _FLOOR
    factor_expiry: float = _FLOOR
    max_enrolled: int = 10
    max_verified: int = 10
    totp: FactorTypeSettings = FactorTypeSettings(enroll_enabled=True, verify_enabled=True)
    phone: PhoneFactorSettings = PhoneFactorSettings()
    webauthn: FactorTypeSettings = FactorTypeSettings()
    recovery_codes: bool = True


@dataclass(frozen=True, slots=True)
class WebAuthnSettings:
    rp_id: str = ""
    rp_display_name: str = ""
    rp_origins: tuple[str, ...] = ()
    challenge_expiry: float = 300.0


@dataclass(frozen=True, slots=True)
class PasskeySettings:
    enabled: bool = False
    max_per_user: int = field(default=10)


def bounded_otp_length(length: int) -> int:
    """6..10 digits; anything else is 6 (contract §5.4)."""
    return length if 6 <= length <= 10 else 6


def load_mfa(read: Reader) -> MfaSettings:
    prefix = "GOTRUE_MFA_"
    return MfaSettings(
        challenge_expiry=max(_FLOOR, read.seconds(f"{prefix}CHALLENGE_EXPIRY_DURATION", default=_FLOOR)),
        factor_expiry=max(_FLOOR, read.seconds(f"{prefix}FACTOR_EXPIRY_DURATION", default=_FLOOR)),
        max_enrolled=read.integer(f"{prefix}MAX_ENROLLED_FACTORS", default=10, minimum=0),
        max_verified=read.integer(f"{prefix}MAX_VERIFIED_FACTORS", default=10, minimum=0),
        totp=FactorTypeSettings(
            enroll_enabled=read.boolean(f"{prefix}TOTP_ENROLL_ENABLED", default=True),
            verify_enabled=read.boolean(f"{prefix}TOTP_VERIFY_ENABLED", default=True),
        ),
        phone=PhoneFactorSettings(
            enroll_enabled=read.boolean(f"{prefix}PHONE_ENROLL_ENABLED"),
            verify_enabled=read.boolean(f"{prefix}PHONE_VERIFY_ENABLED"),
            otp_length=bounded_otp_length(read.integer(f"{prefix}PHONE_OTP_LENGTH", default=6)),
            template=read.text(f"{prefix}PHONE_TEMPLATE", default="Your code is {{ .Code }}"),
            max_frequency=read.seconds(f"{prefix}PHONE_MAX_FREQUENCY", default=60.0),
        ),
        webauthn=FactorTypeSettings(
            enroll_enabled=read.boolean(f"{prefix}WEB_AUTHN_ENROLL_ENABLED"),
            verify_enabled=read.boolean(f"{prefix}WEB_AUTHN_VERIFY_ENABLED"),
        ),
        recovery_codes=read.boolean(f"{prefix}RECOVERY_CODES_ENABLED", default=True),
    )


def load_webauthn(read: Reader) -> WebAuthnSettings:
    prefix = "GOTRUE_WEBAUTHN_"
    return WebAuthnSettings(
        rp_id=read.text(f"{prefix}RP_ID"),
        rp_display_name=read.text(f"{prefix}RP_DISPLAY_NAME"),
        rp_origins=read.csv(f"{prefix}RP_ORIGINS"),
        challenge_expiry=read.seconds(f"{prefix}CHALLENGE_EXPIRY_DURATION", default=300.0),
    )


def load_passkey(read: Reader) -> PasskeySettings:
    return PasskeySettings(
        enabled=read.boolean("GOTRUE_PASSKEY_ENABLED"),
        max_per_user=read.integer("GOTRUE_PASSKEY_MAX_PASSKEYS_PER_USER", default=10, minimum=1),
    )
