"""Every error of the auth service and its two renderings (contracts/auth.md §7.1, §7.2).

SocleError
├── AuthError       code, status, message; both API versions
│   └── WeakPassword    adds the reasons
└── OAuthError      {"error","error_description"}, always HTTP 400 unless said, in both versions
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from enum import StrEnum
from typing import Any

from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.errors import SocleError, WireResponse
from socle_platform.http import BodyTooLarge, json_response

API_VERSION_HEADER = "x-supabase-api-version"
CURRENT_API_VERSION = "2024-01-01"
_CURRENT_DATE = date(2024, 1, 1)


class ErrorCode(StrEnum):
    """The closed set of codes. A retired one stays, so that it is never used again for something else."""

    ANONYMOUS_PROVIDER_DISABLED = "anonymous_provider_disabled"
    BAD_CODE_VERIFIER = "bad_code_verifier"
    BAD_JSON = "bad_json"
    BAD_JWT = "bad_jwt"
    BAD_OAUTH_CALLBACK = "bad_oauth_callback"
    BAD_OAUTH_STATE = "bad_oauth_state"
    CAPTCHA_FAILED = "captcha_failed"
    CONFLICT = "conflict"
    CURRENT_PASSWORD_INVALID = "current_password_invalid"
    CURRENT_PASSWORD_REQUIRED = "current_password_required"
    CUSTOM_PROVIDER_NOT_FOUND = "custom_provider_not_found"
    EMAIL_ADDRESS_INVALID = "email_address_invalid"
    EMAIL_ADDRESS_NOT_AUTHORIZED = "email_address_not_authorized"
    EMAIL_ADDRESS_NOT_PROVIDED = "email_address_not_provided"
    EMAIL_CONFLICT_IDENTITY_NOT_DELETABLE = "email_conflict_identity_not_deletable"
    EMAIL_EXISTS = "email_exists"
    EMAIL_NOT_CONFIRMED = "email_not_confirmed"
    EMAIL_PROVIDER_DISABLED = "email_provider_disabled"
    FEATURE_DISABLED = "feature_disabled"
    FLOW_STATE_ALREADY_USED = "flow_state_already_used"
    FLOW_STATE_EXPIRED = "flow_state_expired"
    FLOW_STATE_NOT_FOUND = "flow_state_not_found"
    HOOK_PAYLOAD_INVALID_CONTENT_TYPE = "hook_payload_invalid_content_type"
    HOOK_PAYLOAD_OVER_SIZE_LIMIT = "hook_payload_over_size_limit"
    HOOK_TIMEOUT = "hook_timeout"
    HOOK_TIMEOUT_AFTER_RETRY = "hook_timeout_after_retry"
    IDENTITY_ALREADY_EXISTS = "identity_already_exists"
    IDENTITY_NOT_FOUND = "identity_not_found"
    INSUFFICIENT_AAL = "insufficient_aal"
    INVALID_CREDENTIALS = "invalid_credentials"
    INVITE_NOT_FOUND = "invite_not_found"
    MANUAL_LINKING_DISABLED = "manual_linking_disabled"
    MFA_CHALLENGE_EXPIRED = "mfa_challenge_expired"
    MFA_FACTOR_NAME_CONFLICT = "mfa_factor_name_conflict"
    MFA_FACTOR_NOT_FOUND = "mfa_factor_not_found"
    MFA_IP_ADDRESS_MISMATCH = "mfa_ip_address_mismatch"
    MFA_PHONE_ENROLL_NOT_ENABLED = "mfa_phone_enroll_not_enabled"
    MFA_PHONE_VERIFY_NOT_ENABLED = "mfa_phone_verify_not_enabled"
    MFA_RECOVERY_CODES_ENROLL_NOT_ENABLED = "mfa_recovery_codes_enroll_not_enabled"
    MFA_RECOVERY_CODES_VERIFY_NOT_ENABLED = "mfa_recovery_codes_verify_not_enabled"
    MFA_TOTP_ENROLL_NOT_ENABLED = "mfa_totp_enroll_not_enabled"
    MFA_TOTP_VERIFY_NOT_ENABLED = "mfa_totp_verify_not_enabled"
    MFA_VERIFICATION_FAILED = "mfa_verification_failed"
    MFA_VERIFICATION_REJECTED = "mfa_verification_rejected"
    MFA_VERIFIED_FACTOR_EXISTS = "mfa_verified_factor_exists"
    MFA_WEBAUTHN_ENROLL_NOT_ENABLED = "mfa_webauthn_enroll_not_enabled"
    MFA_WEBAUTHN_VERIFY_NOT_ENABLED = "mfa_webauthn_verify_not_enabled"
    NO_AUTHORIZATION = "no_authorization"
    NOT_ADMIN = "not_admin"
    OAUTH_AUTHORIZATION_NOT_FOUND = "oauth_authorization_not_found"
    OAUTH_CLIENT_NOT_FOUND = "oauth_client_not_found"
    OAUTH_CLIENT_STATE_EXPIRED = "oauth_client_state_expired"
    OAUTH_CLIENT_STATE_NOT_FOUND = "oauth_client_state_not_found"
    OAUTH_CONSENT_NOT_FOUND = "oauth_consent_not_found"
    OAUTH_DYNAMIC_CLIENT_REGISTRATION_DISABLED = "oauth_dynamic_client_registration_disabled"
    OAUTH_INVALID_STATE = "oauth_invalid_state"
    OAUTH_PROVIDER_NOT_SUPPORTED = "oauth_provider_not_supported"
    OTP_DISABLED = "otp_disabled"
    OTP_EXPIRED = "otp_expired"
    OVER_CUSTOM_PROVIDER_QUOTA = "over_custom_provider_quota"
    OVER_EMAIL_SEND_RATE_LIMIT = "over_email_send_rate_limit"
    OVER_REQUEST_RATE_LIMIT = "over_request_rate_limit"
    OVER_SMS_SEND_RATE_LIMIT = "over_sms_send_rate_limit"
    PASSKEY_DISABLED = "passkey_disabled"
    PHONE_EXISTS = "phone_exists"
    PHONE_NOT_CONFIRMED = "phone_not_confirmed"
    PHONE_PROVIDER_DISABLED = "phone_provider_disabled"
    PROVIDER_DISABLED = "provider_disabled"
    PROVIDER_EMAIL_NEEDS_VERIFICATION = "provider_email_needs_verification"
    REAUTHENTICATION_NEEDED = "reauthentication_needed"
    REAUTHENTICATION_NOT_VALID = "reauthentication_not_valid"
    REFRESH_TOKEN_ALREADY_USED = "refresh_token_already_used"
    REFRESH_TOKEN_NOT_FOUND = "refresh_token_not_found"
    REQUEST_ENTITY_TOO_LARGE = "request_entity_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    SAME_PASSWORD = "same_password"
    SAML_ASSERTION_NO_EMAIL = "saml_assertion_no_email"
    SAML_ASSERTION_NO_USER_ID = "saml_assertion_no_user_id"
    SAML_ENTITY_ID_MISMATCH = "saml_entity_id_mismatch"
    SAML_IDP_ALREADY_EXISTS = "saml_idp_already_exists"
    SAML_IDP_NOT_FOUND = "saml_idp_not_found"
    SAML_METADATA_FETCH_FAILED = "saml_metadata_fetch_failed"
    SAML_PROVIDER_DISABLED = "saml_provider_disabled"
    SAML_RELAY_STATE_EXPIRED = "saml_relay_state_expired"
    SAML_RELAY_STATE_NOT_FOUND = "saml_relay_state_not_found"
    SESSION_EXPIRED = "session_expired"
    SESSION_NOT_FOUND = "session_not_found"
    SIGNUP_DISABLED = "signup_disabled"
    SINGLE_IDENTITY_NOT_DELETABLE = "single_identity_not_deletable"
    SMS_SEND_FAILED = "sms_send_failed"
    SSO_DOMAIN_ALREADY_EXISTS = "sso_domain_already_exists"
    SSO_PROVIDER_DISABLED = "sso_provider_disabled"
    SSO_PROVIDER_NOT_FOUND = "sso_provider_not_found"
    TOO_MANY_ENROLLED_MFA_FACTORS = "too_many_enrolled_mfa_factors"
    TOO_MANY_PASSKEYS = "too_many_passkeys"
    UNEXPECTED_AUDIENCE = "unexpected_audience"
    UNEXPECTED_FAILURE = "unexpected_failure"
    UNKNOWN = "unknown"
    USER_ALREADY_EXISTS = "user_already_exists"
    USER_BANNED = "user_banned"
    USER_NOT_FOUND = "user_not_found"
    USER_SSO_MANAGED = "user_sso_managed"
    VALIDATION_FAILED = "validation_failed"
    WEAK_PASSWORD = "weak_password"
    WEB3_PROVIDER_DISABLED = "web3_provider_disabled"
    WEB3_UNSUPPORTED_CHAIN = "web3_unsupported_chain"
    WEBAUTHN_CHALLENGE_EXPIRED = "webauthn_challenge_expired"
    WEBAUTHN_CHALLENGE_NOT_FOUND = "webauthn_challenge_not_found"
    WEBAUTHN_CREDENTIAL_EXISTS = "webauthn_credential_exists"
    WEBAUTHN_CREDENTIAL_NOT_FOUND = "webauthn_credential_not_found"
    WEBAUTHN_VERIFICATION_FAILED = "webauthn_verification_failed"


def _statuses() -> dict[ErrorCode, int]:
    usual = {
        401: "no_authorization",
        403: "bad_jwt not_admin user_banned otp_expired unexpected_audience mfa_verification_rejected "
        "oauth_dynamic_client_registration_disabled",
        404: "user_not_found mfa_factor_not_found flow_state_not_found manual_linking_disabled saml_provider_disabled "
        "sso_provider_not_found sso_provider_disabled saml_idp_not_found saml_relay_state_not_found invite_not_found "
        "feature_disabled passkey_disabled oauth_client_not_found oauth_authorization_not_found "
        "oauth_consent_not_found custom_provider_not_found webauthn_credential_not_found",
        409: "conflict",
        413: "request_entity_too_large",
        422: "weak_password signup_disabled anonymous_provider_disabled user_already_exists email_exists phone_exists "
        "otp_disabled same_password reauthentication_not_valid user_sso_managed single_identity_not_deletable "
        "email_conflict_identity_not_deletable identity_not_found identity_already_exists "
        "provider_email_needs_verification flow_state_expired oauth_client_state_not_found oauth_client_state_expired "
        "sms_send_failed mfa_totp_enroll_not_enabled mfa_totp_verify_not_enabled mfa_phone_enroll_not_enabled "
        "mfa_phone_verify_not_enabled mfa_webauthn_enroll_not_enabled mfa_webauthn_verify_not_enabled "
        "mfa_recovery_codes_enroll_not_enabled mfa_recovery_codes_verify_not_enabled mfa_factor_name_conflict "
        "too_many_enrolled_mfa_factors mfa_ip_address_mismatch mfa_challenge_expired mfa_verification_failed "
        "mfa_verified_factor_exists hook_timeout hook_timeout_after_retry hook_payload_over_size_limit "
        "web3_provider_disabled saml_relay_state_expired saml_idp_already_exists too_many_passkeys "
        "webauthn_credential_exists",
        429: "over_request_rate_limit over_email_send_rate_limit over_sms_send_rate_limit",
        500: "unexpected_failure unknown",
        504: "request_timeout",
    }
    return {ErrorCode(name): status for status, names in usual.items() for name in names.split()}


USUAL_STATUS: Mapping[ErrorCode, int] = _statuses()
"""The status that goes with a code unless the use case says another; codes not listed are 400."""


class AuthError(SocleError):
    """Something the caller must be told.

    `code` None marks a hook's own rejection: shown as `unknown` or `unexpected_failure`, without a code header.
    `cause` is for the log; a PostgreSQL error raised by the project's own SQL is shown to the caller (§7.1).
    """

    def __init__(
        self,
        code: ErrorCode | None,
        message: str,
        status: int | None = None,
        *,
        cause: BaseException | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or (USUAL_STATUS.get(code, 400) if code else 500)
        self.cause = cause
        self.headers = tuple(headers)

    @property
    def shown_code(self) -> str:
        if self.code is not None:
            return self.code.value
        return ErrorCode.UNEXPECTED_FAILURE if self.status == 500 else ErrorCode.UNKNOWN


class WeakPassword(AuthError):
    """The password is too weak; `reasons` ⊆ length, characters, pwned."""

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(ErrorCode.WEAK_PASSWORD, message)
        self.reasons = tuple(reasons)


class OAuthError(SocleError):
    """A protocol fault as RFC 6749 §5.2 has it."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(description or error)
        self.error = error
        self.description = description
        self.status = status


