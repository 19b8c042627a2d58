"""Each mail of the service as a real mail server gets it, and what happens when that server is dead (§7.6, issue)."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, open_site, refusal
from harness.mail_server import Delivered, MailServer, started_mail_server
from socle_auth.context import Call
from socle_auth.mailing import Letter, MailKind, notify
from socle_auth.store import users
from socle_platform.config.auth import AuthSettings
from socle_platform.config.auth_messages import NOTIFICATIONS
from socle_platform.db import Database
from socle_platform.smtp import SmtpMailer

NEW = {"email": "ada@example.com", "password": PASSWORD}


@asynccontextmanager
async def mailing_site(
    database: Database, folder: Path, settings: AuthSettings | None = None, **server: Any
) -> AsyncGenerator[tuple[AuthSite, MailServer]]:
    settings = settings or changed(smtp__max_frequency=0.0)
    async with started_mail_server(folder, **server) as mail_server, open_site(database, settings) as site:
        mailer = SmtpMailer(mail_server.settings(), settings.external_url, tls_context=mail_server.trust)
        object.__setattr__(site.service, "resources", replace(site.service.resources, mailer=mailer))
        yield site, mail_server


def code_in(mail: Delivered) -> str:
    match = re.search(r"^(\d{6})$", mail.part("plain"), re.MULTILINE)
    assert match is not None
    return match[1]


async def test_a_mail_server_gets_each_mail(database: Database, tmp_path: Path) -> None:
    notifications = frozenset(NOTIFICATIONS)
    settings = changed(smtp__max_frequency=0.0, mailer__notifications=notifications)
    async with mailing_site(database, tmp_path, settings) as (site, server):

        def last(to: str = "ada@example.com") -> Delivered:
            mail = server.mails[-1]
            assert (mail.recipients, mail.encrypted) == ([to], True)
            return mail

        await site.post("/signup", {**NEW, "data": {"locale": "fr"}})
        assert last().message["subject"] == "Confirmez votre adresse e-mail"
        confirm = {"type": "email", "email": "ada@example.com", "token": code_in(last())}
        session = (await site.post("/verify", confirm)).json()
        token = session["access_token"]
        await site.post("/recover", {"email": "ada@example.com"})
        assert "type=recovery" in last().part("html")
        await site.post("/otp", {"email": "ada@example.com"})
        assert "type=magiclink" in last().part("html")
        await site.get("/reauthenticate", token=token)
        assert code_in(last()) in last().message["subject"]
        await site.admin("POST", "/invite", {"email": "bob@example.com"})
        assert last("bob@example.com").message["subject"] == "You've been invited"
        await site.put("/user", {"password": "another good password"}, token=token)
        assert last().message["subject"] == "Votre mot de passe a été modifié"
        await site.put("/user", {"email": "new@example.com"}, token=token)
        change = {mail.recipients[0]: mail for mail in server.mails[-2:]}
        assert change.keys() == {"ada@example.com", "new@example.com"}
        assert "new@example.com" in change["ada@example.com"].part("plain")
        for number in range(2):
            to = ("ada@example.com", "new@example.com")[number]
            body = {"type": "email_change", "email": to, "token": code_in(change[to])}
            assert (await site.post("/verify", body)).status_code == 200
        mail = last()
        assert "de ada@example.com à new@example.com" in mail.part("plain")


@pytest.mark.parametrize("name", NOTIFICATIONS)
async def test_each_notification_arrives(database: Database, tmp_path: Path, name: str) -> None:
    settings = changed(mailer__notifications=frozenset({name}))
    async with mailing_site(database, tmp_path, settings) as (site, server):
        user_id = (await site.create_user(phone="15550101234"))["id"]
        async with site.service.connect() as connection:
            user = await users.find(connection, user_id)
            assert user is not None
            letter = Letter(
                MailKind(f"{name}_notification"),
                user,
                old_email="old@example.com",
                old_phone="15550104321",
                provider="github",
                factor_type="totp",
            )
            await notify(site.service, connection, Call("POST", "/"), letter)
        (mail,) = server.mails
        assert "ada@example.com" in mail.part("plain") + mail.part("html")


async def test_only_notifications_that_are_on_are_sent(database: Database, tmp_path: Path) -> None:
    async with mailing_site(database, tmp_path) as (site, server):
        session = await site.signed_in()
        await site.put("/user", {"password": "another good password"}, token=session["access_token"])
        assert server.mails == []


DEAD = "554 the server is out of order"


@pytest.mark.parametrize("words", [DEAD, ""])
async def test_a_dead_server_leaves_nothing_behind(database: Database, tmp_path: Path, words: str) -> None:
    """500 with the contract's words, and neither user nor code nor the moment that the next try would wait from."""
    async with mailing_site(database, tmp_path, changed(smtp__max_frequency=60.0)) as (site, server):
        if words:
            server.refuse = words
        else:
            mailer = SmtpMailer(server.settings(port=1), site.service.settings.external_url)
            object.__setattr__(site.service, "resources", replace(site.service.resources, mailer=mailer))
        answer = await site.post("/signup", NEW)
        assert refusal(answer) == (500, "unexpected_failure")
        assert answer.json()["message"] == "Error sending confirmation email"
        assert await site.rows("select 1 from auth.users") == []
        user = await site.create_user()
        answer = await site.post("/recover", {"email": user["email"]})
        assert (answer.status_code, answer.json()["message"]) == (500, "Error sending recovery email")
        row = await site.user_row()
        assert (row["recovery_token"] or "", row["recovery_sent_at"]) == ("", None)
        answer = await site.post("/otp", {"email": user["email"]})
        assert answer.json()["message"] == "Error sending magic link email"
        answer = await site.admin("POST", "/invite", {"email": "bob@example.com"})
        assert answer.json()["message"] == "Error sending invite email"
        assert len(await site.rows("select 1 from auth.users")) == 1
        token = (await site.sign_in())["access_token"]
        answer = await site.put("/user", {"email": "new@example.com"}, token=token)
        assert answer.json()["message"] == "Error sending email change email"
        assert (await site.user_row())["email_change"] in ("", None)
        answer = await site.get("/reauthenticate", token=token)
        assert answer.json()["message"] == "Error sending reauthentication email"
        assert await site.rows("select 1 from auth.one_time_tokens") == []


