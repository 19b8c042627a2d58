"""Refresh tokens of both forms: rotation, reuse, replay, limits of sessions (contracts/auth.md §5.3)."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, claims_of, open_site, refusal
from socle_auth.tokens import encode_counted_token, parse_counted_token
from socle_platform.config.auth import AuthSettings
from socle_platform.db import Database

V1 = changed()
V2 = changed(security__refresh_token_version=2)
NO_REUSE = changed(security__refresh_token_reuse_interval=0.0)
BOTH = pytest.mark.parametrize("settings", [V1, V2], ids=["first form", "second form"])


async def tokens_of(site: AuthSite) -> list[dict[str, Any]]:
    return await site.rows("select token, parent, revoked, session_id from auth.refresh_tokens order by id")


@BOTH
async def test_a_refresh_gives_the_next_token_of_the_same_session(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, settings) as site:
        first = await site.signed_in()
        site.clock.advance(minutes=30)
        answer = await site.refresh(first["refresh_token"])
        second = answer.json()
        assert answer.status_code == 200
        assert second["refresh_token"] != first["refresh_token"]
        before, after = claims_of(first, site.keyring), claims_of(second, site.keyring)
        assert after["session_id"] == before["session_id"]
        assert after["amr"] == before["amr"]
        assert after["iat"] == int(site.clock.seconds())
        assert answer.headers["sb-auth-refresh-token-reuse"] == "false"
        row = await site.row("select refreshed_at, user_agent, ip from auth.sessions")
        assert row["refreshed_at"] == site.clock.now().replace(tzinfo=None)
        assert (row["ip"], row["user_agent"][:12]) == ("127.0.0.1", "python-httpx")


async def test_the_first_form_revokes_and_links(site: AuthSite) -> None:
    first = await site.signed_in()
    second = (await site.refresh(first["refresh_token"])).json()
    old, new = await tokens_of(site)
    assert (old["token"], old["revoked"], old["parent"]) == (first["refresh_token"], True, None)
    assert (new["token"], new["revoked"], new["parent"]) == (second["refresh_token"], False, first["refresh_token"])
    actions = [row["payload"]["action"] for row in await site.rows("select payload from auth.audit_log_entries")]
    assert actions.count("token_refreshed") == 1
    assert actions.count("token_revoked") == 1


async def test_the_second_form_counts(database: Database) -> None:
    async with open_site(database, V2) as site:
        session = await site.signed_in()
        for counter in range(3):
            token = parse_counted_token(session["refresh_token"])
            assert token is not None
            assert token.counter == counter
            session = (await site.refresh(session["refresh_token"])).json()
        row = await site.row("select refresh_token_counter, refresh_token_hmac_key from auth.sessions")
        assert row["refresh_token_counter"] == 3
        assert len(base64.urlsafe_b64decode(row["refresh_token_hmac_key"] + "=")) == 32
        assert await tokens_of(site) == []


@BOTH
async def test_a_lost_answer_is_given_again_at_any_time(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, settings) as site:
        first = await site.signed_in()
        second = (await site.refresh(first["refresh_token"])).json()
        site.clock.advance(minutes=50)
        answer = await site.refresh(first["refresh_token"])
        assert answer.json()["refresh_token"] == second["refresh_token"]
        assert "fail-to-save" in answer.headers["sb-auth-refresh-token-reuse-cause"]
        assert (await site.refresh(second["refresh_token"])).status_code == 200


async def test_two_generations_old_kills_the_family_and_the_kill_is_committed(site: AuthSite) -> None:
    first = await site.signed_in()
    second = (await site.refresh(first["refresh_token"])).json()
    third = (await site.refresh(second["refresh_token"])).json()
    site.clock.advance(seconds=11)
    assert refusal(await site.refresh(first["refresh_token"])) == (400, "refresh_token_already_used")
    assert all(token["revoked"] for token in await tokens_of(site))
    site.clock.advance(seconds=11)
    assert refusal(await site.refresh(third["refresh_token"])) == (400, "refresh_token_already_used")


async def test_two_steps_behind_ends_the_session_of_the_second_form(database: Database) -> None:
    async with open_site(database, V2) as site:
        first = await site.signed_in()
        second = (await site.refresh(first["refresh_token"])).json()
        third = (await site.refresh(second["refresh_token"])).json()
        site.clock.advance(seconds=11)
        answer = await site.refresh(first["refresh_token"])
        assert refusal(answer) == (400, "refresh_token_already_used")
        assert answer.headers["sb-auth-refresh-token-rotated"] == "true"
        assert await site.rows("select 1 from auth.sessions") == []
        assert refusal(await site.refresh(third["refresh_token"])) == (400, "refresh_token_not_found")


@BOTH
async def test_without_rotation_only_the_request_fails(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, changed(settings, security__refresh_token_rotation=False)) as site:
        first = await site.signed_in()
        second = (await site.refresh(first["refresh_token"])).json()
        third = (await site.refresh(second["refresh_token"])).json()
        site.clock.advance(seconds=11)
        assert refusal(await site.refresh(first["refresh_token"])) == (400, "refresh_token_already_used")
        assert (await site.refresh(third["refresh_token"])).status_code == 200


async def test_within_the_interval_an_old_token_still_works(site: AuthSite) -> None:
    first = await site.signed_in()
    second = (await site.refresh(first["refresh_token"])).json()
    await site.refresh(second["refresh_token"])
    site.clock.advance(seconds=9)
    assert (await site.refresh(first["refresh_token"])).status_code == 200


async def test_the_second_form_gives_the_present_token_within_the_interval(database: Database) -> None:
    async with open_site(database, V2) as site:
        first = await site.signed_in()
        second = (await site.refresh(first["refresh_token"])).json()
        third = (await site.refresh(second["refresh_token"])).json()
        site.clock.advance(seconds=5)
        answer = await site.refresh(first["refresh_token"])
        assert answer.json()["refresh_token"] == third["refresh_token"]
        assert answer.headers["sb-auth-refresh-token-reuse-cause"] == "concurrent-refresh"


async def test_reuse_can_be_allowed_always(database: Database) -> None:
    async with open_site(database, changed(V2, security__refresh_token_allow_reuse=True)) as site:
        first = await site.signed_in()
        second = (await site.refresh(first["refresh_token"])).json()
        third = (await site.refresh(second["refresh_token"])).json()
        site.clock.advance(hours=5)
        assert (await site.refresh(first["refresh_token"])).json()["refresh_token"] == third["refresh_token"]


@BOTH
async def test_a_hundred_at_once_all_succeed_with_one_successor(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, changed(settings, rates__header="x-caller")) as site:
        first = await site.signed_in()
        answers = await asyncio.gather(
            *(
                site.post(
                    "/token?grant_type=refresh_token",
                    {"refresh_token": first["refresh_token"]},
                    headers={"x-caller": str(number)},
                )
                for number in range(100)
            )
        )
        assert {answer.status_code for answer in answers} == {200}
        successors = {answer.json()["refresh_token"] for answer in answers}
        assert len(successors) == 1
        assert (await site.refresh(successors.pop())).status_code == 200


async def test_two_processes_wait_for_each_other(database: Database) -> None:
    """Without the lock within one process, the rows' own locks do it: nobody waits in the database."""
    async with open_site(database) as one, open_site(database, clock=one.clock) as other:
        first = await one.signed_in()
        answers = await asyncio.gather(
            *((one, other)[number % 2].refresh(first["refresh_token"]) for number in range(12))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_whoever_waits_too_long_is_told(site: AuthSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socle_auth.refresh._PATIENCE", 0.1)
    session = await site.signed_in()
    async with site.database.as_service("auth") as connection:
        await connection.execute("select 1 from auth.refresh_tokens for update")
        assert refusal(await site.refresh(session["refresh_token"])) == (409, "conflict")
    assert (await site.refresh(session["refresh_token"])).status_code == 200


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("aaaaaaaaaaaa", 400, "refresh_token_not_found"),
        ("short", 400, "validation_failed"),
        ("AAAAAAAAAAAA", 400, "validation_failed"),
        ("aaaaaaaaaaaaa", 400, "validation_failed"),
        ("not base64 url!", 400, "validation_failed"),
        (encode_counted_token("00000000-0000-0000-0000-000000000007", 0, b"k" * 32), 400, "refresh_token_not_found"),
    ],
)
async def test_unknown_and_malformed_tokens(site: AuthSite, token: str, status: int, code: str) -> None:
    await site.signed_in()
    assert refusal(await site.refresh(token)) == (status, code)


