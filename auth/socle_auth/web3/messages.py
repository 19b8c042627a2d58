"""The text a wallet signs: Sign-In With Ethereum (EIP-4361) and its Solana sibling, parsed and judged (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from socle_platform.errors import SocleError

MINIMUM_LENGTH = 64
MAXIMUM_LENGTH = 20 * 1024

_DOMAIN = re.compile(r"(?:localhost|(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,})(?::\d{1,5})?")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_TIMES = {"Issued At": "issued_at", "Expiration Time": "expires_at", "Not Before": "not_before"}
_TEXTS = {"URI": "uri", "Version": "version", "Chain ID": "network", "Nonce": "nonce", "Request ID": "request_id"}


class MessageFault(SocleError):
    """The signed message is not well formed."""


class MessageRefused(SocleError):
    """The signed message is well formed but not acceptable here and now."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What differs between the chains: name, prefix of faults, the address's form and the chain id's."""

    name: str
    title: str
    fault_prefix: str
    address: re.Pattern[str]
    address_fault: str
    network: re.Pattern[str]
    network_required: bool


ETHEREUM = Chain(
    "ethereum",
    "Ethereum",
    "siwe",
    re.compile(r"0x[a-fA-F0-9]{40}"),
    "wallet address is not a valid Ethereum address",
    re.compile(r"0*[1-9]\d{0,18}"),
    network_required=True,
)
SOLANA = Chain(
    "solana",
    "Solana",
    "siws",
    re.compile(r"[a-zA-Z0-9]{32,44}"),
    "wallet address is not in base58 format",
    re.compile(r"solana:(?:main|dev|test|local)net"),
    network_required=False,
)


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A parsed message; `raw` is what was signed, times are aware."""

    raw: str
    domain: str
    address: str
    uri: str = ""
    version: str = ""
    network: str = ""
    nonce: str = ""
    statement: str | None = None
    request_id: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    not_before: datetime | None = None
    resources: tuple[str, ...] = ()


def parse_message(raw: str, chain: Chain) -> SignedMessage:
    """Reads the message. Raises MessageFault with the wire's own words (`siwe: …`, `siws: …`)."""

    def fault(text: str) -> MessageFault:
        return MessageFault(f"{chain.fault_prefix}: {text}")

    lines = raw.split("\n")
    if len(lines) < 6:
        raise fault("message needs at least 6 lines")
    greeting = f" wants you to sign in with your {chain.title} account:"
    if not lines[0].endswith(greeting):
        raise fault(f'message first line does not end in "{greeting}"')
    domain = lines[0].removesuffix(greeting).strip()
    if not _DOMAIN.fullmatch(domain):
        raise fault("domain in first line of message is not valid")
    address = lines[1].strip()
    if not chain.address.fullmatch(address):
        raise fault(chain.address_fault)
    if lines[2]:
        raise fault("third line must be empty")
    has_statement = bool(lines[3]) and not lines[4]
    fields: dict[str, Any] = {"statement": lines[3]} if has_statement else {}
    in_resources = False
    for index, line in enumerate(map(str.strip, lines)):
        if index < (5 if has_statement else 3) or not line:
            continue
        in_resources = line == "Resources:" or (in_resources and line.startswith("- "))
        if not in_resources:
            _read_field(fields, chain, index, line, fault)
        elif line != "Resources:":
            fields["resources"] = (*fields.get("resources", ()), _resource(line, fields, fault))
    return _checked(SignedMessage(raw, domain, address, **fields), fault)


def _resource(line: str, fields: dict[str, Any], fault: Callable[[str], MessageFault]) -> str:
    resource = line.removeprefix("- ").strip()
    if not _is_uri(resource):
        raise fault(f"Resource at position {len(fields.get('resources', ()))} has invalid URI")
    return resource


def _read_field(
    fields: dict[str, Any], chain: Chain, index: int, line: str, fault: Callable[[str], MessageFault]
) -> None:
    key, colon, value = line.partition(":")
    value = value.strip()
    if not colon:
        raise fault(f"encountered unparsable line at index {index}")
    if key in _TIMES:
        fields[_TIMES[key]] = _time(key, value, fault)
        return
    if key == "URI" and not _is_uri(value):
        raise fault("URI is not valid")
    if key == "Chain ID" and (value or chain.network_required) and not chain.network.fullmatch(value):
        raise fault("Chain ID is not valid")
    if key in _TEXTS:
        fields[_TEXTS[key]] = value


def _time(key: str, value: str, fault: Callable[[str], MessageFault]) -> datetime:
    try:
        if _TIMESTAMP.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    raise fault(f"{key} is not a valid ISO8601 timestamp")


def _checked(message: SignedMessage, fault: Callable[[str], MessageFault]) -> SignedMessage:
    if message.version != "1":
        raise fault(f'Version value is not supported, expected 1 got "{message.version}"')
    if message.issued_at is None:
        raise fault("Issued At is not specified")
    if not message.uri:
        raise fault("URI is not specified")
    if message.expires_at is not None and message.issued_at > message.expires_at:
        raise fault("Issued At is after Expiration Time")
    if message.expires_at is not None and message.not_before is not None and message.not_before > message.expires_at:
        raise fault("Not Before is after Expiration Time")
    return message


def _is_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and (parts.netloc or parts.path)) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def ensure_acceptable(
    message: SignedMessage, chain: Chain, *, now: datetime, validity: float, allowed: Callable[[str], bool]
) -> None:
    """Judges where and when the message may be used: https or localhost, allow-listed URI, domain of the URI, times.

    `validity` in seconds bounds the distance of Issued At from `now` both ways; `allowed` says whether a URL passes
    the redirect allow-list. Raises MessageRefused. Expiry is checked for both chains whatever Not Before says.
    """
    kind = f"Signed {chain.title} message"
    uri = urlsplit(message.uri)
    local = uri.hostname == "localhost"
    if uri.scheme != "https" and not local:
        raise MessageRefused(f"{kind} is using URI which does not use HTTPS")
    if not allowed(message.uri):
        raise MessageRefused(
            f"{kind} is using URI which is not allowed on this server, message was signed for another app"
        )
    if not local and (uri.netloc != message.domain or not allowed(f"https://{message.domain}/")):
        raise MessageRefused(
            f"{kind} is using a Domain that does not match the one in URI which is not allowed on this server"
        )
    if message.not_before is not None and now < message.not_before:
        raise MessageRefused(f"{kind} becomes valid in the future")
    if message.expires_at is not None and now > message.expires_at:
        raise MessageRefused(f"{kind} is expired")
    assert message.issued_at is not None
    window = timedelta(seconds=validity)
    if now > message.issued_at + window:
        raise MessageRefused(f"{chain.title} message was issued too long ago")
    if now < message.issued_at - window:
        raise MessageRefused(f"{chain.title} message was issued too far in the future")
