"""Settings of the auth service from its environment names (contracts/auth.md §8, §12.55)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from socle_platform.config.auth import AuthSettings, Rate, load_auth, parse_rate, parse_required_characters
from socle_platform.config.reader import ConfigError, Reader


def load(**environ: str) -> AuthSettings:
    read = Reader({f"GOTRUE_{name}": value for name, value in environ.items()})
    settings = load_auth(read)
    read.finish()
    return settings


def problems(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    return "\n".join(caught.value.problems)


def test_nothing_set_is_a_working_service() -> None:
    settings = load()
    assert settings.jwt.admin_roles == ("service_role", "supabase_admin")
    assert (settings.jwt.expiry, settings.jwt.audience, settings.jwt.default_role) == (
        3600,
        "authenticated",
        "authenticated",
    )
    assert settings.external.email_enabled
    assert not settings.external.phone_enabled
    assert settings.security.refresh_token_rotation
    assert settings.security.refresh_token_reuse_interval == 10.0
    assert settings.mfa.totp.enroll_enabled
    assert not settings.mfa.phone.enroll_enabled
    assert settings.mailer.secure_email_change
    assert settings.rates.email_sent == Rate(30)
    assert settings.custom_oauth.enabled


def test_both_names_of_the_public_addresses() -> None:
    read = Reader({"SITE_URL": "https://a.example", "API_EXTERNAL_URL": "https://a.example/auth/v1/"})
    settings = load_auth(read)
    assert (settings.site_url, settings.external_url) == ("https://a.example", "https://a.example/auth/v1")
    assert "SITE_URL" in problems(SITE_URL="example.com")


def test_lengths_and_durations_have_floors() -> None:
    settings = load(
        PASSWORD_MIN_LENGTH="3",
        MAILER_OTP_LENGTH="4",
        SMS_OTP_LENGTH="11",
        MFA_PHONE_OTP_LENGTH="0",
        MFA_CHALLENGE_EXPIRY_DURATION="10",
        MFA_FACTOR_EXPIRY_DURATION="1s",
        EXTERNAL_FLOW_STATE_EXPIRY_DURATION="5s",
        MAILER_OTP_EXP="0",
        SMS_OTP_EXP="0",
    )
    assert settings.password.min_length == 6
    assert (settings.mailer.otp_length, settings.sms.otp_length, settings.mfa.phone.otp_length) == (6, 6, 6)
    assert (settings.mfa.challenge_expiry, settings.mfa.factor_expiry) == (300, 300)
    assert settings.external.flow_state_expiry == 300
    assert (settings.mailer.otp_expiry, settings.sms.otp_expiry) == (86400, 60)
    assert load(MAILER_OTP_LENGTH="8", PASSWORD_MIN_LENGTH="12").password.min_length == 12


def test_go_durations_are_read() -> None:
    settings = load(SMTP_MAX_FREQUENCY="1m30s", SMS_MAX_FREQUENCY="500ms", SESSIONS_TIMEBOX="24h")
    assert (settings.smtp.max_frequency, settings.sms.max_frequency, settings.sessions.timebox) == (90, 0.5, 86400)
    assert settings.sessions.inactivity_timeout is None
    assert "SESSIONS_TIMEBOX" in problems(SESSIONS_TIMEBOX="0s")
    assert "SMTP_MAX_FREQUENCY" in problems(SMTP_MAX_FREQUENCY="soon")


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("", ()),
        ("abc", ("abc",)),
        ("abc:ABC", ("abc", "ABC")),
        (r"a\:b:c", ("a:b", "c")),
        ("::a", ("a",)),
        (r"\:", (":",)),
    ],
)
def test_character_sets_with_escaped_colons(text: str, sets: tuple[str, ...]) -> None:
    assert parse_required_characters(text) == sets


def test_rates() -> None:
    assert parse_rate("30") == Rate(30)
    assert parse_rate("0.5") == Rate(0.5)
    assert parse_rate("10/1h30m") == Rate(10, 5400, burst=True)
    for text in ("", "x", "10/", "/1h", "1.5/1h", "10/0s", "-1/1h"):
        with pytest.raises(ValueError, match=r".*"):
            parse_rate(text)
    assert load(RATE_LIMIT_EMAIL_SENT="360000", RATE_LIMIT_SMS_SENT="5/1m").rates.sms_sent == Rate(5, 60, burst=True)
    assert "RATE_LIMIT_EMAIL_SENT" in problems(RATE_LIMIT_EMAIL_SENT="many")


def test_the_allow_list_keeps_commas_inside_braces() -> None:
    settings = load(URI_ALLOW_LIST="https://{a,b}.example.com/**, com.app://login,")
    assert settings.uri_allow_list == ("https://{a,b}.example.com/**", "com.app://login")


def test_providers() -> None:
    settings = load(
        EXTERNAL_GOOGLE_ENABLED="true",
        EXTERNAL_GOOGLE_CLIENT_ID="one, two",
        EXTERNAL_GOOGLE_SECRET="hush",
        EXTERNAL_LINKEDIN_OIDC_ENABLED="true",
        EXTERNAL_KEYCLOAK_URL="https://k.example/realms/x/",
        EXTERNAL_IOS_BUNDLE_ID="com.app",
        EXTERNAL_WEB3_SOLANA_ENABLED="true",
        EXTERNAL_WEB3_SOLANA_MAXIMUM_VALIDITY_DURATION="5m",
    )
    google = settings.provider("google")
    assert (google.enabled, google.client_ids, google.secret) == (True, ("one", "two"), "hush")
    assert settings.provider("linkedin_oidc").enabled
    assert settings.provider("keycloak").url == "https://k.example/realms/x"
    assert not settings.provider("nobody").enabled
    assert settings.external.web3.solana_validity == 300
    assert "hush" not in repr(settings)


HOOK = "HOOK_CUSTOM_ACCESS_TOKEN_"


@pytest.mark.parametrize(
    ("uri", "secrets", "good"),
    [
        ("pg-functions://postgres/public/my_hook", "", True),
        ("pg-functions://postgres/public/my-hook", "", False),
        ("pg-functions://postgres/public", "", False),
        ("pg-functions://postgres/pub lic/x", "", False),
        ("pg-functions://postgres/public/" + "x" * 64, "", False),
        ("https://example.com/hook", "v1,whsec_" + "A" * 32, True),
        ("https://example.com/hook", "v1,whsec_" + "A" * 32 + "|v1,whsec_" + "B" * 44, True),
        ("https://example.com/hook", "v1a,whpk_" + "A" * 44 + ":whsk_" + "A" * 44, True),
        ("https://example.com/hook", "plain secret", False),
        ("https://example.com/hook", "v1,whsec_short", False),
        ("http://localhost:9000/hook", "", True),
        ("http://host.docker.internal/hook", "", True),
        ("http://[::1]/hook", "", True),
        ("http://example.com/hook", "", False),
        ("ftp://example.com/hook", "", False),
        ("", "", False),
    ],
)
def test_hooks(uri: str, secrets: str, good: bool) -> None:
    environ = {f"{HOOK}ENABLED": "true", f"{HOOK}URI": uri, f"{HOOK}SECRETS": secrets}
    if good:
        hook = load(**environ).hook("custom_access_token")
        assert (hook.enabled, hook.uri) == (True, uri)
        assert "whsec" not in repr(hook)
    else:
        assert "HOOK_CUSTOM_ACCESS_TOKEN_URI" in problems(**environ)
    assert not load().hook("send_email").enabled


def test_test_codes_and_their_end() -> None:
    settings = load(SMS_TEST_OTP="+1 555 010:123456, 49170=654321", SMS_TEST_OTP_VALID_UNTIL="2030-01-02T03:04:05Z")
    assert settings.sms.test_otp == {"1555010": "123456", "49170": "654321"}
    end = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert settings.sms.test_code("49170", end.replace(year=2029)) == "654321"
    assert settings.sms.test_code("49170", end) is None
    assert "SMS_TEST_OTP" in problems(SMS_TEST_OTP="1234")
    assert "VALID_UNTIL" in problems(SMS_TEST_OTP_VALID_UNTIL="tomorrow")


def test_mail_templates_subjects_and_headers() -> None:
    settings = load(
        MAILER_TEMPLATES_MAGIC_LINK="https://x/t.html",
        MAILER_SUBJECTS_INVITE="Come in",
        MAILER_URLPATHS_RECOVERY="/auth/v1/verify",
        MAILER_NOTIFICATIONS_PASSWORD_CHANGED_ENABLED="true",
        SMTP_HOST="mail.example",
        SMTP_ADMIN_EMAIL="admin@example.com",
        SMTP_PASS="hush",
        SMTP_HEADERS='{"X-Tag": ["a", "b"]}',
    )
    assert settings.mailer.templates == {"magic_link": "https://x/t.html"}
    assert settings.mailer.subjects == {"invite": "Come in"}
    assert settings.mailer.url_path("recovery") == "/auth/v1/verify"
    assert settings.mailer.url_path("invite") is None
    assert settings.mailer.notifications == {"password_changed"}
    assert settings.smtp.headers == {"X-Tag": ("a", "b")}
    assert "hush" not in repr(settings)
    assert "SMTP_HEADERS" in problems(SMTP_HEADERS='{"X": ["a\\nBcc: b"]}')
    assert "SMTP_HEADERS" in problems(SMTP_HEADERS="[]")
    assert "SMTP_HEADERS" in problems(SMTP_HEADERS="{")
    assert "SMTP_ADMIN_EMAIL" in problems(SMTP_HOST="mail.example")


def test_encryption_keys() -> None:
    key = base64.urlsafe_b64encode(b"k" * 32).rstrip(b"=").decode()
    names = "SECURITY_DB_ENCRYPTION_"
    environ = {
        f"{names}ENCRYPT": "true",
        f"{names}ENCRYPTION_KEY_ID": "one",
        f"{names}ENCRYPTION_KEY": key,
        f"{names}DECRYPTION_KEYS": f"one:{key}",
    }
    assert load(**environ).security.encryption.decryption_keys == {"one": key}
    assert key not in repr(load(**environ))
    assert "ENCRYPTION_KEY" in problems(**{**environ, f"{names}DECRYPTION_KEYS": f"two:{key}"})
    assert "256-bit" in problems(**{**environ, f"{names}DECRYPTION_KEYS": f"one:{key},two:AAAA"})
    assert "id:key" in problems(**{**environ, f"{names}DECRYPTION_KEYS": "nonsense"})


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MAILER_AUTOCONFIRM": "true", "MAILER_ALLOW_UNVERIFIED_EMAIL_SIGN_INS": "true"}, "exclude each other"),
        ({"SECURITY_CAPTCHA_ENABLED": "true"}, "CAPTCHA_SECRET"),
        ({"SECURITY_CAPTCHA_PROVIDER": "other"}, "CAPTCHA_PROVIDER"),
        ({"SAML_ENABLED": "true"}, "SAML_PRIVATE_KEY"),
        ({"SMS_PROVIDER": "pigeon"}, "SMS_PROVIDER"),
        ({"SECURITY_REFRESH_TOKEN_ALGORITHM_VERSION": "3"}, "ALGORITHM_VERSION"),
        ({"SECURITY_REFRESH_TOKEN_UPGRADE_PERCENTAGE": "101"}, "UPGRADE_PERCENTAGE"),
        ({"JWT_EXP": "604801"}, "JWT_EXP"),
        ({"DISABLE_SIGNUP": "maybe"}, "DISABLE_SIGNUP"),
        ({"EXPERIMENTAL_PROVIDER_LINKING_DOMAINS": "google"}, "LINKING_DOMAINS"),
    ],
)
def test_what_is_refused_is_named(environ: dict[str, str], named: str) -> None:
    assert named in problems(**environ)


def test_every_problem_is_listed_at_once() -> None:
    text = problems(JWT_EXP="x", SMS_PROVIDER="pigeon", DISABLE_SIGNUP="maybe")
    assert all(name in text for name in ("JWT_EXP", "SMS_PROVIDER", "DISABLE_SIGNUP"))


def test_linking_domains() -> None:
    settings = load(
        EXPERIMENTAL_PROVIDERS_WITH_OWN_LINKING_DOMAIN="github", EXPERIMENTAL_PROVIDER_LINKING_DOMAINS="google=corp"
    )
    assert settings.experimental.linking_domains == {"github": "github", "google": "corp"}


def test_declared_custom_providers() -> None:
    read = Reader({"SOCLE_AUTH_CUSTOM_PROVIDERS": '[{"identifier": "custom:x"}]'})
    assert load_auth(read).custom_oauth.declared == ({"identifier": "custom:x"},)
    for text in ("{", "{}", "[1]"):
        read = Reader({"SOCLE_AUTH_CUSTOM_PROVIDERS": text})
        load_auth(read)
        assert read.problems
