"""POST /otp, /magiclink, /recover, /resend and GET /reauthenticate (contracts/auth.md §3.3, §3.5, §3.6, §3.8)."""

from __future__ import annotations

from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, open_site, refusal
from socle_platform.db import Database

ADA = {"email": "ada@example.com"}
PHONE = {"phone": "15550101234"}
WITH_PHONE = changed(external__phone_enabled=True, sms__test_otp={"15550101234": "123456"})


@pytest.mark.parametrize("path", ["/otp", "/magiclink"])
async def test_a_known_user_gets_a_magic_link_with_a_code(site: AuthSite, path: str) -> None:
    await site.create_user()
    assert (await site.post(path, ADA)).json() == {}
    assert site.outbox.link_parameters()["type"] == "magiclink"
    assert len(site.outbox.code()) == 6
    assert refusal(await site.post(path, ADA)) == (429, "over_email_send_rate_limit")
    assert refusal(await site.post("/recover", ADA)) == (429, "over_email_send_rate_limit")
    site.clock.advance(seconds=60)
    assert (await site.post(path, ADA)).status_code == 200


async def test_an_unknown_user_is_signed_up_and_gets_the_confirmation(site: AuthSite) -> None:
    assert (await site.post("/otp", {**ADA, "data": {"name": "Ada"}})).json() == {}
    assert site.outbox.link_parameters()["type"] == "signup"
    row = await site.user_row()
    assert row["raw_user_meta_data"]["name"] == "Ada"
    assert row["encrypted_password"].startswith("$argon2id$")
    session = (await site.post("/verify", {"type": "email", **ADA, "token": site.outbox.code()})).json()
    assert session["user"]["email"] == "ada@example.com"


async def test_an_unconfirmed_user_gets_the_confirmation_again(site: AuthSite) -> None:
    await site.post("/signup", {**ADA, "password": PASSWORD})
    site.clock.advance(minutes=2)
    await site.post("/otp", ADA)
    assert site.outbox.link_parameters()["type"] == "signup"
    assert len(await site.rows("select 1 from auth.users")) == 1


async def test_with_autoconfirm_a_new_user_gets_the_magic_link(database: Database) -> None:
    async with open_site(database, changed(mailer__autoconfirm=True)) as site:
        await site.post("/otp", ADA)
        assert site.outbox.link_parameters()["type"] == "magiclink"
        assert (await site.user_row())["email_confirmed_at"] is not None
        assert await site.rows("select 1 from auth.sessions") == []
        assert (await site.post("/verify", {"type": "email", **ADA, "token": site.outbox.code()})).status_code == 200


async def test_nobody_is_created_when_that_is_not_wanted(site: AuthSite) -> None:
    answer = await site.post("/otp", {**ADA, "create_user": False})
    assert refusal(answer) == (422, "otp_disabled")
    assert answer.json()["message"] == "Signups not allowed for otp"
    assert await site.rows("select 1 from auth.users") == []
    await site.create_user()
    assert (await site.post("/otp", {**ADA, "create_user": False})).status_code == 200


async def test_required_characters_do_not_stand_in_the_way(database: Database) -> None:
    async with open_site(database, changed(password__required_characters=("abc", "ABC", "123", "!?"))) as site:
        assert (await site.post("/otp", ADA)).status_code == 200


async def test_what_otp_refuses(site: AuthSite) -> None:
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 400, "validation_failed"),
        ({**ADA, **PHONE}, 400, "validation_failed"),
        ({**ADA, "channel": "sms"}, 400, "validation_failed"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({**ADA, "code_challenge": "x"}, 400, "validation_failed"),
        ({**ADA, "create_user": "yes"}, 400, "bad_json"),
        (PHONE, 400, "phone_provider_disabled"),
    ]
    for body, status, code in cases:
        assert refusal(await site.post("/otp", body)) == (status, code), body
    assert refusal(await site.post("/magiclink", {})) == (422, "validation_failed")


