"""Settings for signing in elsewhere: third-party providers, custom ones, SAML, Web3, and our own OAuth server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

PROVIDER_NAMES = (
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "snapchat",
    "slack",
    "slack_oidc",
    "spotify",
    "twitch",
    "twitter",
    "vercel_marketplace",
    "workos",
    "x",
    "zoom",
)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One OAuth or OIDC provider; `client_ids[0]` is the one that signs in, the others are accepted audiences."""

    enabled: bool = False
    client_ids: tuple[str, ...] = ()
    secret: str = field(default="", repr=False)
    redirect_uri: str = ""
    url: str = ""
    api_url: str = ""
    skip_nonce_check: bool = False
    email_optional: bool = False


@dataclass(frozen=True, slots=True)
class Web3Settings:
    """Sign-in with a wallet; validity windows in seconds."""

    solana_enabled: bool = False
    solana_validity: float = 600.0
    ethereum_enabled: bool = False
    ethereum_validity: float = 600.0


@dataclass(frozen=True, slots=True)
class OAuthServerSettings:
    """Our own authorization server (contract §3.16); `authorization_path` is joined to SITE_URL."""

    enabled: bool = False
    allow_dynamic_registration: bool = False
    authorization_path: str = "/oauth/consent"
    authorization_ttl: float = 600.0
    default_scope: str = "email"


@dataclass(frozen=True, slots=True)
class CustomOAuthSettings:
    """Providers kept in the database, and `declared` ones from the project's settings (each a JSON object)."""

    enabled: bool = True
    max_providers: int = 0  # 0: no limit
    external_url: str = ""
    declared: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class SamlSettings:
    enabled: bool = False
    private_key: str = field(default="", repr=False)
    private_key_next: str = field(default="", repr=False)
    allow_encrypted_assertions: bool = False
    relay_state_validity: float = 120.0
    external_url: str = ""


def load_providers(read: Reader) -> dict[str, ProviderSettings]:
    """Every provider of PROVIDER_NAMES, on or off."""
    return {name: _load_provider(read, f"GOTRUE_EXTERNAL_{name.upper()}_") for name in PROVIDER_NAMES}


def _load_provider(read: Reader, prefix: str) -> ProviderSettings:
    return ProviderSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        client_ids=read.csv(f"{prefix}CLIENT_ID"),
        secret=read.secret(f"{prefix}SECRET"),
        redirect_uri=read.text(f"{prefix}REDIRECT_URI"),
        url=read.text(f"{prefix}URL").rstrip("/"),
        api_url=read.text(f"{prefix}API_URL").rstrip("/"),
        skip_nonce_check=read.boolean(f"{prefix}SKIP_NONCE_CHECK"),
        email_optional=read.boolean(f"{prefix}EMAIL_OPTIONAL"),
    )


def load_web3(read: Reader) -> Web3Settings:
    prefix = "GOTRUE_EXTERNAL_WEB3_"
    return Web3Settings(
        solana_enabled=read.boolean(f"{prefix}SOLANA_ENABLED"),
        solana_validity=read.seconds(f"{prefix}SOLANA_MAXIMUM_VALIDITY_DURATION", default=600.0),
        ethereum_enabled=read.boolean(f"{prefix}ETHEREUM_ENABLED"),
        ethereum_validity=read.seconds(f"{prefix}ETHEREUM_MAXIMUM_VALIDITY_DURATION", default=600.0),
    )


def load_oauth_server(read: Reader) -> OAuthServerSettings:
    prefix = "GOTRUE_OAUTH_SERVER_"
    return OAuthServerSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        allow_dynamic_registration=read.boolean(f"{prefix}ALLOW_DYNAMIC_REGISTRATION"),
        authorization_path=read.text(f"{prefix}AUTHORIZATION_PATH", default="/oauth/consent"),
        authorization_ttl=read.seconds(f"{prefix}AUTHORIZATION_TTL", default=600.0),
        default_scope=read.text(f"{prefix}DEFAULT_SCOPE", default="email"),
    )


def load_custom_oauth(read: Reader) -> CustomOAuthSettings:
    declared = list[dict[str, Any]]()
    text = read.text("SOCLE_AUTH_CUSTOM_PROVIDERS")
    if text:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        entries = cast("list[object]", value) if isinstance(value, list) else [None]
        if all(isinstance(entry, dict) for entry in entries):
            declared = cast("list[dict[str, Any]]", entries)
        else:
            read.problem("SOCLE_AUTH_CUSTOM_PROVIDERS must be a JSON array of objects")
    return CustomOAuthSettings(
        enabled=read.boolean("GOTRUE_CUSTOM_OAUTH_ENABLED", default=True),
        max_providers=read.integer("GOTRUE_CUSTOM_OAUTH_MAX_PROVIDERS", default=0, minimum=0),
        external_url=read.text("GOTRUE_CUSTOM_OAUTH_EXTERNAL_URL").rstrip("/"),
        declared=tuple(declared),
    )


def load_saml(read: Reader) -> SamlSettings:
    prefix = "GOTRUE_SAML_"
    saml = SamlSettings(
        enabled=read.boolean(f"{prefix}ENABLED"),
        private_key=read.secret(f"{prefix}PRIVATE_KEY"),
        private_key_next=read.secret(f"{prefix}PRIVATE_KEY_NEXT"),
        allow_encrypted_assertions=read.boolean(f"{prefix}ALLOW_ENCRYPTED_ASSERTIONS"),
        relay_state_validity=read.seconds(f"{prefix}RELAY_STATE_VALIDITY_PERIOD", default=120.0) or 120.0,
        external_url=read.text(f"{prefix}EXTERNAL_URL").rstrip("/"),
    )
    if saml.enabled and not saml.private_key:
        read.problem(f"{prefix}PRIVATE_KEY is needed when SAML is on")
    return saml
