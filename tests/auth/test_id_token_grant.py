"""The id_token grant: whose tokens, for whom, when, and with which nonce (contract §4.5)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio

from harness.auth_site import FAST, AuthSite, changed, claims_of, open_site, refusal
from harness.internet import Internet, started_internet
from harness.issuer import Issuer, at_hash
from harness.postgres import TestServer
from socle_platform.config.auth_external import ProviderSettings
from socle_platform.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")
AZURE = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
KEYCLOAK = "https://sso.example.org/realms/main"
NAMES = ("apple", "azure", "facebook", "google", "kakao", "keycloak", "snapchat", "vercel_marketplace")
ON = changed(
    FAST,
    external__providers={
        name: ProviderSettings(
            enabled=True,
            client_ids=(f"{name}-web", f"{name}-app"),
            secret="s",
            url=KEYCLOAK if name == "keycloak" else "",
        )
        for name in NAMES
    },
    external__ios_bundle_id="com.example.app",
    external__allowed_id_token_issuers=("https://listed.example", "https://accounts.google.com"),
)
ISSUERS = {
    "apple": "https://appleid.apple.com",
    "azure": AZURE,
    "facebook": "https://www.facebook.com",
    "google": "https://accounts.google.com",
    "kakao": "https://kauth.kakao.com",
    "keycloak": KEYCLOAK,
    "snapchat": "https://accounts.snapchat.com/accounts/oauth2/token",
    "vercel_marketplace": "https://marketplace.vercel.com",
}
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def internet() -> AsyncIterator[Internet]:
    async with started_internet() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database, internet: Internet) -> AsyncIterator[AuthSite]:
    async with open_site(database, ON, http=internet) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signers(internet: Internet) -> dict[str, Issuer]:
    return {name: Issuer(internet, issuer) for name, issuer in ISSUERS.items()}


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _refilled(site: AuthSite) -> None:
    """The clock stands still while a test runs: between tests it lets the rate limits fill again."""
    site.clock.advance(seconds=5)


def sign(site: AuthSite, signer: Issuer, audience: object, **claims: Any) -> str:
    number = next(_numbers)
    email = f"p{number}@example.com"
    whole = {"sub": f"s{number}", "email": email, "user_email": email, "email_verified": True, "nonce": None}
    now = int(site.clock.seconds())
    return signer.sign(aud=audience, **{**whole, "iat": now, "exp": now + 600, **claims})


async def grant(site: AuthSite, token: str, provider: str = "google", **more: Any) -> httpx.Response:
    body = {"id_token": token, "provider": provider, **more}
    return await site.post("/token?grant_type=id_token", {k: v for k, v in body.items() if v is not None})


def fault(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["error"], body.get("error_description", "")


@pytest.mark.parametrize("name", NAMES)
async def test_each_providers_token_signs_in(site: AuthSite, signers: dict[str, Issuer], name: str) -> None:
    for audience in (f"{name}-web", [f"{name}-app", "x"]):
        answer = await grant(site, sign(site, signers[name], audience), name)
        assert answer.status_code == 200, answer.text
        claims = claims_of(answer.json(), site.keyring)
        assert claims["app_metadata"]["provider"] == name
        assert [entry["method"] for entry in claims["amr"]] == ["oauth"]
        assert claims["email"].endswith("@example.com")


@pytest.mark.parametrize("name", NAMES)
async def test_the_issuer_names_the_provider_too(site: AuthSite, signers: dict[str, Issuer], name: str) -> None:
    token = sign(site, signers[name], f"{name}-web")
    answer = await grant(site, token, "", issuer=ISSUERS[name], client_id="any")
    assert answer.status_code == 200, answer.text
    assert claims_of(answer.json(), site.keyring)["app_metadata"]["provider"] == name


async def test_the_second_sign_in_is_the_same_user(site: AuthSite, signers: dict[str, Issuer]) -> None:
    token = sign(site, signers["google"], "google-web", sub="same", email="same@example.com")
    first, second = (await grant(site, token)).json(), (await grant(site, token)).json()
    assert first["user"]["id"] == second["user"]["id"]


async def test_apple_accepts_the_bundle_and_its_other_issuer(site: AuthSite, signers: dict[str, Issuer]) -> None:
    assert (await grant(site, sign(site, signers["apple"], "com.example.app"), "apple")).status_code == 200
    other = sign(site, signers["apple"], "apple-web", iss="https://account.apple.com")
    assert (await grant(site, other, "apple")).status_code == 200
    assert (await grant(site, other, "apple", issuer="https://account.apple.com")).status_code == 200


@pytest.mark.parametrize(
    ("body", "description"),
    [
        ({}, "id_token required"),
        ({"id_token": ""}, "id_token required"),
        ({"id_token": "x"}, "provider or client_id and issuer required"),
        ({"id_token": "x", "issuer": "y"}, "provider or client_id and issuer required"),
        ({"id_token": "x", "client_id": "y"}, "provider or client_id and issuer required"),
    ],
)
async def test_missing_fields(site: AuthSite, body: dict[str, str], description: str) -> None:
    answer = await site.post("/token?grant_type=id_token", body)
    assert fault(answer) == (400, "invalid request", description)


@pytest.mark.parametrize("name", ["apple", "azure"])
async def test_detected_issuers_must_be_the_providers(site: AuthSite, signers: dict[str, Issuer], name: str) -> None:
    for token, issuer in (
        (sign(site, signers["google"], "google-web"), None),
        (sign(site, signers[name], f"{name}-web"), "https://elsewhere.example"),
        ("not.a.token", None),
    ):
        assert refusal(await grant(site, token, name, issuer=issuer)) == (400, "validation_failed")


async def test_unlisted_providers_and_issuers_are_refused(site: AuthSite, signers: dict[str, Issuer]) -> None:
    token = sign(site, signers["google"], "google-web")
    assert refusal(await grant(site, token, "github")) == (400, "validation_failed")
    answer = await grant(site, token, "", issuer="https://unlisted.example", client_id="x")
    assert refusal(answer) == (400, "validation_failed")
    assert refusal(await grant(site, token, "custom:nope")) == (400, "validation_failed")


async def test_a_listed_issuer_with_the_callers_client_id(site: AuthSite, internet: Internet) -> None:
    listed = Issuer(internet, "https://listed.example")
    token = sign(site, listed, "their-app")
    answer = await grant(site, token, "", issuer="https://listed.example", client_id="their-app")
    assert answer.json()["user"]["app_metadata"]["provider"] == "https://listed.example"
    wrong = await grant(site, token, "", issuer="https://listed.example", client_id="another")
    assert fault(wrong)[:2] == (400, "invalid request")


async def test_a_provider_that_is_off(database: Database, internet: Internet, site: AuthSite) -> None:
    off = changed(ON, external__providers={"google": ProviderSettings(client_ids=("google-web",), secret="s")})
    async with open_site(database, off, http=internet, clock=site.clock) as closed:
        token = sign(site, Issuer(internet, "https://accounts.google.com"), "google-web")
        assert refusal(await grant(closed, token)) == (400, "provider_disabled")


async def test_bad_tokens(site: AuthSite, signers: dict[str, Issuer]) -> None:
    google = signers["google"]
    good, now = sign(site, google, "google-web"), int(site.clock.seconds())
    public = jwt.PyJWK(google.jwk()).key.public_bytes(*_pem())
    confused = hs256({"iss": google.name, "sub": "x", "aud": "google-web", "exp": now + 60}, public, google.kid)
    for bad in (
        "x",
        good[:-4] + "AAAA",
        sign(site, google, "google-web", exp=now),
        sign(site, google, "google-web", exp=None),
        sign(site, google, "google-web", nbf=now + 3600),
        sign(site, google, "google-web", iss="https://elsewhere.example"),
        sign(site, signers["azure"], "google-web", iss=google.name, exp=now + 60) + "x",
        confused,
        jwt.encode({"iss": google.name, "sub": "x", "aud": "google-web", "exp": now + 60}, "", algorithm="none"),
    ):
        assert fault(await grant(site, bad)) == (400, "invalid request", "Bad ID token")


def _pem() -> tuple[Any, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


def hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """A token signed with the issuer's public key as if it were a shared secret (PyJWT itself refuses to make one)."""
    import base64
    import hmac
    import json

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part({"alg": "HS256", "kid": kid}) + b"." + part(claims)
    signature = hmac.digest(secret, signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_a_token_without_subject(site: AuthSite, signers: dict[str, Issuer]) -> None:
    answer = await grant(site, sign(site, signers["google"], "google-web", sub=None))
    assert fault(answer) == (400, "invalid request", "Missing sub claim in id_token")


@pytest.mark.parametrize("audience", ["another", [], None, ["", "x"]])
async def test_tokens_for_other_applications(site: AuthSite, signers: dict[str, Issuer], audience: object) -> None:
    answer = await grant(site, sign(site, signers["google"], audience))
    assert fault(answer)[:2] == (400, "invalid request")
    assert "Unacceptable audience" in fault(answer)[2]


async def test_the_access_token_must_belong(site: AuthSite, signers: dict[str, Issuer]) -> None:
    token = sign(site, signers["google"], "google-web", at_hash=at_hash("the access token"))
    assert (await grant(site, token, access_token="the access token")).status_code == 200
    assert (await grant(site, token)).status_code == 200
    wrong = await grant(site, token, access_token="another one")
    assert fault(wrong) == (400, "invalid request", "Bad ID token")


@pytest.mark.parametrize(
    ("inside", "given", "expected"),
    [
        (None, None, None),
        ("n", "n", None),
        ("n", "other", ("invalid nonce", "Nonces mismatch")),
        ("n", None, ("invalid request", "Passed nonce and nonce in id_token should either both exist or not.")),
        (None, "n", ("invalid request", "Passed nonce and nonce in id_token should either both exist or not.")),
    ],
)
async def test_nonces(
    site: AuthSite,
    signers: dict[str, Issuer],
    inside: str | None,
    given: str | None,
    expected: tuple[str, str] | None,
) -> None:
    hashed = hashlib.sha256(inside.encode()).hexdigest() if inside else None
    answer = await grant(site, sign(site, signers["google"], "google-web", nonce=hashed), nonce=given)
    if expected is None:
        assert answer.status_code == 200, answer.text
    else:
        assert fault(answer) == (400, *expected)


async def test_nonces_can_be_skipped(
    site: AuthSite, signers: dict[str, Issuer], database: Database, internet: Internet
) -> None:
    facebook = sign(site, signers["facebook"], "facebook-web", nonce="whatever")
    assert (await grant(site, facebook, "facebook")).status_code == 200
    skipping = ProviderSettings(enabled=True, client_ids=("google-web",), secret="s", skip_nonce_check=True)
    settings = changed(ON, external__providers={"google": skipping})
    async with open_site(database, settings, http=internet, clock=site.clock) as lax:
        assert (await grant(lax, sign(site, signers["google"], "google-web", nonce="raw"))).status_code == 200


async def test_keys_are_rotated_without_anybody_noticing(site: AuthSite, internet: Internet) -> None:
    listed = Issuer(internet, "https://listed.example", algorithm="ES256")
    site.service.issuers.forget("https://listed.example")
    body = {"issuer": "https://listed.example", "client_id": "app"}
    assert (await grant(site, sign(site, listed, "app"), "", **body)).status_code == 200
    listed.rotate("key-2")
    site.clock.advance(minutes=1)
    assert (await grant(site, sign(site, listed, "app"), "", **body)).status_code == 200
    asked = len(internet.calls("https://listed.example/keys"))
    for number in range(5):
        listed.kid = f"invented-{number}"
        assert (await grant(site, sign(site, listed, "app"), "", **body)).status_code == 400
    assert len(internet.calls("https://listed.example/keys")) == asked


async def test_linking_by_id_token(site: AuthSite, signers: dict[str, Issuer]) -> None:
    session = await site.signed_in(email=f"linker{next(_numbers)}@example.com")
    token = sign(site, signers["google"], "google-web")
    body = {"id_token": token, "provider": "google", "link_identity": True}
    bare = await site.post("/token?grant_type=id_token", body)
    assert fault(bare)[:2] == (400, "invalid request")
    forged = await site.post("/token?grant_type=id_token", body, token="x.y.z")
    assert refusal(forged) == (403, "bad_jwt")
    answer = await site.post("/token?grant_type=id_token", body, token=session["access_token"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"]["id"] == session["user"]["id"]
    assert answer.json()["user"]["app_metadata"]["providers"] == ["email", "google"]
    again = await site.post("/token?grant_type=id_token", body, token=session["access_token"])
    assert refusal(again) == (422, "identity_already_exists")


async def test_an_unverified_address_is_asked_for_by_mail(site: AuthSite, signers: dict[str, Issuer]) -> None:
    email = f"unproven{next(_numbers)}@example.com"
    token = sign(site, signers["google"], "google-web", email=email, email_verified=False)
    assert refusal(await grant(site, token)) == (422, "provider_email_needs_verification")
    assert (await site.user_row(email))["email_confirmed_at"] is None
    assert site.outbox.last(email)


async def test_a_custom_oidc_provider(site: AuthSite, internet: Internet) -> None:
    issuer = Issuer(internet, "https://custom-idt.example")
    made = {
        "provider_type": "oidc",
        "identifier": "custom:idt",
        "name": "IDT",
        "client_id": "our-id",
        "client_secret": "s",
        "issuer": issuer.name,
        "acceptable_client_ids": ["mobile"],
        "custom_claims_allowlist": ["tenant"],
    }
    assert (await site.admin("POST", "/admin/custom-providers", made)).status_code == 201
    answer = await grant(site, sign(site, issuer, "mobile", tenant="t1"), "custom:idt")
    assert answer.json()["user"]["user_metadata"]["custom_claims"] == {"tenant": "t1"}
    await site.admin("PUT", "/admin/custom-providers/custom:idt", {"enabled": False})
    refused = await grant(site, sign(site, issuer, "mobile"), "custom:idt")
    assert refusal(refused) == (400, "provider_disabled")
