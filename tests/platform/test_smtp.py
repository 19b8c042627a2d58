"""Mail over SMTP, against a real server (contracts/auth.md §7.6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from harness.mail_server import USER, started_mail_server
from harness.postgres import free_port
from socle_platform import smtp
from socle_platform.config.auth_messages import SmtpSettings
from socle_platform.ports import Mail
from socle_platform.smtp import MailNotSent, SmtpMailer, render_message

MAIL = Mail("ada@example.com", "Bonjour à tous", "<p>Café</p>", "Café\n", kind="signup")
URL = "https://api.example.com/auth/v1"


async def test_starttls_login_and_both_parts(tmp_path: Path) -> None:
    async with started_mail_server(tmp_path) as server:
        headers = {"X-Kind": ("it is $messageType", "second"), "Subject": ("not this",)}
        mailer = SmtpMailer(server.settings(headers=headers), URL, tls_context=server.trust)
        await mailer.send(MAIL)
        (mail,) = server.mails
        assert (mail.sender, mail.recipients) == ("app@example.com", ["ada@example.com"])
        assert (mail.encrypted, mail.user) == (True, USER)
        assert server.greetings[-1] == "api.example.com"
        assert mail.message["from"] == "The App <app@example.com>"
        assert mail.message["subject"] == "Bonjour à tous"
        assert mail.message.get_all("x-kind") == ["it is signup", "second"]
        assert mail.message.get_content_type() == "multipart/alternative"
        assert (mail.part("plain"), mail.part("html").strip()) == ("Café\n", "<p>Café</p>")
        assert mail.message["message-id"].endswith("@api.example.com>")


async def test_encrypted_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started_mail_server(tmp_path, implicit=True) as server:
        monkeypatch.setattr(smtp, "_IMPLICIT_TLS", server.port)
        await SmtpMailer(server.settings(user=""), URL, tls_context=server.trust).send(MAIL)
        assert server.mails[0].encrypted


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with started_mail_server(tmp_path) as server:
        with pytest.raises(MailNotSent, match="certificate"):
            await SmtpMailer(server.settings(), URL).send(MAIL)
        assert server.mails == []


async def test_a_password_is_not_sent_in_the_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with started_mail_server(tmp_path, tls=False) as server:
        monkeypatch.setattr(smtp, "_LOCAL", frozenset[str]())
        with pytest.raises(MailNotSent, match="no encryption"):
            await SmtpMailer(server.settings(), URL).send(MAIL)
        await SmtpMailer(server.settings(user=""), URL).send(MAIL)
        assert [mail.encrypted for mail in server.mails] == [False]


async def test_wrong_logins_refused_mails_and_dead_servers(tmp_path: Path) -> None:
    async with started_mail_server(tmp_path) as server:
        with pytest.raises(MailNotSent, match="535"):
            await SmtpMailer(server.settings(password="wrong"), URL, tls_context=server.trust).send(MAIL)
        server.refuse = "554 not today"
        with pytest.raises(MailNotSent, match="not today"):
            await SmtpMailer(server.settings(), URL, tls_context=server.trust).send(MAIL)
    with pytest.raises(MailNotSent, match=r"127.0.0.1:\d+"):
        await SmtpMailer(SmtpSettings(host="127.0.0.1", port=free_port(), admin_email="a@b.c"), URL).send(MAIL)


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "SECONDS", 0.2)
    waiting = asyncio.Event()

    async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await waiting.wait()
        writer.close()

    listening = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = int(listening.sockets[0].getsockname()[1])
    with pytest.raises(MailNotSent, match=r"no answer|timed out|Timed out"):
        await SmtpMailer(SmtpSettings(host="127.0.0.1", port=port, admin_email="a@b.c"), URL).send(MAIL)
    waiting.set()
    listening.close()


@pytest.mark.parametrize("evil", ["a\r\nBcc: victim@example.com", "a\nBcc: v@e.c", "a\x00b", "a\r\n\r\nbody"])
def test_no_value_adds_a_header(evil: str) -> None:
    settings = SmtpSettings(admin_email="app@example.com", sender_name=evil, headers={"X-A": ("$messageType",)})
    message = render_message(replace(MAIL, subject=evil, kind=evil), settings, "example.com")
    raw = message.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0]
    assert b"\r\nBcc" not in head
    assert message["bcc"] is None
    assert message["subject"].startswith("a")
    assert set(message.keys()) == {"From", "To", "Subject", "Date", "Message-ID", "X-A", "MIME-Version", "Content-Type"}
