"""Who signed a message: Ed25519 for Solana, ECDSA recovery over secp256k1 for Ethereum (EIP-191).

Ethereum needs the `web3` extra (coincurve, pycryptodome): the only module that touches those libraries.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import TYPE_CHECKING, Protocol, cast

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_auth.web3.messages import SignedMessage

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_KEY = 32
_HEX_SIGNATURE = re.compile(r"(?:0x)?[0-9a-fA-F]{130}")


class Web3ExtraMissing(SocleError):
    """Signing in with Ethereum needs the web3 extra: install socle-platform[web3]."""


class SignatureFault(SocleError):
    """The signature is not in the expected form."""


def parse_solana_signature(text: str) -> bytes:
    """64 bytes of base64 or base64url, padded or not. Raises SignatureFault."""
    if len(text) not in (86, 88):
        raise SignatureFault("signature must be 64 bytes encoded as base64 with or without padding")
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise SignatureFault("signature does not contain valid base64 characters") from None
    if len(raw) != 64:
        raise SignatureFault("signature must be 64 bytes encoded as base64 with or without padding")
    return raw


def parse_ethereum_signature(text: str) -> bytes:
    """65 bytes of hex: r, s, v. Raises SignatureFault."""
    if not _HEX_SIGNATURE.fullmatch(text):
        raise SignatureFault("signature must be 65 bytes long, encoded as a 130 character-long hexadecimal string")
    return bytes.fromhex(text.removeprefix("0x"))


def decode_base58(text: str) -> bytes:
    """Bytes of base58 (the Bitcoin alphabet, which Solana uses). Raises ValueError."""
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def is_signed_by_solana_address(message: SignedMessage, signature: bytes) -> bool:
    """Whether the address's key signed the text, plainly or wrapped as Solana's off-chain message (Ledger)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw_key = decode_base58(message.address)
        key = Ed25519PublicKey.from_public_bytes(raw_key)
    except ValueError:
        return False
    text = message.raw.encode()
    for signed in (text, _offchain(message.domain, raw_key, text)):
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return True
    return False


def _offchain(domain: str, key: bytes, text: bytes) -> bytes:
    """Solana's off-chain message, version 0, ASCII, one signer (docs.anza.xyz, off-chain message signing)."""
    where = domain.encode()[:32].ljust(32, b"\0")
    return b"\xffsolana offchain\x00" + where + b"\x00\x01" + key + struct.pack("<H", len(text)) + text


def is_signed_by_ethereum_address(message: SignedMessage, signature: bytes) -> bool:
    """Whether the signature recovers to the address, EIP-191 version E (`personal_sign`). Raises Web3ExtraMissing."""
    text = message.raw.encode()
    digest = keccak256(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)
    recovery = signature[64] - 27 if signature[64] >= 27 else signature[64]
    if recovery > 3:
        return False
    public = _recover(signature[:64] + bytes([recovery]), digest)
    return public is not None and "0x" + keccak256(public)[-20:].hex() == message.address.lower()


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not SHA3-256). Raises Web3ExtraMissing."""
    try:
        from Crypto.Hash import keccak
    except ImportError:
        raise Web3ExtraMissing from None
    return keccak.new(data=data, digest_bits=256).digest()


class _PublicKey(Protocol):
    def format(self, compressed: bool) -> bytes: ...


class _PublicKeys(Protocol):
    def from_signature_and_message(self, signature: bytes, message: bytes, hasher: None) -> _PublicKey: ...


def _recover(signature: bytes, digest: bytes) -> bytes | None:
    """The signer's 64-byte public point, or None for a signature that no key makes."""
    try:
        import coincurve
    except ImportError:
        raise Web3ExtraMissing from None
    keys = cast("_PublicKeys", coincurve.PublicKey)
    try:
        return keys.from_signature_and_message(signature, digest, None).format(False)[1:]
    except Exception:  # noqa: BLE001 - the library raises a bare Exception for an unrecoverable point
        return None
