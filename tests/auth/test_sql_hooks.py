"""Hooks that are the project's own SQL functions, at every moment they are asked (contracts/auth.md §7.5)."""

from __future__ import annotations

from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, claims_of, open_site, refusal
from socle_platform.config.auth import AuthSettings, HookSettings
from socle_platform.db import Database

ADA = {"email": "ada@example.com", "password": PASSWORD}
PHONE = {"phone": "15550101234"}


def with_hooks(*names: str, **parts: Any) -> AuthSettings:
    """Settings where each named hook is the function public.<name>."""
    hooks = {name: HookSettings(enabled=True, uri=f"pg-functions://postgres/public/{name}") for name in names}
    return changed(hooks=hooks, **parts)


async def create_hook(site: AuthSite, name: str, body: str) -> None:
    """public.<name>(event jsonb); what it is asked is kept in public.asked."""
    async with site.database.as_service("platform") as connection:
        await connection.execute("create table if not exists public.asked (at serial, name text, event jsonb)")
        await connection.execute("grant all on public.asked to supabase_auth_admin")
        await connection.execute("grant usage on sequence public.asked_at_seq to supabase_auth_admin")
        await connection.execute(
            f"""create or replace function public.{name}(event jsonb) returns jsonb language plpgsql as $$
            begin insert into public.asked (name, event) values ('{name}', event); {body} end $$"""
        )
        await connection.execute(f"grant execute on function public.{name} to supabase_auth_admin")


async def asked(site: AuthSite, name: str) -> list[dict[str, Any]]:
    return [row["event"] for row in await site.rows("select event from public.asked where name = $1 order by at", name)]


CONTINUE = "return '{}'::jsonb;"
REJECT = """return '{"error": {"http_code": 418, "message": "not today"}}'::jsonb;"""


async def test_the_claims_of_a_token_are_the_hooks(database: Database) -> None:
    async with open_site(database, with_hooks("custom_access_token")) as site:
        await create_hook(
            site,
            "custom_access_token",
            'return jsonb_build_object(\'claims\', event->\'claims\' || \'{"plan": "pro", "amr": ["password"]}\');',
        )
        session = await site.signed_in()
        claims = claims_of(session, site.keyring)
        assert (claims["plan"], claims["amr"]) == ("pro", ["password"])
        fresh = (await site.refresh(session["refresh_token"])).json()
        assert claims_of(fresh, site.keyring)["plan"] == "pro"
        first, second = await asked(site, "custom_access_token")
        assert (first["authentication_method"], second["authentication_method"]) == ("password", "token_refresh")
        assert first["user_id"] == session["user"]["id"]
        assert first["metadata"]["name"] == "custom-access-token"
        assert first["metadata"]["ip_address"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("'{}'", "missing"),
        ("jsonb_build_object('claims', (event->'claims') - 'role')", "role is required"),
        ("jsonb_build_object('claims', event->'claims' || '{\"exp\": \"soon\"}')", "exp"),
        ("jsonb_build_object('claims', 7)", "missing"),
    ],
)
async def test_claims_that_are_incomplete_make_no_token(database: Database, answer: str, words: str) -> None:
    async with open_site(database, with_hooks("custom_access_token")) as site:
        await create_hook(site, "custom_access_token", f"return {answer};")
        await site.create_user()
        response = await site.post("/token?grant_type=password", ADA)
        assert refusal(response) == (500, "unexpected_failure")
        assert words in response.json()["message"]
        assert await site.rows("select 1 from auth.sessions") == []


async def test_a_hooks_refusal_reaches_the_caller_as_it_is(database: Database) -> None:
    async with open_site(database, with_hooks("custom_access_token")) as site:
        await create_hook(site, "custom_access_token", REJECT)
        await site.create_user()
        response = await site.post("/token?grant_type=password", ADA)
        assert response.status_code == 418
        assert response.json() == {"code": "unknown", "message": "not today"}
        assert "x-sb-error-code" not in response.headers


async def test_before_a_user_is_created(database: Database) -> None:
    settings = with_hooks("before_user_created", external__anonymous_enabled=True)
    async with open_site(database, settings) as site:
        await create_hook(site, "before_user_created", REJECT)
        for path, body in (("/signup", ADA), ("/otp", {"email": "ada@example.com"}), ("/signup", {})):
            assert (await site.post(path, body)).status_code == 418
        assert (await site.admin("POST", "/invite", {"email": "ada@example.com"})).status_code == 418
        link = {"type": "magiclink", "email": "ada@example.com"}
        assert (await site.admin("POST", "/admin/generate_link", link)).status_code == 418
        assert await site.rows("select 1 from auth.users") == []
        assert (await site.admin("POST", "/admin/users", {"email": "ada@example.com"})).status_code == 200
        await create_hook(site, "before_user_created", CONTINUE)
        user = (await site.post("/signup", {**ADA, "email": "new@example.com"})).json()
        assert (await asked(site, "before_user_created"))[-1]["user"]["id"] == user["id"]


