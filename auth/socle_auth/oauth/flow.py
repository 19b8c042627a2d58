"""The browser's way: /authorize sends it to the provider, /callback takes it back (§4.2, §4.3)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_auth import pkce, redirects, registration, sessions, wire
from socle_auth.errors import AuthError, ErrorCode, OAuthError, as_auth_error, failure, invalid
from socle_auth.oauth import accounts
from socle_auth.oauth.client import (
    ExchangeFailed,
    ProviderTokens,
    consent_url,
    exchange_code,
    exchange_oauth1,
    read_person,
    request_oauth1_token,
)
from socle_auth.oauth.custom import RESERVED_PARAMS
from socle_auth.oauth.identity_links import link_identity
from socle_auth.oauth.oidc import OidcFault
from socle_auth.oauth.profile import Profile, ProfileUnusable
from socle_auth.oauth.providers import ProviderUnavailable, load_client, outgoing
from socle_auth.oauth.readers import apple_name
from socle_auth.store import flows, one_time, provider_flows
from socle_auth.store.rows import FlowState
from socle_platform.events import RequestFailed

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.oauth.client import ProviderClient
    from socle_auth.store.rows import User
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse

_OURS = frozenset({"provider", "scopes", "redirect_to", "invite_token", "skip_http_redirect", "apikey"})
_CLIENT_STATE_LIFETIME = timedelta(minutes=5)
_DENIED = frozenset({ErrorCode.SIGNUP_DISABLED, ErrorCode.USER_BANNED, ErrorCode.PROVIDER_EMAIL_NEEDS_VERIFICATION})
METHOD = "oauth"


async def authorize(service: AuthService, call: Call) -> WireResponse:
    """GET /authorize."""
    return wire.redirect(await begin(service, call), 302)


async def authorize_link(service: AuthService, call: Call) -> WireResponse:
    """GET /user/identities/authorize: the same with the caller as the user to link to."""
    url = await begin(service, call, call.require_user())
    if call.query.get("skip_http_redirect") == "true":
        return wire.reply({"url": url})
    return wire.redirect(url, 302)


async def begin(service: AuthService, call: Call, target: User | None = None) -> str:
    """Remembers the flow and gives the provider's address for it."""
    name = call.query.get("provider", "").lower()
    try:
        client = await load_client(service, name, call.query.get("scopes", ""))
    except ProviderUnavailable as error:
        raise invalid(f"Unsupported provider: {error.message}") from error
    invite = call.query.get("invite_token", "")
    challenge = pkce.parse_challenge(call.query.get("code_challenge", ""), call.query.get("code_challenge_method", ""))
    referrer = redirects.choose_redirect(service, call)
    now, flow_id = service.now(), service.new_id()
    where, remembered = await _consent(service, client, flow_id, _passed_on(call.query))
    state_id = service.new_id() if remembered else None
    flow = FlowState(
        id=flow_id,
        user_id=None,
        auth_code=service.new_id() if challenge else None,
        code_challenge=challenge.text if challenge else None,
        code_challenge_method=challenge.method if challenge else None,
        provider_type=name,
        authentication_method=METHOD,
        created_at=now,
        updated_at=now,
        invite_token=invite or None,
        referrer=referrer,
        oauth_client_state_id=state_id,
        linking_target_id=target.id if target else None,
        email_optional=client.email_optional,
    )
    async with service.connect() as connection:
        if invite and await one_time.find(connection, invite, ("confirmation_token",)) is None:
            raise AuthError(ErrorCode.USER_NOT_FOUND, "User identified by token not found")
        if state_id is not None:
            await provider_flows.insert_client_state(connection, state_id, name, remembered, now)
        await flows.insert(connection, flow)
    return where


def _passed_on(query: Mapping[str, str]) -> dict[str, str]:
    """What the application tells the provider through us; never a parameter that we vouch for."""
    params = {
        name: value
        for name, value in query.items()
        if name not in _OURS and (name.lower() == "nonce" or name.lower() not in RESERVED_PARAMS)
    }
    if "workos_provider" in params:
        params["provider"] = params.pop("workos_provider")
    return params


