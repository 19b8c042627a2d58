"""GET and PUT /user (contracts/auth.md §3.7)."""

from __future__ import annotations

from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, claims_of, open_site, refusal
from socle_platform.db import Database

NEW_PASSWORD = "another good password"


async def test_the_user_reads_itself(site: AuthSite) -> None:
    session = await site.signed_in()
    answer = await site.get("/user", token=session["access_token"])
    assert answer.status_code == 200
    assert answer.json() == session["user"]


async def test_a_request_for_another_audience_is_refused(site: AuthSite) -> None:
    session = await site.signed_in()
    answer = await site.get("/user", token=session["access_token"], headers={"X-JWT-AUD": "other"})
    assert refusal(answer) == (400, "validation_failed")


async def put(site: AuthSite, session: dict[str, Any], body: dict[str, Any], **rest: Any) -> Any:
    return await site.put("/user", body, token=session["access_token"], **rest)


async def test_metadata_is_merged_and_null_takes_away(site: AuthSite) -> None:
    session = await site.signed_in(user_metadata={"a": 1, "b": 2, "kept": None})
    user = (await put(site, session, {"data": {"b": None, "c": {"d": [1, None]}}})).json()
    metadata = user["user_metadata"]
    assert (metadata["a"], metadata["c"]) == (1, {"d": [1, None]})
    assert "b" not in metadata
    assert metadata["kept"] is None


@pytest.mark.parametrize(
    "body", [{"app_metadata": {"role": "admin"}}, {"app_metadata": {}}, {"app_metadata": {"a": None}}]
)
async def test_app_metadata_is_not_the_users_to_change(site: AuthSite, body: dict[str, Any]) -> None:
    session = await site.signed_in()
    assert refusal(await put(site, session, body)) == (403, "not_admin")
    assert (await put(site, session, {"role": "service_role", "aud": "x", "is_anonymous": True})).json()[
        "role"
    ] == "authenticated"


async def test_a_new_password_logs_out_the_others_and_ends_every_code(site: AuthSite) -> None:
    session = await site.signed_in()
    other = await site.sign_in()
    await site.post("/recover", {"email": "ada@example.com"})
    code = site.outbox.code()
    answer = await put(site, session, {"password": NEW_PASSWORD})
    assert answer.status_code == 200
    assert (await site.get("/user", token=session["access_token"])).status_code == 200
    assert refusal(await site.get("/user", token=other["access_token"])) == (403, "session_not_found")
    assert refusal(await site.refresh(other["refresh_token"]))[0] == 400
    proof = {"type": "recovery", "email": "ada@example.com", "token": code}
    assert refusal(await site.post("/verify", proof)) == (403, "otp_expired")
    assert await site.rows("select 1 from auth.one_time_tokens") == []
    await site.sign_in(password=NEW_PASSWORD)
    answer = await site.post("/token?grant_type=password", {"email": "ada@example.com", "password": PASSWORD})
    assert refusal(answer) == (400, "invalid_credentials")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"password": PASSWORD}, 422, "same_password"),
        ({"password": ""}, 422, "weak_password"),
        ({"password": "short"}, 422, "weak_password"),
        ({"password": "a" * 73}, 400, "validation_failed"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({"phone": "nonsense"}, 400, "validation_failed"),
        ({"phone": "15550101234", "channel": "pigeon"}, 400, "validation_failed"),
        ({"email": "bob@example.com"}, 422, "email_exists"),
        ({"phone": "15550109999"}, 422, "phone_exists"),
        ({"email": "new@example.com", "code_challenge": "x"}, 400, "validation_failed"),
        ({"data": "x"}, 400, "bad_json"),
    ],
)
async def test_what_is_refused(site: AuthSite, body: dict[str, Any], status: int, code: str) -> None:
    await site.create_user(email="bob@example.com", phone="15550109999")
    session = await site.signed_in()
    assert refusal(await put(site, session, body)) == (status, code)


async def add_verified_factor(site: AuthSite, user_id: str) -> None:
    await site.run(
        """insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
        values (gen_random_uuid(), $1, 'totp', 'verified', now(), now(), 'x')""",
        user_id,
    )


@pytest.mark.parametrize("body", [{"password": NEW_PASSWORD}, {"email": "new@example.com"}, {"phone": "15550101234"}])
async def test_with_a_second_factor_the_account_changes_at_aal2_only(site: AuthSite, body: dict[str, str]) -> None:
    session = await site.signed_in()
    await add_verified_factor(site, session["user"]["id"])
    assert refusal(await put(site, session, body)) == (401, "insufficient_aal")
    assert (await put(site, session, {"data": {"a": 1}})).status_code == 200
    await site.run(
        """insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
        values (gen_random_uuid(), $1, now(), now(), 'totp')""",
        claims_of(session, site.keyring)["session_id"],
    )
    answer = await put(site, session, body)
    assert answer.status_code == 200 or answer.json()["message"] == "Unable to get SMS provider"