async def test_after_a_user_is_created(database: Database) -> None:
    async with open_site(database, with_hooks("after_user_created")) as site:
        await create_hook(site, "after_user_created", CONTINUE)
        user = (await site.post("/signup", ADA)).json()
        (event,) = await asked(site, "after_user_created")
        assert event["user"]["id"] == user["id"]
        await create_hook(site, "after_user_created", REJECT)
        response = await site.post("/signup", {**ADA, "email": "bob@example.com"})
        assert refusal(response) == (500, "unexpected_failure")
        assert response.json()["message"] == "Error invoking hook"
        assert await site.user_row("bob@example.com")


async def test_text_messages_are_the_hooks(database: Database) -> None:
    settings = with_hooks("send_sms", external__phone_enabled=True, jwt__expiry=7 * 86400)
    async with open_site(database, settings) as site:
        await create_hook(site, "send_sms", CONTINUE)
        await site.post("/signup", {**PHONE, "password": PASSWORD, "channel": "whatsapp"})
        await confirm(site, "sms", "15550101234")
        site.clock.advance(minutes=2)
        assert (await site.post("/otp", PHONE)).json() == {}
        session = await confirm(site, "sms", "15550101234")
        site.clock.advance(minutes=2)
        await site.put("/user", {"phone": "15550109999"}, token=session["access_token"])
        assert (await asked(site, "send_sms"))[-1]["sms"]["phone"] == "15550109999"
        session = await confirm(site, "phone_change", "15550109999")
        assert session["user"]["phone"] == "15550109999"
        await site.get("/reauthenticate", token=session["access_token"])
        events = await asked(site, "send_sms")
        assert len(events) == 4
        assert all(len(event["sms"]["otp"]) == 6 and event["user"]["id"] for event in events)


async def confirm(site: AuthSite, kind: str, phone: str) -> dict[str, Any]:
    code = (await asked(site, "send_sms"))[-1]["sms"]["otp"]
    answer = await site.post("/verify", {"type": kind, "phone": phone, "token": code})
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()
    return session


async def test_a_refused_text_message_leaves_nothing_behind(database: Database) -> None:
    settings = with_hooks("send_sms", external__phone_enabled=True)
    async with open_site(database, settings) as site:
        await create_hook(site, "send_sms", REJECT)
        response = await site.post("/signup", {**PHONE, "password": PASSWORD})
        assert (response.status_code, response.json()["message"]) == (418, "not today")
        assert await site.rows("select 1 from auth.users") == []


async def test_mails_are_the_hooks(database: Database) -> None:
    async with open_site(database, with_hooks("send_email")) as site:
        await create_hook(site, "send_email", CONTINUE)
        await site.post("/signup?redirect_to=https://app.example.com/in", ADA)
        assert site.outbox.mails == []
        (event,) = await asked(site, "send_email")
        data = event["email_data"]
        assert (data["email_action_type"], data["redirect_to"]) == ("signup", "https://app.example.com/in")
        assert data["site_url"] == "http://localhost:9999"
        assert (data["token_new"], data["token_hash_new"]) == ("", "")
        proof = {"type": "signup", "token_hash": data["token_hash"]}
        session = (await site.post("/verify", proof)).json()
        await site.put("/user", {"email": "new@example.com"}, token=session["access_token"])
        change = (await asked(site, "send_email"))[-1]["email_data"]
        # the two hashes are the other way round than the two codes; kept as upstream sends them
        first = {"type": "email_change", "email": "ada@example.com", "token": change["token"]}
        assert (await site.post("/verify", first)).json()["code"] == "200"
        second = {"type": "email_change", "token_hash": change["token_hash"]}
        assert (await site.post("/verify", second)).json()["user"]["email"] == "new@example.com"


async def test_attempts_with_a_password_are_judged(database: Database) -> None:
    async with open_site(database, with_hooks("password_verification_attempt")) as site:
        await create_hook(site, "password_verification_attempt", 'return \'{"decision": "continue"}\';')
        session = await site.signed_in()
        assert (
            refusal(await site.post("/token?grant_type=password", {**ADA, "password": "wrong"}))[1]
            == "invalid_credentials"
        )
        assert [event["valid"] for event in await asked(site, "password_verification_attempt")] == [True, False]
        await create_hook(
            site,
            "password_verification_attempt",
            'return \'{"decision": "reject", "message": "slow down", "should_logout_user": true}\';',
        )
        response = await site.post("/token?grant_type=password", ADA)
        assert refusal(response) == (400, "invalid_credentials")
        assert response.json()["message"] == "slow down"
        assert refusal(await site.get("/user", token=session["access_token"])) == (403, "session_not_found")


async def test_a_hook_that_fails_is_a_500(database: Database) -> None:
    async with open_site(database, with_hooks("before_user_created")) as site:
        assert refusal(await site.post("/signup", ADA)) == (500, "unexpected_failure")
        await create_hook(site, "before_user_created", "return 1/0;")
        assert refusal(await site.post("/signup", ADA)) == (500, "unexpected_failure")