async def _consent(
    service: AuthService, client: ProviderClient, state: str, params: Mapping[str, str]
) -> tuple[str, str]:
    """The address, and what has to be remembered for the exchange ("" for nothing)."""
    if client.is_oauth1:
        try:
            return await request_oauth1_token(outgoing(service), client, state)
        except ExchangeFailed as error:
            raise failure("Error getting a request token from the external provider", error) from error
    verifier = secrets.token_urlsafe(32) if client.pkce else ""
    return consent_url(client, state, params, verifier), verifier


@dataclass(frozen=True, slots=True)
class _Returned:
    """Who came back from the provider, with the tokens it gave."""

    profile: Profile
    tokens: ProviderTokens


async def callback(service: AuthService, call: Call) -> WireResponse:
    """GET and POST /callback. A fault of the state goes to the site, any other one to where the flow began."""
    given = call.form() if call.method == "POST" else call.query
    try:
        flow = await _find_flow(service, given.get("state", ""))
    except AuthError as error:
        fault = redirects.error_parameters(error.status, error.shown_code, error.message)
        return wire.redirect(redirects.with_query(service.settings.site_url, **fault), 303)
    target = flow.referrer or service.settings.site_url
    try:
        return await _finish(service, call, flow, given, target)
    except Exception as error:  # noqa: BLE001 - the browser has to be sent back whatever went wrong
        return _error_redirect(service, call, target, error)


async def _find_flow(service: AuthService, state: str) -> FlowState:
    if not state:
        raise AuthError(ErrorCode.BAD_OAUTH_CALLBACK, "OAuth state parameter missing")
    flow_id = wire.parse_uuid(state)
    if flow_id is None:
        raise AuthError(ErrorCode.BAD_OAUTH_STATE, "OAuth state parameter is invalid")
    async with service.connect() as connection:
        flow = await flows.find(connection, flow_id)
    if flow is None or flow.authentication_method != METHOD:
        raise AuthError(ErrorCode.BAD_OAUTH_STATE, "OAuth state not found or expired")
    if service.now() > flow.created_at + timedelta(seconds=service.settings.external.flow_state_expiry):
        raise AuthError(ErrorCode.BAD_OAUTH_STATE, "OAuth state has expired")
    if flow.user_id is not None:
        raise AuthError(ErrorCode.FLOW_STATE_ALREADY_USED, "State has already been used")
    return flow


async def _finish(
    service: AuthService, call: Call, flow: FlowState, given: Mapping[str, str], target: str
) -> WireResponse:
    returned = await _ask_provider(service, flow, given)
    profile, provider = returned.profile, flow.provider_type
    if profile.main_email is None and not flow.email_optional:
        raise failure("Error getting user email from external provider")
    is_new = flow.linking_target_id is None and not flow.invite_token
    new_id = await accounts.ask_before(service, call, profile, provider) if is_new else ""
    async with service.connect() as connection:
        held = await flows.find_and_lock(connection, flow.id)
        if held is None or held.user_id is not None:
            raise AuthError(ErrorCode.FLOW_STATE_ALREADY_USED, "State has already been used")
        if flow.linking_target_id is not None:
            arrival = await link_identity(service, connection, call, profile, provider, flow.linking_target_id)
        elif flow.invite_token:
            arrival = await accounts.accept_invite(service, connection, call, profile, provider, flow.invite_token)
        else:
            arrival = await accounts.arrive(
                service, connection, call, profile, provider, new_id, email_optional=flow.email_optional
            )
        url = "" if arrival.refusal else await _hand_over(service, connection, call, flow, arrival, returned, target)
    if arrival.refusal is not None:
        raise arrival.refusal
    if arrival.created:
        await registration.tell_after(service, call, arrival.user)
    return wire.redirect(url, 302)


async def _hand_over(
    service: AuthService,
    connection: Connection,
    call: Call,
    flow: FlowState,
    arrival: accounts.Arrival,
    returned: _Returned,
    target: str,
) -> str:
    """Where the browser goes: with a code to exchange (PKCE), or with the session in the fragment."""
    tokens = returned.tokens
    if flow.auth_code is not None and flow.code_challenge:
        await provider_flows.complete_flow(
            connection, flow.id, arrival.user.id, tokens.access_token, tokens.refresh_token, service.now()
        )
        return redirects.with_query(target, code=flow.auth_code)
    response = await sessions.issue_session(service, connection, call, arrival.user, METHOD)
    await flows.delete(connection, flow.id)
    response = replace(response, provider_refresh_token=tokens.refresh_token)
    values = sessions.fragment_values(response, provider_token=tokens.access_token)
    return redirects.with_fragment(target, **values)


