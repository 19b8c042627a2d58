"""GET and POST /verify (contracts/auth.md §3.4, §4.1, §4.3)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from harness.auth_site import PASSWORD, SITE, AuthSite, changed, claims_of, fragment_of, open_site, query_of, refusal
from socle_platform.db import Database

ADA = "ada@example.com"
VERIFIER = "v" * 50
CHALLENGE = {
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode(),
    "code_challenge_method": "S256",
}


async def follow(site: AuthSite, link: str) -> Any:
    """Opens a mail's link as a browser would."""
    answer = await site.get(link, old_api=True)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def exchange(site: AuthSite, code: str, verifier: str = VERIFIER) -> Any:
    return await site.post("/token?grant_type=pkce", {"auth_code": code, "code_verifier": verifier})


async def signed_up(site: AuthSite, **more: str) -> None:
    answer = await site.post(
        "/signup?redirect_to=https://app.example.com/in", {"email": ADA, "password": PASSWORD, **more}
    )
    assert answer.status_code == 200


# -- codes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["signup", "email"])
async def test_a_code_confirms_a_sign_up(site: AuthSite, kind: str) -> None:
    await signed_up(site)
    site.clock.advance(minutes=5)
    answer = await site.post("/verify", {"type": kind, "email": "ADA@Example.com", "token": site.outbox.code()})
    session = answer.json()
    assert answer.status_code == 200
    assert session["user"]["email_confirmed_at"] == session["user"]["confirmed_at"]
    assert session["user"]["user_metadata"]["email_verified"] is True
    assert session["user"]["identities"][0]["identity_data"]["email_verified"] is True
    assert claims_of(session, site.keyring)["amr"] == [{"method": "otp", "timestamp": int(site.clock.seconds())}]
    await site.sign_in()


@pytest.mark.parametrize("kind", ["magiclink", "email"])
async def test_a_code_signs_a_known_user_in(site: AuthSite, kind: str) -> None:
    await site.create_user()
    await site.post("/otp", {"email": ADA})
    answer = await site.post("/verify", {"type": kind, "email": ADA, "token": site.outbox.code()})
    assert answer.status_code == 200


async def test_a_code_works_once_and_takes_every_other_with_it(site: AuthSite) -> None:
    await signed_up(site)
    first = site.outbox.code()
    await site.post("/recover", {"email": ADA})
    second = site.outbox.code()
    assert (await site.post("/verify", {"type": "signup", "email": ADA, "token": first})).status_code == 200
    for kind, code in (("signup", first), ("email", first), ("recovery", second), ("email", second)):
        answer = await site.post("/verify", {"type": kind, "email": ADA, "token": code})
        assert refusal(answer) == (403, "otp_expired")
        assert answer.json()["message"] == "Token has expired or is invalid"


