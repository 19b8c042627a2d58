"""What is around the use cases: public routes, limits, time limits, addresses, encryption, cleaning up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from harness.auth_site import PASSWORD, SITE, AuthSite, changed, open_site, refusal
from socle_auth import cleanup, encryption, limits
from socle_auth.context import AuthRoute, AuthService, Call
from socle_auth.limits import Limits, rule_of
from socle_auth.locks import RefreshLocks
from socle_auth.routes import all_routes
from socle_platform.config.auth import EncryptionSettings, Rate, RateLimitSettings
from socle_platform.config.reader import ConfigError
from socle_platform.db import ConnectionLost, Database
from socle_platform.errors import WireResponse

GRANT = "/token?grant_type=password"


async def test_health_and_settings(database: Database) -> None:
    settings = changed(external__anonymous_enabled=True, disable_signup=True, sms__provider="twilio")
    async with open_site(database, settings) as site:
        health = (await site.get("/health")).json()
        assert health["name"] == "GoTrue"
        assert health.keys() == {"version", "name", "description"}
        shown = (await site.get("/settings")).json()
        assert shown["external"]["anonymous_users"] is True
        assert shown["external"]["email"] is True
        assert shown["external"]["google"] is False
        assert len(shown["external"]) >= 28
        assert all(isinstance(value, bool) for value in shown["external"].values())
        del shown["external"]
        assert shown == {
            "disable_signup": True,
            "mailer_autoconfirm": False,
            "phone_autoconfirm": False,
            "sms_provider": "twilio",
            "saml_enabled": False,
            "saml_private_key_next_configured": False,
            "passkeys_enabled": False,
        }


def test_every_route_is_there_once() -> None:
    routes = [(route.method, route.path) for route in all_routes()]
    assert len(routes) == len(set(routes))
    assert {path for _, path in routes} >= {"/signup", "/token", "/verify", "/user", "/admin/users/{user_id}"}


# -- limits ------------------------------------------------------------------------------------------------------------


def test_rules_of_buckets() -> None:
    rates = RateLimitSettings(otp=30, token_refresh=150, anonymous_users=7, mfa=15, verify=5)
    assert rule_of(limits.TOKEN, rates) == limits.BucketRule(150, 2)
    assert rule_of(limits.SIGNUPS, rates) == limits.BucketRule(30, 10)
    assert rule_of(limits.VERIFY, rates) == limits.BucketRule(5, 60)
    assert rule_of(limits.ANONYMOUS, rates) == limits.BucketRule(7, 3600 / 7)
    assert rule_of(limits.FACTOR_VERIFY, rates) == limits.BucketRule(15, 4)
    assert rule_of(limits.EMAIL_SENT, RateLimitSettings(email_sent=Rate(10, 3600, burst=True))) == limits.BucketRule(
        10, 3600
    )


def test_a_bucket_fills_up_again_and_no_further() -> None:
    now = 0.0
    buckets = Limits(RateLimitSettings(otp=2), lambda: now)
    assert [buckets.take(limits.OTP, "a") for _ in range(2)] == [0.0, 0.0]
    assert buckets.take(limits.OTP, "a") == pytest.approx(150)
    assert buckets.take(limits.OTP, "b") == 0.0
    assert buckets.take(limits.SIGNUPS, "a") == 0.0
    now = 151.0
    assert buckets.take(limits.OTP, "a") == 0.0
    now = 100_000.0
    assert [buckets.take(limits.OTP, "a") > 0 for _ in range(3)] == [False, False, True]


def test_a_loopback_address_stands_for_a_crowd_except_where_one_can_guess() -> None:
    rates = RateLimitSettings(otp=30, verify=30, token_refresh=150)
    assert rule_of(limits.SIGNUPS, rates, "127.0.0.1") == limits.BucketRule(300, 1)
    assert rule_of(limits.SIGNUPS, rates, "203.0.113.7") == limits.BucketRule(30, 10)
    for bucket in (limits.VERIFY, limits.TOKEN, limits.FACTOR_VERIFY):
        assert rule_of(bucket, rates, "::1") == rule_of(bucket, rates, "203.0.113.7")


async def test_a_zero_allows_nothing(database: Database) -> None:
    async with open_site(database, changed(rates__otp=0, rates__email_sent=Rate(0))) as site:
        assert refusal(await site.post("/signup", {"email": "a@example.com", "password": PASSWORD})) == (
            429,
            "over_request_rate_limit",
        )


async def test_by_the_sockets_address_unless_a_header_is_named(database: Database) -> None:
    async with open_site(database, changed(rates__token_refresh=2)) as site:
        answers = [await site.post(GRANT, {"email": "a@example.com", "password": "x"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 429]
        assert answers[2].json() == {"code": "over_request_rate_limit", "message": "Request rate limit reached"}
        assert answers[2].headers["retry-after"] == "150"
        forwarded = {"X-Forwarded-For": "203.0.113.7"}
        assert (
            await site.post(GRANT, {"email": "a@example.com", "password": "x"}, headers=forwarded)
        ).status_code == 400


async def test_by_a_named_header(database: Database) -> None:
    async with open_site(database, changed(rates__token_refresh=1, rates__header="X-Real-Client")) as site:

        async def status(value: str | None) -> int:
            headers = {} if value is None else {"x-real-client": value}
            return (await site.post(GRANT, {"email": "a@example.com", "password": "x"}, headers=headers)).status_code

        assert [await status("1.1.1.1"), await status("1.1.1.1, 9.9.9.9"), await status("2.2.2.2, 1.1.1.1")] == [
            400,
            429,
            400,
        ]
        assert [await status(""), await status(None), await status(" ")] == [400, 429, 429]


async def test_forwarded_addresses_count_from_trusted_proxies_only(database: Database) -> None:
    headers = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
    async with open_site(database) as site:
        await site.create_user()
        await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD}, headers=headers)
        assert (await site.row("select ip from auth.sessions"))["ip"] == "203.0.113.7"
    async with open_site(database, changed(trusted_proxies=())) as site:
        await site.run("delete from auth.sessions")
        await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD}, headers=headers)
        assert (await site.row("select ip from auth.sessions"))["ip"] == "127.0.0.1"
    async with open_site(database, changed(security__sb_forwarded_for=True)) as site:
        await site.run("delete from auth.sessions")
        more = {**headers, "Sb-Forwarded-For": "192.0.2.1, 10.0.0.1"}
        await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD}, headers=more)
        assert (await site.row("select ip from auth.sessions"))["ip"] == "192.0.2.1"
    with pytest.raises(ConfigError, match="SOCLE_TRUSTED_PROXIES"):
        async with open_site(database, changed(trusted_proxies=("nonsense",))):
            pass


async def test_mail_has_a_limit_for_all(database: Database) -> None:
    async with open_site(database, changed(rates__email_sent=Rate(2))) as site:
        for number in range(2):
            await site.post("/signup", {"email": f"a{number}@example.com", "password": PASSWORD})
        answer = await site.post("/signup", {"email": "late@example.com", "password": PASSWORD})
        assert refusal(answer) == (429, "over_email_send_rate_limit")
        assert len(await site.rows("select 1 from auth.users")) == 2


async def test_addresses_can_be_restricted(database: Database) -> None:
    settings = changed(external__email_authorized_addresses=("Ada@example.com",))
    async with open_site(database, settings) as site:
        body = {"email": "bob@example.com", "password": PASSWORD}
        assert refusal(await site.post("/signup", body)) == (400, "email_address_not_authorized")
        labelled = {"email": "ada+label@example.com", "password": PASSWORD}
        assert (await site.post("/signup", labelled)).status_code == 200


async def test_a_request_has_a_time_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_service: AuthService, _call: Call) -> WireResponse:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("socle_auth.routes.all_routes", lambda: [AuthRoute("GET", "/slow", never)])
    async with open_site(database, changed(max_request_seconds=0.05)) as site:
        assert refusal(await site.get("/slow")) == (504, "request_timeout")


async def test_a_database_that_is_away_is_a_503(site: AuthSite) -> None:
    session = await site.signed_in()
    await site.database.close()
    answer = await site.refresh(session["refresh_token"])
    assert answer.status_code == 503
    assert answer.json()["code"] == "unexpected_failure"


async def test_a_slow_mail_server_holds_up_nobody_else(site: AuthSite) -> None:
    """More mails under way than there are sessions of the database; whoever sends nothing is served at once."""
    session = await site.signed_in()
    for number in range(8):
        await site.create_user(email=f"user{number}@example.com")
    site.outbox.is_open = asyncio.Event()
    sending = [
        asyncio.create_task(site.post("/recover", {"email": f"user{number}@example.com"})) for number in range(8)
    ]
    for _ in range(20):
        assert (await site.get("/user", token=session["access_token"])).status_code == 200
    assert not any(task.done() for task in sending)
    site.outbox.is_open.set()
    assert [answer.status_code for answer in await asyncio.gather(*sending)] == [200] * 8
    assert len(site.outbox.mails) == 8


async def test_locks_are_forgotten_when_free() -> None:
    locks, order = RefreshLocks(), list[int]()

    async def work(number: int) -> None:
        async with locks.hold("key"):
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(work(number) for number in range(5)))
    assert order == [number for number in range(5) for _ in range(2)]
    assert len(locks) == 0


# -- encryption --------------------------------------------------------------------------------------------------------

OLD = EncryptionSettings(True, "old", "A" * 43, {"old": "A" * 43})
BOTH = EncryptionSettings(True, "new", "B" * 43, {"old": "A" * 43, "new": "B" * 43})


def test_a_sealed_value_belongs_to_its_row() -> None:
    sealed = encryption.seal(OLD, "row 1", "secret", lambda size: b"n" * size)
    assert "secret" not in sealed
    assert encryption.unseal(OLD, "row 1", sealed) == "secret"
    with pytest.raises(encryption.Undecipherable):
        encryption.unseal(OLD, "row 2", sealed)
    with pytest.raises(encryption.Undecipherable):
        encryption.unseal(EncryptionSettings(), "row 1", sealed)
    with pytest.raises(encryption.Undecipherable):
        encryption.unseal(OLD, "row 1", sealed.replace('"data":"', '"data":"AA'))
    assert encryption.unseal(OLD, "row 1", "plain") == "plain"
    assert encryption.unseal(OLD, "row 1", '{"other": "json"}') == '{"other": "json"}'
    assert encryption.unseal(OLD, "row 1", "{not json") == "{not json"


def test_what_is_sealed_anew() -> None:
    sealed = encryption.seal(OLD, "row", "secret", lambda size: b"n" * size)
    assert not encryption.is_stale(OLD, sealed)
    assert encryption.is_stale(BOTH, sealed)
    assert encryption.is_stale(OLD, "plain")
    assert not encryption.is_stale(EncryptionSettings(), "plain")


async def test_passwords_and_session_keys_are_sealed_where_encryption_is_on(database: Database) -> None:
    async with open_site(database) as site:
        await site.create_user()
    settings = changed(security__encryption=OLD, security__refresh_token_version=2)
    async with open_site(database, settings) as site:
        session = await site.sign_in()
        assert '"key_id":"old"' in (await site.user_row())["encrypted_password"]
        row = await site.row("select refresh_token_hmac_key from auth.sessions")
        assert '"key_id":"old"' in row["refresh_token_hmac_key"]
        assert (await site.refresh(session["refresh_token"])).status_code == 200
    async with open_site(database, changed(settings, security__encryption=BOTH)) as site:
        await site.sign_in()
        assert '"key_id":"new"' in (await site.user_row())["encrypted_password"]
        await site.sign_in()


# -- cleaning up -------------------------------------------------------------------------------------------------------


async def test_what_has_expired_goes_and_the_rest_stays(database: Database) -> None:
    settings = changed(external__anonymous_enabled=True, sessions__timebox=3600.0, sessions__inactivity_timeout=3600.0)
    async with open_site(database, settings) as site:
        session = await site.signed_in()
        await site.refresh(session["refresh_token"])
        await site.post("/signup", {})
        await site.post(
            "/otp", {"email": "ada@example.com", "code_challenge": "v" * 50, "code_challenge_method": "plain"}
        )
        counts = await cleanup.sweep_once(site.service)
        assert set(counts.values()) == {0}
        site.clock.advance(hours=26)
        counts = await cleanup.sweep_once(site.service)
        assert counts["revoked refresh tokens"] == 1
        assert counts["flow states"] == 1
        assert counts["timed-out sessions"] == 2
        assert counts["anonymous users"] == 0
        site.clock.advance(days=30)
        assert (await cleanup.sweep_once(site.service))["anonymous users"] == 1
        assert len(await site.rows("select 1 from auth.users")) == 1


async def test_idle_sessions_go(database: Database) -> None:
    async with open_site(database, changed(sessions__inactivity_timeout=3600.0)) as site:
        session = await site.signed_in()
        await site.refresh(session["refresh_token"])
        await site.sign_in()
        site.clock.advance(hours=25, minutes=1)
        counts = await cleanup.sweep_once(site.service)
        assert counts["idle sessions"] == 1
        assert counts["sessions never refreshed"] == 1


async def test_ended_sessions_revoke_their_tokens_first(site: AuthSite) -> None:
    await site.signed_in()
    await site.run("update auth.sessions set not_after = $1", site.clock.now())
    site.clock.advance(hours=25)
    assert (await cleanup.sweep_once(site.service))["refresh tokens of ended sessions"] == 1
    site.clock.advance(hours=48)
    assert (await cleanup.sweep_once(site.service))["ended sessions"] == 1


async def test_the_job_goes_round_until_it_is_stopped(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, third = list[int](), asyncio.Event()
    sweep = cleanup.sweep_once

    async def counted(service: AuthService) -> dict[str, int]:
        rounds.append(sum((await sweep(service)).values()))
        if len(rounds) == 2:
            raise ConnectionLost
        if len(rounds) == 3:
            third.set()
        return {}

    monkeypatch.setattr("socle_auth.cleanup.sweep_once", counted)
    async with open_site(database) as site:
        await site.signed_in()
        long_ago = site.clock.now() - timedelta(days=2)
        await site.run("update auth.refresh_tokens set revoked = true, updated_at = $1", long_ago)
        job = asyncio.create_task(cleanup.run(site.service, pause=0.001))
        await third.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert rounds == [1, 0, 0]
    async with open_site(database, changed(cleanup_enabled=False)) as site:
        await cleanup.run(site.service)


async def test_links_in_mails_cannot_smuggle_headers(site: AuthSite) -> None:
    await site.create_user()
    target = "https://app.example.com/%0d%0aSet-Cookie:x"
    await site.post(f"/recover?redirect_to={target}", {"email": "ada@example.com"})
    assert site.outbox.link_parameters()["redirect_to"] == SITE
    answer: Any = await site.get("/verify?type=signup&token=x&redirect_to=https://app.example.com/é")
    assert "\n" not in answer.headers["location"]
    assert answer.headers["location"].isascii()
