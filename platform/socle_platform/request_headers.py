"""The headers of a request, read once; clients repeat themselves, so what they say is remembered."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from typing import Any, NamedTuple

import orjson

Pairs = Sequence[tuple[bytes, bytes]]

OPAQUE_PREFIX = "sb_"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}").fullmatch
_MAX_KEPT = 1024
_MAX_LENGTH = 4096
"""Bytes of headers that are worth remembering: kept headers never hold more than 4 MiB."""


class Credentials(NamedTuple):
    """What the caller sent: the key of the project, and the token of a person.

    `bearer` is None when absent and when it merely repeats an opaque key (clients do so; clients.md §1).
    """

    apikey: str | None
    bearer: str | None


class RequestHeaders:
    """What the headers of one request say.

    apikey, bearer   as sent, in the headers `apikey` and `Authorization: Bearer …`
    request_id       the `x-request-id` that the client chose, if it can be taken over
    may_have_body    whether bytes may follow (RFC 9112 §6.3)
    body_length      how many, where Content-Length alone says it
    remembered       what anybody found out from these headers, by who did; kept and forgotten with them
    """

    __slots__ = (
        "_texts",
        "apikey",
        "bearer",
        "body_length",
        "credentials",
        "length",
        "may_have_body",
        "pairs",
        "remembered",
        "request_id",
    )

    def __init__(self, pairs: tuple[tuple[bytes, bytes], ...]) -> None:
        self.pairs = pairs
        self.remembered: dict[object, Any] = {}
        self._texts: tuple[str, str] | None = None
        self.apikey: str | None = None
        self.bearer: str | None = None
        self.request_id: bytes | None = None
        self.may_have_body = False
        self.body_length: int | None = 0
        self.length = 0
        for name, value in pairs:
            self.length += len(name) + len(value)
            if name == b"apikey":
                self.apikey = str(value, "latin-1")
            elif name == b"authorization":
                scheme, _, rest = str(value, "latin-1").partition(" ")
                self.bearer = rest.strip() if scheme.lower() == "bearer" else None
            elif name == b"x-request-id":
                if self.request_id is None and _REQUEST_ID(value):
                    self.request_id = value
            elif name in {b"content-length", b"transfer-encoding"}:
                sole = not self.may_have_body and name == b"content-length" and value.isdigit()
                self.body_length = int(value) if sole else None
                self.may_have_body = True
        self.credentials = self.with_apikey(self.apikey)

    def with_apikey(self, apikey: str | None) -> Credentials:
        """The credentials where `apikey` is the key that was sent, wherever it stood."""
        bearer = self.bearer
        if bearer is not None and bearer.startswith(OPAQUE_PREFIX) and apikey in (None, bearer):
            return Credentials(bearer, None)
        return Credentials(apikey, bearer)

    def as_json(self) -> tuple[str, str]:
        """Headers and cookies as JSON objects (rest.md §13): header names in lower case, cookies apart."""
        if self._texts is None:
            self._texts = _json_of(self.pairs)
        return self._texts


def _json_of(pairs: Pairs) -> tuple[str, str]:
    headers: dict[str, str] = {}
    cookies: dict[str, str] = {}
    for key, value in pairs:
        text = str(value, "latin-1")
        if key == b"cookie":
            for pair in text.split(";"):
                name, found, content = pair.strip().partition("=")
                if found:
                    cookies[name] = content
        else:
            headers[str(key, "latin-1")] = text
    return orjson.dumps(headers).decode(), orjson.dumps(cookies).decode() if cookies else "{}"


_kept: dict[tuple[tuple[bytes, bytes], ...], RequestHeaders] = {}


def headers_of(scope: MutableMapping[str, Any]) -> RequestHeaders:
    """What the headers of this request say; read once per request, and once for all requests that send the same."""
    found: RequestHeaders | None = scope.get("socle.headers")
    if found is None:
        found = scope["socle.headers"] = read_headers(scope["headers"])
    return found


def read_headers(headers: Pairs) -> RequestHeaders:
    """What these headers say."""
    pairs = tuple(headers)
    found = _kept.get(pairs)
    if found is None:
        found = RequestHeaders(pairs)
        if found.length <= _MAX_LENGTH:
            if len(_kept) >= _MAX_KEPT:
                _kept.clear()
            _kept[pairs] = found
    return found


def kept_headers() -> int:
    """How many different sets of headers are remembered."""
    return len(_kept)