async def test_of_many_at_once_one_wins(site: AuthSite) -> None:
    await signed_up(site)
    proof = {"type": "signup", "email": ADA, "token": site.outbox.code()}
    link = {"type": "signup", "token_hash": site.outbox.link_parameters()["token"]}
    answers = await asyncio.gather(*(site.post("/verify", proof if n % 2 else link) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * 7
    assert len(await site.rows("select 1 from auth.sessions")) == 1


async def test_an_old_code_is_expired(database: Database) -> None:
    async with open_site(database, changed(mailer__otp_expiry=600.0)) as site:
        await signed_up(site)
        code, token = site.outbox.code(), site.outbox.link_parameters()["token"]
        site.clock.advance(seconds=601)
        assert refusal(await site.post("/verify", {"type": "signup", "email": ADA, "token": code})) == (
            403,
            "otp_expired",
        )
        answer = await site.post("/verify", {"type": "signup", "token_hash": token})
        assert refusal(answer) == (403, "otp_expired")
        assert answer.json()["message"] == "Email link is invalid or has expired"


async def test_ten_wrong_codes_are_enough(site: AuthSite) -> None:
    await signed_up(site)
    code = site.outbox.code()
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    for _ in range(10):
        assert refusal(await site.post("/verify", {"type": "email", "email": ADA, "token": wrong}))[0] == 403
    await site.post("/verify", {"type": "email", "email": ADA, "token": wrong})
    assert refusal(await site.post("/verify", {"type": "email", "email": ADA, "token": code})) == (403, "otp_expired")
    assert (await site.user_row())["confirmation_token"] == ""
    site.clock.advance(minutes=2)
    await site.post("/resend", {"type": "signup", "email": ADA})
    proof = {"type": "email", "email": ADA, "token": site.outbox.code()}
    assert (await site.post("/verify", proof)).status_code == 200


async def test_nine_wrong_codes_are_forgiven(site: AuthSite) -> None:
    await signed_up(site)
    code = site.outbox.code()
    for _ in range(9):
        await site.post("/verify", {"type": "email", "email": ADA, "token": "x"})
    assert (await site.post("/verify", {"type": "email", "email": ADA, "token": code})).status_code == 200


async def test_what_is_refused(site: AuthSite) -> None:
    await site.create_user()
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 400, "validation_failed"),
        ({"token": "1", "email": ADA}, 400, "validation_failed"),
        ({"type": "signup", "email": ADA}, 400, "validation_failed"),
        ({"type": "signup", "token": "1", "token_hash": "2", "email": ADA}, 400, "validation_failed"),
        ({"type": "signup", "token_hash": "2", "email": ADA}, 400, "validation_failed"),
        ({"type": "signup", "token_hash": "2", "phone": "123456"}, 400, "validation_failed"),
        ({"type": "signup", "token_hash": "2", "redirect_to": SITE}, 400, "validation_failed"),
        ({"type": "signup", "token": "1"}, 400, "validation_failed"),
        ({"type": "signup", "token": "1", "email": ADA, "phone": "123456"}, 400, "validation_failed"),
        ({"type": "signup", "token": "1", "email": "nonsense"}, 422, "validation_failed"),
        ({"type": "sms", "token": "1", "phone": "nonsense"}, 400, "validation_failed"),
        ({"type": "pigeon", "token": "1", "email": ADA}, 400, "validation_failed"),
        ({"type": "phone_change", "token_hash": "1"}, 400, "validation_failed"),
        ({"type": "signup", "token": "123456", "email": "nobody@example.com"}, 403, "otp_expired"),
        ({"type": "signup", "token": "123456", "email": ADA}, 403, "otp_expired"),
        ({"type": "sms", "token": "123456", "email": ADA}, 403, "otp_expired"),
        ({"type": "email", "token": "123456", "phone": "15550101234"}, 403, "otp_expired"),
        ({"type": "email_change", "token": "123456", "email": ADA}, 403, "otp_expired"),
        ({"type": "recovery", "token_hash": "unknown"}, 403, "otp_expired"),
    ]
    for body, status, code in cases:
        assert refusal(await site.post("/verify", body)) == (status, code), body


async def test_a_link_of_one_kind_is_not_of_another(site: AuthSite) -> None:
    await site.create_user()
    await site.post("/recover", {"email": ADA})
    token = site.outbox.link_parameters()["token"]
    for kind in ("signup", "invite", "email_change"):
        assert refusal(await site.post("/verify", {"type": kind, "token_hash": token})) == (403, "otp_expired")
    assert (await site.post("/verify", {"type": "recovery", "token_hash": token})).status_code == 200


