"""Settings of the auth service, by upstream's environment names (contracts/auth.md §8).

Times are seconds. `load_auth` reads everything once; a part of the service gets the nested value it needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_platform.config.auth_external import (
    CustomOAuthSettings,
    OAuthServerSettings,
    ProviderSettings,
    SamlSettings,
    Web3Settings,
    load_custom_oauth,
    load_oauth_server,
    load_providers,
    load_saml,
    load_web3,
)
from socle_platform.config.auth_factors import (
    MfaSettings,
    PasskeySettings,
    WebAuthnSettings,
    load_mfa,
    load_passkey,
    load_webauthn,
)
from socle_platform.config.auth_messages import (
    InboxSettings,
    MailerSettings,
    SmsSettings,
    SmtpSettings,
    load_inbox,
    load_mailer,
    load_sms,
    load_smtp,
)

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

HOOK_NAMES = (
    "custom_access_token",
    "before_user_created",
    "after_user_created",
    "send_email",
    "send_sms",
    "mfa_verification_attempt",
    "password_verification_attempt",
)
_HOOK_SECRET = re.compile(r"v1,whsec_[A-Za-z0-9+/=]{32,88}|v1a,whpk_[A-Za-z0-9+/=]{44,}:whsk_[A-Za-z0-9+/=]{44,}")
_SQL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,62}")
_LOCAL_HOOK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1", "host.docker.internal"})
_MINIMUM_PASSWORD = 6
_MINIMUM_FLOW = 300.0


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Claims of access tokens; the keys themselves belong to the keyring."""

    expiry: int = 3600
    issuer: str = ""
    audience: str = "authenticated"
    default_role: str = "authenticated"
    admin_roles: tuple[str, ...] = ("service_role", "supabase_admin")


@dataclass(frozen=True, slots=True)
class Argon2Settings:
    """Cost of new password hashes (OWASP: 19 MiB, 2 passes, 1 lane) and how many run at once."""

    memory_kib: int = 19456
    passes: int = 2
    lanes: int = 1
    workers: int = 0  # 0: one per processor


@dataclass(frozen=True, slots=True)
class HibpSettings:
    """Look-up of leaked passwords. `file` (sorted SHA-1 lines of the public list) is asked instead of the network."""

    enabled: bool = False
    fail_closed: bool = False
    user_agent: str = "socle"
    file: str = ""


@dataclass(frozen=True, slots=True)
class PasswordSettings:
    min_length: int = _MINIMUM_PASSWORD
    required_characters: tuple[str, ...] = ()
    hibp: HibpSettings = HibpSettings()
    argon2: Argon2Settings = Argon2Settings()


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits of sessions in seconds; None means no limit."""

    timebox: float | None = None
    inactivity_timeout: float | None = None
    allow_low_aal: float | None = None
    single_per_user: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptchaSettings:
    enabled: bool = False
    provider: str = "hcaptcha"
    secret: str = field(default="", repr=False)
    timeout: float = 10.0
    verify_url: str = ""  # empty: the provider's own


@dataclass(frozen=True, slots=True)
class EncryptionSettings:
    """Optional encryption of secrets in rows (contracts/auth.md §5.4): key id → 32-byte key, base64url."""

    encrypt: bool = False
    key_id: str = ""
    key: str = field(default="", repr=False)
    decryption_keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    refresh_token_version: int = 1
    refresh_token_upgrade_percentage: int = 0
    refresh_token_rotation: bool = True
    refresh_token_reuse_interval: float = 10.0
    refresh_token_allow_reuse: bool = False
    password_change_needs_reauthentication: bool = False
    password_change_needs_current: bool = False
    manual_linking: bool = False
    sb_forwarded_for: bool = False
    captcha: CaptchaSettings = CaptchaSettings()
    encryption: EncryptionSettings = field(default_factory=EncryptionSettings)


@dataclass(frozen=True, slots=True)
class Rate:
    """`events` per `seconds`. A plain number is per hour and starts full again each hour; `n/duration` is a bucket of
    n that gains one token per duration (`burst`)."""

    events: float
    seconds: float = 3600.0
    burst: bool = False


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """Contract §7.3. `header` names the header whose first part is the caller; empty means the socket's address."""

    header: str = ""
    token_refresh: float = 150
    otp: float = 30
    verify: float = 30
    anonymous_users: float = 30
    sso: float = 30
    saml_assertion: float = 15
    web3: float = 30
    passkey: float = 30
    client_registration: float = 10
    mfa: float = 15
    email_sent: Rate = Rate(30)
    sms_sent: Rate = Rate(30)


