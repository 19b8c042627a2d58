"""Passkeys through the service: registration, sign-in, care, and who may do what (contract §3.12, §9)."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pyotp.totp import TOTP

from harness.auth_site import FAST, AuthSite, changed, claims_of, open_site, refusal
from harness.authenticator import Authenticator, b64
from harness.postgres import TestServer
from socle_platform.config.auth_factors import PasskeySettings, WebAuthnSettings
from socle_platform.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")
ORIGIN = "http://localhost:5173"
ON = changed(
    FAST,
    passkey=PasskeySettings(enabled=True, max_per_user=3),
    webauthn=WebAuthnSettings("localhost", "Test", (ORIGIN,)),
    rates__passkey=100_000,
    rates__mfa=100_000,
    external__anonymous_enabled=True,
)
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database) -> AsyncIterator[AuthSite]:
    async with open_site(database, ON) as opened:
        yield opened


async def session_of(site: AuthSite, **fields: Any) -> dict[str, Any]:
    return await site.signed_in(email=f"person{next(_numbers)}@example.com", **fields)


def device(**changes: Any) -> Authenticator:
    return Authenticator(ORIGIN, **changes)


async def options(site: AuthSite, token: str) -> dict[str, Any]:
    answer = await site.post("/passkeys/registration/options", token=token)
    assert answer.status_code == 200, answer.text
    asked: dict[str, Any] = answer.json()
    return asked


async def register(site: AuthSite, token: str, phone: Authenticator) -> dict[str, Any]:
    asked = await options(site, token)
    body = {"challenge_id": asked["challenge_id"], "credential": phone.create(asked["options"])}
    answer = await site.post("/passkeys/registration/verify", body, token=token)
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


async def begin(site: AuthSite) -> dict[str, Any]:
    answer = await site.post("/passkeys/authentication/options")
    assert answer.status_code == 200, answer.text
    asked: dict[str, Any] = answer.json()
    return asked


async def sign_in(site: AuthSite, phone: Authenticator, **changes: Any) -> Any:
    asked = await begin(site)
    body = {"challenge_id": asked["challenge_id"], "credential": phone.get(asked["options"], **changes)}
    return await site.post("/passkeys/authentication/verify", body)


async def test_a_registered_passkey_signs_in_without_a_name(site: AuthSite) -> None:
    session = await session_of(site)
    phone = device(model=uuid.UUID("fbfc3007-154e-4ecc-8c0b-6e020557d7bd").bytes)
    asked = await options(site, session["access_token"])
    assert asked["expires_at"] == int(site.clock.seconds()) + 300
    assert asked["options"]["user"]["id"] == b64(session["user"]["id"].encode())
    assert asked["options"]["authenticatorSelection"]["residentKey"] == "required"
    kept = await register(site, session["access_token"], phone)
    assert kept["friendly_name"] == "Apple Passwords"

    begun = await begin(site)
    assert "allowCredentials" not in begun["options"]
    answer = await sign_in(site, phone)
    assert answer.status_code == 200, answer.text
    claims = claims_of(answer.json(), site.keyring)
    assert claims["sub"] == session["user"]["id"]
    assert [entry["method"] for entry in claims["amr"]] == ["passkey"]
    assert claims["aal"] == "aal1"
    (listed,) = (await site.get("/passkeys", token=session["access_token"])).json()
    assert listed["id"] == kept["id"]
    assert listed["last_used_at"]


async def test_a_challenge_is_consumed_before_the_proof(site: AuthSite) -> None:
    """Even by a wrong answer: nobody tries twice."""
    session, phone = await session_of(site), device()
    await register(site, session["access_token"], phone)
    asked = await begin(site)
    body = {
        "challenge_id": asked["challenge_id"],
        "credential": phone.get(asked["options"], origin="https://x.example"),
    }
    assert refusal(await site.post("/passkeys/authentication/verify", body)) == (400, "webauthn_verification_failed")
    honest = body | {"credential": phone.get(asked["options"])}
    assert refusal(await site.post("/passkeys/authentication/verify", honest)) == (400, "webauthn_challenge_not_found")


async def test_parallel_answers_give_one_session(site: AuthSite) -> None:
    session, phone = await session_of(site), device()
    await register(site, session["access_token"], phone)
    asked = await begin(site)
    body = {"challenge_id": asked["challenge_id"], "credential": phone.get(asked["options"])}
    answers = await asyncio.gather(*(site.post("/passkeys/authentication/verify", body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


async def test_challenges_belong_to_their_kind_and_user(site: AuthSite) -> None:
    ada, eve = await session_of(site), await session_of(site)
    phone = device()
    asked = await options(site, ada["access_token"])
    body = {"challenge_id": asked["challenge_id"], "credential": phone.create(asked["options"])}
    stolen = await site.post("/passkeys/registration/verify", body, token=eve["access_token"])
    assert refusal(stolen) == (400, "webauthn_challenge_not_found")
    crossed = await site.post("/passkeys/authentication/verify", body)
    assert refusal(crossed) == (400, "webauthn_challenge_not_found")
    kept = await site.post("/passkeys/registration/verify", body, token=ada["access_token"])
    assert kept.status_code == 200


async def test_challenges_expire(site: AuthSite) -> None:
    session, phone = await session_of(site), device()
    asked = await options(site, session["access_token"])
    site.clock.advance(seconds=301)
    body = {"challenge_id": asked["challenge_id"], "credential": phone.create(asked["options"])}
    late = await site.post("/passkeys/registration/verify", body, token=session["access_token"])
    assert refusal(late) == (400, "webauthn_challenge_expired")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "validation_failed"),
        ({"challenge_id": str(uuid.uuid4())}, "validation_failed"),
        ({"challenge_id": "x", "credential": {}}, "validation_failed"),
        ({"challenge_id": str(uuid.uuid4()), "credential": {}}, "webauthn_challenge_not_found"),
        ({"challenge_id": str(uuid.uuid4()), "credential": "x"}, "bad_json"),
    ],
)
async def test_verify_requests_are_checked(site: AuthSite, body: dict[str, Any], expected: str) -> None:
    session = await session_of(site)
    for path, token in (("registration", session["access_token"]), ("authentication", None)):
        answer = await site.post(f"/passkeys/{path}/verify", body, token=token)
        assert refusal(answer) == (400, expected)


async def test_answers_of_strangers_prove_nothing(site: AuthSite) -> None:
    session, phone, stranger = await session_of(site), device(), device()
    await register(site, session["access_token"], phone)
    other = {"rp": {"id": "localhost"}, "user": {"id": b64(session["user"]["id"].encode())}, "challenge": "x"}
    stranger.create(other)
    assert refusal(await sign_in(site, stranger)) == (400, "webauthn_verification_failed")
    phone.credentials[0].handle = str(uuid.uuid4()).encode()
    assert refusal(await sign_in(site, phone)) == (400, "webauthn_verification_failed")


async def test_a_copied_credential_is_found_out(site: AuthSite) -> None:
    session, key = await session_of(site), device(counts=True)
    await register(site, session["access_token"], key)
    assert (await sign_in(site, key)).status_code == 200
    key.credentials[0].count -= 1
    assert refusal(await sign_in(site, key)) == (400, "webauthn_verification_failed")


async def test_existing_credentials_are_excluded_and_refused(site: AuthSite) -> None:
    ada, eve = await session_of(site), await session_of(site)
    phone = device()
    await register(site, ada["access_token"], phone)
    asked = await options(site, ada["access_token"])
    assert [entry["id"] for entry in asked["options"]["excludeCredentials"]] == [b64(phone.credentials[0].id)]
    row = await site.row("select * from auth.webauthn_credentials where user_id = $1", ada["user"]["id"])
    asked = await options(site, eve["access_token"])
    answer = phone.create(asked["options"])
    await site.run(
        "update auth.webauthn_credentials set credential_id = $1::bytea where id = $2",
        phone.credentials[-1].id,
        row["id"],
    )
    body = {"challenge_id": asked["challenge_id"], "credential": answer}
    taken = await site.post("/passkeys/registration/verify", body, token=eve["access_token"])
    assert refusal(taken) == (422, "webauthn_credential_exists")


async def test_passkeys_are_limited(site: AuthSite) -> None:
    session = await session_of(site)
    waiting = await options(site, session["access_token"])
    for _ in range(3):
        await register(site, session["access_token"], device())
    more = await site.post("/passkeys/registration/options", token=session["access_token"])
    assert refusal(more) == (422, "too_many_passkeys")
    body = {"challenge_id": waiting["challenge_id"], "credential": device().create(waiting["options"])}
    late = await site.post("/passkeys/registration/verify", body, token=session["access_token"])
    assert refusal(late) == (422, "too_many_passkeys")


async def test_single_sign_on_users_have_no_passkeys(site: AuthSite) -> None:
    session = await session_of(site)
    await site.run("update auth.users set is_sso_user = true where id = $1", session["user"]["id"])
    for path in ("options", "verify"):
        answer = await site.post(f"/passkeys/registration/{path}", token=session["access_token"])
        assert refusal(answer) == (422, "validation_failed")


async def test_anonymous_users_have_no_passkeys(site: AuthSite) -> None:
    session = (await site.post("/signup")).json()
    answer = await site.post("/passkeys/registration/options", token=session["access_token"])
    assert refusal(answer) == (403, "no_authorization")


async def test_whoever_has_a_second_factor_shows_it_first(site: AuthSite) -> None:
    session = await session_of(site)
    token = session["access_token"]
    kept = await register(site, token, device())
    factor = (await site.post("/factors", {"factor_type": "totp", "friendly_name": "f"}, token=token)).json()
    put = (await site.post(f"/factors/{factor['id']}/challenge", token=token)).json()
    code = TOTP(factor["totp"]["secret"]).at(int(site.clock.seconds()))
    proven = {"challenge_id": put["id"], "code": code}
    strong = (await site.post(f"/factors/{factor['id']}/verify", proven, token=token)).json()["access_token"]
    weak = (await site.sign_in(session["user"]["email"]))["access_token"]
    for path in ("options", "verify"):
        assert refusal(await site.post(f"/passkeys/registration/{path}", token=weak)) == (403, "insufficient_aal")
    assert refusal(await site.delete(f"/passkeys/{kept['id']}", token=weak)) == (403, "insufficient_aal")
    assert (await site.get("/passkeys", token=weak)).status_code == 200
    assert (await site.delete(f"/passkeys/{kept['id']}", token=strong)).status_code == 204


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("email_confirmed_at = null", (403, "email_not_confirmed")),
        ("phone = '15550009999'", (403, "phone_not_confirmed")),
        ("banned_until = '2999-01-01'", (403, "user_banned")),
    ],
)
async def test_users_who_may_not_come_in(site: AuthSite, change: str, expected: tuple[int, str]) -> None:
    session, phone = await session_of(site), device()
    await register(site, session["access_token"], phone)
    await site.run(f"update auth.users set {change} where id = $1", session["user"]["id"])
    assert refusal(await sign_in(site, phone)) == expected
    await site.run("update auth.users set phone = null where id = $1", session["user"]["id"])


async def test_owners_rename_and_remove_their_passkeys(site: AuthSite) -> None:
    ada, eve = await session_of(site), await session_of(site)
    kept = await register(site, ada["access_token"], device())
    path = f"/passkeys/{kept['id']}"
    assert kept["friendly_name"] == "Passkey"
    renamed = await site.send("PATCH", path, {"friendly_name": "my phone"}, token=ada["access_token"])
    assert renamed.json() == kept | {"friendly_name": "my phone"}
    for name in ("", "x" * 121):
        answer = await site.send("PATCH", path, {"friendly_name": name}, token=ada["access_token"])
        assert refusal(answer) == (400, "validation_failed")
    for foreign in (path, f"/passkeys/{uuid.uuid4()}", "/passkeys/nonsense"):
        answer = await site.send("PATCH", foreign, {"friendly_name": "mine"}, token=eve["access_token"])
        assert refusal(answer) == (404, "validation_failed")
        assert refusal(await site.delete(foreign, token=eve["access_token"])) == (404, "validation_failed")
    removed = await site.delete(path, token=ada["access_token"])
    assert (removed.status_code, removed.content) == (204, b"")
    assert (await site.get("/passkeys", token=ada["access_token"])).json() == []


async def test_administrators_see_and_remove_passkeys(site: AuthSite) -> None:
    session, phone = await session_of(site), device()
    kept = await register(site, session["access_token"], phone)
    base = f"/admin/users/{session['user']['id']}/passkeys"
    assert [entry["id"] for entry in (await site.admin("GET", base)).json()] == [kept["id"]]
    assert refusal(await site.get(base, token=session["access_token"])) == (403, "not_admin")
    assert refusal(await site.admin("GET", f"/admin/users/{uuid.uuid4()}/passkeys")) == (404, "user_not_found")
    for unknown in ("nonsense", str(uuid.uuid4())):
        assert refusal(await site.admin("DELETE", f"{base}/{unknown}")) == (404, "validation_failed")
    assert (await site.admin("DELETE", f"{base}/{kept['id']}")).status_code == 204
    assert refusal(await sign_in(site, phone)) == (400, "webauthn_verification_failed")


async def test_everything_is_404_when_passkeys_are_off(database: Database) -> None:
    async with open_site(database, FAST) as site:
        for method, path in (
            ("POST", "/passkeys/authentication/options"),
            ("POST", "/passkeys/authentication/verify"),
            ("POST", "/passkeys/registration/options"),
            ("POST", "/passkeys/registration/verify"),
            ("GET", "/passkeys"),
            ("PATCH", f"/passkeys/{uuid.uuid4()}"),
            ("DELETE", f"/passkeys/{uuid.uuid4()}"),
            ("GET", f"/admin/users/{uuid.uuid4()}/passkeys"),
        ):
            assert refusal(await site.send(method, path, {})) == (404, "passkey_disabled")
