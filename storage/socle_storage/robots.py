"""The X-Robots-Tag that an uploader may store with an object. Pure.

Rules and values: MDN, «X-Robots-Tag»; contract storage.md §3.1.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from socle_storage.errors import StorageError, invalid_robots_tag

_PLAIN = frozenset(
    {
        "all",
        "noindex",
        "nofollow",
        "none",
        "nosnippet",
        "indexifembedded",
        "notranslate",
        "noimageindex",
        "noarchive",
        "nocache",
        "noai",
        "noimageai",
    }
)
_WITH_NUMBER = frozenset({"max-snippet", "max-video-preview"})
_PREVIEW = frozenset({"none", "standard", "large"})
_DATE = re.compile(r"unavailable_after:\s*(.+?)(?=,\s*(?:[a-z_-]+(?:\s*:|\s*,|$))|$)")


def verify_robots_tag(value: str) -> str:
    """The header's value. Raises InvalidRequest for an empty, unknown or malformed rule."""
    rest = value.strip()
    if not rest:
        raise invalid_robots_tag("X-Robots-Tag header value must be a non-empty string")
    while rest:
        rest = _verify_first(rest)
    return value


def is_robots_tag(value: str) -> bool:
    """Whether `verify_robots_tag` would take it."""
    try:
        verify_robots_tag(value)
    except StorageError:
        return False
    return True


def _verify_first(rest: str) -> str:
    """Checks the first rule and returns what follows it."""
    if match := _DATE.match(rest):
        _verify_date(match[1].strip())
        return rest[match.end() :].lstrip(", ")
    rule, comma, following = rest.partition(",")
    rule = rule.strip()
    if not rule or (comma and not following.strip()):
        raise invalid_robots_tag("X-Robots-Tag header contains empty rule")
    name, colon, argument = (part.strip() for part in rule.partition(":"))
    if not colon:
        if name not in _PLAIN:
            raise invalid_robots_tag(f'Invalid X-Robots-Tag rule: "{rule}"')
    elif name in _WITH_NUMBER:
        if not re.fullmatch(r"-1|\d{1,15}", argument):
            raise invalid_robots_tag(f'X-Robots-Tag "{name}" value must be an integer >= -1, got: "{argument}"')
    elif name == "max-image-preview":
        if argument not in _PREVIEW:
            text = f'value must be one of: none, standard, large, got: "{argument}"'
            raise invalid_robots_tag(f'X-Robots-Tag "max-image-preview" {text}')
    elif not argument:
        raise invalid_robots_tag(f'X-Robots-Tag user agent "{name}" has no rules specified')
    else:  # a user agent, then its first rule
        return f"{argument},{following}" if comma else argument
    return following.strip()


def _verify_date(text: str) -> None:
    try:
        parsedate_to_datetime(text)
    except (TypeError, ValueError):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise invalid_robots_tag(
                f'X-Robots-Tag "unavailable_after" value must be a valid date, got: "{text}"'
            ) from None