async def test_no_token_at_all_is_an_oauth_fault(site: AuthSite) -> None:
    answer = await site.refresh("")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_the_second_form_is_not_forged(database: Database) -> None:
    async with open_site(database, V2) as site:
        session = await site.signed_in()
        other = await site.signed_in(email="bob@example.com")
        own = claims_of(session, site.keyring)["session_id"]
        foreign = claims_of(other, site.keyring)["session_id"]
        rows = await site.rows("select id, refresh_token_hmac_key from auth.sessions")
        keys = {row["id"]: base64.urlsafe_b64decode(row["refresh_token_hmac_key"] + "=") for row in rows}
        wrong_signature = encode_counted_token(str(own), 0, b"k" * 32)
        foreign_session = encode_counted_token(str(own), 0, keys[str(foreign)])
        ahead = encode_counted_token(str(own), 5, keys[str(own)])
        assert refusal(await site.refresh(wrong_signature)) == (400, "refresh_token_not_found")
        assert refusal(await site.refresh(foreign_session)) == (400, "refresh_token_not_found")
        assert refusal(await site.refresh(ahead)) == (400, "validation_failed")
        assert refusal(await site.refresh(session["refresh_token"][:-1])) == (400, "validation_failed")
        assert (await site.refresh(session["refresh_token"])).status_code == 200


