"""Single sign-on from the request to the session, and the care of identity providers (contract §3.13, §3.15)."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio

pytest.importorskip("signxml")

from harness.auth_site import FAST, SITE, AuthSite, changed, claims_of, fragment_of, open_site, query_of, refusal
from harness.internet import Internet, started_internet
from harness.postgres import TestServer
from harness.saml import (
    IdentityServer,
    Statement,
    encrypt,
    packed,
    private_text,
    read_request,
    rsa_key,
)
from harness.site import Reply
from socle_auth.sso import xml
from socle_platform.config.auth_external import SamlSettings
from socle_platform.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")
BASE = "/admin/sso/providers"
SAML = SamlSettings(enabled=True, private_key=private_text("ours"), allow_encrypted_assertions=True)
ACS = f"{FAST.external_url}/sso/saml/acs"
AUDIENCE = f"{FAST.external_url}/sso/saml/metadata"
APP = "https://app.example.com/done"
_numbers = itertools.count(1)


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
    rates = replace(FAST.rates, sso=10_000, saml_assertion=10_000)
    async with open_site(database, changed(saml=SAML, rates=rates), http=internet) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _later(site: AuthSite) -> None:
    """Buckets fill again between tests."""
    site.clock.advance(hours=1)


class Corp(IdentityServer):
    """An identity provider of its own for a test; it signs with the key of one name for all, keys being dear."""

    def metadata(self, *, keys: Sequence[str] = ("corp",), attributes: str = "", entity_id: str = "") -> str:
        return super().metadata(keys=keys, attributes=attributes, entity_id=entity_id)

    def answer(
        self,
        said: Statement,
        *,
        signed: str = "assertion",
        signer: str = "corp",
        encrypted: Callable[[str], str] | None = None,
        **choices: Any,
    ) -> str:
        return super().answer(said, signed=signed, signer=signer, encrypted=encrypted, **choices)


def fresh() -> Corp:
    return Corp(f"corp{next(_numbers)}")


async def register(site: AuthSite, corp: Corp, **fields: Any) -> dict[str, Any]:
    answer = await site.admin("POST", BASE, {"type": "saml", "metadata_xml": corp.metadata(), **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def begin(site: AuthSite, provider_id: str, **fields: Any) -> tuple[str, str]:
    """RelayState and request id of a sign-in that has been begun."""
    body = {"provider_id": provider_id, "redirect_to": APP, "skip_http_redirect": True, **fields}
    answer = await site.post("/sso", body)
    assert answer.status_code == 200, answer.text
    query, request = read_request(answer.json()["url"])
    return query["RelayState"], request.get("ID") or ""


def say(site: AuthSite, **parts: Any) -> Statement:
    return Statement(site.clock.now(), ACS, AUDIENCE, **parts)


async def come_back(site: AuthSite, response: str, relay: str = "", **more: str) -> httpx.Response:
    return await site.post("/sso/saml/acs", form={"SAMLResponse": packed(response), "RelayState": relay, **more})


def shown_fault(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, where to, and the code of an error that a browser carries."""
    where = answer.headers["location"]
    return answer.status_code, where.partition("?")[0], query_of(where).get("error_code", "")


async def sign_in(site: AuthSite, corp: Corp, provider_id: str, **parts: Any) -> dict[str, str]:
    """The fragment of a whole sign-in."""
    relay, request_id = await begin(site, provider_id)
    answer = await come_back(site, corp.answer(say(site, in_response_to=request_id, **parts)), relay)
    assert answer.status_code == 302, answer.headers
    assert answer.headers["location"].startswith(f"{APP}#"), answer.headers["location"]
    return fragment_of(answer.headers["location"])


async def test_a_sign_in(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp, attribute_mapping={"keys": {"full_name": {"name": "cn"}, "team": {"name": "t"}}})
    attributes = {"email": ["Ada@Corp.example"], "cn": ["Ada L"], "t": ["blue"]}
    session = await sign_in(site, corp, made["id"], attributes=attributes, session_until=timedelta(hours=8))
    claims = claims_of(session, site.keyring)
    assert claims["amr"] == [{"method": "sso/saml", "timestamp": int(site.clock.seconds()), "provider": made["id"]}]
    assert claims["app_metadata"] == {"provider": f"sso:{made['id']}", "providers": [f"sso:{made['id']}"]}
    assert claims["email"] == "ada@corp.example"
    user = (await site.get("/user", token=session["access_token"])).json()
    assert user["email_confirmed_at"]
    (identity,) = user["identities"]
    assert (identity["provider"], identity["id"]) == (f"sso:{made['id']}", "ada-1")
    assert identity["identity_data"]["iss"] == corp.entity_id
    assert identity["identity_data"]["full_name"] == "Ada L"
    assert identity["identity_data"]["custom_claims"] == {"team": "blue"}
    row = await site.row("select is_sso_user from auth.users where id = $1", user["id"])
    assert row["is_sso_user"] is True
    kept = await site.row("select not_after from auth.sessions where id = $1", claims["session_id"])
    assert kept["not_after"] == site.clock.now() + timedelta(hours=8)
    assert await site.rows("select id from auth.flow_state where provider_type = 'sso/saml'") == []