@dataclass(frozen=True, slots=True)
class ExternalSettings:
    """Ways to sign in: the built-in ones, and third-party providers by their lower-case names."""

    email_enabled: bool = True
    email_authorized_addresses: tuple[str, ...] = ()
    magic_link_enabled: bool = True
    phone_enabled: bool = False
    anonymous_enabled: bool = False
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict[str, ProviderSettings])
    ios_bundle_id: str = ""
    allowed_id_token_issuers: tuple[str, ...] = ("https://appleid.apple.com", "https://accounts.google.com")
    flow_state_expiry: float = _MINIMUM_FLOW
    oidc_cache: float = 3600.0
    web3: Web3Settings = field(default_factory=Web3Settings)


@dataclass(frozen=True, slots=True)
class HookSettings:
    """One hook: `pg-functions://…`, `https://…` or local `http://…`; several secrets may be valid at once."""

    enabled: bool = False
    uri: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ExperimentalSettings:
    linking_domains: Mapping[str, str] = field(default_factory=dict[str, str])
    cursor_pagination: bool = False
    email_identity_on_password: bool = False


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Everything the auth service can be told."""

    site_url: str = "http://127.0.0.1:3000"
    uri_allow_list: tuple[str, ...] = ()
    external_url: str = "http://127.0.0.1:54321/auth/v1"
    max_request_seconds: float = 10.0
    disable_signup: bool = False
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    allow_private_urls: bool = False
    allowed_private_hosts: tuple[str, ...] = ()
    audit_in_database: bool = True
    cleanup_enabled: bool = True
    jwt: JwtSettings = JwtSettings()
    password: PasswordSettings = PasswordSettings()
    sessions: SessionSettings = SessionSettings()
    security: SecuritySettings = field(default_factory=SecuritySettings)
    rates: RateLimitSettings = RateLimitSettings()
    external: ExternalSettings = field(default_factory=ExternalSettings)
    mailer: MailerSettings = field(default_factory=MailerSettings)
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    sms: SmsSettings = field(default_factory=SmsSettings)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    mfa: MfaSettings = field(default_factory=MfaSettings)
    webauthn: WebAuthnSettings = field(default_factory=WebAuthnSettings)
    passkey: PasskeySettings = field(default_factory=PasskeySettings)
    oauth_server: OAuthServerSettings = field(default_factory=OAuthServerSettings)
    custom_oauth: CustomOAuthSettings = field(default_factory=CustomOAuthSettings)
    saml: SamlSettings = field(default_factory=SamlSettings)
    hooks: Mapping[str, HookSettings] = field(default_factory=dict[str, HookSettings])
    hook_modules: tuple[str, ...] = ()
    experimental: ExperimentalSettings = field(default_factory=ExperimentalSettings)

    def hook(self, name: str) -> HookSettings:
        """Settings of one of HOOK_NAMES; an unset one is off."""
        return self.hooks.get(name, HookSettings())

    def provider(self, name: str) -> ProviderSettings:
        """Settings of a third-party provider; an unset one is off."""
        return self.external.providers.get(name, ProviderSettings())


def parse_required_characters(text: str) -> tuple[str, ...]:
    r"""Character sets separated by `:`; `\:` is a colon inside a set."""
    sets = re.split(r"(?<!\\):", text)
    return tuple(part.replace("\\:", ":") for part in sets if part)


def parse_rate(text: str) -> Rate:
    """`30` or `10/1h`. Raises ValueError."""
    from socle_platform.config.reader import parse_duration

    events, slash, duration = text.partition("/")
    if not slash:
        return Rate(float(events))
    seconds = parse_duration(duration)
    if not re.fullmatch(r"\d{1,15}", events) or seconds <= 0:
        raise ValueError(f"not a rate: {text!r}")
    return Rate(float(events), seconds, burst=True)


def load_auth(read: Reader) -> AuthSettings:
    """Reads every setting of the service; problems are gathered in `read`."""
    site_url = read.text("GOTRUE_SITE_URL", "SITE_URL", default="http://127.0.0.1:3000").rstrip()
    external_url = read.text("API_EXTERNAL_URL", "GOTRUE_API_EXTERNAL_URL", default="http://127.0.0.1:54321/auth/v1")
    for name, url in (("GOTRUE_SITE_URL", site_url), ("API_EXTERNAL_URL", external_url)):
        if not urlsplit(url).scheme:
            read.problem(f"{name} must be a whole URL, not {url!r}")
    mailer = load_mailer(read)
    if mailer.autoconfirm and mailer.allow_unverified_sign_ins:
        read.problem("GOTRUE_MAILER_AUTOCONFIRM and GOTRUE_MAILER_ALLOW_UNVERIFIED_EMAIL_SIGN_INS exclude each other")
    return AuthSettings(
        site_url=site_url,
        uri_allow_list=_split_allow_list(read.text("GOTRUE_URI_ALLOW_LIST")),
        external_url=external_url.rstrip("/"),
        max_request_seconds=read.seconds("GOTRUE_API_MAX_REQUEST_DURATION", default=10.0),
        disable_signup=read.boolean("GOTRUE_DISABLE_SIGNUP"),
        trusted_proxies=read.csv("SOCLE_TRUSTED_PROXIES", default=("127.0.0.0/8", "::1/128")),
        allow_private_urls=read.boolean("SOCLE_ALLOW_PRIVATE_URLS"),
        allowed_private_hosts=read.csv("SOCLE_ALLOWED_PRIVATE_HOSTS"),
        audit_in_database=not read.boolean("GOTRUE_AUDIT_LOG_DISABLE_POSTGRES"),
        cleanup_enabled=read.boolean("GOTRUE_DB_CLEANUP_ENABLED", default=True),
        jwt=_load_jwt(read),
        password=_load_password(read),
        sessions=_load_sessions(read),
        security=_load_security(read),
        rates=_load_rates(read),
        external=_load_external(read),
        mailer=mailer,
        smtp=load_smtp(read),
        sms=load_sms(read),
        inbox=load_inbox(read),
        mfa=load_mfa(read),
        webauthn=load_webauthn(read),
        passkey=load_passkey(read),
        oauth_server=load_oauth_server(read),
        custom_oauth=load_custom_oauth(read),
        saml=load_saml(read),
        hooks=MappingProxyType({name: _load_hook(read, name) for name in HOOK_NAMES}),
        hook_modules=read.csv("SOCLE_HOOK_MODULES"),
        experimental=_load_experimental(read),
    )


def _split_allow_list(text: str) -> tuple[str, ...]:
    """Entries separated by commas; a comma inside `{a,b}` belongs to its entry."""
    entries, depth, current = list[str](), 0, ""
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth <= 0:
            entries.append(current)
            current = ""
        else:
            current += character
    return tuple(entry.strip() for entry in (*entries, current) if entry.strip())


def _load_jwt(read: Reader) -> JwtSettings:
    return JwtSettings(
        expiry=read.integer("GOTRUE_JWT_EXP", "JWT_EXPIRY", default=3600, minimum=1, maximum=604800),
        issuer=read.text("GOTRUE_JWT_ISSUER"),
        audience=read.text("GOTRUE_JWT_AUD", default="authenticated"),
        default_role=read.text("GOTRUE_JWT_DEFAULT_GROUP_NAME", default="authenticated"),
        admin_roles=read.csv("GOTRUE_JWT_ADMIN_ROLES", default=("service_role", "supabase_admin")),
    )


def _load_password(read: Reader) -> PasswordSettings:
    return PasswordSettings(
        min_length=max(_MINIMUM_PASSWORD, read.integer("GOTRUE_PASSWORD_MIN_LENGTH", default=_MINIMUM_PASSWORD)),
        required_characters=parse_required_characters(read.text("GOTRUE_PASSWORD_REQUIRED_CHARACTERS")),
        hibp=HibpSettings(
            enabled=read.boolean("GOTRUE_PASSWORD_HIBP_ENABLED"),
            fail_closed=read.boolean("GOTRUE_PASSWORD_HIBP_FAIL_CLOSED"),
            user_agent=read.text("GOTRUE_PASSWORD_HIBP_USER_AGENT", default="socle"),
            file=read.text("SOCLE_PASSWORD_HIBP_FILE"),
        ),
        argon2=Argon2Settings(
            memory_kib=read.integer("SOCLE_PASSWORD_HASH_MEMORY_KIB", default=19456, minimum=8, maximum=1048576),
            passes=read.integer("SOCLE_PASSWORD_HASH_PASSES", default=2, minimum=1, maximum=20),
            lanes=read.integer("SOCLE_PASSWORD_HASH_LANES", default=1, minimum=1, maximum=16),
            workers=read.integer("SOCLE_PASSWORD_HASH_WORKERS", default=0, minimum=0, maximum=256),
        ),
    )


def _positive(read: Reader, name: str) -> float | None:
    if read.raw(name) is None:
        return None
    seconds = read.seconds(name, default=1.0)
    if seconds <= 0:
        read.problem(f"{name} must be longer than zero")
        return None
    return seconds


def _load_sessions(read: Reader) -> SessionSettings:
    return SessionSettings(
        timebox=_positive(read, "GOTRUE_SESSIONS_TIMEBOX"),
        inactivity_timeout=_positive(read, "GOTRUE_SESSIONS_INACTIVITY_TIMEOUT"),
        allow_low_aal=_positive(read, "GOTRUE_SESSIONS_ALLOW_LOW_AAL"),
        single_per_user=read.boolean("GOTRUE_SESSIONS_SINGLE_PER_USER"),
        tags=read.csv("GOTRUE_SESSIONS_TAGS"),
    )


def _load_security(read: Reader) -> SecuritySettings:
    prefix = "GOTRUE_SECURITY_"
    return SecuritySettings(
        refresh_token_version=read.integer(f"{prefix}REFRESH_TOKEN_ALGORITHM_VERSION", default=1, minimum=0, maximum=2),
        refresh_token_upgrade_percentage=read.integer(
            f"{prefix}REFRESH_TOKEN_UPGRADE_PERCENTAGE", default=0, minimum=0, maximum=100
        ),
        refresh_token_rotation=read.boolean(f"{prefix}REFRESH_TOKEN_ROTATION_ENABLED", default=True),
        refresh_token_reuse_interval=read.seconds(f"{prefix}REFRESH_TOKEN_REUSE_INTERVAL", default=10.0),
        refresh_token_allow_reuse=read.boolean(f"{prefix}REFRESH_TOKEN_ALLOW_REUSE"),
        password_change_needs_reauthentication=read.boolean(f"{prefix}UPDATE_PASSWORD_REQUIRE_REAUTHENTICATION"),
        password_change_needs_current=read.boolean(f"{prefix}UPDATE_PASSWORD_REQUIRE_CURRENT_PASSWORD"),
        manual_linking=read.boolean(f"{prefix}MANUAL_LINKING_ENABLED"),
        sb_forwarded_for=read.boolean(f"{prefix}SB_FORWARDED_FOR_ENABLED"),
        captcha=_load_captcha(read),
        encryption=_load_encryption(read),
    )


def _load_captcha(read: Reader) -> CaptchaSettings:
    prefix = "GOTRUE_SECURITY_CAPTCHA_"
    captcha = CaptchaSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        provider=read.choice(f"{prefix}PROVIDER", choices=("hcaptcha", "turnstile"), default="hcaptcha"),
        secret=read.secret(f"{prefix}SECRET", f"{prefix}PROVIDER_SECRET").strip(),
        timeout=read.seconds(f"{prefix}TIMEOUT", default=10.0),
        verify_url=read.text(f"{prefix}VERIFY_URL"),
    )
    if captcha.enabled and not captcha.secret:
        read.problem(f"{prefix}SECRET is needed when the captcha is on")
    return captcha


def parse_text_map(text: str) -> dict[str, str]:
    """`a:1,b:2` as a mapping; entries without a colon raise ValueError."""
    result = dict[str, str]()
    for pair in filter(None, (piece.strip() for piece in text.split(","))):
        key, colon, value = pair.partition(":")
        if not colon:
            raise ValueError(f"not key:value: {pair!r}")
        result[key.strip()] = value.strip()
    return result


def _load_encryption(read: Reader) -> EncryptionSettings:
    import base64
    import binascii

    prefix = "GOTRUE_SECURITY_DB_ENCRYPTION_"
    keys = dict[str, str]()
    try:
        keys = parse_text_map(read.secret(f"{prefix}DECRYPTION_KEYS"))
        sizes = {len(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))) for key in keys.values()}
        if sizes - {32}:
            read.problem(f"{prefix}DECRYPTION_KEYS must be 256-bit keys in base64url")
    except (ValueError, binascii.Error):
        read.problem(f"{prefix}DECRYPTION_KEYS must be id:key pairs of base64url keys")
    encryption = EncryptionSettings(
        encrypt=read.boolean(f"{prefix}ENCRYPT"),
        key_id=read.text(f"{prefix}ENCRYPTION_KEY_ID"),
        key=read.secret(f"{prefix}ENCRYPTION_KEY"),
        decryption_keys=keys,
    )
    if encryption.encrypt and keys.get(encryption.key_id) != encryption.key:
        read.problem(f"{prefix}ENCRYPTION_KEY must also be among {prefix}DECRYPTION_KEYS under its id")
    return encryption


def _load_rate(read: Reader, name: str, default: Rate) -> Rate:
    value = read.raw(name)
    if value is None:
        return default
    try:
        return parse_rate(value)
    except ValueError:
        read.problem(f"{name} must be a number per hour or events/duration such as 10/1h, not {value!r}")
        return default


def _load_rates(read: Reader) -> RateLimitSettings:
    prefix = "GOTRUE_RATE_LIMIT_"
    return RateLimitSettings(
        header=read.text(f"{prefix}HEADER"),
        token_refresh=read.number(f"{prefix}TOKEN_REFRESH", default=150),
        otp=read.number(f"{prefix}OTP", default=30),
        verify=read.number(f"{prefix}VERIFY", default=30),
        anonymous_users=read.number(f"{prefix}ANONYMOUS_USERS", default=30),
        sso=read.number(f"{prefix}SSO", default=30),
        saml_assertion=read.number("GOTRUE_SAML_RATE_LIMIT_ASSERTION", default=15),
        web3=read.number(f"{prefix}WEB3", default=30),
        passkey=read.number(f"{prefix}PASSKEY", default=30),
        client_registration=read.number(
            f"{prefix}OAUTH_DYNAMIC_CLIENT_REGISTER", f"{prefix}O_AUTH_DYNAMIC_CLIENT_REGISTER", default=10
        ),
        mfa=read.number("GOTRUE_MFA_RATE_LIMIT_CHALLENGE_AND_VERIFY", default=15),
        email_sent=_load_rate(read, f"{prefix}EMAIL_SENT", Rate(30)),
        sms_sent=_load_rate(read, f"{prefix}SMS_SENT", Rate(30)),
    )


def _load_external(read: Reader) -> ExternalSettings:
    prefix = "GOTRUE_EXTERNAL_"
    return ExternalSettings(
        email_enabled=read.boolean(f"{prefix}EMAIL_ENABLED", default=True),
        email_authorized_addresses=read.csv(f"{prefix}EMAIL_AUTHORIZED_ADDRESSES"),
        magic_link_enabled=read.boolean(f"{prefix}EMAIL_MAGIC_LINK_ENABLED", default=True),
        phone_enabled=read.boolean(f"{prefix}PHONE_ENABLED"),
        anonymous_enabled=read.boolean(f"{prefix}ANONYMOUS_USERS_ENABLED"),
        providers=MappingProxyType(load_providers(read)),
        ios_bundle_id=read.text(f"{prefix}IOS_BUNDLE_ID"),
        allowed_id_token_issuers=read.csv(
            f"{prefix}ALLOWED_ID_TOKEN_ISSUERS", default=("https://appleid.apple.com", "https://accounts.google.com")
        ),
        flow_state_expiry=max(_MINIMUM_FLOW, read.seconds(f"{prefix}FLOW_STATE_EXPIRY_DURATION", default=300.0)),
        oidc_cache=read.seconds(f"{prefix}OIDC_PROVIDER_CACHE_TTL", default=3600.0),
        web3=load_web3(read),
    )


def _load_hook(read: Reader, name: str) -> HookSettings:
    prefix = f"GOTRUE_HOOK_{name.upper()}_"
    hook = HookSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        uri=read.text(f"{prefix}URI"),
        secrets=tuple(part for part in read.secret(f"{prefix}SECRETS").split("|") if part),
    )
    if hook.enabled and not hook.uri:
        read.problem(f"{prefix}URI is needed when the hook is on")
    if hook.uri and (fault := hook_fault(hook)):
        read.problem(f"{prefix}URI {fault}")
    return hook


def hook_fault(hook: HookSettings) -> str | None:
    """Why the hook's address or secrets cannot be used, or None (contract §7.5)."""
    url = urlsplit(hook.uri)
    scheme = url.scheme.lower()
    if scheme == "pg-functions":
        parts = url.path.split("/")
        if len(parts) < 3 or not all(_SQL_NAME.fullmatch(part) for part in parts[1:3]):
            return "must be pg-functions://<database>/<schema>/<function> with plain names"
        return None
    if scheme not in ("http", "https"):
        return "must start with pg-functions:// or https://"
    if scheme == "http" and url.hostname not in _LOCAL_HOOK_HOSTS:
        return "may be plain http only on this machine"
    if not all(_HOOK_SECRET.match(secret) for secret in hook.secrets):
        return "has a secret that is not v1,whsec_<base64>"
    return None


def _load_experimental(read: Reader) -> ExperimentalSettings:
    prefix = "GOTRUE_EXPERIMENTAL_"
    domains = {name: name for name in read.csv(f"{prefix}PROVIDERS_WITH_OWN_LINKING_DOMAIN")}
    for pair in read.csv(f"{prefix}PROVIDER_LINKING_DOMAINS"):
        provider, _, domain = (piece.strip() for piece in pair.partition("="))
        if not provider or not domain:
            read.problem(f"{prefix}PROVIDER_LINKING_DOMAINS must be provider=domain pairs, not {pair!r}")
        domains[provider] = domain
    return ExperimentalSettings(
        linking_domains=domains,
        cursor_pagination=read.boolean(f"{prefix}CURSOR_PAGINATION_ENABLED"),
        email_identity_on_password=read.boolean(f"{prefix}CREATE_EMAIL_IDENTITY_ON_PASSWORD_SET_ENABLED"),
    )
