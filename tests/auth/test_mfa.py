"""Second factors through the service: enrolment, challenge, proof, levels, removal (contract §3.11, §9, §12.45-46)."""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio
from pyotp.totp import TOTP

from harness.auth_site import FAST, AuthSite, changed, claims_of, open_site, refusal
from harness.authenticator import Authenticator
from harness.postgres import TestServer
from socle_platform.config.auth_factors import FactorTypeSettings, MfaSettings, PhoneFactorSettings, WebAuthnSettings
from socle_platform.db import Database

ALL_ON = changed(
    FAST,
    mfa=MfaSettings(
        phone=PhoneFactorSettings(enroll_enabled=True, verify_enabled=True),
        webauthn=FactorTypeSettings(enroll_enabled=True, verify_enabled=True),
    ),
    webauthn=WebAuthnSettings("localhost", "Test", ("http://localhost:3000",)),
    rates__mfa=100_000,
    sms__autoconfirm=True,
)


pytestmark = pytest.mark.asyncio(loop_scope="module")
_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    """One database for all tests of this file: each has users of its own."""
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database) -> AsyncIterator[AuthSite]:
    """Every kind of factor is on; text messages go to a function of the database."""
    settings = changed(ALL_ON, hooks={"send_sms": sql_hook("public", "keep_sms")})
    async with open_site(database, settings) as opened:
        await make_sms_hook(opened)
        yield opened


def sql_hook(schema: str, name: str) -> Any:
    from socle_platform.config.auth import HookSettings

    return HookSettings(enabled=True, uri=f"pg-functions://postgres/{schema}/{name}")


async def make_sms_hook(site: AuthSite) -> None:
    """Messages are kept in a table, as a project would hand them to its own provider."""
    async with site.database.as_service("platform") as connection:
        await connection.execute("create table public.sms (event jsonb)")
        await connection.execute(
            """create function public.keep_sms(event jsonb) returns jsonb language sql security definer
            set search_path = '' as $$ insert into public.sms values (event); select '{}'::jsonb $$"""
        )
        await connection.execute("grant execute on function public.keep_sms to supabase_auth_admin")


async def last_sms(site: AuthSite) -> Mapping[str, Any]:
    async with site.database.as_service("platform") as connection:
        found = await connection.fetch("select event->'sms' as sms from public.sms")
    sent: Mapping[str, Any] = found[-1]["sms"]
    return sent


@dataclass
class Person:
    """A signed-in user at a site, with what they remember."""

    site: AuthSite
    session: dict[str, Any]
    secrets: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def token(self) -> str:
        return str(self.session["access_token"])

    @property
    def claims(self) -> Mapping[str, Any]:
        return claims_of(self.session, self.site.keyring)

    async def enroll(self, name: str = "phone app", **body: Any) -> dict[str, Any]:
        answer = await self.site.post(
            "/factors", {"factor_type": "totp", "friendly_name": name, **body}, token=self.token
        )
        assert answer.status_code == 200, answer.text
        factor: dict[str, Any] = answer.json()
        if "totp" in factor:
            self.secrets[factor["id"]] = factor["totp"]["secret"]
        return factor

    async def challenge(self, factor_id: str, **body: Any) -> dict[str, Any]:
        answer = await self.site.post(f"/factors/{factor_id}/challenge", body, token=self.token)
        assert answer.status_code == 200, answer.text
        put: dict[str, Any] = answer.json()
        return put

    def code(self, factor_id: str, steps: int = 0) -> str:
        return TOTP(self.secrets[factor_id]).at(int(self.site.clock.seconds()), counter_offset=steps)

    async def verify(self, factor_id: str, challenge_id: str, code: str) -> Any:
        body = {"challenge_id": challenge_id, "code": code}
        return await self.site.post(f"/factors/{factor_id}/verify", body, token=self.token)

    async def prove(self, factor_id: str) -> None:
        """Challenge and verify; the stronger session takes the old one's place."""
        put = await self.challenge(factor_id)
        answer = await self.verify(factor_id, put["id"], self.code(factor_id))
        assert answer.status_code == 200, answer.text
        self.session = answer.json()

    async def user(self) -> dict[str, Any]:
        answer = await self.site.get("/user", token=self.token)
        assert answer.status_code == 200, answer.text
        user: dict[str, Any] = answer.json()
        return user


