"""The id_token grant: an ID token that the application got from a provider itself becomes a session (§4.5)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_auth import access, registration, sessions
from socle_auth.errors import AuthError, ErrorCode, OAuthError, invalid
from socle_auth.json_values import pick_text
from socle_auth.oauth import accounts, id_tokens
from socle_auth.oauth.custom import CustomRules, read_custom_claims
from socle_auth.oauth.identity_links import link_identity
from socle_auth.oauth.oidc import OidcFault, audiences, unverified_issuer
from socle_auth.oauth.profile import Profile, ProfileUnusable
from socle_auth.oauth.providers import CUSTOM_PREFIX, ProviderUnavailable, load_custom

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_auth.context import AuthService, Call
    from socle_auth.wire import Body
    from socle_platform.config.auth_external import ProviderSettings
    from socle_platform.errors import WireResponse

METHOD = "oauth"
_SUBJECT_ISSUERS = {
    "google": id_tokens.GOOGLE,
    "facebook": id_tokens.FACEBOOK,
    "kakao": id_tokens.KAKAO,
    "vercel_marketplace": id_tokens.VERCEL,
    "snapchat": id_tokens.SNAPCHAT,
}
_AZURE_PREFIXES = ("https://login.microsoftonline.com/", "https://sts.windows.net/")


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Whose ID tokens are accepted for a request, and for which applications."""

    provider: str
    issuer: str
    client_ids: tuple[str, ...]
    issuers: frozenset[str] = frozenset()
    discovery_url: str = ""
    skip_nonce: bool = False
    email_optional: bool = False
    rules: CustomRules | None = None


async def id_token_grant(service: AuthService, call: Call) -> WireResponse:
    body = call.body()
    if not body.text("id_token"):
        raise OAuthError("invalid request", "id_token required")
    if not body.text("provider") and not (body.text("client_id") and body.text("issuer")):
        raise OAuthError("invalid request", "provider or client_id and issuer required")
    target_id = await _target_of_link(service, call) if body.boolean("link_identity") else None
    source = await choose_source(service, body)
    profile = await _prove(service, body, source)
    new_id = "" if target_id else await accounts.ask_before(service, call, profile, source.provider)
    response = None
    async with service.connect() as connection:
        if target_id is not None:
            arrival = await link_identity(service, connection, call, profile, source.provider, target_id)
        else:
            arrival = await accounts.arrive(
                service,
                connection,
                call,
                profile,
                source.provider,
                new_id,
                email_optional=source.email_optional,
            )
        if arrival.refusal is None:
            response = await sessions.issue_session(service, connection, call, arrival.user, METHOD)
    if response is None:
        assert arrival.refusal is not None
        raise arrival.refusal
    if arrival.created:
        await registration.tell_after(service, call, response.user)
    return sessions.reply(response)


async def _target_of_link(service: AuthService, call: Call) -> str:
    if not call.headers.get("authorization"):
        raise OAuthError("invalid request", "Linking requires a valid user access token in Authorization")
    caller = await access.require_user(service, call)
    if caller.user is None:
        raise OAuthError("invalid request", "Linking requires a valid user authentication")
    return caller.user.id


async def choose_source(service: AuthService, body: Body) -> TokenSource:
    """By provider name, else by issuer. Raises `validation_failed` or `provider_disabled`."""
    name, issuer = body.text("provider"), body.text("issuer")
    if name.startswith(CUSTOM_PREFIX):
        return await _custom_source(service, name)
    provider = _provider_of(service, name, issuer)
    if provider == "apple":
        source = _apple(service, body)
    elif provider == "azure":
        source = _azure(service, body)
    elif provider == "keycloak":
        settings = service.settings.provider("keycloak")
        source = _built_in(provider, settings.url, settings)
    elif provider:
        source = _built_in(provider, _SUBJECT_ISSUERS[provider], service.settings.provider(provider))
    else:
        return _listed_issuer(service, body)
    if not service.settings.provider(provider).enabled:
        message = f'Provider (issuer "{source.issuer}") is not enabled'
        raise AuthError(ErrorCode.PROVIDER_DISABLED, message)
    return source


def _provider_of(service: AuthService, name: str, issuer: str) -> str:
    """The built-in provider meant by its name or its issuer; "" for none."""
    keycloak = service.settings.provider("keycloak")
    if name in _SUBJECT_ISSUERS or name in ("apple", "azure", "keycloak"):
        return name
    if issuer in id_tokens.APPLE_ISSUERS:
        return "apple"
    if id_tokens.is_azure_issuer(issuer):
        return "azure"
    if keycloak.enabled and keycloak.url and issuer == keycloak.url:
        return "keycloak"
    return next((provider for provider, known in _SUBJECT_ISSUERS.items() if known == issuer), "")


