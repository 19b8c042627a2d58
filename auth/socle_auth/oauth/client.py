"""Talking to one provider: the address that asks for consent, code → tokens, tokens → profile."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus

from socle_auth.json_values import members, pick_text
from socle_auth.oauth import authlib_face
from socle_auth.oauth.catalogue import ClientAuth, IdToken, ProviderSpec
from socle_auth.oauth.custom import CustomRules, read_custom_claims
from socle_auth.oauth.id_tokens import (
    APPLE_ISSUERS,
    AZURE_COMMON,
    is_azure_customer_issuer,
    is_azure_issuer,
    read_id_token,
)
from socle_auth.oauth.oidc import Discovery, Issuers, OidcFault, ensure_audience, unverified_issuer
from socle_auth.oauth.profile import Profile, ProfileUnusable
from socle_platform.errors import SocleError
from socle_platform.outgoing import OutgoingError

if TYPE_CHECKING:
    from socle_platform.ports import HttpClient

_TIMEOUT = 10.0


class ExchangeFailed(SocleError):
    """The provider did not trade the code for tokens."""


@dataclass(frozen=True, slots=True)
class ProviderClient:
    """A provider as configured, with everything an exchange needs. `discovery` for those that serve one."""

    name: str
    client_id: str
    secret: str = field(repr=False)
    redirect_uri: str
    authorize_url: str
    token_url: str
    scopes: tuple[str, ...]
    spec: ProviderSpec | None = None
    auth_host: str = ""
    api_host: str = ""
    client_auth: ClientAuth = ClientAuth.AUTO
    pkce: bool = False
    email_optional: bool = False
    authorize_params: Mapping[str, str] = field(default_factory=dict[str, str])
    discovery: Discovery | None = None
    userinfo_url: str = ""
    custom: CustomRules | None = None

    @property
    def is_oauth1(self) -> bool:
        return self.spec is not None and self.spec.oauth1

    def with_urls(self, authorize_url: str, token_url: str) -> ProviderClient:
        return replace(self, authorize_url=authorize_url, token_url=token_url)

    def fill(self, template: str, **more: str) -> str:
        """A catalogue template with this client's hosts."""
        values = {"{auth}": self.auth_host, "{api}": self.api_host, "{client_id}": self.client_id}
        for name, value in (values | {f"{{{name}}}": value for name, value in more.items()}).items():
            template = template.replace(name, value)
        return template


@dataclass(frozen=True, slots=True)
class ProviderTokens:
    """The token endpoint's answer."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False, default="")
    id_token: str = field(repr=False, default="")
    answer: Mapping[str, object] = field(repr=False, default_factory=dict[str, object])
    token_secret: str = field(repr=False, default="")


def consent_url(client: ProviderClient, state: str, params: Mapping[str, str], verifier: str = "") -> str:
    """Where the person is sent; the caller has taken the protocol's own parameters out of `params`."""
    more = {**client.authorize_params, **params}
    if verifier:
        more |= {"code_challenge": authlib_face.code_challenge(verifier), "code_challenge_method": "S256"}
    return authlib_face.grant_uri(
        client.authorize_url, client.client_id, client.redirect_uri, " ".join(client.scopes), state, **more
    )


async def exchange_code(http: HttpClient, client: ProviderClient, code: str, verifier: str = "") -> ProviderTokens:
    """Trades the code for tokens. Raises ExchangeFailed."""
    pkce = {"code_verifier": verifier} if verifier else {}
    form = authlib_face.token_request(code, client.redirect_uri, **pkce)
    if client.client_auth is not ClientAuth.BODY:
        status, answer = await _post_form(http, client.token_url, form, _basic(client))
        if _succeeded(status, answer) or client.client_auth is ClientAuth.HEADER:
            return _tokens(status, answer)
    secret = f"&client_id={quote_plus(client.client_id)}&client_secret={quote_plus(client.secret)}"
    return _tokens(*await _post_form(http, client.token_url, form + secret, {}))


def _basic(client: ProviderClient) -> dict[str, str]:
    """Client id and secret as RFC 6749 §2.3.1 has it: form-encoded, then HTTP Basic."""
    pair = f"{quote_plus(client.client_id)}:{quote_plus(client.secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def _post_form(
    http: HttpClient, url: str, form: str, headers: Mapping[str, str]
) -> tuple[int, Mapping[str, object]]:
    try:
        answer = await http.request(
            "POST",
            url,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers},
            body=form.encode(),
            timeout=_TIMEOUT,
        )
    except OutgoingError as error:
        raise ExchangeFailed(error.message) from error
    return answer.status, _parse_answer(answer.body)


def _parse_answer(body: bytes) -> Mapping[str, object]:
    """JSON, or the form that older providers answer with."""
    try:
        return members(json.loads(body))
    except (ValueError, RecursionError):
        pass
    try:
        return dict(parse_qsl(body.decode()))
    except ValueError:
        return {}


def _succeeded(status: int, answer: Mapping[str, object]) -> bool:
    return 200 <= status < 300 and not answer.get("error") and bool(answer.get("access_token"))


def _tokens(status: int, answer: Mapping[str, object]) -> ProviderTokens:
    if not _succeeded(status, answer):
        raise ExchangeFailed(f"the token endpoint answered {status}: {pick_text(answer, 'error') or 'no access token'}")
    return ProviderTokens(
        access_token=pick_text(answer, "access_token"),
        refresh_token=pick_text(answer, "refresh_token"),
        id_token=pick_text(answer, "id_token"),
        answer=answer,
    )