async def test_a_session_of_the_first_form_has_no_second_one(site: AuthSite) -> None:
    session = await site.signed_in()
    guess = encode_counted_token(str(claims_of(session, site.keyring)["session_id"]), 0, b"")
    assert refusal(await site.refresh(guess)) == (400, "refresh_token_not_found")


async def test_sessions_move_to_the_second_form_by_their_share(database: Database) -> None:
    async with open_site(database) as site:
        sessions = [await site.signed_in(email=f"user{number}@example.com") for number in range(16)]
    half = changed(V2, security__refresh_token_upgrade_percentage=50)
    async with open_site(database, half, clock=site.clock) as site:
        moved = dict[str, bool]()
        for number, session in enumerate(sessions):
            site.clock.advance(seconds=1)
            fresh = (await site.refresh(session["refresh_token"])).json()
            moved[session["user"]["id"]] = len(fresh["refresh_token"]) > 12
            sessions[number] = fresh
        assert 0 < sum(moved.values()) < 16
        site.clock.advance(minutes=5)
        again = {s["user"]["id"]: (await site.refresh(s["refresh_token"])).json() for s in sessions}
        assert {user: len(s["refresh_token"]) > 12 for user, s in again.items()} == moved
    whole = changed(V2, security__refresh_token_upgrade_percentage=100)
    async with open_site(database, whole, clock=site.clock) as site:
        for session in again.values():
            assert len((await site.refresh(session["refresh_token"])).json()["refresh_token"]) > 12
        assert await site.rows("select 1 from auth.refresh_tokens where not revoked") == []


@BOTH
async def test_a_banned_user_is_not_refreshed(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, settings) as site:
        session = await site.signed_in()
        await site.admin("PUT", f"/admin/users/{session['user']['id']}", {"ban_duration": "1h"})
        assert refusal(await site.refresh(session["refresh_token"])) == (400, "user_banned")


