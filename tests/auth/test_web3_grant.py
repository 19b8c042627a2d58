"""Signing in with a wallet through the service (contract §4.7, §12.54)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("coincurve")

from harness.auth_site import FAST, AuthSite, changed, claims_of, open_site, refusal
from harness.postgres import TestServer
from harness.wallets import EthereumWallet, SolanaWallet, Text, message_text
from socle_platform.config.auth_external import Web3Settings
from socle_platform.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")
ON = changed(
    FAST,
    external__web3=Web3Settings(solana_enabled=True, ethereum_enabled=True),
    rates__web3=100_000,
)
Wallet = EthereumWallet | SolanaWallet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(server: TestServer) -> AsyncIterator[Database]:
    async with server.clone() as name, server.open(name) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(database: Database) -> AsyncIterator[AuthSite]:
    async with open_site(database, ON) as opened:
        yield opened


def signed(site: AuthSite, wallet: Wallet, **changes: Text) -> dict[str, str]:
    """A sign-in body: the wallet's signature over a message made now."""
    chain = "ethereum" if isinstance(wallet, EthereumWallet) else "solana"
    network = "1" if chain == "ethereum" else "solana:mainnet"
    text = message_text(
        chain.title(),
        wallet.address,
        site.clock.now(),
        **{"network": network, "domain": "app.example.com", "uri": "https://app.example.com/", **changes},
    )
    return {"chain": chain, "message": text, "signature": wallet.sign(text)}


async def grant(site: AuthSite, body: dict[str, Any]) -> Any:
    return await site.post("/token?grant_type=web3", body)


@pytest.mark.parametrize("make", [EthereumWallet, SolanaWallet])
async def test_a_wallet_signs_in_and_is_known_again(site: AuthSite, make: type[Wallet]) -> None:
    wallet = make()
    answer = await grant(site, signed(site, wallet))
    assert answer.status_code == 200, answer.text
    session = answer.json()
    chain = "ethereum" if make is EthereumWallet else "solana"
    (identity,) = session["user"]["identities"]
    assert (identity["provider"], identity["id"]) == ("web3", f"web3:{chain}:{wallet.address}")
    assert identity["identity_data"]["custom_claims"] == {
        "address": wallet.address,
        "chain": chain,
        "network": "1" if chain == "ethereum" else "solana:mainnet",
        "domain": "app.example.com",
        "statement": "I accept the terms.",
    }
    assert session["user"]["email"] == ""
    assert session["user"]["app_metadata"] == {"provider": "web3", "providers": ["web3"]}
    assert [entry["method"] for entry in claims_of(session, site.keyring)["amr"]] == ["web3"]
    site.clock.advance(seconds=1)
    again = (await grant(site, signed(site, wallet))).json()
    assert again["user"]["id"] == session["user"]["id"]


async def test_a_signature_signs_in_once(site: AuthSite) -> None:
    body = signed(site, EthereumWallet())
    answers = await asyncio.gather(*(grant(site, body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    site.clock.advance(minutes=9)
    replay = await grant(site, body)
    assert replay.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": "http://app.example.com/"}, "does not use HTTPS"),
        ({"uri": "https://elsewhere.example/"}, "signed for another app"),
        ({"domain": "other.example"}, "Domain that does not match"),
    ],
)
async def test_messages_for_other_places_are_refused(site: AuthSite, changes: dict[str, Text], words: str) -> None:
    answer = await grant(site, signed(site, SolanaWallet(), **changes))
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_grant"
    assert words in answer.json()["error_description"]


async def test_messages_have_their_time(site: AuthSite) -> None:
    wallet = EthereumWallet()
    early = signed(site, wallet, not_before=site.clock.now() + timedelta(minutes=1))
    assert "future" in (await grant(site, early)).json()["error_description"]
    short = signed(site, wallet, expires=site.clock.now() + timedelta(seconds=5))
    old = signed(site, wallet)
    site.clock.advance(seconds=6)
    assert "expired" in (await grant(site, short)).json()["error_description"]
    site.clock.advance(minutes=10)
    assert "too long ago" in (await grant(site, old)).json()["error_description"]


async def test_signatures_of_others_are_refused(site: AuthSite) -> None:
    mine, other = signed(site, EthereumWallet()), signed(site, EthereumWallet())
    answer = await grant(site, mine | {"signature": other["signature"]})
    assert answer.json() == {
        "error": "invalid_grant",
        "error_description": "Signature does not match address in message",
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"chain": "bitcoin"}, (400, "web3_unsupported_chain")),
        ({"chain": ""}, (400, "web3_unsupported_chain")),
        ({"message": "short"}, (400, "validation_failed")),
        ({"message": "x" * 20481}, (400, "validation_failed")),
        ({"message": "x" * 100}, (400, "validation_failed")),
        ({"signature": "0x00"}, (400, "validation_failed")),
        ({"signature": ""}, (400, "validation_failed")),
    ],
)
async def test_the_form_is_checked(site: AuthSite, change: dict[str, str], expected: tuple[int, str]) -> None:
    assert refusal(await grant(site, signed(site, EthereumWallet()) | change)) == expected


async def test_chains_can_be_off(database: Database, site: AuthSite) -> None:
    async with open_site(database, FAST, clock=site.clock) as off:
        assert refusal(await grant(off, signed(off, SolanaWallet()))) == (422, "web3_provider_disabled")
    half = changed(ON, external__web3=Web3Settings(solana_enabled=True))
    async with open_site(database, half, clock=site.clock) as partly:
        assert refusal(await grant(partly, signed(partly, EthereumWallet()))) == (422, "web3_provider_disabled")
        assert (await grant(partly, signed(partly, SolanaWallet()))).status_code == 200


async def test_closed_signups_keep_strangers_out(database: Database, site: AuthSite) -> None:
    known = SolanaWallet()
    assert (await grant(site, signed(site, known))).status_code == 200
    site.clock.advance(seconds=1)
    async with open_site(database, changed(ON, disable_signup=True), clock=site.clock) as closed:
        assert (await grant(closed, signed(closed, known))).status_code == 200
        assert refusal(await grant(closed, signed(closed, SolanaWallet()))) == (422, "signup_disabled")


async def test_a_banned_wallet_stays_out(site: AuthSite) -> None:
    wallet = EthereumWallet()
    user = (await grant(site, signed(site, wallet))).json()["user"]
    await site.run("update auth.users set banned_until = '2999-01-01' where id = $1", user["id"])
    site.clock.advance(seconds=1)
    assert refusal(await grant(site, signed(site, wallet))) == (403, "user_banned")
