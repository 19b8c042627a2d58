"""A person's whole way with the official clients: confirmation by a code from the inbox, a second factor, an invitation
that a browser follows to the site."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pyotp.totp import TOTP
from supabase import create_client

from harness.chromium import browser, find_chromium
from harness.deno import run_deno
from socle_app.testing import ProjectTemplate, TestPlatform

PASSWORD = "a-good-password-of-mine"
SITE_PAGE = """<!doctype html><title>The site</title>
<script>fetch("/found", { method: "POST", body: JSON.stringify({ path: location.pathname, hash: location.hash }) });
</script>"""
JAVASCRIPT = """
import { createClient } from "npm:@supabase/supabase-js@2";
import { TOTP } from "npm:otpauth@9";
const supabase = createClient(given.url, given.key, { auth: { persistSession: false } });
const email = given.email, password = given.password;
const signedUp = await supabase.auth.signUp({ email, password });
const early = await supabase.auth.signInWithPassword({ email, password });
const found = await (await fetch(`${given.url}/inbox/api/v1/search?query=to:${email}`)).json();
const mail = await (await fetch(`${given.url}/inbox/api/v1/message/${found.messages[0].ID}`)).json();
const token = mail.Text.match(/\\b\\d{6}\\b/)[0];
const wrong = await supabase.auth.verifyOtp({ email, token: token === "000000" ? "000001" : "000000", type: "email" });
const verified = await supabase.auth.verifyOtp({ email, token, type: "email" });
const enrolled = await supabase.auth.mfa.enroll({ factorType: "totp", friendlyName: "phone" });
const before = await supabase.auth.mfa.getAuthenticatorAssuranceLevel();
const code = new TOTP({ secret: enrolled.data.totp.secret }).generate();
const stepped = await supabase.auth.mfa.challengeAndVerify({ factorId: enrolled.data.id, code });
const after = await supabase.auth.mfa.getAuthenticatorAssuranceLevel();
const refreshed = await supabase.auth.refreshSession();
const claims = await supabase.auth.getClaims();
answer({ signedUp, early, wrong, verified, before, stepped, after, refreshed, claims });
"""


class _Site(BaseHTTPRequestHandler):
    """The application at SITE_URL: one page, which tells where it was opened."""

    found: ClassVar[queue.Queue[dict[str, str]]] = queue.Queue()

    def do_GET(self) -> None:
        self._answer(SITE_PAGE.encode())

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        """Says nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a site of somebody who uses Socle."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def confirming(dedicace: ProjectTemplate, site: str) -> Iterator[TestPlatform]:
    """A platform where addresses must be confirmed, for that site."""
    settings = {
        "GOTRUE_MAILER_AUTOCONFIRM": "false",
        "GOTRUE_SITE_URL": site,
        "GOTRUE_MFA_TOTP_ENROLL_ENABLED": "true",
        "GOTRUE_MFA_TOTP_VERIFY_ENABLED": "true",
    }
    with dedicace.platform(settings) as running:
        yield running


def connect(platform: TestPlatform, key: str | None = None) -> Any:
    return create_client(platform.url, key or platform.anon_key)


def new_address() -> str:
    return f"{uuid.uuid4().hex}@example.com"


def latest_mail(platform: TestPlatform, email: str) -> dict[str, Any]:
    """The newest mail to that address, by the Mailpit API of the inbox."""
    with httpx.Client(base_url=f"{platform.url}/inbox/api/v1/") as inbox:
        found = inbox.get("search", params={"query": f"to:{email}"}).json()
        assert found["messages_count"] >= 1, found
        message: dict[str, Any] = inbox.get(f"message/{found['messages'][0]['ID']}").json()
        return message


def code_in(mail: dict[str, Any]) -> str:
    codes = re.findall(r"\b\d{6}\b", mail["Text"])
    assert len(codes) == 1, mail["Text"]
    return str(codes[0])


def link_in(mail: dict[str, Any]) -> str:
    links = re.findall(r"https?://\S+/verify\?\S+", mail["Text"])
    assert len(links) == 1, mail["Text"]
    return str(links[0])


def other_code(code: str) -> str:
    return "000000" if code != "000000" else "000001"


def signed_up(platform: TestPlatform, email: str) -> Any:
    """A client whose address was confirmed by the code of the mail."""
    client = connect(platform)
    answer = client.auth.sign_up({"email": email, "password": PASSWORD})
    assert answer.session is None
    assert answer.user.email_confirmed_at is None
    code = code_in(latest_mail(platform, email))
    with pytest.raises(Exception, match="invalid") as refused:
        client.auth.verify_otp({"email": email, "token": other_code(code), "type": "email"})
    assert getattr(refused.value, "code", "") == "otp_expired"
    verified = client.auth.verify_otp({"email": email, "token": code, "type": "email"})
    assert verified.user.email_confirmed_at is not None
    assert verified.session.user.email == email
    return client


