"""POST /token?grant_type=password (contracts/auth.md §3.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import bcrypt
import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, claims_of, open_site, refusal
from harness.known_hashes import KNOWN
from socle_platform.db import Database

GRANT = "/token?grant_type=password"


async def test_a_session_as_clients_expect_it(site: AuthSite) -> None:
    user = await site.create_user(user_metadata={"name": "Ada"}, app_metadata={"plan": "pro"})
    session = await site.sign_in("ADA@example.com")
    assert session.keys() == {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"}
    claims = claims_of(session, site.keyring)
    now = int(site.clock.seconds())
    assert claims == {
        "iss": "http://localhost:9999",
        "sub": user["id"],
        "aud": "authenticated",
        "exp": now + 3600,
        "iat": now,
        "email": "ada@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"], "plan": "pro"},
        "user_metadata": {"name": "Ada", "email_verified": True},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}],
        "session_id": claims["session_id"],
        "is_anonymous": False,
    }
    row = await site.row("select id, aal, user_agent, ip, not_after from auth.sessions")
    assert row["id"] == claims["session_id"]
    assert (row["aal"], row["not_after"]) == ("aal1", None)
    assert row["user_agent"].startswith("python-httpx")


async def test_no_secret_is_ever_shown(site: AuthSite) -> None:
    await site.create_user()
    await site.post("/recover", {"email": "ada@example.com"})
    text = (await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD})).text
    row = await site.user_row()
    for column in ("encrypted_password", "recovery_token"):
        assert row[column]
        assert row[column] not in text
    for name in ("encrypted_password", "_token_", "is_sso_user", "instance_id", "is_super_admin", "confirm_status"):
        assert name not in text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "ada@example.com", "password": "wrong"}, 400, "invalid_credentials"),
        ({"email": "nobody@example.com", "password": PASSWORD}, 400, "invalid_credentials"),
        ({"email": "ada@example.com", "password": ""}, 400, "invalid_credentials"),
        ({"email": "ada@example.com"}, 400, "invalid_credentials"),
        ({"email": "ada@example.com", "phone": "123456", "password": PASSWORD}, 400, "validation_failed"),
        ({"password": PASSWORD}, 400, "validation_failed"),
        ({"phone": "123456", "password": PASSWORD}, 422, "phone_provider_disabled"),
    ],
)
async def test_what_is_refused(site: AuthSite, body: dict[str, str], status: int, code: str) -> None:
    await site.create_user()
    assert refusal(await site.post(GRANT, body)) == (status, code)


@pytest.mark.parametrize("query", ["", "?grant_type=", "?grant_type=magic"])
async def test_other_grants_are_refused(site: AuthSite, query: str) -> None:
    answer = await site.post(f"/token{query}", {})
    assert refusal(answer) == (400, "invalid_credentials")
    assert answer.json()["message"] == "unsupported_grant_type"


async def test_no_password_and_unknown_are_the_same_answer(site: AuthSite) -> None:
    await site.admin("POST", "/invite", {"email": "ada@example.com"})
    texts = {
        (await site.post(GRANT, {"email": email, "password": "x"})).text
        for email in ("ada@example.com", "nobody@example.com")
    }
    assert len(texts) == 1


async def test_right_password_but_unconfirmed(site: AuthSite) -> None:
    await site.create_user(email_confirm=False)
    assert refusal(await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD})) == (
        400,
        "email_not_confirmed",
    )
    assert refusal(await site.post(GRANT, {"email": "ada@example.com", "password": "x"})) == (
        400,
        "invalid_credentials",
    )


async def test_unconfirmed_where_that_is_allowed(database: Database) -> None:
    async with open_site(database, changed(mailer__allow_unverified_sign_ins=True)) as site:
        await site.create_user(email_confirm=False)
        assert (await site.sign_in())["user"]["email"] == "ada@example.com"


async def test_unconfirmed_phone(database: Database) -> None:
    async with open_site(database, changed(external__phone_enabled=True)) as site:
        await site.create_user(email=None, phone="15550101234")
        answer = await site.post(GRANT, {"phone": "15550101234", "password": PASSWORD})
        assert refusal(answer) == (400, "phone_not_confirmed")


async def test_banned_is_told_only_to_who_knows_the_password(site: AuthSite) -> None:
    await site.create_user(ban_duration="1h")
    assert refusal(await site.post(GRANT, {"email": "ada@example.com", "password": "x"})) == (
        400,
        "invalid_credentials",
    )
    assert refusal(await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD})) == (400, "user_banned")
    site.clock.advance(hours=1)
    await site.sign_in()


async def test_switched_off(database: Database) -> None:
    async with open_site(database, changed(external__email_enabled=False)) as site:
        assert refusal(await site.post(GRANT, {"email": "a@example.com", "password": "x"})) == (
            422,
            "email_provider_disabled",
        )


async def test_a_weak_password_still_signs_in(database: Database) -> None:
    async with open_site(database) as site:
        await site.create_user(password="abcdef")
    async with open_site(database, changed(password__min_length=10)) as site:
        session = await site.sign_in(password="abcdef")
        assert session["weak_password"]["reasons"] == ["length"]
        assert session["weak_password"]["message"]


@pytest.mark.parametrize("kind", KNOWN)
async def test_imported_hashes_sign_in_and_are_replaced(site: AuthSite, kind: str) -> None:
    password, stored = KNOWN[kind]
    await site.create_user(password=None, password_hash=stored)
    assert (await site.user_row())["encrypted_password"] == stored
    await site.sign_in(password=password)
    fresh = (await site.user_row())["encrypted_password"]
    assert fresh.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    await site.sign_in(password=password)
    assert (await site.user_row())["encrypted_password"] == fresh


async def test_a_user_seeded_by_crypt_signs_in(site: AuthSite) -> None:
    """What projects' seed files do: pgcrypto's crypt() with a blowfish salt, and few columns."""
    stored = bcrypt.hashpw(b"seeded secret", bcrypt.gensalt(4, prefix=b"2a")).decode()
    await site.run(
        """insert into auth.users (id, aud, role, email, encrypted_password, email_confirmed_at)
        values (gen_random_uuid(), 'authenticated', 'authenticated', 'seed@example.com', $1, now())""",
        stored,
    )
    session = await site.sign_in("seed@example.com", "seeded secret")
    assert session["user"]["user_metadata"] == {}
    assert session["user"]["app_metadata"] == {}
    assert session["user"]["created_at"]


async def test_rows_with_nulls_everywhere_work(site: AuthSite) -> None:
    user = await site.create_user()
    await site.run(
        """update auth.users set instance_id = null, confirmation_token = null, recovery_token = null,
        email_change = null, email_change_token_new = null, email_change_token_current = null, phone_change = null,
        phone_change_token = null, reauthentication_token = null, raw_user_meta_data = null, raw_app_meta_data = null,
        email_change_confirm_status = null, created_at = null, updated_at = null"""
    )
    session = await site.sign_in()
    assert session["user"]["id"] == user["id"]
    assert (await site.get("/user", token=session["access_token"])).status_code == 200
    assert (await site.admin("GET", "/admin/users")).json()["users"][0]["id"] == user["id"]
    assert (await site.post("/recover", {"email": "ada@example.com"})).status_code == 200


async def test_last_sign_in_and_audit(site: AuthSite) -> None:
    await site.create_user()
    site.clock.advance(minutes=3)
    session = await site.sign_in()
    assert datetime.fromisoformat(session["user"]["last_sign_in_at"]) == site.clock.now().astimezone(UTC)
    entry = (await site.rows("select payload, ip_address from auth.audit_log_entries order by created_at"))[-1]
    assert entry["payload"]["action"] == "login"
    assert entry["payload"]["log_type"] == "account"
    assert entry["payload"]["actor_username"] == "ada@example.com"
    assert entry["payload"]["traits"] == {"provider": "email"}
    assert entry["ip_address"] == "127.0.0.1"


async def test_the_audit_log_can_be_left_out(database: Database) -> None:
    async with open_site(database, changed(audit_in_database=False)) as site:
        await site.signed_in()
        assert await site.rows("select 1 from auth.audit_log_entries") == []
