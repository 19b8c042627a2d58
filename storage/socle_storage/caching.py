"""Conditional requests and cache headers (RFC 9110 §13, RFC 9111; contract storage.md §3.2). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

_TAGS = re.compile(r'\s*(?:W/)?("[^"]*"|[^\s",]+)\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional headers of a request, None where absent."""

    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_range: str | None = None


def parse_tags(text: str) -> tuple[str, ...]:
    """The tags of a list, `W/` dropped, quotes kept; a tag that came without quotes stays without."""
    return tuple(match[1] for match in _TAGS.finditer(text))


def parse_moment(text: str | None) -> datetime | None:
    """A moment as ISO 8601 (from a row) or as an HTTP date, in UTC; None if it is neither."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError):
            return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def render_http_date(moment: datetime) -> str:
    """`Tue, 24 Nov 2026 13:49:24 GMT`."""
    return _http_date(int(moment.timestamp()))


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def is_unchanged(conditions: Conditions, etag: str | None, modified: datetime | None) -> bool:
    """Whether the answer is 304. If-None-Match wins; moments are compared in whole seconds."""
    if conditions.if_none_match is not None:
        wanted = conditions.if_none_match.strip()
        return wanted == "*" or (etag is not None and (wanted == etag or etag in parse_tags(wanted)))
    since = parse_moment(conditions.if_modified_since)
    return since is not None and modified is not None and modified.replace(microsecond=0) <= since


def is_range_current(conditions: Conditions, etag: str | None, modified: datetime | None) -> bool:
    """Whether a Range counts: without If-Range, or with one that names exactly these bytes (no weak tag does)."""
    if conditions.if_range is None:
        return True
    wanted = conditions.if_range.strip()
    if wanted.startswith(('"', "W/")):
        return wanted == etag
    moment = parse_moment(wanted)
    return moment is not None and modified is not None and modified.replace(microsecond=0) == moment


def cache_control(
    stored: str | None, asked_tag: str | None, etag: str | None, *, shared_max_age: int, head: bool
) -> str:
    """The Cache-Control of an answer: as stored, with the contract's additions for requests that show a tag."""
    parts: list[str] = [stored] if stored else []
    if asked_tag is None:
        return ", ".join(parts)
    same = asked_tag == etag
    shared = f"s-maxage={shared_max_age}" if shared_max_age > 0 else ""
    if head:
        parts.append(shared if same else "must-revalidate")
    else:
        parts += [shared, "" if same else "stale-while-revalidate=30"]
    return ", ".join(part for part in parts if part)
