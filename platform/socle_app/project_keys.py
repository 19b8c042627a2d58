"""The keys of config.toml (contract cli.md §8) and the environment names that services read for them (auth.md §8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["flag", "number", "text", "list", "any"]


@dataclass(frozen=True, slots=True)
class Key:
    """One key. In `path`, `*` stands for any name; in `name`, for the same name in capitals.

    `name` is the environment name it is passed on as; empty: the project itself uses it. None: not applied yet.
    `opposite` turns a flag round. `default` is what the official template has where a config.toml leaves it out.
    """

    path: str
    kind: Kind
    name: str | None = None
    default: str | None = None
    opposite: bool = False


KEYS: tuple[Key, ...] = (
    Key("project_id", "text", ""),
    # api
    Key("api.enabled", "flag"),
    Key("api.port", "number", "SOCLE_PORT"),
    Key("api.schemas", "list", "PGRST_DB_SCHEMAS"),
    Key("api.extra_search_path", "list", "PGRST_DB_EXTRA_SEARCH_PATH"),
    Key("api.max_rows", "number", "PGRST_DB_MAX_ROWS"),
    Key("api.external_url", "text", "SUPABASE_PUBLIC_URL"),
    Key("api.auto_expose_new_tables", "flag"),
    Key("api.tls.**", "any"),
    # db
    Key("db.port", "number", "SOCLE_DB_PORT"),
    Key("db.shadow_port", "number"),
    Key("db.health_timeout", "text"),
    Key("db.major_version", "number"),
    Key("db.orioledb_version", "text"),
    Key("db.root_key", "text"),
    Key("db.migrations.enabled", "flag", ""),
    Key("db.migrations.schema_paths", "list"),
    Key("db.seed.enabled", "flag", ""),
    Key("db.seed.sql_paths", "list", ""),
    Key("db.pooler.**", "any"),
    Key("db.vault.**", "any"),
    Key("db.settings.**", "any"),
    Key("db.network_restrictions.**", "any"),
    Key("db.ssl_enforcement.**", "any"),
    # realtime, studio, mail
    Key("realtime.**", "any"),
    Key("studio.**", "any"),
    Key("local_smtp.enabled", "flag", "SOCLE_INBOX_ENABLED"),
    Key("local_smtp.port", "number", "SOCLE_INBOX_PORT"),
    Key("local_smtp.admin_email", "text", "GOTRUE_SMTP_ADMIN_EMAIL"),
    Key("local_smtp.sender_name", "text", "GOTRUE_SMTP_SENDER_NAME"),
    Key("local_smtp.**", "any"),
    Key("inbucket.enabled", "flag", "SOCLE_INBOX_ENABLED"),
    Key("inbucket.port", "number", "SOCLE_INBOX_PORT"),
    Key("inbucket.**", "any"),
    # storage
    Key("storage.enabled", "flag"),
    Key("storage.file_size_limit", "text", "FILE_SIZE_LIMIT"),
    Key("storage.s3_protocol.enabled", "flag", "S3_PROTOCOL_ENABLED"),
    Key("storage.image_transformation.enabled", "flag", "ENABLE_IMAGE_TRANSFORMATION"),
    Key("storage.buckets.*.public", "flag", ""),
    Key("storage.buckets.*.file_size_limit", "text", ""),
    Key("storage.buckets.*.allowed_mime_types", "list", ""),
    Key("storage.buckets.*.objects_path", "text", ""),
    Key("storage.analytics.**", "any"),
    Key("storage.vector.**", "any"),
    # auth
    Key("auth.enabled", "flag"),
    Key("auth.site_url", "text", "SITE_URL"),
    Key("auth.external_url", "text", "API_EXTERNAL_URL"),
    Key("auth.additional_redirect_urls", "list", "GOTRUE_URI_ALLOW_LIST", "https://127.0.0.1:3000"),
    Key("auth.jwt_expiry", "number", "JWT_EXPIRY"),
    Key("auth.jwt_issuer", "text", "GOTRUE_JWT_ISSUER"),
    Key("auth.jwt_secret", "text", "JWT_SECRET"),
    Key("auth.anon_key", "text", "ANON_KEY"),
    Key("auth.service_role_key", "text", "SERVICE_ROLE_KEY"),
    Key("auth.publishable_key", "text", "PUBLISHABLE_KEY"),
    Key("auth.secret_key", "text", "SECRET_KEY"),
    Key("auth.signing_keys_path", "text", ""),
    Key("auth.enable_refresh_token_rotation", "flag", "GOTRUE_SECURITY_REFRESH_TOKEN_ROTATION_ENABLED"),
    Key("auth.refresh_token_reuse_interval", "number", "GOTRUE_SECURITY_REFRESH_TOKEN_REUSE_INTERVAL", "10"),
    Key("auth.enable_signup", "flag", "GOTRUE_DISABLE_SIGNUP", opposite=True),
    Key("auth.enable_anonymous_sign_ins", "flag", "GOTRUE_EXTERNAL_ANONYMOUS_USERS_ENABLED"),
    Key("auth.enable_manual_linking", "flag", "GOTRUE_SECURITY_MANUAL_LINKING_ENABLED"),
    Key("auth.minimum_password_length", "number", "GOTRUE_PASSWORD_MIN_LENGTH"),
    Key("auth.password_requirements", "text", ""),
    Key("auth.rate_limit.email_sent", "number", "GOTRUE_RATE_LIMIT_EMAIL_SENT"),
    Key("auth.rate_limit.sms_sent", "number", "GOTRUE_RATE_LIMIT_SMS_SENT"),
    Key("auth.rate_limit.anonymous_users", "number", "GOTRUE_RATE_LIMIT_ANONYMOUS_USERS"),
    Key("auth.rate_limit.token_refresh", "number", "GOTRUE_RATE_LIMIT_TOKEN_REFRESH"),
    Key("auth.rate_limit.sign_in_sign_ups", "number", "GOTRUE_RATE_LIMIT_OTP"),
    Key("auth.rate_limit.token_verifications", "number", "GOTRUE_RATE_LIMIT_VERIFY"),
    Key("auth.rate_limit.web3", "number", "GOTRUE_RATE_LIMIT_WEB3"),
    Key("auth.captcha.enabled", "flag", "GOTRUE_SECURITY_CAPTCHA_ENABLED"),
    Key("auth.captcha.provider", "text", "GOTRUE_SECURITY_CAPTCHA_PROVIDER"),
    Key("auth.captcha.secret", "text", "GOTRUE_SECURITY_CAPTCHA_SECRET"),
    # auth: mail
    Key("auth.email.enable_signup", "flag", "GOTRUE_EXTERNAL_EMAIL_ENABLED"),
    Key("auth.email.enabled", "flag", "GOTRUE_EXTERNAL_EMAIL_ENABLED"),
    Key("auth.email.double_confirm_changes", "flag", "GOTRUE_MAILER_SECURE_EMAIL_CHANGE_ENABLED"),
    Key("auth.email.enable_confirmations", "flag", "GOTRUE_MAILER_AUTOCONFIRM", opposite=True),
    Key("auth.email.secure_password_change", "flag", "GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_REAUTHENTICATION"),
    Key("auth.email.require_current_password", "flag", "GOTRUE_SECURITY_UPDATE_PASSWORD_REQUIRE_CURRENT_PASSWORD"),
    Key("auth.email.max_frequency", "text", "GOTRUE_SMTP_MAX_FREQUENCY", "1s"),
    Key("auth.email.otp_length", "number", "GOTRUE_MAILER_OTP_LENGTH"),
    Key("auth.email.otp_expiry", "number", "GOTRUE_MAILER_OTP_EXP", "3600"),
    Key("auth.email.smtp.enabled", "flag", ""),
    Key("auth.email.smtp.host", "text", "GOTRUE_SMTP_HOST"),
    Key("auth.email.smtp.port", "number", "GOTRUE_SMTP_PORT"),
    Key("auth.email.smtp.user", "text", "GOTRUE_SMTP_USER"),
    Key("auth.email.smtp.pass", "text", "GOTRUE_SMTP_PASS"),
    Key("auth.email.smtp.admin_email", "text", "GOTRUE_SMTP_ADMIN_EMAIL"),
    Key("auth.email.smtp.sender_name", "text", "GOTRUE_SMTP_SENDER_NAME"),
    Key("auth.email.template.*.subject", "text", "GOTRUE_MAILER_SUBJECTS_*"),
    Key("auth.email.template.*.content", "text", "GOTRUE_MAILER_CONTENTS_*"),
    Key("auth.email.template.*.content_path", "text", ""),
    Key("auth.email.notification.*.enabled", "flag", "GOTRUE_MAILER_NOTIFICATIONS_*_ENABLED"),
    Key("auth.email.notification.*.subject", "text", "GOTRUE_MAILER_SUBJECTS_*_NOTIFICATION"),
    Key("auth.email.notification.*.content", "text", "GOTRUE_MAILER_CONTENTS_*_NOTIFICATION"),
    Key("auth.email.notification.*.content_path", "text", ""),
    # auth: text messages
    Key("auth.sms.enable_signup", "flag", "GOTRUE_EXTERNAL_PHONE_ENABLED"),
    Key("auth.sms.enabled", "flag", "GOTRUE_EXTERNAL_PHONE_ENABLED"),
    Key("auth.sms.enable_confirmations", "flag", "GOTRUE_SMS_AUTOCONFIRM", "true", opposite=True),
    Key("auth.sms.template", "text", "GOTRUE_SMS_TEMPLATE"),
    Key("auth.sms.max_frequency", "text", "GOTRUE_SMS_MAX_FREQUENCY", "5s"),
    Key("auth.sms.test_otp.*", "text", ""),
    Key("auth.sms.*.enabled", "flag", ""),
    Key("auth.sms.*.*", "text", ""),
    # auth: sessions, hooks, factors
    Key("auth.sessions.timebox", "text", "GOTRUE_SESSIONS_TIMEBOX"),
    Key("auth.sessions.inactivity_timeout", "text", "GOTRUE_SESSIONS_INACTIVITY_TIMEOUT"),
    Key("auth.hook.*.enabled", "flag", "GOTRUE_HOOK_*_ENABLED"),
    Key("auth.hook.*.uri", "text", "GOTRUE_HOOK_*_URI"),
    Key("auth.hook.*.secrets", "text", "GOTRUE_HOOK_*_SECRETS"),
    Key("auth.mfa.max_enrolled_factors", "number", "GOTRUE_MFA_MAX_ENROLLED_FACTORS"),
    Key("auth.mfa.totp.enroll_enabled", "flag", "GOTRUE_MFA_TOTP_ENROLL_ENABLED", "false"),
    Key("auth.mfa.totp.verify_enabled", "flag", "GOTRUE_MFA_TOTP_VERIFY_ENABLED", "false"),
    Key("auth.mfa.phone.enroll_enabled", "flag", "GOTRUE_MFA_PHONE_ENROLL_ENABLED"),
    Key("auth.mfa.phone.verify_enabled", "flag", "GOTRUE_MFA_PHONE_VERIFY_ENABLED"),
    Key("auth.mfa.phone.otp_length", "number", "GOTRUE_MFA_PHONE_OTP_LENGTH"),
    Key("auth.mfa.phone.template", "text", "GOTRUE_MFA_PHONE_TEMPLATE"),
    Key("auth.mfa.phone.max_frequency", "text", "GOTRUE_MFA_PHONE_MAX_FREQUENCY", "5s"),
    Key("auth.mfa.web_authn.enroll_enabled", "flag", "GOTRUE_MFA_WEB_AUTHN_ENROLL_ENABLED"),
    Key("auth.mfa.web_authn.verify_enabled", "flag", "GOTRUE_MFA_WEB_AUTHN_VERIFY_ENABLED"),
    Key("auth.passkey.enabled", "flag", "GOTRUE_PASSKEY_ENABLED"),
    Key("auth.webauthn.rp_id", "text", "GOTRUE_WEBAUTHN_RP_ID"),
    Key("auth.webauthn.rp_display_name", "text", "GOTRUE_WEBAUTHN_RP_DISPLAY_NAME"),
    Key("auth.webauthn.rp_origins", "list", "GOTRUE_WEBAUTHN_RP_ORIGINS"),
    # auth: other people's sign-ins
    Key("auth.external.*.enabled", "flag", "GOTRUE_EXTERNAL_*_ENABLED"),
    Key("auth.external.*.client_id", "text", "GOTRUE_EXTERNAL_*_CLIENT_ID"),
    Key("auth.external.*.secret", "text", "GOTRUE_EXTERNAL_*_SECRET"),
    Key("auth.external.*.redirect_uri", "text", "GOTRUE_EXTERNAL_*_REDIRECT_URI"),
    Key("auth.external.*.url", "text", "GOTRUE_EXTERNAL_*_URL"),
    Key("auth.external.*.skip_nonce_check", "flag", "GOTRUE_EXTERNAL_*_SKIP_NONCE_CHECK"),
    Key("auth.external.*.email_optional", "flag", "GOTRUE_EXTERNAL_*_EMAIL_OPTIONAL"),
    Key("auth.web3.*.enabled", "flag", "GOTRUE_EXTERNAL_WEB3_*_ENABLED"),
    Key("auth.oauth_server.enabled", "flag", "GOTRUE_OAUTH_SERVER_ENABLED"),
    Key("auth.oauth_server.authorization_url_path", "text", "GOTRUE_OAUTH_SERVER_AUTHORIZATION_PATH"),
    Key("auth.oauth_server.allow_dynamic_registration", "flag", "GOTRUE_OAUTH_SERVER_ALLOW_DYNAMIC_REGISTRATION"),
    Key("auth.third_party.*.*", "any"),
    # functions
    Key("edge_runtime.enabled", "flag"),
    Key("edge_runtime.policy", "text"),
    Key("edge_runtime.inspector_port", "number"),
    Key("edge_runtime.deno_version", "number"),
    Key("edge_runtime.secrets.*", "text", ""),
    Key("functions.*.enabled", "flag", ""),
    Key("functions.*.verify_jwt", "flag", ""),
    Key("functions.*.import_map", "text", ""),
    Key("functions.*.entrypoint", "text", ""),
    Key("functions.*.static_files", "list", ""),
    Key("functions.*.env.*", "text", ""),
    # the rest
    Key("analytics.**", "any"),
    Key("experimental.**", "any"),
    Key("remotes.**", "any"),
)
"""Every known key; the first whose path fits counts."""

WITHOUT_EFFECT: tuple[tuple[str, str, str], ...] = (
    ("api.enabled", "true", "the table API always runs"),
    ("api.auto_expose_new_tables", "true", "new tables in public are granted to anon, authenticated and service_role"),
    ("api.tls.enabled", "false", "put a proxy that speaks TLS in front"),
    ("db.migrations.schema_paths", "", "declared schemas are not read"),
    ("db.pooler.enabled", "false", "there is no pooler"),
    ("db.network_restrictions.enabled", "false", "the embedded PostgreSQL listens on 127.0.0.1 only"),
    ("db.ssl_enforcement.enabled", "false", "the embedded PostgreSQL has no TLS"),
    ("db.settings.*", "", "set it with ALTER DATABASE in a migration"),
    ("db.vault.*", "", "there is no vault"),
    ("local_smtp.smtp_port", "", "mails come to the inbox from the auth service only"),
    ("local_smtp.pop3_port", "", "the inbox is read over HTTP"),
    ("inbucket.smtp_port", "", "mails come to the inbox from the auth service only"),
    ("inbucket.pop3_port", "", "the inbox is read over HTTP"),
    ("storage.enabled", "true", "storage always runs"),
    ("storage.analytics.enabled", "false", "analytics buckets are not served"),
    ("storage.vector.enabled", "false", "vector buckets are not served"),
    ("auth.enabled", "true", "sign-in always runs"),
    ("auth.third_party.*.enabled", "false", "tokens of other issuers are not accepted"),
)
"""Keys that nothing listens to, with the value that asks for nothing ("" for none) and what holds instead."""

PASSWORD_REQUIREMENTS = {
    "letters_digits": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789",
    "lower_upper_letters_digits": "abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789",
    "lower_upper_letters_digits_symbols": (
        "abcdefghijklmnopqrstuvwxyz:ABCDEFGHIJKLMNOPQRSTUVWXYZ:0123456789:!@#$%^&*()_+-=[]{};'\\\\:\"|<>?,./`~"
    ),
}
"""Values of auth.password_requirements: character sets joined with colons, of which each password has one of each."""


def find_key(path: tuple[str, ...]) -> Key | None:
    """The key that a path is an instance of, or None for an unknown one."""
    return next((key for key in KEYS if _fits(key.path.split("."), path)), None)


def without_effect(path: tuple[str, ...], value: str) -> str | None:
    """What holds whatever the key says; None where it asks for nothing else."""
    for pattern, harmless, instead in WITHOUT_EFFECT:
        if _fits(pattern.split("."), path):
            return instead if value.lower() != harmless else None
    return None


def _fits(pattern: list[str], path: tuple[str, ...]) -> bool:
    if pattern[-1] == "**":
        return len(path) >= len(pattern) - 1 and _fits_exactly(pattern[:-1], path[: len(pattern) - 1])
    return len(pattern) == len(path) and _fits_exactly(pattern, path)


def _fits_exactly(pattern: list[str], path: tuple[str, ...]) -> bool:
    return all(wanted in ("*", part) for wanted, part in zip(pattern, path, strict=True))
