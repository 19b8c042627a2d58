"""The keyring: what it proves, what it refuses, what it remembers (contracts rest.md §13, auth.md §5.2 and §9)."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from socle_platform.keys import (
    CLOCK_SKEW,
    Keyring,
    NoKeyConfigured,
    TokenAlgorithmRefused,
    TokenAudienceMismatch,
    TokenClaimInvalid,
    TokenEmpty,
    TokenError,
    TokenExpired,
    TokenIssuedInFuture,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
    TokenSignatureInvalid,
    parse_jwk,
    parse_jwks,
    secret_key,
)

SECRET = "a-secret-of-at-least-32-characters-long"
NOW = 1_700_000_000.0


def ring(**options: Any) -> Keyring:
    return Keyring((secret_key(SECRET),), time_of_day=lambda: NOW, **options)


def token(claims: dict[str, Any], secret: str = SECRET, **options: Any) -> str:
    return jwt.encode(claims, secret, algorithm=options.pop("algorithm", "HS256"), **options)


def private_jwks() -> dict[str, dict[str, Any]]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    return {
        "RS256": RSAAlgorithm.to_jwk(rsa_key, as_dict=True),
        "ES256": ECAlgorithm.to_jwk(ec_key, as_dict=True),
        "EdDSA": OKPAlgorithm.to_jwk(ed_key, as_dict=True),
    }


def test_a_proven_token_becomes_an_identity() -> None:
    identity = ring().verify(token({"sub": "u1", "role": "authenticated", "exp": NOW + 60}))
    assert (identity.role, identity.subject) == ("authenticated", "u1")
    assert json.loads(identity.claims_json)["role"] == "authenticated"


def test_a_token_without_a_role_is_anonymous_and_says_so_to_the_database() -> None:
    identity = ring().verify(token({"sub": "u1"}))
    assert identity.role == "anon"
    assert json.loads(identity.claims_json) == {"sub": "u1", "role": "anon"}


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"exp": NOW - CLOCK_SKEW}, TokenExpired),
        ({"nbf": NOW + CLOCK_SKEW + 1}, TokenNotYetValid),
        ({"iat": NOW + CLOCK_SKEW + 1}, TokenIssuedInFuture),
        ({"exp": "tomorrow"}, TokenClaimInvalid),
        ({"nbf": True}, TokenClaimInvalid),
        ({"aud": 5}, TokenClaimInvalid),
        ({"aud": ["a", 5]}, TokenClaimInvalid),
        ({"aud": "other"}, TokenAudienceMismatch),
        ({"aud": ["other", "third"]}, TokenAudienceMismatch),
    ],
)
def test_claims_that_are_refused(claims: dict[str, Any], error: type[TokenError]) -> None:
    raw = ".".join(part(document) for document in ({"alg": "HS256"}, claims))
    signed = f"{raw}.{sign(raw)}"
    with pytest.raises(error):
        ring(audience="mine").verify(signed)


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def sign(text: str, secret: str = SECRET) -> str:
    import hmac

    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "claims", [{"exp": NOW - CLOCK_SKEW + 1}, {"nbf": NOW + CLOCK_SKEW}, {"aud": []}, {"aud": "mine"}]
)
def test_claims_within_the_skew_or_without_audience_pass(claims: dict[str, Any]) -> None:
    assert ring(audience="mine").verify(token(claims)).role == "anon"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("", TokenEmpty),
        ("a.b", TokenMalformed),
        ("a.b.c.d", TokenMalformed),
        ("§.§.§", TokenMalformed),
        (f"{part({'alg': 'none'})}.{part({'role': 'service_role'})}.", TokenAlgorithmRefused),
        (f"{part({'alg': 'None'})}.{part({})}.", TokenAlgorithmRefused),
        (f"{part({'alg': 5})}.{part({})}.", TokenAlgorithmRefused),
        (f"{part({})}.{part({})}.", TokenAlgorithmRefused),
        (f"{part([])}.{part({})}.", TokenMalformed),
        (f"{part({'alg': 'RS256'})}.{part({})}.AAAA", TokenKeyUnknown),
        (f"{part({'alg': 'HS256'})}.{part({})}.AAAA", TokenSignatureInvalid),
    ],
)
def test_tokens_that_prove_nothing(raw: str, error: type[TokenError]) -> None:
    with pytest.raises(error):
        ring().verify(raw)


def test_another_secret_is_refused() -> None:
    with pytest.raises(TokenSignatureInvalid):
        ring().verify(token({"role": "service_role"}, "another-secret-of-at-least-32-characters"))


def test_without_keys_a_token_is_refused() -> None:
    with pytest.raises(NoKeyConfigured):
        Keyring(()).verify(token({}))


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1e999", "NaN"])
def test_a_time_that_no_clock_shows_is_refused(claim: str, number: str) -> None:
    raw = jwt.PyJWS().encode(f'{{"role":"anon","{claim}":{number}}}'.encode(), SECRET)
    with pytest.raises(TokenError):
        ring().verify(raw)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_asymmetric_keys_sign_and_verify(algorithm: str) -> None:
    jwk = {**private_jwks()[algorithm], "kid": "k1", "key_ops": ["sign", "verify"]}
    keyring = Keyring((parse_jwk(jwk), secret_key(SECRET, signing=False)), time_of_day=lambda: NOW)
    signed = keyring.sign({"sub": "u", "role": "authenticated"})
    assert jwt.get_unverified_header(signed) == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    assert keyring.verify(signed).subject == "u"
    published = keyring.jwks()["keys"]
    assert len(published) == 1
    assert "d" not in published[0]
    assert published[0]["key_ops"] == ["verify"]
    assert Keyring(parse_jwks({"keys": published}), time_of_day=lambda: NOW).verify(signed).role == "authenticated"


def test_a_public_key_is_no_hmac_secret() -> None:
    """Algorithm confusion: an HS256 token under the text of the public key must fail (auth.md §9)."""
    jwk = {**private_jwks()["RS256"], "kid": "k1"}
    keyring = Keyring((parse_jwk(jwk),))
    public: Any = RSAAlgorithm.from_jwk(json.dumps({k: v for k, v in jwk.items() if k in {"kty", "n", "e"}}))
    pem: bytes = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    raw = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part({'role': 'service_role'})}"
    with pytest.raises(TokenKeyUnknown):
        keyring.verify(f"{raw}.{sign(raw, pem.decode())}")


def test_an_unknown_kid_still_gets_the_plain_secret_but_no_named_key() -> None:
    named = Keyring((secret_key(SECRET, "k1"),), time_of_day=lambda: NOW)
    with pytest.raises(TokenKeyUnknown):
        named.verify(token({}, headers={"kid": "k2"}))
    assert ring().verify(token({}, headers={"kid": "k2"})).role == "anon"


def test_the_cache_forgets_expired_tokens_and_replaced_keys() -> None:
    now = [NOW]
    keyring = Keyring((secret_key(SECRET),), time_of_day=lambda: now[0])
    short = token({"exp": NOW + 10})
    assert keyring.verify(short) is keyring.verify(short)
    now[0] = NOW + 10 + CLOCK_SKEW
    with pytest.raises(TokenExpired):
        keyring.verify(short)
    lasting = token({})
    keyring.verify(lasting)
    keyring.replace((secret_key("another-secret-of-at-least-32-characters"),))
    with pytest.raises(TokenSignatureInvalid):
        keyring.verify(lasting)


def test_the_cache_is_bounded() -> None:
    keyring = ring(cache_size=3)
    tokens = [token({"n": n}) for n in range(5)]
    first = [keyring.verify(each) for each in tokens]
    assert keyring.verify(tokens[4]) is first[4]
    assert keyring.verify(tokens[0]) is not first[0]


def test_opaque_keys_stand_for_roles() -> None:
    keyring = ring(opaque_keys={"sb_publishable_a": "anon", "sb_secret_b": "service_role"})
    secret = keyring.identity_of_key("sb_secret_b")
    assert secret is not None
    assert secret.role == "service_role"
    assert keyring.identity_of_key("sb_secret_c") is None


@pytest.mark.parametrize("jwk", [{"kty": "???"}, {"kty": "EC", "crv": "P-1"}, {"kty": "RSA", "alg": "HS256"}, {}])
def test_jwks_that_are_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"key|curve|algorithm"):
        parse_jwk(jwk)
