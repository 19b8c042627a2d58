"""The Internet as one local site: `https://host/path` is served by the site's `/host/path`, through real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from harness.site import Answer, Call, Reply, Site, started_site
from socle_platform.outgoing import Allowances, OutgoingHttp
from socle_platform.ports import HttpAnswer


class Internet:
    """An HttpClient whose every host is one local site. `on` takes whole URLs without query."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = OutgoingHttp(Allowances(everything=True))

    def on(self, method: str, url: str, answer: Answer) -> None:
        self.site.on(method, _local(url), answer)

    def say(self, method: str, url: str, body: object, status: int = 200) -> None:
        """Always the same JSON answer."""
        self.on(method, url, Reply(body, status))

    def calls(self, url: str) -> list[Call]:
        return self.site.called(_local(url))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> HttpAnswer:
        query = urlsplit(url).query
        local = f"{self.site.origin}{_local(url)}" + (f"?{query}" if query else "")
        return await self.client.request(method, local, headers=headers, body=body, timeout=timeout)


def _local(url: str) -> str:
    parts = urlsplit(url)
    return f"/{parts.netloc}{parts.path}"


@asynccontextmanager
async def started_internet() -> AsyncGenerator[Internet]:
    async with started_site() as site:
        internet = Internet(site)
        try:
            yield internet
        finally:
            await internet.client.close()
