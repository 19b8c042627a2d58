"""One signed request on its way to its operation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from socle_platform.errors import WireResponse
from socle_storage.errors import invalid_parameter
from socle_storage.s3api.documents import Node, render_document

if TYPE_CHECKING:
    from socle_storage.context import Caller, Storage
    from socle_storage.s3api.credentials import Signer
    from socle_storage.wire import Exchange

_META = "x-amz-meta-"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class S3Call:
    """`bucket` and `key` are decoded and not yet checked; empty where the path has none."""

    storage: Storage
    exchange: Exchange
    signer: Signer
    caller: Caller
    bucket: str
    key: str
    query: Mapping[str, str]

    def header(self, name: str) -> str | None:
        return self.exchange.header(name)

    def whole(self, name: str, default: int, *, minimum: int = 0, maximum: int = MAX_PAGE) -> int:
        """A number in the query, cut at `maximum`. Raises InvalidParameter."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) < minimum:
            raise invalid_parameter(name)
        return min(int(text), maximum)

    @property
    def encodes(self) -> bool:
        """Whether names are to be sent percent-encoded. Raises InvalidParameter for another encoding."""
        kind = self.query.get("encoding-type", "")
        if kind not in {"", "url"}:
            raise invalid_parameter("encoding-type")
        return bool(kind)

    def shown(self, name: str) -> str:
        """A name as the client wants it."""
        return quote(name, safe="/") if self.encodes else name

    @property
    def user_metadata(self) -> dict[str, str]:
        """The `x-amz-meta-…` headers."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self.exchange.scope["headers"]:
            name = raw_name.decode("latin-1")
            if name.startswith(_META):
                found[name[len(_META) :]] = raw_value.decode("latin-1")
        return found

    async def answer(self, root: str, children: Iterable[Node], *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """A document."""
        await self.exchange.respond(xml_response(200, render_document(root, children), headers))

    async def done(self, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        """An answer without a body."""
        await self.exchange.respond(WireResponse(status, tuple(headers)))


def xml_response(status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> WireResponse:
    return WireResponse(status, (("content-type", "application/xml"), *headers), body)


def metadata_headers(metadata: Mapping[str, object] | None) -> list[tuple[str, str]]:
    """User metadata as headers, as far as they can be such."""
    found: list[tuple[str, str]] = []
    for name, value in (metadata or {}).items():
        text = value if isinstance(value, str) else "" if value is None else str(value)
        if _TOKEN.fullmatch(name) and text.isprintable() and text.isascii():
            found.append((_META + name.lower(), text))
    return found
