"""OpenID Connect: what an issuer publishes, fetched through the outgoing port and cached, and proof of its ID tokens.

Sources: OpenID Connect Discovery 1.0 §4, Core 1.0 §3.1.3.7 and §3.1.3.6 (`at_hash`), RFC 7517, contract §4.5.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from socle_auth.json_values import members, pick_list, pick_text
from socle_platform.errors import SocleError
from socle_platform.outgoing import OutgoingError

if TYPE_CHECKING:
    from jwt import PyJWK

    from socle_platform.ports import HttpClient

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"})
"""Signatures an ID token may have: public-key ones only, never a shared secret and never none."""

MAXIMUM_DOCUMENT = 1024 * 1024
_TIMEOUT = 10.0
_KEYS_PAUSE = 30.0
_NOT_BEFORE_SKEW = 300.0
_T = TypeVar("_T")


class OidcFault(SocleError):
    """The issuer's documents or token cannot be used."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """An issuer's discovery document: the members we use, and the whole of it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    algorithms: frozenset[str] = ALGORITHMS
    auth_methods: tuple[str, ...] = ()
    document: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)


def discovery_url(issuer: str) -> str:
    """Where an issuer publishes its document (Discovery 1.0 §4.1)."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def parse_discovery(document: object, issuer: str) -> Discovery:
    """A discovery document that belongs to `issuer`. Raises OidcFault."""
    found = members(document)
    if not found:
        raise OidcFault("the discovery document is not a JSON object")
    if pick_text(found, "issuer") != issuer:
        raise OidcFault(f'issuer mismatch, expected "{issuer}" got "{pick_text(found, "issuer")}"')
    named = {str(name) for name in pick_list(found, "id_token_signing_alg_values_supported")}
    return Discovery(
        issuer=issuer,
        authorization_endpoint=pick_text(found, "authorization_endpoint"),
        token_endpoint=pick_text(found, "token_endpoint"),
        jwks_uri=pick_text(found, "jwks_uri"),
        userinfo_endpoint=pick_text(found, "userinfo_endpoint"),
        algorithms=frozenset(named & ALGORITHMS) or ALGORITHMS,
        auth_methods=tuple(str(name) for name in pick_list(found, "token_endpoint_auth_methods_supported")),
        document=found,
    )


@dataclass(frozen=True, slots=True)
class _Cached(Generic[_T]):
    value: _T
    fetched: float


class Issuers:
    """Discovery documents and key sets by address, kept for `lifetime` seconds; a failing issuer's last answer is kept
    in use. Concurrent look-ups of one address are one request.
    """

    def __init__(self, http: HttpClient, seconds: Callable[[], float], lifetime: float = 3600.0) -> None:
        self._http = http
        self._seconds = seconds
        self._lifetime = lifetime
        self._documents: dict[tuple[str, str], _Cached[Discovery]] = {}
        self._keys: dict[str, _Cached[list[PyJWK]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def forget(self, issuer: str) -> None:
        """Drops what is known of an issuer, so that the next look-up asks it."""
        for place in [place for place in self._documents if place[0] == issuer]:
            found = self._documents.pop(place).value
            self._keys.pop(found.jwks_uri, None)

    async def discover(self, issuer: str, url: str = "") -> Discovery:
        """The issuer's document, from `url` when it is published elsewhere. Raises OidcFault."""
        where = url or discovery_url(issuer)
        place = (issuer, where)
        async with self._locks.setdefault(where, asyncio.Lock()):
            cached = self._documents.get(place)
            if cached is not None and self._seconds() - cached.fetched < self._lifetime:
                return cached.value
            try:
                found = parse_discovery(await self.fetch_json(where), issuer)
            except OidcFault:
                if cached is None:
                    raise
                return cached.value
            self._documents[place] = _Cached(found, self._seconds())
            return found

    async def fetch_json(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON that a GET brings. Raises OidcFault."""
        try:
            answer = await self._http.request(
                "GET", url, headers={"Accept": "application/json", **(headers or {})}, timeout=_TIMEOUT
            )
        except OutgoingError as error:
            raise OidcFault(f"request to {url} failed: {error.message}") from error
        if not 200 <= answer.status < 300:
            raise OidcFault(f"request to {url} returned {answer.status}")
        if len(answer.body) > MAXIMUM_DOCUMENT:
            raise OidcFault(f"the answer of {url} is too large")
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise OidcFault(f"the answer of {url} is not JSON") from None

    async def verify(
        self,
        token: str,
        discovery: Discovery,
        *,
        now: datetime,
        issuers: Collection[str] = (),
        access_token: str = "",
    ) -> dict[str, object]:
        """The claims of an ID token that the issuer signed and that is valid now; the audience is the caller's matter.

        `issuers` accepts other names for the same issuer; `access_token`, when both are there, must fit `at_hash`.
        Raises OidcFault.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise OidcFault("the ID token is malformed") from error
        algorithm = str(header.get("alg"))
        if algorithm not in discovery.algorithms:
            raise OidcFault(f"the ID token's algorithm {algorithm!r} is not accepted")
        claims: dict[str, object] | None = None
        for key in await self._fitting_keys(discovery.jwks_uri, str(header.get("kid") or ""), algorithm):
            try:
                claims = jwt.decode(token, key, algorithms=[algorithm], options=_SIGNATURE_ONLY)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise OidcFault("the ID token is malformed") from error
            break
        if claims is None:
            raise OidcFault("no key of the issuer made the ID token's signature")
        _ensure_current(claims, issuers or {discovery.issuer}, now)
        if access_token and claims.get("at_hash"):
            _ensure_hash(str(claims["at_hash"]), access_token, algorithm)
        return claims

    async def _fitting_keys(self, url: str, kid: str, algorithm: str) -> list[PyJWK]:
        """Keys for a signature; an unknown `kid` asks the issuer again, at most every half minute."""
        fitting = _select(await self._key_set(url, _oldest=self._lifetime), kid, algorithm)
        return fitting or _select(await self._key_set(url, _oldest=_KEYS_PAUSE), kid, algorithm)

    async def _key_set(self, url: str, *, _oldest: float) -> list[PyJWK]:
        async with self._locks.setdefault(url, asyncio.Lock()):
            cached = self._keys.get(url)
            if cached is not None and self._seconds() - cached.fetched < _oldest:
                return cached.value
            try:
                keys = _parse_keys(await self.fetch_json(url))
            except OidcFault:
                if cached is None:
                    raise
                return cached.value
            self._keys[url] = _Cached(keys, self._seconds())
            return keys


_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _parse_keys(document: object) -> list[PyJWK]:
    import jwt

    keys: list[PyJWK] = []
    for entry in pick_list(document, "keys"):
        jwk = members(entry)
        if jwk.get("use", "sig") != "sig" or jwk.get("kty") == "oct":
            continue
        try:
            keys.append(jwt.PyJWK(jwk))
        except (jwt.PyJWKError, jwt.InvalidKeyError, ValueError, TypeError):
            continue
    return keys


def _select(keys: list[PyJWK], kid: str, algorithm: str) -> list[PyJWK]:
    family = {"R": "RSA", "P": "RSA", "E": "EC"}[algorithm[0]] if algorithm != "EdDSA" else "OKP"
    return [key for key in keys if key.key_type == family and (not kid or key.key_id == kid)]


def _ensure_current(claims: Mapping[str, object], issuers: Collection[str], now: datetime) -> None:
    if claims.get("iss") not in issuers:
        raise OidcFault("the ID token is of another issuer")
    expires, not_before = claims.get("exp"), claims.get("nbf", 0)
    if isinstance(expires, bool) or not isinstance(expires, int | float) or now.timestamp() >= expires:
        raise OidcFault("the ID token has expired")
    if not isinstance(not_before, int | float) or now.timestamp() + _NOT_BEFORE_SKEW < not_before:
        raise OidcFault("the ID token is not valid yet")


def _ensure_hash(at_hash: str, access_token: str, algorithm: str) -> None:
    digest = hashlib.new({"256": "sha256", "384": "sha384"}.get(algorithm[-3:], "sha512"), access_token.encode())
    half = digest.digest()[: digest.digest_size // 2]
    expected = base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    if not hmac.compare_digest(expected.encode(), at_hash.rstrip("=").encode()):
        raise OidcFault("the access token does not belong to the ID token")


def ensure_audience(claims: Mapping[str, object], accepted: Collection[str]) -> None:
    """One of the token's audiences must be one of ours. Raises OidcFault."""
    if not any(one in accepted for one in audiences(claims) if one):
        raise OidcFault("the ID token is for another application")


def audiences(claims: Mapping[str, object]) -> list[str]:
    """The `aud` claim, which may be one text or several."""
    named = claims.get("aud")
    return [named] if isinstance(named, str) else [one for one in pick_list(named) if isinstance(one, str)]


def unverified_issuer(token: str) -> str:
    """What a token says its issuer is, proven by nothing; only to choose whom to ask. Raises OidcFault."""
    import jwt

    try:
        claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise OidcFault("the ID token is malformed") from error
    return pick_text(claims, "iss")
