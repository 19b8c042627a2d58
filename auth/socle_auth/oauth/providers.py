"""Which provider a name means under the settings: a built-in one, or a custom one from the settings or the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth.encryption import Undecipherable
from socle_auth.errors import AuthError
from socle_auth.oauth.catalogue import SPECS, ClientAuth
from socle_auth.oauth.client import ProviderClient, join_scopes
from socle_auth.oauth.client_secrets import unseal_secret
from socle_auth.oauth.custom import CustomRules
from socle_auth.oauth.oidc import OidcFault, discovery_url
from socle_auth.store import custom_providers
from socle_auth.wire import Body
from socle_platform.errors import SocleError
from socle_platform.outgoing import OutgoingFailed

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_auth.store.custom_providers import CustomProvider
    from socle_platform.config.auth_external import ProviderSettings
    from socle_platform.ports import HttpAnswer, HttpClient, Resources

CUSTOM_PREFIX = "custom:"


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


class _Nowhere:
    """Outgoing HTTP of a service that was given none: every request fails."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> HttpAnswer:
        raise OutgoingFailed("this service has no outgoing HTTP")


def outgoing_of(resources: Resources) -> HttpClient:
    """The outgoing port; without one, every request fails."""
    return resources.http or _Nowhere()


def outgoing(service: AuthService) -> HttpClient:
    return outgoing_of(service.resources)


async def load_client(service: AuthService, name: str, scopes: str = "") -> ProviderClient:
    """The client for a provider's name (lower case). Raises ProviderUnavailable."""
    if not name.startswith(CUSTOM_PREFIX):
        settings = service.settings
        return built_in_client(name, settings.provider(name), settings.external_url, scopes)
    return await custom_client(service, await load_custom(service, name), scopes)


async def load_custom(service: AuthService, identifier: str) -> CustomProvider:
    """An enabled custom provider, its secret plain: from the settings, else from the database.

    Raises ProviderUnavailable.
    """
    if not service.settings.custom_oauth.enabled:
        raise ProviderUnavailable("custom OAuth providers are disabled")
    found = _declared(service, identifier)
    if found is None:
        async with service.connect() as connection:
            stored = await custom_providers.find(connection, identifier)
        if stored is None:
            raise ProviderUnavailable(f"custom provider {identifier} not found")
        try:
            found = replace(stored, client_secret=unseal_secret(service, stored.id, stored.client_secret))
        except Undecipherable as error:
            service.note("error", f"client secret of {identifier} cannot be read: {error.message}")
            raise ProviderUnavailable(f"error decrypting client secret for provider {identifier}") from error
    if not found.enabled:
        raise ProviderUnavailable(f"custom provider {identifier} is disabled")
    return found


def _declared(service: AuthService, identifier: str) -> CustomProvider | None:
    """A provider of the settings (`SOCLE_AUTH_CUSTOM_PROVIDERS`), held to the same rules as one of the admin API."""
    from socle_auth.oauth.custom_admin import parse_provider

    for entry in service.settings.custom_oauth.declared:
        fields: dict[str, Any] = {"name": identifier.removeprefix(CUSTOM_PREFIX), **entry}
        named = str(fields.get("identifier", ""))
        if identifier not in (named, CUSTOM_PREFIX + named):
            continue
        try:
            return parse_provider(service, Body(fields | {"identifier": identifier}))
        except AuthError as error:
            raise ProviderUnavailable(f"custom provider {identifier} of the settings: {error.message}") from error
    return None


async def custom_client(service: AuthService, provider: CustomProvider, scopes: str = "") -> ProviderClient:
    """The client of a custom provider; an OIDC one is asked for its endpoints. Raises ProviderUnavailable."""
    base = service.settings.custom_oauth.external_url or service.settings.external_url
    asked = tuple(scopes.split()) or provider.scopes
    client = ProviderClient(
        name=provider.identifier,
        client_id=provider.client_id,
        secret=provider.client_secret,
        redirect_uri=f"{base}/callback",
        authorize_url=provider.authorization_url,
        token_url=provider.token_url,
        scopes=asked,
        pkce=provider.pkce_enabled,
        email_optional=provider.email_optional,
        authorize_params={name: str(value) for name, value in provider.authorization_params.items()},
        userinfo_url=provider.userinfo_url,
        custom=CustomRules(
            provider.acceptable_client_ids, provider.attribute_mapping, provider.custom_claims_allowlist
        ),
    )
    if not provider.is_oidc:
        return client
    try:
        found = await service.issuers.discover(
            provider.issuer, provider.discovery_url or discovery_url(provider.issuer)
        )
    except OidcFault as error:
        raise ProviderUnavailable(f"error creating OIDC provider: {error.message}") from error
    return replace(
        client,
        scopes=asked if "openid" in asked else ("openid", *asked),
        authorize_url=found.authorization_endpoint,
        token_url=found.token_endpoint,
        userinfo_url=found.userinfo_endpoint,
        discovery=found,
        client_auth=_client_auth(found.auth_methods),
    )


def _client_auth(methods: tuple[str, ...]) -> ClientAuth:
    """How the issuer wants clients to prove themselves; by HTTP Basic first when it does not say."""
    if not methods:
        return ClientAuth.AUTO
    return ClientAuth.HEADER if "client_secret_basic" in methods else ClientAuth.BODY
