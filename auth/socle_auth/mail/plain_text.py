"""The text part of a mail, made from its HTML: paragraphs, links with their addresses, lists."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = re.compile(
    r"address|article|aside|blockquote|br|center|d[dlt]|div|fieldset|footer|form|h[1-6]|header|hr|li|main|nav|ol|p|pre"
    r"|section|table|tbody|tfoot|thead|tr|ul"
)
_SILENT = frozenset({"script", "style", "title", "head", "template"})


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent: list[str] = []
        self._links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif _BLOCKS.fullmatch(tag):
            self.parts.append("\n- " if tag == "li" else "\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        values = dict(attrs)
        if tag == "a":
            self._links.append(((values.get("href") or "").strip(), len(self.parts)))
        elif tag == "img" and values.get("alt"):
            self.parts.append(values["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            while self._silent and self._silent.pop() != tag:
                pass
        elif _BLOCKS.fullmatch(tag):
            self.parts.append("\n\n" if tag in ("p", "h1", "h2", "h3", "table", "ul", "ol") else "\n")
        if tag == "a" and self._links:
            address, start = self._links.pop()
            shown = "".join(self.parts[start:]).strip()
            if address and not address.startswith("#") and shown != address:
                self.parts.append(f"\n{address.removeprefix('mailto:')}\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(re.sub(r"[ \t\r\n]+", " ", data))


def plain_text(html: str) -> str:
    """The readable text of an HTML document; whatever is not well-formed is read as browsers do."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = [re.sub(r"[ \t\xa0]+", " ", line).strip() for line in "".join(reader.parts).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