async def read_person(
    http: HttpClient, issuers: Issuers, client: ProviderClient, tokens: ProviderTokens, now: datetime
) -> Profile:
    """Who signed in. Raises ProfileUnusable or OidcFault."""
    spec = client.spec
    if spec is None:
        return await _read_custom(issuers, client, tokens, now)
    if spec.id_token is not IdToken.UNUSED and tokens.id_token:
        return read_id_token(await _proven_claims(issuers, client, tokens, now))
    if spec.id_token is IdToken.REQUIRED or spec.read is None:
        raise ProfileUnusable(f"{client.name}: no OIDC ID token present in response")
    pages: list[object] = [await issuers.fetch_json(*_page(client, tokens, page)) for page in spec.pages]
    return spec.read(tokens.answer, pages, client.fill(spec.issuer))


def _page(client: ProviderClient, tokens: ProviderTokens, page: str) -> tuple[str, Mapping[str, str]]:
    """Address and headers of a page that describes the person."""
    assert client.spec is not None
    proof = hmac.new(client.secret.encode(), tokens.access_token.encode(), hashlib.sha256).hexdigest()
    url = client.fill(page, proof=proof)
    if client.is_oauth1:
        return url, authlib_face.oauth1_headers(
            "GET",
            url,
            client.client_id,
            client.secret,
            token=tokens.access_token,
            token_secret=tokens.token_secret,
        )
    extra = {name: client.fill(value) for name, value in client.spec.headers.items()}
    return url, {"Authorization": f"Bearer {tokens.access_token}", **extra}


async def _proven_claims(
    issuers: Issuers, client: ProviderClient, tokens: ProviderTokens, now: datetime
) -> dict[str, object]:
    assert client.spec is not None
    issuer = client.spec.issuer
    accepted: frozenset[str] = frozenset()
    if client.name == "apple":
        accepted = APPLE_ISSUERS
    elif client.name == "azure":
        issuer = _azure_issuer(client, unverified_issuer(tokens.id_token))
    claims = await issuers.verify(
        tokens.id_token,
        await issuers.discover(issuer),
        now=now,
        issuers=accepted,
        access_token=tokens.access_token,
    )
    ensure_audience(claims, (client.client_id,))
    return claims


def _azure_issuer(client: ProviderClient, issuer: str) -> str:
    """The tenant that issued the token, when the configured one (if it is a single tenant) allows it."""
    expected = f"{client.auth_host}/v2.0"
    single = (is_azure_issuer(expected) or is_azure_customer_issuer(expected)) and expected not in AZURE_COMMON
    if single and issuer != expected:
        raise OidcFault(f'azure: ID token issuer "{issuer}" does not match expected issuer "{expected}"')
    if not is_azure_issuer(issuer) and not (single and is_azure_customer_issuer(issuer)):
        raise OidcFault(f'azure: ID token issuer not valid "{issuer}"')
    return issuer


async def _read_custom(issuers: Issuers, client: ProviderClient, tokens: ProviderTokens, now: datetime) -> Profile:
    rules = client.custom or CustomRules()
    if client.discovery is not None and tokens.id_token:
        claims = await issuers.verify(tokens.id_token, client.discovery, now=now)
        ensure_audience(claims, (client.client_id, *rules.acceptable_client_ids))
        return read_custom_claims(claims, rules, read_id_token(claims))
    if not client.userinfo_url:
        raise ProfileUnusable("no ID token or userinfo endpoint available")
    headers = {"Authorization": f"Bearer {tokens.access_token}"}
    return read_custom_claims(members(await issuers.fetch_json(client.userinfo_url, headers)), rules)


async def request_oauth1_token(http: HttpClient, client: ProviderClient, state: str) -> tuple[str, str]:
    """OAuth 1: where the person is sent, and the secret of the request token. Raises ExchangeFailed."""
    url = f"{client.auth_host}/oauth/request_token"
    callback = f"{client.redirect_uri}?state={quote(state)}"
    headers = authlib_face.oauth1_headers("POST", url, client.client_id, client.secret, callback=callback)
    status, answer = await _post_form(http, url, "", headers)
    token = pick_text(answer, "oauth_token")
    if not 200 <= status < 300 or not token:
        raise ExchangeFailed(f"no request token, the provider answered {status}")
    return f"{client.authorize_url}?oauth_token={quote_plus(token)}", pick_text(answer, "oauth_token_secret")


async def exchange_oauth1(
    http: HttpClient, client: ProviderClient, token: str, verifier: str, token_secret: str
) -> ProviderTokens:
    """OAuth 1: trades the confirmed request token for an access token. Raises ExchangeFailed."""
    headers = authlib_face.oauth1_headers(
        "POST",
        client.token_url,
        client.client_id,
        client.secret,
        token=token,
        token_secret=token_secret,
        verifier=verifier,
    )
    status, answer = await _post_form(http, client.token_url, "", headers)
    access = pick_text(answer, "oauth_token")
    if not 200 <= status < 300 or not access:
        raise ExchangeFailed(f"no access token, the provider answered {status}")
    return ProviderTokens(access, answer=answer, token_secret=pick_text(answer, "oauth_token_secret"))


def join_scopes(scopes: Sequence[str], extra: str) -> tuple[str, ...]:
    """A provider's own scopes with those an application asks for, separated by commas or blanks."""
    asked = [scope for scope in extra.replace(",", " ").split() if scope]
    return tuple(dict.fromkeys((*scopes, *asked)))
