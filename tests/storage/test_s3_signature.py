"""Signature Version 4 without a server: AWS's own examples, what canonical means, and bodies in chunks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import zlib
from collections.abc import AsyncIterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from socle_platform.identity import Identity
from socle_storage.errors import StorageError
from socle_storage.s3api.chunked import Chain, ChunkedBody
from socle_storage.s3api.credentials import Signer
from socle_storage.s3api.documents import parse_document, render_document
from socle_storage.s3api.forms import parse_policy
from socle_storage.s3api.listing import common_prefix, parse_token, render_token
from socle_storage.s3api.multipart import parse_parts
from socle_storage.s3api.payload import open_payload
from socle_storage.s3api.signature import (
    EMPTY_HASH,
    Asked,
    Claim,
    Scope,
    canonical_paths,
    canonical_query,
    parse_fields,
    parse_header,
    parse_query,
    sign,
    signing_key,
    string_to_sign,
    verify,
    verify_time,
)
from socle_storage.wire import Exchange

EXAMPLE = Scope("AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DATE = "20130524T000000Z"


def asked(method: str, path: str, headers: dict[str, str], *, host: str, payload: str, query: str = "") -> Asked:
    return Asked(method, (path,), (host,), query, headers, payload)


def test_the_published_example_of_a_read() -> None:
    headers = {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY_HASH, "x-amz-date": DATE}
    claim = Claim(
        EXAMPLE,
        ("host", "range", "x-amz-content-sha256", "x-amz-date"),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        DATE,
    )
    request = asked("GET", "/test.txt", headers, host="examplebucket.s3.amazonaws.com", payload=EMPTY_HASH)
    assert verify(claim, request, signing_key(SECRET, EXAMPLE)).is_right
    assert not verify(claim, request, signing_key("another", EXAMPLE)).is_right


def test_the_published_example_of_a_presigned_address() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    claim = parse_query(parse_fields(query))
    request = asked(
        "GET", "/test.txt", {}, host="examplebucket.s3.amazonaws.com", payload="UNSIGNED-PAYLOAD", query=query
    )
    assert verify(claim, request, signing_key(SECRET, EXAMPLE)).is_right
    verify_time(claim, datetime(2013, 5, 24, 23, tzinfo=UTC))
    with pytest.raises(StorageError, match="expired"):
        verify_time(claim, datetime(2013, 5, 25, 1, tzinfo=UTC))


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4),
    st.sampled_from(["GET", "PUT", "DELETE"]),
    st.booleans(),
)
def test_whatever_botocore_signs_is_right(key: str, query: dict[str, str], method: str, presigned: bool) -> None:
    """Any path and query, as the client's library canonicalises them."""
    path = "/s3/bucket/" + quote(key, safe="/~")
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    request: Any = AWSRequest(method=method, url=f"http://host:1234{path}{'?' if pairs else ''}{pairs}", headers={})
    credentials: Any = Credentials("key", "secret")
    signer: Any = S3SigV4QueryAuth if presigned else S3SigV4Auth
    signer(credentials, "s3", "eu-west-1", **({"expires": 60} if presigned else {})).add_auth(request)
    url: str = request.url
    raw = url.partition("?")[2]
    headers = {name.lower(): value for name, value in request.headers.items()}
    claim = parse_query(parse_fields(raw)) if presigned else parse_header(headers["authorization"], headers)
    payload = "UNSIGNED-PAYLOAD" if presigned else headers["x-amz-content-sha256"]
    paths = canonical_paths([""], path)
    verdict = verify(
        claim, Asked(method, paths, ("host:1234",), raw, headers, payload), signing_key("secret", claim.scope)
    )
    assert verdict.is_right, verdict.canonical