async def test_banned_users_are_refused_at_every_kind(database: Database) -> None:
    settings = changed(external__phone_enabled=True, sms__test_otp={"15550101234": "123456", "15550109999": "123456"})
    async with open_site(database, settings) as site:
        user = await site.create_user(phone="15550101234", email_confirm=False)
        session = await site.sign_in_after_confirming(user["id"])
        await site.put("/user", {"email": "new@example.com", "phone": "15550109999"}, token=session["access_token"])
        site.clock.advance(minutes=5)
        await site.post("/recover", {"email": ADA})
        recovery = site.outbox.code(ADA)
        change = site.outbox.code("new@example.com")
        await site.admin("POST", "/admin/generate_link", {"type": "magiclink", "email": ADA})
        await site.admin("PUT", f"/admin/users/{user['id']}", {"ban_duration": "1h"})
        proofs = [
            {"type": "recovery", "email": ADA, "token": recovery},
            {"type": "magiclink", "email": ADA, "token": recovery},
            {"type": "signup", "email": ADA, "token": recovery},
            {"type": "invite", "email": ADA, "token": recovery},
            {"type": "email", "email": ADA, "token": recovery},
            {"type": "email_change", "email": "new@example.com", "token": change},
            {"type": "sms", "phone": "15550101234", "token": "123456"},
            {"type": "phone_change", "phone": "15550109999", "token": "123456"},
        ]
        for proof in proofs:
            assert refusal(await site.post("/verify", proof)) == (403, "user_banned"), proof
        row = await site.row("select token_hash from auth.one_time_tokens where token_type = 'recovery_token'")
        answer = await site.post("/verify", {"type": "recovery", "token_hash": row["token_hash"]})
        assert refusal(answer) == (403, "user_banned")
        location = await follow(site, f"/verify?type=recovery&token={row['token_hash']}")
        assert fragment_of(location)["error_code"] == "user_banned"
        assert fragment_of(location)["error"] == "access_denied"


# -- links -------------------------------------------------------------------------------------------------------------


async def test_a_link_leads_to_the_application_with_a_session(site: AuthSite) -> None:
    await signed_up(site)
    location = await follow(site, site.outbox.link())
    assert location.startswith("https://app.example.com/in#")
    values = fragment_of(location)
    assert set(values) == {"access_token", "expires_at", "expires_in", "refresh_token", "sb", "token_type", "type"}
    assert (values["type"], values["token_type"], values["sb"]) == ("signup", "bearer", "")
    assert values["expires_in"] == "3600"
    assert location.partition("#")[2].startswith("access_token=")
    assert (await site.get("/user", token=values["access_token"])).status_code == 200
    assert (await site.refresh(values["refresh_token"])).status_code == 200
    again = fragment_of(await follow(site, site.outbox.link()))
    assert again == {
        "error": "access_denied",
        "error_code": "otp_expired",
        "error_description": "Email link is invalid or has expired",
        "sb": "",
    }


async def test_a_bad_link_says_so_in_the_fragment_only(site: AuthSite) -> None:
    location = await follow(site, "/verify?type=signup&token=unknown&redirect_to=https://app.example.com/a?keep=1")
    assert query_of(location) == {"keep": "1"}
    assert fragment_of(location)["error_code"] == "otp_expired"


async def test_a_bad_pkce_link_says_so_in_the_query_too(site: AuthSite) -> None:
    target = "https%3A%2F%2Fapp.example.com%2Fa%3Fkeep%3D1%26error%3Dmine"
    location = await follow(site, f"/verify?type=signup&token=pkce_unknown&redirect_to={target}")
    assert query_of(location) == {
        "keep": "1",
        "error": "access_denied",
        "error_code": "otp_expired",
        "error_description": "Email link is invalid or has expired",
    }
    assert fragment_of(location)["error_code"] == "otp_expired"


async def test_an_incomplete_link_is_json(site: AuthSite) -> None:
    for query in ("?type=signup", "?token=x", ""):
        assert refusal(await site.get(f"/verify{query}")) == (400, "validation_failed")


async def test_an_unknown_type_in_a_link_redirects(site: AuthSite) -> None:
    location = await follow(site, "/verify?type=pigeon&token=x")
    assert fragment_of(location)["error_code"] == "validation_failed"
    assert fragment_of(location)["error"] == "invalid_request"


