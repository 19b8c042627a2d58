"""Outgoing HTTP: the one adapter of the HttpClient port, with a wall against requests to private addresses (SSRF).

The wall stands where the socket is made: whatever name, redirect or odd number led there, the address that is
checked is the address that is connected to. A name that resolves to several addresses is refused if the one about
to be used is not public.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from socle_platform.errors import SocleError
from socle_platform.ports import HttpAnswer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import aiohttp

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAXIMUM_BODY = 4 * 1024 * 1024
MAXIMUM_REDIRECTS = 5
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class OutgoingError(SocleError):
    """An outgoing request brought no answer."""


class OutgoingRefused(OutgoingError):
    """The address of an outgoing request is not public."""


class OutgoingFailed(OutgoingError):
    """The other side could not be reached, took too long or answered too much.

    `timed_out` tells a time limit from the rest.
    """

    def __init__(self, message: str | None = None, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class Allowances:
    """What may be reached besides public addresses: everything, some networks, or hosts by name (lower case)."""

    everything: bool = False
    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = field(default_factory=frozenset[str])

    def permits(self, address: Address, host: str) -> bool:
        """Whether a connection to `address`, made for the name `host`, is allowed."""
        if self.everything or host.lower() in self.hosts or is_public(address):
            return True
        plain = _plain(address)
        return any(plain in network for network in self.networks if network.version == plain.version)


def parse_allowances(entries: Sequence[str], *, everything: bool = False) -> Allowances:
    """Allowances from `10.0.0.0/8`, `192.168.1.7` or `keycloak.internal`. Raises ValueError for an empty entry."""
    networks: list[Network] = []
    hosts: set[str] = set()
    for entry in entries:
        if not entry.strip():
            raise ValueError("an allowed host or network is empty")
        try:
            networks.append(ipaddress.ip_network(entry.strip(), strict=False))
        except ValueError:
            if "/" in entry:
                raise ValueError(f"not a network or host name: {entry!r}") from None
            hosts.add(entry.strip().lower())
    return Allowances(everything, tuple(networks), frozenset(hosts))


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open Internet: no private, loopback, link-local, shared, reserved or multicast
    range, and neither an IPv6 form (mapped, 6to4, Teredo, NAT64) that hides such an IPv4 address."""
    plain = _plain(address)
    if plain.is_multicast or not plain.is_global:
        return False
    if isinstance(plain, ipaddress.IPv6Address):
        hidden: list[ipaddress.IPv4Address] = []
        if plain.sixtofour:
            hidden.append(plain.sixtofour)
        if plain.teredo:
            hidden.extend(plain.teredo)
        if plain in _NAT64:
            hidden.append(ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF))
        return all(is_public(inner) for inner in hidden)
    return True


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def refuse_unsafe_url(url: str, *, https_only: bool = False) -> None:
    """Checks a URL before it is stored or used: http(s), a host, no credentials, no address literal that is not public
    and no local name. Raises OutgoingRefused. The connection itself is checked again by the adapter.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise OutgoingRefused(f"URL is not valid: {error}") from None
    if parts.scheme not in ({"https"} if https_only else {"http", "https"}):
        raise OutgoingRefused("URL must use HTTPS" if https_only else "URL must use HTTP or HTTPS")
    if not host:
        raise OutgoingRefused("URL must have a host")
    if parts.username is not None or parts.password is not None:
        raise OutgoingRefused("URL must not contain credentials")
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        raise OutgoingRefused("URL must not point to a local name")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host.replace(".", "").isdigit() or host.startswith("0x"):
            raise OutgoingRefused("URL host is a number that hides an address") from None
        return
    if not is_public(address):
        raise OutgoingRefused("URL must not point to a private address")


_host: ContextVar[str] = ContextVar("outgoing_host", default="")


@contextlib.contextmanager
def _connecting_to(host: str) -> Generator[None]:
    token = _host.set(host)
    try:
        yield
    finally:
        _host.reset(token)


class OutgoingHttp:
    """Outgoing HTTP by one pooled client. Redirects of GET are followed, at most five, never from https to http."""

    def __init__(
        self,
        allowances: Allowances | None = None,
        *,
        maximum_body: int = MAXIMUM_BODY,
        user_agent: str = "socle",
    ) -> None:
        self._allowances = allowances or Allowances()
        self._maximum_body = maximum_body
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the pooled connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> HttpAnswer:
        """One exchange, see ports.HttpClient. `timeout` in seconds covers name look-up, connection and body."""
        sent: dict[str, str] = dict(headers) if headers else {}
        for _ in range(MAXIMUM_REDIRECTS + 1):
            answer = await self._exchange(method, url, sent, body, timeout)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not target or method not in {"GET", "HEAD"}:
                return answer
            following = urljoin(url, target)
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
                raise OutgoingRefused("Redirect from https to an unprotected URL")
            if urlsplit(url).netloc != urlsplit(following).netloc:
                sent = {name: value for name, value in sent.items() if name.lower() != "authorization"}
            url = following
        raise OutgoingFailed("Too many redirects")

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> HttpAnswer:
        import aiohttp

        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise OutgoingRefused("URL must use HTTP or HTTPS")
        session = self._opened()
        try:
            with _connecting_to(parts.hostname):
                async with session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=seconds),
                ) as response:
                    return HttpAnswer(response.status, response.headers, await self._read(response))
        except aiohttp.InvalidURL as error:
            raise OutgoingRefused("URL is not valid") from error
        except TimeoutError as error:
            raise OutgoingFailed("No answer in time", timed_out=True) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OutgoingFailed(f"No answer: {type(error).__name__}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._maximum_body:
                raise OutgoingFailed(f"Answer is larger than {self._maximum_body} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(socket_factory=self._checked_socket, happy_eyeballs_delay=None, limit=64)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session

    def _checked_socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        if not self._allowances.permits(address, _host.get()):
            raise OutgoingRefused(f"Address {address} is not public")
        return socket.socket(family, kind, protocol)
