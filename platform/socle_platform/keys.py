"""Token verification and signing for every service: keys, algorithms, clock skew, the verified-token cache.

TokenError
├── TokenEmpty              nothing after `Bearer`
├── TokenMalformed          not three parts, not base64, not JSON
├── TokenKeyUnknown         no key of ours fits its `kid` and algorithm
├── TokenAlgorithmRefused   `none`, or an algorithm that the key does not do
├── TokenSignatureInvalid   signed by somebody else
├── TokenExpired · TokenNotYetValid · TokenIssuedInFuture · TokenAudienceMismatch
├── TokenClaimInvalid       a registered claim of the wrong type
└── NoKeyConfigured         a token came, and we have nothing to verify it with

Sources: RFC 7515/7517/7518/7519, contracts rest.md §13 and §16, auth.md §5.2.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from socle_platform.errors import SocleError
from socle_platform.identity import Identity

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

CLOCK_SKEW = 30
"""Seconds of leeway on `exp`, `nbf` and `iat` (contract rest.md §13)."""

_ALGORITHMS_OF = {
    "oct": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
_CURVE_ALGORITHM = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_HMAC_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_OWN_MEMBERS = frozenset({"status", "status_since"})
"""What the file of signing keys says besides the key: nobody else's business."""


class TokenError(SocleError):
    """The token proves nothing."""


class TokenEmpty(TokenError):
    """Empty JWT is sent in Authorization header"""


class TokenMalformed(TokenError):
    """The token cannot be decoded."""


class TokenKeyUnknown(TokenError):
    """No suitable key or wrong key type"""


class TokenAlgorithmRefused(TokenError):
    """Wrong or unsupported encoding algorithm"""


class TokenSignatureInvalid(TokenError):
    """JWT cryptographic operation failed"""


class TokenClaimInvalid(TokenError):
    """A claim of the token has the wrong type."""


class TokenExpired(TokenError):
    """JWT expired"""


class TokenNotYetValid(TokenError):
    """JWT not yet valid"""


class TokenIssuedInFuture(TokenError):
    """JWT issued at future"""


class TokenAudienceMismatch(TokenError):
    """JWT not in audience"""


class NoKeyConfigured(TokenError):
    """Server lacks JWT secret"""


@dataclass(frozen=True, slots=True)
class Key:
    """One JWK of ours. `use_for_signing` marks the one that new tokens are signed with."""

    kid: str | None
    algorithms: tuple[str, ...]
    jwk: Mapping[str, Any]
    use_for_signing: bool = False

    @property
    def is_symmetric(self) -> bool:
        return bool(self.jwk["kty"] == "oct")

    def public_jwk(self) -> dict[str, Any]:
        """The public half as published (auth.md §5.2)."""
        public = {name: value for name, value in self.jwk.items() if name not in _PRIVATE_MEMBERS | _OWN_MEMBERS}
        return {**public, "alg": self.algorithms[0], "use": "sig", "key_ops": ["verify"]}


def secret_key(secret: str | bytes, kid: str | None = None, *, signing: bool = True) -> Key:
    """An HMAC key of a shared secret (text is taken as UTF-8)."""
    raw = secret.encode() if isinstance(secret, str) else secret
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    return Key(kid, _ALGORITHMS_OF["oct"], jwk, signing)


def parse_jwk(jwk: Mapping[str, Any]) -> Key:
    """A key of one JWK. Raises ValueError for an unknown kind or a curve that we do not serve."""
    kind = jwk.get("kty")
    if kind not in _ALGORITHMS_OF:
        raise ValueError(f"unknown key type {kind!r}")
    named = jwk.get("alg")
    if kind in {"EC", "OKP"}:
        algorithm = _CURVE_ALGORITHM.get(str(jwk.get("crv")))
        if algorithm is None:
            raise ValueError(f"unknown curve {jwk.get('crv')!r}")
        algorithms: tuple[str, ...] = (algorithm,)
    else:
        algorithms = (str(named),) if named else _ALGORITHMS_OF[kind]
    if named and named not in _ALGORITHMS_OF[kind]:
        raise ValueError(f"algorithm {named!r} does not fit key type {kind!r}")
    operations = cast("Sequence[str]", jwk.get("key_ops") or ())
    kid = jwk.get("kid")
    return Key(None if kid is None else str(kid), algorithms, dict(jwk), "sign" in operations)


