"""What people look for in a message: its code and its links."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_auth.store.inbox import StoredMessage

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s<>\"']+", re.IGNORECASE)
_CODE = re.compile(r"(?<![\w+.@-])\d{6,10}(?![\w@-])")


def find_code(message: StoredMessage) -> str:
    """The code in a message, "" when it has none."""
    match = _CODE.search(_ADDRESS.sub(" ", message.body))
    return match[0] if match else ""


def find_links(message: StoredMessage) -> list[str]:
    """The addresses that a message leads to, each once, in their order."""
    reader = _Links()
    reader.feed(message.html)
    reader.close()
    return list(dict.fromkeys([*reader.found, *_ADDRESS.findall(message.body)]))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = (dict(attrs).get("href") or "").strip() if tag == "a" else ""
        if _ADDRESS.fullmatch(address):
            self.found.append(address)
