"""Addresses as we accept and store them (contracts/auth.md §5.4, «email»)."""

from __future__ import annotations

from socle_auth.errors import AuthError, invalid

_LONGEST = 255


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
    from email_validator import EmailNotValidError, validate_email

    try:
        validate_email(f"{text}.com", check_deliverability=False, allow_smtputf8=False, strict=False)
    except EmailNotValidError:
        return False
    return True
