"""/authorize and /callback through the service: state, PKCE, redirects, claims on accounts (contract §4.2-4.4, §9)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import pytest_asyncio

from harness.auth_site import FAST, AuthSite, changed, claims_of, fragment_of, open_site, query_of, refusal
from harness.internet import Internet, started_internet
from harness.issuer import Issuer
from harness.postgres import TestServer
from harness.providers import GitHubPerson, arrive, begin, come_back, person
from harness.site import Call, Reply
from socle_platform.config.auth_external import ProviderSettings
from socle_platform.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")
SITE = "http://localhost:3000"
VERIFIER = "verifier-" + "v" * 40
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def provider(**more: Any) -> ProviderSettings:
    return ProviderSettings(enabled=True, client_ids=("our-id",), secret="our-secret", **more)


ON = changed(
    FAST,
    external__providers={
        "github": provider(),
        "apple": provider(),
        "x": provider(),
        "twitter": provider(),
        "workos": provider(email_optional=True),
        "google": ProviderSettings(enabled=False),
    },
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


async def exchange(site: AuthSite, url: str, verifier: str = VERIFIER) -> Any:
    body = {"auth_code": query_of(url)["code"], "code_verifier": verifier}
    return await site.post("/token?grant_type=pkce", body)


async def test_authorize_sends_the_browser_on(site: AuthSite) -> None:
    answer = await site.get("/authorize?provider=GitHub&scopes=repo,gist&prompt=consent&nonce=n&login_hint=a%20b")
    assert answer.status_code == 302
    where = urlsplit(answer.headers["location"])
    asked = query_of(answer.headers["location"])
    assert f"{where.scheme}://{where.netloc}{where.path}" == "https://github.com/login/oauth/authorize"
    assert asked["client_id"] == "our-id"
    assert asked["redirect_uri"] == "http://localhost:9999/callback"
    assert asked["scope"] == "user:email repo gist"
    assert (asked["prompt"], asked["nonce"], asked["login_hint"]) == ("consent", "n", "a b")
    assert uuid.UUID(asked["state"])
    assert not {"provider", "scopes"} & asked.keys()


@pytest.mark.parametrize(
    "name",
    [
        "client_id",
        "client_secret",
        "redirect_uri",
        "response_type",
        "state",
        "code_verifier",
        "Redirect_URI",
        "STATE",
        "Client_Id",
    ],
)
async def test_reserved_parameters_are_ours(site: AuthSite, name: str) -> None:
    answer = await site.get(f"/authorize?provider=github&{name}=evil")
    assert answer.status_code == 302
    assert "evil" not in answer.headers["location"]


async def test_our_own_parameters_stay_with_us(site: AuthSite) -> None:
    query = {"provider": "github", "redirect_to": "https://app.example.com/x", "skip_http_redirect": "true"}
    answer = await site.get("/authorize?" + urlencode(query))
    assert answer.status_code == 302
    assert not {"redirect_to", "invite_token", "skip_http_redirect"} & query_of(answer.headers["location"]).keys()


async def test_workos_chooses_its_own_provider(site: AuthSite) -> None:
    answer = await site.get("/authorize?provider=workos&workos_provider=GoogleOAuth")
    assert query_of(answer.headers["location"])["provider"] == "GoogleOAuth"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("provider=myspace", "Unsupported provider: Provider myspace could not be found"),
        ("provider=google", "Unsupported provider: provider is not enabled"),
        ("", "Unsupported provider: Provider  could not be found"),
        ("provider=custom:nope", "Unsupported provider: custom provider custom:nope not found"),
        ("provider=github&code_challenge=x", "PKCE flow requires code_challenge_method and code_challenge"),
    ],
)
async def test_bad_requests_are_told_at_once(site: AuthSite, query: str, message: str) -> None:
    answer = await site.get(f"/authorize?{query}")
    assert refusal(answer) == (400, "validation_failed")
    assert answer.json()["message"] == message


async def test_an_unknown_invitation_is_told_at_once(site: AuthSite) -> None:
    assert refusal(await site.get("/authorize?provider=github&invite_token=x")) == (404, "user_not_found")


async def test_the_implicit_flow_ends_with_a_session_in_the_fragment(site: AuthSite, internet: Internet) -> None:
    email, redirect = address(), "https://app.example.com/welcome?a=1"
    who = person(email)
    url = await arrive(site, internet, who, redirect_to=redirect)
    assert url.startswith(redirect + "#")
    told = fragment_of(url)
    assert list(told) == sorted(told)
    assert told["provider_token"] == f"gh-access-{who.id}"
    assert told["provider_refresh_token"] == f"gh-refresh-{who.id}"
    assert (told["token_type"], told["sb"]) == ("bearer", "")
    claims = claims_of(told, site.keyring)
    assert claims["email"] == email
    assert [entry["method"] for entry in claims["amr"]] == ["oauth"]
    assert claims["app_metadata"] == {"provider": "github", "providers": ["github"]}
    user = (await site.get("/user", token=told["access_token"])).json()
    assert user["email_confirmed_at"]
    assert user["user_metadata"] == {
        "avatar_url": "https://avatars.example/u",
        "email": email,
        "email_verified": True,
        "full_name": "The Octocat",
        "iss": "https://api.github.com",
        "name": "The Octocat",
        "phone_verified": False,
        "preferred_username": "octocat",
        "provider_id": str(who.id),
        "sub": str(who.id),
        "user_name": "octocat",
    }
    (identity,) = user["identities"]
    assert (identity["id"], identity["provider"], identity["email"]) == (str(who.id), "github", email)
    assert (await site.refresh(told["refresh_token"])).status_code == 200


async def test_the_pkce_flow_ends_with_a_code(site: AuthSite, internet: Internet) -> None:
    who = person(address())
    url = await arrive(site, internet, who, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert list(query_of(url)) == ["code"]
    assert not urlsplit(url).fragment
    wrong = await exchange(site, url, "w" * 43)
    assert refusal(wrong) == (400, "bad_code_verifier")
    answer = await exchange(site, url)
    assert answer.status_code == 200, answer.text
    session = answer.json()
    assert session["provider_token"] == f"gh-access-{who.id}"
    assert session["provider_refresh_token"] == f"gh-refresh-{who.id}"
    assert [entry["method"] for entry in claims_of(session, site.keyring)["amr"]] == ["oauth"]
    assert refusal(await exchange(site, url)) == (404, "flow_state_not_found")


async def test_a_code_dies_with_its_time(site: AuthSite, internet: Internet) -> None:
    url = await arrive(site, internet, person(address()), code_challenge=CHALLENGE, code_challenge_method="s256")
    site.clock.advance(seconds=301)
    assert refusal(await exchange(site, url)) == (422, "flow_state_expired")


async def test_parallel_exchanges_of_one_code_give_one_session(site: AuthSite, internet: Internet) -> None:
    url = await arrive(site, internet, person(address()), code_challenge=CHALLENGE, code_challenge_method="s256")
    answers = await asyncio.gather(*(exchange(site, url) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404, 404, 404]


async def test_a_refused_target_becomes_the_site(site: AuthSite, internet: Internet) -> None:
    url = await arrive(site, internet, person(address()), redirect_to="https://evil.example/")
    assert url.startswith(SITE + "#")


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("", "bad_oauth_callback"),
        ("nonsense", "bad_oauth_state"),
        ("5e6b1d8a-4c0f-4c53-9a5e-2f1f3f0c9a12", "bad_oauth_state"),
    ],
)
async def test_faults_of_the_state_go_to_the_site(site: AuthSite, state: str, code: str) -> None:
    answer = await come_back(site, state)
    assert answer.status_code == 303
    url = answer.headers["location"]
    assert url.startswith(SITE)
    assert not urlsplit(url).fragment
    assert query_of(url)["error"] == "invalid_request"
    assert query_of(url)["error_code"] == code
    assert (await site.get("/callback")).status_code == 303


async def test_a_state_of_another_kind_of_flow_is_unknown(site: AuthSite) -> None:
    """The id of a mail flow, which its own mail may show, opens nothing here."""
    flow_id = str(uuid.uuid4())
    await site.run(
        """insert into auth.flow_state (id, provider_type, authentication_method, created_at, updated_at)
        values ($1, 'email', 'magiclink', now(), now())""",
        flow_id,
    )
    assert query_of((await come_back(site, flow_id)).headers["location"])["error_code"] == "bad_oauth_state"


async def test_a_state_dies_with_its_time(site: AuthSite, internet: Internet) -> None:
    person(address()).publish(internet)
    state = await begin(site)
    site.clock.advance(seconds=301)
    answer = await come_back(site, state)
    assert query_of(answer.headers["location"])["error_code"] == "bad_oauth_state"


@pytest.mark.parametrize("pkce", [True, False])
async def test_a_state_counts_once(site: AuthSite, internet: Internet, pkce: bool) -> None:
    query = {"code_challenge": CHALLENGE, "code_challenge_method": "s256"} if pkce else {}
    person(address()).publish(internet)
    state = await begin(site, **query)
    answers = await asyncio.gather(*(come_back(site, state) for _ in range(4)))
    good = [a for a in answers if "code" in query_of(a.headers["location"]) or "access_token=" in a.headers["location"]]
    assert len(good) == 1
    again = await come_back(site, state)
    expected = "flow_state_already_used" if pkce else "bad_oauth_state"
    assert query_of(again.headers["location"])["error_code"] == expected


async def test_a_state_counts_once_for_who_was_away_at_the_provider(site: AuthSite, internet: Internet) -> None:
    """The slower of two found the state unused, and comes back when the faster one is done."""
    who = person(address())
    who.publish(internet)
    state = await begin(site, code_challenge=CHALLENGE, code_challenge_method="s256")
    asked, done = asyncio.Event(), asyncio.Event()

    async def answer_late(call: Call) -> Reply:
        asked.set()
        await done.wait()
        return Reply({"access_token": "gh-late", "token_type": "bearer"})

    internet.on("POST", "https://github.com/login/oauth/access_token", answer_late)
    slow = asyncio.create_task(come_back(site, state))
    await asked.wait()
    who.publish(internet)
    assert "code" in query_of((await come_back(site, state)).headers["location"])
    done.set()
    assert query_of((await slow).headers["location"])["error_code"] == "flow_state_already_used"


async def test_the_providers_own_error_is_handed_on(site: AuthSite) -> None:
    state = await begin(site, redirect_to="https://app.example.com/x?keep=1")
    answer = await come_back(site, state, error="access_denied", error_description="The user said no")
    url = answer.headers["location"]
    assert answer.status_code == 302
    assert query_of(url) == {"keep": "1", "error": "access_denied", "error_description": "The user said no"}
    assert fragment_of(url) == {"error": "access_denied", "error_description": "The user said no", "sb": ""}


async def test_a_missing_code_is_told(site: AuthSite) -> None:
    answer = await site.get(f"/callback?state={await begin(site)}")
    assert fragment_of(answer.headers["location"])["error_code"] == "bad_oauth_callback"


async def test_a_failing_exchange_tells_four_letters_of_the_code(site: AuthSite, internet: Internet) -> None:
    internet.say("POST", "https://github.com/login/oauth/access_token", {"error": "bad_verification_code"})
    answer = await come_back(site, await begin(site), code="abcdefgh")
    told = query_of(answer.headers["location"])
    assert told == {
        "error": "server_error",
        "error_code": "unexpected_failure",
        "error_description": "Unable to exchange external code: abcd",
    }


async def test_a_failing_profile_is_told(site: AuthSite, internet: Internet) -> None:
    person(address()).publish(internet)
    internet.say("GET", "https://api.github.com/user", {"message": "Bad credentials"}, 401)
    answer = await come_back(site, await begin(site))
    told = query_of(answer.headers["location"])
    assert told["error_description"] == "Error getting user profile from external provider"


async def test_hidden_details_stay_hidden(site: AuthSite, internet: Internet) -> None:
    """What a provider answers to us is for the log only."""
    internet.say("POST", "https://github.com/login/oauth/access_token", {"error": "secret-detail"}, 500)
    answer = await come_back(site, await begin(site))
    assert "secret-detail" not in answer.headers["location"]
    assert "our-secret" not in answer.headers["location"]


async def test_nobody_without_an_address(site: AuthSite, internet: Internet) -> None:
    url = await arrive(site, internet, GitHubPerson())
    assert query_of(url)["error_description"] == "Error getting user email from external provider"
    assert query_of(url)["error"] == "server_error"


async def test_an_address_may_be_optional(site: AuthSite, internet: Internet) -> None:
    profile = {"id": f"prof_{uuid.uuid4()}", "first_name": "No", "last_name": "Mail"}
    internet.say("POST", "https://api.workos.com/sso/token", {"access_token": "t", "profile": profile})
    answer = await come_back(site, await begin(site, "workos"))
    claims = claims_of(fragment_of(answer.headers["location"]), site.keyring)
    assert claims["email"] == ""
    assert claims["user_metadata"]["full_name"] == "No Mail"


async def test_providers_that_demand_pkce_get_it(site: AuthSite, internet: Internet) -> None:
    email = address()
    internet.say("POST", "https://api.x.com/2/oauth2/token", {"access_token": "t"})
    who = {"id": "99", "name": "X", "username": "x", "confirmed_email": email}
    internet.say("GET", "https://api.x.com/2/users/me", {"data": who})
    started = await site.get("/authorize?provider=x")
    asked = query_of(started.headers["location"])
    assert asked["code_challenge_method"] == "S256"
    answer = await come_back(site, asked["state"])
    assert "access_token=" in answer.headers["location"], answer.headers["location"]
    verifier = internet.calls("https://api.x.com/2/oauth2/token")[-1].form["code_verifier"]
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert hashed == asked["code_challenge"]
    assert await site.rows("select 1 from auth.oauth_client_states where provider_type = 'x'") == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("delete from auth.oauth_client_states", "oauth_client_state_not_found"),
        ("update auth.oauth_client_states set provider_type = 'other'", "oauth_invalid_state"),
        (
            "update auth.oauth_client_states set created_at = created_at - interval '6 minutes'",
            "oauth_client_state_expired",
        ),
        ("update auth.flow_state set oauth_client_state_id = null", "oauth_invalid_state"),
    ],
)
async def test_the_verifier_must_be_there(site: AuthSite, change: str, code: str) -> None:
    state = await begin(site, "x")
    await site.run(change)
    answer = await come_back(site, state)
    assert query_of(answer.headers["location"])["error_code"] == code


async def test_twitter_signs_in_by_oauth_1(site: AuthSite, internet: Internet) -> None:
    request, access = "https://api.twitter.com/oauth/request_token", "https://api.twitter.com/oauth/access_token"
    internet.on("POST", request, Reply(b"oauth_token=rt&oauth_token_secret=rs&oauth_callback_confirmed=true"))
    internet.on("POST", access, Reply(b"oauth_token=at&oauth_token_secret=as"))
    who = {"id_str": "77", "name": "T", "screen_name": "t", "email": address()}
    internet.say("GET", "https://api.twitter.com/1.1/account/verify_credentials.json", who)
    started = await site.get("/authorize?provider=twitter")
    assert started.headers["location"] == "https://api.twitter.com/oauth/authenticate?oauth_token=rt"
    sent = internet.calls(request)[-1].headers["Authorization"]
    state = sent.partition("callback%3Fstate%3D")[2][:36]
    answer = await site.get(f"/callback?state={state}&oauth_token=rt&oauth_verifier=v")
    assert fragment_of(answer.headers["location"])["provider_token"] == "at"
    internet.on("POST", request, Reply(b"", 401))
    assert refusal(await site.get("/authorize?provider=twitter")) == (500, "unexpected_failure")


async def test_apple_posts_a_form_with_the_name(site: AuthSite, internet: Internet) -> None:
    issuer = Issuer(internet, "https://appleid.apple.com")
    token = issuer.sign(aud="our-id", sub="a1", email=address(), exp=int(site.clock.seconds()) + 600)
    internet.say("POST", "https://appleid.apple.com/auth/token", {"access_token": "t", "id_token": token})
    for user, name in (
        ('{"name":{"firstName":"Ada","lastName":"L"}}', "Ada L"),
        (None, "Ada L"),
        ("not json", "Ada L"),
    ):
        form = {"state": await begin(site, "apple"), "code": "c"} | ({"user": user} if user else {})
        answer = await site.post("/callback", form=form)
        assert answer.status_code == 302
        claims = claims_of(fragment_of(answer.headers["location"]), site.keyring)
        assert claims["user_metadata"]["full_name"] == name
        site.clock.advance(seconds=1)


async def test_the_same_person_is_the_same_user(site: AuthSite, internet: Internet) -> None:
    email = address()
    who = person(email)
    first = claims_of(fragment_of(await arrive(site, internet, who)), site.keyring)
    who.name, who.emails = "New Name", [(address(), True, True)]
    second = claims_of(fragment_of(await arrive(site, internet, who)), site.keyring)
    assert second["sub"] == first["sub"]
    assert second["email"] == email
    assert second["user_metadata"]["full_name"] == "New Name"


async def test_a_verified_address_joins_the_account_that_has_it(site: AuthSite, internet: Internet) -> None:
    email = address()
    user = await site.create_user(email=email)
    url = await arrive(site, internet, GitHubPerson([(email.upper(), True, True), (address(), False, False)]))
    claims = claims_of(fragment_of(url), site.keyring)
    assert claims["sub"] == user["id"]
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email", "github"]}
    assert (await site.sign_in(email))["user"]["id"] == user["id"]
    entries = await site.rows("select payload from auth.audit_log_entries order by created_at desc limit 5")
    assert "identity_linked" in {entry["payload"]["action"] for entry in entries}


async def test_an_account_without_identities_is_joined_too(site: AuthSite, internet: Internet) -> None:
    email = address()
    user = await site.create_user(email=email)
    await site.run("delete from auth.identities where user_id = $1", user["id"])
    claims = claims_of(fragment_of(await arrive(site, internet, person(email))), site.keyring)
    assert claims["sub"] == user["id"]


async def test_an_unverified_address_joins_nothing(site: AuthSite, internet: Internet) -> None:
    """A new account without address, which cannot come in: whoever has the address keeps it alone."""
    email = address()
    user = await site.create_user(email=email)
    before = len(site.outbox.mails)
    url = await arrive(site, internet, person(email, verified=False))
    assert query_of(url)["error_code"] == "provider_email_needs_verification"
    assert query_of(url)["error"] == "access_denied"
    assert len(site.outbox.mails) == before
    assert [each["id"] for each in await site.rows("select id from auth.users where email = $1", email)] == [user["id"]]


async def test_an_unverified_address_is_asked_for_by_mail(site: AuthSite, internet: Internet) -> None:
    email = address()
    who = person(email, verified=False)
    url = await arrive(site, internet, who)
    assert query_of(url)["error"] == "access_denied"
    assert query_of(url)["error_description"] == (
        "Unverified email with github. A confirmation email has been sent to your github email"
    )
    row = await site.user_row(email)
    assert row["email_confirmed_at"] is None
    assert site.outbox.last(email)
    verified = await site.get(f"/verify?{urlencode(site.outbox.link_parameters(email))}")
    assert claims_of(fragment_of(verified.headers["location"]), site.keyring)["sub"] == row["id"]
    claims = claims_of(fragment_of(await arrive(site, internet, who)), site.keyring)
    assert claims["sub"] == row["id"]


async def test_autoconfirm_trusts_every_address(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(ON, mailer__autoconfirm=True), http=internet) as site:
        email = address()
        user = await site.create_user(email=email)
        claims = claims_of(fragment_of(await arrive(site, internet, person(email, verified=False))), site.keyring)
        assert claims["sub"] == user["id"]
        fresh = claims_of(fragment_of(await arrive(site, internet, person(address(), verified=False))), site.keyring)
        assert fresh["email"]


async def test_unverified_sign_ins_can_be_allowed(database: Database, internet: Internet) -> None:
    settings = changed(ON, mailer__allow_unverified_sign_ins=True)
    async with open_site(database, settings, http=internet) as site:
        url = await arrive(site, internet, person(address(), verified=False))
        user = (await site.get("/user", token=fragment_of(url)["access_token"])).json()
        assert "email_confirmed_at" not in user


async def test_nobody_waits_in_an_account_for_its_owner(site: AuthSite, internet: Internet) -> None:
    """Pre-account takeover: an unconfirmed sign-up of a stranger loses password, identities and metadata (§9)."""
    email = address()
    stranger = {"email": email, "password": "strangers password", "data": {"role": "planted"}}
    assert (await site.post("/signup", stranger)).status_code == 200
    user = await site.user_row(email)
    claims = claims_of(fragment_of(await arrive(site, internet, person(email))), site.keyring)
    assert claims["sub"] == user["id"]
    assert claims["app_metadata"] == {"provider": "github", "providers": ["github"]}
    assert "role" not in claims["user_metadata"]
    row = await site.user_row(email)
    assert not row["encrypted_password"]
    assert row["confirmation_token"] == ""
    identities = await site.rows("select provider from auth.identities where user_id = $1", user["id"])
    assert [each["provider"] for each in identities] == ["github"]
    answer = await site.post("/token?grant_type=password", {"email": email, "password": "strangers password"})
    assert refusal(answer) == (400, "invalid_credentials")


async def test_several_accounts_with_one_address_are_not_guessed_about(site: AuthSite, internet: Internet) -> None:
    email = address()
    first, second = await site.create_user(email=email), await site.create_user(email=address())
    await site.run(
        """insert into auth.identities (id, provider_id, user_id, identity_data, provider)
        values ($1, $2, $3, jsonb_build_object('sub', $2::text, 'email', $4::text), 'gitlab')""",
        str(uuid.uuid4()),
        str(uuid.uuid4()),
        second["id"],
        email,
    )
    url = await arrive(site, internet, person(email))
    assert query_of(url)["error_code"] == "unexpected_failure"
    assert "Multiple accounts with the same email address" in query_of(url)["error_description"]
    assert first["id"] != second["id"]


async def test_linking_domains_keep_accounts_apart(database: Database, internet: Internet) -> None:
    settings = changed(ON, experimental__linking_domains={"github": "social", "gitlab": "social"})
    async with open_site(database, settings, http=internet) as site:
        email = address()
        user = await site.create_user(email=email)
        claims = claims_of(fragment_of(await arrive(site, internet, person(email))), site.keyring)
        assert claims["sub"] != user["id"]
        assert claims["email"] == email
        again = claims_of(fragment_of(await arrive(site, internet, person(email))), site.keyring)
        assert again["sub"] == claims["sub"]
        rows = await site.rows("select is_sso_user from auth.users where email = $1 order by is_sso_user", email)
        assert [row["is_sso_user"] for row in rows] == [False, True]


async def test_single_sign_on_accounts_are_never_joined(site: AuthSite, internet: Internet) -> None:
    email, sso = address(), str(uuid.uuid4())
    await site.run(
        """insert into auth.users (id, instance_id, aud, role, email, is_sso_user, email_confirmed_at)
        values ($1, '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated', $2, true, now())""",
        sso,
        email,
    )
    await site.run(
        """insert into auth.identities (id, provider_id, user_id, identity_data, provider)
        values ($1, 'x', $2, jsonb_build_object('sub', 'x', 'email', $3::text), $4)""",
        str(uuid.uuid4()),
        sso,
        email,
        f"sso:{uuid.uuid4()}",
    )
    claims = claims_of(fragment_of(await arrive(site, internet, person(email))), site.keyring)
    assert claims["sub"] != sso


async def test_closed_signups_keep_strangers_out(database: Database, internet: Internet) -> None:
    async with open_site(database, changed(ON, disable_signup=True), http=internet) as site:
        url = await arrive(site, internet, person(address()))
        assert query_of(url)["error"] == "access_denied"
        assert query_of(url)["error_code"] == "signup_disabled"


async def test_a_banned_user_stays_out(site: AuthSite, internet: Internet) -> None:
    email = address()
    who = person(email)
    await arrive(site, internet, who)
    await site.run("update auth.users set banned_until = '2999-01-01' where email = $1", email)
    url = await arrive(site, internet, who)
    assert (query_of(url)["error"], query_of(url)["error_code"]) == ("access_denied", "user_banned")


async def test_parallel_first_sign_ins_make_one_user(site: AuthSite, internet: Internet) -> None:
    email = address()
    person(email).publish(internet)
    states = [await begin(site) for _ in range(4)]
    answers = await asyncio.gather(*(come_back(site, state) for state in states))
    assert len(await site.rows("select 1 from auth.users where email = $1", email)) == 1
    assert any("access_token=" in answer.headers["location"] for answer in answers)


async def test_an_invitation_is_accepted_by_a_provider(site: AuthSite, internet: Internet) -> None:
    email = address()
    assert (await site.admin("POST", "/invite", {"email": email, "data": {"team": "a"}})).status_code == 200
    token = site.outbox.link_parameters(email)["token"]
    other = await arrive(site, internet, person(address()), invite_token=token)
    assert query_of(other)["error_code"] == "validation_failed"
    claims = claims_of(fragment_of(await arrive(site, internet, person(email), invite_token=token)), site.keyring)
    assert claims["email"] == email
    assert claims["app_metadata"] == {"provider": "github", "providers": ["github"]}
    row = await site.user_row(email)
    assert row["email_confirmed_at"]
    assert row["confirmation_token"] == ""
    gone = await site.get(f"/authorize?provider=github&invite_token={token}")
    assert refusal(gone) == (404, "user_not_found")


async def test_the_error_keeps_what_the_address_had(site: AuthSite, internet: Internet) -> None:
    url = await arrive(site, internet, GitHubPerson(), redirect_to="https://app.example.com/a?keep=1&error=old#frag")
    assert parse_qs(urlsplit(url).query)["error"] == ["server_error"]
    assert query_of(url)["keep"] == "1"
    assert list(fragment_of(url)) == ["error", "error_code", "error_description", "sb"]


async def test_before_user_created_decides_about_strangers_only(database: Database, internet: Internet) -> None:
    from socle_platform.config.auth import HookSettings

    hook = HookSettings(enabled=True, uri="pg-functions://postgres/public/only_example_com")
    async with open_site(database, changed(ON, hooks={"before_user_created": hook}), http=internet) as site:
        async with site.database.as_service("platform") as connection:
            await connection.execute(
                """create function public.only_example_com(event jsonb) returns jsonb language sql as $$
                select case when event->'user'->>'email' like '%@example.com' then '{}'::jsonb
                    else '{"error":{"http_code":403,"message":"not from there"}}'::jsonb end $$"""
            )
        url = await arrive(site, internet, person(f"x{next(_numbers)}@elsewhere.example"))
        assert query_of(url)["error_description"] == "not from there"
        assert query_of(url)["error"] == "access_denied"
        who = person(address())
        assert "access_token=" in await arrive(site, internet, who)
        who.emails = [("moved@elsewhere.example", True, True)]
        assert "access_token=" in await arrive(site, internet, who)