def test_what_canonical_means() -> None:
    assert canonical_query("b=2&a=1&a=0&c&d=%7e+%2B&X-Amz-Signature=00") == "a=0&a=1&b=2&c=&d=~%20%2B"
    assert canonical_paths(["/p/", ""], "/a%2fb c") == ("/p/a%2fb c", "/p/a/b%20c", "/a%2fb c", "/a/b%20c")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "AWS4-HMAC-SHA256",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/other, SignedHeaders=host, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/aws4_request, SignedHeaders=, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/aws4_request, SignedHeaders=x-date, Signature=" + "0" * 64,
        "AWS4-HMAC-SHA256 Credential=a/20200101/r/s3/aws4_request, SignedHeaders=host, Signature=XYZ",
    ],
)
def test_headers_that_are_no_claim(header: str) -> None:
    with pytest.raises(StorageError) as error:
        parse_header(header, {"x-amz-date": DATE})
    assert error.value.status == 400


@settings(deadline=None)
@given(st.text(), st.dictionaries(st.sampled_from(["X-Amz-Date", "X-Amz-Expires", "X-Amz-Credential"]), st.text()))
def test_noise_is_no_claim(header: str, query: dict[str, str]) -> None:
    with pytest.raises(StorageError):
        parse_header(header, {})
    with pytest.raises(StorageError):
        parse_query(query)


def test_the_clock() -> None:
    claim = Claim(Scope("k", "20260101", "r", "s3"), ("host",), "", "20260101T120000Z")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    verify_time(claim, noon + timedelta(minutes=14))
    verify_time(claim, noon - timedelta(minutes=14))
    for minutes in (16, -16):
        with pytest.raises(StorageError) as error:
            verify_time(claim, noon + timedelta(minutes=minutes))
        assert str(error.value.code) == "RequestTimeTooSkewed"


# --- bodies in chunks

SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
CHUNKS = (
    (b"a" * 65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (b"a" * 1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (b"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)


async def stream_of(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def decode(
    body: bytes, *, size: int = 1000, chain: Chain | None = None, trailer: bool = False
) -> tuple[bytes, dict[str, str]]:
    async def work() -> tuple[bytes, dict[str, str]]:
        chunked = ChunkedBody(stream_of(body, size), chain, has_trailer=trailer)
        return b"".join([chunk async for chunk in chunked.decoded()]), chunked.trailers

    return asyncio.run(work())


def example_chain() -> Chain:
    claim = Claim(EXAMPLE, ("host",), SEED, DATE)
    return Chain(claim, signing_key(SECRET, EXAMPLE), SEED)


def framed(chunks: tuple[tuple[bytes, str], ...]) -> bytes:
    return b"".join(b"%x;chunk-signature=%s\r\n%s\r\n" % (len(part), tag.encode(), part) for part, tag in chunks)


def test_the_published_example_of_a_body_in_chunks() -> None:
    body = framed(CHUNKS)
    for size in (17, 1000, 100_000):
        assert decode(body, size=size, chain=example_chain())[0] == b"a" * 66560
    with pytest.raises(StorageError, match="signature"):
        decode(body.replace(b"a" * 1024 + b"\r\n", b"b" * 1024 + b"\r\n"), chain=example_chain())
    with pytest.raises(StorageError, match="signature"):
        decode(framed((CHUNKS[1], CHUNKS[0], CHUNKS[2])), chain=example_chain())
    with pytest.raises(StorageError, match="signature"):
        decode(b"3\r\nabc\r\n0\r\n\r\n", chain=example_chain())
    for cut in (3, 50, 60_000, len(body) - 90):
        with pytest.raises(StorageError):
            decode(body[:cut], chain=example_chain())


def test_a_signed_trailer() -> None:
    claim = Claim(EXAMPLE, ("host",), SEED, DATE)
    key = signing_key(SECRET, EXAMPLE)

    def signature(algorithm: str, previous: str, *hashes: str) -> str:
        return sign(key, "\n".join((algorithm, DATE, EXAMPLE.render(), previous, *hashes)))

    data = b"hello trailer"
    first = signature("AWS4-HMAC-SHA256-PAYLOAD", SEED, EMPTY_HASH, hashlib.sha256(data).hexdigest())
    last = signature("AWS4-HMAC-SHA256-PAYLOAD", first, EMPTY_HASH, EMPTY_HASH)
    line = "x-amz-checksum-crc32:" + base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    end = signature("AWS4-HMAC-SHA256-TRAILER", last, hashlib.sha256(f"{line}\n".encode()).hexdigest())
    body = framed(((data, first),)) + b"0;chunk-signature=%s\r\n" % last.encode()
    whole = body + f"{line}\r\nx-amz-trailer-signature:{end}\r\n\r\n".encode()
    decoded, trailers = decode(whole, size=5, chain=Chain(claim, key, SEED), trailer=True)
    assert decoded == data
    assert f"x-amz-checksum-crc32:{trailers['x-amz-checksum-crc32']}" == line
    with pytest.raises(StorageError, match="signature"):
        decode(whole.replace(b"crc32:", b"crc32:A"), chain=Chain(claim, key, SEED), trailer=True)
    with pytest.raises(StorageError, match="signature"):
        decode(body + f"{line}\r\n\r\n".encode(), chain=Chain(claim, key, SEED), trailer=True)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 60), st.sampled_from([b"\r\n", b"\n"]))
def test_unsigned_chunks_in_any_cut(parts: list[bytes], size: int, end: bytes) -> None:
    body = (
        b"".join(b"%x%s%s%s" % (len(part), end, part, end) for part in parts) + b"0" + end + b"X-Check: 1" + end + end
    )
    assert decode(body, size=size, trailer=True) == (b"".join(parts), {"x-check": "1"})


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_noise_is_no_body_in_chunks(noise: bytes) -> None:
    try:
        decoded, _ = decode(noise)
    except StorageError:
        return
    assert len(decoded) < len(noise)


@pytest.mark.parametrize("kind", ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "", "0" * 63, "A" * 64])
def test_bodies_of_an_unknown_kind_are_refused(kind: str) -> None:
    async def nothing() -> MutableMapping[str, Any]:
        return {}

    async def nowhere(_message: object) -> None:
        pass

    exchange = Exchange({"method": "PUT", "path": "/", "headers": [(b"content-length", b"1")]}, nothing, nowhere)
    signer = Signer(Identity.service(), Claim(EXAMPLE, ("host",), "", DATE), b"", kind)
    with pytest.raises(StorageError, match="x-amz-content-sha256"):
        open_payload(exchange, signer)


# --- the rest of what is read


def test_string_to_sign_covers_the_scope() -> None:
    claim = Claim(EXAMPLE, ("host",), "", DATE)
    assert string_to_sign(claim, "x").splitlines()[:3] == ["AWS4-HMAC-SHA256", DATE, EXAMPLE.render()]


def test_documents() -> None:
    body = render_document("A", [("B", "<&>"), ("C", [("D", 1), ("E", None), ("F", True)])])
    root = parse_document(body, "A")
    assert (root.findtext("B"), root.findtext("C/D"), root.findtext("C/F")) == ("<&>", "1", "true")
    assert root.find("C/E") is None
    for bad in (b"", b"<B/>", b"\xff", b"<A>", b"<!DOCTYPE A><A/>", b"<A>" * 5000):
        with pytest.raises(StorageError):
            parse_document(bad, "A")


def test_parts_of_a_completion() -> None:
    def body(*pairs: tuple[object, str]) -> bytes:
        inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in pairs)
        return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()

    assert parse_parts(body((1, '"a"'), (5, "b"))) == [(1, "a"), (5, "b")]
    for bad in (body(), body(("x", "a")), body((2, "a"), (1, "b")), body((1, "a"), (1, "a"))):
        with pytest.raises(StorageError):
            parse_parts(bad)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_policies_and_tokens_never_fail_otherwise(text: str) -> None:
    encoded = base64.b64encode(text.encode()).decode()
    for work in (lambda: parse_policy(encoded), lambda: parse_policy(text), lambda: parse_token(text)):
        with contextlib.suppress(StorageError):
            work()
    assert parse_token(render_token(text.replace("\0", ""))) == text.replace("\0", "")


def test_common_prefixes() -> None:
    assert common_prefix("a/b/c", "a/", "/") == "a/b/"
    assert common_prefix("a/b", "a/", "/") is None
    assert common_prefix("a/b", "", "") is None
