"""Passwords of database roles as SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), so that none travels or is logged."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata

_VERIFIER = re.compile(r"^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$")
_PERSON_ITERATIONS = 4096
_RANDOM_LENGTH = 40


def scram_verifier(password: str, *, salt: bytes | None = None, iterations: int | None = None) -> str:
    """What PostgreSQL stores for a password.

    A password of 40 characters or more is taken for a random one, which gains nothing from stretching: one iteration.
    The text is prepared by SASLprep first, as clients do.
    """
    salt = salt if salt is not None else secrets.token_bytes(16)
    if iterations is None:
        iterations = 1 if len(password) >= _RANDOM_LENGTH else _PERSON_ITERATIONS
    stored_key, server_key = _keys(password, salt, iterations)
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def verify_scram(password: str, verifier: str | None) -> bool:
    """Whether PostgreSQL would accept the password for the stored verifier."""
    match = _VERIFIER.match(verifier or "")
    if match is None:
        return False
    try:
        salt, stored_key = base64.b64decode(match[2], validate=True), base64.b64decode(match[3], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(_keys(password, salt, int(match[1]))[0], stored_key)


def prepare_password(password: str) -> str:
    """SASLprep (RFC 4013); a text which the profile forbids is used as it is, as PostgreSQL does."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    forbidden = (
        not prepared
        or any(_prohibited(char) for char in prepared)
        or (
            any(right_to_left)
            and not (right_to_left[0] and right_to_left[-1] and not any(map(stringprep.in_table_d2, prepared)))
        )
    )
    return password if forbidden else prepared


def _prohibited(char: str) -> bool:
    return any(
        test(char)
        for test in (
            stringprep.in_table_a1,
            stringprep.in_table_c12,
            stringprep.in_table_c21_c22,
            stringprep.in_table_c3,
            stringprep.in_table_c4,
            stringprep.in_table_c5,
            stringprep.in_table_c6,
            stringprep.in_table_c7,
            stringprep.in_table_c8,
            stringprep.in_table_c9,
        )
    )


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", prepare_password(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
