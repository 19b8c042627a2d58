"""Text messages: each provider's own exchange against its documented answers, test codes, the hook (§7.7)."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from harness.auth_site import FAST, AuthSite, changed, open_site, refusal
from harness.internet import Internet, started_internet
from harness.site import Call, Reply
from socle_auth.text_gateways import GatewayUnusable, Text, TextGateway, TextNotSent, open_gateway
from socle_platform.config.auth_messages import SMS_CREDENTIALS, SmsSettings
from socle_platform.config.reader import ConfigError
from socle_platform.db import Database
from socle_platform.events import Noted

TWILIO = "https://api.twilio.com/2010-04-01/Accounts/account_sid-1/Messages.json"
VERIFY = "https://verify.twilio.com/v2/Services/message_service_sid-1"
MESSAGEBIRD = "https://rest.messagebird.com/messages"
VONAGE = "https://rest.nexmo.com/sms/json"
TEXTLOCAL = "https://api.textlocal.in/send"
TEXT = Text("15550101234", "Your code is 123456", "123456")


def settings_of(provider: str, **more: str) -> SmsSettings:
    credentials = {name: f"{name}-1" for name in SMS_CREDENTIALS[provider] if name != "content_sid"}
    return SmsSettings(provider=provider, credentials={**credentials, **more})


def gateway(provider: str, internet: Internet, **more: str) -> TextGateway:
    opened = open_gateway(settings_of(provider, **more), internet)
    assert opened is not None
    return opened


def basic(call: Call) -> str:
    scheme, _, encoded = call.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded).decode()


@pytest.fixture
async def internet() -> AsyncGenerator[Internet]:
    async with started_internet() as started:
        yield started


async def test_twilio(internet: Internet) -> None:
    internet.say("POST", TWILIO, {"sid": "SM123", "status": "queued", "to": "+15550101234"}, 201)
    assert await gateway("twilio", internet).send(TEXT) == "SM123"
    (call,) = internet.calls(TWILIO)
    assert basic(call) == "account_sid-1:auth_token-1"
    assert call.form == {
        "To": "+15550101234",
        "Channel": "sms",
        "From": "message_service_sid-1",
        "Body": "Your code is 123456",
    }


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"From": "message_service_sid-1", "Body": "Your code is 123456"}),
        ({"message_service_sid": "+1 555 0100"}, {"From": "whatsapp:+1 555 0100", "Body": "Your code is 123456"}),
        (
            {"content_sid": "HX1"},
            {"From": "message_service_sid-1", "ContentSid": "HX1", "ContentVariables": '{"1": "123456"}'},
        ),
    ],
)
async def test_twilio_over_whatsapp(internet: Internet, more: dict[str, str], expected: Mapping[str, str]) -> None:
    internet.say("POST", TWILIO, {"sid": "SM123", "status": "queued"}, 201)
    await gateway("twilio", internet, **more).send(Text("15550101234", TEXT.words, TEXT.code, "whatsapp"))
    assert internet.calls(TWILIO)[0].form == {
        "To": "whatsapp:+15550101234",
        "Channel": "whatsapp",
        **expected,
    }


async def test_twilio_verify(internet: Internet) -> None:
    internet.say("POST", f"{VERIFY}/Verifications", {"sid": "VE1", "status": "pending", "valid": False}, 201)
    verifying = gateway("twilio_verify", internet)
    assert await verifying.send(TEXT) == "VE1"
    (call,) = internet.calls(f"{VERIFY}/Verifications")
    assert (basic(call), call.form) == ("account_sid-1:auth_token-1", {"To": "+15550101234", "Channel": "sms"})
    for answer, status, verdict in (
        ({"status": "approved", "valid": True}, 200, True),
        ({"status": "pending", "valid": False}, 200, False),
        ({"status": "approved", "valid": False}, 200, False),
        ({"code": 20404, "message": "not found", "status": 404}, 404, False),
    ):
        internet.say("POST", f"{VERIFY}/VerificationCheck", answer, status)
        assert await verifying.verify("15550101234", "123456") is verdict
    assert internet.calls(f"{VERIFY}/VerificationCheck")[0].form == {"To": "+15550101234", "Code": "123456"}


async def test_messagebird(internet: Internet) -> None:
    internet.say("POST", MESSAGEBIRD, {"id": "mb1", "recipients": {"totalSentCount": 1}}, 201)
    assert await gateway("messagebird", internet).send(TEXT) == "mb1"
    (call,) = internet.calls(MESSAGEBIRD)
    assert call.headers["authorization"] == "AccessKey access_key-1"
    assert call.form == {
        "originator": "originator-1",
        "body": "Your code is 123456",
        "recipients": "15550101234",
        "type": "sms",
        "datacoding": "unicode",
    }


@pytest.mark.parametrize("words", ["Your code is 123456", "Voilà votre code : 123456"])
async def test_vonage(internet: Internet, words: str) -> None:
    internet.say("POST", VONAGE, {"messages": [{"message-id": "v1", "status": "0"}]})
    assert await gateway("vonage", internet).send(Text(TEXT.phone, words, TEXT.code)) == "v1"
    form = {"from": "from-1", "to": TEXT.phone, "text": words, "api_key": "api_key-1", "api_secret": "api_secret-1"}
    assert internet.calls(VONAGE)[0].form == form | ({} if words.isascii() else {"type": "unicode"})


async def test_textlocal(internet: Internet) -> None:
    internet.say("POST", TEXTLOCAL, {"status": "success", "messages": [{"id": "t1"}]})
    assert await gateway("textlocal", internet).send(TEXT) == "t1"
    assert internet.calls(TEXTLOCAL)[0].form == {
        "sender": "sender-1",
        "apikey": "api_key-1",
        "message": TEXT.words,
        "numbers": TEXT.phone,
    }


@pytest.mark.parametrize(
    ("provider", "url", "reply", "words"),
    [
        (
            "twilio",
            TWILIO,
            Reply({"code": 21211, "message": "Invalid 'To'", "more_info": "https://t.co"}, 400),
            "Invalid 'To' More",
        ),
        (
            "twilio",
            TWILIO,
            Reply({"sid": "SM1", "status": "failed", "error_message": "blocked", "error_code": "30004"}),
            "blocked 30004 for message SM1",
        ),
        ("twilio", TWILIO, Reply(b"<html>", 502), "status 502"),
        ("twilio_verify", f"{VERIFY}/Verifications", Reply({"message": "Max send attempts reached"}, 429), "Max send"),
        (
            "messagebird",
            MESSAGEBIRD,
            Reply({"errors": [{"code": 9, "description": "no (correct) recipients found"}]}, 422),
            "no .correct. recipients",
        ),
        ("messagebird", MESSAGEBIRD, Reply({"id": "x", "recipients": {"totalSentCount": 0}}), "total sent count is 0"),
        (
            "vonage",
            VONAGE,
            Reply({"messages": [{"status": "4", "error-text": "Bad Credentials"}]}),
            "Bad Credentials .status: 4",
        ),
        ("vonage", VONAGE, Reply({"messages": []}), "Internal Error"),
        (
            "textlocal",
            TEXTLOCAL,
            Reply({"status": "failure", "errors": [{"code": 4, "message": "No recipients"}]}),
            "No recipients .code: 4",
        ),
    ],
)
async def test_what_providers_refuse(internet: Internet, provider: str, url: str, reply: Reply, words: str) -> None:
    internet.on("POST", url, reply)
    with pytest.raises(TextNotSent, match=words):
        await gateway(provider, internet).send(TEXT)


@pytest.mark.parametrize("provider", ["messagebird", "vonage", "textlocal"])
async def test_who_has_no_whatsapp(internet: Internet, provider: str) -> None:
    with pytest.raises(TextNotSent, match="whatsapp"):
        await gateway(provider, internet).send(Text("1555", "x", "1", "whatsapp"))
    assert await gateway(provider, internet).verify("1555", "1") is None


@pytest.mark.parametrize("provider", list(SMS_CREDENTIALS))
def test_incomplete_credentials_are_named(provider: str) -> None:
    name = SMS_CREDENTIALS[provider][0]
    client: Any = object()
    with pytest.raises(GatewayUnusable, match=f"GOTRUE_SMS_{provider}_{name}".upper()):
        open_gateway(settings_of(provider, **{name: ""}), client)
    with pytest.raises(GatewayUnusable):
        open_gateway(settings_of(provider), None)


# -- through the service -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def texting_site(database: Database, provider: str, **parts: Any) -> AsyncGenerator[tuple[AuthSite, Internet]]:
    given = settings_of(provider)
    sms = {"sms__provider": provider, "sms__credentials": given.credentials, **parts}
    settings = changed(external__phone_enabled=True, **sms)
    async with started_internet() as internet, open_site(database, settings, http=internet) as site:
        yield site, internet


async def test_signing_in_by_a_text_message(database: Database) -> None:
    async with texting_site(database, "vonage", sms__template="{{ .Code }} & more") as (site, internet):
        internet.say("POST", VONAGE, {"messages": [{"message-id": "v1", "status": "0"}]})
        await site.create_user(email=None, password=None, phone="15550101234", phone_confirm=True)
        assert (await site.post("/otp", {"phone": "15550101234"})).json() == {"message_id": "v1"}
        text = dict(parse_qsl(internet.calls(VONAGE)[0].body.decode()))["text"]
        assert text.endswith(" & more")
        body = {"type": "sms", "phone": "15550101234", "token": text.partition(" ")[0]}
        assert (await site.post("/verify", body)).status_code == 200


async def test_a_provider_that_refuses_leaves_nothing_behind(database: Database) -> None:
    async with texting_site(database, "twilio") as (site, internet):
        internet.say("POST", TWILIO, {"message": "no", "more_info": "info"}, 400)
        answer = await site.post("/otp", {"phone": "15550101234"})
        assert refusal(answer) == (422, "sms_send_failed")
        assert answer.json()["message"] == "Error sending confirmation OTP to provider: no More information: info"
        assert await site.rows("select 1 from auth.users") == []


async def test_no_provider_and_incomplete_ones_are_our_fault(database: Database) -> None:
    async with texting_site(database, "twilio", sms__credentials={"account_sid": ""}) as (site, _):
        answer = await site.post("/otp", {"phone": "15550101234"})
        assert (answer.status_code, answer.json()["message"]) == (500, "Unable to get SMS provider")
    async with open_site(database, changed(external__phone_enabled=True)) as site:
        assert (await site.post("/otp", {"phone": "15550101234"})).status_code == 500


async def test_twilio_verify_checks_its_own_codes(database: Database) -> None:
    async with texting_site(database, "twilio_verify") as (site, internet):
        internet.say("POST", f"{VERIFY}/Verifications", {"sid": "VE1", "status": "pending"}, 201)
        await site.post("/otp", {"phone": "15550101234"})
        body = {"type": "sms", "phone": "15550101234", "token": "987654"}
        internet.say("POST", f"{VERIFY}/VerificationCheck", {"status": "pending", "valid": False})
        assert refusal(await site.post("/verify", body)) == (403, "otp_expired")
        internet.say("POST", f"{VERIFY}/VerificationCheck", {"status": "approved", "valid": True})
        assert (await site.post("/verify", body)).status_code == 200


async def test_channels(database: Database) -> None:
    async with texting_site(database, "twilio") as (site, internet):
        internet.say("POST", TWILIO, {"sid": "SM1", "status": "queued"}, 201)
        assert (await site.post("/otp", {"phone": "15550101234", "channel": "whatsapp"})).status_code == 200
        assert internet.calls(TWILIO)[0].form["To"] == "whatsapp:+15550101234"
    async with texting_site(database, "vonage") as (site, _):
        answer = await site.post("/otp", {"phone": "15550101235", "channel": "whatsapp"})
        assert refusal(answer) == (400, "validation_failed")


async def test_a_test_number_needs_no_provider(database: Database) -> None:
    settings = changed(external__phone_enabled=True, sms__test_otp={"15550101234": "111111"})
    async with open_site(database, settings) as site:
        await site.create_user(email=None, password=None, phone="15550101234", phone_confirm=True)
        assert (await site.post("/otp", {"phone": "15550101234"})).json() == {"message_id": "test-otp"}
        body = {"type": "sms", "phone": "15550101234", "token": "111111"}
        assert (await site.post("/verify", body)).status_code == 200


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ .Code", "GOTRUE_SMS_TEMPLATE"),
        ("{{ .Token }}", ".Token is not a variable of a text message"),
        ("{{ if .Code }}x", "GOTRUE_SMS_TEMPLATE"),
        ("{{ nothing .Code }}", "nothing"),
    ],
)
async def test_templates_of_texts_are_tried_at_start(database: Database, template: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        async with open_site(database, changed(sms__template=template)):
            pass


async def test_every_bad_template_is_named_at_once(database: Database) -> None:
    phone = replace(FAST.mfa.phone, template="{{ .Secret }}")
    with pytest.raises(ConfigError) as caught:
        async with open_site(database, changed(sms__template="{{", mfa__phone=phone)):
            pass
    assert "GOTRUE_SMS_TEMPLATE" in str(caught.value)
    assert "GOTRUE_MFA_PHONE_TEMPLATE: .Secret" in str(caught.value)


async def test_a_text_without_the_code_is_warned_of(database: Database) -> None:
    async with open_site(database, changed(sms__template="Welcome!")) as site:
        (noted,) = [each for each in site.observations if isinstance(each, Noted) and each.level == "warning"]
        assert "GOTRUE_SMS_TEMPLATE has no {{ .Code }}" in noted.text
