"""The outgoing adapter: what it reaches, what it refuses, and that the checked address is the used one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

import pytest

from harness.site import Call, Reply, Site, started_site
from socle_platform.outgoing import (
    Allowances,
    OutgoingFailed,
    OutgoingHttp,
    OutgoingRefused,
    is_public,
    parse_allowances,
    refuse_unsafe_url,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PRIVATE = [
    "127.0.0.1",
    "127.8.9.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fc00::1",
    "fe80::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_private_addresses_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https://user:pw@example.com/",
        "http://localhost/",
        "https://db.localhost/",
        "https://metadata.google.internal/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[bad/",
        "https://example.com:99999/",
    ],
)
def test_unsafe_urls_are_refused_before_use(url: str) -> None:
    with pytest.raises(OutgoingRefused):
        refuse_unsafe_url(url)


def test_https_can_be_demanded() -> None:
    refuse_unsafe_url("http://example.com/x")
    refuse_unsafe_url("https://example.com/x", https_only=True)
    with pytest.raises(OutgoingRefused):
        refuse_unsafe_url("http://example.com/x", https_only=True)


def test_allowances_are_read_from_text() -> None:
    allowed = parse_allowances(["10.0.0.0/8", "192.168.1.7", "Keycloak.test"])
    assert allowed.permits(ipaddress.ip_address("10.9.9.9"), "x")
    assert allowed.permits(ipaddress.ip_address("::ffff:10.9.9.9"), "x")
    assert allowed.permits(ipaddress.ip_address("192.168.1.7"), "x")
    assert allowed.permits(ipaddress.ip_address("127.0.0.1"), "KEYCLOAK.test")
    assert not allowed.permits(ipaddress.ip_address("192.168.1.8"), "x")
    assert not allowed.permits(ipaddress.ip_address("fd00::1"), "x")
    for bad in ("", "10.0.0.0/99"):
        with pytest.raises(ValueError, match=r"empty|not a network"):
            parse_allowances([bad])


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with started_site() as started:
        started.on("GET", "/echo", echo)
        started.on("POST", "/echo", echo)
        started.on("GET", "/big", Reply(b"x" * 200_000))
        started.on("GET", "/onward", onward)
        started.on("POST", "/onward", onward)
        yield started


def echo(call: Call) -> Reply:
    return Reply(
        {"body": call.body.decode(), "authorization": call.headers.get("Authorization")}, headers={"X-Thing": "yes"}
    )


def onward(call: Call) -> Reply:
    return Reply(None, 302, {"Location": call.query["to"]})


@pytest.fixture
async def free() -> AsyncIterator[OutgoingHttp]:
    client = OutgoingHttp(Allowances(everything=True), maximum_body=100_000)
    yield client
    await client.close()


@pytest.fixture
async def guarded() -> AsyncIterator[OutgoingHttp]:
    client = OutgoingHttp()
    yield client
    await client.close()


async def test_an_exchange_carries_method_headers_and_body(site: Site, free: OutgoingHttp) -> None:
    answer = await free.request("POST", site.origin + "/echo", headers={"Authorization": "B"}, body=b"hello")
    assert answer.status == 200
    assert answer.headers["x-thing"] == "yes"
    assert b'"body": "hello"' in answer.body
    assert b'"authorization": "B"' in answer.body


async def test_a_loopback_address_is_refused(site: Site, guarded: OutgoingHttp) -> None:
    for host in ("127.0.0.1", "localhost", "2130706433", "127.1"):
        with pytest.raises(OutgoingRefused):
            await guarded.request("GET", f"http://{host}:{site.port}/echo")


async def test_a_name_is_pinned_to_the_checked_address(
    site: Site, guarded: OutgoingHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers a private address for an innocent name does not get a connection."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def lying(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        asked.append(str(host))
        return real("127.0.0.1", port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    with pytest.raises(OutgoingRefused):
        await guarded.request("GET", f"http://rebind.example.com:{site.port}/echo")
    assert asked == ["rebind.example.com"]


async def test_an_allowed_name_reaches_a_private_address(site: Site) -> None:
    client = OutgoingHttp(parse_allowances(["localhost"]))
    try:
        assert (await client.request("GET", f"http://localhost:{site.port}/echo")).status == 200
        with pytest.raises(OutgoingRefused):
            await client.request("GET", f"http://127.0.0.2:{site.port}/echo")
    finally:
        await client.close()


async def test_a_redirect_to_a_private_address_is_refused(site: Site) -> None:
    client = OutgoingHttp(parse_allowances(["localhost"]))
    try:
        with pytest.raises(OutgoingRefused):
            await client.request("GET", f"http://localhost:{site.port}/onward?to=http://127.0.0.3:{site.port}/echo")
    finally:
        await client.close()


async def test_redirects_are_followed_for_get_only(site: Site, free: OutgoingHttp) -> None:
    url = site.origin + "/onward" + "?to=/echo"
    assert (await free.request("GET", url)).status == 200
    assert (await free.request("POST", url)).status == 302


async def test_credentials_do_not_follow_to_another_host(site: Site, free: OutgoingHttp) -> None:
    there = f"http://localhost:{site.port}/echo"
    answer = await free.request("GET", site.origin + "/onward" + f"?to={there}", headers={"Authorization": "B"})
    assert b'"authorization": null' in answer.body


async def test_endless_redirects_end(site: Site, free: OutgoingHttp) -> None:
    site.on("GET", "/round", Reply(None, 307, {"Location": "/round"}))
    with pytest.raises(OutgoingFailed, match="redirects"):
        await free.request("GET", site.origin + "/round")
    assert len(site.calls) == 6


async def test_large_answers_are_cut(site: Site, free: OutgoingHttp) -> None:
    with pytest.raises(OutgoingFailed, match="larger than 100000"):
        await free.request("GET", site.origin + "/big")


async def test_slow_answers_time_out(site: Site, free: OutgoingHttp) -> None:
    held = asyncio.Event()

    async def slow(_call: Call) -> Reply:
        await held.wait()
        return Reply()

    site.on("GET", "/slow", slow)
    with pytest.raises(OutgoingFailed) as caught:
        await free.request("GET", site.origin + "/slow", timeout=0.05)
    held.set()
    assert caught.value.timed_out


async def test_nobody_listening_is_a_failure(free: OutgoingHttp) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(OutgoingFailed) as caught:
        await free.request("GET", f"http://127.0.0.1:{port}/")
    assert not caught.value.timed_out


async def test_other_schemes_are_refused(free: OutgoingHttp) -> None:
    for url in ("file:///etc/passwd", "ftp://example.com/", "http:///x", "unix:///run/x"):
        with pytest.raises(OutgoingRefused):
            await free.request("GET", url)