def invalid(message: str, status: int = 400) -> AuthError:
    """`validation_failed`, the commonest refusal."""
    return AuthError(ErrorCode.VALIDATION_FAILED, message, status)


def failure(message: str, cause: BaseException | None = None) -> AuthError:
    """`unexpected_failure` (500) with a sentence of ours and the true cause for the log."""
    return AuthError(ErrorCode.UNEXPECTED_FAILURE, message, cause=cause)


def parse_api_version(header: str | None) -> str | None:
    """The version to answer in: CURRENT_API_VERSION from its day on; None (the first version) before it, without the
    header, and for anything that is not a date."""
    if header is None or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", header, re.ASCII):
        return None
    try:
        day = date.fromisoformat(header)
    except ValueError:
        return None
    return CURRENT_API_VERSION if day >= _CURRENT_DATE else None


def as_auth_error(error: Exception) -> AuthError | OAuthError:
    """What an exception means to the caller; anything not ours is a 500 (a lost database: 503, which clients retry)."""
    if isinstance(error, AuthError | OAuthError):
        return error
    if isinstance(error, BodyTooLarge):
        return AuthError(ErrorCode.REQUEST_ENTITY_TOO_LARGE, "Request body too large")
    if isinstance(error, DatabaseUnavailable):
        message = "The database cannot be reached, please try again"
        return AuthError(ErrorCode.UNEXPECTED_FAILURE, message, 503, cause=error)
    return failure("Unexpected failure, please check server logs for more information", error)


