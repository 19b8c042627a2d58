"""Single sign-on: away to the identity provider, and back with its assertion (§3.15)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_auth import pkce, redirects, registration, sessions, wire
from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.oauth import accounts
from socle_auth.oauth.flow import browser_fault
from socle_auth.sso.assertion import CLOCK_SKEW, AssertionRefused, profile_of, response_issuer, verify_response
from socle_auth.sso.identity_provider import parse_metadata
from socle_auth.sso.metadata import current_metadata
from socle_auth.sso.service_provider import (
    download_validity,
    render_metadata,
    request_url,
    service_provider,
)
from socle_auth.sso.xml import XmlFault
from socle_auth.store import flows, provider_flows, signatures
from socle_auth.store import sso as store
from socle_auth.store.rows import FlowState
from socle_auth.store.sso import FLOW, RelayState
from socle_platform.errors import WireResponse

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.sso.assertion import Assertion
    from socle_auth.store.rows import User
    from socle_auth.store.sso import SsoProvider
    from socle_platform.db import Connection


async def begin(service: AuthService, call: Call) -> WireResponse:
    """POST /sso: where the browser has to go. `redirect_to` is judged when the person comes back."""
    body = call.body()
    named = body.text("provider_id")
    provider_id, domain = wire.parse_uuid(named), body.text("domain")
    if named and provider_id is None:
        raise invalid("provider_id must be a UUID")
    if provider_id and domain:
        raise invalid("Only one of provider_id or domain supported")
    if not provider_id and not domain:
        raise invalid("A provider_id or domain needs to be provided")
    challenge = pkce.read_challenge(body)
    now = service.now()
    async with service.connect() as connection:
        provider = await _find_provider(connection, provider_id, domain)
        found = parse_metadata(provider.metadata_xml)
        flow = FlowState(
            id=service.new_id(),
            user_id=None,
            auth_code=service.new_id() if challenge else None,
            code_challenge=challenge.text if challenge else None,
            code_challenge_method=challenge.method if challenge else None,
            provider_type=FLOW,
            authentication_method=FLOW,
            created_at=now,
            updated_at=now,
            referrer=body.text("redirect_to"),
        )
        request_id = f"id-{service.random_bytes(20).hex()}"
        state = RelayState(service.new_id(), provider.id, request_id, body.text("redirect_to"), now, flow.id)
        await flows.insert(connection, flow)
        await store.insert_relay_state(connection, state)
    party = service_provider(service.settings)
    url = request_url(party, found.redirect_url, request_id, state.id, now, provider.name_id_format)
    if body.boolean("skip_http_redirect"):
        return wire.reply({"url": url})
    return wire.redirect(url, 303)


async def _find_provider(connection: Connection, provider_id: str | None, domain: str) -> SsoProvider:
    if provider_id:
        found, missing = await store.find(connection, provider_id), "No such SSO provider"
    else:
        found, missing = await store.find_by_domain(connection, domain), "No SSO provider assigned for this domain"
    if found is None:
        raise AuthError(ErrorCode.SSO_PROVIDER_NOT_FOUND, missing)
    if found.disabled:
        raise AuthError(ErrorCode.SSO_PROVIDER_DISABLED, "SSO Provider is currently disabled")
    return found


async def show_metadata(service: AuthService, call: Call) -> WireResponse:
    """GET /sso/saml/metadata; `?download=true` gives a file that counts for five years."""
    party, download = service_provider(service.settings), call.query.get("download") == "true"
    document = render_metadata(party, download_validity(service.now()) if download else None)
    headers = [
        ("content-type", "application/xml"),
        ("cache-control", f"public, max-age={60 if party.next_certificate else 600}"),
    ]
    if download:
        headers.append(("content-disposition", 'attachment; filename="metadata.xml"'))
    return WireResponse(200, tuple(headers), document.encode())


async def consume(service: AuthService, call: Call) -> WireResponse:
    """POST /sso/saml/acs. Faults go to the site, in the query."""
    try:
        return await _consume(service, call)
    except Exception as error:  # noqa: BLE001 - the browser has to be sent somewhere whatever went wrong
        fault = browser_fault(service, call, error)
        return wire.redirect(redirects.with_query(service.settings.site_url, **fault), 303)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A response as it came: by whom, as an answer to what, and where the browser wants to go on."""

    data: bytes
    provider: SsoProvider
    request_ids: tuple[str, ...]
    redirect_to: str
    flow_id: str | None = None


async def _consume(service: AuthService, call: Call) -> WireResponse:
    arrival = await _read_form(service, call)
    if arrival.provider.disabled:
        raise AuthError(ErrorCode.SSO_PROVIDER_DISABLED, "SSO Provider is currently disabled")
    provider, found = await current_metadata(service, arrival.provider)
    party, now = service_provider(service.settings), service.now()
    try:
        assertion = await asyncio.to_thread(verify_response, arrival.data, party, found, now, arrival.request_ids)
    except AssertionRefused as error:
        raise invalid(f"SAML Assertion is not valid: {error.message}") from error
    if not assertion.user_id:
        raise AuthError(
            ErrorCode.SAML_ASSERTION_NO_USER_ID,
            "SAML Assertion did not contain a persistent Subject Identifier attribute or Subject NameID uniquely "
            "identifying this user",
        )
    return await _sign_in(service, call, arrival, provider, assertion)


