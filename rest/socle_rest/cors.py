"""CORS of the REST service when it runs alone (contract rest.md §11); mounted, the gateway answers for all services."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socle_rest.headers import Header

_METHODS = b"GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD"
_PREFLIGHTED = frozenset(_METHODS.split(b", "))
_EXPOSED = (
    b"Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, "
    b"Range-Unit"
)


def preflight(headers: Mapping[bytes, bytes], allowed_origins: Sequence[str]) -> tuple[Header, ...] | None:
    """The headers that answer a preflight, or None when this is none (or the origin is not allowed)."""
    origin = _origin(headers, allowed_origins)
    if not origin or headers.get(b"access-control-request-method") not in _PREFLIGHTED:
        return None
    asked = headers.get(b"access-control-request-headers", b"")
    wanted = [name.strip() for name in asked.split(b",") if name.strip()]
    return (
        *origin,
        (b"access-control-allow-methods", _METHODS),
        (
            b"access-control-allow-headers",
            b", ".join([b"Authorization", *wanted, b"Accept", b"Accept-Language", b"Content-Language"]),
        ),
        (b"access-control-max-age", b"86400"),
    )


def simple_headers(headers: Mapping[bytes, bytes], allowed_origins: Sequence[str]) -> tuple[Header, ...]:
    """What any other answer to a request from a page of an allowed origin carries."""
    origin = _origin(headers, allowed_origins)
    return (*origin, (b"access-control-expose-headers", _EXPOSED)) if origin else ()


def _origin(headers: Mapping[bytes, bytes], allowed_origins: Sequence[str]) -> tuple[Header, ...]:
    origin = headers.get(b"origin")
    if origin is None:
        return ()
    if not allowed_origins:
        return ((b"access-control-allow-origin", b"*"),)
    if origin.decode("latin-1") not in allowed_origins:
        return ()
    return ((b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true"))