async def test_a_single_sign_on_users_account_is_managed_elsewhere(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.run("update auth.users set is_sso_user = true")
    for body in ({"password": NEW_PASSWORD}, {"email": "n@example.com"}, {"phone": "15550101234"}, {"nonce": "1"}):
        assert refusal(await put(site, session, body)) == (422, "user_sso_managed")
    assert (await put(site, session, {"data": {"a": 1}})).status_code == 200


# -- reauthentication and the current password -------------------------------------------------------------------------

REAUTH = changed(security__password_change_needs_reauthentication=True, jwt__expiry=7 * 86400)


async def test_reauthentication_is_asked_of_old_sessions_only(database: Database) -> None:
    async with open_site(database, REAUTH) as site:
        session = await site.signed_in()
        assert (await put(site, session, {"password": NEW_PASSWORD})).status_code == 200
        site.clock.advance(hours=24, seconds=1)
        assert refusal(await put(site, session, {"password": PASSWORD})) == (400, "reauthentication_needed")
        assert refusal(await put(site, session, {"password": PASSWORD, "nonce": "000000"})) == (
            422,
            "reauthentication_not_valid",
        )


async def test_a_nonce_works_once_and_not_for_long(database: Database) -> None:
    async with open_site(database, REAUTH) as site:
        session = await site.signed_in()
        site.clock.advance(hours=25)
        assert (await site.get("/reauthenticate", token=session["access_token"])).json() == {}
        nonce = site.outbox.code()
        assert site.outbox.link() == ""
        assert (
            refusal(await put(site, session, {"password": NEW_PASSWORD, "nonce": "999999"}))[1]
            == "reauthentication_not_valid"
        )
        assert (await put(site, session, {"password": NEW_PASSWORD, "nonce": nonce})).status_code == 200
        assert (
            refusal(await put(site, session, {"password": PASSWORD, "nonce": nonce}))[1] == "reauthentication_not_valid"
        )
        await site.get("/reauthenticate", token=session["access_token"])
        site.clock.advance(hours=24, seconds=1)
        late = await put(site, session, {"password": PASSWORD, "nonce": site.outbox.code()})
        assert refusal(late) == (422, "reauthentication_not_valid")


CURRENT = changed(security__password_change_needs_current=True)


async def test_the_current_password_is_asked_for(database: Database) -> None:
    async with open_site(database, CURRENT) as site:
        session = await site.signed_in()
        assert refusal(await put(site, session, {"password": NEW_PASSWORD})) == (400, "current_password_required")
        wrong = {"password": NEW_PASSWORD, "current_password": "wrong"}
        assert refusal(await put(site, session, wrong)) == (400, "current_password_invalid")
        right = {"password": NEW_PASSWORD, "current_password": PASSWORD}
        assert (await put(site, session, right)).status_code == 200


async def test_the_current_password_is_not_asked_in_a_recovery(database: Database) -> None:
    async with open_site(database, CURRENT) as site:
        await site.create_user()
        await site.post("/recover", {"email": "ada@example.com"})
        proof = {"type": "recovery", "email": "ada@example.com", "token": site.outbox.code()}
        session = (await site.post("/verify", proof)).json()
        assert (await put(site, session, {"password": NEW_PASSWORD})).status_code == 200


async def test_a_user_without_a_password_may_set_one(database: Database) -> None:
    async with open_site(database, CURRENT) as site:
        session = await site.signed_in()
        await site.run("update auth.users set encrypted_password = null")
        assert (await put(site, session, {"password": NEW_PASSWORD})).status_code == 200


# -- changing the address ----------------------------------------------------------------------------------------------


async def test_a_change_of_address_only_asks_first(site: AuthSite) -> None:
    session = await site.signed_in()
    user = (await put(site, session, {"email": "New@Example.com"})).json()
    assert (user["email"], user["new_email"]) == ("ada@example.com", "new@example.com")
    assert {mail.to for mail in site.outbox.mails} == {"ada@example.com", "new@example.com"}
    assert refusal(await put(site, session, {"email": "third@example.com"})) == (429, "over_email_send_rate_limit")


async def test_autoconfirm_does_not_skip_that_for_permanent_users(database: Database) -> None:
    async with open_site(database, changed(mailer__autoconfirm=True)) as site:
        session = await site.signed_in()
        user = (await put(site, session, {"email": "new@example.com"})).json()
        assert (user["email"], user["new_email"]) == ("ada@example.com", "new@example.com")
        proof = {"type": "email_change", "email": "new@example.com", "token": site.outbox.code("new@example.com")}
        assert (await site.post("/verify", proof)).json()["user"]["email"] == "new@example.com"


ANONYMOUS = changed(external__anonymous_enabled=True)


async def test_an_anonymous_user_becomes_permanent_at_once_with_autoconfirm(database: Database) -> None:
    async with open_site(database, changed(ANONYMOUS, mailer__autoconfirm=True)) as site:
        session = (await site.post("/signup", {})).json()
        user = (await put(site, session, {"email": "ada@example.com", "password": PASSWORD})).json()
        assert (user["email"], user["is_anonymous"]) == ("ada@example.com", False)
        assert user["identities"][0]["identity_data"]["email_verified"] is True
        assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
        fresh = (await site.refresh(session["refresh_token"])).json()
        assert claims_of(fresh, site.keyring)["is_anonymous"] is False
        await site.sign_in()


async def test_an_anonymous_user_becomes_permanent_by_proving_an_address(database: Database) -> None:
    async with open_site(database, ANONYMOUS) as site:
        session = (await site.post("/signup", {})).json()
        user = (await put(site, session, {"email": "ada@example.com"})).json()
        assert (user["email"], user["new_email"], user["is_anonymous"]) == ("", "ada@example.com", True)
        assert len(site.outbox.mails) == 1
        proof = {"type": "email_change", "email": "ada@example.com", "token": site.outbox.code()}
        confirmed = (await site.post("/verify", proof)).json()
        assert confirmed["user"]["is_anonymous"] is False
        assert claims_of(confirmed, site.keyring)["is_anonymous"] is False
        assert confirmed["user"]["id"] == session["user"]["id"]


async def test_an_anonymous_user_becomes_permanent_by_phone(database: Database) -> None:
    settings = changed(ANONYMOUS, external__phone_enabled=True, sms__test_otp={"15550101234": "123456"})
    async with open_site(database, settings) as site:
        session = (await site.post("/signup", {})).json()
        user = (await put(site, session, {"phone": "+1 555 010 1234"})).json()
        assert user["new_phone"] == "15550101234"
        proof = {"type": "phone_change", "phone": "15550101234", "token": "123456"}
        confirmed = (await site.post("/verify", proof)).json()
        assert (confirmed["user"]["phone"], confirmed["user"]["is_anonymous"]) == ("15550101234", False)
        assert confirmed["user"]["identities"][0]["provider"] == "phone"


async def test_an_anonymous_user_sets_no_password_alone(database: Database) -> None:
    async with open_site(database, ANONYMOUS) as site:
        session = (await site.post("/signup", {})).json()
        assert refusal(await put(site, session, {"password": PASSWORD})) == (422, "validation_failed")


async def test_a_phone_at_once_with_autoconfirm(database: Database) -> None:
    async with open_site(database, changed(sms__autoconfirm=True)) as site:
        session = await site.signed_in()
        user = (await put(site, session, {"phone": "15550101234"})).json()
        assert user["phone"] == "15550101234"
        assert "phone_confirmed_at" in user
        assert sorted(identity["provider"] for identity in user["identities"]) == ["email", "phone"]
        assert user["app_metadata"]["providers"] == ["email", "phone"]


async def test_a_dead_mail_server_changes_nothing(site: AuthSite) -> None:
    session = await site.signed_in()
    site.outbox.is_dead = True
    body = {"email": "new@example.com", "data": {"a": 1}}
    answer = await put(site, session, body)
    assert refusal(answer) == (500, "unexpected_failure")
    assert answer.json()["message"] == "Error sending email change email"
    row = await site.user_row()
    assert row["email_change"] == ""
    assert "a" not in row["raw_user_meta_data"]
    site.outbox.is_dead = False
    assert (await put(site, session, body)).status_code == 200


async def test_notifications_are_sent_where_they_are_on(database: Database) -> None:
    settings = changed(
        mailer__notifications=frozenset({"password_changed", "email_changed"}), mailer__secure_email_change=False
    )
    async with open_site(database, settings) as site:
        session = await site.signed_in()
        await put(site, session, {"password": NEW_PASSWORD})
        assert "assword" in site.outbox.last("ada@example.com").subject
        await put(site, session, {"email": "new@example.com"})
        code = site.outbox.code("new@example.com")
        await site.post("/verify", {"type": "email_change", "email": "new@example.com", "token": code})
        assert site.outbox.last().to == "ada@example.com"
        site.outbox.is_dead = True
        assert (await put(site, session, {"password": PASSWORD})).status_code == 200
