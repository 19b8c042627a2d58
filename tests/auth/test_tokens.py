"""Access tokens and both forms of refresh tokens as values (contracts/auth.md §5.1, §5.3)."""

from __future__ import annotations

import base64
import hashlib
import uuid

import pytest

from socle_auth.errors import AuthError
from socle_auth.tokens import check_claims, encode_counted_token, parse_counted_token

SESSION = str(uuid.UUID(int=7))
KEY = b"k" * 32


@pytest.mark.parametrize("counter", [0, 1, 127, 128, 300, 2**31, 2**62])
def test_a_counted_token_says_session_and_counter(counter: int) -> None:
    text = encode_counted_token(SESSION, counter, KEY)
    token = parse_counted_token(text)
    assert token is not None
    assert (token.session_id, token.counter) == (SESSION, counter)
    assert token.is_signed_by(KEY)
    assert not token.is_signed_by(b"x" * 32)
    assert "=" not in text


def test_its_bytes_are_as_the_contract_says() -> None:
    raw = base64.urlsafe_b64decode(encode_counted_token(SESSION, 1, KEY) + "==")
    assert raw[0] == 0
    assert raw[1:17] == uuid.UUID(SESSION).bytes
    assert raw[17] == 1
    assert len(raw) == 1 + 16 + 1 + 16 + 4
    assert raw[-4:] == hashlib.sha256(raw[:-4]).digest()[:4]


def test_a_changed_token_is_no_token() -> None:
    raw = bytearray(base64.urlsafe_b64decode(encode_counted_token(SESSION, 5, KEY) + "=="))
    for place in range(len(raw)):
        raw[place] ^= 1
        assert parse_counted_token(base64.urlsafe_b64encode(raw).decode().rstrip("=")) is None
        raw[place] ^= 1
    for text in ("", "abc", "!!!", "a" * 200, encode_counted_token(SESSION, 5, KEY)[:-1]):
        assert parse_counted_token(text) is None


COMPLETE = {
    "aud": "authenticated",
    "exp": 2,
    "iat": 1,
    "sub": "s",
    "email": "",
    "phone": "",
    "role": "authenticated",
    "aal": "aal1",
    "session_id": "x",
    "is_anonymous": False,
}


def test_a_hooks_claims_are_taken_when_complete() -> None:
    claims = {**COMPLETE, "amr": ["password", {"method": "otp"}], "extra": [1]}
    assert check_claims(claims) == claims


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_claim_is_named(name: str) -> None:
    with pytest.raises(AuthError, match=f"{name} is required") as caught:
        check_claims({key: value for key, value in COMPLETE.items() if key != name})
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp", "soon"),
        ("exp", 1.5),
        ("aud", 1),
        ("role", None),
        ("email", 1),
        ("user_metadata", "x"),
        ("amr", "x"),
        ("amr", [1]),
        ("iat", True),
    ],
)
def test_a_claim_of_the_wrong_type_is_named(name: str, value: object) -> None:
    with pytest.raises(AuthError, match=name):
        check_claims({**COMPLETE, name: value})


@pytest.mark.parametrize("claims", [None, "x", []])
def test_missing_claims_are_a_fault(claims: object) -> None:
    with pytest.raises(AuthError, match="missing"):
        check_claims(claims)
