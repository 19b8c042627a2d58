"""The page that stands before a mail's link where scanners follow every link (contracts/auth.md §10.2)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from socle_platform.errors import WireResponse

if TYPE_CHECKING:
    from socle_auth.context import Call

_TEXTS = {
    "en": ("Confirm", "Please confirm that it is you who opened this link.", "Continue"),
    "fr": ("Confirmation", "Merci de confirmer que c’est bien vous qui avez ouvert ce lien.", "Continuer"),
}
_STYLE = (
    "body{font:16px system-ui;margin:20vh auto;max-width:24em;text-align:center}button{font:inherit;padding:.5em 2em}"
)
_HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


def confirm_page(call: Call, kind: str, token: str, redirect_to: str) -> WireResponse:
    """A button that posts what the link carried; nothing is used up by looking at it."""
    language = "fr" if call.headers.get("accept-language", "").strip().lower().startswith("fr") else "en"
    title, text, button = _TEXTS[language]
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        for name, value in (("type", kind), ("token", token), ("redirect_to", redirect_to))
        if value
    )
    page = (
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><meta name="robots" content="noindex">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p>{text}</p><form method="post">{fields}<button>{button}</button></form></html>'
    )
    return WireResponse(200, _HEADERS, page.encode())