async def person(site: AuthSite) -> Person:
    """A new user's first session."""
    return Person(site, await site.signed_in(email=f"person{next(_numbers)}@example.com"))


async def again(someone: Person) -> Person:
    """The same user, signed in once more by password alone."""
    return Person(someone.site, await someone.site.sign_in(someone.session["user"]["email"]))


async def test_totp_from_enrolment_to_aal2(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    assert {key: factor[key] for key in ("type", "friendly_name")} == {"type": "totp", "friendly_name": "phone app"}
    secret, email = factor["totp"]["secret"], ada.session["user"]["email"]
    assert re.fullmatch(r"[A-Z2-7]{32}", secret)
    assert factor["totp"]["uri"] == (
        f"otpauth://totp/localhost%3A3000:{email}?algorithm=SHA1&digits=6&issuer=localhost%3A3000"
        f"&period=30&secret={secret}"
    )
    assert ada.claims["aal"] == "aal1"
    (listed,) = (await ada.user())["factors"]
    assert listed["status"] == "unverified"
    assert "secret" not in listed

    put = await ada.challenge(factor["id"])
    assert put["type"] == "totp"
    assert put["expires_at"] == int(site.clock.seconds()) + 300
    before = ada.session
    answer = await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))
    assert answer.status_code == 200, answer.text
    ada.session = answer.json()
    assert ada.claims["aal"] == "aal2"
    assert [entry["method"] for entry in ada.claims["amr"]] == ["totp", "password"] or {
        entry["method"] for entry in ada.claims["amr"]
    } == {"totp", "password"}
    assert ada.claims["session_id"] == claims_of(before, site.keyring)["session_id"]
    assert ada.session["refresh_token"] != before["refresh_token"]
    assert ada.session["user"]["factors"][0]["status"] == "verified"


async def test_the_qr_code_is_svg_that_fits_a_data_url(site: AuthSite) -> None:
    """Clients put `data:image/svg+xml;utf-8,` before it: a `#` would end the address there."""
    factor = await (await person(site)).enroll(issuer="Ünï & Co")
    picture = factor["totp"]["qr_code"]
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own picture
    assert "#" not in picture
    assert "<?xml" not in picture
    assert "issuer=%C3%9Cn%C3%AF%20%26%20Co" in factor["totp"]["uri"]
    assert unquote(factor["totp"]["uri"]).startswith("otpauth://totp/Ünï & Co:person")


@pytest.mark.parametrize(("steps", "accepted"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
async def test_totp_allows_one_step_of_skew(site: AuthSite, steps: int, accepted: bool) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    answer = await ada.verify(factor["id"], put["id"], ada.code(factor["id"], steps))
    assert (answer.status_code == 200) is accepted


@pytest.mark.parametrize("code", ["000000", "12345", "1234567", "abcdef", "٠٠٠٠٠٠", "      "])
async def test_wrong_codes_fail_and_the_challenge_stays(site: AuthSite, code: str) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    if code == ada.code(factor["id"]):
        code = "000001"
    assert refusal(await ada.verify(factor["id"], put["id"], code)) == (422, "mfa_verification_failed")
    assert (await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))).status_code == 200


async def test_an_empty_code_is_refused(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    assert refusal(await ada.verify(factor["id"], put["id"], "")) == (400, "validation_failed")


async def test_a_challenge_counts_once(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    assert (await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))).status_code == 200
    again = await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))
    assert refusal(again) == (422, "mfa_ip_address_mismatch")


