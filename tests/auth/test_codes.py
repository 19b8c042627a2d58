"""One-time codes, random secrets, phone numbers and addresses (contracts/auth.md §5.4)."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from harness.auth_site import AuthSite
from socle_auth import codes
from socle_auth.emails import parse_email
from socle_auth.errors import AuthError, ErrorCode
from socle_auth.pkce import parse_challenge


@pytest.mark.parametrize("length", [6, 8, 10])
async def test_codes_have_their_length_with_leading_zeros(site: AuthSite, length: int) -> None:
    made = [codes.new_code(site.service, length) for _ in range(400)]
    assert all(re.fullmatch(rf"\d{{{length}}}", code) for code in made)
    assert any(code.startswith("0") for code in made)
    assert len({code[0] for code in made}) == 10


async def test_random_passwords_hold_every_required_set(site: AuthSite) -> None:
    password = codes.new_password(site.service, 33, ("abc", "ABC", "012", "!?"))
    assert len(password) == 33
    assert all(set(password) & set(characters) for characters in ("abc", "ABC", "012", "!?"))


async def test_refresh_tokens_of_the_first_form(site: AuthSite) -> None:
    tokens = {codes.new_refresh_token(site.service) for _ in range(200)}
    assert len(tokens) == 200
    assert all(re.fullmatch("[a-z0-9]{12}", token) for token in tokens)


def test_the_hash_is_sha224_of_address_and_code() -> None:
    assert codes.hash_code("Ada@Example.com", "123456") == hashlib.sha224(b"ada@example.com123456").hexdigest()


def test_a_stored_hash_of_either_flow_matches() -> None:
    assert codes.matches("abc", "abc")
    assert codes.matches("abc", "pkce_abc")
    assert not codes.matches("abc", "")
    assert not codes.matches("abc", "abcd")


async def test_an_old_or_undated_code_is_expired(site: AuthSite) -> None:
    now = site.clock.now()
    assert not codes.is_expired(now - timedelta(seconds=60), now, 60)
    assert codes.is_expired(now - timedelta(seconds=61), now, 60)
    assert codes.is_expired(None, now, 60)


async def test_the_interval_names_the_seconds_left(site: AuthSite) -> None:
    now = site.clock.now()
    codes.check_frequency(None, now, 60, ErrorCode.OVER_EMAIL_SEND_RATE_LIMIT)
    codes.check_frequency(now - timedelta(seconds=60), now, 60, ErrorCode.OVER_EMAIL_SEND_RATE_LIMIT)
    with pytest.raises(AuthError, match=r"you can only request this after 50 seconds\.") as caught:
        codes.check_frequency(now - timedelta(seconds=10), now, 60, ErrorCode.OVER_EMAIL_SEND_RATE_LIMIT)
    assert caught.value.status == 429
    assert dict(caught.value.headers)["retry-after"] == "51"


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("+1 555 010 1234", "15550101234"),
        ("491701234567", "491701234567"),
        ("12", "12"),
        ("123456789012345", "123456789012345"),
    ],
)
def test_phones_lose_plus_and_spaces(text: str, phone: str) -> None:
    assert codes.parse_phone(text) == phone


@pytest.mark.parametrize(
    "text", ["", "1", "0123456", "+", "1234567890123456", "12a4", "++123456", "１２３４５６", "123-456", "12\n34"]
)
def test_other_phones_are_refused(text: str) -> None:
    with pytest.raises(AuthError, match=r"E\.164"):
        codes.parse_phone(text)


@pytest.mark.parametrize(
    "text",
    [
        "Ada@Example.COM",
        "a+label@example.com",
        "a.b_c-d@sub.example.co.uk",
        "a@localhost",
        "x@intranet.local",
        "o'neil@example.com",
        "a@xn--bcher-kva.example",
    ],
)
def test_addresses_are_lower_cased_only(text: str) -> None:
    assert parse_email(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@example.com",
        "a@",
        "a@b@c.com",
        "a b@example.com",
        "a@example..com",
        ".a@example.com",
        "a.@example.com",
        "a@-example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\n",
        "Ada <a@example.com>",
        '"a"@example.com',
        "а@example.com",
        "é@example.com",
        "a@bücher.de",
        "ａ@example.com",
        "a" * 250 + "@example.com",
        "a,b@example.com",
        "a@exam\x00ple.com",
        "a@[127.0.0.1]",
    ],
)
def test_malformed_lookalike_and_injecting_addresses_are_refused(text: str) -> None:
    with pytest.raises(AuthError) as caught:
        parse_email(text)
    assert (caught.value.status, caught.value.code) == (400, ErrorCode.VALIDATION_FAILED)


GOOD_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(
    ("challenge", "method"),
    [
        (GOOD_CHALLENGE, ""),
        ("", "s256"),
        ("short", "s256"),
        ("a" * 129, "plain"),
        ("a" * 42 + "+", "s256"),
        (GOOD_CHALLENGE, "md5"),
    ],
)
def test_half_or_malformed_challenges_are_refused(challenge: str, method: str) -> None:
    with pytest.raises(AuthError) as caught:
        parse_challenge(challenge, method)
    assert caught.value.code is ErrorCode.VALIDATION_FAILED


def test_the_method_is_read_in_any_case() -> None:
    challenge = parse_challenge(GOOD_CHALLENGE, "S256")
    assert challenge is not None
    assert challenge.method == "s256"
    assert parse_challenge("", "") is None


@given(st.text(alphabet="ab.-@_+ \"'()\\:1\x01é", max_size=16), st.text(alphabet="ab.-1@", max_size=10))
def test_the_short_way_to_judge_an_address_says_what_the_library_says(local: str, domain: str) -> None:
    text = f"{local}@{domain}"
    try:
        validate_email(f"{text}.com", check_deliverability=False, allow_smtputf8=False, strict=False)
    except EmailNotValidError:
        with pytest.raises(AuthError):
            parse_email(text)
    else:
        assert parse_email(text) == text.lower()


@pytest.mark.parametrize("length", range(240, 258))
def test_the_length_of_an_address_counts_as_the_library_counts_it(length: int) -> None:
    text = f"{'a' * (length - 10)}@short.org"
    try:
        validate_email(f"{text}.com", check_deliverability=False, allow_smtputf8=False, strict=False)
    except EmailNotValidError:
        with pytest.raises(AuthError):
            parse_email(text)
    else:
        assert parse_email(text) == text