async def test_a_token_without_a_session_is_taken_away(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.run("update auth.refresh_tokens set session_id = null")
    assert refusal(await site.refresh(session["refresh_token"])) == (400, "session_not_found")
    assert await tokens_of(site) == []


@BOTH
async def test_a_session_past_its_end(database: Database, settings: AuthSettings) -> None:
    async with open_site(database, settings) as site:
        session = await site.signed_in()
        await site.run("update auth.sessions set not_after = $1", site.clock.now() + timedelta(minutes=5))
        assert (await site.refresh(session["refresh_token"])).status_code == 200
        site.clock.advance(minutes=5, seconds=1)
        answer = await site.refresh(session["refresh_token"])
        assert refusal(answer) == (400, "session_expired")
        assert answer.json()["message"] == "Invalid Refresh Token: Session Expired"


@BOTH
@pytest.mark.parametrize("was_refreshed", [False, True])
async def test_a_timebox(database: Database, settings: AuthSettings, was_refreshed: bool) -> None:
    async with open_site(database, changed(settings, sessions__timebox=3600.0)) as site:
        token = (await site.signed_in())["refresh_token"]
        if was_refreshed:
            site.clock.advance(minutes=50)
            token = (await site.refresh(token)).json()["refresh_token"]
            site.clock.advance(minutes=11)
        else:
            site.clock.advance(minutes=61)
        assert refusal(await site.refresh(token)) == (400, "session_expired")


@BOTH
@pytest.mark.parametrize("was_refreshed", [False, True])
async def test_inactivity(database: Database, settings: AuthSettings, was_refreshed: bool) -> None:
    async with open_site(database, changed(settings, sessions__inactivity_timeout=600.0)) as site:
        token = (await site.signed_in())["refresh_token"]
        site.clock.advance(minutes=9)
        if was_refreshed:
            token = (await site.refresh(token)).json()["refresh_token"]
            site.clock.advance(minutes=9)
            token = (await site.refresh(token)).json()["refresh_token"]
            site.clock.advance(minutes=11)
        else:
            site.clock.advance(minutes=2)
        answer = await site.refresh(token)
        assert refusal(answer) == (400, "session_expired")
        assert answer.json()["message"].endswith("(Inactivity)")


async def test_inactivity_counts_from_the_token_for_sessions_never_marked(database: Database) -> None:
    async with open_site(database, changed(sessions__inactivity_timeout=600.0)) as site:
        token = (await site.signed_in())["refresh_token"]
        site.clock.advance(minutes=15)
        await site.run("update auth.refresh_tokens set updated_at = $1", site.clock.now())
        assert (await site.refresh(token)).status_code == 200


async def test_one_session_per_user(database: Database) -> None:
    async with open_site(database, changed(sessions__single_per_user=True)) as site:
        older = await site.signed_in()
        site.clock.advance(seconds=5)
        newer = await site.sign_in()
        answer = await site.refresh(older["refresh_token"])
        assert refusal(answer) == (400, "session_expired")
        assert answer.json()["message"].endswith("(Revoked by Newer Login)")
        assert (await site.refresh(newer["refresh_token"])).status_code == 200


async def test_one_session_per_user_and_tag(database: Database) -> None:
    settings = changed(sessions__single_per_user=True, sessions__tags=("web", "phone"))
    async with open_site(database, settings) as site:
        web = await site.signed_in()
        site.clock.advance(seconds=5)
        phone = await site.sign_in()
        phone_id = claims_of(phone, site.keyring)["session_id"]
        await site.run("update auth.sessions set tag = 'phone' where id = $1", phone_id)
        assert (await site.refresh(web["refresh_token"])).status_code == 200
        await site.run("update auth.sessions set tag = 'unknown' where id = $1", phone_id)
        site.clock.advance(seconds=5)
        third = await site.sign_in()
        assert refusal(await site.refresh(phone["refresh_token"])) == (400, "session_expired")
        assert (await site.refresh(third["refresh_token"])).status_code == 200


async def test_low_assurance_of_users_with_a_second_factor_is_short(database: Database) -> None:
    async with open_site(database, changed(sessions__allow_low_aal=600.0)) as site:
        plain = await site.signed_in()
        assert plain["expires_in"] == 3600
        await add_factor(site, plain["user"]["id"])
        capped = await site.sign_in()
        assert capped["expires_in"] == 600
        site.clock.advance(minutes=4)
        refreshed = (await site.refresh(capped["refresh_token"])).json()
        assert refreshed["expires_in"] == 360
        site.clock.advance(minutes=7)
        answer = await site.refresh(refreshed["refresh_token"])
        assert refusal(answer) == (400, "session_expired")
        assert "Low AAL" in answer.json()["message"]


async def test_high_assurance_is_not_capped(database: Database) -> None:
    async with open_site(database, changed(sessions__allow_low_aal=600.0)) as site:
        session = await site.signed_in()
        await add_factor(site, session["user"]["id"])
        session_id = claims_of(session, site.keyring)["session_id"]
        await site.run("update auth.sessions set aal = 'aal2'")
        await site.run(
            """insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
            values (gen_random_uuid(), $1, now(), now(), 'totp')""",
            session_id,
        )
        site.clock.advance(minutes=30)
        refreshed = (await site.refresh(session["refresh_token"])).json()
        assert refreshed["expires_in"] == 3600
        assert claims_of(refreshed, site.keyring)["aal"] == "aal2"


async def add_factor(site: AuthSite, user_id: str) -> None:
    await site.run(
        """insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
        values (gen_random_uuid(), $1, 'totp', 'verified', now(), now(), 'x')""",
        user_id,
    )


async def test_an_oauth_clients_session_is_only_for_that_client(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.run(
        """insert into auth.oauth_clients (id, registration_type, redirect_uris, grant_types, client_type,
            token_endpoint_auth_method, created_at, updated_at)
        values ('11111111-1111-1111-1111-111111111111', 'manual', 'https://x', 'refresh_token', 'public', 'none',
            now(), now())"""
    )
    await site.run("update auth.sessions set oauth_client_id = '11111111-1111-1111-1111-111111111111'")
    answer = await site.refresh(session["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


async def test_metadata_changes_arrive_with_the_next_token(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.admin("PUT", f"/admin/users/{session['user']['id']}", {"app_metadata": {"plan": "pro"}})
    fresh = (await site.refresh(session["refresh_token"])).json()
    assert claims_of(fresh, site.keyring)["app_metadata"]["plan"] == "pro"


async def test_signing_in_again_is_another_session(site: AuthSite) -> None:
    first = await site.signed_in()
    second = await site.sign_in(password=PASSWORD)
    assert claims_of(first, site.keyring)["session_id"] != claims_of(second, site.keyring)["session_id"]
