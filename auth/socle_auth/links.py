"""Addresses that mails carry: the service's public address, and the link that confirms (contracts/auth.md §7.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urljoin, urlsplit

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call


def external_url(service: AuthService, call: Call) -> str:
    """API_EXTERNAL_URL, or the host the caller used when it is one of MAILER_EXTERNAL_HOSTS (others are ignored)."""
    host = (call.headers.get("x-forwarded-host") or call.headers.get("host", "")).partition(",")[0].strip()
    name = _name_of(host)
    if name and any(name == listed.lower() for listed in service.settings.mailer.external_hosts):
        scheme = "http" if name == "localhost" else "https"
        return f"{scheme}://{host}"
    return service.settings.external_url


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def confirmation_url(
    service: AuthService, call: Call, *, template: str, kind: str, token_hash: str, redirect_to: str
) -> str:
    """The link: `token`, `type`, and `redirect_to`, which is escaped only where it has to be.

    A path from the settings is taken against the public address as RFC 3986 has it (an absolute one drops the base
    path); without one it is our own /verify, wherever we are mounted.
    """
    base = external_url(service, call).rstrip("/") + "/"
    page = urljoin(base, service.settings.mailer.url_path(template) or "verify")
    target = redirect_to if not any(mark in redirect_to for mark in "&=#") else quote_plus(redirect_to)
    return f"{page}?token={token_hash}&type={kind}&redirect_to={target}"
