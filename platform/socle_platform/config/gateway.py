"""Where the platform listens and what it asks of every request."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader
    from socle_platform.http import IPNetwork

_DIALABLE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (compared, not bound)
DEFAULT_PORT = 54321
DEFAULT_BODY_LIMIT = 50 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Address, public URL and request policy.

    `public_url`: how clients reach us, without trailing slash; empty means `http://host:port`.
    `require_apikey`: refuse requests without a project key; by default only when bound off loopback.
    `body_limit`: bytes of a REST body.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    public_url: str = ""
    require_apikey: bool = False
    trusted_proxies: tuple[IPNetwork, ...] = ()
    body_limit: int = DEFAULT_BODY_LIMIT

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The base URL that clients get, without trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = _DIALABLE.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_gateway(read: Reader) -> GatewaySettings:
    """Reads SOCLE_HOST, SOCLE_PORT, API_EXTERNAL_URL (or SUPABASE_PUBLIC_URL), SOCLE_REQUIRE_APIKEY,
    SOCLE_TRUSTED_PROXIES (comma list of networks) and SOCLE_BODY_LIMIT."""
    host = read.text("SOCLE_HOST", default="127.0.0.1")
    networks: list[IPNetwork] = []
    for text in read.csv("SOCLE_TRUSTED_PROXIES"):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            read.problem(f"SOCLE_TRUSTED_PROXIES holds {text!r}, which is no address or network")
    return GatewaySettings(
        host=host,
        port=read.integer("SOCLE_PORT", default=DEFAULT_PORT, minimum=0, maximum=65535),
        public_url=read.text("SUPABASE_PUBLIC_URL", "SOCLE_PUBLIC_URL"),
        require_apikey=read.boolean("SOCLE_REQUIRE_APIKEY", default=not is_loopback(host)),
        trusted_proxies=tuple(networks),
        body_limit=read.size("SOCLE_BODY_LIMIT", default=DEFAULT_BODY_LIMIT),
    )
