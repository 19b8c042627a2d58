"""Validators for reads, where the settings ask for them: who has the answer already is told so (RFC 9110 §13).

They are made of the answer itself, so the database does its work in any case; what is saved is the way to the client.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from socle_rest.headers import Header
    from socle_rest.respond import Response

_MADE_OF = (b"content-type", b"content-profile", b"content-range")
_WITHOUT_CONTENT = frozenset({b"content-length", b"content-type", b"content-range"})


def with_etag(response: Response, request_headers: Iterable[Header]) -> Response:
    """The whole answer to a GET with its `ETag`, or 304 when `If-None-Match` has it. A tag of the database's stays."""
    if response.status != 200 or response.portions is not None:
        return response
    given = dict(response.headers)
    tag = given.get(b"etag")
    if tag is None:
        digest = blake2b(response.body, digest_size=16)
        for name in _MADE_OF:
            digest.update(b"\0" + given.get(name, b""))
        tag = b'"%b"' % digest.hexdigest().encode()
        response = response._replace(headers=(*response.headers, (b"etag", tag)))
    if not _has(request_headers, tag):
        return response
    kept = tuple(pair for pair in response.headers if pair[0] not in _WITHOUT_CONTENT)
    return response._replace(status=304, headers=kept, body=b"")


def _has(headers: Iterable[Header], tag: bytes) -> bool:
    """Whether `If-None-Match` names the tag, compared weakly as RFC 9110 §13.1.2 says."""
    asked = b",".join([value for name, value in headers if name == b"if-none-match"])
    named = {one.strip().removeprefix(b"W/") for one in asked.split(b",")}
    return b"*" in named or tag.removeprefix(b"W/") in named