async def _ask_provider(service: AuthService, flow: FlowState, given: Mapping[str, str]) -> _Returned:
    """Code → tokens → profile. Raises OAuthError with the provider's own words, AuthError otherwise."""
    if given.get("error"):
        raise OAuthError(given["error"], given.get("error_description", ""))
    try:
        client = await load_client(service, flow.provider_type)
    except ProviderUnavailable as error:
        text = f"Unsupported provider: {error.message}"
        raise AuthError(ErrorCode.OAUTH_PROVIDER_NOT_SUPPORTED, text) from error
    remembered = await _recall(service, flow, client)
    if client.is_oauth1:
        tokens = await _exchange_oauth1(service, client, given, remembered)
    else:
        tokens = await _exchange(service, client, given.get("code", ""), remembered)
    try:
        profile = await read_person(outgoing(service), service.issuers, client, tokens, service.now())
    except (ProfileUnusable, OidcFault) as error:
        raise failure("Error getting user profile from external provider", error) from error
    if client.name == "apple" and given.get("user"):
        profile = apple_name(profile, _parse_json(given["user"]))
    return _Returned(profile, tokens)


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def _recall(service: AuthService, flow: FlowState, client: ProviderClient) -> str:
    """The verifier or secret of this flow; it counts once and for five minutes."""
    if flow.oauth_client_state_id is None:
        if client.pkce:
            raise AuthError(ErrorCode.OAUTH_INVALID_STATE, "OAuth PKCE code verifier missing")
        return ""
    async with service.connect() as connection:
        state = await provider_flows.take_client_state(connection, flow.oauth_client_state_id)
    if state is None:
        raise AuthError(ErrorCode.OAUTH_CLIENT_STATE_NOT_FOUND, "OAuth state not found")
    if state.provider_type != flow.provider_type:
        raise AuthError(ErrorCode.OAUTH_INVALID_STATE, "OAuth provider mismatch")
    if service.now() > state.created_at + _CLIENT_STATE_LIFETIME:
        raise AuthError(ErrorCode.OAUTH_CLIENT_STATE_EXPIRED, "OAuth state expired")
    return state.code_verifier


async def _exchange(service: AuthService, client: ProviderClient, code: str, verifier: str) -> ProviderTokens:
    if not code:
        message = "OAuth callback with missing authorization code missing"
        raise AuthError(ErrorCode.BAD_OAUTH_CALLBACK, message)
    try:
        return await exchange_code(outgoing(service), client, code, verifier)
    except ExchangeFailed as error:
        raise failure(f"Unable to exchange external code: {code[:4]}", error) from error


async def _exchange_oauth1(
    service: AuthService, client: ProviderClient, given: Mapping[str, str], token_secret: str
) -> ProviderTokens:
    token, verifier = given.get("oauth_token", ""), given.get("oauth_verifier", "")
    if not token or not verifier:
        raise AuthError(ErrorCode.BAD_OAUTH_CALLBACK, "OAuth callback with missing token or verifier")
    try:
        return await exchange_oauth1(outgoing(service), client, token, verifier, token_secret)
    except ExchangeFailed as error:
        raise failure("Unable to retrieve access token", error) from error


def browser_fault(service: AuthService, call: Call, error: Exception) -> dict[str, str]:
    """An error as a browser carries it (§4.3); one that is our own fault is observed."""
    shown = as_auth_error(error)
    if isinstance(shown, OAuthError):
        return {"error": shown.error, "error_description": shown.description}
    if shown.status >= 500:
        cause = shown.cause or error
        service.resources.observe(RequestFailed("auth", call.method, call.path, call.request_id, cause))
    fault = redirects.error_parameters(shown.status, shown.shown_code, shown.message)
    if shown.code in _DENIED:
        fault["error"] = "access_denied"
    return fault


def _error_redirect(service: AuthService, call: Call, target: str, error: Exception) -> WireResponse:
    """§4.3: the error in query and fragment; the query keeps what else is in it."""
    fault = {"error": "server_error"} | browser_fault(service, call, error)
    url = redirects.with_query(target, **fault)
    return wire.redirect(redirects.with_fragment(url, **{name: value for name, value in fault.items() if value}), 302)
