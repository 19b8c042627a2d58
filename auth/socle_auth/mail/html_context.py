"""Where in an HTML document a template's value stands, and how it is escaped there.

The same guarantees as Go's html/template for what mails need: text, attribute values, addresses, styles. Values inside
scripts, event attributes and tags themselves are refused when the template is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import escape
from typing import Literal, TypeAlias
from urllib.parse import quote

State: TypeAlias = Literal["text", "comment", "raw", "tag", "value", "quoted"]

_URL_ATTRIBUTES = frozenset(
    {"href", "src", "action", "formaction", "cite", "poster", "background", "data", "longdesc", "xlink:href", "srcset"}
)
_RAW = frozenset({"script", "style"})
_BAD = "ZgotmplZ"
_SAFE_CSS = re.compile(r"[\w\s#.,%+-]*")
_SCHEME = re.compile(r"[^/?#]*?:")
_OPENING = re.compile(r"<(?:(?P<comment>!--)|(?P<close>/?)(?P<name>[a-zA-Z][a-zA-Z0-9:-]*))")
_BEGUN = re.compile(r"<[!/]?-?\Z")
_ATTRIBUTE = re.compile(r"(?P<end>/?>)|(?P<name>[^\s\"'<>/=]+)(?P<value>\s*=\s*(?P<quote>[\"']?))?|[\s\"'</=]+")


class UnsafePlace(ValueError):
    """A value stands where it cannot be made safe."""


class Trusted(str):
    """An address that we made ourselves: it may have any scheme."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next character of the output stands. `so_far`: the attribute's or address's text before it."""

    state: State = "text"
    element: str = ""
    attribute: str = ""
    quote: str = ""
    so_far: str = ""

    def after(self, text: str) -> Place:
        """The place behind a piece of literal text."""
        place, at = self, 0
        while at < len(text):
            place, at = _STEPS[place.state](place, text, at)
        return place

    def after_value(self) -> Place:
        """The place behind an inserted value."""
        return replace(self, so_far=self.so_far + "x") if self.state in ("quoted", "value") else self

    def check(self) -> None:
        """Raises UnsafePlace when no value may stand here."""
        if self.state == "tag":
            raise UnsafePlace("a value may not stand inside a tag, only in an attribute's quotes")
        if self.state == "raw" and self.element == "script":
            raise UnsafePlace("a value may not stand inside a script")
        if self.state in ("quoted", "value") and self.attribute.startswith("on"):
            raise UnsafePlace(f"a value may not stand inside the event attribute {self.attribute}")

    def escape(self, value: str) -> str:
        """The value as it is safe here."""
        if self.state == "comment":
            return ""
        if self.state == "raw":
            return _css(value)
        if self.state == "text":
            return escape(value, quote=True)
        if self.attribute in _URL_ATTRIBUTES:
            value = _url(value, self.so_far)
        elif self.attribute == "style":
            value = _css(value)
        safe = escape(value, quote=True)
        return safe if self.state == "quoted" else re.sub(r"[\s=`]", lambda m: f"&#{ord(m[0])};", safe)


def _css(value: str) -> str:
    lowered = value.lower()
    is_safe = _SAFE_CSS.fullmatch(value) and "expression" not in lowered and "binding" not in lowered
    return value if is_safe else _BAD


def _url(value: str, before: str) -> str:
    if "?" in before or "#" in before:
        return quote(value, safe="")
    if not before and not isinstance(value, Trusted):
        scheme = _SCHEME.match(value)
        if scheme and scheme[0].lower() not in ("http:", "https:", "mailto:"):
            return f"#{_BAD}"
    return quote(value, safe="!#$%&'*+,/:;=?@[]~")


def _in_text(_place: Place, text: str, at: int) -> tuple[Place, int]:
    match = _OPENING.search(text, at)
    if match is None:
        begun = _BEGUN.search(text, at)
        return (Place("tag") if begun else Place()), len(text)
    if match["comment"]:
        # Outlook's conditional comments hold ordinary markup.
        conditional = text.startswith("[if", match.end())
        return (Place() if conditional else Place("comment")), match.end()
    return Place("tag", "" if match["close"] else match["name"].lower()), match.end()


def _in_comment(place: Place, text: str, at: int) -> tuple[Place, int]:
    end = text.find("-->", at)
    return (place, len(text)) if end < 0 else (Place(), end + 3)


def _in_raw(place: Place, text: str, at: int) -> tuple[Place, int]:
    end = text.lower().find(f"</{place.element}", at)
    return (place, len(text)) if end < 0 else (Place("tag"), end + 2 + len(place.element))


def _in_tag(place: Place, text: str, at: int) -> tuple[Place, int]:
    match = _ATTRIBUTE.match(text, at)
    if match is None:
        return place, at + 1
    if match["end"]:
        inside = Place("raw", place.element) if place.element in _RAW else Place()
        return inside, match.end()
    if match["value"] is None:
        return place, match.end()
    name = (match["name"] or "").lower()
    state: State = "quoted" if match["quote"] else "value"
    return Place(state, place.element, name, match["quote"] or ""), match.end()


def _in_quoted(place: Place, text: str, at: int) -> tuple[Place, int]:
    end = text.find(place.quote, at)
    if end < 0:
        return replace(place, so_far=place.so_far + text[at:]), len(text)
    return Place("tag", place.element), end + 1


def _in_value(place: Place, text: str, at: int) -> tuple[Place, int]:
    match = re.compile(r"[\s>]").search(text, at)
    if match is None:
        return replace(place, so_far=place.so_far + text[at:]), len(text)
    return Place("tag", place.element), match.start()


_STEPS = {
    "text": _in_text,
    "comment": _in_comment,
    "raw": _in_raw,
    "tag": _in_tag,
    "quoted": _in_quoted,
    "value": _in_value,
}
