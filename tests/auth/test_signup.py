"""POST /signup (contracts/auth.md §3.1)."""

from __future__ import annotations

import asyncio

import pytest

from harness.auth_site import PASSWORD, SITE, AuthSite, changed, claims_of, open_site, refusal
from socle_platform.db import Database

ADA = {"email": "ada@example.com", "password": PASSWORD}


async def test_a_new_user_waits_for_confirmation(site: AuthSite) -> None:
    answer = await site.post("/signup?redirect_to=https://app.example.com/welcome", {**ADA, "email": "Ada@Example.com"})
    user = answer.json()
    assert answer.status_code == 200
    assert "access_token" not in user
    assert user["email"] == "ada@example.com"
    assert (user["role"], user["aud"], user["is_anonymous"]) == ("authenticated", "authenticated", False)
    assert "confirmation_sent_at" in user
    assert "email_confirmed_at" not in user
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    expected = {"sub": user["id"], "email": "ada@example.com", "email_verified": False, "phone_verified": False}
    assert user["user_metadata"] == expected
    identity = user["identities"][0]
    assert (identity["id"], identity["user_id"], identity["provider"]) == (user["id"], user["id"], "email")
    assert identity["identity_id"] != user["id"]
    assert identity["identity_data"] == expected
    assert site.outbox.last("ada@example.com").subject
    assert site.outbox.link_parameters()["type"] == "signup"
    assert site.outbox.link_parameters()["redirect_to"] == "https://app.example.com/welcome"
    assert await site.rows("select 1 from auth.sessions") == []


async def test_with_autoconfirm_a_session_comes_back(database: Database) -> None:
    async with open_site(database, changed(mailer__autoconfirm=True)) as site:
        answer = await site.post("/signup", ADA)
        session = answer.json()
        assert (session["token_type"], session["expires_in"]) == ("bearer", 3600)
        assert session["expires_at"] == int(site.clock.seconds()) + 3600
        assert session["user"]["user_metadata"]["email_verified"] is True
        assert "email_confirmed_at" in session["user"]
        assert "last_sign_in_at" in session["user"]
        assert [entry["method"] for entry in claims_of(session, site.keyring)["amr"]] == ["password"]
        assert answer.headers["sb-auth-user-id"] == session["user"]["id"]
        assert answer.headers["sb-auth-refresh-token-prefix"] == session["refresh_token"][:5]
        assert site.outbox.mails == []


async def test_data_lands_in_metadata_and_triggers_are_seen(database: Database) -> None:
    async with open_site(database) as site:
        await site.run(
            """create function auth.test_stamp() returns trigger language plpgsql as $$
            begin new.raw_app_meta_data := new.raw_app_meta_data || '{"stamped": true}'; return new; end $$"""
        )
        await site.run(
            "create trigger test_stamp before insert on auth.users for each row execute function auth.test_stamp()"
        )
        user = (await site.post("/signup", {**ADA, "data": {"plan": "pro", "sub": "forged", "email": "x@y.z"}})).json()
        assert user["user_metadata"]["plan"] == "pro"
        assert user["user_metadata"]["sub"] == user["id"]
        assert user["user_metadata"]["email"] == "ada@example.com"
        assert user["app_metadata"]["stamped"] is True


async def test_nobody_gives_themselves_rights(site: AuthSite) -> None:
    body = {
        **ADA,
        "app_metadata": {"role": "admin"},
        "role": "service_role",
        "aud": "other",
        "email_confirm": True,
        "is_anonymous": True,
        "id": "00000000-0000-0000-0000-000000000001",
    }
    user = (await site.post("/signup", body)).json()
    assert user["role"] == "authenticated"
    assert user["aud"] == "authenticated"
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert "email_confirmed_at" not in user
    assert user["id"] != body["id"]


async def test_a_failing_trigger_is_told_and_nothing_stays(site: AuthSite) -> None:
    await site.run(
        """create function auth.test_refuse() returns trigger language plpgsql as $$
        begin raise exception 'you are too young' using hint = 'grow up'; end $$"""
    )
    await site.run("create trigger t before insert on auth.users for each row execute function auth.test_refuse()")
    answer = await site.post("/signup", ADA)
    assert answer.status_code == 500
    assert answer.json() == {"code": "P0001", "message": "you are too young", "hint": "grow up"}
    await site.run(
        "create or replace function auth.test_refuse() returns trigger language plpgsql as 'begin return 1/0; end'"
    )
    answer = await site.post("/signup", ADA)
    assert refusal(answer) == (500, "unexpected_failure")
    assert answer.json()["message"] == "Database error saving new user"
    assert await site.rows("select 1 from auth.users") == []


