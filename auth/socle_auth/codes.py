"""One-time codes and random secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from socle_auth.errors import AuthError, ErrorCode, invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_auth.context import AuthService

_PHONE = re.compile(r"[1-9][0-9]{1,14}", re.ASCII)
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def new_code(service: AuthService, length: int) -> str:
    """A uniform decimal code, zero padded (§5.4: 6..10 digits)."""
    return f"{int.from_bytes(service.random_bytes(16)) % 10**length:0{length}d}"


def hash_code(address: str, code: str) -> str:
    """What is stored of a code: sha224 of address and code, in hex (§3.4)."""
    return hashlib.sha224(f"{address.lower()}{code}".encode()).hexdigest()


def matches(offered_hash: str, stored: str) -> bool:
    """Whether the stored hash, of either flow, is this one."""
    return bool(stored) and any(
        hmac.compare_digest(candidate.encode(), stored.encode()) for candidate in (offered_hash, f"pkce_{offered_hash}")
    )


def is_expired(sent_at: datetime | None, now: datetime, seconds: float) -> bool:
    """A code of unknown age is expired."""
    return sent_at is None or now > sent_at + timedelta(seconds=seconds)


def check_frequency(sent_at: datetime | None, now: datetime, seconds: float, code: ErrorCode) -> None:
    """One message per interval and kind. Raises 429; front ends read the seconds out of the text (§7.3)."""
    if sent_at is None or sent_at + timedelta(seconds=seconds) <= now:
        return
    left = int((sent_at + timedelta(seconds=seconds) - now).total_seconds())
    raise AuthError(
        code,
        f"For security purposes, you can only request this after {left} seconds.",
        headers=(("retry-after", str(left + 1)),),
    )


def new_password(service: AuthService, length: int, required: Sequence[str] = ()) -> str:
    """A password nobody knows, with a character of each required set."""
    chosen = [_pick(service, characters) for characters in required]
    chosen += [_pick(service, _LETTERS) for _ in range(length - len(chosen))]
    order = sorted(range(len(chosen)), key=lambda _: service.random_bytes(8))
    return "".join(chosen[place] for place in order)


def _pick(service: AuthService, characters: str) -> str:
    return characters[int.from_bytes(service.random_bytes(8)) % len(characters)]


def new_refresh_token(service: AuthService) -> str:
    """Twelve characters `[a-z2-7]`: a refresh token of the first form (§5.3)."""
    return base64.b32encode(service.random_bytes(8)).decode().lower()[:12]


def parse_phone(text: str) -> str:
    """E.164 without its `+`. Raises `validation_failed`."""
    phone = format_phone(text)
    if not _PHONE.fullmatch(phone):
        raise invalid("Invalid phone number format (E.164 required)")
    return phone


def format_phone(text: str) -> str:
    """As stored: without a leading `+` and without spaces."""
    return text.removeprefix("+").replace(" ", "")
