"""The companies that send text messages, each by its own API (contracts/auth.md §7.7).

Sources: the providers' public API references (Twilio Messages and Verify v2, MessageBird SMS, Vonage SMS, Textlocal).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urlencode

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.config.auth_messages import SmsSettings
    from socle_platform.ports import HttpClient

SECONDS = 8.0
"""For one exchange with a provider; a request has ten."""

_NUMBER = re.compile(r"[1-9][0-9]{1,14}")


class TextNotSent(SocleError):
    """The provider did not take the message."""


class GatewayUnusable(SocleError):
    """The provider's settings are incomplete."""


@dataclass(frozen=True, slots=True)
class Text:
    """One message: `phone` in digits with its country code, without a plus; `channel` is `sms` or `whatsapp`."""

    phone: str
    words: str
    code: str
    channel: str = "sms"


class TextGateway(Protocol):
    """A provider of text messages."""

    async def send(self, text: Text) -> str:
        """Hands the message over; the provider's id of it. Raises TextNotSent."""
        ...

    async def verify(self, phone: str, code: str, /) -> bool | None:
        """Whether the provider, which made the code, accepts it; None where codes are made and checked here."""
        ...


def open_gateway(settings: SmsSettings, http: HttpClient | None) -> TextGateway | None:
    """The chosen provider; None when none is chosen. Raises GatewayUnusable naming what is missing."""
    if not settings.provider:
        return None
    if http is None:
        raise GatewayUnusable("there is no way to reach a provider")
    optional = {"content_sid"}
    missing = [name for name, value in settings.credentials.items() if not value and name not in optional]
    if missing or not settings.credentials:
        names = ", ".join(f"GOTRUE_SMS_{settings.provider}_{name}".upper() for name in missing)
        raise GatewayUnusable(f"{names or 'the credentials'} must be set for {settings.provider}")
    return _GATEWAYS[settings.provider](_Api(http), settings.credentials)


