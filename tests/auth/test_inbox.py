"""The built-in inbox: what stays in it, its pages, Mailpit's API, and who may look (issue, «Mail»)."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, open_site
from socle_auth.inbox import delivery
from socle_auth.inbox.app import Inbox
from socle_auth.inbox.reading import find_code, find_links
from socle_auth.inbox.search import parse_search
from socle_auth.store.inbox import Filter, StoredMessage
from socle_platform.config.auth_messages import InboxSettings
from socle_platform.db import Database

WITH_INBOX = changed(inbox=InboxSettings(enabled=True, texts=True), external__phone_enabled=True)


@asynccontextmanager
async def open_inbox(
    database: Database, *, is_open: bool = True, **parts: Any
) -> AsyncGenerator[tuple[AuthSite, httpx.AsyncClient]]:
    """The service without a mail server, and a browser before its inbox."""
    async with open_site(database, changed(WITH_INBOX, **parts)) as site:
        object.__setattr__(site.service, "resources", replace(site.service.resources, mailer=None))
        transport = httpx.ASGITransport(app=Inbox(site.service, is_open=is_open))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:54324") as client:
            yield site, client


async def sign_up(site: AuthSite, email: str = "ada@example.com", **data: Any) -> None:
    answer = await site.post("/signup", {"email": email, "password": PASSWORD, "data": data})
    assert answer.status_code == 200, answer.text


async def test_a_code_from_the_inbox_signs_in(database: Database) -> None:
    async with open_inbox(database) as (site, client):
        await sign_up(site)
        listed = (await client.get("/api/v1/messages")).json()
        assert (listed["total"], listed["unread"], listed["count"], listed["start"]) == (1, 1, 1, 0)
        summary = listed["messages"][0]
        assert summary["To"] == [{"Name": "", "Address": "ada@example.com"}]
        assert summary["Subject"] == "Confirm your email address"
        assert (summary["Read"], summary["Attachments"]) == (False, 0)
        message = (await client.get(f"/api/v1/message/{summary['ID']}")).json()
        assert "<h1" in message["HTML"]
        code = next(line for line in message["Text"].splitlines() if line.isdigit())
        answer = await site.post("/verify", {"type": "email", "email": "ada@example.com", "token": code})
        assert answer.json()["user"]["email"] == "ada@example.com"
        assert (await client.get("/api/v1/messages")).json()["unread"] == 0
        headers = (await client.get(f"/api/v1/message/{summary['ID']}/headers")).json()
        assert headers["To"] == ["ada@example.com"]
        raw = (await client.get(f"/api/v1/message/{summary['ID']}/raw")).text
        assert "multipart/alternative" in raw


async def test_a_mail_comes_or_goes_with_what_it_is_about(database: Database) -> None:
    async with open_inbox(database) as (site, client):
        await site.run(
            """create function auth.refuse() returns trigger language plpgsql as $$
            begin if new.confirmation_token <> '' then raise 'no'; end if; return new; end $$"""
        )
        await site.run("create trigger refuse before update on auth.users for each row execute function auth.refuse()")
        answer = await site.post("/signup", {"email": "ada@example.com", "password": PASSWORD})
        assert answer.status_code == 500
        assert (await client.get("/api/v1/messages")).json()["total"] == 0


async def test_text_messages_stay_there_too(database: Database) -> None:
    async with open_inbox(database) as (site, client):
        answer = await site.post("/otp", {"phone": "+15550101234"})
        assert answer.status_code == 200, answer.text
        message = (await client.get("/api/v1/message/latest")).json()
        assert (message["To"][0]["Address"], message["Tags"], message["HTML"]) == ("+15550101234", ["sms"], "")
        code = message["Text"].removeprefix("Your code is ")
        answer = await site.post("/verify", {"type": "sms", "phone": "15550101234", "token": code})
        assert answer.json()["user"]["phone"] == "15550101234"


async def test_searching_marking_and_deleting(database: Database) -> None:
    async with open_inbox(database) as (site, client):
        for name in ("ada", "bob", "eve"):
            await sign_up(site, f"{name}@example.com", locale="fr" if name == "eve" else "en")

        async def found(query: str) -> list[str]:
            answer = (await client.get("/api/v1/search", params={"query": query})).json()
            assert answer["messages_count"] == answer["count"]
            return sorted(message["To"][0]["Address"].partition("@")[0] for message in answer["messages"])

        assert await found("") == ["ada", "bob", "eve"]
        assert await found("to:ADA") == ["ada"]
        assert await found('subject:"votre adresse"') == ["eve"]
        assert await found("example -to:bob") == ["ada", "eve"]
        assert await found("100%") == await found("'; drop table x") == []
        await client.get("/view/latest", follow_redirects=True)
        read = await found("is:read")
        assert len(read) == 1
        assert len(await found("is:unread")) == 2
        first = (await client.get("/api/v1/search", params={"query": "to:ada"})).json()["messages"][0]["ID"]
        await client.put("/api/v1/messages", json={"IDs": [first], "Read": True})
        assert "ada" in await found("is:read")
        page = (await client.get("/api/v1/messages", params={"limit": 1, "start": 1})).json()
        assert (page["count"], page["messages_count"], page["start"]) == (1, 3, 1)
        assert (await client.request("DELETE", "/api/v1/messages", json={"IDs": [first]})).text == "ok"
        assert await found("") == ["bob", "eve"]
        assert (await client.delete("/api/v1/search")).status_code == 400
        await client.delete("/api/v1/search", params={"query": "to:eve"})
        assert await found("") == ["bob"]
        assert (await client.request("DELETE", "/api/v1/messages", content=b"nonsense")).status_code == 400
        await client.delete("/api/v1/messages")
        assert await found("") == []
        assert (await client.get("/api/v1/message/latest")).status_code == 404
        assert (await client.get("/api/v1/info")).json()["Messages"] == 0


async def test_pages_run_nothing_of_a_message(database: Database) -> None:
    evil = "<script>alert(1)</script>"
    async with open_inbox(
        database,
        mailer__contents={"confirmation": "<b>{{ .Token }}</b><script>x()</script>{{ .ConfirmationURL }}"},
        mailer__subjects={"confirmation": "{{ .Data.name }}"},
    ) as (site, client):
        await sign_up(site, name=evil)
        listing = await client.get("/")
        assert evil not in listing.text
        assert "&lt;script&gt;alert(1)" in listing.text
        policy = listing.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        place = (await client.get("/view/latest")).headers["location"]
        for view in ("html", "text", "source", "links", "nonsense"):
            page = await client.get(f"/view/{place}", params={"view": view})
            assert page.status_code == 200
            assert "x()</script>" not in page.text
            assert evil not in page.text
        assert 'id="copy" data-code="' in page.text
        assert "token=" in page.text
        shown = await client.get(f"/view/{place}.html")
        assert "x()" in shown.text
        assert shown.headers["content-security-policy"].startswith("sandbox allow-popups ")
        assert "allow-scripts" not in shown.headers["content-security-policy"]
        assert "script-src" not in shown.headers["content-security-policy"]
        assert "token=" in (await client.get(f"/view/{place}.txt")).text
        assert (await client.get("/view/none")).status_code == 404
        assert (await client.get("/view/none.html")).status_code == 404


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Host": "127.0.0.1:54324"}, 200),
        ("GET", {"Host": "[::1]:54324"}, 200),
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "localhost.evil.example"}, 403),
        ("GET", {"Origin": "https://evil.example"}, 403),
        ("DELETE", {"Origin": "null"}, 403),
        ("DELETE", {"Origin": "http://localhost:54324"}, 200),
        ("DELETE", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
async def test_no_other_site_looks_in(database: Database, method: str, headers: dict[str, str], status: int) -> None:
    async with open_inbox(database) as (_, client):
        answer = await client.request(method, "/api/v1/messages", headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] not in ("*", "null", "https://evil.example")


async def test_elsewhere_the_service_key_opens_it(database: Database) -> None:
    async with open_inbox(database, is_open=False) as (site, client):
        refused = await client.get("/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        service, anon = site.admin_token(), site.admin_token("anon")

        async def status(**headers: str) -> int:
            return (await client.get("/api/v1/messages", headers=headers)).status_code

        def basic(password: str) -> str:
            return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

        assert await status(apikey=service) == 200
        assert await status(authorization=f"Bearer {service}") == 200
        assert await status(authorization=basic(service)) == 200
        assert await status(apikey=anon) == await status(authorization=basic(anon)) == 401
        assert await status(authorization="Basic ???") == await status(authorization=basic("x")) == 401
        assert await status(apikey=service, host="mail.example.com") == 200


async def test_it_is_bounded_in_number_and_age(database: Database) -> None:
    async with open_inbox(database, inbox__most=3, inbox__age=3600.0) as (site, client):
        for number in range(5):
            await sign_up(site, f"user{number}@example.com")
            site.clock.advance(seconds=1)
        assert await delivery.trim_once(site.service) == 2
        listed = (await client.get("/api/v1/messages")).json()["messages"]
        assert [message["To"][0]["Address"][:5] for message in listed] == ["user4", "user3", "user2"]
        site.clock.advance(minutes=59, seconds=58)
        assert await delivery.trim_once(site.service) == 1
        site.clock.advance(hours=1)
        assert await delivery.trim_once(site.service) == 2
        assert await delivery.trim_once(site.service) == 0


async def test_where_it_is_off_mails_are_dropped(database: Database) -> None:
    async with open_inbox(database, inbox=InboxSettings()) as (site, _):
        await sign_up(site)
        assert await site.rows("select 1 from socle.inbox_messages") == []


def stored(body: str, html: str = "") -> StoredMessage:
    return StoredMessage("1", "mail", datetime.now(UTC), "", "", "", body, 0, is_read=False, html=html)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Your code is 123456", "123456"),
        ("Code: 0123456789.", "0123456789"),
        ("https://x.example/?token=123456789", ""),
        ("call +15550101234", ""),
        ("12345 is too short", ""),
        ("http://a/123456 then 654321", "654321"),
    ],
)
def test_the_code_in_a_message(text: str, code: str) -> None:
    assert find_code(stored(text)) == code


def test_the_links_in_a_message() -> None:
    html = '<a href="https://a.example/x?y&amp;z">a</a><a href="javascript:alert(1)">b</a><a href="com.app://in">c</a>'
    assert find_links(stored("see https://b.example/ and https://a.example/x?y&z", html)) == [
        "https://a.example/x?y&z",
        "com.app://in",
        "https://b.example/",
    ]


def test_the_search_language() -> None:
    assert parse_search('a "b c" to:x !from:"y z" is:unread foo:bar') == Filter(
        ((None, "a"), (None, "b c"), ("to", "x"), (None, "foo:bar")), (("from", "y z"),), is_read=False
    )
    assert parse_search("-is:read").is_read is False
    assert parse_search("") == Filter()