async def test_otp_switched_off(database: Database) -> None:
    for part in ("external__email_enabled", "external__magic_link_enabled"):
        async with open_site(database, changed(**{part: False})) as site:
            assert refusal(await site.post("/otp", ADA)) == (422, "email_provider_disabled")
    async with open_site(database, changed(disable_signup=True)) as site:
        assert refusal(await site.post("/otp", ADA)) == (422, "signup_disabled")
        await site.create_user(email_confirm=False)
        assert refusal(await site.post("/otp", ADA)) == (422, "signup_disabled")


async def test_by_phone(database: Database) -> None:
    async with open_site(database, WITH_PHONE) as site:
        assert (await site.post("/otp", PHONE)).json() == {}
        proof = {"type": "sms", **PHONE, "token": "123456"}
        assert (await site.post("/verify", proof)).json()["user"]["phone"] == "15550101234"
        assert refusal(await site.post("/otp", PHONE)) == (429, "over_sms_send_rate_limit")
        site.clock.advance(seconds=61)
        assert (await site.post("/otp", PHONE)).json() == {"message_id": "test-otp"}
        assert refusal(await site.post("/otp", {**PHONE, "channel": "pigeon"})) == (400, "validation_failed")
        assert refusal(await site.post("/otp", {"phone": "15550109999"})) == (500, "unexpected_failure")
        assert len(await site.rows("select 1 from auth.users")) == 1


async def test_by_phone_with_autoconfirm(database: Database) -> None:
    async with open_site(database, changed(WITH_PHONE, sms__autoconfirm=True)) as site:
        assert (await site.post("/otp", PHONE)).json() == {"message_id": "test-otp"}


# -- recover -----------------------------------------------------------------------------------------------------------


async def test_recovery_of_known_and_unknown_looks_the_same(site: AuthSite) -> None:
    await site.create_user()
    known, unknown = await site.post("/recover", ADA), await site.post("/recover", {"email": "nobody@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (200, b"{}")
    assert known.headers.keys() == unknown.headers.keys()
    assert [mail.to for mail in site.outbox.mails] == ["ada@example.com"]
    assert site.outbox.link_parameters()["type"] == "recovery"


async def test_recovery_of_the_unconfirmed_and_of_those_without_a_password(site: AuthSite) -> None:
    await site.create_user(email_confirm=False)
    await site.run("update auth.users set encrypted_password = null")
    await site.post("/recover", ADA)
    session = (await site.post("/verify", {"type": "recovery", **ADA, "token": site.outbox.code()})).json()
    assert "email_confirmed_at" in session["user"]
    answer = await site.put("/user", {"password": PASSWORD}, token=session["access_token"])
    assert answer.status_code == 200
    await site.sign_in()


async def test_what_recover_refuses(database: Database) -> None:
    async with open_site(database) as site:
        assert refusal(await site.post("/recover", {})) == (400, "validation_failed")
        assert refusal(await site.post("/recover", {"email": "x"})) == (400, "validation_failed")
    async with open_site(database, changed(external__email_enabled=False)) as site:
        assert refusal(await site.post("/recover", ADA)) == (400, "email_provider_disabled")


async def test_a_failed_mail_does_not_use_up_the_interval(site: AuthSite) -> None:
    await site.create_user()
    site.outbox.is_dead = True
    answer = await site.post("/recover", ADA)
    assert refusal(answer) == (500, "unexpected_failure")
    assert answer.json()["message"] == "Error sending recovery email"
    site.outbox.is_dead = False
    assert (await site.post("/recover", ADA)).status_code == 200


# -- resend ------------------------------------------------------------------------------------------------------------


async def test_resending_a_confirmation(site: AuthSite) -> None:
    await site.post("/signup", {**ADA, "password": PASSWORD})
    first = site.outbox.code()
    assert refusal(await site.post("/resend", {"type": "signup", **ADA})) == (429, "over_email_send_rate_limit")
    site.clock.advance(minutes=2)
    assert (await site.post("/resend", {"type": "signup", **ADA})).json() == {}
    assert site.outbox.code() != first
    assert refusal(await site.post("/verify", {"type": "signup", **ADA, "token": first})) == (403, "otp_expired")
    assert (await site.post("/verify", {"type": "signup", **ADA, "token": site.outbox.code()})).status_code == 200
    sent = len(site.outbox.mails)
    site.clock.advance(minutes=2)
    assert (await site.post("/resend", {"type": "signup", **ADA})).json() == {}
    assert len(site.outbox.mails) == sent


async def test_resending_a_change_of_address(site: AuthSite) -> None:
    session = await site.signed_in()
    assert (await site.post("/resend", {"type": "email_change", **ADA})).json() == {}
    assert site.outbox.mails == []
    await site.put("/user", {"email": "new@example.com"}, token=session["access_token"])
    site.clock.advance(minutes=2)
    await site.post("/resend", {"type": "email_change", **ADA})
    assert [mail.to for mail in site.outbox.mails].count("new@example.com") == 2


async def test_resending_by_phone(database: Database) -> None:
    async with open_site(database, WITH_PHONE) as site:
        await site.post("/signup", {**PHONE, "password": PASSWORD})
        site.clock.advance(minutes=2)
        assert (await site.post("/resend", {"type": "sms", **PHONE})).json() == {"message_id": "test-otp"}
        await site.post("/verify", {"type": "sms", **PHONE, "token": "123456"})
        assert (await site.post("/resend", {"type": "sms", **PHONE})).json() == {}
        assert (await site.post("/resend", {"type": "phone_change", **PHONE})).json() == {}


async def test_resending_to_nobody_looks_like_success(site: AuthSite) -> None:
    assert (await site.post("/resend", {"type": "signup", "email": "nobody@example.com"})).json() == {}


async def test_what_resend_refuses(site: AuthSite) -> None:
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 400, "validation_failed"),
        ({"type": "recovery", **ADA}, 400, "validation_failed"),
        ({"type": "signup"}, 400, "validation_failed"),
        ({"type": "signup", **PHONE}, 400, "validation_failed"),
        ({"type": "sms", **ADA}, 400, "validation_failed"),
        ({"type": "email_change"}, 400, "validation_failed"),
        ({"type": "signup", **ADA, **PHONE}, 400, "validation_failed"),
        ({"type": "sms", **PHONE}, 400, "phone_provider_disabled"),
        ({"type": "signup", **ADA, "code_challenge": "x"}, 400, "validation_failed"),
    ]
    for body, status, code in cases:
        assert refusal(await site.post("/resend", body)) == (status, code), body