async def test_a_confirmed_user_signed_up_again_gets_a_lookalike(site: AuthSite) -> None:
    real = await site.create_user()
    answer = await site.post("/signup", {**ADA, "password": "something else", "data": {"a": 1}})
    fake = answer.json()
    assert answer.status_code == 200
    assert fake["id"] != real["id"]
    assert fake["identities"] == []
    assert fake["role"] == ""
    assert fake["user_metadata"] == {"a": 1}
    assert fake["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert "confirmation_sent_at" in fake
    assert not {"last_sign_in_at", "email_confirmed_at", "confirmed_at"} & fake.keys()
    assert site.outbox.mails == []
    fresh = (await site.post("/signup", {"email": "new@example.com", "password": PASSWORD})).json()
    assert fresh.keys() == fake.keys()
    entries = await site.rows("select payload from auth.audit_log_entries")
    assert "user_repeated_signup" in [entry["payload"]["action"] for entry in entries]


@pytest.mark.parametrize("part", ["mailer__autoconfirm", "sms__autoconfirm"])
async def test_a_confirmed_user_signed_up_again_with_autoconfirm(database: Database, part: str) -> None:
    async with open_site(database, changed(**{part: True})) as site:
        await site.create_user()
        assert refusal(await site.post("/signup", ADA)) == (422, "user_already_exists")


async def test_an_unconfirmed_user_signed_up_again_keeps_password_and_metadata(site: AuthSite) -> None:
    first = (await site.post("/signup", {**ADA, "data": {"name": "Ada"}})).json()
    before = await site.user_row()
    assert refusal(await site.post("/signup", ADA)) == (429, "over_email_send_rate_limit")
    site.clock.advance(seconds=61)
    second = (await site.post("/signup", {**ADA, "password": "another one", "data": {"name": "Eve"}})).json()
    after = await site.user_row()
    assert second["id"] == first["id"]
    assert second["user_metadata"]["name"] == "Ada"
    assert after["encrypted_password"] == before["encrypted_password"]
    assert after["confirmation_token"] != before["confirmation_token"]
    assert len(site.outbox.mails) == 2


async def test_an_unconfirmed_user_comes_in_by_autoconfirm_with_the_right_password_only(database: Database) -> None:
    async with open_site(database) as site:
        await site.post("/signup", ADA)
    async with open_site(database, changed(mailer__autoconfirm=True)) as site:
        stranger = await site.post("/signup", {**ADA, "password": "a stranger's"})
        assert refusal(stranger) == (422, "user_already_exists")
        assert (await site.user_row())["email_confirmed_at"] is None
        assert "access_token" in (await site.post("/signup", ADA)).json()
        assert (await site.user_row())["email_confirmed_at"] is not None


async def test_an_invited_users_fields_do_not_leak(site: AuthSite) -> None:
    await site.admin("POST", "/invite", {"email": "ada@example.com", "data": {"salary": 1}})
    site.clock.advance(minutes=2)
    user = (await site.post("/signup", ADA)).json()
    assert user["user_metadata"] == {}
    assert user["identities"] == []


async def test_an_address_that_is_another_users_identity_counts_as_taken(site: AuthSite) -> None:
    user = await site.create_user()
    await site.run(
        """insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
        values ('7', $1, '{"sub":"7","email":"Second@Example.com"}', 'github', now(), now())""",
        user["id"],
    )
    answer = await site.post("/signup", {"email": "second@example.com", "password": PASSWORD})
    assert answer.json()["identities"] == []
    assert len(await site.rows("select 1 from auth.users")) == 1


async def test_sso_identities_do_not_count_as_taken(site: AuthSite) -> None:
    user = await site.create_user()
    await site.run(
        """insert into auth.identities (provider_id, user_id, identity_data, provider, created_at, updated_at)
        values ('7', $1, '{"sub":"7","email":"second@example.com"}', 'sso:x', now(), now())""",
        user["id"],
    )
    answer = await site.post("/signup", {"email": "second@example.com", "password": PASSWORD})
    assert len(answer.json()["identities"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "a@example.com"}, 400, "validation_failed"),
        ({"email": "a@example.com", "password": ""}, 400, "validation_failed"),
        ({"email": "a@example.com", "password": "short"}, 422, "weak_password"),
        ({"email": "nobody", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a" * 250 + "@example.com", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@example.com", "phone": "123456789", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@example.com", "password": PASSWORD, "code_challenge": "a" * 43}, 400, "validation_failed"),
        ({"email": "a@example.com", "password": PASSWORD, "code_challenge_method": "s256"}, 400, "validation_failed"),
        ({"phone": "123456789", "password": PASSWORD}, 400, "phone_provider_disabled"),
        ({"phone": "123456789", "password": PASSWORD, "channel": "pigeon"}, 400, "validation_failed"),
        ({"phone": "123456789", "password": PASSWORD, "channel": "whatsapp"}, 400, "validation_failed"),
        (
            {"phone": "123456789", "password": PASSWORD, "code_challenge": "a" * 43, "code_challenge_method": "s256"},
            400,
            "validation_failed",
        ),
        ({}, 422, "anonymous_provider_disabled"),
        ({"password": PASSWORD}, 422, "anonymous_provider_disabled"),
    ],
)
async def test_what_is_refused(site: AuthSite, body: dict[str, str], status: int, code: str) -> None:
    assert refusal(await site.post("/signup", body)) == (status, code)


async def test_signups_and_providers_can_be_switched_off(database: Database) -> None:
    async with open_site(database, changed(disable_signup=True, external__anonymous_enabled=True)) as site:
        assert refusal(await site.post("/signup", ADA)) == (422, "signup_disabled")
        assert refusal(await site.post("/signup", {})) == (422, "signup_disabled")
    async with open_site(database, changed(external__email_enabled=False, external__phone_enabled=True)) as site:
        assert refusal(await site.post("/signup", ADA)) == (400, "email_provider_disabled")
        bad = {"phone": "not a number", "password": PASSWORD}
        assert refusal(await site.post("/signup", bad)) == (400, "validation_failed")


async def test_by_phone_with_autoconfirm(database: Database) -> None:
    settings = changed(external__phone_enabled=True, sms__autoconfirm=True)
    async with open_site(database, settings) as site:
        session = (await site.post("/signup", {"phone": "+1 555 010 1234", "password": PASSWORD})).json()
        user = session["user"]
        assert (user["phone"], user["email"]) == ("15550101234", "")
        assert "phone_confirmed_at" in user
        assert user["app_metadata"] == {"provider": "phone", "providers": ["phone"]}
        assert user["identities"][0]["provider"] == "phone"
        again = await site.post("/token?grant_type=password", {"phone": "+1 555 010 1234", "password": PASSWORD})
        assert again.status_code == 200


async def test_by_phone_a_test_number_needs_no_provider(database: Database) -> None:
    settings = changed(external__phone_enabled=True, sms__test_otp={"15550101234": "123456"})
    async with open_site(database, settings) as site:
        answer = await site.post("/signup", {"phone": "15550101234", "password": PASSWORD})
        assert answer.status_code == 200
        assert "confirmation_sent_at" in answer.json()
        proof = {"type": "sms", "phone": "15550101234", "token": "123456"}
        assert "phone_confirmed_at" in (await site.post("/verify", proof)).json()["user"]


async def test_anonymously(database: Database) -> None:
    async with open_site(database, changed(external__anonymous_enabled=True)) as site:
        session = (await site.post("/signup", {"data": {"theme": "dark"}})).json()
        user = session["user"]
        assert user["is_anonymous"] is True
        assert user["identities"] == []
        assert (user["email"], user["phone"]) == ("", "")
        assert user["app_metadata"] == {}
        assert user["user_metadata"] == {"theme": "dark"}
        claims = claims_of(session, site.keyring)
        assert claims["is_anonymous"] is True
        assert claims["amr"][0]["method"] == "anonymous"


async def test_anonymous_sign_ins_have_a_limit_per_hour(database: Database) -> None:
    settings = changed(external__anonymous_enabled=True, rates__anonymous_users=3)
    async with open_site(database, settings, address="203.0.113.7") as site:
        answers = [(await site.post("/signup", {})).status_code for _ in range(4)]
        assert answers == [200, 200, 200, 429]
        site.clock.advance(minutes=20)
        assert (await site.post("/signup", {})).status_code == 200
        assert refusal(await site.post("/signup", {})) == (429, "over_request_rate_limit")


async def test_a_dead_mail_server_leaves_no_user_behind(site: AuthSite) -> None:
    site.outbox.is_dead = True
    answer = await site.post("/signup", ADA)
    assert refusal(answer) == (500, "unexpected_failure")
    assert answer.json()["message"] == "Error sending confirmation email"
    assert await site.rows("select 1 from auth.users") == []
    site.outbox.is_dead = False
    assert (await site.post("/signup", ADA)).status_code == 200


async def test_many_at_once_make_one_user(site: AuthSite) -> None:
    answers = await asyncio.gather(*(site.post("/signup", ADA) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert len(await site.rows("select 1 from auth.users")) == 1
    assert len(await site.rows("select 1 from auth.identities")) == 1


async def test_the_site_is_the_default_redirect(site: AuthSite) -> None:
    await site.post("/signup?redirect_to=https://evil.example.org", ADA)
    assert site.outbox.link_parameters()["redirect_to"] == SITE
