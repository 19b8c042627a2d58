"""The inbox on a port of its own, where the official stack's tools look for it (contract cli.md §4)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_platform.config.auth_messages import load_inbox
from socle_platform.config.reader import Reader

if TYPE_CHECKING:
    from socle_platform.config.gateway import GatewaySettings
    from socle_platform.http import ASGIApp, Receive, Scope, Send

PREFIX = "/inbox"


@contextlib.contextmanager
def inbox_listener(given: Mapping[str, str], gateway: GatewaySettings) -> Generator[socket.socket | None]:
    """A listening socket for the inbox; None where mails go elsewhere, the port is off (0) or in use.

    The inbox is always below `/inbox` too, so a port that somebody else has is no reason not to start.
    """
    read = Reader(given)
    port = load_inbox(read).port
    wanted = read.boolean("SOCLE_INBOX_ENABLED", default=not given.get("GOTRUE_SMTP_HOST"))
    read.finish()
    listener: socket.socket | None = None
    if wanted and port:
        family = socket.AF_INET6 if ":" in gateway.host else socket.AF_INET
        with contextlib.suppress(OSError):
            listener = socket.create_server((gateway.host, port), family=family)
            listener.set_inheritable(False)
    try:
        yield listener
    finally:
        if listener is not None:
            listener.close()


def inbox_url(environ: Mapping[str, str], gateway: GatewaySettings, listener: socket.socket | None) -> str:
    """Where the inbox is shown; "" where mails go elsewhere."""
    if environ.get("SOCLE_INBOX_ENABLED") != "true":
        return ""
    if listener is None:
        return f"{gateway.url}{PREFIX}"
    parts = urlsplit(gateway.url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http://{host}:{listener.getsockname()[1]}"


def inbox_notes(environ: Mapping[str, str], gateway: GatewaySettings) -> tuple[str, ...]:
    """What somebody who serves others must know: mails reach nobody."""
    if environ.get("SOCLE_INBOX_ENABLED") != "true" or gateway.is_loopback:
        return ()
    return (
        "No mail leaves this machine: without GOTRUE_SMTP_HOST every confirmation and recovery mail stays in the "
        f"inbox at {gateway.url}{PREFIX} (the service key opens it)",
    )


class Below:
    """An application that serves what another one has below `prefix`."""

    def __init__(self, app: ASGIApp, prefix: str = PREFIX) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._prefix + str(scope["path"])
        await self._app({**scope, "path": path, "raw_path": path.encode("utf-8", "replace")}, receive, send)
