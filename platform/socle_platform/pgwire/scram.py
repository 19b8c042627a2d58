"""SCRAM-SHA-256 from the client's side (RFC 5802, RFC 7677), without channel binding. Pure but for the nonce."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from functools import lru_cache

from socle_platform.pgwire.errors import ProtocolViolation

MECHANISM = "SCRAM-SHA-256"
MOST_ITERATIONS = 10_000_000
"""A server that asks for more wants to stop us, not to protect a password."""
_HEADER = "n,,"

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def prepare_password(password: str) -> bytes:
    """SASLprep (RFC 4013); as PostgreSQL does, a password that it refuses is taken as it is."""
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    text = unicodedata.normalize("NFKC", mapped)
    if not text or any(prohibited(char) for char in text for prohibited in _PROHIBITED):
        return password.encode()
    right_to_left = [stringprep.in_table_d1(char) for char in text]
    mixed = any(right_to_left) and (
        any(stringprep.in_table_d2(char) for char in text) or not (right_to_left[0] and right_to_left[-1])
    )
    return password.encode() if mixed else text.encode()


@lru_cache(maxsize=32)
def _keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """Client key and server key; kept because every session of a pool derives the same ones."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


class ScramClient:
    """One authentication: `first()`, `final(challenge)`, `verify(outcome)`, in this order.

    The user name is empty on the wire unless given: PostgreSQL takes it from the startup message. Raises
    ProtocolViolation when the server's part is malformed or its signature is wrong (it does not know the password).
    """

    def __init__(self, password: str, *, nonce: str | None = None, user: str = "") -> None:
        self._password = prepare_password(password)
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        escaped = user.replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """The client-first-message."""
        return (_HEADER + self._first_bare).encode()

    def final(self, challenge: bytes) -> bytes:
        """The client-final-message for the server-first-message."""
        server_first = _decoded(challenge)
        attributes = _attributes(server_first)
        nonce, salt, iterations = _challenge(attributes)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ProtocolViolation("the database's SCRAM nonce does not extend ours")
        bare = f"c={base64.b64encode(_HEADER.encode()).decode()},r={nonce}"
        exchange = f"{self._first_bare},{server_first},{bare}".encode()
        client_key, server_key = _keys(self._password, salt, iterations)
        signature = hmac.digest(hashlib.sha256(client_key).digest(), exchange, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = hmac.digest(server_key, exchange, "sha256")
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, outcome: bytes) -> None:
        """Checks the server-final-message."""
        attributes = _attributes(_decoded(outcome))
        if "e" in attributes:
            raise ProtocolViolation(f"the database refused SCRAM: {attributes['e']}")
        given = _base64(attributes.get("v", ""))
        if not self._signature or not hmac.compare_digest(given, self._signature):
            raise ProtocolViolation("the database's SCRAM signature is wrong: it does not know the password")


def _decoded(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as problem:
        raise ProtocolViolation("the database's SCRAM message is not text") from problem


def _attributes(message: str) -> dict[str, str]:
    pairs = [piece.partition("=") for piece in message.split(",")]
    if any(len(name) != 1 or not equals for name, equals, _ in pairs):
        raise ProtocolViolation("the database's SCRAM message is malformed")
    return {name: value for name, _, value in pairs}


def _challenge(attributes: dict[str, str]) -> tuple[str, bytes, int]:
    """Nonce, salt and iteration count of a server-first-message."""
    if "m" in attributes:
        raise ProtocolViolation("the database asks for a SCRAM extension that nobody knows")
    count = attributes.get("i", "")
    if not (count.isascii() and count.isdigit() and len(count) <= 8 and 0 < int(count) <= MOST_ITERATIONS):
        raise ProtocolViolation("the database's SCRAM iteration count is impossible")
    salt = _base64(attributes.get("s", ""))
    if not salt:
        raise ProtocolViolation("the database's SCRAM salt is missing")
    return attributes.get("r", ""), salt, int(count)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ProtocolViolation("the database's SCRAM message holds no base64 where it should") from problem
