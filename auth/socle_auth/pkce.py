"""Proof key for code exchange in mail and provider flows (RFC 7636; contracts/auth.md §4.1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from socle_auth.errors import AuthError, ErrorCode, invalid
from socle_auth.store import flows
from socle_auth.store.rows import FlowState

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_auth.wire import Body
    from socle_platform.db import Connection

TOKEN_PREFIX = "pkce_"
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client sent: its challenge and how it made it (`s256` or `plain`)."""

    text: str
    method: str


def read_challenge(body: Body) -> Challenge | None:
    """`code_challenge` and `code_challenge_method` of a body, or None without them."""
    return parse_challenge(body.text("code_challenge"), body.text("code_challenge_method"))


def parse_challenge(challenge: str, method: str) -> Challenge | None:
    """Both or neither; 43..128 unreserved characters. Raises `validation_failed`."""
    if bool(challenge) != bool(method):
        raise invalid("PKCE flow requires code_challenge_method and code_challenge")
    if not challenge:
        return None
    if not 43 <= len(challenge) <= 128:
        raise invalid("code challenge has to be between 43 and 128 characters")
    if not _CHALLENGE.fullmatch(challenge):
        raise invalid(
            "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and tildes"
        )
    if method.lower() not in ("s256", "plain"):
        raise invalid(f'unsupported code_challenge method "{method}"')
    return Challenge(challenge, method.lower())


def mark_hash(token_hash: str, challenge: Challenge | None) -> str:
    """The hash as stored and linked: marked when the link is to give a code instead of a session."""
    return TOKEN_PREFIX + token_hash if challenge else token_hash


async def begin_mail_flow(
    service: AuthService,
    connection: Connection,
    user_id: str,
    challenge: Challenge | None,
    *,
    method: str,
    provider_type: str,
) -> None:
    """Remembers the challenge of a mail flow; nothing to do without one."""
    if challenge is None:
        return
    now = service.now()
    await flows.insert(
        connection,
        FlowState(
            id=service.new_id(),
            user_id=user_id,
            auth_code=service.new_id(),
            code_challenge=challenge.text,
            code_challenge_method=challenge.method,
            provider_type=provider_type,
            authentication_method=method,
            created_at=now,
            updated_at=now,
        ),
    )


def is_expired(flow: FlowState, now: datetime, seconds: float) -> bool:
    """Counted from when the code was given out, else from the start.

    Upstream counts so for magic links only: other links, opened later than that, die at once (§10.3).
    """
    return now > (flow.auth_code_issued_at or flow.created_at) + timedelta(seconds=seconds)


def matches_challenge(challenge: str, method: str | None, verifier: str) -> bool:
    """Whether the verifier is the one that the challenge was made of (`s256` unless it is `plain`)."""
    offered = verifier
    if method != "plain":
        digest = hashlib.sha256(verifier.encode()).digest()
        offered = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(offered.encode(), challenge.encode())


def verify_code(flow: FlowState, verifier: str) -> None:
    """Proves that the code goes to whoever began the flow. Raises `bad_code_verifier`."""
    challenge = flow.code_challenge or ""
    if not challenge or not matches_challenge(challenge, flow.code_challenge_method, verifier):
        raise AuthError(ErrorCode.BAD_CODE_VERIFIER, "code challenge does not match previously saved code verifier")
