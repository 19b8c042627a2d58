"""Wallets that sign for real, and the text they sign."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Any, TypeAlias, cast

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from socle_auth.web3.signatures import keccak256

Text: TypeAlias = str | datetime | None
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def message_text(
    title: str,
    address: str,
    issued: datetime,
    *,
    domain: Text = "app.example.com",
    statement: Text = "I accept the terms.",
    uri: Text = "https://app.example.com/login",
    network: Text = "1",
    nonce: Text = "12345678",
    expires: Text = None,
    not_before: Text = None,
    request_id: Text = None,
    resources: Text = None,
) -> str:
    """A message as wallets show it (EIP-4361); None leaves a line out."""
    lines = [f"{domain} wants you to sign in with your {title} account:", address, ""]
    if statement is not None:
        lines += [str(statement), ""]
    lines += [f"URI: {uri}", "Version: 1"]
    optional = {
        "Chain ID": network,
        "Nonce": nonce,
        "Issued At": stamp(issued),
        "Expiration Time": expires,
        "Not Before": not_before,
        "Request ID": request_id,
    }
    for name, value in optional.items():
        if value is not None:
            lines.append(f"{name}: {stamp(value) if isinstance(value, datetime) else value}")
    if resources is not None:
        lines += ["Resources:", *(f"- {one}" for one in str(resources).split(","))]
    return "\n".join(lines)


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


class SolanaWallet:
    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.address = encode_base58(self._key.public_key().public_bytes_raw())

    def sign_bytes(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def sign(self, text: str) -> str:
        return base64.b64encode(self.sign_bytes(text.encode())).decode()


class EthereumWallet:
    def __init__(self) -> None:
        self._key = coincurve.PrivateKey(secrets.token_bytes(32))
        self.address = "0x" + keccak256(self._key.public_key.format(compressed=False)[1:])[-20:].hex()

    def sign(self, text: str) -> str:
        data = text.encode()
        digest = keccak256(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)
        signature: bytes = cast("Any", self._key).sign_recoverable(digest, hasher=None)
        return "0x" + signature[:64].hex() + bytes([signature[64] + 27]).hex()


def encode_base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text
