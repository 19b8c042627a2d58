"""Which provider a name means under the settings: a built-in one, or a custom one from the settings or the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth.oauth.catalogue import SPECS
from socle_auth.oauth.client import ProviderClient, join_scopes
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.config.auth_external import ProviderSettings


class ProviderUnavailable(SocleError):
    """provider is not enabled"""


def built_in_client(name: str, settings: ProviderSettings, external_url: str, scopes: str = "") -> ProviderClient:
    """The client of a provider of the catalogue. Raises ProviderUnavailable when it is off or not fully configured."""
    spec = SPECS.get(name)
    if spec is None:
        raise ProviderUnavailable(f"Provider {name} could not be found")
    if not settings.enabled:
        raise ProviderUnavailable
    if not settings.client_ids:
        raise ProviderUnavailable("missing OAuth client ID")
    if not settings.secret:
        raise ProviderUnavailable("missing OAuth secret")
    if spec.needs_url and not settings.url:
        raise ProviderUnavailable(f"unable to find URL for the {name} provider")
    url = "" if spec.ignores_url else settings.url.rstrip("/")
    auth = url or spec.auth
    api = settings.api_url or _api_host(name, url, spec.api)
    client = ProviderClient(
        name=name,
        client_id=settings.client_ids[0],
        secret=settings.secret,
        redirect_uri=settings.redirect_uri or f"{external_url}/callback",
        authorize_url="",
        token_url="",
        scopes=join_scopes(spec.scopes, scopes if spec.extra_scopes else ""),
        spec=spec,
        auth_host=auth,
        api_host=api,
        client_auth=spec.client_auth,
        pkce=spec.pkce,
        email_optional=settings.email_optional,
        authorize_params=spec.authorize_params,
    )
    return client.with_urls(client.fill(spec.authorize), client.fill(spec.exchange))


def _api_host(name: str, url: str, default: str) -> str:
    """GitHub Enterprise serves its API under a path of its own host."""
    if not url:
        return default
    return url + "/api/v3" if name == "github" and not url.endswith("api.github.com") else url
