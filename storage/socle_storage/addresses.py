"""Where clients reach this service from outside: behind proxies that say so, or at the configured address. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_storage.wire import Exchange

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 (compared with, never bound)
_DEFAULT_PORTS = frozenset({"80", "443"})


@dataclass(frozen=True, slots=True)
class Approach:
    """What a request says about the way it came. `root`: the prefix under which the service is mounted."""

    scheme: str
    host: str
    root: str
    forwarded_scheme: str = ""
    forwarded_host: str = ""
    forwarded_port: str = ""
    forwarded_prefix: str = ""

    @classmethod
    def of(cls, exchange: Exchange) -> Approach:
        scope = exchange.scope
        return cls(
            scheme=scope.get("scheme", "http"),
            host=exchange.header("host") or "localhost",
            root=scope.get("root_path", ""),
            forwarded_scheme=_first(exchange.header("x-forwarded-proto")),
            forwarded_host=_first(exchange.header("x-forwarded-host")),
            forwarded_port=_first(exchange.header("x-forwarded-port")),
            forwarded_prefix=_first(exchange.header("x-forwarded-prefix")).rstrip("/"),
        )

    @property
    def proxied_host(self) -> str:
        """Host and port as the proxy was asked for; empty without a proxy that says so."""
        host, port = self.forwarded_host, self.forwarded_port
        if not host or not port or port in _DEFAULT_PORTS:
            return host
        name, colon, _ = host.rpartition(":")
        return f"{name if colon and not host.endswith(']') else host}:{port}"


def public_base(settings: StorageSettings, approach: Approach) -> str:
    """The address under which a client finds this service again, without a slash at its end.

    The configured address wins, unless it is a loopback one and the client plainly came another way.
    """
    public = urlsplit(settings.public_url)
    asked = approach.proxied_host or approach.host
    prefix = approach.forwarded_prefix if settings.allow_forwarded_prefix else ""
    if public.netloc and (public.hostname not in _LOOPBACK or urlsplit(f"//{asked}").hostname in _LOOPBACK):
        return f"{public.scheme}://{public.netloc}{prefix or public.path.rstrip('/') or approach.root}"
    return f"{approach.forwarded_scheme or approach.scheme}://{asked}{prefix or approach.root}"


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()
