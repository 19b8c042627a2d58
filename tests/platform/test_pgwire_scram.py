"""SCRAM-SHA-256 against the vectors of RFC 7677 and a server of our own."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_platform.pgwire.errors import ProtocolViolation
from socle_platform.pgwire.scram import ScramClient, prepare_password

# RFC 7677 section 3
NONCE = "rOprNGfwEbeRWgbNEkqO"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
OUTCOME = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def client(password: str = "pencil") -> ScramClient:
    return ScramClient(password, nonce=NONCE, user="user")


def test_the_rfc_example() -> None:
    scram = client()
    assert scram.first() == FIRST
    assert scram.final(CHALLENGE) == FINAL
    scram.verify(OUTCOME)


def test_a_server_that_does_not_know_the_password() -> None:
    scram = client("pencils")
    scram.final(CHALLENGE)
    with pytest.raises(ProtocolViolation, match="signature"):
        scram.verify(OUTCOME)


def test_the_outcome_before_the_challenge_proves_nothing() -> None:
    with pytest.raises(ProtocolViolation, match="signature"):
        client().verify(b"v=")


def test_nonces_differ_and_the_user_is_left_to_the_startup_message() -> None:
    firsts = {ScramClient("x").first() for _ in range(10)}
    assert len(firsts) == 10
    assert all(first.startswith(b"n,,n=,r=") for first in firsts)


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=somebodyelse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=!!!,i=4096",
        b"m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"",
        b"\xff\xfe",
    ],
)
def test_bad_challenges(challenge: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        client().final(challenge)


def test_the_servers_own_error() -> None:
    scram = client()
    scram.final(CHALLENGE)
    with pytest.raises(ProtocolViolation, match="invalid-proof"):
        scram.verify(b"e=invalid-proof")


@given(st.binary(max_size=80))
def test_wild_challenges(noise: bytes) -> None:
    scram = client()
    try:
        scram.final(b"r=" + NONCE.encode() + b"x,s=" + base64.b64encode(b"salt") + b",i=1," + noise)
        scram.verify(noise)
    except ProtocolViolation:
        pass


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", b"IX"),  # RFC 4013 section 3
        ("user", b"user"),
        ("USER", b"USER"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\u0007", b"\x07"),  # prohibited: taken as it is
        ("\u0627\u0031", "\u0627\u0031".encode()),  # fails the bidirectional check: taken as it is
    ],
)
def test_password_preparation(password: str, prepared: bytes) -> None:
    assert prepare_password(password) == prepared
