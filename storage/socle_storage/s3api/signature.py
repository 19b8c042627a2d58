"""AWS Signature Version 4, the server's side. Pure.

Source: «Authenticating Requests (AWS Signature Version 4)», Amazon S3 API reference; contract storage.md §9.
A proxy may show the service another host or path than the client signed, so several of each are tried: every one names
the same resource behind its prefix, and each still needs the secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, unquote_plus

from socle_storage.s3api.errors import clock_skewed, expired_request, malformed_signature

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()
MAX_SKEW: Final = timedelta(minutes=15)
_MAX_EXPIRES: Final = 7 * 24 * 3600
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_SPACES = re.compile(r" +")


@dataclass(frozen=True, slots=True)
class Scope:
    """The credential's scope: day, region and service, and whose key it is."""

    access_key: str
    day: str
    region: str
    service: str

    def render(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Claim:
    """What the client says it signed. `date` as sent (`YYYYMMDDTHHMMSSZ`). `expires` in seconds for a presigned URL."""

    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    payload_hash: str | None = None
    session_token: str | None = None
    expires: int | None = None

    @property
    def is_presigned(self) -> bool:
        return self.expires is not None


def parse_header(authorization: str, headers: Mapping[str, str]) -> Claim:
    """The claim in `Authorization` and the `x-amz-…` headers. Raises InvalidSignature."""
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise malformed_signature("Unsupported authorization type")
    pairs = (piece.partition("=") for piece in rest.split(","))
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    return Claim(
        scope=parse_scope(fields.get("Credential", "")),
        signed_headers=_signed_headers(fields.get("SignedHeaders", "")),
        signature=_signature(fields.get("Signature", "")),
        date=_date(headers.get("x-amz-date", "")),
        payload_hash=headers.get("x-amz-content-sha256"),
        session_token=headers.get("x-amz-security-token"),
    )


def parse_query(query: Mapping[str, str]) -> Claim:
    """The claim of a presigned URL. Raises InvalidSignature."""
    if query.get("X-Amz-Algorithm", ALGORITHM) != ALGORITHM:
        raise malformed_signature("Unsupported authorization type")
    expires = query.get("X-Amz-Expires", "")
    if not (expires.isascii() and expires.isdigit()) or len(expires) > 9 or int(expires) > _MAX_EXPIRES:
        raise malformed_signature("Invalid expiration")
    return Claim(
        scope=parse_scope(query.get("X-Amz-Credential", "")),
        signed_headers=_signed_headers(query.get("X-Amz-SignedHeaders", "")),
        signature=_signature(query.get("X-Amz-Signature", "")),
        date=_date(query.get("X-Amz-Date", "")),
        payload_hash=query.get("X-Amz-Content-Sha256"),
        session_token=query.get("X-Amz-Security-Token"),
        expires=int(expires),
    )


def parse_scope(credential: str) -> Scope:
    """`<key>/<day>/<region>/<service>/aws4_request`. Raises InvalidSignature."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or not parts[0]:
        raise malformed_signature("Invalid credentials")
    return Scope(*parts[:4])


def verify_time(claim: Claim, now: datetime) -> None:
    """Raises AccessDenied for an expired URL, RequestTimeTooSkewed for a request of another time."""
    moment = datetime.strptime(claim.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if claim.scope.day != claim.date[:8]:
        raise malformed_signature("Invalid credentials")
    if moment - now > MAX_SKEW:
        raise clock_skewed()
    if claim.expires is not None:
        if moment + timedelta(seconds=claim.expires) < now:
            raise expired_request()
    elif now - moment > MAX_SKEW:
        raise clock_skewed()


@dataclass(frozen=True, slots=True)
class Asked:
    """The request as it may have been signed: `paths` and `hosts` in the order to try. `query` is the raw one."""

    method: str
    paths: Sequence[str]
    hosts: Sequence[str]
    query: str
    headers: Mapping[str, str]
    payload_hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a signature was right, and the first canonical request that was tried (for the log)."""

    is_right: bool
    canonical: str


def verify(claim: Claim, asked: Asked, key: bytes) -> Verdict:
    """Compares the claimed signature with each that the request could have. `key` is the signing key."""
    query = canonical_query(asked.query)
    first = ""
    for path, host in product(asked.paths, asked.hosts):
        canonical = canonical_request(claim, asked, path, host, query)
        first = first or canonical
        if hmac.compare_digest(sign(key, string_to_sign(claim, canonical)), claim.signature):
            return Verdict(is_right=True, canonical=canonical)
    return Verdict(is_right=False, canonical=first)


def canonical_request(claim: Claim, asked: Asked, path: str, host: str, query: str) -> str:
    """The text whose hash is signed."""
    lines: list[str] = []
    for name in sorted(claim.signed_headers):
        value = host if name == "host" else asked.headers.get(name, "")
        if name == "accept-encoding":
            value = asked.headers.get("x-original-accept-encoding", value)
        lines.append(f"{name}:{_SPACES.sub(' ', value.strip())}\n")
    signed = ";".join(sorted(claim.signed_headers))
    return "\n".join((asked.method, path, query, "".join(lines), signed, asked.payload_hash))


def canonical_query(raw: str) -> str:
    """The query sorted and encoded anew, without the signature itself."""
    pairs: list[tuple[str, str]] = []
    for piece in raw.split("&") if raw else ():
        name, _, value = piece.partition("=")
        if piece and (decoded := unquote_plus(name)) != "X-Amz-Signature":
            pairs.append((encode(decoded), encode(unquote_plus(value))))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_paths(prefixes: Iterable[str], path: str) -> tuple[str, ...]:
    """The path under each of the prefixes, as it came and encoded anew, each once."""
    forms = (path, encode(unquote(path), safe="/"))
    found = {f"{prefix.rstrip('/')}{form}" or "/": None for prefix in prefixes for form in forms}
    return tuple(found)


def encode(text: str, safe: str = "") -> str:
    """Percent-encoding of everything but letters, digits and `-._~`."""
    return quote(text, safe=safe + "-._~", errors="surrogatepass")


def string_to_sign(claim: Claim, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    return "\n".join((ALGORITHM, claim.date, claim.scope.render(), digest))


def signing_key(secret: str, scope: Scope) -> bytes:
    """The key of one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (scope.day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8", "surrogatepass"), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def parse_fields(raw: str) -> dict[str, str]:
    """A query's last value of each name; a name alone has an empty one."""
    return dict(parse_qsl(raw, keep_blank_values=True))


def _signed_headers(text: str) -> tuple[str, ...]:
    names = tuple(text.lower().split(";"))
    if not all(map(_HEADER_NAME.fullmatch, names)) or "host" not in names:
        raise malformed_signature("Invalid signed headers")
    return names


def _signature(text: str) -> str:
    if not _HEX64.fullmatch(text):
        raise malformed_signature()
    return text


def _date(text: str) -> str:
    try:
        datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise malformed_signature("Invalid or missing X-Amz-Date") from None
    return text
