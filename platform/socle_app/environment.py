"""What every service's environment names say on one platform: derived values below what the project or the person set.

A setting is looked for in this order: process environment, `.env` files, `config.toml` (all three by `Project`), and
then here: what follows from the address, the keys and the state folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_app.keychain import Keychain
    from socle_app.state import StateFolder
    from socle_platform.config.gateway import GatewaySettings

_NOT_LOOKED_UP = "addresses are judged by their form alone"
_WITHOUT_EFFECT = {
    "GOTRUE_MAILER_EMAIL_VALIDATION_EXTENDED": _NOT_LOOKED_UP,
    "GOTRUE_MAILER_EMAIL_VALIDATION_SERVICE_URL": _NOT_LOOKED_UP,
    "GOTRUE_MAILER_EMAIL_VALIDATION_BLOCKED_MX": _NOT_LOOKED_UP,
    "REQUEST_X_FORWARDED_HOST_REGEXP": "one storage service serves one project",
}


def platform_environment(
    given: Mapping[str, str], gateway: GatewaySettings, keychain: Keychain, state: StateFolder
) -> dict[str, str]:
    """The complete environment: `given` over what follows from the rest."""
    auth_url = f"{gateway.url}/auth/v1"
    keys = keychain.environment()
    derived = {
        "API_EXTERNAL_URL": auth_url,
        "GOTRUE_JWT_ISSUER": auth_url,
        "GOTRUE_SITE_URL": given.get("SITE_URL", "http://127.0.0.1:3000"),
        "GOTRUE_MAILER_AUTOCONFIRM": "true",
        **_inbox(given, gateway),
        "PGRST_DB_SCHEMAS": "public,graphql_public",
        "PGRST_DB_EXTRA_SEARCH_PATH": "public,extensions",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_MAX_ROWS": "1000",
        "PGRST_OPENAPI_SERVER_PROXY_URI": f"{gateway.url}/rest/v1",
        "STORAGE_BACKEND": "file",
        "FILE_STORAGE_BACKEND_PATH": str(state.blobs),
        "STORAGE_PUBLIC_URL": f"{gateway.url}/storage/v1",
        "FILE_SIZE_LIMIT": "52428800",
        "REGION": "local",
    }
    fixed = {
        **keys,
        "GOTRUE_JWT_SECRET": keys["JWT_SECRET"],
        "PGRST_JWT_SECRET": keys["JWT_SECRET"],
        "AUTH_JWT_SECRET": keys["JWT_SECRET"],
        "SERVICE_KEY": keys["SERVICE_ROLE_KEY"],
    }
    return {**derived, **given, **fixed}


def notes_on_names(given: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the upstream services that are set and change nothing here, for whoever relies on them."""
    return tuple(f"{name} has no effect: {instead}" for name, instead in _WITHOUT_EFFECT.items() if given.get(name))


def _inbox(given: Mapping[str, str], gateway: GatewaySettings) -> dict[str, str]:
    """Mails without a server stay in the inbox; text messages without a provider only on this machine."""
    if given.get("GOTRUE_SMTP_HOST"):
        return {"SOCLE_INBOX_TEXTS": "true"} if gateway.is_loopback else {}
    return {"SOCLE_INBOX_ENABLED": "true", **({"SOCLE_INBOX_TEXTS": "true"} if gateway.is_loopback else {})}


def status_values(
    gateway: GatewaySettings, keychain: Keychain, database_url: str, inbox_url: str = ""
) -> dict[str, str]:
    """What `status -o env` prints, in its order (contract cli.md §4)."""
    url = gateway.url
    keys = keychain.environment()
    return {
        "API_URL": url,
        "REST_URL": f"{url}/rest/v1",
        "GRAPHQL_URL": f"{url}/graphql/v1",
        "FUNCTIONS_URL": f"{url}/functions/v1",
        "STORAGE_S3_URL": f"{url}/storage/v1/s3",
        "DB_URL": database_url,
        **({"MAILPIT_URL": inbox_url, "INBUCKET_URL": inbox_url} if inbox_url else {}),
        "PUBLISHABLE_KEY": keys["PUBLISHABLE_KEY"],
        "SECRET_KEY": keys["SECRET_KEY"],
        "JWT_SECRET": keys["JWT_SECRET"],
        "ANON_KEY": keys["ANON_KEY"],
        "SERVICE_ROLE_KEY": keys["SERVICE_ROLE_KEY"],
        "S3_PROTOCOL_ACCESS_KEY_ID": keys["S3_PROTOCOL_ACCESS_KEY_ID"],
        "S3_PROTOCOL_ACCESS_KEY_SECRET": keys["S3_PROTOCOL_ACCESS_KEY_SECRET"],
        "S3_PROTOCOL_REGION": "local",
    }