async def test_the_same_person_is_the_same_user(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    first = claims_of(await sign_in(site, corp, made["id"]), site.keyring)
    later = {"mail": ["new@corp.example"]}
    second = claims_of(await sign_in(site, corp, made["id"], attributes=later), site.keyring)
    assert first["sub"] == second["sub"]
    colleague = await sign_in(site, corp, made["id"], subject="bob", attributes={"mail": ["bob@corp.example"]})
    other = claims_of(colleague, site.keyring)
    assert other["sub"] != first["sub"]


async def test_accounts_of_single_sign_on_stay_apart(site: AuthSite) -> None:
    """Neither a registered user nor another provider's user with the address is joined, before or afterwards."""
    address = f"shared{next(_numbers)}@corp.example"
    registered = await site.create_user(email=address)
    users = {registered["id"]}
    for corp in (fresh(), fresh()):
        made = await register(site, corp)
        session = await sign_in(site, corp, made["id"], attributes={"email": [address]})
        users.add(claims_of(session, site.keyring)["sub"])
    assert len(users) == 3
    assert (await site.sign_in(address))["user"]["id"] == registered["id"]


async def test_managed_users_do_not_change_themselves(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    session = await sign_in(site, corp, made["id"])
    for change in ({"password": "another long password"}, {"email": "x@corp.example"}):
        answer = await site.put("/user", change, token=session["access_token"])
        assert refusal(answer) == (422, "user_sso_managed")


async def test_a_sign_in_with_pkce(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    verifier = "v" * 50
    relay, request_id = await begin(site, made["id"], code_challenge=verifier, code_challenge_method="plain")
    said = say(site, in_response_to=request_id, session_until=timedelta(hours=2))
    answer = await come_back(site, corp.answer(said), relay)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (302, APP)
    code = query_of(answer.headers["location"])["code"]
    assert "access_token" not in answer.headers["location"]
    stolen = await site.post("/token?grant_type=pkce", {"auth_code": code, "code_verifier": "w" * 50})
    assert refusal(stolen) == (400, "bad_code_verifier")
    session = (await site.post("/token?grant_type=pkce", {"auth_code": code, "code_verifier": verifier})).json()
    claims = claims_of(session, site.keyring)
    assert [entry["method"] for entry in claims["amr"]] == ["sso/saml"]
    kept = await site.row("select not_after from auth.sessions where id = $1", claims["session_id"])
    assert kept["not_after"] == said.now + timedelta(hours=2)
    assert await site.rows("select 1 from socle.session_limits") == []


async def test_a_session_ends_when_the_identity_provider_says(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    session = await sign_in(site, corp, made["id"], session_until=timedelta(minutes=30))
    site.clock.advance(minutes=31)
    assert refusal(await site.refresh(session["refresh_token"])) == (400, "session_expired")


async def test_where_the_browser_goes(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp, domains=["Where.example"])
    answer = await site.post("/sso", {"domain": "wHERE.EXAMPLE"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{corp.sign_in_url}?SAMLRequest=")
    relay, request_id = await begin(site, made["id"], redirect_to="https://evil.example/")
    answer = await come_back(site, corp.answer(say(site, in_response_to=request_id)), relay)
    assert answer.headers["location"].startswith(f"{SITE}#access_token=")


async def test_what_a_beginning_refuses(site: AuthSite) -> None:
    made = await register(site, fresh(), disabled=True, domains=["off.example"])
    pkce = {"code_challenge": "short", "code_challenge_method": "s256"}
    for body, expected in (
        ({}, (400, "validation_failed")),
        ({"provider_id": made["id"], "domain": "off.example"}, (400, "validation_failed")),
        ({"provider_id": "no-uuid"}, (400, "validation_failed")),
        ({"provider_id": str(uuid.uuid4())}, (404, "sso_provider_not_found")),
        ({"domain": "unknown.example"}, (404, "sso_provider_not_found")),
        ({"domain": "off.example"}, (404, "sso_provider_disabled")),
        ({"domain": "off.example", **pkce}, (400, "validation_failed")),
    ):
        assert refusal(await site.post("/sso", body)) == expected, body


async def test_saml_can_be_off(database: Database) -> None:
    async with open_site(database, FAST) as off:
        for method, path in (("POST", "/sso"), ("GET", "/sso/saml/metadata"), ("POST", "/sso/saml/acs")):
            assert refusal(await off.send(method, path)) == (404, "saml_provider_disabled")
        assert (await off.admin("GET", BASE)).status_code == 200


async def test_requests_and_answers_are_limited(database: Database, internet: Internet) -> None:
    rates = replace(FAST.rates, sso=2, saml_assertion=1)
    async with open_site(database, changed(saml=SAML, rates=rates), http=internet) as narrow:
        codes = [(await narrow.post("/sso", {"domain": "x.example"})).status_code for _ in range(3)]
        assert codes == [404, 404, 429]
        answers = [await narrow.post("/sso/saml/acs", form={"SAMLResponse": ""}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 429]


async def test_our_metadata(site: AuthSite, database: Database) -> None:
    answer = await site.get("/sso/saml/metadata")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
    assert answer.headers["cache-control"] == "public, max-age=600"
    assert "content-disposition" not in answer.headers
    assert "validUntil" not in answer.text
    download = await site.get("/sso/saml/metadata?download=true")
    assert download.headers["content-disposition"] == 'attachment; filename="metadata.xml"'
    until = site.clock.now() + timedelta(days=5 * 365)
    assert f'validUntil="{until:%Y-%m-%dT%H:%M:%SZ}"' in download.text
    async with open_site(database, changed(saml=replace(SAML, private_key_next=private_text("next")))) as changing:
        answer = await changing.get("/sso/saml/metadata")
        assert answer.headers["cache-control"] == "public, max-age=60"
        assert (await changing.get("/settings")).json()["saml_private_key_next_configured"] is True


async def test_a_relay_state_counts_once(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    relay, request_id = await begin(site, made["id"])
    response = corp.answer(say(site, in_response_to=request_id))
    assert (await come_back(site, response, relay)).status_code == 302
    for again in (relay, str(uuid.uuid4())):
        assert shown_fault(await come_back(site, response, again)) == (303, SITE, "saml_relay_state_not_found")


async def test_a_failed_answer_uses_the_relay_state_up(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    relay, request_id = await begin(site, made["id"])
    said = say(site, in_response_to=request_id)
    wrong = await come_back(site, corp.answer(said, signer="mallory"), relay)
    assert shown_fault(wrong) == (303, SITE, "validation_failed")
    assert query_of(wrong.headers["location"])["error"] == "invalid_request"
    assert shown_fault(await come_back(site, corp.answer(said), relay))[2] == "saml_relay_state_not_found"


async def test_a_relay_state_dies_soon(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    relay, request_id = await begin(site, made["id"])
    site.clock.advance(minutes=2)
    answer = await come_back(site, corp.answer(say(site, in_response_to=request_id)), relay)
    assert shown_fault(answer) == (303, SITE, "saml_relay_state_expired")
    assert "error" not in query_of(answer.headers["location"])


async def test_an_answer_to_another_request_is_refused(site: AuthSite) -> None:
    """Also to another request of ours: a browser cannot be signed in by somebody else's answer."""
    corp = fresh()
    made = await register(site, corp)
    relay, _ = await begin(site, made["id"])
    _, other_request = await begin(site, made["id"])
    answer = await come_back(site, corp.answer(say(site, in_response_to=other_request)), relay)
    assert shown_fault(answer) == (303, SITE, "validation_failed")


async def test_an_answer_of_another_identity_provider_is_refused(site: AuthSite) -> None:
    corp, other = fresh(), Corp("other-corp")
    made = await register(site, corp)
    await register(site, other)
    relay, request_id = await begin(site, made["id"])
    answer = await come_back(site, other.answer(say(site, in_response_to=request_id)), relay)
    assert shown_fault(answer) == (303, SITE, "validation_failed")


@pytest.mark.parametrize(
    ("relay", "target"),
    [("", f"{SITE}#"), (APP, f"{APP}#"), ("https://evil.example/", f"{SITE}#"), ("/inside", f"{SITE}#")],
)
async def test_the_identity_provider_may_begin(site: AuthSite, relay: str, target: str) -> None:
    corp = fresh()
    await register(site, corp)
    answer = await come_back(site, corp.answer(say(site)), relay)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{target}access_token=")


async def test_an_assertion_signs_in_once(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    response = corp.answer(say(site))
    assert (await come_back(site, response)).status_code == 302
    assert shown_fault(await come_back(site, response)) == (303, SITE, "validation_failed")
    relay, request_id = await begin(site, made["id"])
    answered = corp.answer(say(site, in_response_to=request_id))
    assert (await come_back(site, answered, relay)).status_code == 302
    assert shown_fault(await come_back(site, answered)) == (303, SITE, "validation_failed")


async def test_what_an_end_refuses(site: AuthSite) -> None:
    corp = fresh()
    await register(site, corp)
    for form, code in (
        ({"SAMLResponse": ""}, "validation_failed"),
        ({"SAMLResponse": "%%%"}, "validation_failed"),
        ({"SAMLResponse": packed("no xml")}, "validation_failed"),
        ({"SAMLResponse": packed(fresh().answer(say(site)))}, "saml_idp_not_found"),
        ({"SAMLResponse": packed(corp.answer(say(site))), "RelayState": "what"}, "validation_failed"),
        ({"SAMLResponse": packed(corp.answer(say(site), signed="nothing"))}, "validation_failed"),
        (
            {
                "SAMLResponse": packed(
                    corp.answer(say(site, name_format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient"))
                )
            },
            "saml_assertion_no_user_id",
        ),
        ({"SAMLResponse": packed(corp.answer(say(site, attributes={})))}, "saml_assertion_no_email"),
    ):
        answer = await site.post("/sso/saml/acs", form=form)
        assert shown_fault(answer) == (303, SITE, code), form


async def test_a_disabled_provider_signs_nobody_in(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    relay, request_id = await begin(site, made["id"])
    assert (await site.admin("PUT", f"{BASE}/{made['id']}", {"disabled": True})).status_code == 200
    said = say(site, in_response_to=request_id)
    for given in (relay, ""):
        answer = await come_back(site, corp.answer(said), given)
        assert shown_fault(answer) == (303, SITE, "sso_provider_disabled")


async def test_a_banned_user_stays_out(site: AuthSite) -> None:
    corp = fresh()
    made = await register(site, corp)
    user_id = claims_of(await sign_in(site, corp, made["id"]), site.keyring)["sub"]
    await site.admin("PUT", f"/admin/users/{user_id}", {"ban_duration": "1h"})
    relay, request_id = await begin(site, made["id"])
    answer = await come_back(site, corp.answer(say(site, in_response_to=request_id)), relay)
    assert shown_fault(answer) == (303, SITE, "user_banned")
    assert query_of(answer.headers["location"])["error"] == "access_denied"


async def test_signing_up_can_be_off(database: Database, internet: Internet) -> None:
    corp = fresh()
    async with open_site(database, changed(saml=SAML, disable_signup=True), http=internet) as closed:
        await register(closed, corp)
        answer = await come_back(closed, corp.answer(say(closed)))
        assert shown_fault(answer) == (303, SITE, "signup_disabled")


async def test_encrypted_assertions(site: AuthSite) -> None:
    corp = fresh()
    await register(site, corp)
    response = corp.answer(say(site), encrypted=partial(encrypt, public=rsa_key("ours").public_key()))
    assert (await come_back(site, response)).status_code == 302


# Administration


async def test_a_provider_is_kept_shown_changed_and_removed(site: AuthSite) -> None:
    corp = fresh()
    resource = f"res-{next(_numbers)}"
    mapping = {"keys": {"name": {"names": ["a", "b"], "default": "x", "array": False}}}
    made = await register(
        site,
        corp,
        domains=["Ex1.example", "ex1.EXAMPLE", "ex2.example"],
        attribute_mapping=mapping,
        resource_id=resource,
    )
    assert made == {
        "id": made["id"],
        "resource_id": resource,
        "disabled": False,
        "saml": {"entity_id": corp.entity_id, "metadata_xml": corp.metadata(), "attribute_mapping": mapping},
        "domains": [{"domain": "ex1.example"}, {"domain": "ex2.example"}],
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    one = f"{BASE}/{made['id']}"
    assert (await site.admin("GET", one)).json() == made
    assert (await site.admin("GET", f"{BASE}/resource_{resource}")).json() == made
    (listed,) = (await site.admin("GET", f"{BASE}?resource_id={resource}")).json()["items"]
    assert listed == made | {"saml": {"entity_id": corp.entity_id, "attribute_mapping": mapping}}
    assert listed in (await site.admin("GET", BASE)).json()["items"]
    assert listed in (await site.admin("GET", f"{BASE}?resource_id_prefix=res-")).json()["items"]
    assert (await site.admin("GET", f"{BASE}?resource_id_prefix=other")).json() == {"items": []}
    site.clock.advance(minutes=1)
    body: dict[str, Any] = {
        "domains": ["ex2.example", "ex3.example"],
        "attribute_mapping": {"keys": {}},
        "name_id_format": "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
        "resource_id": "",
        "disabled": True,
    }
    changed_one = (await site.admin("PUT", one, body)).json()
    assert changed_one == (await site.admin("GET", one)).json()
    assert [entry["domain"] for entry in changed_one["domains"]] == ["ex2.example", "ex3.example"]
    assert (changed_one["disabled"], "resource_id" in changed_one) == (True, False)
    assert changed_one["saml"]["name_id_format"] == body["name_id_format"]
    assert "attribute_mapping" not in changed_one["saml"]
    assert datetime.fromisoformat(changed_one["updated_at"]) == site.clock.now()
    unchanged = (await site.admin("PUT", one, {})).json()
    assert unchanged == changed_one
    cleared = (await site.admin("PUT", one, {"name_id_format": "", "domains": []})).json()
    assert ("name_id_format" in cleared["saml"], cleared["domains"]) == (False, [])
    assert (await site.admin("DELETE", one)).json()["id"] == made["id"]
    for method in ("GET", "DELETE", "PUT"):
        assert refusal(await site.admin(method, one, {})) == (404, "sso_provider_not_found")
    assert await site.rows("select 1 from auth.sso_domains where sso_provider_id = $1", made["id"]) == []


@pytest.mark.parametrize("name", ["no-uuid", "resource_unknown", "resource_"])
async def test_unknown_providers(site: AuthSite, name: str) -> None:
    assert refusal(await site.admin("GET", f"{BASE}/{name}")) == (404, "sso_provider_not_found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "oidc"}, "validation_failed"),
        ({"metadata_xml": ""}, "validation_failed"),
        ({"metadata_url": "https://idp.example/"}, "validation_failed"),
        ({"metadata_xml": "", "metadata_url": "http://idp.example/"}, "validation_failed"),
        ({"metadata_xml": "", "metadata_url": "https://127.0.0.1/"}, "validation_failed"),
        ({"metadata_xml": "", "metadata_url": "https://localhost/"}, "validation_failed"),
        ({"metadata_xml": "", "metadata_url": "https://[fd00::1]/"}, "validation_failed"),
        ({"metadata_xml": "", "metadata_url": "https://169.254.169.254/latest/"}, "validation_failed"),
        ({"metadata_xml": "<a/>"}, "validation_failed"),
        ({"name_id_format": "urn:x"}, "validation_failed"),
        ({"domains": [" "]}, "validation_failed"),
        ({"domains": ["ada@corp.example"]}, "validation_failed"),
        ({"domains": "corp.example"}, "bad_json"),
        ({"attribute_mapping": {"keys": {"a": "b"}}}, "bad_json"),
        ({"attribute_mapping": {"keys": {"a": {"names": "b"}}}}, "bad_json"),
    ],
)
async def test_what_creating_refuses(site: AuthSite, fields: dict[str, Any], code: str) -> None:
    body = {"type": "saml", "metadata_xml": fresh().metadata(), **fields}
    assert refusal(await site.admin("POST", BASE, body)) == (400, code)


async def test_entities_and_domains_belong_to_one_provider(site: AuthSite) -> None:
    corp, other = fresh(), fresh()
    domain = f"d{next(_numbers)}.example"
    await register(site, corp, domains=[domain])
    twice = {"type": "saml", "metadata_xml": corp.metadata()}
    assert refusal(await site.admin("POST", BASE, twice)) == (422, "saml_idp_already_exists")
    again = {"type": "saml", "metadata_xml": other.metadata(), "domains": [domain.upper()]}
    assert refusal(await site.admin("POST", BASE, again)) == (400, "sso_domain_already_exists")
    made = await register(site, other)
    one = f"{BASE}/{made['id']}"
    assert refusal(await site.admin("PUT", one, {"domains": [domain]})) == (400, "sso_domain_already_exists")
    mismatch = await site.admin("PUT", one, {"metadata_xml": corp.metadata()})
    assert refusal(mismatch) == (400, "saml_entity_id_mismatch")
    for resource in ("same", "SAME"):
        answer = await site.admin("POST", BASE, {**twice, "metadata_xml": fresh().metadata(), "resource_id": resource})
    assert refusal(answer) == (422, "conflict")


async def test_metadata_by_address_is_fetched_and_renewed(site: AuthSite, internet: Internet) -> None:
    corp = fresh()
    url = f"https://{corp.name}.example/metadata"
    body = {"type": "saml", "metadata_url": url}
    assert refusal(await site.admin("POST", BASE, body)) == (400, "saml_metadata_fetch_failed")
    internet.on("GET", url, Reply(b"\xff\xfe"))
    assert refusal(await site.admin("POST", BASE, body)) == (400, "saml_metadata_fetch_failed")
    internet.on("GET", url, Reply(corp.metadata().encode()))
    made = (await site.admin("POST", BASE, body)).json()
    assert (made["saml"]["metadata_url"], made["saml"]["metadata_xml"]) == (url, corp.metadata())
    rolled = corp.metadata(keys=("next",))
    internet.on("GET", url, Reply(rolled.encode()))
    assert shown_fault(await come_back(site, corp.answer(say(site), signer="next")))[2] == "validation_failed"
    site.clock.advance(hours=25)
    asked = len(internet.calls(url))
    assert (await come_back(site, corp.answer(say(site), signer="next"))).status_code == 302
    assert (await come_back(site, corp.answer(say(site), signer="next"))).status_code == 302
    assert len(internet.calls(url)) == asked + 1
    assert shown_fault(await come_back(site, corp.answer(say(site))))[2] == "validation_failed"
    assert (await site.admin("GET", f"{BASE}/{made['id']}")).json()["saml"]["metadata_xml"] == rolled


@pytest.mark.parametrize("answer", [Reply(b"", 503), Reply(b"<a/>"), Reply(Corp("somebody").metadata().encode())])
async def test_metadata_that_cannot_be_renewed_is_used_on(site: AuthSite, internet: Internet, answer: Reply) -> None:
    corp = fresh()
    url = f"https://{corp.name}.example/metadata"
    internet.on("GET", url, Reply(corp.metadata().encode()))
    assert (await site.admin("POST", BASE, {"type": "saml", "metadata_url": url})).status_code == 201
    internet.on("GET", url, answer)
    site.clock.advance(hours=25)
    site.observations.clear()
    assert (await come_back(site, corp.answer(say(site)))).status_code == 302
    assert any("could not be renewed" in str(seen) for seen in site.observations)


async def test_metadata_by_hand_takes_the_place_of_an_address(site: AuthSite, internet: Internet) -> None:
    corp = fresh()
    url = f"https://{corp.name}.example/metadata"
    internet.on("GET", url, Reply(corp.metadata().encode()))
    made = (await site.admin("POST", BASE, {"type": "saml", "metadata_url": url})).json()
    one = f"{BASE}/{made['id']}"
    by_hand = (await site.admin("PUT", one, {"metadata_xml": corp.metadata(keys=("next",))})).json()
    assert "metadata_url" not in by_hand["saml"]
    assert (await come_back(site, corp.answer(say(site), signer="next"))).status_code == 302


async def test_old_metadata_by_hand_is_told_of(site: AuthSite) -> None:
    corp = fresh()
    until = site.clock.now() + timedelta(days=3)
    await register(site, corp, metadata_xml=corp.metadata(attributes=f'validUntil="{until:%Y-%m-%dT%H:%M:%SZ}"'))
    site.observations.clear()
    assert (await come_back(site, corp.answer(say(site)))).status_code == 302
    assert any("please update it" in str(seen) for seen in site.observations)


async def test_administration_needs_an_administrator(site: AuthSite) -> None:
    user = await site.signed_in(email=f"user{next(_numbers)}@example.com")
    for method, path in (("GET", BASE), ("POST", BASE), ("GET", f"{BASE}/{uuid.uuid4()}")):
        assert (await site.send(method, path)).status_code == 401
        assert refusal(await site.send(method, path, token=user["access_token"])) == (403, "not_admin")


async def test_administration_without_the_extra(site: AuthSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "find_spec", dict[str, None]().get)
    answer = await site.admin("POST", BASE, {"type": "saml", "metadata_xml": fresh().metadata()})
    assert refusal(answer) == (404, "saml_provider_disabled")
    assert "socle-platform[saml]" in answer.json()["message"]