async def test_parallel_answers_to_one_challenge_give_one_session(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    code = ada.code(factor["id"])
    answers = await asyncio.gather(*(ada.verify(factor["id"], put["id"], code) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422]


async def test_an_expired_challenge_is_gone(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    site.clock.advance(seconds=301)
    late = await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))
    assert refusal(late) == (422, "mfa_challenge_expired")
    again = await ada.verify(factor["id"], put["id"], ada.code(factor["id"]))
    assert refusal(again) == (422, "mfa_factor_not_found")


async def test_a_challenge_is_bound_to_the_address_it_was_asked_from(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    answer = await site.post(
        f"/factors/{factor['id']}/verify",
        {"challenge_id": put["id"], "code": ada.code(factor["id"])},
        token=ada.token,
        headers={"X-Forwarded-For": "203.0.113.9"},
    )
    assert refusal(answer) == (422, "mfa_ip_address_mismatch")


@pytest.mark.parametrize(
    ("challenge_id", "expected"),
    [
        ("5e6b1d8a-4c0f-4c53-9a5e-2f1f3f0c9a11", (422, "mfa_factor_not_found")),
        (None, (422, "mfa_factor_not_found")),
        ("nonsense", (400, "bad_json")),
        (7, (400, "bad_json")),
    ],
)
async def test_unknown_challenges(site: AuthSite, challenge_id: Any, expected: tuple[int, str]) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    body = {"challenge_id": challenge_id, "code": ada.code(factor["id"])}
    assert refusal(await site.post(f"/factors/{factor['id']}/verify", body, token=ada.token)) == expected


async def test_another_users_factor_does_not_exist(site: AuthSite) -> None:
    ada = await person(site)
    eve = await person(site)
    factor = await ada.enroll()
    put = await ada.challenge(factor["id"])
    path = f"/factors/{factor['id']}"
    assert refusal(await site.post(f"{path}/challenge", {}, token=eve.token)) == (404, "mfa_factor_not_found")
    stolen = await eve.site.post(
        f"{path}/verify", {"challenge_id": put["id"], "code": ada.code(factor["id"])}, token=eve.token
    )
    assert refusal(stolen) == (404, "mfa_factor_not_found")
    assert refusal(await site.delete(path, token=eve.token)) == (404, "mfa_factor_not_found")
    own = await eve.enroll()
    crossed = await eve.verify(own["id"], put["id"], eve.code(own["id"]))
    assert refusal(crossed) == (422, "mfa_factor_not_found")


@pytest.mark.parametrize(("method", "path"), [("POST", "/challenge"), ("POST", "/verify"), ("DELETE", "")])
async def test_a_factor_id_must_be_a_uuid(site: AuthSite, method: str, path: str) -> None:
    ada = await person(site)
    answer = await site.send(method, f"/factors/nonsense{path}", {}, token=ada.token)
    assert refusal(answer) == (404, "validation_failed")
    missing = await site.send(method, f"/factors/{uuid.uuid4()}{path}", {}, token=ada.token)
    assert refusal(missing) == (404, "mfa_factor_not_found")


async def test_anonymous_users_have_no_factors(database: Database) -> None:
    async with open_site(database, changed(ALL_ON, external__anonymous_enabled=True)) as site:
        session = (await site.post("/signup")).json()
        answer = await site.post("/factors", {"factor_type": "totp"}, token=session["access_token"])
        assert refusal(answer) == (403, "no_authorization")


@pytest.mark.parametrize("factor_type", ["", "sms", "recovery_code", None, "TOTP"])
async def test_other_types_are_refused(site: AuthSite, factor_type: str | None) -> None:
    ada = await person(site)
    answer = await site.post("/factors", {"factor_type": factor_type, "phone": "1"}, token=ada.token)
    assert answer.status_code in (400, 422)
    assert answer.status_code == 400 or factor_type == "recovery_code"


@pytest.mark.parametrize("name", ["totp", "phone", "webauthn"])
async def test_a_type_that_is_off(database: Database, name: str) -> None:
    off = changed(ALL_ON, **{f"mfa__{name}__enroll_enabled": False})
    async with open_site(database, off) as site:
        ada = await person(site)
        answer = await site.post("/factors", {"factor_type": name, "phone": "15551234567"}, token=ada.token)
        assert refusal(answer) == (422, f"mfa_{name}_enroll_not_enabled")
    async with open_site(database, ALL_ON) as site:
        ada = await person(site)
        factor = await ada.enroll(factor_type=name, phone="15551234567")
    async with open_site(database, changed(ALL_ON, **{f"mfa__{name}__verify_enabled": False})) as site:
        for path, body in (("challenge", {}), ("verify", {"challenge_id": str(uuid.uuid4()), "code": "123456"})):
            answer = await site.post(f"/factors/{factor['id']}/{path}", body, token=ada.token)
            assert refusal(answer) == (422, f"mfa_{name}_verify_not_enabled")


async def test_names_are_unique_per_user(site: AuthSite) -> None:
    ada, eve = await person(site), await person(site)
    await ada.enroll("one")
    await eve.enroll("one")
    for name in ("one", ""):
        if not name:
            await ada.enroll("")
        answer = await site.post("/factors", {"factor_type": "totp", "friendly_name": name}, token=ada.token)
        assert refusal(answer) == (422, "mfa_factor_name_conflict")


async def test_parallel_enrolments_of_one_name_leave_one_factor(site: AuthSite) -> None:
    ada = await person(site)
    body = {"factor_type": "totp", "friendly_name": "same"}
    answers = await asyncio.gather(*(site.post("/factors", body, token=ada.token) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422]
    assert len((await ada.user())["factors"]) == 1


async def test_factors_are_limited(database: Database) -> None:
    async with open_site(database, changed(ALL_ON, mfa__max_enrolled=2)) as site:
        ada = await person(site)
        await ada.enroll("a")
        await ada.enroll("b")
        answer = await site.post("/factors", {"factor_type": "totp", "friendly_name": "c"}, token=ada.token)
        assert refusal(answer) == (422, "too_many_enrolled_mfa_factors")
    async with open_site(database, changed(ALL_ON, mfa__max_verified=1)) as site:
        ada = await person(site)
        await ada.prove((await ada.enroll("a"))["id"])
        answer = await site.post("/factors", {"factor_type": "totp", "friendly_name": "c"}, token=ada.token)
        assert refusal(answer) == (422, "too_many_enrolled_mfa_factors")


async def test_a_second_factor_needs_aal2_to_be_joined_or_removed(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    await ada.prove(factor["id"])
    fresh = await again(ada)
    assert fresh.claims["aal"] == "aal1"
    more = await site.post("/factors", {"factor_type": "totp", "friendly_name": "x"}, token=fresh.token)
    assert refusal(more) == (403, "insufficient_aal")
    gone = await site.delete(f"/factors/{factor['id']}", token=fresh.token)
    assert refusal(gone) == (422, "insufficient_aal")
    assert (await site.delete(f"/factors/{factor['id']}", token=ada.token)).json() == {"id": factor["id"]}


async def test_proof_ends_weaker_sessions_and_unproven_factors(site: AuthSite) -> None:
    ada = await person(site)
    other = await again(ada)
    first, second = await ada.enroll("one"), await ada.enroll("two")
    await ada.prove(second["id"])
    assert [factor["id"] for factor in (await ada.user())["factors"]] == [second["id"]]
    assert refusal(await site.get("/user", token=other.token)) == (403, "session_not_found")
    assert (await site.refresh(other.session["refresh_token"])).status_code == 400
    assert first["id"] not in {factor["id"] for factor in ada.session["user"]["factors"]}


async def test_the_refresh_token_from_before_cannot_give_the_stronger_session(site: AuthSite) -> None:
    ada = await person(site)
    before = ada.session["refresh_token"]
    await ada.prove((await ada.enroll())["id"])
    site.clock.advance(minutes=5)
    answer = await site.refresh(before)
    if answer.status_code == 200:
        assert answer.json()["refresh_token"] == ada.session["refresh_token"]
    assert claims_of((await site.refresh(ada.session["refresh_token"])).json(), site.keyring)["aal"] == "aal2"


async def test_levels_belong_to_sessions_and_survive_refresh(site: AuthSite) -> None:
    ada = await person(site)
    await ada.prove((await ada.enroll())["id"])
    second = await again(ada)
    for _ in range(2):
        site.clock.advance(minutes=1)
        ada.session = (await site.refresh(ada.session["refresh_token"])).json()
        second.session = (await site.refresh(second.session["refresh_token"])).json()
        assert ada.claims["aal"] == "aal2"
        assert second.claims["aal"] == "aal1"


async def test_removal_lowers_the_sessions_that_stood_on_the_factor(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    await ada.prove(factor["id"])
    assert (await site.delete(f"/factors/{factor['id']}", token=ada.token)).status_code == 200
    ada.session = (await site.refresh(ada.session["refresh_token"])).json()
    assert ada.claims["aal"] == "aal1"
    assert [entry["method"] for entry in ada.claims["amr"]] == ["password"]
    assert "factors" not in await ada.user()


async def test_abandoned_factors_are_swept_at_the_next_enrolment(site: AuthSite) -> None:
    ada, eve = await person(site), await person(site)
    await ada.enroll("never challenged")
    challenged = await ada.enroll("challenged")
    await ada.challenge(challenged["id"])
    site.clock.advance(seconds=299)
    await eve.enroll("too early")
    assert len((await ada.user())["factors"]) == 2
    site.clock.advance(seconds=2)
    await eve.enroll("time to sweep")
    assert [factor["id"] for factor in (await ada.user())["factors"]] == [challenged["id"]]


async def test_phone_factors_are_proven_by_text_message(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll(factor_type="phone", phone="+1 555 0001111")
    assert factor["phone"] == "+1 555 0001111"
    assert (await ada.user())["factors"][0]["phone"] == "15550001111"
    put = await ada.challenge(factor["id"])
    sent = await last_sms(site)
    assert sent["sms_type"] == "mfa"
    assert sent["phone"] == "15550001111"
    wrong = "000000" if sent["otp"] != "000000" else "000001"
    assert refusal(await ada.verify(factor["id"], put["id"], wrong)) == (422, "mfa_verification_failed")
    answer = await ada.verify(factor["id"], put["id"], sent["otp"])
    assert answer.status_code == 200, answer.text
    ada.session = answer.json()
    assert ada.claims["aal"] == "aal2"
    assert "mfa/phone" in {entry["method"] for entry in ada.claims["amr"]}


async def test_text_messages_wait_for_their_interval(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll(factor_type="phone", phone="15550001111")
    await ada.challenge(factor["id"])
    soon = await site.post(f"/factors/{factor['id']}/challenge", {}, token=ada.token)
    assert refusal(soon) == (429, "over_sms_send_rate_limit")
    site.clock.advance(seconds=61)
    await ada.challenge(factor["id"])


@pytest.mark.parametrize("phone", ["", "not a number", "+0123"])
async def test_phone_numbers_are_checked(site: AuthSite, phone: str) -> None:
    ada = await person(site)
    body = {"factor_type": "phone", "friendly_name": "p", "phone": phone}
    assert refusal(await site.post("/factors", body, token=ada.token)) == (400, "validation_failed")


async def test_a_number_is_enrolled_once(site: AuthSite) -> None:
    ada = await person(site)
    first = await ada.enroll("a", factor_type="phone", phone="15550001111")
    second = await ada.enroll("b", factor_type="phone", phone="+15550001111")
    assert [factor["id"] for factor in (await ada.user())["factors"]] == [second["id"]]
    assert first["id"] != second["id"]
    put = await ada.challenge(second["id"])
    ada.session = (await ada.verify(second["id"], put["id"], (await last_sms(site))["otp"])).json()
    body = {"factor_type": "phone", "friendly_name": "c", "phone": "15550001111"}
    answer = await site.post("/factors", body, token=ada.token)
    assert refusal(answer) == (422, "mfa_verified_factor_exists")


async def test_a_channel_must_exist(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll(factor_type="phone", phone="15550001111")
    answer = await site.post(f"/factors/{factor['id']}/challenge", {"channel": "pigeon"}, token=ada.token)
    assert refusal(answer) == (400, "validation_failed")


async def register_key(ada: Person, device: Authenticator) -> dict[str, Any]:
    factor = await ada.enroll("key", factor_type="webauthn")
    put = await ada.challenge(factor["id"])
    assert put["webauthn"]["type"] == "create"
    answer = device.create(put["webauthn"]["credential_options"]["publicKey"])
    body = {"challenge_id": put["id"], "webauthn": {"type": "create", "credential_response": answer}}
    verified = await ada.site.post(f"/factors/{factor['id']}/verify", body, token=ada.token)
    assert verified.status_code == 200, verified.text
    ada.session = verified.json()
    return factor


async def test_security_keys_are_registered_and_used(site: AuthSite) -> None:
    ada = await person(site)
    model = "fa2b99dc-9e39-4257-8f92-4a30d23c4118"
    device = Authenticator("http://localhost:3000", model=uuid.UUID(model).bytes, counts=True)
    factor = await register_key(ada, device)
    assert ada.claims["aal"] == "aal2"
    assert "mfa/webauthn" in {entry["method"] for entry in ada.claims["amr"]}
    (listed,) = (await ada.user())["factors"]
    assert listed["web_authn_aaguid"] == model
    assert listed["last_webauthn_challenge_data"]["type"] == "create"
    assert "web_authn_credential" not in listed

    later = await again(ada)
    put = await later.challenge(factor["id"])
    assert put["webauthn"]["type"] == "request"
    options = put["webauthn"]["credential_options"]["publicKey"]
    assert len(options["allowCredentials"]) == 1
    body = {"challenge_id": put["id"], "webauthn": {"type": "request", "credential_response": device.get(options)}}
    answer = await site.post(f"/factors/{factor['id']}/verify", body, token=later.token)
    assert answer.status_code == 200, answer.text
    later.session = answer.json()
    assert later.claims["aal"] == "aal2"
    replay = await site.post(f"/factors/{factor['id']}/verify", body, token=later.token)
    assert refusal(replay) == (422, "mfa_factor_not_found")


async def test_security_key_answers_are_proven(site: AuthSite) -> None:
    ada = await person(site)
    device = Authenticator("http://localhost:3000")
    factor = await register_key(ada, device)
    stranger = Authenticator("http://localhost:3000")
    put = await ada.challenge(factor["id"])
    options = put["webauthn"]["credential_options"]["publicKey"]
    stranger.create({"rp": {"id": "localhost"}, "user": {"id": "eA"}, "challenge": "x"})
    for answer in (
        stranger.get({**options, "allowCredentials": []}),
        device.get(options, origin="https://evil.example"),
        {},
    ):
        body = {"challenge_id": put["id"], "webauthn": {"type": "request", "credential_response": answer}}
        refused = await site.post(f"/factors/{factor['id']}/verify", body, token=ada.token)
        assert refusal(refused) == (422, "mfa_verification_failed")
    late = {"type": "create", "credential_response": device.get(options)}
    body = {"challenge_id": put["id"], "webauthn": late}
    refused = await site.post(f"/factors/{factor['id']}/verify", body, token=ada.token)
    assert refusal(refused) == (422, "mfa_verification_failed")


@pytest.mark.parametrize(
    "webauthn",
    [None, {}, {"type": "steal", "credential_response": {}}, {"type": "create"}],
    ids=["none", "empty", "type", "no answer"],
)
async def test_security_key_requests_are_checked(site: AuthSite, webauthn: dict[str, Any] | None) -> None:
    ada = await person(site)
    factor = await ada.enroll("key", factor_type="webauthn")
    put = await ada.challenge(factor["id"])
    body = {"challenge_id": put["id"], "webauthn": webauthn}
    answer = await site.post(f"/factors/{factor['id']}/verify", body, token=ada.token)
    assert refusal(answer) == (400, "validation_failed")


async def test_the_hook_may_refuse_everything(database: Database) -> None:
    settings = changed(ALL_ON, hooks={"mfa_verification_attempt": sql_hook("public", "no_more")})
    async with open_site(database, settings) as site:
        async with site.database.as_service("platform") as connection:
            await connection.execute(
                """create function public.no_more(event jsonb) returns jsonb language sql as $$
                    select case when (event->>'valid')::boolean then '{"decision":"continue"}'::jsonb
                        else '{"decision":"reject","message":"enough"}'::jsonb end $$"""
            )
        ada = await person(site)
        factor = await ada.enroll()
        put = await ada.challenge(factor["id"])
        answer = await ada.verify(factor["id"], put["id"], "000000" if ada.code(factor["id"]) != "000000" else "1")
        assert refusal(answer) == (403, "mfa_verification_rejected")
        assert answer.json()["message"] == "enough"
        assert refusal(await site.get("/user", token=ada.token)) == (403, "session_not_found")
        ada.session = (await again(ada)).session
        await ada.prove(factor["id"])
        assert ada.claims["aal"] == "aal2"


async def test_secrets_are_sealed_when_encryption_is_on(database: Database) -> None:
    key = "0123456789abcdef0123456789abcdef0123456789A"
    sealed = changed(
        ALL_ON,
        security__encryption__encrypt=True,
        security__encryption__key_id="k1",
        security__encryption__key=key,
        security__encryption__decryption_keys={"k1": key},
    )
    async with open_site(database, ALL_ON) as site:
        ada = await person(site)
        factor = await ada.enroll()
        stored = await site.row("select secret from auth.mfa_factors where id = $1", factor["id"])
        assert stored["secret"] == ada.secrets[factor["id"]]
    async with open_site(database, sealed) as site:
        ada.site = site
        await ada.prove(factor["id"])
        stored = await site.row("select secret from auth.mfa_factors where id = $1", factor["id"])
        assert ada.secrets[factor["id"]] not in stored["secret"]
        assert '"key_id":"k1"' in stored["secret"]
        second = await ada.enroll("second")
        await ada.prove(second["id"])


async def test_verification_is_limited_per_user_whatever_the_address(database: Database) -> None:
    """A thief with many addresses guesses no faster."""
    async with open_site(database, changed(ALL_ON, rates__mfa=15)) as site:
        ada = await person(site)
        factor = await ada.enroll()
        put = await ada.challenge(factor["id"])
        statuses = [
            (
                await site.post(
                    f"/factors/{factor['id']}/verify",
                    {"challenge_id": put["id"], "code": "999999"},
                    token=ada.token,
                    headers={"X-Forwarded-For": f"203.0.113.{number}"},
                )
            ).status_code
            for number in range(20)
        ]
        assert statuses == [422] * 15 + [429] * 5


async def test_changes_of_contact_need_the_second_factor(site: AuthSite) -> None:
    ada = await person(site)
    await ada.prove((await ada.enroll())["id"])
    weak = await again(ada)
    for body in ({"password": "another password"}, {"email": "x@example.com"}, {"phone": "15550002222"}):
        assert refusal(await site.put("/user", body, token=weak.token)) == (401, "insufficient_aal")
    assert (await site.put("/user", {"password": "another password"}, token=ada.token)).status_code == 200


async def test_administrators_see_change_and_remove_factors(site: AuthSite) -> None:
    ada = await person(site)
    factor = await ada.enroll()
    await ada.prove(factor["id"])
    phone = await ada.enroll("p", factor_type="phone", phone="15550001111")
    base = f"/admin/users/{ada.session['user']['id']}/factors"
    listed = (await site.admin("GET", base)).json()
    assert {entry["id"] for entry in listed} == {factor["id"], phone["id"]}
    assert not any("secret" in entry for entry in listed)
    renamed = await site.admin("PUT", f"{base}/{phone['id']}", {"friendly_name": "work", "phone": "+15550002222"})
    assert (renamed.json()["friendly_name"], renamed.json()["phone"]) == ("work", "15550002222")
    clash = await site.admin("PUT", f"{base}/{phone['id']}", {"friendly_name": "phone app"})
    assert refusal(clash) == (422, "mfa_factor_name_conflict")
    removed = await site.admin("DELETE", f"{base}/{factor['id']}")
    assert removed.json()["id"] == factor["id"]
    ada.session = (await site.refresh(ada.session["refresh_token"])).json()
    assert ada.claims["aal"] == "aal1"
    assert refusal(await site.admin("DELETE", f"{base}/{factor['id']}")) == (404, "mfa_factor_not_found")
    assert refusal(await site.admin("GET", f"/admin/users/{uuid.uuid4()}/factors")) == (404, "user_not_found")
    assert refusal(await site.admin("GET", "/admin/users/nonsense/factors")) == (404, "validation_failed")
    assert refusal(await site.get(base, token=ada.token)) == (403, "not_admin")
    entries = await site.rows("select payload->>'action' as action from auth.audit_log_entries")
    logged = {entry["action"] for entry in entries}
    assert {"factor_in_progress", "challenge_created", "verification_attempted"} <= logged
    assert {"factor_updated", "factor_deleted"} <= logged


async def test_recovery_codes_stand_in_for_a_lost_factor(site: AuthSite) -> None:
    ada = await person(site)
    path = "/factors/recovery-codes"
    assert refusal(await site.get(path, token=ada.token)) == (404, "mfa_factor_not_found")
    assert refusal(await site.post(path, token=ada.token)) == (403, "insufficient_aal")
    factor = await ada.enroll()
    await ada.prove(factor["id"])
    answer = (await site.post(path, token=ada.token)).json()
    codes = answer["codes"]
    assert (answer["type"], answer["total"], len(set(codes))) == ("recovery_code", 10, 10)
    assert all(re.fullmatch(r"[a-z0-9]{16}", code) for code in codes)
    assert refusal(await site.post(path, token=ada.token)) == (422, "mfa_verified_factor_exists")
    stored = await site.rows("select code_hash from socle.recovery_codes")
    assert not {row["code_hash"] for row in stored} & set(codes)

    lost = await again(ada)
    wrong = await site.post(f"{path}/verify", {"code": "aaaaaaaaaaaaaaaa"}, token=lost.token)
    assert refusal(wrong) == (422, "mfa_verification_failed")
    spaced = f"{codes[0][:4]}-{codes[0][4:8]} {codes[0][8:]}".upper()
    entered = await site.post(f"{path}/verify", {"code": spaced}, token=lost.token)
    assert entered.status_code == 200, entered.text
    lost.session = entered.json()
    assert lost.claims["aal"] == "aal2"
    assert "mfa/recovery_code" in {entry["method"] for entry in lost.claims["amr"]}
    assert [entry["factor_type"] for entry in lost.session["user"]["factors"]] == ["totp"]
    assert (await site.get(path, token=lost.token)).json()["remaining"] == 9

    third = await again(ada)
    reuse = await site.post(f"{path}/verify", {"code": codes[0]}, token=third.token)
    assert refusal(reuse) == (422, "mfa_verification_failed")
    fresh = (await site.post(f"{path}/regenerate", token=lost.token)).json()["codes"]
    assert not set(fresh) & set(codes)
    void = await site.post(f"{path}/verify", {"code": codes[1]}, token=third.token)
    assert refusal(void) == (422, "mfa_verification_failed")

    assert (await site.delete(f"/factors/{factor['id']}", token=lost.token)).status_code == 200
    assert refusal(await site.get(path, token=lost.token)) == (404, "mfa_factor_not_found")
    lost.session = (await site.refresh(lost.session["refresh_token"])).json()
    assert lost.claims["aal"] == "aal1"


async def test_recovery_codes_can_be_removed_or_switched_off(site: AuthSite, database: Database) -> None:
    ada = await person(site)
    await ada.prove((await ada.enroll())["id"])
    path = "/factors/recovery-codes"
    await site.post(path, token=ada.token)
    weak = await again(ada)
    assert refusal(await site.delete(path, token=weak.token)) == (403, "insufficient_aal")
    assert set((await site.delete(path, token=ada.token)).json()) == {"id"}
    assert refusal(await site.get(path, token=ada.token)) == (404, "mfa_factor_not_found")
    async with open_site(database, changed(ALL_ON, mfa__recovery_codes=False), clock=site.clock) as off:
        answer = await off.post(path, token=ada.token)
        assert refusal(answer) == (422, "mfa_recovery_codes_enroll_not_enabled")
        answer = await off.post(f"{path}/verify", {"code": "x"}, token=ada.token)
        assert refusal(answer) == (422, "mfa_recovery_codes_verify_not_enabled")
