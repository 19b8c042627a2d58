"""The web3 grant: a message signed by a wallet becomes a session (§4.7)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_auth import audit, registration, sessions
from socle_auth.errors import AuthError, ErrorCode, OAuthError, failure, invalid
from socle_auth.oauth import accounts
from socle_auth.oauth.profile import Profile
from socle_auth.store import signatures as store
from socle_auth.web3.messages import (
    ETHEREUM,
    MAXIMUM_LENGTH,
    MINIMUM_LENGTH,
    SOLANA,
    Chain,
    MessageFault,
    MessageRefused,
    SignedMessage,
    ensure_acceptable,
    parse_message,
)
from socle_auth.web3.signatures import (
    SignatureFault,
    Web3ExtraMissing,
    is_signed_by_ethereum_address,
    is_signed_by_solana_address,
    parse_ethereum_signature,
    parse_solana_signature,
)

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.wire import Body
    from socle_platform.errors import WireResponse

PROVIDER = "web3"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A chain with its signatures."""

    chain: Chain
    parse: Callable[[str], bytes]
    proves: Callable[[SignedMessage, bytes], bool]


_KINDS = {
    "ethereum": _Kind(ETHEREUM, parse_ethereum_signature, is_signed_by_ethereum_address),
    "solana": _Kind(SOLANA, parse_solana_signature, is_signed_by_solana_address),
}


async def web3_grant(service: AuthService, call: Call) -> WireResponse:
    web3 = service.settings.external.web3
    if not web3.solana_enabled and not web3.ethereum_enabled:
        raise AuthError(ErrorCode.WEB3_PROVIDER_DISABLED, "Web3 provider is disabled")
    body = call.body()
    kind = _KINDS.get(body.text("chain"))
    if kind is None:
        raise AuthError(ErrorCode.WEB3_UNSUPPORTED_CHAIN, "Unsupported chain")
    is_solana = kind.chain is SOLANA
    if not (web3.solana_enabled if is_solana else web3.ethereum_enabled):
        raise AuthError(ErrorCode.WEB3_PROVIDER_DISABLED, f"{kind.chain.title} Web3 provider is disabled")
    validity = web3.solana_validity if is_solana else web3.ethereum_validity
    message, signature = _prove(service, body, kind, validity)
    profile = _profile(message, kind.chain)
    new_id = await accounts.ask_before(service, call, profile, PROVIDER)
    async with service.connect() as connection:
        # a signature is as good as a password for as long as it is valid: it signs in once
        digest = hashlib.sha256(message.raw.encode() + b"\0" + signature).digest()
        expires = service.now() + timedelta(seconds=2 * validity)
        if not await store.remember(connection, digest, service.now(), expires):
            raise OAuthError("invalid_grant", f"Signed {kind.chain.title} message has been used already")
        arrival = await accounts.arrive(service, connection, call, profile, PROVIDER, new_id, email_optional=True)
        traits = {
            "provider": PROVIDER,
            "chain": kind.chain.name,
            "network": message.network,
            "address": message.address,
            "domain": message.domain,
            "uri": message.uri,
        }
        await audit.record(service, connection, call, "login", arrival.user, traits)
        response = await sessions.issue_session(service, connection, call, arrival.user, PROVIDER)
    if arrival.created:
        await registration.tell_after(service, call, response.user)
    return sessions.reply(response)


def _prove(service: AuthService, body: Body, kind: _Kind, validity: float) -> tuple[SignedMessage, bytes]:
    """The message and its signature, both proven. Raises `validation_failed` for form, `invalid_grant` for content."""
    raw = body.text("message")
    size = len(raw.encode())
    if size < MINIMUM_LENGTH:
        raise invalid("message is too short")
    if size > MAXIMUM_LENGTH:
        raise invalid("message must not exceed 20KB")
    try:
        signature = kind.parse(body.text("signature"))
        message = parse_message(raw, kind.chain)
        if not kind.proves(message, signature):
            raise OAuthError("invalid_grant", "Signature does not match address in message")
        ensure_acceptable(message, kind.chain, now=service.now(), validity=validity, allowed=service.redirects.allows)
    except (SignatureFault, MessageFault) as error:
        raise invalid(error.message) from error
    except MessageRefused as error:
        raise OAuthError("invalid_grant", error.message) from error
    except Web3ExtraMissing as error:
        raise failure(error.message, error) from error
    return message, signature


def _profile(message: SignedMessage, chain: Chain) -> Profile:
    subject = f"{PROVIDER}:{chain.name}:{message.address}"
    custom = {
        "address": message.address,
        "chain": chain.name,
        "network": message.network,
        "domain": message.domain,
        "statement": message.statement,
    }
    return Profile(subject, (), {"sub": subject, "custom_claims": custom})
