"""Settings of what auth sends: mail, its templates and its server, and text messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from socle_platform.config.auth_factors import bounded_otp_length

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

MAIL_TEMPLATES = ("invite", "confirmation", "recovery", "magic_link", "email_change", "reauthentication")
NOTIFICATIONS = (
    "password_changed",
    "email_changed",
    "phone_changed",
    "identity_linked",
    "identity_unlinked",
    "mfa_factor_enrolled",
    "mfa_factor_unenrolled",
)


@dataclass(frozen=True, slots=True)
class MailerSettings:
    """Contract §7.6. The mappings are keyed by MAIL_TEMPLATES and `<notification>_notification`; an unset key means
    the built-in one. A template is a URL, a file path, or (in `contents`) the text itself. `language`: of
    built-in mails to users whose metadata have no `locale`."""

    autoconfirm: bool = False
    allow_unverified_sign_ins: bool = False
    secure_email_change: bool = True
    otp_length: int = 6
    otp_expiry: float = 86400.0
    subjects: Mapping[str, str] = field(default_factory=dict[str, str])
    templates: Mapping[str, str] = field(default_factory=dict[str, str])
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    language: str = "en"
    url_paths: Mapping[str, str] = field(default_factory=dict[str, str])
    notifications: frozenset[str] = frozenset()
    external_hosts: tuple[str, ...] = ()
    validate_extended: bool = False
    validation_service_url: str = ""
    validation_service_headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    blocked_mx: tuple[str, ...] = ()
    scanner_guard: bool = False

    def url_path(self, template: str) -> str | None:
        """Where the link of a mail leads, relative to the external URL; None means our own /verify route."""
        return self.url_paths.get(template)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The mail server; an empty host means the built-in inbox. `max_frequency`: seconds between mails to one user."""

    host: str = ""
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    admin_email: str = ""
    sender_name: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    max_frequency: float = 60.0


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """Text messages; `credentials` holds the chosen provider's fields by their lower-case names."""

    autoconfirm: bool = False
    max_frequency: float = 60.0
    otp_expiry: float = 60.0
    otp_length: int = 6
    provider: str = ""
    template: str = "Your code is {{ .Code }}"
    test_otp: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    test_otp_valid_until: datetime | None = None
    credentials: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def test_code(self, phone: str, now: datetime) -> str | None:
        """The fixed code of a test number, while test codes are valid."""
        if self.test_otp_valid_until is not None and now >= self.test_otp_valid_until:
            return None
        return self.test_otp.get(phone)


@dataclass(frozen=True, slots=True)
class InboxSettings:
    """The built-in inbox. `enabled`: mails without a server stay there; `texts`: text messages without a provider too.

    It keeps the newest `most` messages for `age` seconds. `port` shows it besides `/inbox`; 0 does not.
    """

    enabled: bool = False
    texts: bool = False
    most: int = 500
    age: float = 7 * 86400.0
    port: int = 54324


SMS_CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "twilio": ("account_sid", "auth_token", "message_service_sid", "content_sid"),
    "twilio_verify": ("account_sid", "auth_token", "message_service_sid"),
    "messagebird": ("access_key", "originator"),
    "textlocal": ("api_key", "sender"),
    "vonage": ("api_key", "api_secret", "from"),
}


def load_mailer(read: Reader) -> MailerSettings:
    prefix = "GOTRUE_MAILER_"
    names = (*MAIL_TEMPLATES, *(f"{name}_notification" for name in NOTIFICATIONS))

    def by_template(kind: str) -> dict[str, str]:
        found = {name: read.raw(f"{prefix}{kind}_{name.upper()}") for name in names}
        return {name: value for name, value in found.items() if value is not None}

    return MailerSettings(
        autoconfirm=read.boolean(f"{prefix}AUTOCONFIRM"),
        allow_unverified_sign_ins=read.boolean(f"{prefix}ALLOW_UNVERIFIED_EMAIL_SIGN_INS"),
        secure_email_change=read.boolean(f"{prefix}SECURE_EMAIL_CHANGE_ENABLED", default=True),
        otp_length=bounded_otp_length(read.integer(f"{prefix}OTP_LENGTH", default=6)),
        otp_expiry=read.seconds(f"{prefix}OTP_EXP", default=86400.0) or 86400.0,
        subjects=by_template("SUBJECTS"),
        templates=by_template("TEMPLATES"),
        contents=by_template("CONTENTS"),
        language=read.choice("SOCLE_MAILER_LANGUAGE", choices=("en", "fr"), default="en"),
        url_paths=by_template("URLPATHS"),
        notifications=frozenset(
            name for name in NOTIFICATIONS if read.boolean(f"{prefix}NOTIFICATIONS_{name.upper()}_ENABLED")
        ),
        external_hosts=read.csv(f"{prefix}EXTERNAL_HOSTS"),
        validate_extended=read.boolean(f"{prefix}EMAIL_VALIDATION_EXTENDED"),
        validation_service_url=read.text(f"{prefix}EMAIL_VALIDATION_SERVICE_URL"),
        validation_service_headers=_headers(read, f"{prefix}EMAIL_VALIDATION_SERVICE_HEADERS"),
        blocked_mx=tuple(_json_list(read, f"{prefix}EMAIL_VALIDATION_BLOCKED_MX")),
        scanner_guard=read.boolean("SOCLE_MAILER_SCANNER_GUARD"),
    )


