"""/admin/users and /admin/audit (contracts/auth.md §3.13)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, open_site, refusal
from harness.known_hashes import KNOWN
from socle_auth.admin_users import parse_ban
from socle_auth.errors import AuthError
from socle_platform.db import Database

# -- listing -----------------------------------------------------------------------------------------------------------


async def twelve(site: AuthSite) -> None:
    for number in range(12):
        site.clock.advance(seconds=20)
        await site.create_user(email=f"user{number:02d}@example.com", user_metadata={"full_name": f"Person {number}"})


def emails(answer: Any) -> list[str]:
    return [user["email"].removesuffix("@example.com") for user in answer.json()["users"]]


async def test_pages_and_their_headers(site: AuthSite) -> None:
    await twelve(site)
    first = await site.admin("GET", "/admin/users?page=1&per_page=5")
    assert emails(first) == ["user11", "user10", "user09", "user08", "user07"]
    assert first.headers["x-total-count"] == "12"
    assert first.headers["link"] == (
        '</admin/users?page=2&per_page=5>; rel="next", </admin/users?page=3&per_page=5>; rel="last"'
    )
    last = await site.admin("GET", "/admin/users?page=3&per_page=5")
    assert emails(last) == ["user01", "user00"]
    assert last.headers["link"] == '</admin/users?page=3&per_page=5>; rel="last"'
    beyond = await site.admin("GET", "/admin/users?page=9&per_page=5")
    assert emails(beyond) == []
    assert first.json()["aud"] == "authenticated"
    assert first.json()["users"][0]["identities"] is None


async def test_empty_parameters_are_the_defaults(site: AuthSite) -> None:
    await twelve(site)
    answer = await site.admin("GET", "/admin/users?page=&per_page=")
    assert len(emails(answer)) == 12
    assert answer.headers["link"].startswith("</admin/users?page=1&per_page=")


async def test_sorting_and_filtering(site: AuthSite) -> None:
    await twelve(site)
    assert emails(await site.admin("GET", "/admin/users?sort=created_at%20asc&per_page=2")) == ["user00", "user01"]
    assert emails(await site.admin("GET", "/admin/users?sort=created_at%20DESC&per_page=1")) == ["user11"]
    assert emails(await site.admin("GET", "/admin/users?filter=user03")) == ["user03"]
    assert emails(await site.admin("GET", "/admin/users?filter=pErSoN%2011")) == ["user11"]
    filtered = await site.admin("GET", "/admin/users?filter=user0&per_page=4&page=2")
    assert filtered.headers["x-total-count"] == "10"
    assert filtered.headers["link"].startswith("</admin/users?page=3&filter=user0&per_page=4>")
    assert emails(await site.admin("GET", "/admin/users?filter=');drop%20table")) == []


async def test_what_a_listing_refuses(site: AuthSite) -> None:
    for query in (
        "page=x",
        "per_page=-1",
        "page=1.5",
        "sort=email%20asc",
        "sort=created_at%20up",
        "page=99999999999999999999",
    ):
        assert refusal(await site.admin("GET", f"/admin/users?{query}")) == (400, "validation_failed"), query


async def test_users_of_another_audience_are_apart(site: AuthSite) -> None:
    await site.create_user()
    await site.create_user(email="bob@example.com", aud="other")
    assert emails(await site.admin("GET", "/admin/users")) == ["ada"]
    assert emails(await site.admin("GET", "/admin/users", headers={"X-JWT-AUD": "other"})) == ["bob"]


async def test_paging_by_cursor(database: Database) -> None:
    async with open_site(database, changed(experimental__cursor_pagination=True)) as site:
        await twelve(site)
        path, seen = "/admin/users?limit=5", list[str]()
        while path:
            answer = await site.admin("GET", path)
            seen += emails(answer)
            pagination = answer.json()["pagination"]
            assert ("next_cursor" in pagination) == pagination["has_more"] == ("link" in answer.headers)
            path = answer.headers["link"].partition("<")[2].partition(">")[0] if pagination["has_more"] else ""
        assert seen == [f"user{number:02d}" for number in reversed(range(12))]
        assert "pagination" not in (await site.admin("GET", "/admin/users?page=1")).json()
        for query in ("limit=0", "limit=x", "cursor=nonsense", "cursor=e30"):
            assert refusal(await site.admin("GET", f"/admin/users?{query}")) == (400, "validation_failed"), query


# -- creating ----------------------------------------------------------------------------------------------------------


async def test_a_user_as_wanted(database: Database) -> None:
    async with open_site(database, changed(disable_signup=True)) as site:
        wanted = str(uuid.uuid4())
        user = await site.create_user(
            id=wanted,
            email="Ada@Example.com",
            phone="+1 555 010 1234",
            phone_confirm=True,
            role="editor",
            user_metadata={"name": "Ada"},
            app_metadata={"plan": "pro", "provider": None},
            ban_duration="1h30m",
        )
        assert user["id"] == wanted
        assert (user["email"], user["phone"], user["role"]) == ("ada@example.com", "15550101234", "editor")
        assert user["app_metadata"] == {"providers": ["email", "phone"], "plan": "pro"}
        assert user["user_metadata"] == {"name": "Ada", "email_verified": True}
        assert [identity["provider"] for identity in user["identities"]] == ["email", "phone"]
        assert "email_confirmed_at" in user
        assert "phone_confirmed_at" in user
        assert datetime.fromisoformat(user["banned_until"]) == site.clock.now() + timedelta(minutes=90)
        assert site.outbox.mails == []
        assert (await site.admin("GET", f"/admin/users/{wanted}")).json() == user


async def test_without_metadata_it_is_an_object(site: AuthSite) -> None:
    user = await site.create_user(password=None, password_hash=KNOWN["bcrypt 2a"][1], email_confirm=False)
    assert user["user_metadata"] == {}
    assert isinstance(user["app_metadata"], dict)


async def test_without_a_password_nobody_knows_it(site: AuthSite) -> None:
    await site.create_user(password=None)
    assert (await site.user_row())["encrypted_password"].startswith("$argon2id$")


async def test_a_weak_password_is_the_administrators_business(site: AuthSite) -> None:
    await site.create_user(password="a")
    await site.sign_in(password="a")


async def test_what_creating_refuses(site: AuthSite) -> None:
    await site.create_user(phone="15550101234")
    known = KNOWN["bcrypt 2a"][1]
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 400, "validation_failed"),
        ({"password": PASSWORD}, 400, "validation_failed"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({"phone": "nonsense"}, 400, "validation_failed"),
        ({"email": "ADA@example.com"}, 422, "email_exists"),
        ({"phone": "+1 555 010 1234"}, 422, "phone_exists"),
        ({"email": "b@example.com", "password": PASSWORD, "password_hash": known}, 400, "validation_failed"),
        ({"email": "b@example.com", "password": "a" * 73}, 400, "validation_failed"),
        ({"email": "b@example.com", "password_hash": "nonsense"}, 500, "unexpected_failure"),
        (
            {"email": "b@example.com", "password_hash": "$argon2d$v=19$m=64,t=1,p=1$c2FsdA$aGFzaA"},
            500,
            "unexpected_failure",
        ),
        ({"email": "b@example.com", "id": "nonsense"}, 400, "validation_failed"),
        ({"email": "b@example.com", "id": "00000000-0000-0000-0000-000000000000"}, 400, "validation_failed"),
        ({"email": "b@example.com", "ban_duration": "soon"}, 400, "validation_failed"),
        ({"email": "b@example.com", "email_confirm": "yes"}, 400, "bad_json"),
    ]
    for body, status, code in cases:
        assert refusal(await site.admin("POST", "/admin/users", body)) == (status, code), body
    user = await site.user_row()
    taken = await site.admin("POST", "/admin/users", {"email": "b@example.com", "id": user["id"]})
    assert taken.status_code == 422
    assert len(await site.rows("select 1 from auth.users")) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("none", 0),
        ("0", 0),
        ("876000h", 876000 * 3600),
    ],
)
def test_bans_are_go_durations(text: str, seconds: float) -> None:
    assert parse_ban(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["24", "1d", "soon", "1h 30m", "-", "h", "1hh", "99999999999h"])
def test_other_bans_are_refused(text: str) -> None:
    with pytest.raises(AuthError):
        parse_ban(text)


# -- changing ----------------------------------------------------------------------------------------------------------


async def test_changes_take_effect_at_once(site: AuthSite) -> None:
    user = await site.create_user(user_metadata={"a": 1, "b": 2}, app_metadata={"x": 1})
    body = {
        "email": "New@Example.com",
        "phone": "15550101234",
        "email_confirm": True,
        "role": "editor",
        "user_metadata": {"b": None, "c": 3},
        "app_metadata": {"x": None, "y": 2},
    }
    changed_user = (await site.admin("PUT", f"/admin/users/{user['id']}", body)).json()
    assert (changed_user["email"], changed_user["phone"]) == ("new@example.com", "15550101234")
    assert changed_user["role"] == "editor"
    assert {"a", "c"} <= changed_user["user_metadata"].keys()
    assert "b" not in changed_user["user_metadata"]
    assert changed_user["app_metadata"] == {"provider": "email", "providers": ["email", "phone"], "y": 2}
    by_provider = {identity["provider"]: identity["identity_data"] for identity in changed_user["identities"]}
    assert by_provider["email"]["email"] == "new@example.com"
    assert by_provider["email"]["email_verified"] is True
    assert by_provider["phone"]["phone_verified"] is False
    assert site.outbox.mails == []
    await site.sign_in("new@example.com")


async def test_a_new_password_signs_out_everywhere(site: AuthSite) -> None:
    session = await site.signed_in()
    answer = await site.admin("PUT", f"/admin/users/{session['user']['id']}", {"password": "another password"})
    assert answer.status_code == 200
    assert refusal(await site.get("/user", token=session["access_token"])) == (403, "session_not_found")
    await site.sign_in(password="another password")


async def test_what_changing_refuses(site: AuthSite) -> None:
    await site.create_user(email="bob@example.com", phone="15550109999")
    user = await site.create_user()
    path = f"/admin/users/{user['id']}"
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"email": "bob@example.com"}, 422, "email_exists"),
        ({"phone": "15550109999"}, 422, "phone_exists"),
        ({"password": "short"}, 422, "weak_password"),
        ({"password": "a" * 73}, 400, "validation_failed"),
        ({"email": "nonsense"}, 400, "validation_failed"),
        ({"ban_duration": "soon"}, 400, "validation_failed"),
    ]
    for body, status, code in cases:
        assert refusal(await site.admin("PUT", path, body)) == (status, code), body
    for method in ("GET", "PUT", "DELETE"):
        sent: dict[str, Any] | None = None if method == "GET" else {}
        assert refusal(await site.admin(method, "/admin/users/nonsense", sent)) == (404, "validation_failed")
        assert refusal(await site.admin(method, f"/admin/users/{uuid.uuid4()}", sent)) == (404, "user_not_found")


async def test_an_anonymous_user_becomes_permanent(database: Database) -> None:
    async with open_site(database, changed(external__anonymous_enabled=True)) as site:
        user = (await site.post("/signup", {})).json()["user"]
        path = f"/admin/users/{user['id']}"
        assert (await site.admin("PUT", path, {"email": "ada@example.com"})).json()["is_anonymous"] is True
        body = {"email": "ada@example.com", "email_confirm": True}
        assert (await site.admin("PUT", path, body)).json()["is_anonymous"] is False


async def test_bans_come_and_go(site: AuthSite) -> None:
    user = await site.create_user()
    path = f"/admin/users/{user['id']}"
    assert "banned_until" in (await site.admin("PUT", path, {"ban_duration": "1h"})).json()
    assert "banned_until" in (await site.admin("PUT", path, {"user_metadata": {}})).json()
    assert "banned_until" not in (await site.admin("PUT", path, {"ban_duration": "none"})).json()


# -- deleting ----------------------------------------------------------------------------------------------------------


async def test_for_good(site: AuthSite) -> None:
    session = await site.signed_in()
    for body in (None, {"should_soft_delete": False}):
        user = session["user"] if body is None else await site.create_user()
        answer = await site.admin("DELETE", f"/admin/users/{user['id']}", body)
        assert (answer.status_code, answer.json()) == (200, {})
        for table in ("users", "identities", "sessions", "refresh_tokens"):
            assert await site.rows(f"select 1 from auth.{table}") == []


async def test_softly(site: AuthSite) -> None:
    session = await site.signed_in(phone="15550101234", user_metadata={"secret": 1})
    await site.run(
        """insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
        values (gen_random_uuid(), $1, 'totp', 'verified', now(), now(), 'x')""",
        session["user"]["id"],
    )
    path = f"/admin/users/{session['user']['id']}"
    assert (await site.admin("DELETE", path, {"should_soft_delete": True})).json() == {}
    row = await site.row("select * from auth.users")
    assert row["deleted_at"] is not None
    assert len(row["email"]) == 43
    assert "@" not in row["email"]
    assert len(row["phone"]) == 15
    assert row["encrypted_password"] is None
    assert (row["raw_user_meta_data"], row["raw_app_meta_data"]) == ({}, {})
    identities = await site.rows("select provider_id, identity_data from auth.identities")
    assert len(identities) == 2
    assert all(identity["identity_data"] == {} and len(identity["provider_id"]) == 43 for identity in identities)
    for table in ("sessions", "mfa_factors", "one_time_tokens"):
        assert await site.rows(f"select 1 from auth.{table}") == []
    assert (await site.admin("DELETE", path, {"should_soft_delete": True})).json() == {}
    assert await site.row("select * from auth.users") == row
    await site.create_user(phone="15550101234")


async def test_softly_an_sso_user(site: AuthSite) -> None:
    user = await site.create_user()
    await site.run("update auth.users set is_sso_user = true")
    await site.run("update auth.identities set provider = 'sso:1', provider_id = 'ada@corp'")
    await site.admin("DELETE", f"/admin/users/{user['id']}", {"should_soft_delete": True})
    (identity,) = await site.rows("select provider, provider_id from auth.identities")
    assert identity["provider"] == "sso:1"
    assert len(identity["provider_id"]) == 43


# -- audit -------------------------------------------------------------------------------------------------------------


async def test_the_audit_log_is_read_and_narrowed(site: AuthSite) -> None:
    await site.signed_in()
    site.clock.advance(seconds=1)
    await site.signed_in(email="bob@example.com")
    everything = await site.admin("GET", "/admin/audit")
    entries = everything.json()
    assert everything.headers["x-total-count"] == str(len(entries))
    assert entries[0].keys() == {"id", "payload", "created_at", "ip_address"}
    assert entries[0]["created_at"] >= entries[-1]["created_at"]
    logins = (await site.admin("GET", "/admin/audit?query=action:login")).json()
    assert [entry["payload"]["actor_username"] for entry in logins] == ["bob@example.com", "ada@example.com"]
    assert len((await site.admin("GET", "/admin/audit?query=author:BOB")).json()) == 1
    assert len((await site.admin("GET", "/admin/audit?query=type:team")).json()) == 2
    page = await site.admin("GET", "/admin/audit?per_page=1&page=2")
    assert len(page.json()) == 1
    assert page.headers["link"].startswith("</admin/audit?page=3&per_page=1>")
    for query in ("query=nonsense", "query=shoe:x", "page=x"):
        assert refusal(await site.admin("GET", f"/admin/audit?{query}")) == (400, "validation_failed")


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"])
async def test_a_date_beyond_the_calendar_spoils_nothing(site: AuthSite, moment: str) -> None:
    """§10.5: as a hand or a restore may write one."""
    session = await site.signed_in()
    user_id = session["user"]["id"]
    await site.run("update auth.users set created_at = $1::timestamptz, invited_at = $1 where id = $2", moment, user_id)
    await site.run("update auth.identities set created_at = $1::timestamptz where user_id = $2", moment, user_id)
    shown = "9999-12-31T23:59:59.999999Z" if moment in ("infinity", "10000-01-01") else "0001-01-01T00:00:00.000000Z"
    assert (await site.sign_in())["user"]["invited_at"] == shown
    for answer in (
        await site.admin("GET", f"/admin/users/{user_id}"),
        await site.get("/user", token=session["access_token"]),
    ):
        assert answer.status_code == 200
        assert (answer.json()["created_at"], answer.json()["identities"][0]["created_at"]) == (shown, shown)
    (listed,) = (await site.admin("GET", "/admin/users")).json()["users"]
    assert listed["created_at"] == shown


async def test_a_ban_until_infinity_holds(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.run("update auth.users set banned_until = 'infinity'")
    answer = await site.get("/user", token=session["access_token"])
    assert refusal(answer) == (403, "user_banned")