# -- reauthenticate ----------------------------------------------------------------------------------------------------


async def test_reauthentication_by_mail_has_an_interval(site: AuthSite) -> None:
    session = await site.signed_in()
    assert (await site.get("/reauthenticate", token=session["access_token"])).json() == {}
    assert refusal(await site.get("/reauthenticate", token=session["access_token"]))[1] == "over_email_send_rate_limit"


async def test_reauthentication_by_phone(database: Database) -> None:
    settings = changed(WITH_PHONE, sms__autoconfirm=True, security__password_change_needs_reauthentication=True)
    async with open_site(database, changed(settings, jwt__expiry=7 * 86400)) as site:
        session = (await site.post("/signup", {**PHONE, "password": PASSWORD})).json()
        token = session["access_token"]
        site.clock.advance(hours=25)
        assert (await site.get("/reauthenticate", token=token)).json() == {"message_id": "test-otp"}
        body = {"password": "another password", "nonce": "123456"}
        assert (await site.put("/user", body, token=token)).status_code == 200


async def test_who_cannot_reauthenticate(database: Database) -> None:
    settings = changed(external__anonymous_enabled=True, mailer__allow_unverified_sign_ins=True)
    async with open_site(database, settings) as site:
        anonymous = (await site.post("/signup", {})).json()
        assert refusal(await site.get("/reauthenticate", token=anonymous["access_token"])) == (400, "validation_failed")
        unconfirmed = await site.signed_in(email_confirm=False)
        answer = await site.get("/reauthenticate", token=unconfirmed["access_token"])
        assert refusal(answer) == (422, "email_not_confirmed")
        await site.run("update auth.users set email = null, phone = '15550101234' where email is not null")
        answer = await site.get("/reauthenticate", token=unconfirmed["access_token"])
        assert refusal(answer) == (422, "phone_not_confirmed")
