"""The search language of the inbox, Mailpit's as far as it fits: words, "phrases", to: from: subject: is:, !not."""

from __future__ import annotations

import re

from socle_auth.store.inbox import Filter

_TERM = re.compile(r"""(?P<no>[!-])?(?:(?P<field>[a-z]+):)?(?:"(?P<phrase>[^"]*)"|(?P<word>\S+))""", re.IGNORECASE)
_FIELDS = frozenset({"from", "to", "subject", "kind"})
_MOST = 20


def parse_search(text: str) -> Filter:
    """What a search asks for; whatever is not of the language is a word to be found."""
    wanted, refused = list[tuple[str | None, str]](), list[tuple[str | None, str]]()
    is_read: bool | None = None
    for match in list(_TERM.finditer(text))[:_MOST]:
        field = (match["field"] or "").lower()
        word = match["word"] if match["phrase"] is None else match["phrase"]
        if field == "is" and word.lower() in ("read", "unread"):
            is_read = (word.lower() == "read") is not bool(match["no"])
            continue
        if field and field not in _FIELDS:
            field, word = "", f"{match['field']}:{word}"
        if word:
            (refused if match["no"] else wanted).append((field or None, word))
    return Filter(tuple(wanted), tuple(refused), is_read)
