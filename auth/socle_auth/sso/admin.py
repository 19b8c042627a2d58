"""Administrators and identity providers: /admin/sso/providers (§3.13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socle_auth import wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.sso.identity_provider import NAME_ID_FORMATS, parse_metadata
from socle_auth.sso.metadata import fetch_metadata
from socle_auth.sso.xml import SamlExtraMissing, XmlFault, ensure_installed
from socle_auth.store import sso as store
from socle_auth.store.sso import SsoProvider
from socle_platform.db import DatabaseError
from socle_platform.outgoing import OutgoingRefused, refuse_unsafe_url

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.wire import Body
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_RESOURCE = "resource_"


def render_provider(provider: SsoProvider, *, whole: bool = True) -> dict[str, Any]:
    """The provider as administrators see it; lists leave the metadata out."""
    saml: dict[str, Any] = {"entity_id": provider.entity_id}
    optional: dict[str, Any] = {
        "metadata_xml": provider.metadata_xml if whole else "",
        "metadata_url": provider.metadata_url,
        "attribute_mapping": provider.attribute_mapping,
        "name_id_format": provider.name_id_format,
    }
    saml |= {name: value for name, value in optional.items() if value}
    body: dict[str, Any] = {"id": provider.id}
    if provider.resource_id:
        body["resource_id"] = provider.resource_id
    return body | {
        "disabled": provider.disabled,
        "saml": saml,
        "domains": [{"domain": domain} for domain in provider.domains],
        "created_at": wire.render_time(provider.created_at),
        "updated_at": wire.render_time(provider.updated_at),
    }


async def list_providers(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        found = await store.all_of(
            connection, call.query.get("resource_id", ""), call.query.get("resource_id_prefix", "")
        )
    return wire.reply({"items": [render_provider(provider, whole=False) for provider in found]})


async def show_provider(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        return wire.reply(render_provider(await _require(connection, call)))


async def _require(connection: Connection, call: Call) -> SsoProvider:
    """The provider that the path names by its id, or by its resource id behind `resource_`."""
    name = call.params.get("provider_id", "")
    if name.startswith(_RESOURCE):
        found = await store.find_by_resource(connection, name.removeprefix(_RESOURCE))
    else:
        provider_id = wire.parse_uuid(name)
        found = None if provider_id is None else await store.find(connection, provider_id)
    if found is None:
        raise AuthError(ErrorCode.SSO_PROVIDER_NOT_FOUND, "SSO Identity Provider not found")
    return found


async def create_provider(service: AuthService, call: Call) -> WireResponse:
    body = call.body()
    if body.text("type") != "saml":
        raise invalid("Only 'saml' supported for SSO provider type")
    if not body.text("metadata_url") and not body.text("metadata_xml"):
        raise invalid("Either metadata_xml or metadata_url must be set")
    now = service.now()
    blank = SsoProvider(service.new_id(), "", "", now, now, now)
    provider = await _with_changes(service, blank, body)
    async with service.connect() as connection:
        await _ensure_free(connection, provider)
    try:
        async with service.connect() as connection:
            await store.insert(connection, provider, [service.new_id() for _ in range(1 + len(provider.domains))])
    except DatabaseError as error:
        raise _conflict(error, "Creating") from error
    return wire.reply(render_provider(provider), 201)


async def update_provider(service: AuthService, call: Call) -> WireResponse:
    """Changes what the body has; `name_id_format` and `resource_id` may be taken away with ""."""
    body = call.body()
    async with service.connect() as connection:
        former = await _require(connection, call)
    changed = replace(await _with_changes(service, former, body), updated_at=service.now())
    if changed.entity_id != former.entity_id:
        raise AuthError(
            ErrorCode.SAML_ENTITY_ID_MISMATCH,
            "SAML Metadata can be updated only if the EntityID matches for the provider; "
            f"expected '{former.entity_id}' but got '{changed.entity_id}'",
        )
    async with service.connect() as connection:
        await _ensure_free(connection, changed)
    try:
        async with service.connect() as connection:
            kept = await store.replace(connection, changed, former, [service.new_id() for _ in changed.domains])
    except DatabaseError as error:
        raise _conflict(error, "Updating") from error
    if not kept:
        raise AuthError(ErrorCode.SSO_PROVIDER_NOT_FOUND, "SSO Identity Provider not found")
    return wire.reply(render_provider(changed))


def _conflict(error: DatabaseError, doing: str) -> Exception:
    """Somebody was quicker with the same entity, domain or resource id."""
    if error.sqlstate != "23505":
        return error
    return AuthError(
        ErrorCode.CONFLICT, f"{doing} SSO provider failed, likely due to a conflict. Try again?", 422, cause=error
    )


async def delete_provider(service: AuthService, call: Call) -> WireResponse:
    async with service.connect() as connection:
        provider = await _require(connection, call)
        await store.delete(connection, provider.id)
    return wire.reply(render_provider(provider))


async def _ensure_free(connection: Connection, provider: SsoProvider) -> None:
    """Entity and domains belong to no other provider. Raises AuthError."""
    holder = await store.find_by_entity(connection, provider.entity_id)
    if holder is not None and holder.id != provider.id:
        raise AuthError(
            ErrorCode.SAML_IDP_ALREADY_EXISTS,
            f"SAML Identity Provider with this EntityID ({provider.entity_id}) already exists",
        )
    for domain in provider.domains:
        holder = await store.find_by_domain(connection, domain)
        if holder is not None and holder.id != provider.id:
            raise AuthError(
                ErrorCode.SSO_DOMAIN_ALREADY_EXISTS,
                f"SSO Domain '{domain}' is already assigned to an SSO identity provider ({holder.id})",
            )


async def _with_changes(service: AuthService, provider: SsoProvider, body: Body) -> SsoProvider:
    """The provider with the fields that the body has. Raises AuthError."""
    name_id_format = body.text_or_none("name_id_format")
    if name_id_format and name_id_format not in NAME_ID_FORMATS:
        raise invalid(f"name_id_format must be unspecified or one of {', '.join(NAME_ID_FORMATS)}")
    resource_id = body.text_or_none("resource_id")
    mapping = _checked_mapping(body.object_or_none("attribute_mapping"))
    domains = _checked_domains(body.texts_or_none("domains"))
    disabled = body.boolean_or_none("disabled")
    provider = replace(
        provider,
        name_id_format=provider.name_id_format if name_id_format is None else name_id_format,
        resource_id=provider.resource_id if resource_id is None else resource_id,
        attribute_mapping=provider.attribute_mapping if mapping is None else mapping,
        domains=provider.domains if domains is None else domains,
        disabled=provider.disabled if disabled is None else disabled,
    )
    return await _with_metadata(service, provider, body.text("metadata_url"), body.text("metadata_xml"))


async def _with_metadata(service: AuthService, provider: SsoProvider, url: str, text: str) -> SsoProvider:
    """Metadata by hand is kept; metadata by address is fetched now and renewed later."""
    if url and text:
        raise invalid("Only one of metadata_xml or metadata_url needs to be set")
    if not url and not text:
        return provider
    try:
        ensure_installed()
    except SamlExtraMissing as error:
        raise AuthError(ErrorCode.SAML_PROVIDER_DISABLED, error.message) from error
    if url:
        text = await fetch_metadata(service, _checked_url(url, allow_private=service.settings.allow_private_urls))
    try:
        entity_id = parse_metadata(text).entity_id
    except XmlFault as error:
        raise invalid(error.message) from error
    return replace(provider, entity_id=entity_id, metadata_xml=text, metadata_url=url, fetched_at=service.now())


def _checked_url(url: str, *, allow_private: bool) -> str:
    if not url.startswith("https://"):
        raise invalid("metadata_url is not a HTTPS URL")
    if not allow_private:
        try:
            refuse_unsafe_url(url, https_only=True)
        except OutgoingRefused as error:
            raise invalid(f"metadata_url is not allowed: {error.message}") from error
    return url


def _checked_domains(domains: Sequence[str] | None) -> tuple[str, ...] | None:
    if domains is None:
        return None
    if not all(domain.strip() and "@" not in domain for domain in domains):
        raise invalid("domains must be names of domains")
    return tuple(dict.fromkeys(domain.strip().lower() for domain in domains))


def _checked_mapping(mapping: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """`{"keys": {claim: {"name" | "names", "default", "array"}}}`. Raises `bad_json` for other types."""
    if mapping is None:
        return None
    rules = wire.Body(mapping).object("keys")
    for claim in rules:
        rule = wire.Body(rules).body(claim)
        rule.text("name")
        rule.texts_or_none("names")
        rule.boolean("array")
    return {"keys": rules} if rules else {}