async def test_a_notification_that_fails_is_not_the_callers_problem(database: Database, tmp_path: Path) -> None:
    settings = changed(mailer__notifications=frozenset({"password_changed"}))
    async with mailing_site(database, tmp_path, settings) as (site, server):
        session = await site.signed_in()
        server.refuse = DEAD
        answer = await site.put("/user", {"password": "another good password"}, token=session["access_token"])
        assert answer.status_code == 200
        assert any("password_changed" in str(observation) for observation in site.observations)


async def test_a_projects_own_template(database: Database, tmp_path: Path) -> None:
    (tmp_path / "confirm.html").write_text(
        '{{ if eq .Data.lang "de" }}Hallo{{ else }}Hello{{ end }} {{ .Data.name }}: <a href="{{ .SiteURL }}/go'
        '?token_hash={{ .TokenHash }}&next={{ .RedirectTo }}">{{ .Token }}</a>'
    )
    settings = changed(
        mailer__templates={"confirmation": str(tmp_path / "confirm.html")},
        mailer__subjects={"confirmation": "{{ .Data.name }}"},
    )
    async with mailing_site(database, tmp_path, settings) as (site, server):
        data = {"lang": "de", "name": "<script>\r\nBcc: eve@example.com"}
        await site.post("/signup?redirect_to=https://app.example.com/a", {**NEW, "data": data})
        (mail,) = server.mails
        html = mail.part("html")
        assert html.startswith("Hallo &lt;script&gt;")
        token_hash = (await site.user_row())["confirmation_token"]
        assert f'href="http://localhost:3000/go?token_hash={token_hash}&next=https%3A%2F%2Fapp.example.com%2Fa"' in html
        assert mail.message["subject"] == "<script> Bcc: eve@example.com"
        assert mail.message["bcc"] is None
        assert mail.recipients == ["ada@example.com"]