def parse_jwks(document: object) -> tuple[Key, ...]:
    """Keys of a JWK, a JSON array of JWKs, or a JWK set. Raises ValueError."""
    if isinstance(document, Mapping):
        mapping = cast("Mapping[str, Any]", document)
        return tuple(parse_jwk(jwk) for jwk in mapping["keys"]) if "keys" in mapping else (parse_jwk(mapping),)
    if isinstance(document, list):
        return tuple(parse_jwk(cast("Mapping[str, Any]", jwk)) for jwk in cast("list[object]", document))
    raise ValueError("neither a JWK nor a set of them")


def role_claim(claims: Mapping[str, object]) -> str | None:
    """The plain `role` claim: the default way to find a role."""
    role = claims.get("role")
    return role if isinstance(role, str) else None


def encode_claims(claims: Mapping[str, object]) -> str:
    """Claims as the compact JSON text that PostgreSQL gets."""
    return json.dumps(claims, separators=(",", ":"), ensure_ascii=False)


class Keyring:
    """Verifies tokens by our keys and remembers the verified ones.

    `audience`: tokens that name another one are refused; those that name none pass (rest.md §13).
    `anonymous_role`: the role of a token without one; None refuses nothing here, the service decides.
    The cache is bounded, keyed by the whole token, holds proven tokens only, and `exp` is checked on every hit.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        audience: Callable[[str], bool] | str | None = None,
        role_of: Callable[[Mapping[str, object]], str | None] = role_claim,
        anonymous_role: str = "anon",
        opaque_keys: Mapping[str, str] | None = None,
        cache_size: int = 1000,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.time_of_day = time_of_day
        self._role_of = role_of
        self._anonymous_role = anonymous_role
        self._cache_size = cache_size
        self._audience: Callable[[str], bool] | None = _equals(audience) if isinstance(audience, str) else audience
        self._opaque = {
            key: Identity(role, None, {"role": role}, encode_claims({"role": role}))
            for key, role in (opaque_keys or {}).items()
        }
        self._verified: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self.keys: tuple[Key, ...] = ()
        self.replace(keys)

    def replace(self, keys: Sequence[Key]) -> None:
        """Takes over a new set of keys at once and forgets every verified token."""
        self.keys = tuple(keys)
        self._prepared: dict[tuple[int, str], tuple[Algorithm, Any]] = {}
        self._verified.clear()

    @property
    def signing_key(self) -> Key:
        """The key that new tokens are signed with: the one marked so, else the first. Raises NoKeyConfigured."""
        if not self.keys:
            raise NoKeyConfigured
        return next((key for key in self.keys if key.use_for_signing), self.keys[0])

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public key set (asymmetric keys only; auth.md §5.2)."""
        return {"keys": [key.public_jwk() for key in self.keys if not key.is_symmetric]}

    def identity_of_key(self, apikey: str) -> Identity | None:
        """Who an opaque key (`sb_publishable_…`, `sb_secret_…`) stands for; None when it is not one of ours."""
        for key, identity in self._opaque.items():
            if hmac.compare_digest(key.encode(), apikey.encode()):
                return identity
        return None

    def sign(self, claims: Mapping[str, object]) -> str:
        """A compact JWS of the claims under the signing key."""
        key = self.signing_key
        header = {"alg": key.algorithms[0], "typ": "JWT"} | ({"kid": key.kid} if key.kid else {})
        signed = (
            _encode_part(json.dumps(header, separators=(",", ":")).encode())
            + b"."
            + _encode_part(encode_claims(claims).encode())
        )
        algorithm, prepared = self._algorithm(key, key.algorithms[0])
        return (signed + b"." + _encode_part(algorithm.sign(signed, prepared))).decode()

    def verify(self, token: str) -> Identity:
        """Who the token's bearer is. Raises a TokenError."""
        now = self.time_of_day()
        hit = self._verified.get(token)
        if hit is not None:
            expires, identity = hit
            if now < expires:
                self._verified.move_to_end(token)
                return identity
            del self._verified[token]
        claims = self._proven_claims(token)
        self._check_claims(claims, now)
        role = self._role_of(claims) or self._anonymous_role
        subject = claims.get("sub")
        claims_json = encode_claims({**claims, "role": role})
        identity = Identity(role, subject if isinstance(subject, str) else None, claims, claims_json, token)
        if self._cache_size:
            self._verified[token] = (expiry_of(identity), identity)
            if len(self._verified) > self._cache_size:
                self._verified.popitem(last=False)
        return identity

    def _proven_claims(self, token: str) -> dict[str, object]:
        if not token:
            raise TokenEmpty
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenMalformed(f"Expected 3 parts in JWT; got {len(parts)}")
        if not self.keys:
            raise NoKeyConfigured
        header = _decode_object(parts[0], "header")
        name = header.get("alg")
        if not isinstance(name, str) or not any(name in names for names in _ALGORITHMS_OF.values()):
            raise TokenAlgorithmRefused
        signed = f"{parts[0]}.{parts[1]}".encode()
        signature = _decode_part(parts[2])
        candidates = self._candidates(header.get("kid"), name)
        for key in candidates:
            if key.is_symmetric:
                raw = _decode_part(str(key.jwk["k"]))
                if hmac.compare_digest(hmac.digest(raw, signed, _HMAC_DIGESTS[name]), signature):
                    return _decode_object(parts[1], "payload")
                continue
            algorithm, prepared = self._algorithm(key, name, verify=True)
            if algorithm.verify(signed, prepared, signature):
                return _decode_object(parts[1], "payload")
        raise TokenSignatureInvalid if candidates else TokenKeyUnknown

    def _candidates(self, kid: object, algorithm: str) -> list[Key]:
        """The named key, else those without a name: an unknown `kid` gets the plain secret (auth.md §5.2)."""
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if kid is None:
            return fitting
        named = [key for key in fitting if key.kid == kid]
        return named or [key for key in fitting if key.kid is None]

    def _algorithm(self, key: Key, name: str, *, verify: bool = False) -> tuple[Algorithm, Any]:
        from jwt.algorithms import get_default_algorithms

        place = (id(key), name + ("?" if verify else ""))
        if place not in self._prepared:
            algorithm = get_default_algorithms()[name]
            jwk = key.jwk if not verify or key.is_symmetric else _without_private(key.jwk)
            self._prepared[place] = (algorithm, cast("Any", algorithm).from_jwk(json.dumps(dict(jwk))))
        return self._prepared[place]

    def _check_claims(self, claims: Mapping[str, object], now: float) -> None:
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name)
            if value is not None and not _is_number(value):
                raise TokenClaimInvalid(f"The JWT '{name}' claim must be a number")
        audience = claims.get("aud")
        if audience is not None and not _is_text_or_texts(audience):
            raise TokenClaimInvalid("The JWT 'aud' claim must be a string or an array of strings")
        if _as_number(claims.get("exp"), float("inf")) + CLOCK_SKEW <= now:
            raise TokenExpired
        if _as_number(claims.get("nbf"), 0.0) - CLOCK_SKEW > now:
            raise TokenNotYetValid
        if _as_number(claims.get("iat"), 0.0) - CLOCK_SKEW > now:
            raise TokenIssuedInFuture
        if self._audience is not None and audience:
            names = [audience] if isinstance(audience, str) else cast("list[str]", audience)
            if not any(self._audience(name) for name in names):
                raise TokenAudienceMismatch


def expiry_of(identity: Identity) -> float:
    """Until when what proved this identity is good, in seconds since 1970, leeway included."""
    return _as_number(identity.claims.get("exp"), float("inf")) + CLOCK_SKEW


def _equals(expected: str) -> Callable[[str], bool]:
    def equals(name: str) -> bool:
        return name == expected

    return equals


def _is_text_or_texts(value: object) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[object]", value))


def _is_number(value: object) -> bool:
    """Whether it is a number that a point in time can be: JSON knows numbers without end, which no clock does."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _as_number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _without_private(jwk: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name not in _PRIVATE_MEMBERS and name != "key_ops"}


def _encode_part(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decode_part(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, UnicodeEncodeError):
        raise TokenMalformed("JWT cryptographic operation failed") from None


def _decode_object(text: str, part: str) -> dict[str, object]:
    try:
        value: object = json.loads(_decode_part(text))
    except (ValueError, RecursionError):
        raise TokenMalformed(f"The JWT {part} is not JSON") from None
    if not isinstance(value, dict):
        raise TokenMalformed(f"The JWT {part} is not a JSON object")
    return cast("dict[str, object]", value)
