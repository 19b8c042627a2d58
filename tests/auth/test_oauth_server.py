"""Our own authorization server: applications, consent, tokens, discovery (contract §3.16, §12.52)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from harness.auth_site import FAST, AuthSite, changed, claims_of, open_site, query_of, refusal
from harness.postgres import TestServer
from socle_auth import cleanup
from socle_platform.config.auth_external import OAuthServerSettings
from socle_platform.db import Database
from socle_platform.keys import Key, parse_jwk

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERIFIER = "verifier-" + "v" * 40
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "https://client.example/callback?from=us"
ON = changed(FAST, oauth_server=OAuthServerSettings(enabled=True, allow_dynamic_registration=True))
_numbers = itertools.count(1)


def signing_key() -> Key:
    """An ES256 key of ours that signs."""
    jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return parse_jwk({**jwk, "kid": "es", "alg": "ES256", "key_ops": ["sign", "verify"]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database) -> AsyncIterator[AuthSite]:
    async with open_site(database, ON, keys=(signing_key(),)) as opened:
        yield opened


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _refilled(site: AuthSite) -> None:
    site.clock.advance(seconds=2000)


async def user_session(site: AuthSite, **fields: Any) -> dict[str, Any]:
    return await site.signed_in(email=f"person{next(_numbers)}@example.com", **fields)


async def register(site: AuthSite, **fields: Any) -> dict[str, Any]:
    body = {"client_name": "App", "redirect_uris": [REDIRECT], **fields}
    answer = await site.admin("POST", "/admin/oauth/clients", body)
    assert answer.status_code == 201, answer.text
    client: dict[str, Any] = answer.json()
    return client


def request(client: Mapping[str, Any], **changes: str) -> str:
    query = {
        "client_id": client["client_id"],
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "state": "the state",
        "scope": "openid email profile",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    return "/oauth/authorize?" + urlencode({name: value for name, value in query.items() if value})


async def begin(site: AuthSite, client: Mapping[str, Any], **changes: str) -> str:
    answer = await site.get(request(client, **changes))
    assert answer.status_code == 302, answer.text
    location = answer.headers["location"]
    assert location.startswith("http://localhost:3000/oauth/consent?"), location
    return query_of(location)["authorization_id"]


async def look(site: AuthSite, authorization_id: str, token: str, **rest: Any) -> httpx.Response:
    return await site.get(f"/oauth/authorizations/{authorization_id}", token=token, **rest)


async def decide(site: AuthSite, authorization_id: str, token: str, action: str = "approve") -> httpx.Response:
    return await site.post(f"/oauth/authorizations/{authorization_id}/consent", {"action": action}, token=token)


async def get_code(site: AuthSite, client: Mapping[str, Any], token: str, **changes: str) -> str:
    """The whole way to a code."""
    authorization_id = await begin(site, client, **changes)
    shown = await look(site, authorization_id, token)
    if "redirect_url" in shown.json():
        return query_of(shown.json()["redirect_url"])["code"]
    answer = await decide(site, authorization_id, token)
    assert answer.status_code == 200, answer.text
    return query_of(answer.json()["redirect_url"])["code"]


def basic(client: Mapping[str, Any], secret: str | None = None) -> dict[str, str]:
    pair = f"{client['client_id']}:{client['client_secret'] if secret is None else secret}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def trade(site: AuthSite, client: Mapping[str, Any], code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    form = {name: value for name, value in {**form, **changes}.items() if value}
    return await site.post("/oauth/token", form=form, headers=basic(client))


async def refresh(site: AuthSite, client: Mapping[str, Any], token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return await site.post("/oauth/token", form=form, headers=basic(client))


@dataclass
class Granted:
    """A client with tokens for a user."""

    client: dict[str, Any]
    session: dict[str, Any]
    tokens: dict[str, Any]


async def granted(site: AuthSite, scope: str = "openid email profile", **user: Any) -> Granted:
    client, session = await register(site), await user_session(site, **user)
    code = await get_code(site, client, session["access_token"], scope=scope)
    answer = await trade(site, client, code)
    assert answer.status_code == 200, answer.text
    return Granted(client, session, answer.json())


async def test_the_whole_way_of_an_application(site: AuthSite) -> None:
    client, session = await register(site, logo_uri="https://client.example/l.png"), await user_session(site)
    authorization_id = await begin(site, client, nonce="n-1")
    shown = (await look(site, authorization_id, session["access_token"])).json()
    assert shown == {
        "authorization_id": authorization_id,
        "redirect_uri": REDIRECT,
        "client": {"id": client["client_id"], "name": "App", "logo_uri": "https://client.example/l.png"},
        "user": {"id": session["user"]["id"], "email": session["user"]["email"]},
        "scope": "openid email profile",
    }
    url = (await decide(site, authorization_id, session["access_token"])).json()["redirect_url"]
    assert url.startswith("https://client.example/callback?")
    assert {key: query_of(url)[key] for key in ("from", "state")} == {"from": "us", "state": "the state"}
    answer = await trade(site, client, query_of(url)["code"])
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "id_token"}
    claims = claims_of(tokens, site.keyring)
    assert claims["client_id"] == client["client_id"]
    assert claims["scope"] == "openid email profile"
    assert [entry["method"] for entry in claims["amr"]] == ["oauth_provider/authorization_code"]

    key = jwt.PyJWK((await site.get("/.well-known/jwks.json")).json()["keys"][0])
    lax: Any = {"verify_exp": False, "verify_iat": False}
    told = jwt.decode(tokens["id_token"], key, algorithms=["ES256"], audience=client["client_id"], options=lax)
    assert told["iss"] == site.service.settings.jwt.issuer
    assert (told["sub"], told["nonce"], told["client_id"]) == (session["user"]["id"], "n-1", client["client_id"])
    assert told["exp"] == told["iat"] + 3600
    assert (told["email"], told["email_verified"]) == (session["user"]["email"], True)
    assert told["name"] == session["user"]["email"]
    assert told["auth_time"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"client_id": ""}, (400, "validation_failed")),
        ({"client_id": "nonsense"}, (400, "oauth_client_not_found")),
        ({"client_id": str(uuid.uuid4())}, (400, "oauth_client_not_found")),
        ({"redirect_uri": ""}, (400, "validation_failed")),
        ({"redirect_uri": "https://evil.example/"}, (400, "validation_failed")),
        ({"redirect_uri": REDIRECT + "&more=1"}, (400, "validation_failed")),
        ({"redirect_uri": REDIRECT.replace("https", "HTTPS")}, (400, "validation_failed")),
        ({"redirect_uri": REDIRECT + "/"}, (400, "validation_failed")),
    ],
)
async def test_nobody_is_redirected_to_an_unproven_place(
    site: AuthSite, change: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = await site.get(request(await register(site), **change))
    assert refusal(answer) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_type": "token"}, "only response_type=code"),
        ({"scope": "openid admin"}, "unsupported scope: admin"),
        ({"scope": "  "}, "scope parameter cannot be empty"),
        ({"code_challenge": ""}, "PKCE"),
        ({"code_challenge_method": ""}, "PKCE"),
        ({"code_challenge_method": "none"}, "code_challenge_method"),
        ({"code_challenge": "short"}, "43 and 128"),
        ({"code_challenge": "x" * 129}, "43 and 128"),
        ({"resource": "relative/path"}, "absolute URI"),
        ({"resource": "https://api.example/#x"}, "fragment"),
        ({"resource": "https://api.example/?x=1"}, "query"),
        ({"resource": "https://[bad"}, "valid URI"),
        ({"nonce": "x" * 256}, "nonce"),
        ({"state": "x" * 4097}, "state"),
    ],
    ids=str,
)
async def test_other_faults_are_told_to_the_application(site: AuthSite, change: dict[str, str], words: str) -> None:
    answer = await site.get(request(await register(site), **change))
    assert answer.status_code == 302
    told = query_of(answer.headers["location"])
    assert answer.headers["location"].startswith("https://client.example/callback?")
    assert (told["error"], told["from"]) == ("invalid_request", "us")
    assert words in told["error_description"]
    assert "state" in change or told["state"] == "the state"


async def test_the_default_scope_is_email(site: AuthSite) -> None:
    session = await user_session(site)
    authorization_id = await begin(site, await register(site), scope="", response_type="")
    assert (await look(site, authorization_id, session["access_token"])).json()["scope"] == "email"


async def test_an_authorization_belongs_to_who_looks_first(site: AuthSite) -> None:
    client, ada, eve = await register(site), await user_session(site), await user_session(site)
    authorization_id = await begin(site, client)
    early = await decide(site, authorization_id, ada["access_token"])
    assert refusal(early) == (404, "oauth_authorization_not_found")
    assert (await look(site, authorization_id, ada["access_token"])).status_code == 200
    assert (await look(site, authorization_id, ada["access_token"])).status_code == 200
    for answer in (
        await look(site, authorization_id, eve["access_token"]),
        await decide(site, authorization_id, eve["access_token"]),
        await look(site, "unknown", ada["access_token"]),
    ):
        assert refusal(answer) == (404, "oauth_authorization_not_found")
    assert refusal(await site.get(f"/oauth/authorizations/{authorization_id}")) == (401, "no_authorization")


async def test_a_decision_is_made_once(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    authorization_id = await begin(site, client)
    await look(site, authorization_id, ada["access_token"])
    for bad in ("", "maybe", None):
        answer = await site.post(
            f"/oauth/authorizations/{authorization_id}/consent", {"action": bad}, token=ada["access_token"]
        )
        assert refusal(answer) == (400, "validation_failed")
    answers = await asyncio.gather(*(decide(site, authorization_id, ada["access_token"]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert refusal(await look(site, authorization_id, ada["access_token"])) == (400, "validation_failed")


async def test_a_denial_is_told_to_the_application(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    authorization_id = await begin(site, client)
    await look(site, authorization_id, ada["access_token"])
    answer = await decide(site, authorization_id, ada["access_token"], "deny")
    told = query_of(answer.json()["redirect_url"])
    assert (told["error"], told["state"]) == ("access_denied", "the state")
    assert (await site.get("/user/oauth/grants", token=ada["access_token"])).json() == []


async def test_expiry_is_remembered(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    authorization_id = await begin(site, client)
    site.clock.advance(seconds=601)
    ada = await site.sign_in(ada["user"]["email"])
    answer = await look(site, authorization_id, ada["access_token"])
    assert refusal(answer) == (404, "oauth_authorization_not_found")
    row = await site.row("select status from auth.oauth_authorizations where authorization_id = $1", authorization_id)
    assert row["status"] == "expired"


async def test_expired_authorizations_are_swept_away_in_the_end(site: AuthSite) -> None:
    site.clock.advance(days=3)
    await cleanup.sweep_once(site.service)
    await begin(site, await register(site))
    kept = "select count(*) as number from auth.oauth_authorizations"
    site.clock.advance(hours=24)
    assert (await cleanup.sweep_once(site.service))["authorizations of applications"] == 0
    assert (await site.row(kept))["number"] == 1
    site.clock.advance(hours=1)
    assert (await cleanup.sweep_once(site.service))["authorizations of applications"] == 1


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("https://app.example.com", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
async def test_only_our_own_pages_decide(site: AuthSite, origin: str, allowed: bool) -> None:
    client, ada = await register(site), await user_session(site)
    authorization_id = await begin(site, client)
    answer = await look(site, authorization_id, ada["access_token"], headers={"Origin": origin})
    if allowed:
        assert answer.status_code == 200
    else:
        assert refusal(answer) == (400, "validation_failed")


async def test_consent_covers_later_requests(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    await get_code(site, client, ada["access_token"], scope="openid email")
    again = await look(site, await begin(site, client, scope="email"), ada["access_token"])
    assert "code" in query_of(again.json()["redirect_url"])
    more = await look(site, await begin(site, client, scope="openid email phone"), ada["access_token"])
    assert more.json()["scope"] == "openid email phone"


async def test_a_code_is_traded_once(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"])
    answers = await asyncio.gather(*(trade(site, client, code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]
    lost = [answer.json()["error"] for answer in answers if answer.status_code == 400]
    assert lost == ["invalid_grant"] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"code": "unknown"},
        {"code_verifier": ""},
        {"code_verifier": "w" * 43},
        {"redirect_uri": "https://client.example/other"},
        {"resource": "https://api.example/"},
    ],
    ids=str,
)
async def test_a_code_needs_what_it_was_asked_with(site: AuthSite, change: dict[str, str]) -> None:
    client, ada = await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"])
    answer = await trade(site, client, **{"code": code, **change})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert (await trade(site, client, code)).status_code == 200


async def test_plain_challenges_and_missing_redirect_uris_are_accepted(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"], code_challenge=VERIFIER, code_challenge_method="plain")
    assert (await trade(site, client, code, redirect_uri="")).status_code == 200


async def test_a_resource_is_kept(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"], resource="https://api.example/v1")
    assert (await trade(site, client, code, resource="https://api.example/v1")).status_code == 200


async def test_a_code_of_another_application(site: AuthSite) -> None:
    client, other, ada = await register(site), await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"])
    assert (await trade(site, other, code)).json()["error"] == "invalid_grant"


async def test_a_code_dies_with_its_time_and_user(site: AuthSite) -> None:
    client, ada = await register(site), await user_session(site)
    code = await get_code(site, client, ada["access_token"])
    site.clock.advance(seconds=601)
    assert (await trade(site, client, code)).json()["error_description"] == "Authorization code has expired"
    ada = await site.sign_in(ada["user"]["email"])
    code = await get_code(site, client, ada["access_token"])
    await site.run("update auth.users set banned_until = '2999-01-01' where id = $1", ada["user"]["id"])
    assert (await trade(site, client, code)).json()["error"] == "access_denied"


async def test_shared_secrets_sign_no_id_tokens(database: Database, site: AuthSite) -> None:
    async with open_site(database, ON, clock=site.clock) as shared:
        client, ada = await register(shared), await user_session(shared)
        code = await get_code(shared, client, ada["access_token"], scope="openid email")
        assert refusal(await trade(shared, client, code)) == (500, "unexpected_failure")
        code = await get_code(shared, client, ada["access_token"], scope="email")
        assert "id_token" not in (await trade(shared, client, code)).json()


async def test_an_id_token_is_no_access_token(site: AuthSite) -> None:
    given = await granted(site)
    answer = await site.get("/user", token=given.tokens["id_token"])
    assert refusal(answer) == (403, "bad_jwt")


async def test_an_applications_token_decides_about_no_applications(site: AuthSite) -> None:
    given = await granted(site)
    authorization_id = await begin(site, await register(site))
    token = given.tokens["access_token"]
    assert refusal(await look(site, authorization_id, token)) == (403, "no_authorization")
    assert refusal(await decide(site, authorization_id, token)) == (403, "no_authorization")


async def test_refresh_tokens_belong_to_their_application(site: AuthSite) -> None:
    given, other = await granted(site), await register(site)
    stolen = await refresh(site, other, given.tokens["refresh_token"])
    assert stolen.json()["error"] == "invalid_client"
    plain = await site.refresh(given.tokens["refresh_token"])
    assert plain.json()["error"] == "invalid_client"
    ours = await refresh(site, given.client, given.session["refresh_token"])
    assert ours.json()["error"] == "invalid_client"
    fresh = await refresh(site, given.client, given.tokens["refresh_token"])
    assert fresh.status_code == 200, fresh.text
    assert "user" not in fresh.json()
    assert claims_of(fresh.json(), site.keyring)["scope"] == "openid email profile"
    for bad, error in (("", "invalid_request"), ("aaaaaaaaaaaa", "invalid_grant"), ("!", "invalid_grant")):
        form = {"grant_type": "refresh_token", "refresh_token": bad}
        answer = await site.post("/oauth/token", form=form, headers=basic(given.client))
        assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("openid", {"sub"}),
        ("email", {"sub", "email", "email_verified"}),
        ("phone", {"sub", "phone", "phone_verified"}),
        ("profile", {"sub", "name", "picture", "preferred_username", "updated_at", "user_metadata"}),
    ],
)
async def test_userinfo_tells_what_the_scopes_allow(site: AuthSite, scope: str, expected: set[str]) -> None:
    data = {"name": "Ada", "avatar_url": "https://a.example/a.png", "username": "ada"}
    given = await granted(site, scope, user_metadata=data, phone=f"1555{next(_numbers):07}", phone_confirm=True)
    told = (await site.get("/oauth/userinfo", token=given.tokens["access_token"])).json()
    assert set(told) == expected
    assert told["sub"] == given.session["user"]["id"]
    if scope == "profile":
        assert (told["name"], told["picture"], told["preferred_username"]) == (
            "Ada",
            "https://a.example/a.png",
            "ada",
        )
        assert isinstance(told["updated_at"], int)


async def test_userinfo_of_a_session_of_ours(site: AuthSite) -> None:
    session = await user_session(site)
    told = await site.get("/oauth/userinfo", token=session["access_token"])
    assert told.json() == {"sub": session["user"]["id"]}
    assert refusal(await site.get("/oauth/userinfo")) == (401, "no_authorization")


async def test_users_see_and_end_what_they_allowed(site: AuthSite) -> None:
    given = await granted(site)
    token, client_id = given.session["access_token"], given.client["client_id"]
    (grant,) = (await site.get("/user/oauth/grants", token=token)).json()
    assert grant["client"] == {"id": client_id, "name": "App"}
    assert grant["scopes"] == ["openid", "email", "profile"]
    assert grant["granted_at"].endswith("Z")
    for query, expected in (("", (400, "validation_failed")), ("?client_id=x", (400, "validation_failed"))):
        assert refusal(await site.delete(f"/user/oauth/grants{query}", token=token)) == expected
    answer = await site.delete(f"/user/oauth/grants?client_id={client_id}", token=token)
    assert (answer.status_code, answer.content) == (204, b"")
    again = await site.delete(f"/user/oauth/grants?client_id={client_id}", token=token)
    assert refusal(again) == (404, "oauth_consent_not_found")
    assert (await site.get("/user/oauth/grants", token=token)).json() == []
    assert refusal(await site.get("/user", token=given.tokens["access_token"])) == (403, "session_not_found")
    assert (await refresh(site, given.client, given.tokens["refresh_token"])).status_code == 400
    assert (await site.get("/user", token=token)).status_code == 200
    shown = await look(site, await begin(site, given.client), token)
    assert "authorization_id" in shown.json()


@pytest.mark.parametrize(
    ("fields", "kind", "method"),
    [
        ({}, "confidential", "client_secret_basic"),
        ({"client_type": "public"}, "public", "none"),
        ({"token_endpoint_auth_method": "none"}, "public", "none"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "confidential", "client_secret_post"),
    ],
)
async def test_applications_have_a_kind(site: AuthSite, fields: dict[str, str], kind: str, method: str) -> None:
    client = await register(site, **fields)
    assert (client["client_type"], client["token_endpoint_auth_method"]) == (kind, method)
    assert ("client_secret" in client) is (kind == "confidential")
    assert client["grant_types"] == ["authorization_code", "refresh_token"]
    assert client["response_types"] == ["code"]
    assert client["registration_type"] == "manual"


async def test_each_kind_proves_itself_in_its_own_way_only(site: AuthSite) -> None:
    session = await user_session(site)
    post = await register(site, token_endpoint_auth_method="client_secret_post")
    public = await register(site, client_type="public")
    header = await register(site)
    for client, good, bad in (
        (post, {"client_id": post["client_id"], "client_secret": post["client_secret"]}, None),
        (public, {"client_id": public["client_id"]}, {"client_id": public["client_id"], "client_secret": "x"}),
        (header, None, {"client_id": header["client_id"], "client_secret": header["client_secret"]}),
    ):
        code = await get_code(site, client, session["access_token"])
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        if client is post:
            assert refusal(await site.post("/oauth/token", form=form, headers=basic(post))) == (
                400,
                "invalid_credentials",
            )
        if bad is not None:
            assert refusal(await site.post("/oauth/token", form=form | bad)) == (400, "invalid_credentials")
        headers = basic(client) if good is None else {}
        answer = await site.post("/oauth/token", form=form | (good or {}), headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "header",
    ["Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic " + base64.b64encode(b"x:y").decode(), ""],
)
async def test_bad_credentials_are_refused(site: AuthSite, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await site.post("/oauth/token", form={"grant_type": "authorization_code"}, headers=headers)
    assert refusal(answer) == (400, "invalid_credentials")


async def test_wrong_and_replaced_secrets_are_refused(site: AuthSite) -> None:
    client = await register(site)
    form = {"grant_type": "authorization_code", "code": "x"}
    wrong = await site.post("/oauth/token", form=form, headers=basic(client, "wrong"))
    assert refusal(wrong) == (400, "invalid_credentials")
    path = f"/admin/oauth/clients/{client['client_id']}"
    fresh = (await site.admin("POST", f"{path}/regenerate_secret")).json()
    assert fresh["client_secret"] != client["client_secret"]
    former = await site.post("/oauth/token", form=form, headers=basic(client))
    assert refusal(former) == (400, "invalid_credentials")
    now = await site.post("/oauth/token", form=form, headers=basic(fresh))
    assert now.json()["error"] == "invalid_grant"
    row = await site.row("select client_secret_hash from auth.oauth_clients where id = $1", client["client_id"])
    assert fresh["client_secret"] not in row["client_secret_hash"]
    public = await register(site, client_type="public")
    answer = await site.admin("POST", f"/admin/oauth/clients/{public['client_id']}/regenerate_secret")
    assert refusal(answer) == (400, "validation_failed")


async def test_requests_come_as_forms_or_json(site: AuthSite) -> None:
    client, session = await register(site), await user_session(site)
    code = await get_code(site, client, session["access_token"])
    body = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    answer = await site.post("/oauth/token", body, headers=basic(client))
    assert answer.status_code == 200, answer.text
    for content, kind in ((b"{", "application/json"), (b"\xff=1", "application/x-www-form-urlencoded")):
        headers = {**basic(client), "Content-Type": kind}
        broken = await site.post("/oauth/token", content=content, headers=headers)
        assert broken.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x"}, "invalid_grant"),
    ],
)
async def test_protocol_faults(site: AuthSite, form: dict[str, str], error: str) -> None:
    answer = await site.post("/oauth/token", form=form or {"x": "y"}, headers=basic(await register(site)))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_grant_types_can_be_limited(site: AuthSite) -> None:
    client = await register(site, grant_types=["authorization_code"])
    answer = await refresh(site, client, "aaaaaaaaaaaa")
    assert answer.json()["error"] == "unsupported_grant_type"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "relative",
        "https://",
        "http://client.example/",
        "javascript://client.example/%0aalert(1)",
        "data://client.example/x",
        "file://client.example/x",
        "vbscript://client.example/x",
        "about://client.example/x",
        "blob://client.example/x",
        "JAVASCRIPT://client.example/",
        "https://client.example/#fragment",
        "https://client.example/#",
        "https://client.example/a,b",
        "https://client.example/a b",
        "https://client.example/\n",
        "https://[bad/",
        "https://client.example/" + "x" * 2048,
        "mailto:ada@example.com",
    ],
)
async def test_codes_are_not_sent_there(site: AuthSite, uri: str) -> None:
    answer = await site.admin("POST", "/admin/oauth/clients", {"redirect_uris": [uri]})
    assert refusal(answer) == (400, "validation_failed")


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8080/cb",
        "http://127.0.0.1/cb",
        "http://[::1]:9/cb",
        "com.app://callback/x",
        "https://a.b/?q=1",
    ],
)
async def test_codes_may_be_sent_there(site: AuthSite, uri: str) -> None:
    assert (await register(site, redirect_uris=[uri]))["redirect_uris"] == [uri]


@pytest.mark.parametrize(
    "fields",
    [
        {"redirect_uris": None},
        {"redirect_uris": []},
        {"redirect_uris": ["https://a.example/"] * 11},
        {"client_type": "secret"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"client_type": "public", "token_endpoint_auth_method": "client_secret_basic"},
        {"client_type": "confidential", "token_endpoint_auth_method": "none"},
        {"grant_types": ["password"]},
        {"client_name": "x" * 1025},
        {"client_uri": "nonsense"},
        {"client_uri": "javascript:alert(1)"},
        {"logo_uri": "https://a.example/" + "x" * 2048},
    ],
    ids=str,
)
async def test_faulty_applications_are_refused(site: AuthSite, fields: dict[str, Any]) -> None:
    body = {"redirect_uris": [REDIRECT], **fields}
    for path in ("/admin/oauth/clients", "/oauth/clients/register"):
        answer = await site.admin("POST", path, {key: value for key, value in body.items() if value is not None})
        assert refusal(answer) == (400, "validation_failed")
    assert refusal(await site.admin("POST", "/admin/oauth/clients", {"redirect_uris": "x"})) == (400, "bad_json")


async def test_applications_register_themselves(site: AuthSite, database: Database) -> None:
    body = {"redirect_uris": [REDIRECT], "client_name": "Self", "token_endpoint_auth_method": "none"}
    answer = await site.post("/oauth/clients/register", body)
    assert answer.status_code == 201
    assert answer.json()["registration_type"] == "dynamic"
    closed = changed(ON, oauth_server__allow_dynamic_registration=False)
    async with open_site(database, closed, clock=site.clock) as other:
        refused = await other.post("/oauth/clients/register", body)
        assert refusal(refused) == (403, "oauth_dynamic_client_registration_disabled")
    statuses = [(await site.post("/oauth/clients/register", body)).status_code for _ in range(12)]
    assert 429 in statuses


async def test_applications_are_listed_changed_and_removed(site: AuthSite) -> None:
    client = await register(site)
    path = f"/admin/oauth/clients/{client['client_id']}"
    listed = await site.admin("GET", "/admin/oauth/clients?page=&per_page=")
    shown = {entry["client_id"]: entry for entry in listed.json()["clients"]}
    assert listed.headers["x-total-count"] == str(len(shown))
    assert "client_secret" not in shown[client["client_id"]]
    assert (await site.admin("GET", path)).json() == shown[client["client_id"]]
    fields = {"client_name": "New", "redirect_uris": ["https://new.example/"], "grant_types": ["authorization_code"]}
    changed_one = (await site.admin("PUT", path, fields | {"token_endpoint_auth_method": "client_secret_post"})).json()
    assert {key: changed_one[key] for key in fields} == fields
    assert changed_one["token_endpoint_auth_method"] == "client_secret_post"
    useless: tuple[dict[str, Any], ...] = ({}, {"client_type": "public"}, {"redirect_uris": []}, {"grant_types": []})
    for bad in (*useless, {"logo_uri": "x"}):
        assert refusal(await site.admin("PUT", path, bad)) == (400, "validation_failed")
    none = await site.admin("PUT", path, {"token_endpoint_auth_method": "none"})
    assert refusal(none) == (400, "validation_failed")
    assert (await site.admin("DELETE", path)).status_code == 204
    for method in ("GET", "PUT", "DELETE"):
        assert refusal(await site.admin(method, path, {"client_name": "x"})) == (404, "oauth_client_not_found")
    assert refusal(await site.admin("GET", "/admin/oauth/clients/nonsense")) == (400, "validation_failed")
    assert refusal(await site.get(request(client))) == (400, "oauth_client_not_found")


async def test_a_removed_application_has_no_sessions(site: AuthSite) -> None:
    given = await granted(site)
    await site.admin("DELETE", f"/admin/oauth/clients/{given.client['client_id']}")
    assert refusal(await site.get("/user", token=given.tokens["access_token"])) == (403, "session_not_found")
    assert refusal(await refresh(site, given.client, given.tokens["refresh_token"])) == (400, "invalid_credentials")
    assert (await site.get("/user/oauth/grants", token=given.session["access_token"])).json() == []


async def test_only_administrators_care_for_applications(site: AuthSite) -> None:
    session = await user_session(site)
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", f"/{uuid.uuid4()}")):
        answer = await site.send(method, f"/admin/oauth/clients{path}", {}, token=session["access_token"])
        assert refusal(answer) == (403, "not_admin")


async def test_discovery(site: AuthSite, database: Database) -> None:
    for path in ("openid-configuration", "oauth-authorization-server"):
        answer = await site.get(f"/.well-known/{path}")
        assert answer.headers["cache-control"] == "public, max-age=600"
        told = answer.json()
        issuer = site.service.settings.jwt.issuer
        assert told["issuer"] == issuer
        for name, end in (
            ("authorization_endpoint", "/oauth/authorize"),
            ("token_endpoint", "/oauth/token"),
            ("jwks_uri", "/.well-known/jwks.json"),
            ("userinfo_endpoint", "/oauth/userinfo"),
            ("registration_endpoint", "/oauth/clients/register"),
        ):
            assert told[name] == issuer + end
            assert (await site.get(urlsplit(issuer + end).path)).status_code != 404
        assert told["scopes_supported"] == ["openid", "profile", "email", "phone", "offline_access"]
        assert told["code_challenge_methods_supported"] == ["S256", "plain"]
    async with open_site(database, FAST, clock=site.clock) as off:
        assert "registration_endpoint" not in (await off.get("/.well-known/openid-configuration")).json()
        closed = await off.get("/.well-known/oauth-authorization-server")
        assert refusal(closed) == (404, "feature_disabled")
        for method, path in (
            ("GET", "/oauth/authorize"),
            ("POST", "/oauth/token"),
            ("GET", "/oauth/userinfo"),
            ("POST", "/oauth/clients/register"),
            ("GET", "/user/oauth/grants"),
            ("GET", "/admin/oauth/clients"),
        ):
            assert refusal(await off.send(method, path)) == (404, "feature_disabled")