def _json(read: Reader, name: str, wanted: str) -> Any:
    text = read.raw(name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        read.problem(f"{name} must be {wanted}")
        return None


def _headers(read: Reader, name: str) -> dict[str, tuple[str, ...]]:
    value = _json(read, name, "a JSON object of header → [values]")
    if value is None:
        return {}
    if not isinstance(value, dict):
        read.problem(f"{name} must be a JSON object of header → [values]")
        return {}
    result = dict[str, tuple[str, ...]]()
    for header, values in cast("dict[str, Any]", value).items():
        parts = cast("list[object]", values) if isinstance(values, list) else [values]
        if not all(isinstance(part, str) and "\n" not in part and "\r" not in part for part in (header, *parts)):
            read.problem(f"{name} has a header that is not plain text: {header!r}")
            continue
        result[header] = tuple(str(part) for part in parts)
    return result


def _json_list(read: Reader, name: str) -> list[str]:
    value = _json(read, name, "a JSON array of host names")
    if value is None:
        return []
    if not isinstance(value, list):
        read.problem(f"{name} must be a JSON array of host names")
        return []
    return [str(item) for item in cast("list[object]", value)]


def load_smtp(read: Reader) -> SmtpSettings:
    prefix = "GOTRUE_SMTP_"
    smtp = SmtpSettings(
        host=read.text(f"{prefix}HOST"),
        port=read.integer(f"{prefix}PORT", default=587, minimum=1, maximum=65535),
        user=read.text(f"{prefix}USER"),
        password=read.secret(f"{prefix}PASS"),
        admin_email=read.text(f"{prefix}ADMIN_EMAIL"),
        sender_name=read.text(f"{prefix}SENDER_NAME"),
        headers=_headers(read, f"{prefix}HEADERS"),
        max_frequency=read.seconds(f"{prefix}MAX_FREQUENCY", default=60.0),
    )
    if smtp.host and not smtp.admin_email:
        read.problem(f"{prefix}ADMIN_EMAIL is needed with {prefix}HOST: it is the sender's address")
    return smtp


def load_inbox(read: Reader) -> InboxSettings:
    prefix = "SOCLE_INBOX_"
    return InboxSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        texts=read.boolean(f"{prefix}TEXTS"),
        most=read.integer(f"{prefix}MESSAGES", default=500, minimum=1, maximum=100_000),
        age=read.seconds(f"{prefix}AGE", default=7 * 86400.0),
        port=read.integer(f"{prefix}PORT", default=54324, minimum=0, maximum=65535),
    )


def load_sms(read: Reader) -> SmsSettings:
    prefix = "GOTRUE_SMS_"
    provider = read.choice(f"{prefix}PROVIDER", choices=tuple(SMS_CREDENTIALS), default="")
    return SmsSettings(
        autoconfirm=read.boolean(f"{prefix}AUTOCONFIRM"),
        max_frequency=read.seconds(f"{prefix}MAX_FREQUENCY", default=60.0),
        otp_expiry=read.seconds(f"{prefix}OTP_EXP", default=60.0) or 60.0,
        otp_length=bounded_otp_length(read.integer(f"{prefix}OTP_LENGTH", default=6)),
        provider=provider,
        template=read.text(f"{prefix}TEMPLATE", default="Your code is {{ .Code }}"),
        test_otp=_load_test_otp(read, f"{prefix}TEST_OTP"),
        test_otp_valid_until=_load_time(read, f"{prefix}TEST_OTP_VALID_UNTIL"),
        credentials={
            name: read.secret(f"{prefix}{provider.upper()}_{name.upper()}")
            for name in SMS_CREDENTIALS.get(provider, ())
        },
    )


def _load_test_otp(read: Reader, name: str) -> dict[str, str]:
    result = dict[str, str]()
    for pair in read.csv(name):
        phone, separator, code = pair.replace("=", ":", 1).partition(":")
        if not separator or not code.strip():
            read.problem(f"{name} must be phone:code pairs, not {pair!r}")
            continue
        result[phone.strip().removeprefix("+").replace(" ", "")] = code.strip()
    return result


def _load_time(read: Reader, name: str) -> datetime | None:
    text = read.raw(name)
    if text is None or not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        read.problem(f"{name} must be an RFC 3339 time, not {text!r}")
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
