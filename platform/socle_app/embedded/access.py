"""Who may log in how: pg_hba.conf and pg_ident.conf, written anew at each start."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MAP = "socle"
_DATABASES = ("all", "replication")


def render_hba(host: str) -> str:
    """Local socket: our operating system user, as any role. TCP: passwords (SCRAM), from this machine unless `host`
    listens to others."""
    origins = ["127.0.0.1/32", "::1/128"] if is_loopback(host) else ["all"]
    lines = [f"local {database} all peer map={MAP}" for database in _DATABASES]
    lines += [f"host {database} all {origin} scram-sha-256" for origin in origins for database in _DATABASES]
    return "# Written at each start; changes here are lost.\n" + "\n".join(lines) + "\n"


def render_ident(os_user: str) -> str:
    """Our operating system user may be every role; it can read the data files anyway."""
    quoted = os_user.replace('"', '""')
    return f'# Written at each start; changes here are lost.\n{MAP} "{quoted}" all\n'


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`; an empty host means no TCP at all."""
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def write_access(hba: Path, ident: Path, host: str, os_user: str) -> None:
    """Both files, readable by the server's user; they hold no secret."""
    for path, text in ((hba, render_hba(host)), (ident, render_ident(os_user))):
        path.write_text(text)
        path.chmod(0o644)
