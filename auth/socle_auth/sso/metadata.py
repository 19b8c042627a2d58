"""Metadata that identity providers publish: fetched, and renewed when it has grown old (§3.15)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from socle_auth.errors import AuthError, ErrorCode
from socle_auth.oauth.providers import outgoing
from socle_auth.sso.identity_provider import IdentityProvider, parse_metadata
from socle_auth.sso.xml import XmlFault
from socle_auth.store import sso as store
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_auth.store.sso import SsoProvider

_USUAL_LIFE = timedelta(hours=24)
_WARNING = timedelta(days=30)


async def fetch_metadata(service: AuthService, url: str) -> str:
    """The document at an address. Raises AuthError `saml_metadata_fetch_failed`."""
    try:
        answer = await outgoing(service).request("GET", url, headers={"accept": "application/xml;charset=UTF-8"})
    except SocleError as error:
        raise _failed(f"error fetching SAML Metadata from URL '{url}': {error.message}", error) from error
    if answer.status != 200:
        raise _failed(f"HTTP {answer.status} error fetching SAML Metadata from URL '{url}'")
    try:
        return answer.body.decode()
    except UnicodeDecodeError as error:
        raise _failed("SAML Metadata XML contains invalid UTF-8 characters", error) from error


def _failed(message: str, cause: Exception | None = None) -> AuthError:
    return AuthError(ErrorCode.SAML_METADATA_FETCH_FAILED, message, cause=cause)


def is_stale(found: IdentityProvider, fetched_at: datetime, now: datetime) -> bool:
    """Whether it is time to ask again: by what the metadata says of itself, else after a day."""
    if found.valid_until is not None and now > found.valid_until:
        return True
    if found.cache_seconds is not None:
        return now > fetched_at + timedelta(seconds=found.cache_seconds)
    return found.valid_until is None and now > fetched_at + _USUAL_LIFE


async def current_metadata(service: AuthService, provider: SsoProvider) -> tuple[SsoProvider, IdentityProvider]:
    """The provider with its metadata as of now. What cannot be renewed is used on: others would be locked out."""
    found, now = parse_metadata(provider.metadata_xml), service.now()
    if not provider.metadata_url:
        if found.valid_until is not None and now > found.valid_until - _WARNING:
            until = f"{found.valid_until:%Y-%m-%d}"
            service.note("warning", f"metadata_xml of {provider.entity_id} is valid until {until}: please update it")
        return provider, found
    if not is_stale(found, provider.fetched_at, now):
        return provider, found
    try:
        text = await fetch_metadata(service, provider.metadata_url)
        renewed = parse_metadata(text)
        if renewed.entity_id != provider.entity_id:
            raise XmlFault(f"it is of {renewed.entity_id} now")
    except (AuthError, XmlFault) as error:
        service.note("warning", f"SAML metadata of {provider.entity_id} could not be renewed: {error.message}")
        return provider, found
    async with service.connect() as connection:
        await store.renew_metadata(connection, provider.id, text, now)
    return replace(provider, metadata_xml=text, fetched_at=now), renewed
