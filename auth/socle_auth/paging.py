"""Pages of long lists and the headers that describe them (contracts/auth.md §3.13)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from socle_auth import wire
from socle_auth.errors import invalid

if TYPE_CHECKING:
    from socle_auth.context import Call

_DEFAULT_SIZE = 50
_LARGEST_NUMBER = 2**53
_LARGEST_CURSOR_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Pages count from 1."""

    number: int
    size: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.size


def parse_page(call: Call) -> Page:
    """`page` and `per_page`; empty ones, which the JavaScript client sends, mean the defaults."""
    number = _parse_number(call, "page", 1)
    return Page(max(1, number), max(1, _parse_number(call, "per_page", _DEFAULT_SIZE)))


def _parse_number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > _LARGEST_NUMBER:
        raise invalid(f"Bad Pagination Parameters: {name} must be a number, not {text!r}")
    return int(text)


def page_headers(call: Call, page: Page, total: int) -> tuple[tuple[str, str], ...]:
    """`X-Total-Count` and `Link`. The page is the first parameter of each link: the client reads it there."""
    last = -(-total // page.size)
    links = list[str]()
    if last > page.number:
        links.append(f'<{_link(call, page.number + 1)}>; rel="next"')
    links.append(f'<{_link(call, last)}>; rel="last"')
    return (("link", ", ".join(links)), ("x-total-count", str(total)))


def _link(call: Call, number: int) -> str:
    others = {name: value for name, value in sorted(call.query.items()) if name != "page"}
    return f"{call.path}?{urlencode({'page': number, **others})}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list ordered by (created_at, id), opaque on the wire."""

    created_at: datetime
    id: str

    def render(self) -> str:
        raw = json.dumps({"created_at": wire.render_time(self.created_at), "id": self.id}, separators=(",", ":"))
        return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()


def parse_cursor(call: Call) -> tuple[int, Cursor | None]:
    """`limit` (50, at most 1000) and `cursor`. Raises `validation_failed`."""
    limit = _parse_number(call, "limit", _DEFAULT_SIZE)
    if limit == 0:
        raise invalid("Bad Pagination Parameters: limit must be greater than 0")
    text = call.query.get("cursor", "")
    return min(limit, _LARGEST_CURSOR_PAGE), _decode_cursor(text) if text else None


def _decode_cursor(text: str) -> Cursor:
    try:
        raw = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        fields = wire.as_object(raw) or {}
        moment = datetime.fromisoformat(str(fields["created_at"]))
        user_id = wire.parse_uuid(str(fields["id"]))
    except (ValueError, KeyError):
        user_id, moment = None, None
    if user_id is None or moment is None or moment.tzinfo is None:
        raise invalid("Bad Pagination Parameters: invalid cursor")
    return Cursor(moment, user_id)


def cursor_headers(call: Call, following: Cursor | None) -> tuple[tuple[str, str], ...]:
    """`Link` to the next page, nothing on the last one."""
    if following is None:
        return ()
    others = {name: value for name, value in call.query.items() if name not in ("page", "cursor")}
    query = urlencode(sorted({**others, "cursor": following.render()}.items()))
    return (("link", f'<{call.path}?{query}>; rel="next"'),)
