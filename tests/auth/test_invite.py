"""POST /invite and /admin/generate_link (contracts/auth.md §3.13)."""

from __future__ import annotations

from typing import Any

import pytest

from harness.auth_site import PASSWORD, SITE, AuthSite, changed, fragment_of, open_site, query_of, refusal
from socle_platform.db import Database

ADA = "ada@example.com"


async def follow(site: AuthSite, link: str) -> str:
    answer = await site.get(link)
    assert answer.status_code == 303
    return str(answer.headers["location"])


async def test_an_invitation_is_followed(site: AuthSite) -> None:
    user = (await site.admin("POST", "/invite", {"email": "Ada@Example.com", "data": {"team": 7}})).json()
    assert user["email"] == ADA
    assert "invited_at" in user
    assert user["user_metadata"]["team"] == 7
    assert site.outbox.link_parameters()["type"] == "invite"
    row = await site.user_row()
    assert not row["encrypted_password"]
    location = await follow(site, site.outbox.link())
    assert location.startswith(f"{SITE}#access_token=")
    assert fragment_of(location)["type"] == "invite"
    row = await site.user_row()
    assert row["encrypted_password"].startswith("$argon2id$")
    assert row["email_confirmed_at"] is not None
    token = fragment_of(location)["access_token"]
    assert (await site.put("/user", {"password": PASSWORD}, token=token)).status_code == 200
    await site.sign_in()


async def test_who_is_invited_again_and_who_is_not(site: AuthSite) -> None:
    for _ in range(2):
        assert (await site.admin("POST", "/invite", {"email": ADA})).status_code == 200
    assert len(site.outbox.mails) == 2
    await site.run("update auth.users set email_confirmed_at = now()")
    assert refusal(await site.admin("POST", "/invite", {"email": ADA})) == (422, "email_exists")
    assert refusal(await site.admin("POST", "/invite", {"email": "nonsense"})) == (400, "validation_failed")
    assert refusal(await site.admin("POST", "/invite", {})) == (400, "validation_failed")


async def test_a_dead_mail_server_invites_nobody(site: AuthSite) -> None:
    site.outbox.is_dead = True
    answer = await site.admin("POST", "/invite", {"email": ADA})
    assert answer.json()["message"] == "Error sending invite email"
    assert await site.rows("select 1 from auth.users") == []


# -- links -------------------------------------------------------------------------------------------------------------


async def link(site: AuthSite, **body: Any) -> dict[str, Any]:
    answer = await site.admin("POST", "/admin/generate_link", {"email": ADA, **body})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    assert query_of(made["action_link"])["token"] == made["hashed_token"]
    assert len(made["email_otp"]) == 6
    return made


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [("signup", {"password": PASSWORD}, "signup"), ("invite", {}, "invite"), ("magiclink", {}, "signup")],
)
async def test_links_for_somebody_new(site: AuthSite, kind: str, body: dict[str, str], shown: str) -> None:
    made = await link(site, type=kind, data={"name": "Ada"}, **body)
    assert made["verification_type"] == shown
    assert made["email"] == ADA
    assert made["user_metadata"]["name"] == "Ada"
    assert made["redirect_to"] == SITE
    assert site.outbox.mails == []
    location = await follow(site, made["action_link"])
    assert fragment_of(location)["type"] == shown
    assert (await site.user_row())["email_confirmed_at"] is not None


@pytest.mark.parametrize("kind", ["magiclink", "recovery"])
async def test_links_for_a_known_user(site: AuthSite, kind: str) -> None:
    await site.create_user()
    await link(site, type=kind)
    made = await link(site, type=kind)  # no interval here
    assert made["verification_type"] == kind
    proof: dict[str, str] = {"type": kind, "email": ADA, "token": made["email_otp"]}
    assert (await site.post("/verify", proof)).status_code == 200


@pytest.mark.parametrize("order", [("current", "new"), ("new", "current")])
async def test_links_for_a_change_of_address(site: AuthSite, order: tuple[str, str]) -> None:
    await site.create_user()
    made = {side: await link(site, type=f"email_change_{side}", new_email="New@example.com") for side in order}
    assert made["new"]["new_email"] == "new@example.com"
    first = await site.post("/verify", {"type": "email_change", "token_hash": made[order[0]]["hashed_token"]})
    assert first.json()["code"] == "200"
    location = await follow(site, made[order[1]]["action_link"])
    assert fragment_of(location)["type"] == "email_change"
    assert await site.user_row("new@example.com")


