"""Addresses as we accept and store them (contracts/auth.md §5.4, «email»)."""

from __future__ import annotations

import re
from functools import lru_cache

from socle_auth.errors import AuthError, invalid

_LONGEST = 255
_SHORT = 250
"""Characters of an address that no rule on its whole length can concern."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
"""A local part that is good by itself (RFC 5322 §3.2.3)."""


def parse_email(text: str) -> str:
    """The address in lower case, otherwise as it was written. Raises `validation_failed`.

    ASCII only (an international domain in its `xn--` form), as upstream has it: of two addresses that look alike, one
    cannot be registered.
    """
    if not text:
        raise invalid("An email address is required")
    if len(text.encode("utf-8", "replace")) > _LONGEST:
        raise invalid("An email address is too long")
    if not text.isascii() or not _is_address(text):
        raise invalid("Unable to validate email address: invalid format")
    return text.lower()


def email_or(text: str, error: AuthError) -> str:
    """Like parse_email, with another error for a malformed address."""
    try:
        return parse_email(text)
    except AuthError:
        raise error from None


def _is_address(text: str) -> bool:
    """By email-validator's syntax rules. The domain is judged with one more label, because names that are reserved on
    the public internet (`localhost`, `intranet.local`) are good addresses of a private server."""
    local, _, domain = text.rpartition("@")
    if len(text) <= _SHORT and _DOT_ATOM.fullmatch(local):
        return _is_domain(domain)
    return _is_valid(text)


@lru_cache(maxsize=4096)
def _is_domain(domain: str) -> bool:
    """Whether addresses are good there: asked once of a domain, however many people it has."""
    return _is_valid(f"a@{domain}")


def _is_valid(address: str) -> bool:
    from email_validator import EmailNotValidError, validate_email

    try:
        validate_email(f"{address}.com", check_deliverability=False, allow_smtputf8=False, strict=False)
    except EmailNotValidError:
        return False
    return True