def render_error(error: Exception, api_version: str | None, request_id: str = "") -> WireResponse:
    """The error as the version asks for it (§7.1)."""
    shown = as_auth_error(error)
    echo = (("x-supabase-api-version", api_version),) if api_version else ()
    if isinstance(shown, OAuthError):
        body = {"error": shown.error} | ({"error_description": shown.description} if shown.description else {})
        return json_response(shown.status, body, echo)
    if (from_sql := _project_error(shown.cause)) is not None:
        return json_response(from_sql[0], from_sql[1], (*echo, *shown.headers))
    headers = (*echo, *shown.headers, *((("x-sb-error-code", shown.code.value),) if shown.code else ()))
    return json_response(shown.status, _body(shown, api_version, request_id), headers)


def _body(error: AuthError, api_version: str | None, request_id: str) -> dict[str, Any]:
    body: dict[str, Any]
    if api_version:
        body = {"code": error.shown_code, "message": error.message}
    else:
        body = {"code": error.status, "error_code": error.shown_code, "msg": error.message}
        if error.status >= 500 and request_id:
            body["error_id"] = request_id
    if isinstance(error, WeakPassword):
        body["weak_password"] = {"reasons": list(error.reasons)}
    return body


def _project_error(cause: BaseException | None) -> tuple[int, dict[str, Any]] | None:
    """Status and body of an error that the project's own triggers or functions raised, or None.

    A broken constraint of our own tables says nothing: its detail would tell strangers who is registered.
    """
    if not isinstance(cause, DatabaseError):
        return None
    state = cause.sqlstate
    if state == "P0001" or (state.startswith("23") and cause.schema != "auth"):
        status = 500
    elif re.fullmatch(r"PT[1-5]\d\d", state):
        status = int(state[2:])
    else:
        return None
    body = {"code": state, "message": cause.message}
    return status, body | {name: value for name, value in (("hint", cause.hint), ("detail", cause.detail)) if value}