def _built_in(provider: str, issuer: str, settings: ProviderSettings, *more_ids: str) -> TokenSource:
    return TokenSource(
        provider=provider,
        issuer=issuer,
        client_ids=(*settings.client_ids, *(one for one in more_ids if one)),
        skip_nonce=settings.skip_nonce_check or provider == "facebook",
        email_optional=settings.email_optional,
    )


def _detected_issuer(body: Body, title: str) -> str:
    """The issuer that the token itself names: it has to be the provider's, and the one the caller says."""
    try:
        return unverified_issuer(body.text("id_token"))
    except OidcFault as error:
        raise invalid(f"Unable to detect issuer in ID token for {title} provider") from error


def _ensure_same_issuer(body: Body, detected: str) -> None:
    if body.text("issuer") and body.text("issuer") != detected:
        raise invalid("Provided issuer does not match ID token issuer")


def _apple(service: AuthService, body: Body) -> TokenSource:
    detected = _detected_issuer(body, "Apple")
    if detected not in id_tokens.APPLE_ISSUERS:
        raise invalid("Detected ID token issuer is not an Apple ID token issuer")
    _ensure_same_issuer(body, detected)
    settings = service.settings.provider("apple")
    source = _built_in("apple", "https://appleid.apple.com", settings, service.settings.external.ios_bundle_id)
    return TokenSource(
        source.provider,
        source.issuer,
        source.client_ids,
        id_tokens.APPLE_ISSUERS,
        skip_nonce=source.skip_nonce,
        email_optional=source.email_optional,
    )


def _azure(service: AuthService, body: Body) -> TokenSource:
    detected = _detected_issuer(body, "Azure")
    if not detected.startswith(_AZURE_PREFIXES):
        raise invalid("Detected ID token issuer is not an Azure ID token issuer")
    _ensure_same_issuer(body, detected)
    return _built_in("azure", detected, service.settings.provider("azure"))


async def _custom_source(service: AuthService, name: str) -> TokenSource:
    try:
        found = await load_custom(service, name)
    except ProviderUnavailable as error:
        if "disabled" in error.message and service.settings.custom_oauth.enabled:
            message = f'Custom provider "{name}" is disabled'
            raise AuthError(ErrorCode.PROVIDER_DISABLED, message) from error
        raise invalid(error.message) from error
    if not found.is_oidc:
        raise invalid(f'Provider "{name}" is not an OIDC provider')
    return TokenSource(
        provider=name,
        issuer=found.issuer,
        client_ids=(found.client_id, *found.acceptable_client_ids),
        discovery_url=found.discovery_url,
        skip_nonce=found.skip_nonce_check,
        email_optional=found.email_optional,
        rules=CustomRules(found.acceptable_client_ids, found.attribute_mapping, found.custom_claims_allowlist),
    )


def _listed_issuer(service: AuthService, body: Body) -> TokenSource:
    """An issuer that the settings allow, with the caller's own client id (a way that upstream is giving up)."""
    issuer = body.text("issuer")
    if issuer not in service.settings.external.allowed_id_token_issuers:
        raise invalid(f'Custom OIDC provider "{body.text("provider")}" not allowed')
    return TokenSource(issuer, issuer, (body.text("client_id"),))


async def _prove(service: AuthService, body: Body, source: TokenSource) -> Profile:
    """The person of the token, once signature, times, audience and nonce are proven. Raises OAuthError."""
    try:
        claims = await service.issuers.verify(
            body.text("id_token"),
            await service.issuers.discover(source.issuer, source.discovery_url),
            now=service.now(),
            issuers=source.issuers,
            access_token=body.text("access_token"),
        )
    except OidcFault as error:
        service.note("info", f"ID token of {source.provider} refused: {error.message}")
        raise OAuthError("invalid request", "Bad ID token") from error
    if not pick_text(claims, "sub"):
        raise OAuthError("invalid request", "Missing sub claim in id_token")
    named = audiences(claims)
    if not any(one in source.client_ids for one in named if one):
        raise OAuthError("invalid request", f"Unacceptable audience in id_token: {named}")
    if not source.skip_nonce:
        _check_nonce(claims, body.text("nonce"))
    try:
        known = id_tokens.read_id_token(claims)
        return known if source.rules is None else read_custom_claims(claims, source.rules, known)
    except ProfileUnusable as error:
        raise OAuthError("invalid request", "Bad ID token") from error


def _check_nonce(claims: Mapping[str, object], nonce: str) -> None:
    """Both or neither; the token holds the hash of what the application kept."""
    inside = pick_text(claims, "nonce")
    if bool(inside) != bool(nonce):
        raise OAuthError("invalid request", "Passed nonce and nonce in id_token should either both exist or not.")
    if nonce and not hmac.compare_digest(hashlib.sha256(nonce.encode()).hexdigest().encode(), inside.encode()):
        raise OAuthError("invalid nonce", "Nonces mismatch")
