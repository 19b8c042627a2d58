"""Whose signature a request bears, and whether it is right (contract storage.md §9)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from socle_platform.events import Noted
from socle_platform.identity import Identity
from socle_platform.keys import TokenError
from socle_storage.addresses import Approach
from socle_storage.errors import access_denied, jwt_text
from socle_storage.s3api.errors import missing_signature, signature_mismatch, unknown_access_key, unsigned_header
from socle_storage.s3api.signature import (
    ALGORITHM,
    EMPTY_HASH,
    UNSIGNED,
    Asked,
    Claim,
    canonical_paths,
    parse_fields,
    parse_header,
    parse_query,
    signing_key,
    verify,
    verify_time,
)

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_storage.context import Storage
    from socle_storage.wire import Exchange

_SERVICE = "s3"
_MUST_BE_SIGNED = ("x-amz-copy-source", "x-amz-metadata-directive", "x-amz-acl", "x-amz-meta-")
"""Headers that change what a request does: the holder of a presigned URL may not add them."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A proven signer: the role, and what the chunks of the body are signed with. `payload_hash` as claimed."""

    identity: Identity
    claim: Claim
    key: bytes
    payload_hash: str


def headers_of(exchange: Exchange) -> dict[str, str]:
    """The headers by lower-case name, several of one name joined by commas."""
    found: dict[str, str] = {}
    for raw_name, raw_value in exchange.scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def raw_query(exchange: Exchange) -> str:
    query: bytes = exchange.scope.get("query_string", b"")
    return query.decode("latin-1")


def has_claim(exchange: Exchange) -> bool:
    """Whether header or query say who signed."""
    authorization = exchange.header("authorization") or ""
    return authorization.startswith(f"{ALGORITHM} ") or "X-Amz-Credential" in raw_query(exchange)


def authenticate(storage: Storage, exchange: Exchange) -> Signer:
    """Raises AccessDenied, InvalidSignature, InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed."""
    headers = headers_of(exchange)
    query = raw_query(exchange)
    authorization = headers.get("authorization", "")
    if authorization.startswith(f"{ALGORITHM} "):
        claim = parse_header(authorization, headers)
    elif "X-Amz-Credential" in query:
        claim = parse_query(parse_fields(query))
    else:
        raise missing_signature()
    verify_time(claim, storage.clock.now())
    verify_headers(claim, headers)
    identity, key = trust(storage, claim)
    payload_hash = _payload_hash(claim, exchange)
    asked = Asked(
        method=exchange.method,
        paths=_paths(storage.settings, exchange),
        hosts=_hosts(storage.settings, exchange, headers),
        query=query,
        headers=headers,
        payload_hash=payload_hash,
    )
    verdict = verify(claim, asked, key)
    if not verdict.is_right:
        text = f"S3 signature of {exchange.method} {exchange.path} does not match; canonical request:\n"
        tried = f"\npaths tried: {', '.join(asked.paths)}\nhosts tried: {', '.join(asked.hosts)}"
        storage.observe(Noted("storage", "debug", f"{text}{verdict.canonical}{tried}"))
        raise signature_mismatch(session=claim.session_token is not None)
    return Signer(identity, claim, key, payload_hash)


def verify_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    """Raises AccessDenied for a header that has to be signed and is not."""
    for name in headers:
        if name.startswith(_MUST_BE_SIGNED) and name not in claim.signed_headers:
            raise unsigned_header(name)


def trust(storage: Storage, claim: Claim) -> tuple[Identity, bytes]:
    """Whom the access key stands for, and the key that the signature must be made with.

    With a session token: the token's bearer, the access key being the project's name and the secret its anon key.
    """
    settings = storage.settings.s3_protocol
    if claim.scope.service != _SERVICE:
        raise access_denied("Invalid Service")
    if settings.enforce_region and claim.scope.region != storage.settings.region:
        raise access_denied("Invalid Region")
    if claim.session_token is None:
        if not settings.access_key or not settings.secret_key:
            raise access_denied("Missing S3 Protocol Access Key ID or Secret Key Environment variables")
        if not _is_same(claim.scope.access_key, settings.access_key):
            raise unknown_access_key()
        return Identity.service(), signing_key(settings.secret_key, claim.scope)
    if not settings.anon_key:
        raise access_denied("Missing tenant anon key")
    if not _is_same(claim.scope.access_key, storage.settings.tenant):
        raise unknown_access_key()
    try:
        identity = storage.keyring.verify(claim.session_token)
    except TokenError as error:
        raise access_denied(jwt_text(error)) from error
    return identity, signing_key(settings.anon_key, claim.scope)


def _is_same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode())


def _payload_hash(claim: Claim, exchange: Exchange) -> str:
    if claim.is_presigned:
        signed = "x-amz-content-sha256" in claim.signed_headers
        return (exchange.header("x-amz-content-sha256") if signed else None) or claim.payload_hash or UNSIGNED
    if claim.payload_hash is not None:
        return claim.payload_hash
    has_body = exchange.content_length or exchange.header("transfer-encoding")
    return UNSIGNED if has_body else EMPTY_HASH


def _paths(settings: StorageSettings, exchange: Exchange) -> tuple[str, ...]:
    """As it came, then below each prefix that the client may have seen.

    A prefix that anybody may claim must not reach into the protocol's own path: `/s3/<bucket>` before
    `/s3/<other>/x` is what was signed for the key `s3/<other>/x`.
    """
    approach = Approach.of(exchange)
    claimed = approach.forwarded_prefix
    if not settings.allow_forwarded_prefix and _SERVICE in unquote(claimed).split("/"):
        claimed = ""
    prefixes = (
        settings.s3_protocol.prefix or approach.root,
        approach.root,
        claimed,
        urlsplit(settings.public_url).path,
        "",
    )
    return canonical_paths(prefixes, exchange.path)


def _hosts(settings: StorageSettings, exchange: Exchange, headers: dict[str, str]) -> tuple[str, ...]:
    """The host that the client may have seen: shown by the request, by a proxy, or configured."""
    approach = Approach.of(exchange)
    custom = headers.get(settings.s3_protocol.host_header, "") if settings.s3_protocol.host_header else ""
    forwarded = _forwarded_host(headers.get("forwarded", "")) if settings.s3_protocol.allow_forwarded else ""
    candidates = (approach.host, urlsplit(settings.public_url).netloc, custom, forwarded, approach.proxied_host)
    found: dict[str, None] = {}
    for host in filter(None, candidates):
        found[host.lower()] = None
        name, colon, port = host.rpartition(":")
        if colon and port in {"80", "443"}:
            found[name.lower()] = None
    if approach.forwarded_host:
        found[approach.forwarded_host.lower()] = None
    return tuple(found)


def _forwarded_host(value: str) -> str:
    for pair in value.replace(",", ";").split(";"):
        name, _, host = pair.strip().partition("=")
        if name.lower() == "host":
            return host.strip('"')
    return ""