async def test_a_link_does_not_leave_the_site(site: AuthSite) -> None:
    await signed_up(site)
    link = site.outbox.link().replace("https://app.example.com/in", "https://evil.example.org")
    assert (await follow(site, link)).startswith(f"{SITE}#access_token=")


async def test_the_email_type_works_as_a_link(site: AuthSite) -> None:
    await signed_up(site)
    location = await follow(site, site.outbox.link().replace("type=signup", "type=email"))
    assert fragment_of(location)["type"] == "signup"
    site.clock.advance(minutes=2)
    await site.post("/otp", {"email": ADA})
    location = await follow(site, site.outbox.link().replace("type=magiclink", "type=email"))
    assert fragment_of(location)["type"] == "magiclink"


async def test_the_scanner_guard_asks_before_it_uses_the_link_up(database: Database) -> None:
    async with open_site(database, changed(mailer__scanner_guard=True)) as site:
        await signed_up(site)
        link = site.outbox.link()
        for _ in range(3):
            page = await site.get(link, headers={"accept-language": "fr-FR"})
            assert page.status_code == 200
            assert 'lang="fr"' in page.text
            assert 'method="post"' in page.text
            assert page.headers["cache-control"] == "no-store"
        evil = await site.get('/verify?type="><script>alert(1)</script>&token=x&redirect_to="><script>')
        assert "<script>" not in evil.text
        answer = await site.post("/verify", form=query_of(link), old_api=True)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("https://app.example.com/in#access_token=")


# -- PKCE --------------------------------------------------------------------------------------------------------------


async def test_a_pkce_sign_up_end_to_end(site: AuthSite) -> None:
    await signed_up(site, **CHALLENGE)
    assert site.outbox.link_parameters()["token"].startswith("pkce_")
    location = await follow(site, site.outbox.link())
    assert location.startswith("https://app.example.com/in?code=")
    assert "#" not in location
    answer = await exchange(site, query_of(location)["code"])
    assert answer.status_code == 200
    assert claims_of(answer.json(), site.keyring)["amr"][0]["method"] == "email/signup"
    assert await site.rows("select 1 from auth.flow_state") == []
    assert refusal(await exchange(site, query_of(location)["code"])) == (404, "flow_state_not_found")


@pytest.mark.parametrize(
    ("path", "kind", "method"), [("/otp", "magiclink", "magiclink"), ("/recover", "recovery", "recovery")]
)
async def test_pkce_magic_and_recovery_links(site: AuthSite, path: str, kind: str, method: str) -> None:
    await site.create_user()
    await site.post(f"{path}?redirect_to=https://app.example.com/x?a=1", {"email": ADA, **CHALLENGE})
    assert site.outbox.link_parameters()["type"] == kind
    location = await follow(site, site.outbox.link())
    assert query_of(location)["a"] == "1"
    session = (await exchange(site, query_of(location)["code"])).json()
    assert claims_of(session, site.keyring)["amr"][0]["method"] == method


async def test_a_pkce_code_from_the_mail_works_without_pkce(site: AuthSite) -> None:
    await site.create_user()
    await site.post("/otp", {"email": ADA, **CHALLENGE})
    assert (await site.post("/verify", {"type": "email", "email": ADA, "token": site.outbox.code()})).status_code == 200


async def test_a_pkce_hash_posted_gives_a_session(site: AuthSite) -> None:
    await site.create_user()
    await site.post("/otp", {"email": ADA, **CHALLENGE})
    proof = {"type": "magiclink", "token_hash": site.outbox.link_parameters()["token"]}
    assert "access_token" in (await site.post("/verify", proof)).json()


async def test_a_wrong_code_a_wrong_verifier_or_both(site: AuthSite) -> None:
    await signed_up(site, **CHALLENGE)
    code = query_of(await follow(site, site.outbox.link()))["code"]
    assert refusal(await exchange(site, "wrong")) == (404, "flow_state_not_found")
    assert refusal(await exchange(site, code, "w" * 50)) == (400, "bad_code_verifier")
    assert refusal(await exchange(site, "wrong", "w" * 50)) == (404, "flow_state_not_found")
    assert refusal(await exchange(site, "", VERIFIER)) == (400, "validation_failed")
    assert refusal(await exchange(site, code, "")) == (400, "validation_failed")
    assert (await exchange(site, code)).status_code == 200


