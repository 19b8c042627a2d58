"""Linking and unlinking identities by hand (contract §3.10, §12.44)."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from harness.auth_site import FAST, AuthSite, changed, claims_of, fragment_of, open_site, query_of, refusal
from harness.internet import Internet, started_internet
from harness.postgres import TestServer
from harness.providers import GitHubPerson, arrive, come_back, person
from socle_platform.config.auth_external import ProviderSettings
from socle_platform.db import Database, Json

pytestmark = pytest.mark.asyncio(loop_scope="module")
GITHUB = ProviderSettings(enabled=True, client_ids=("our-id",), secret="our-secret")
ON = changed(
    FAST,
    external__providers={"github": GITHUB},
    external__anonymous_enabled=True,
    security__manual_linking=True,
    mailer__notifications=frozenset({"identity_linked", "identity_unlinked"}),
)
_numbers = itertools.count(1)


def address() -> str:
    return f"person{next(_numbers)}@example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def internet() -> AsyncIterator[Internet]:
    async with started_internet() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database, internet: Internet) -> AsyncIterator[AuthSite]:
    async with open_site(database, ON, http=internet) as opened:
        yield opened


async def link(site: AuthSite, internet: Internet, token: str, who: GitHubPerson) -> str:
    """The whole way of linking; gives the address it ends at."""
    who.publish(internet)
    begun = await site.get("/user/identities/authorize?provider=github&skip_http_redirect=true", token=token)
    assert begun.status_code == 200, begun.text
    answer = await come_back(site, query_of(begun.json()["url"])["state"])
    location: str = answer.headers["location"]
    return location


async def identities(site: AuthSite, token: str) -> dict[str, dict[str, Any]]:
    user = (await site.get("/user", token=token)).json()
    return {identity["provider"]: identity for identity in user["identities"]}


async def test_linking_adds_an_identity_to_the_caller(site: AuthSite, internet: Internet) -> None:
    session = await site.signed_in(email=address())
    other = address()
    url = await link(site, internet, session["access_token"], person(other))
    claims = claims_of(fragment_of(url), site.keyring)
    assert claims["sub"] == session["user"]["id"]
    assert claims["email"] == session["user"]["email"]
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email", "github"]}
    known = await identities(site, session["access_token"])
    assert known["github"]["email"] == other
    assert site.outbox.last(session["user"]["email"])


async def test_the_browser_can_be_sent_directly(site: AuthSite) -> None:
    session = await site.signed_in(email=address())
    answer = await site.get("/user/identities/authorize?provider=github", token=session["access_token"])
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("https://github.com/")
    assert refusal(await site.get("/user/identities/authorize?provider=github")) == (401, "no_authorization")


async def test_an_identity_belongs_to_one_user(site: AuthSite, internet: Internet) -> None:
    session, other = await site.signed_in(email=address()), await site.signed_in(email=address())
    who = person(address())
    await link(site, internet, session["access_token"], who)
    for token, words in (
        (session["access_token"], "Identity is already linked"),
        (other["access_token"], "Identity is already linked to another user"),
    ):
        url = await link(site, internet, token, who)
        assert query_of(url)["error_code"] == "identity_already_exists"
        assert query_of(url)["error_description"] == words


async def test_an_anonymous_user_becomes_permanent(site: AuthSite, internet: Internet) -> None:
    session = (await site.post("/signup")).json()
    email = address()
    url = await link(site, internet, session["access_token"], person(email))
    claims = claims_of(fragment_of(url), site.keyring)
    assert claims["sub"] == session["user"]["id"]
    assert (claims["is_anonymous"], claims["email"]) == (False, email)
    assert claims["app_metadata"] == {"provider": "github", "providers": ["github"]}


async def test_an_anonymous_user_cannot_take_an_address_that_is_taken(site: AuthSite, internet: Internet) -> None:
    email = address()
    await site.create_user(email=email)
    session = (await site.post("/signup")).json()
    url = await link(site, internet, session["access_token"], person(email))
    assert query_of(url)["error_code"] == "email_exists"
    assert await identities(site, session["access_token"]) == {}


async def test_an_unproven_address_is_asked_for_and_kept(site: AuthSite, internet: Internet) -> None:
    """The refusal is committed: address and identity stay, unconfirmed, until the mail is answered."""
    session = (await site.post("/signup")).json()
    email = address()
    url = await link(site, internet, session["access_token"], person(email, verified=False))
    assert query_of(url)["error_code"] == "email_not_confirmed"
    row = await site.row("select * from auth.users where id = $1", session["user"]["id"])
    assert (row["email"], row["email_confirmed_at"]) == (email, None)
    assert site.outbox.last(email)
    assert list(await identities(site, session["access_token"])) == ["github"]


async def test_a_target_that_is_gone(site: AuthSite, internet: Internet) -> None:
    session = await site.signed_in(email=address())
    person(address()).publish(internet)
    begun = await site.get(
        "/user/identities/authorize?provider=github&skip_http_redirect=true", token=session["access_token"]
    )
    await site.admin("DELETE", f"/admin/users/{session['user']['id']}")
    answer = await come_back(site, query_of(begun.json()["url"])["state"])
    assert query_of(answer.headers["location"])["error_code"] in ("user_not_found", "bad_oauth_state")


async def test_the_last_identity_stays(site: AuthSite) -> None:
    session = await site.signed_in(email=address())
    only = (await identities(site, session["access_token"]))["email"]
    answer = await site.delete(f"/user/identities/{only['identity_id']}", token=session["access_token"])
    assert refusal(answer) == (422, "single_identity_not_deletable")


async def linked(site: AuthSite, internet: Internet, *, verified: bool = True) -> tuple[dict[str, Any], str]:
    """A user with an e-mail identity and one of GitHub with another address; the session and that address."""
    session, other = await site.signed_in(email=address()), address()
    await link(site, internet, session["access_token"], person(other, verified=verified))
    return session, other


async def test_unlinking_removes_an_identity(site: AuthSite, internet: Internet) -> None:
    session, _ = await linked(site, internet)
    token = session["access_token"]
    known = await identities(site, token)
    path = f"/user/identities/{known['github']['identity_id']}"
    assert (await site.delete(path, token=token)).json() == {}
    user = (await site.get("/user", token=token)).json()
    assert [identity["provider"] for identity in user["identities"]] == ["email"]
    assert user["email"] == session["user"]["email"]
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert site.outbox.last(session["user"]["email"]).kind == "identity_unlinked_notification"


async def test_unlinking_checks_what_it_is_told(site: AuthSite, internet: Internet) -> None:
    session, _ = await linked(site, internet)
    stranger, _ = await linked(site, internet)
    token = session["access_token"]
    foreign = (await identities(site, stranger["access_token"]))["github"]["identity_id"]
    for identity_id, expected in (
        ("nonsense", (404, "validation_failed")),
        ("5e6b1d8a-4c0f-4c53-9a5e-2f1f3f0c9a13", (422, "identity_not_found")),
        (foreign, (422, "identity_not_found")),
    ):
        assert refusal(await site.delete(f"/user/identities/{identity_id}", token=token)) == expected
    own = (await identities(site, token))["github"]["identity_id"]
    other_audience = await site.delete(f"/user/identities/{own}", token=token, headers={"X-JWT-AUD": "elsewhere"})
    assert refusal(other_audience) == (403, "unexpected_audience")


async def test_a_proven_address_takes_the_place_of_the_lost_one(site: AuthSite, internet: Internet) -> None:
    session, other = await linked(site, internet)
    token, former = session["access_token"], session["user"]["email"]
    await site.post("/recover", {"email": former})
    code = site.outbox.link_parameters(former)["token"]
    known = await identities(site, token)
    assert (await site.delete(f"/user/identities/{known['email']['identity_id']}", token=token)).status_code == 200
    row = await site.row("select * from auth.users where id = $1", session["user"]["id"])
    assert row["email"] == other
    assert row["email_confirmed_at"]
    assert row["recovery_token"] == ""
    spent = await site.get(f"/verify?token={code}&type=recovery")
    assert fragment_of(spent.headers["location"])["error_code"] == "otp_expired"
    assert site.outbox.last(former).kind == "identity_unlinked_notification"


async def test_an_unproven_address_is_not_confirmed_by_unlinking(site: AuthSite, internet: Internet) -> None:
    session, other = await linked(site, internet, verified=False)
    token = session["access_token"]
    known = await identities(site, token)
    assert (await site.delete(f"/user/identities/{known['email']['identity_id']}", token=token)).status_code == 200
    row = await site.row("select * from auth.users where id = $1", session["user"]["id"])
    assert (row["email"], row["email_confirmed_at"]) == (other, None)
    assert row["raw_user_meta_data"]["email_verified"] is False


async def test_autoconfirm_keeps_a_promoted_address_confirmed(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(ON, mailer__autoconfirm=True), http=internet) as site:
        session, other = await linked(site, internet, verified=False)
        token = session["access_token"]
        known = await identities(site, token)
        await site.delete(f"/user/identities/{known['email']['identity_id']}", token=token)
        row = await site.row("select * from auth.users where id = $1", session["user"]["id"])
        assert row["email"] == other
        assert row["email_confirmed_at"]


async def add_identity(site: AuthSite, user_id: str, email: str | None, *, verified: bool, hours: int) -> str:
    """An identity by hand; `hours` orders them, the smallest is the oldest."""
    identity_id = str(uuid.uuid4())
    data = {"sub": identity_id, "email_verified": verified} | ({"email": email} if email else {})
    await site.run(
        """insert into auth.identities (id, provider_id, user_id, identity_data, provider, created_at)
        values ($1, $5, $2, $3::jsonb, 'gitlab', now() + make_interval(hours => $4::int))""",
        identity_id,
        user_id,
        Json(data),
        hours,
        identity_id,
    )
    return identity_id


async def test_proven_addresses_go_before_older_unproven_ones(site: AuthSite) -> None:
    session = await site.signed_in(email=address())
    user_id, token = session["user"]["id"], session["access_token"]
    oldest, proven, younger = address(), address(), address()
    await add_identity(site, user_id, None, verified=False, hours=1)
    await add_identity(site, user_id, oldest, verified=False, hours=2)
    await add_identity(site, user_id, proven, verified=True, hours=3)
    await add_identity(site, user_id, younger, verified=True, hours=4)
    known = (await identities(site, token))["email"]
    assert (await site.delete(f"/user/identities/{known['identity_id']}", token=token)).status_code == 200
    assert (await site.get("/user", token=token)).json()["email"] == proven


async def test_addresses_of_others_are_passed_over(site: AuthSite) -> None:
    session = await site.signed_in(email=address())
    user_id, token = session["user"]["id"], session["access_token"]
    taken, free = address(), address()
    await site.create_user(email=taken)
    await add_identity(site, user_id, taken, verified=True, hours=1)
    await add_identity(site, user_id, free, verified=False, hours=2)
    known = (await identities(site, token))["email"]
    assert (await site.delete(f"/user/identities/{known['identity_id']}", token=token)).status_code == 200
    assert (await site.get("/user", token=token)).json()["email"] == free


async def test_no_address_left_is_a_conflict_and_changes_nothing(site: AuthSite) -> None:
    session = await site.signed_in(email=address())
    token, taken = session["access_token"], address()
    await site.create_user(email=taken)
    await add_identity(site, session["user"]["id"], taken, verified=True, hours=1)
    known = (await identities(site, token))["email"]
    answer = await site.delete(f"/user/identities/{known['identity_id']}", token=token)
    assert refusal(answer) == (422, "email_conflict_identity_not_deletable")
    assert len(await identities(site, token)) == 2


async def test_unlinking_the_phone_clears_it(site: AuthSite, internet: Internet) -> None:
    user = await site.create_user(email=address(), phone="15550001234", phone_confirm=True)
    session = await site.sign_in(user["email"])
    known = await identities(site, session["access_token"])
    path = f"/user/identities/{known['phone']['identity_id']}"
    assert (await site.delete(path, token=session["access_token"])).status_code == 200
    shown = (await site.get("/user", token=session["access_token"])).json()
    assert shown["phone"] == ""
    assert "phone_confirmed_at" not in shown


async def test_manual_linking_has_a_switch_for_both_routes(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(ON, security__manual_linking=False), http=internet) as site:
        session = await site.signed_in(email=address())
        for method, path in (("GET", "authorize?provider=github"), ("DELETE", str(uuid.uuid4()))):
            answer = await site.send(method, f"/user/identities/{path}", token=session["access_token"])
            assert refusal(answer) == (404, "manual_linking_disabled")


async def test_a_linked_identity_signs_in_to_the_same_user(site: AuthSite, internet: Internet) -> None:
    session = await site.signed_in(email=address())
    who = person(address())
    await link(site, internet, session["access_token"], who)
    claims = claims_of(fragment_of(await arrive(site, internet, who)), site.keyring)
    assert claims["sub"] == session["user"]["id"]
