"""Who may call: tokens of users and administrators (contracts/auth.md §1.8 to §1.10), and POST /logout (§3.9)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from harness.auth_site import SECRET, AuthSite, changed, claims_of, open_site, refusal
from socle_platform.db import Database
from socle_platform.keys import Key, Keyring, parse_jwk, secret_key


def token_with(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)] + [signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_bearer_is_asked_for(site: AuthSite) -> None:
    for value in (None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "token"):
        headers = {} if value is None else {"Authorization": value}
        answer = await site.send("GET", "/user", headers=headers)
        assert refusal(answer) == (401, "no_authorization"), value
        assert answer.headers["x-sb-error-code"] == "no_authorization"


async def test_the_word_bearer_in_any_case(site: AuthSite) -> None:
    session = await site.signed_in()
    for word in ("Bearer", "bearer", "BEARER", "bEaReR"):
        headers = {"Authorization": f"{word} {session['access_token']}"}
        assert (await site.send("GET", "/user", headers=headers)).status_code == 200


async def test_tokens_that_prove_nothing(site: AuthSite) -> None:
    session = await site.signed_in()
    good = session["access_token"]
    claims = dict(claims_of(session, site.keyring))
    stranger = Keyring((secret_key("another-secret-another-secret-another"),), time_of_day=site.clock.seconds)
    forged = {
        "changed payload": ".".join(
            [good.split(".")[0], token_with({}, {**claims, "role": "service_role"}).split(".")[1], good.split(".")[2]]
        ),
        "changed signature": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "alg none": token_with({"alg": "none", "typ": "JWT"}, claims),
        "alg None": token_with({"alg": "None"}, claims),
        "no signature": token_with({"alg": "HS256"}, claims),
        "another secret": stranger.sign(claims),
        "unknown kid, RS256": token_with({"alg": "RS256", "kid": "nobody"}, claims, b"x" * 256),
        "two parts": good.rpartition(".")[0],
        "words": "not.a.token",
    }
    for name, token in forged.items():
        for path in ("/user", "/admin/users"):
            assert refusal(await site.get(path, token=token)) == (403, "bad_jwt"), (name, path)


async def test_an_expired_token(site: AuthSite) -> None:
    session = await site.signed_in()
    site.clock.advance(hours=1, minutes=1)
    assert refusal(await site.get("/user", token=session["access_token"])) == (403, "bad_jwt")


async def test_what_the_claims_must_say(site: AuthSite) -> None:
    session = await site.signed_in()
    claims = dict(claims_of(session, site.keyring))
    user_id = claims["sub"]
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"sub": None}, 403, "bad_jwt"),
        ({"sub": ""}, 403, "bad_jwt"),
        ({"sub": "not a uuid"}, 400, "bad_jwt"),
        ({"sub": "00000000-0000-0000-0000-000000000001"}, 403, "user_not_found"),
        ({"session_id": "not a uuid"}, 403, "bad_jwt"),
        ({"session_id": "00000000-0000-0000-0000-000000000001"}, 403, "session_not_found"),
    ]
    for change, status, code in cases:
        changed_claims = {name: value for name, value in {**claims, **change}.items() if value is not None}
        token = site.keyring.sign(changed_claims)
        assert refusal(await site.get("/user", token=token)) == (status, code), change
    for session_id in ("", "00000000-0000-0000-0000-000000000000"):
        token = site.keyring.sign({**claims, "session_id": session_id})
        assert (await site.get("/user", token=token)).json()["id"] == user_id


async def test_a_session_of_somebody_else_is_no_session(site: AuthSite) -> None:
    ada, bob = await site.signed_in(), await site.signed_in(email="bob@example.com")
    mixed = {**claims_of(ada, site.keyring), "session_id": claims_of(bob, site.keyring)["session_id"]}
    assert refusal(await site.get("/user", token=site.keyring.sign(mixed))) == (403, "session_not_found")


async def test_a_banned_users_live_token_is_refused_everywhere(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.admin("PUT", f"/admin/users/{session['user']['id']}", {"ban_duration": "24h"})
    for method, path in (
        ("GET", "/user"),
        ("PUT", "/user"),
        ("POST", "/logout"),
        ("GET", "/reauthenticate"),
        ("POST", "/factors"),
    ):
        answer = await site.send(method, path, {} if method != "GET" else None, token=session["access_token"])
        assert refusal(answer) == (403, "user_banned"), path
    await site.admin("PUT", f"/admin/users/{session['user']['id']}", {"ban_duration": "none"})
    assert (await site.get("/user", token=session["access_token"])).status_code == 200


async def test_a_deleted_users_live_token_is_refused(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.admin("DELETE", f"/admin/users/{session['user']['id']}", {})
    assert refusal(await site.get("/user", token=session["access_token"])) == (403, "user_not_found")


# -- administrators ----------------------------------------------------------------------------------------------------

ADMIN_ROUTES = (
    ("GET", "/admin/users"),
    ("POST", "/admin/users"),
    ("GET", "/admin/users/00000000-0000-0000-0000-000000000001"),
    ("PUT", "/admin/users/00000000-0000-0000-0000-000000000001"),
    ("DELETE", "/admin/users/00000000-0000-0000-0000-000000000001"),
    ("POST", "/invite"),
    ("POST", "/admin/generate_link"),
    ("GET", "/admin/audit"),
)


async def test_administration_is_for_administrators(site: AuthSite) -> None:
    session = await site.signed_in()
    anon = site.admin_token(role="anon")
    for method, path in ADMIN_ROUTES:
        body: dict[str, Any] | None = {} if method in ("POST", "PUT") else None
        assert refusal(await site.send(method, path, body)) == (401, "no_authorization"), path
        assert refusal(await site.send(method, path, body, token=session["access_token"])) == (403, "not_admin"), path
        assert refusal(await site.send(method, path, body, token=anon)) == (403, "not_admin"), path


async def test_roles_that_administrate_are_a_setting(database: Database) -> None:
    async with open_site(database, changed(jwt__admin_roles=("boss",))) as site:
        assert (await site.get("/admin/users", token=site.admin_token("boss"))).status_code == 200
        assert refusal(await site.get("/admin/users", token=site.admin_token())) == (403, "not_admin")


async def test_an_administrators_token_dies_with_its_session(site: AuthSite) -> None:
    session = await site.signed_in(role="service_role")
    token = session["access_token"]
    assert (await site.get("/admin/users", token=token)).status_code == 200
    await site.post("/logout", token=token)
    assert refusal(await site.get("/admin/users", token=token)) == (403, "session_expired")


async def test_an_administrators_token_dies_when_its_session_times_out(database: Database) -> None:
    async with open_site(database, changed(sessions__timebox=600.0)) as site:
        session = await site.signed_in(role="service_role")
        site.clock.advance(minutes=11)
        assert refusal(await site.get("/admin/users", token=session["access_token"])) == (403, "session_expired")


async def test_opaque_keys_administrate_and_nothing_else(database: Database) -> None:
    async with open_site(database) as site:
        keyring = Keyring(
            (secret_key(SECRET),),
            opaque_keys={"sb_secret_x": "service_role", "sb_publishable_y": "anon"},
            time_of_day=site.clock.seconds,
        )
        object.__setattr__(site.service.resources, "keyring", keyring)
        assert (await site.get("/admin/users", token="sb_secret_x")).status_code == 200
        headers = {"apikey": "sb_secret_x"}
        assert (await site.send("GET", "/admin/users", headers=headers)).status_code == 200
        assert refusal(await site.get("/admin/users", token="sb_publishable_y")) == (403, "not_admin")
        assert refusal(await site.get("/admin/users", token="sb_secret_z")) == (401, "no_authorization")
        session = await site.signed_in()
        assert refusal(await site.get("/user", token="sb_secret_x")) == (401, "no_authorization")
        mixed = await site.get("/admin/users", token=session["access_token"], headers=headers)
        assert refusal(mixed) == (403, "not_admin")


# -- keys --------------------------------------------------------------------------------------------------------------


def jwk_of(kind: str, kid: str) -> Key:
    """A fresh signing key of ours."""
    import jwt.algorithms as algorithms

    private: Any
    if kind == "RS256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        document = algorithms.RSAAlgorithm.to_jwk(private, as_dict=True)
    elif kind == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
        document = algorithms.ECAlgorithm.to_jwk(private, as_dict=True)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        document = algorithms.OKPAlgorithm.to_jwk(private, as_dict=True)
    return parse_jwk({**document, "kid": kid, "alg": kind, "key_ops": ["sign", "verify"]})


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
async def test_asymmetric_keys_sign_and_are_published(database: Database, kind: str) -> None:
    key = jwk_of(kind, "current")
    async with open_site(database, keys=(key,)) as site:
        session = await site.signed_in()
        header = json.loads(base64.urlsafe_b64decode(session["access_token"].split(".")[0] + "=="))
        assert header == {"alg": kind, "typ": "JWT", "kid": "current"}
        assert (await site.get("/user", token=session["access_token"])).status_code == 200
        legacy = Keyring((secret_key(SECRET),)).sign({"role": "service_role", "exp": int(site.clock.seconds()) + 60})
        assert (await site.get("/admin/users", token=legacy)).status_code == 200
        answer = await site.get("/.well-known/jwks.json")
        assert answer.headers["cache-control"] == "public, max-age=600"
        (published,) = answer.json()["keys"]
        assert (published["kid"], published["alg"], published["use"]) == ("current", kind, "sig")
        assert published["key_ops"] == ["verify"]
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & published.keys()


async def test_shared_secrets_are_not_published(site: AuthSite) -> None:
    assert (await site.get("/.well-known/jwks.json")).json() == {"keys": []}


async def test_a_public_key_is_no_shared_secret(database: Database) -> None:
    key = jwk_of("RS256", "current")
    async with open_site(database, keys=(key,)) as site:
        user = await site.create_user()
        from jwt.algorithms import RSAAlgorithm

        public: Any = RSAAlgorithm.from_jwk(json.dumps(key.public_jwk()))
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        confused = Keyring((secret_key(pem, "current"),)).sign(
            {"sub": user["id"], "role": "service_role", "exp": int(site.clock.seconds()) + 60}
        )
        assert refusal(await site.get("/admin/users", token=confused)) == (403, "bad_jwt")


# -- signing out -------------------------------------------------------------------------------------------------------


async def sessions_of(site: AuthSite) -> set[str]:
    return {row["id"] for row in await site.rows("select id from auth.sessions")}


@pytest.mark.parametrize(
    ("query", "left"), [("", 1), ("?scope=", 1), ("?scope=global", 1), ("?scope=local", 2), ("?scope=others", 2)]
)
async def test_scopes_of_signing_out(site: AuthSite, query: str, left: int) -> None:
    session = await site.signed_in()
    other = await site.sign_in()
    stranger = await site.signed_in(email="bob@example.com")
    answer = await site.post(f"/logout{query}", token=session["access_token"])
    assert (answer.status_code, answer.content) == (204, b"")
    remaining = await sessions_of(site)
    assert len(remaining) == left
    assert claims_of(stranger, site.keyring)["session_id"] in remaining
    assert (claims_of(other, site.keyring)["session_id"] in remaining) == (query == "?scope=local")
    assert (claims_of(session, site.keyring)["session_id"] in remaining) == (query == "?scope=others")
    if query != "?scope=others":
        assert refusal(await site.get("/user", token=session["access_token"])) == (403, "session_not_found")
        assert refusal(await site.refresh(session["refresh_token"]))[1] == "refresh_token_not_found"
        assert refusal(await site.post("/logout", token=session["access_token"])) == (403, "session_not_found")


async def test_other_scopes_are_refused(site: AuthSite) -> None:
    session = await site.signed_in()
    assert refusal(await site.post("/logout?scope=mine", token=session["access_token"])) == (400, "validation_failed")


async def test_a_token_without_a_session_signs_out_everywhere(site: AuthSite) -> None:
    session = await site.signed_in()
    claims = {name: value for name, value in claims_of(session, site.keyring).items() if name != "session_id"}
    assert (await site.post("/logout?scope=local", token=site.keyring.sign(claims))).status_code == 204
    assert await sessions_of(site) == set()