async def test_a_sign_up_link_for_an_unconfirmed_user_merges_data(site: AuthSite) -> None:
    await site.create_user(email_confirm=False, user_metadata={"a": 1})
    made = await link(site, type="signup", data={"b": 2}, password=PASSWORD)
    assert made["user_metadata"] == {"a": 1, "b": 2}


async def test_where_links_lead(database: Database) -> None:
    settings = changed(mailer__external_hosts=("auth.example.org",), mailer__url_paths={"recovery": "/auth/v1/verify"})
    async with open_site(database, settings) as site:
        await site.create_user()
        body = {"type": "magiclink", "redirect_to": "https://app.example.com/a?b=1&c=2"}
        path = "/admin/generate_link?redirect_to=https://app.example.com/query"
        made = (await site.admin("POST", path, {"email": ADA, **body})).json()
        assert made["redirect_to"] == "https://app.example.com/a?b=1&c=2"
        assert made["action_link"].startswith("http://localhost:9999/auth/v1/verify?token=")
        assert made["action_link"].endswith("&redirect_to=https%3A%2F%2Fapp.example.com%2Fa%3Fb%3D1%26c%3D2")
        body["redirect_to"] = "https://evil.example.org"
        assert (await site.admin("POST", path, {"email": ADA, **body})).json()[
            "redirect_to"
        ] == "https://app.example.com/query"
        for host, start in (
            ("auth.example.org", "https://auth.example.org/auth/v1/verify"),
            ("AUTH.example.org:8443", "https://AUTH.example.org:8443/auth/v1/verify"),
            ("evil.example.org", "http://localhost:9999/auth/v1/verify"),
            ("auth.example.org.evil.com", "http://localhost:9999/auth/v1/verify"),
        ):
            for name in ("host", "x-forwarded-host"):
                answer = await site.admin("POST", path, {"email": ADA, **body}, headers={name: host})
                assert answer.json()["action_link"].startswith(start), (name, host)


async def test_a_link_may_carry_a_pkce_flow(site: AuthSite) -> None:
    await site.create_user()
    made = await link(site, type="magiclink", code_challenge="v" * 50, code_challenge_method="plain")
    location = await follow(site, made["action_link"])
    body = {"auth_code": query_of(location)["code"], "code_verifier": "v" * 50}
    assert (await site.post("/token?grant_type=pkce", body)).status_code == 200


async def test_what_is_refused(database: Database) -> None:
    async with open_site(database) as site:
        cases: list[tuple[dict[str, str], int, str]] = [
            ({"type": "pigeon"}, 400, "validation_failed"),
            ({"type": "signup"}, 400, "validation_failed"),
            ({"type": "signup", "password": "x"}, 422, "weak_password"),
            ({"type": "recovery"}, 404, "user_not_found"),
            ({"type": "email_change_new", "new_email": "n@example.com"}, 404, "user_not_found"),
            ({"type": "email_change_current", "new_email": "n@example.com"}, 404, "user_not_found"),
            ({"type": "magiclink", "email": "nonsense"}, 400, "validation_failed"),
        ]
        for body, status, code in cases:
            answer = await site.admin("POST", "/admin/generate_link", {"email": ADA, **body})
            assert refusal(answer) == (status, code), body
        await site.create_user()
        await site.create_user(email="bob@example.com")
        for body, status, code in [
            ({"type": "signup", "password": PASSWORD}, 422, "email_exists"),
            ({"type": "invite"}, 422, "email_exists"),
            ({"type": "email_change_new", "new_email": "bob@example.com"}, 422, "email_exists"),
            ({"type": "email_change_new"}, 400, "validation_failed"),
        ]:
            answer = await site.admin("POST", "/admin/generate_link", {"email": ADA, **body})
            assert refusal(answer) == (status, code), body
    async with open_site(database, changed(mailer__secure_email_change=False)) as site:
        body = {"email": ADA, "type": "email_change_current", "new_email": "n@example.com"}
        assert refusal(await site.admin("POST", "/admin/generate_link", body)) == (400, "validation_failed")