async def test_of_many_exchanges_one_wins(site: AuthSite) -> None:
    await signed_up(site, **CHALLENGE)
    code = query_of(await follow(site, site.outbox.link()))["code"]
    answers = await asyncio.gather(*(exchange(site, code) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 5


async def test_the_plain_method(site: AuthSite) -> None:
    await signed_up(site, code_challenge=VERIFIER, code_challenge_method="plain")
    code = query_of(await follow(site, site.outbox.link()))["code"]
    assert (await exchange(site, code)).status_code == 200


async def test_the_codes_life_begins_when_it_is_given_out(site: AuthSite) -> None:
    await signed_up(site, **CHALLENGE)
    site.clock.advance(minutes=30)
    code = query_of(await follow(site, site.outbox.link()))["code"]
    site.clock.advance(seconds=299)
    assert refusal(await exchange(site, code, "w" * 50)) == (400, "bad_code_verifier")
    site.clock.advance(seconds=2)
    assert refusal(await exchange(site, code)) == (422, "flow_state_expired")


async def test_a_pkce_link_without_its_flow(site: AuthSite) -> None:
    await signed_up(site, **CHALLENGE)
    await site.run("delete from auth.flow_state")
    location = await follow(site, site.outbox.link())
    assert query_of(location)["error_code"] == "flow_state_not_found"
    assert (await site.user_row())["email_confirmed_at"] is None


async def test_the_latest_flow_counts(site: AuthSite) -> None:
    await site.create_user()
    await site.post("/otp", {"email": ADA, "code_challenge": "o" * 43, "code_challenge_method": "plain"})
    site.clock.advance(minutes=2)
    await site.post("/otp", {"email": ADA, **CHALLENGE})
    code = query_of(await follow(site, site.outbox.link()))["code"]
    assert (await exchange(site, code)).status_code == 200


# -- changing the address ----------------------------------------------------------------------------------------------

NEW = "new@example.com"


async def change(site: AuthSite, **more: str) -> dict[str, Any]:
    session = await site.signed_in()
    answer = await site.put("/user", {"email": NEW, **more}, token=session["access_token"])
    assert answer.status_code == 200
    return session


@pytest.mark.parametrize("order", [(ADA, NEW), (NEW, ADA)])
async def test_a_secure_change_needs_both_codes_in_any_order(site: AuthSite, order: tuple[str, str]) -> None:
    session = await change(site)
    first, second = ({"type": "email_change", "email": to, "token": site.outbox.code(to)} for to in order)
    answer = await site.post("/verify", first)
    assert answer.json() == {
        "msg": "Confirmation link accepted. Please proceed to confirm link sent to the other email",
        "code": "200",
    }
    assert (await site.user_row())["email_change_confirm_status"] == 1
    assert refusal(await site.post("/verify", first)) == (403, "otp_expired")
    done = (await site.post("/verify", second)).json()
    assert done["user"]["email"] == NEW
    assert "new_email" not in done["user"]
    assert done["user"]["identities"][0]["identity_data"]["email"] == NEW
    assert done["user"]["identities"][0]["email"] == NEW
    assert refusal(await site.post("/verify", second)) == (403, "otp_expired")
    assert (await site.get("/user", token=session["access_token"])).json()["email"] == NEW


@pytest.mark.parametrize("order", [(ADA, NEW), (NEW, ADA)])
async def test_a_secure_change_by_links(site: AuthSite, order: tuple[str, str]) -> None:
    await change(site)
    location = await follow(site, site.outbox.link(order[0]))
    assert fragment_of(location) == {
        "message": "Confirmation link accepted. Please proceed to confirm link sent to the other email",
        "sb": "",
    }
    location = await follow(site, site.outbox.link(order[1]))
    assert fragment_of(location)["type"] == "email_change"
    assert (await site.user_row(NEW))["email_change"] == ""


async def test_a_secure_change_by_token_hashes(site: AuthSite) -> None:
    await change(site)
    hashes = [site.outbox.link_parameters(to)["token"] for to in (ADA, NEW)]
    first = await site.post("/verify", {"type": "email_change", "token_hash": hashes[0]})
    assert first.json()["code"] == "200"
    second = await site.post("/verify", {"type": "email_change", "token_hash": hashes[1]})
    assert second.json()["user"]["email"] == NEW


async def test_a_secure_change_with_pkce(site: AuthSite) -> None:
    await change(site, **CHALLENGE)
    location = await follow(site, site.outbox.link(ADA))
    assert query_of(location)["message"].startswith("Confirmation link accepted")
    location = await follow(site, site.outbox.link(NEW))
    session = (await exchange(site, query_of(location)["code"])).json()
    assert session["user"]["email"] == NEW


async def test_one_side_twice_is_not_both(site: AuthSite) -> None:
    await change(site)
    await follow(site, site.outbox.link(NEW))
    location = await follow(site, site.outbox.link(NEW))
    assert fragment_of(location)["error_code"] == "otp_expired"
    assert (await site.user_row())["email_change"] == NEW


async def test_without_secure_change_the_new_address_suffices(database: Database) -> None:
    async with open_site(database, changed(mailer__secure_email_change=False)) as site:
        await change(site)
        assert [mail.to for mail in site.outbox.mails] == [NEW]
        await follow(site, site.outbox.link(NEW))
        assert await site.user_row(NEW)


async def test_an_address_taken_meanwhile_is_refused(database: Database) -> None:
    async with open_site(database, changed(mailer__secure_email_change=False)) as site:
        await change(site)
        await site.create_user(email=NEW)
        answer = await site.post("/verify", {"type": "email_change", "email": NEW, "token": site.outbox.code(NEW)})
        assert refusal(answer) == (422, "email_exists")
        assert len(await site.rows("select 1 from auth.users where email = $1", ADA)) == 1


async def test_two_users_may_want_the_same_address(database: Database) -> None:
    async with open_site(database, changed(mailer__secure_email_change=False)) as site:
        await change(site)
        ada_code = site.outbox.code(NEW)
        bob = await site.signed_in(email="bob@example.com")
        await site.put("/user", {"email": NEW}, token=bob["access_token"])
        done = await site.post("/verify", {"type": "email_change", "email": NEW, "token": ada_code})
        assert done.json()["user"]["user_metadata"]["email_verified"] is True
        assert len(await site.rows("select 1 from auth.users where email = $1", "bob@example.com")) == 1


# -- phones ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_over", [False, True])
async def test_test_codes_and_their_end(database: Database, is_over: bool) -> None:
    async with open_site(database) as plain:
        until = plain.clock.now()
    settings = changed(
        external__phone_enabled=True,
        sms__test_otp={"15550101234": "123456"},
        sms__test_otp_valid_until=until.replace(year=until.year + (-1 if is_over else 1)),
    )
    async with open_site(database, settings) as site:
        await site.create_user(email=None, phone="15550101234", phone_confirm=True)
        answer = await site.post("/otp", {"phone": "+15550101234"})
        proof = {"type": "sms", "phone": "15550101234", "token": "123456"}
        if is_over:
            assert refusal(answer) == (500, "unexpected_failure")
            assert refusal(await site.post("/verify", proof)) == (403, "otp_expired")
        else:
            assert answer.json() == {"message_id": "test-otp"}
            assert refusal(await site.post("/otp", {"phone": "15550101234"})) == (429, "over_sms_send_rate_limit")
            assert (await site.post("/verify", proof)).status_code == 200
            assert refusal(await site.post("/verify", {**proof, "token": "654321"})) == (403, "otp_expired")
