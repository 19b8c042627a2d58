"""Wallet messages: parsing, rules of place and time, and real signatures of both chains (contract §4.7, §12.54)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

pytest.importorskip("coincurve")

from harness.wallets import EthereumWallet, SolanaWallet, Text, message_text
from socle_auth.web3.messages import (
    ETHEREUM,
    SOLANA,
    Chain,
    MessageFault,
    MessageRefused,
    ensure_acceptable,
    parse_message,
)
from socle_auth.web3.signatures import (
    SignatureFault,
    decode_base58,
    is_signed_by_ethereum_address,
    is_signed_by_solana_address,
    keccak256,
    parse_ethereum_signature,
    parse_solana_signature,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ADDRESS = "0x" + "aB" * 20


def text(**changes: Text) -> str:
    return message_text("Ethereum", ADDRESS, NOW, **changes)


def test_every_field_is_read() -> None:
    message = parse_message(
        text(
            expires=NOW + timedelta(minutes=5),
            not_before=NOW - timedelta(minutes=5),
            nonce="abc12345",
            request_id="r-1",
            resources="https://a.example/x,ipfs://bafy",
        ),
        ETHEREUM,
    )
    assert message.domain == "app.example.com"
    assert message.address == ADDRESS
    assert message.statement == "I accept the terms."
    assert message.uri == "https://app.example.com/login"
    assert (message.version, message.network, message.nonce, message.request_id) == ("1", "1", "abc12345", "r-1")
    assert message.issued_at == NOW
    assert message.expires_at == NOW + timedelta(minutes=5)
    assert message.resources == ("https://a.example/x", "ipfs://bafy")


def test_the_statement_may_be_missing() -> None:
    assert parse_message(text(statement=None), ETHEREUM).statement is None


def test_the_network_is_optional_on_solana_only() -> None:
    address = "1" * 32
    assert parse_message(message_text("Solana", address, NOW, network=None), SOLANA).network == ""
    with pytest.raises(MessageFault, match="siwe: Chain ID is not valid"):
        parse_message(text(network=""), ETHEREUM)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("app.example.com wants", "app_example wants"), "siwe: domain in first line of message is not valid"),
        (("Ethereum account:", "Dogecoin account:"), "siwe: message first line does not end in"),
        ((ADDRESS, "0x1234"), "siwe: wallet address is not a valid Ethereum address"),
        ((ADDRESS + "\n\n", ADDRESS + "\nx\n"), "siwe: third line must be empty"),
        (("URI: https://app.example.com/login", "URI: nowhere"), "siwe: URI is not valid"),
        (("URI: https://app.example.com/login", "URI: https://[bad"), "siwe: URI is not valid"),
        (("URI: https://app.example.com/login\n", ""), "siwe: URI is not specified"),
        (("Version: 1", "Version: 2"), 'siwe: Version value is not supported, expected 1 got "2"'),
        (("Chain ID: 1", "Chain ID: 0"), "siwe: Chain ID is not valid"),
        (("Chain ID: 1", "Chain ID: one"), "siwe: Chain ID is not valid"),
        (("Nonce: ", "Nonce "), "siwe: encountered unparsable line at index"),
        (("Issued At: 2026-03-04T05:06:07", "Issued At: 4 March"), "siwe: Issued At is not a valid ISO8601"),
        (("Issued At: 2026-03-04T05:06:07", "Issued At: 2026-13-04T05:06:07"), "siwe: Issued At is not a valid"),
        (("Issued At: ", "Issued: "), "siwe: Issued At is not specified"),
    ],
)
def test_faulty_messages_are_refused(change: tuple[str, str], fault: str) -> None:
    with pytest.raises(MessageFault) as caught:
        parse_message(text().replace(*change), ETHEREUM)
    assert fault in caught.value.message


def test_times_must_be_in_order() -> None:
    early = NOW - timedelta(seconds=1)
    with pytest.raises(MessageFault, match="Issued At is after Expiration"):
        parse_message(text(expires=early), ETHEREUM)
    with pytest.raises(MessageFault, match="Not Before is after Expiration"):
        parse_message(text(expires=NOW, not_before=NOW + timedelta(seconds=1)), ETHEREUM)
    with pytest.raises(MessageFault, match="Resource at position 1"):
        parse_message(text(resources="https://a.example,nowhere"), ETHEREUM)
    with pytest.raises(MessageFault, match="at least 6 lines"):
        parse_message("a\nb\n", ETHEREUM)


def judge(raw: str, *, now: datetime = NOW, chain: Chain = ETHEREUM, allowed: tuple[str, ...] = ("https://",)) -> None:
    ensure_acceptable(
        parse_message(raw, chain),
        chain,
        now=now,
        validity=600,
        allowed=lambda url: url.startswith(allowed),
    )


def test_a_fresh_message_for_us_is_acceptable() -> None:
    judge(text())
    judge(text(uri="http://localhost:3000/", domain="other.example"), allowed=("http://localhost",))


@pytest.mark.parametrize("chain", [ETHEREUM, SOLANA], ids=lambda chain: chain.name)
def test_expiry_counts_without_not_before(chain: Chain) -> None:
    address = ADDRESS if chain is ETHEREUM else "1" * 32
    raw = message_text(chain.title, address, NOW, expires=NOW + timedelta(seconds=30), network=None)
    raw = raw.replace("Version: 1\n", "Version: 1\nChain ID: 1\n") if chain is ETHEREUM else raw
    judge(raw, chain=chain, now=NOW + timedelta(seconds=30))
    with pytest.raises(MessageRefused, match="is expired"):
        judge(raw, chain=chain, now=NOW + timedelta(seconds=31))


@pytest.mark.parametrize(
    ("changes", "now", "allowed", "why"),
    [
        ({"uri": "http://app.example.com/"}, NOW, ("http",), "does not use HTTPS"),
        ({}, NOW, ("https://elsewhere",), "signed for another app"),
        ({"domain": "evil.example"}, NOW, ("https://",), "Domain that does not match"),
        ({"uri": "https://app.example.com:8443/x"}, NOW, ("https://",), "Domain that does not match"),
        ({}, NOW, ("https://app.example.com/login",), "Domain that does not match"),
        ({"not_before": NOW + timedelta(seconds=5)}, NOW, ("https://",), "becomes valid in the future"),
        ({}, NOW + timedelta(seconds=601), ("https://",), "issued too long ago"),
        ({}, NOW - timedelta(seconds=601), ("https://",), "issued too far in the future"),
    ],
)
def test_place_and_time_are_judged(changes: dict[str, Text], now: datetime, allowed: tuple[str, ...], why: str) -> None:
    with pytest.raises(MessageRefused, match=why):
        judge(message_text("Ethereum", ADDRESS, NOW, **changes), now=now, allowed=allowed)


def test_solana_signatures_prove_the_address() -> None:
    wallet, other = SolanaWallet(), SolanaWallet()
    message = parse_message(message_text("Solana", wallet.address, NOW, network="solana:mainnet"), SOLANA)
    assert is_signed_by_solana_address(message, parse_solana_signature(wallet.sign(message.raw)))
    assert not is_signed_by_solana_address(message, parse_solana_signature(other.sign(message.raw)))
    assert not is_signed_by_solana_address(message, parse_solana_signature(wallet.sign(message.raw + " ")))


def test_ledger_wraps_the_solana_message() -> None:
    wallet = SolanaWallet()
    message = parse_message(message_text("Solana", wallet.address, NOW, network=None), SOLANA)
    raw = message.raw.encode()
    wrapped = (
        b"\xffsolana offchain\x00"
        + message.domain.encode().ljust(32, b"\0")
        + b"\x00\x01"
        + decode_base58(wallet.address)
        + len(raw).to_bytes(2, "little")
        + raw
    )
    assert is_signed_by_solana_address(message, wallet.sign_bytes(wrapped))


def test_solana_signatures_come_in_either_base64() -> None:
    raw = Ed25519PrivateKey.generate().sign(b"x")
    standard, urlsafe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    for form in (standard, urlsafe, standard.rstrip("="), urlsafe.rstrip("=")):
        assert parse_solana_signature(form) == raw
    for bad in ("", "x", "!" * 86, "é" * 88, "A" * 88):
        with pytest.raises(SignatureFault):
            parse_solana_signature(bad)


def test_an_address_that_is_no_key_proves_nothing() -> None:
    for address in ("0" * 32, "1" * 44, "l" * 40):
        message = parse_message(message_text("Solana", address, NOW, network=None), SOLANA)
        assert not is_signed_by_solana_address(message, bytes(64))


def test_ethereum_signatures_recover_the_address() -> None:
    wallet, other = EthereumWallet(), EthereumWallet()
    message = parse_message(message_text("Ethereum", wallet.address, NOW), ETHEREUM)
    good = wallet.sign(message.raw)
    assert is_signed_by_ethereum_address(message, parse_ethereum_signature(good))
    assert is_signed_by_ethereum_address(message, parse_ethereum_signature(good.removeprefix("0x").upper()))
    low = bytes.fromhex(good[2:130]) + bytes([int(good[130:], 16) - 27])
    assert is_signed_by_ethereum_address(message, low)
    assert not is_signed_by_ethereum_address(message, parse_ethereum_signature(other.sign(message.raw)))
    assert not is_signed_by_ethereum_address(message, parse_ethereum_signature(wallet.sign(message.raw + ".")))


@pytest.mark.parametrize("last", [2, 4, 26, 31, 255])
def test_signatures_of_nobody_prove_nothing(last: int) -> None:
    message = parse_message(text(), ETHEREUM)
    assert not is_signed_by_ethereum_address(message, b"\xff" * 64 + bytes([last]))
    assert not is_signed_by_ethereum_address(message, bytes(64) + bytes([last]))


def test_ethereum_signatures_are_65_bytes_of_hex() -> None:
    for bad in ("", "0x", "0x" + "0" * 128, "zz" * 65, "0x" + "0" * 132):
        with pytest.raises(SignatureFault, match="130 character-long"):
            parse_ethereum_signature(bad)


def test_keccak_is_not_sha3() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_known_base58_values() -> None:
    assert decode_base58("11111111111111111111111111111111") == bytes(32)
    assert decode_base58("2NEpo7TZRRrLZSi2U") == b"Hello World!"
    with pytest.raises(ValueError, match="substring not found"):
        decode_base58("0OIl")
