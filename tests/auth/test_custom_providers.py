"""Custom providers: the admin API, and signing in by them (contract §3.13, §4.2)."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from harness.auth_site import FAST, AuthSite, changed, claims_of, fragment_of, open_site, query_of, refusal
from harness.internet import Internet, started_internet
from harness.issuer import Issuer
from harness.postgres import TestServer
from harness.providers import begin, come_back
from harness.site import Reply
from socle_platform.config.auth_external import CustomOAuthSettings
from socle_platform.db import Database
from socle_platform.keys import secret_key

pytestmark = pytest.mark.asyncio(loop_scope="module")
BASE = "/admin/custom-providers"
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
    async with open_site(database, FAST, http=internet) as opened:
        yield opened


def oauth2(**changes: Any) -> dict[str, Any]:
    return {
        "provider_type": "oauth2",
        "identifier": f"custom:plain-{next(_numbers)}",
        "name": "Plain",
        "client_id": "our-id",
        "client_secret": "our-secret",
        "scopes": ["profile", "email"],
        "authorization_url": "https://plain.example/authorize",
        "token_url": "https://plain.example/token",
        "userinfo_url": "https://plain.example/me",
        **changes,
    }


def oidc(at: Issuer, /, **changes: Any) -> dict[str, Any]:
    return {
        "provider_type": "oidc",
        "identifier": f"custom:oidc-{next(_numbers)}",
        "name": "Open",
        "client_id": "our-id",
        "client_secret": "our-secret",
        "issuer": at.name,
        **changes,
    }


def fresh_issuer(internet: Internet, **more: Any) -> Issuer:
    return Issuer(internet, f"https://issuer{next(_numbers)}.example", **more)


async def create(site: AuthSite, body: dict[str, Any]) -> dict[str, Any]:
    answer = await site.admin("POST", BASE, body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_oauth2_provider_is_kept_and_shown_without_its_secret(site: AuthSite) -> None:
    lists = {"acceptable_client_ids": ["other"], "custom_claims_allowlist": ["x"]}
    sent = oauth2(attribute_mapping={"name": "nickname"}, **lists)
    made = await create(site, sent)
    assert "client_secret" not in made
    assert {key: made[key] for key in sent if key != "client_secret"} == {
        key: value for key, value in sent.items() if key != "client_secret"
    }
    assert (made["pkce_enabled"], made["enabled"], made["email_optional"]) == (True, True, False)
    assert made["authorization_params"] == {}
    assert "issuer" not in made
    assert (await site.admin("GET", f"{BASE}/{made['identifier']}")).json() == made
    listed = (await site.admin("GET", f"{BASE}?type=oauth2")).json()["providers"]
    assert made in listed
    assert made not in (await site.admin("GET", f"{BASE}?type=oidc")).json()["providers"]
    assert refusal(await site.admin("GET", f"{BASE}?type=ldap")) == (400, "validation_failed")


async def test_the_secret_is_sealed_at_rest(site: AuthSite, database: Database, internet: Internet) -> None:
    """Also without database encryption; a rotation of signing keys leaves it readable."""
    made = await create(site, oauth2())
    row = await site.row("select client_secret from auth.custom_oauth_providers where id = $1", made["id"])
    assert "our-secret" not in row["client_secret"]
    assert json.loads(row["client_secret"])["alg"] == "aes-gcm-hkdf"
    rotated = (replace(secret_key("another-secret-that-is-quite-long-enough", "new"), use_for_signing=True),)
    async with open_site(database, FAST, http=internet, keys=rotated, clock=site.clock) as later:
        internet.say("POST", "https://plain.example/token", {"access_token": "t"})
        internet.say("GET", "https://plain.example/me", {"sub": "1", "email": "a@example.com", "email_verified": True})
        await come_back(later, await begin(later, made["identifier"]))
        assert "our-secret" in str(internet.calls("https://plain.example/token")[-1].headers) or (
            internet.calls("https://plain.example/token")[-1].headers["Authorization"].startswith("Basic ")
        )
        await later.admin("PUT", f"{BASE}/{made['identifier']}", {"client_secret": "newer-secret"})
        stored = await later.row("select client_secret from auth.custom_oauth_providers where id = $1", made["id"])
        assert stored["client_secret"] != row["client_secret"]


async def test_a_plain_secret_of_upstream_is_read(site: AuthSite, internet: Internet) -> None:
    made = await create(site, oauth2())
    await site.run("update auth.custom_oauth_providers set client_secret = 'plain' where id = $1", made["id"])
    assert (await site.get(f"/authorize?provider={made['identifier']}")).status_code == 302


async def test_an_oidc_provider_is_asked_before_it_is_kept(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    made = await create(site, oidc(issuer, scopes=["email"]))
    assert made["scopes"] == ["openid", "email"]
    assert made["discovery_document"]["token_endpoint"] == f"{issuer.base}/token"
    assert made["issuer"] == issuer.name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": "https://other.example"}, "issuer mismatch"),
        ({"token_endpoint": ""}, "missing required fields: token_endpoint"),
        ({"jwks_uri": None, "authorization_endpoint": 7}, "missing required fields: jwks_uri"),
    ],
)
async def test_a_bad_discovery_document_is_refused(
    site: AuthSite, internet: Internet, change: dict[str, Any], words: str
) -> None:
    issuer = fresh_issuer(internet)
    internet.say("GET", issuer.url, {name: value for name, value in {**issuer.document, **change}.items() if value})
    answer = await site.admin("POST", BASE, oidc(issuer))
    assert refusal(answer) == (400, "validation_failed")
    assert words in answer.json()["message"]


@pytest.mark.parametrize("reply", [Reply(b"<html>"), Reply([1]), Reply({}, 500), Reply(b"x" * 2_000_000)])
async def test_an_unusable_discovery_document_is_refused(site: AuthSite, internet: Internet, reply: Reply) -> None:
    issuer = fresh_issuer(internet)
    internet.on("GET", issuer.url, reply)
    assert refusal(await site.admin("POST", BASE, oidc(issuer))) == (400, "validation_failed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"provider_type": "saml"}, "provider_type must be"),
        ({"identifier": ""}, "identifier is required"),
        ({"identifier": "plain"}, "must start with 'custom:'"),
        ({"identifier": "custom:UPPER"}, "lower-case"),
        ({"identifier": "custom:" + "x" * 60}, "lower-case"),
        ({"name": ""}, "name is required"),
        ({"name": "x" * 101}, "name_length"),
        ({"client_id": ""}, "client_id is required"),
        ({"client_secret": ""}, "client_secret is required"),
        ({"token_url": ""}, "token_url is required"),
        ({"authorization_url": "http://plain.example/a"}, "HTTPS"),
        ({"userinfo_url": "ftp://plain.example/a"}, "HTTPS"),
        ({"token_url": "https://127.0.0.1/token"}, "private"),
        ({"token_url": "https://10.0.0.8/token"}, "private"),
        ({"token_url": "https://[::1]/token"}, "private"),
        ({"token_url": "https://169.254.169.254/"}, "private"),
        ({"token_url": "https://localhost/token"}, "local"),
        ({"token_url": "https://2130706433/"}, "number"),
        ({"jwks_uri": "https://192.168.0.1/keys"}, "private"),
        ({"token_url": "https://user:pw@plain.example/"}, "credentials"),
        ({"token_url": "https://x.example/" + "y" * 2048}, "longer than 2048"),
        ({"authorization_params": {"state": "x"}}, "reserved OAuth parameter: state"),
        ({"authorization_params": {"Redirect_URI": "x"}}, "reserved OAuth parameter"),
        ({"authorization_params": {"nonce": "x"}}, "reserved OAuth parameter"),
        ({"authorization_params": {"prompt": 1}}, "must be a string"),
        ({"attribute_mapping": {"role": "groups"}}, "protected system field: role"),
        ({"attribute_mapping": {"email_verified": True}}, "protected system field"),
        ({"custom_claims_allowlist": ["ok", " "]}, "non-empty strings"),
    ],
    ids=str,
)
async def test_faulty_providers_are_refused(site: AuthSite, change: dict[str, Any], words: str) -> None:
    answer = await site.admin("POST", BASE, oauth2(**change))
    assert refusal(answer) == (400, "validation_failed")
    assert words in answer.json()["message"]


async def test_an_issuer_must_be_public(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    for change in ({"issuer": "https://10.1.1.1"}, {"issuer": ""}, {"discovery_url": "http://x.example/d"}):
        answer = await site.admin("POST", BASE, oidc(issuer, **change))
        assert refusal(answer) == (400, "validation_failed")


async def test_identifiers_are_unique_and_counted(site: AuthSite, database: Database, internet: Internet) -> None:
    made = await create(site, oauth2())
    assert refusal(await site.admin("POST", BASE, oauth2(identifier=made["identifier"]))) == (400, "conflict")
    full = changed(FAST, custom_oauth__max_providers=1)
    async with open_site(database, full, http=internet, clock=site.clock) as limited:
        assert refusal(await limited.admin("POST", BASE, oauth2())) == (400, "over_custom_provider_quota")


async def test_providers_are_changed_and_removed(site: AuthSite, internet: Internet) -> None:
    made = await create(site, oauth2())
    path = f"{BASE}/{made['identifier']}"
    answer = await site.admin("PUT", path, {"name": "Renamed", "enabled": False, "scopes": [], "provider_type": "oidc"})
    changed_one = answer.json()
    assert (changed_one["name"], changed_one["enabled"], changed_one["provider_type"]) == ("Renamed", False, "oauth2")
    assert refusal(await site.get(f"/authorize?provider={made['identifier']}")) == (400, "validation_failed")
    for bad in ({"token_url": "https://10.0.0.1/"}, {"authorization_params": {"state": "x"}}, {"name": "x" * 200}):
        assert refusal(await site.admin("PUT", path, bad)) == (400, "validation_failed")
    removed = await site.admin("DELETE", path)
    assert (removed.status_code, removed.content) == (204, b"")
    for method in ("GET", "PUT", "DELETE"):
        assert refusal(await site.admin(method, path, {})) == (404, "custom_provider_not_found")
        assert refusal(await site.admin(method, f"{BASE}/plain", {})) == (400, "validation_failed")


async def test_a_changed_issuer_is_asked_again(site: AuthSite, internet: Internet) -> None:
    first, second = fresh_issuer(internet), fresh_issuer(internet)
    made = await create(site, oidc(first))
    path = f"{BASE}/{made['identifier']}"
    answer = await site.admin("PUT", path, {"issuer": second.name})
    assert answer.json()["discovery_document"]["issuer"] == second.name
    internet.say("GET", second.url, {}, 404)
    assert refusal(await site.admin("PUT", path, {"issuer": second.name})) == (400, "validation_failed")


async def test_only_administrators_touch_providers(site: AuthSite) -> None:
    session = await site.signed_in(email=f"p{next(_numbers)}@example.com")
    for method, path in (("GET", BASE), ("POST", BASE), ("DELETE", f"{BASE}/custom:x")):
        assert refusal(await site.send(method, path, {}, token=session["access_token"])) == (403, "not_admin")
        assert refusal(await site.send(method, path, {})) == (401, "no_authorization")


async def test_the_feature_can_be_off(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(FAST, custom_oauth__enabled=False), http=internet) as site:
        assert refusal(await site.admin("GET", BASE)) == (404, "feature_disabled")
        assert refusal(await site.get("/authorize?provider=custom:x")) == (400, "validation_failed")


async def arrive(site: AuthSite, provider: str) -> str:
    started = await site.get(f"/authorize?provider={provider}")
    assert started.status_code == 302, started.text
    answer = await come_back(site, query_of(started.headers["location"])["state"])
    location: str = answer.headers["location"]
    return location


async def test_an_oauth2_provider_signs_in(site: AuthSite, internet: Internet) -> None:
    made = await create(
        site,
        oauth2(
            authorization_params={"prompt": "login"},
            attribute_mapping={"full_name": "display", "nickname": "login", "locale": 7},
            custom_claims_allowlist=["groups", "missing"],
        ),
    )
    started = await site.get(f"/authorize?provider={made['identifier']}&scopes=other%20more")
    asked = query_of(started.headers["location"])
    assert (asked["prompt"], asked["scope"], asked["code_challenge_method"]) == ("login", "other more", "S256")
    internet.say("POST", "https://plain.example/token", {"access_token": "token-1"})
    email = f"p{next(_numbers)}@example.com"
    person = {"sub": "7", "email": email, "email_verified": True, "display": "Full", "login": "nick", "groups": ["a"]}
    internet.say("GET", "https://plain.example/me", {**person, "role": "admin", "aud": "x"})
    answer = await come_back(site, asked["state"])
    claims = claims_of(fragment_of(answer.headers["location"]), site.keyring)
    data = claims["user_metadata"]
    assert (data["full_name"], data["nickname"], data["locale"]) == ("Full", "nick", 7)
    assert data["custom_claims"] == {"groups": ["a"]}
    assert not {"role", "aud", "display", "login"} & data.keys()
    assert claims["app_metadata"]["provider"] == made["identifier"]
    assert internet.calls("https://plain.example/me")[-1].headers["Authorization"] == "Bearer token-1"


async def test_a_provider_without_pkce_gets_none(site: AuthSite, internet: Internet) -> None:
    made = await create(site, oauth2(pkce_enabled=False))
    started = await site.get(f"/authorize?provider={made['identifier']}")
    assert "code_challenge" not in query_of(started.headers["location"])


async def test_the_client_proves_itself_in_either_place(site: AuthSite, internet: Internet) -> None:
    """A provider that does not say what it wants is tried with HTTP Basic first, then with the body."""
    made = await create(site, oauth2(token_url="https://picky.example/token"))

    def picky(call: Any) -> Reply:
        return Reply({"access_token": "t"}) if "client_secret" in call.form else Reply({"error": "invalid_client"}, 401)

    internet.on("POST", "https://picky.example/token", picky)
    internet.say("GET", "https://plain.example/me", {"sub": "8", "email": f"p{next(_numbers)}@example.com"})
    await arrive(site, made["identifier"])
    calls = internet.calls("https://picky.example/token")
    assert len(calls) == 2
    assert calls[0].headers["Authorization"].startswith("Basic ")
    assert calls[1].form["client_secret"] == "our-secret"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "PS256"])
async def test_an_oidc_provider_signs_in_by_its_id_token(site: AuthSite, internet: Internet, algorithm: str) -> None:
    issuer = fresh_issuer(internet, algorithm=algorithm)
    made = await create(site, oidc(issuer, acceptable_client_ids=["mobile"], custom_claims_allowlist=["groups"]))
    email, expiry = f"p{next(_numbers)}@example.com", int(site.clock.seconds()) + 600
    token = issuer.sign(
        aud=["mobile"], sub="u1", email=email, email_verified=True, name="N", groups=["g"], exp=expiry, jti="x"
    )
    internet.say("POST", f"{issuer.base}/token", {"access_token": "t", "id_token": token})
    claims = claims_of(fragment_of(await arrive(site, made["identifier"])), site.keyring)
    data = claims["user_metadata"]
    assert (claims["email"], data["name"], data["custom_claims"]) == (email, "N", {"groups": ["g"]})
    assert not {"jti", "exp", "iat", "aud"} & data.keys()


async def test_an_oidc_provider_without_an_id_token_is_asked_for_the_person(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    made = await create(site, oidc(issuer))
    internet.say("POST", f"{issuer.base}/token", {"access_token": "t"})
    email = f"p{next(_numbers)}@example.com"
    internet.say("GET", f"{issuer.base}/userinfo", {"sub": "u", "email": email, "email_verified": "true"})
    assert claims_of(fragment_of(await arrive(site, made["identifier"])), site.keyring)["email"] == email


async def test_bad_id_tokens_sign_nobody_in(site: AuthSite, internet: Internet) -> None:
    issuer, other = fresh_issuer(internet), fresh_issuer(internet, algorithm="ES256")
    made = await create(site, oidc(issuer))
    expiry = int(site.clock.seconds()) + 600
    claims = {"sub": "u", "email": "a@example.com", "email_verified": True, "exp": expiry}
    for token in (
        issuer.sign(aud="another", **claims),
        issuer.sign(**claims),
        issuer.sign(aud="our-id", **{**claims, "exp": expiry - 601}),
        issuer.sign(aud="our-id", nbf=expiry, **claims),
        issuer.sign(aud="our-id", **{**claims, "sub": None}),
        issuer.sign(aud="our-id", **claims, iss=other.name),
        other.sign(aud="our-id", **claims, iss=issuer.name),
        "a.b.c",
    ):
        internet.say("POST", f"{issuer.base}/token", {"access_token": "t", "id_token": token})
        told = query_of(await arrive(site, made["identifier"]))
        assert told["error_description"] == "Error getting user profile from external provider"


async def test_discovery_may_be_elsewhere(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet, published_at=f"https://metadata{next(_numbers)}.example/custom.json")
    made = await create(site, oidc(issuer, discovery_url=issuer.url))
    started = await site.get(f"/authorize?provider={made['identifier']}")
    assert started.headers["location"].startswith(f"{issuer.base}/authorize?")


async def test_an_issuer_that_is_down_stays_in_use(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    made = await create(site, oidc(issuer))
    internet.say("GET", issuer.url, {}, 503)
    site.clock.advance(hours=2)
    assert (await site.get(f"/authorize?provider={made['identifier']}")).status_code == 302


async def test_documents_are_fetched_once(site: AuthSite, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    made = await create(site, oidc(issuer))
    for _ in range(3):
        await site.get(f"/authorize?provider={made['identifier']}")
    assert len(internet.calls(issuer.url)) == 1


async def test_providers_of_the_settings(database: Database, internet: Internet) -> None:
    issuer = fresh_issuer(internet)
    declared = (
        {**oidc(issuer), "identifier": "authentik"},
        {**oauth2(), "identifier": "custom:broken", "token_url": "http://x.example"},
    )
    settings = changed(FAST, custom_oauth=CustomOAuthSettings(declared=declared))
    async with open_site(database, settings, http=internet) as site:
        started = await site.get("/authorize?provider=custom:authentik")
        assert started.headers["location"].startswith(f"{issuer.base}/authorize?")
        broken = await site.get("/authorize?provider=custom:broken")
        assert refusal(broken) == (400, "validation_failed")
        assert "URL must use HTTPS" in broken.json()["message"]


async def test_redirects_may_have_their_own_address(database: Database, internet: Internet) -> None:
    settings = changed(FAST, custom_oauth__external_url="https://login.example.com/auth/v1")
    async with open_site(database, settings, http=internet) as site:
        made = await create(site, oauth2())
        started = await site.get(f"/authorize?provider={made['identifier']}")
        assert query_of(started.headers["location"])["redirect_uri"] == "https://login.example.com/auth/v1/callback"


async def test_private_addresses_can_be_allowed(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(FAST, allow_private_urls=True), http=internet) as site:
        await create(site, oauth2(token_url="https://10.0.0.8/token"))


async def test_an_unknown_row_id_is_no_provider(site: AuthSite) -> None:
    answer = await site.admin("GET", f"{BASE}/custom:{uuid.uuid4().hex[:8]}")
    assert refusal(answer) == (404, "custom_provider_not_found")