def test_nobody_signs_in_before_the_address_is_confirmed(confirming: TestPlatform) -> None:
    email = new_address()
    connect(confirming).auth.sign_up({"email": email, "password": PASSWORD})
    with pytest.raises(Exception, match="Email not confirmed") as refused:
        connect(confirming).auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert getattr(refused.value, "code", "") == "email_not_confirmed"


def test_a_code_works_once(confirming: TestPlatform) -> None:
    email = new_address()
    signed_up(confirming, email)
    code = code_in(latest_mail(confirming, email))
    with pytest.raises(Exception, match="invalid") as refused:
        connect(confirming).auth.verify_otp({"email": email, "token": code, "type": "email"})
    assert getattr(refused.value, "code", "") == "otp_expired"


def test_supabase_py_signs_up_and_reaches_the_second_level(confirming: TestPlatform) -> None:
    email = new_address()
    client = signed_up(confirming, email)
    enrolled = client.auth.mfa.enroll({"factor_type": "totp", "friendly_name": "phone"})
    assert enrolled.totp.qr_code.startswith("data:image/svg+xml")
    uri = urlsplit(str(enrolled.totp.uri))
    assert (uri.scheme, parse_qs(uri.query)["secret"]) == ("otpauth", [enrolled.totp.secret])
    levels = client.auth.mfa.get_authenticator_assurance_level()
    assert (levels.current_level, levels.next_level) == ("aal1", "aal1")

    code = TOTP(enrolled.totp.secret).now()
    with pytest.raises(Exception, match="Invalid TOTP") as refused:
        client.auth.mfa.challenge_and_verify({"factor_id": enrolled.id, "code": other_code(code)})
    assert getattr(refused.value, "code", "") == "mfa_verification_failed"
    client.auth.mfa.challenge_and_verify({"factor_id": enrolled.id, "code": code})
    levels = client.auth.mfa.get_authenticator_assurance_level()
    assert (levels.current_level, levels.next_level) == ("aal2", "aal2")
    assert [method.method for method in levels.current_authentication_methods] == ["totp", "otp"]
    client.auth.refresh_session()
    assert client.auth.mfa.get_authenticator_assurance_level().current_level == "aal2"

    again = connect(confirming)
    again.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    levels = again.auth.mfa.get_authenticator_assurance_level()
    assert (levels.current_level, levels.next_level) == ("aal1", "aal2")
    assert [factor.status for factor in again.auth.mfa.list_factors().totp] == ["verified"]


async def test_supabase_js_signs_up_and_reaches_the_second_level(confirming: TestPlatform) -> None:
    email = new_address()
    found = await run_deno(JAVASCRIPT, url=confirming.url, key=confirming.anon_key, email=email, password=PASSWORD)
    assert found["signedUp"]["error"] is None
    assert found["signedUp"]["data"]["session"] is None
    assert found["early"]["error"]["code"] == "email_not_confirmed"
    assert found["wrong"]["error"]["code"] == "otp_expired"
    assert found["verified"]["error"] is None
    assert found["verified"]["data"]["user"]["email"] == email
    assert found["before"]["data"]["currentLevel"] == "aal1"
    assert found["stepped"]["error"] is None
    assert found["after"]["data"]["currentLevel"] == "aal2"
    assert found["refreshed"]["error"] is None
    assert found["claims"]["data"]["claims"]["aal"] == "aal2"
    assert found["claims"]["data"]["claims"]["email"] == email


async def opened_at(chromium: str, address: str) -> dict[str, str]:
    """Where the site's page finds itself after the browser opened that address."""
    async with browser(chromium, address):
        return await asyncio.to_thread(_Site.found.get, timeout=60)


def test_an_invitation_is_followed_in_a_browser(confirming: TestPlatform) -> None:
    chromium = find_chromium()
    email = new_address()
    invited = connect(confirming, confirming.service_role_key).auth.admin.invite_user_by_email(
        email, {"data": {"team": "seven"}}
    )
    assert invited.user.email_confirmed_at is None
    link = link_in(latest_mail(confirming, email))
    assert link.startswith(f"{confirming.url}/auth/v1/verify?")

    found = asyncio.run(opened_at(chromium, link))
    assert found["path"] == "/"
    fragment = {name: values[0] for name, values in parse_qs(found["hash"].removeprefix("#")).items()}
    assert fragment["type"] == "invite"
    assert fragment["token_type"] == "bearer"
    client = connect(confirming)
    client.auth.set_session(fragment["access_token"], fragment["refresh_token"])
    user = client.auth.get_user().user
    assert (user.id, user.email, user.user_metadata["team"]) == (invited.user.id, email, "seven")
    assert user.email_confirmed_at is not None
    client.auth.update_user({"password": PASSWORD})
    session = connect(confirming).auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert session.user.id == invited.user.id

    again = asyncio.run(opened_at(chromium, link))
    refused = parse_qs(again["hash"].removeprefix("#"))
    assert refused["error_code"] == ["otp_expired"]
    assert "access_token" not in refused