class _Api:
    """Forms out, JSON in."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def post(self, url: str, form: Mapping[str, str], authorization: str = "") -> tuple[int, dict[str, Any]]:
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if authorization:
            headers["authorization"] = authorization
        try:
            answer = await self._http.request(
                "POST", url, headers=headers, body=urlencode(form).encode(), timeout=SECONDS
            )
        except SocleError as error:
            raise TextNotSent(str(error)) from error
        try:
            body: object = json.loads(answer.body)
        except (ValueError, RecursionError):
            raise TextNotSent(f"the provider's answer (status {answer.status}) cannot be read") from None
        return answer.status, cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _first(value: object) -> dict[str, Any]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return cast("dict[str, Any]", items[0]) if items and isinstance(items[0], dict) else {}


class _Local:
    """What providers have in common that only send."""

    def __init__(self, api: _Api, credentials: Mapping[str, str]) -> None:
        self._api = api
        self._credentials = credentials

    async def verify(self, _phone: str, _code: str, /) -> bool | None:
        return None

    def _only_texts(self, text: Text, name: str) -> None:
        if text.channel != "sms":
            raise TextNotSent(f'channel type "{text.channel}" is not supported for {name}')


class Twilio(_Local):
    """Programmable messaging, also over WhatsApp."""

    async def send(self, text: Text) -> str:
        given = self._credentials
        url = f"https://api.twilio.com/2010-04-01/Accounts/{quote(given['account_sid'], safe='')}/Messages.json"
        authorization = _basic(given["account_sid"], given["auth_token"])
        status, body = await self._api.post(url, self._form(text), authorization)
        if status not in (200, 201):
            raise TextNotSent(
                f"{body.get('message') or status} More information: {body.get('more_info') or ''}".strip()
            )
        if body.get("status") in ("failed", "undelivered"):
            reason = f"{body.get('error_message') or ''} {body.get('error_code') or ''}".strip()
            raise TextNotSent(f"twilio error: {reason} for message {body.get('sid')}")
        return str(body.get("sid") or "")

    def _form(self, text: Text) -> dict[str, str]:
        sender, receiver = self._credentials["message_service_sid"], f"+{text.phone}"
        if text.channel == "sms":
            return {"To": receiver, "Channel": "sms", "From": sender, "Body": text.words}
        if _NUMBER.fullmatch(sender.removeprefix("+").replace(" ", "")):
            sender = f"{text.channel}:{sender}"
        form = {"To": f"{text.channel}:{receiver}", "Channel": text.channel, "From": sender}
        if content := self._credentials.get("content_sid"):
            return {**form, "ContentSid": content, "ContentVariables": json.dumps({"1": text.code})}
        return {**form, "Body": text.words}


class TwilioVerify(_Local):
    """Twilio makes, sends and checks the codes itself."""

    async def send(self, text: Text) -> str:
        status, body = await self._ask("Verifications", {"To": f"+{text.phone}", "Channel": text.channel})
        if status not in (200, 201):
            raise TextNotSent(
                f"{body.get('message') or status} More information: {body.get('more_info') or ''}".strip()
            )
        return str(body.get("sid") or "")

    async def verify(self, phone: str, code: str, /) -> bool | None:
        status, body = await self._ask("VerificationCheck", {"To": f"+{phone}", "Code": code})
        return status in (200, 201) and body.get("status") == "approved" and body.get("valid") is True

    async def _ask(self, what: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        given = self._credentials
        url = f"https://verify.twilio.com/v2/Services/{quote(given['message_service_sid'], safe='')}/{what}"
        return await self._api.post(url, form, _basic(given["account_sid"], given["auth_token"]))


class MessageBird(_Local):
    """MessageBird's SMS API."""

    async def send(self, text: Text) -> str:
        self._only_texts(text, "Messagebird")
        form = {
            "originator": self._credentials["originator"],
            "body": text.words,
            "recipients": text.phone,
            "type": "sms",
            "datacoding": "unicode",
        }
        key = f"AccessKey {self._credentials['access_key']}"
        status, body = await self._api.post("https://rest.messagebird.com/messages", form, key)
        if status >= 400:
            raise TextNotSent(str(_first(body.get("errors")).get("description") or f"status {status}"))
        recipients: Any = body.get("recipients")
        sent = cast("dict[str, Any]", recipients).get("totalSentCount") if isinstance(recipients, dict) else 0
        if not sent:
            raise TextNotSent("messagebird error: total sent count is 0")
        return str(body.get("id") or "")


class Vonage(_Local):
    """Vonage's SMS API."""

    async def send(self, text: Text) -> str:
        self._only_texts(text, "Vonage")
        given = self._credentials
        form = {
            "from": given["from"],
            "to": text.phone,
            "text": text.words,
            "api_key": given["api_key"],
            "api_secret": given["api_secret"],
        }
        if not text.words.isascii():
            form["type"] = "unicode"
        _, body = await self._api.post("https://rest.nexmo.com/sms/json", form)
        message = _first(body.get("messages"))
        if not message:
            raise TextNotSent("vonage error: Internal Error")
        if message.get("status") != "0":
            reason = f"{message.get('error-text')} (status: {message.get('status')})"
            raise TextNotSent(f"vonage error: {reason} for message {message.get('message-id') or ''}".strip())
        return str(message.get("message-id") or "")


class Textlocal(_Local):
    """Textlocal's send API."""

    async def send(self, text: Text) -> str:
        self._only_texts(text, "TextLocal")
        given = self._credentials
        form = {"sender": given["sender"], "apikey": given["api_key"], "message": text.words, "numbers": text.phone}
        _, body = await self._api.post("https://api.textlocal.in/send", form)
        if body.get("status") != "success":
            fault = _first(body.get("errors"))
            raise TextNotSent(f"textlocal error: {fault.get('message')} (code: {fault.get('code')})")
        return str(_first(body.get("messages")).get("id") or "")


_GATEWAYS: Mapping[str, Callable[[_Api, Mapping[str, str]], TextGateway]] = {
    "twilio": Twilio,
    "twilio_verify": TwilioVerify,
    "messagebird": MessageBird,
    "vonage": Vonage,
    "textlocal": Textlocal,
}