async def _read_form(service: AuthService, call: Call) -> _Arrival:
    form = call.form()
    relay = form.get("RelayState", "")
    state_id = wire.parse_uuid(relay)
    if state_id is None and relay and not _is_address(relay):
        raise invalid("SAML RelayState is not a valid UUID or URL")
    if state_id is not None:
        state, provider = await _take_state(service, state_id)
        return _Arrival(_read_response(form), provider, (state.request_id,), state.redirect_to, state.flow_id)
    data = _read_response(form)
    try:
        issuer = response_issuer(data)
    except XmlFault as error:
        raise invalid("SAMLResponse is not a valid XML SAML assertion") from error
    async with service.connect() as connection:
        found = await store.find_by_entity(connection, issuer)
    if found is None:
        message = "A SAML connection has not been established with this Identity Provider"
        raise AuthError(ErrorCode.SAML_IDP_NOT_FOUND, message)
    return _Arrival(data, found, (), relay)


def _is_address(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme) or text.startswith("/")
    except ValueError:
        return False


def _read_response(form: Mapping[str, str]) -> bytes:
    text = form.get("SAMLResponse", "")
    if not text:
        raise invalid("SAMLResponse is missing")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        raise invalid("SAMLResponse is not a valid Base64 string") from None


async def _take_state(service: AuthService, state_id: str) -> tuple[RelayState, SsoProvider]:
    """What the browser was sent away with; it counts once and for a short while."""
    async with service.connect() as connection:
        state = await store.take_relay_state(connection, state_id)
        provider = None if state is None else await store.find(connection, state.provider_id)
    if state is None or provider is None:
        message = "SAML RelayState does not exist, try logging in again?"
        raise AuthError(ErrorCode.SAML_RELAY_STATE_NOT_FOUND, message)
    if service.now() >= state.created_at + timedelta(seconds=service.settings.saml.relay_state_validity):
        raise AuthError(ErrorCode.SAML_RELAY_STATE_EXPIRED, "SAML RelayState has expired. Try logging in again?")
    return state, provider


async def _sign_in(
    service: AuthService, call: Call, arrival: _Arrival, provider: SsoProvider, assertion: Assertion
) -> WireResponse:
    profile = profile_of(assertion, provider.attribute_mapping, provider.entity_id)
    if profile is None:
        raise AuthError(ErrorCode.SAML_ASSERTION_NO_EMAIL, "SAML Assertion does not contain an email address")
    name = provider.identity_provider
    new_id = await accounts.ask_before(service, call, profile, name)
    target = arrival.redirect_to if service.redirects.allows(arrival.redirect_to) else service.settings.site_url
    async with service.connect() as connection:
        await _ensure_new(service, connection, provider, assertion)
        flow = None if arrival.flow_id is None else await flows.find_and_lock(connection, arrival.flow_id)
        if arrival.flow_id is not None and (flow is None or flow.user_id is not None):
            raise AuthError(ErrorCode.FLOW_STATE_ALREADY_USED, "State has already been used")
        person = await accounts.arrive(service, connection, call, profile, name, new_id)
        url = (
            "" if person.refusal else await _hand_over(service, connection, call, flow, person.user, assertion, target)
        )
    if person.refusal is not None:
        raise person.refusal
    if person.created:
        await registration.tell_after(service, call, person.user)
    return wire.redirect(url, 302)


async def _ensure_new(
    service: AuthService, connection: Connection, provider: SsoProvider, assertion: Assertion
) -> None:
    """An assertion signs in once (SAML Profiles §4.1.4.5)."""
    digest = hashlib.sha256(f"{provider.entity_id}\0{assertion.id}".encode()).digest()
    if not await signatures.remember(connection, digest, service.now(), assertion.expires_at + CLOCK_SKEW):
        raise invalid("SAML Assertion is not valid: it has been used already")


async def _hand_over(
    service: AuthService,
    connection: Connection,
    call: Call,
    flow: FlowState | None,
    user: User,
    assertion: Assertion,
    target: str,
) -> str:
    """Where the browser goes: with a code to exchange (PKCE), or with the session in the fragment."""
    now, limit = service.now(), assertion.session_expires_at
    if flow is not None and flow.auth_code is not None and flow.code_challenge:
        await provider_flows.complete_flow(connection, flow.id, user.id, "", "", now)
        if limit is not None:
            await store.limit_session(connection, flow.id, limit, now)
        return redirects.with_query(target, code=flow.auth_code)
    response = await sessions.issue_session(service, connection, call, user, FLOW, not_after=limit)
    if flow is not None:
        await flows.delete(connection, flow.id)
    return redirects.with_fragment(target, **sessions.fragment_values(response))
