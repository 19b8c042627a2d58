"""Where a browser may be sent: the allow-list and its patterns (contracts/auth.md §4.6), and the choice (§1.11)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, quote_plus, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_NUMERIC_END = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$", re.ASCII | re.IGNORECASE)
_UNFIT = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NEVER = frozenset({"javascript", "data", "vbscript"})
_LONGEST = 8192
FLOW_PARAMETER = "sb_flow_id"
"""Appended to `redirect_to` by the JavaScript client; not part of the address that the list is about."""


class BadPattern(ValueError):
    """An entry of the allow-list that cannot be read."""


def compile_pattern(text: str) -> re.Pattern[str]:
    """A glob as a regular expression. Separators are `.` and `/`: `*` and `?` stop there, `**` does not;
    `[abc] [a-z] [!a] {a,b}` and `\\` escapes as usual. Raises BadPattern."""
    out, depth, place = "", 0, 0
    while place < len(text):
        character = text[place]
        place += 1
        if character == "*":
            run = len(text) - len(text[place:].lstrip("*")) - place
            out += ".*" if run else "[^./]*"
            place += run
        elif character == "?":
            out += "[^./]"
        elif character == "[":
            piece, place = _compile_class(text, place)
            out += piece
        elif character == "{":
            depth += 1
            out += "(?:"
        elif character == "}" and depth:
            depth -= 1
            out += ")"
        elif character == "," and depth:
            out += "|"
        elif character == "\\":
            if place == len(text):
                raise BadPattern(f"{text!r} ends with a lone backslash")
            out += re.escape(text[place])
            place += 1
        else:
            out += re.escape(character)
    if depth:
        raise BadPattern(f"{text!r} has a {{ without its }}")
    return re.compile(out, re.DOTALL)


def _compile_class(text: str, place: int) -> tuple[str, int]:
    end = text.find("]", place + 1)
    if end < 0:
        raise BadPattern(f"{text!r} has a [ without its ]")
    body = text[place:end]
    negated = body.startswith("!")
    body = body.removeprefix("!")
    if not body:
        raise BadPattern(f"{text!r} has an empty [ ]")
    range_form = re.fullmatch(r"(.)-(.)", body, re.DOTALL)
    if range_form and range_form[1] > range_form[2]:
        raise BadPattern(f"{text!r} has a range that runs backwards")
    inside = f"{re.escape(range_form[1])}-{re.escape(range_form[2])}" if range_form else re.escape(body)
    return f"[{'^' if negated else ''}{inside}]", end + 1


@dataclass(frozen=True, slots=True)
class RedirectRules:
    """The site's own address and the patterns of other allowed ones."""

    site_url: str
    patterns: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, site_url: str, entries: Sequence[str]) -> RedirectRules:
        """Compiles the list. Raises BadPattern."""
        return cls(site_url, tuple(compile_pattern(entry) for entry in entries))

    def allows(self, url: str) -> bool:
        """Whether a browser may be sent there. Anything that two readers could understand differently is refused."""
        if not url or len(url) > _LONGEST or _UNFIT.search(url):
            return False
        base, target = _split(self.site_url), _split(url)
        if target is None or target.scheme in _NEVER:
            return False
        if target.scheme in _DEFAULT_PORTS and (target.username is not None or not target.hostname):
            return False
        if base is not None and _same_site(base, target):
            return True
        address = _parse_address(target.hostname or "")
        if address is not None:
            return address.is_loopback  # RFC 8252 §7.3: a native app on the same machine
        return _is_plausible_host(target) and self._is_listed(url)

    def _is_listed(self, url: str) -> bool:
        address = url.partition("#")[0]
        return any(
            pattern.fullmatch(candidate) for candidate in {address, _without_flow(address)} for pattern in self.patterns
        )


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _same_site(base: SplitResult, target: SplitResult) -> bool:
    """Scheme, host and port are equal; loopback hosts may use any port (RFC 8252 §7.3)."""
    if base.scheme != target.scheme or base.hostname != target.hostname:
        return False
    return _port(base) == _port(target) or target.hostname in _LOOPBACK


def _port(parts: SplitResult) -> int | None:
    return parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme)


def _parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_plausible_host(target: SplitResult) -> bool:
    host = target.hostname or ""
    if _NUMERIC_END.search(host):
        return False  # browsers read it as an address: decimal, octal, hexadecimal (WHATWG URL, «ends in a number»)
    return target.scheme not in _DEFAULT_PORTS or _HOST.fullmatch(host) is not None


def _without_flow(url: str) -> str:
    head, question, query = url.partition("?")
    if not question or FLOW_PARAMETER not in query:
        return url
    kept = [part for part in query.split("&") if part.partition("=")[0] != FLOW_PARAMETER]
    return f"{head}?{'&'.join(kept)}" if kept else head


def choose_redirect(service: AuthService, call: Call) -> str:
    """Header `redirect_to`, else query or form `redirect_to`, else `Referer`, else SITE_URL: the first allowed one."""
    asked = call.headers.get("redirect_to") or call.parameter("redirect_to")
    if service.redirects.allows(asked):
        return asked
    if asked:
        service.note(
            "warning",
            f"redirect to {asked[:200]!r} refused: it matches neither GOTRUE_SITE_URL ({service.settings.site_url}) "
            f"nor GOTRUE_URI_ALLOW_LIST ({', '.join(service.settings.uri_allow_list) or 'empty'})",
        )
    referer = call.headers.get("referer", "")
    return referer if service.redirects.allows(referer) else service.settings.site_url


def render_fragment(**values: str) -> str:
    """Form-encoded, keys in alphabetical order, with the empty marker key `sb` (§4.3)."""
    return "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted({**values, "sb": ""}.items()))


def with_query(url: str, **values: str) -> str:
    """The address with these query parameters set; others stay, in alphabetical order as the contract has it."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in values]
    query = urlencode(sorted([*kept, *values.items()], key=lambda pair: pair[0]))
    return urlunsplit(parts._replace(query=query))


def with_fragment(url: str, **values: str) -> str:
    """The address with this fragment instead of its own."""
    return urlunsplit(urlsplit(url)._replace(fragment=render_fragment(**values)))


_OAUTH_ERRORS = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    500: "server_error",
    503: "temporarily_unavailable",
}


def error_parameters(status: int, code: str, message: str) -> dict[str, str]:
    """How an error travels in an address: no `error` key for statuses that OAuth has no word for (§4.3)."""
    named = {"error": _OAUTH_ERRORS[status]} if status in _OAUTH_ERRORS else {}
    return {**named, "error_code": code, "error_description": message}
