"""Rate limits that several nodes share, and captcha (contracts/auth.md §7.3, §7.4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, MovableClock, changed, open_site, refusal
from harness.internet import Internet, started_internet
from harness.site import Reply
from socle_auth import limits, shared_limits
from socle_auth.store import limits as store
from socle_auth.store.limits import Spending
from socle_platform.config.auth import CaptchaSettings, Rate
from socle_platform.db import Connection, Database, DatabaseUnavailable

GRANT = "/token?grant_type=password"
WRONG = {"email": "a@example.com", "password": "x"}
FOUR = changed(rates__token_refresh=4)


async def tries(site: AuthSite, count: int) -> list[int]:
    return [(await site.post(GRANT, WRONG)).status_code for _ in range(count)]


async def test_two_nodes_together_let_through_what_one_would(database: Database) -> None:
    clock = MovableClock()
    async with open_site(database, FOUR, clock=clock) as one, open_site(database, FOUR, clock=clock) as two:
        assert await tries(one, 3) == [400, 400, 400]
        assert await shared_limits.settle_once(one.service) == 1
        assert await shared_limits.settle_once(one.service) == 0
        assert await tries(two, 1) == [400]
        await shared_limits.settle_once(two.service)
        assert await tries(two, 1) == [429]
        assert await tries(one, 1) == [400], "it cannot know yet"
        await shared_limits.settle_once(one.service)
        assert await tries(one, 1) == [429]
        clock.advance(seconds=76)
        assert await tries(two, 1) == [400]
        await shared_limits.settle_once(two.service)
        clock.advance(minutes=20)
        assert await tries(one, 5) == [400, 400, 400, 400, 429]


async def test_a_restart_does_not_fill_the_buckets(database: Database) -> None:
    clock = MovableClock()
    async with open_site(database, FOUR, clock=clock) as site:
        await tries(site, 4)
        await shared_limits.settle_once(site.service)
    async with open_site(database, FOUR, clock=clock) as site:
        assert await tries(site, 1) == [400]
        await shared_limits.settle_once(site.service)
        assert await tries(site, 1) == [429]


async def test_one_node_alone_counts_as_without_sharing(database: Database) -> None:
    async with open_site(database, FOUR) as site:
        for expected in (400, 400, 400, 400, 429, 429):
            assert await tries(site, 1) == [expected]
            await shared_limits.settle_once(site.service)
        site.clock.advance(seconds=75)
        assert await tries(site, 2) == [400, 429]


async def test_what_could_not_be_told_is_told_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_site(database, FOUR) as site:
        await tries(site, 2)

        async def broken(*_args: object) -> dict[tuple[str, str], float]:
            raise DatabaseUnavailable

        with monkeypatch.context() as patched:
            patched.setattr(store, "settle", broken)
            with pytest.raises(DatabaseUnavailable):
                await shared_limits.settle_once(site.service)
        await tries(site, 1)
        await shared_limits.settle_once(site.service)
        row = await site.row("select level, burst from socle.rate_limits where bucket = $1", limits.TOKEN)
        assert (row["level"], row["burst"]) == (1.0, 4.0)


async def test_the_job_settles(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_site(database, FOUR) as site:
        told = asyncio.Event()
        learn = site.service.limits.learn

        def learned(spendings: list[Spending], levels: dict[tuple[str, str], float]) -> None:
            learn(spendings, levels)
            told.set()

        monkeypatch.setattr(site.service.limits, "learn", learned)
        await tries(site, 4)
        job = asyncio.create_task(shared_limits.run(site.service, pause=0.005))
        await asyncio.wait_for(told.wait(), 5)
        job.cancel()
        assert (await site.row("select level from socle.rate_limits"))["level"] == 0


async def test_nodes_learn_within_moments_and_an_idle_one_is_silent(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock()
    settled = list[float]()
    settle = store.settle

    async def counted(connection: Connection, spendings: list[Spending]) -> dict[tuple[str, str], float]:
        levels = await settle(connection, spendings)
        settled.append(asyncio.get_running_loop().time())
        return levels

    monkeypatch.setattr(store, "settle", counted)
    many = changed(rates__token_refresh=30)
    async with open_site(database, many, clock=clock) as one, open_site(database, many, clock=clock) as two:
        jobs = [asyncio.create_task(shared_limits.run(site.service)) for site in (one, two)]
        began = asyncio.get_running_loop().time()
        answers = list[int]()
        while 429 not in answers[-2:]:
            answers += await tries(one, 1) + await tries(two, 1)
            await asyncio.sleep(0.01)
        took = asyncio.get_running_loop().time() - began
        assert answers.count(400) <= 30 + 20, "what both spend in a pause, and no more"
        assert len(settled) <= 2 * (took / shared_limits.PAUSE + 1)
        await asyncio.sleep(2 * shared_limits.PAUSE)
        before = len(settled)
        await asyncio.sleep(3 * shared_limits.PAUSE)
        assert len(settled) == before
        for job in jobs:
            job.cancel()


async def test_full_buckets_are_forgotten(database: Database) -> None:
    async with open_site(database) as site, site.service.connect() as connection:
        spendings = [Spending("b", f"k{number}", 4, 10, number, 1000.0) for number in range(1, 4)]
        levels = await store.settle(connection, spendings)
        assert levels == {("b", "k1"): 3.0, ("b", "k2"): 2.0, ("b", "k3"): 1.0}
        again = await store.settle(connection, [Spending("b", "k3", 4, 10, 9, 1010.0)])
        assert again == {("b", "k3"): -4.0}
        assert await store.forget_full(connection, 1015.0) == 1
        assert await store.forget_full(connection, 1025.0) == 1
        assert await store.forget_full(connection, 1085.0) == 0
        assert await store.forget_full(connection, 1095.0) == 1


async def test_the_limit_of_all_mails_is_shared_too(database: Database) -> None:
    settings = changed(rates__email_sent=Rate(1))
    clock = MovableClock()
    async with open_site(database, settings, clock=clock) as one, open_site(database, settings, clock=clock) as two:
        await one.post("/signup", {"email": "a@example.com", "password": PASSWORD})
        await shared_limits.settle_once(one.service)
        await two.post("/signup", {"email": "b@example.com", "password": PASSWORD})
        await shared_limits.settle_once(two.service)
        answer = await two.post("/signup", {"email": "c@example.com", "password": PASSWORD})
        assert refusal(answer) == (429, "over_email_send_rate_limit")
        assert int(answer.headers["retry-after"]) > 3600


# -- captcha -----------------------------------------------------------------------------------------------------------

URLS = {
    "hcaptcha": "https://hcaptcha.com/siteverify",
    "turnstile": "https://challenges.cloudflare.com/turnstile/v0/siteverify",
}


@asynccontextmanager
async def guarded_site(database: Database, provider: str = "hcaptcha") -> AsyncGenerator[tuple[AuthSite, Internet]]:
    captcha = CaptchaSettings(enabled=True, provider=provider, secret="captcha secret")
    settings = changed(security__captcha=captcha)
    async with started_internet() as internet, open_site(database, settings, http=internet) as site:
        yield site, internet


def with_token(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "gotrue_meta_security": {"captcha_token": "token from the page"}}


@pytest.mark.parametrize("provider", list(URLS))
async def test_each_service_is_asked(database: Database, provider: str) -> None:
    async with guarded_site(database, provider) as (site, internet):
        internet.say("POST", URLS[provider], {"success": True})
        assert (await site.post("/recover", with_token({"email": "a@example.com"}))).status_code == 200
        (call,) = internet.calls(URLS[provider])
        assert call.headers["content-type"] == "application/x-www-form-urlencoded"
        assert call.form == {"secret": "captcha secret", "response": "token from the page", "remoteip": "127.0.0.1"}


PATHS = ("/signup", GRANT, "/otp", "/magiclink", "/recover", "/resend")


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_goes_without_a_captcha(database: Database, path: str) -> None:
    async with guarded_site(database) as (site, internet):
        body = {"email": "a@example.com", "password": PASSWORD, "type": "signup"}
        missing = await site.post(path, body)
        assert refusal(missing) == (400, "captcha_failed")
        assert missing.json()["message"] == "captcha protection: request disallowed (no captcha_token found)"
        internet.say("POST", URLS["hcaptcha"], {"success": False, "error-codes": ["invalid-input-response"]})
        refused = await site.post(path, with_token(body))
        assert refusal(refused) == (400, "captcha_failed")
        assert refused.json()["message"] == "captcha protection: request disallowed (invalid-input-response)"
        for reply in (Reply(b"nonsense"), Reply(b"", 500)):
            internet.on("POST", URLS["hcaptcha"], reply)
            assert refusal(await site.post(path, with_token(body))) == (500, "unexpected_failure")
        assert await site.rows("select 1 from auth.users") == []


async def test_what_needs_no_captcha(database: Database) -> None:
    async with guarded_site(database) as (site, internet):
        admin = site.admin_token()
        answer = await site.post("/recover", {"email": "a@example.com"}, token=admin)
        assert answer.status_code == 200
        await site.create_user()
        session = (await site.post(GRANT, {"email": "ada@example.com", "password": PASSWORD}, token=admin)).json()
        refreshed = await site.post("/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]})
        assert refreshed.status_code == 200
        code = {"auth_code": "x", "code_verifier": "y"}
        assert refusal(await site.post("/token?grant_type=pkce", code)) == (404, "flow_state_not_found")
        user = session["access_token"]
        assert (await site.post("/recover", {"email": "a@example.com"}, token=user)).status_code == 400
        assert internet.site.calls == []
