"""The headers of resumable uploads, and the addresses they lead to, with generated input."""

from __future__ import annotations

import asyncio
import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socle_platform.config.storage import StorageSettings
from socle_storage.addresses import Approach, public_base
from socle_storage.errors import StorageError
from socle_storage.store import Seal
from socle_storage.tus.endpoint import Place, describe, parse_place
from socle_storage.tus.headers import (
    TusRefusal,
    parse_id,
    parse_length,
    parse_pairs,
    parse_whole,
    render_id,
    render_pairs,
)
from socle_storage.tus.locks import Locks

TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(st.dictionaries(TOKENS, TEXTS, min_size=1, max_size=6))
def test_metadata_goes_and_comes_back(values: dict[str, str]) -> None:
    assert parse_pairs(render_pairs(values)) == values


@settings(deadline=None)
@given(st.text(max_size=60))
def test_metadata_is_read_or_refused(text: str) -> None:
    try:
        pairs = parse_pairs(text)
    except TusRefusal as refusal:
        assert refusal.status == 400  # noqa: PT017 (refusing is one of two right answers)
        return
    for key, value in pairs.items():
        assert key
        value.encode()


@pytest.mark.parametrize("text", ["", ",", "a b c", "a YQ==,a YQ==", "a YQ==,,b YQ==", "a  YQ==", "é YQ==", "a !!!!"])
def test_metadata_that_is_refused(text: str) -> None:
    with pytest.raises(TusRefusal):
        parse_pairs(text)


def test_metadata_as_clients_send_it() -> None:
    pairs = parse_pairs("bucketName Yg==, objectName YS9i,flag,empty ")
    assert pairs == {"bucketName": "b", "objectName": "a/b", "flag": "", "empty": ""}
    assert parse_pairs("unpadded YQ") == {"unpadded": "a"}
    wanted = describe(("b", "a"), {"cacheControl": "-5", "metadata": "[1]"}, 7, Seal("me", upsert=True))
    assert (wanted.cache_control, wanted.user_metadata, wanted.mimetype) == (
        "max-age=-5",
        None,
        "application/octet-stream",
    )
    assert describe(("b", "a"), {"cacheControl": "no"}, 7, Seal(None, upsert=False)).cache_control == "no-cache"


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)


@settings(deadline=None)
@given(NAMES, st.lists(NAMES, min_size=1, max_size=4), st.uuids())
def test_an_upload_has_one_address(bucket: str, segments: list[str], version: object) -> None:
    name = "/".join(segments)
    assert parse_id(render_id(bucket, name, str(version))) == (bucket, name, str(version))


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_other_addresses_are_unknown(text: str) -> None:
    try:
        bucket, name, version = parse_id(text)
    except TusRefusal as refusal:
        assert refusal.status == 404  # noqa: PT017 (refusing is one of two right answers)
    else:
        assert bucket
        assert name
        assert version


@settings(deadline=None)
@given(st.text(max_size=30))
def test_numbers_are_whole_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_whole(text, "upload-length") < 10**18
    except TusRefusal as refusal:
        assert refusal.status == 400  # noqa: PT017 (refusing is one of two right answers)


def test_lengths() -> None:
    assert parse_length("5", None) == 5
    assert parse_length(None, "1") is None
    for length, deferred in ((None, None), ("5", "1"), (None, "0"), ("-5", None), ("٥", None)):
        with pytest.raises(TusRefusal):
            parse_length(length, deferred)


def test_places() -> None:
    root = "/upload/resumable"
    assert parse_place(root, root) == parse_place(root + "/", root) == Place(signed=False, upload="")
    assert parse_place(root + "/abc", root) == Place(signed=False, upload="abc")
    assert parse_place(root + "/sign/", root) == Place(signed=True, upload="")
    assert parse_place(root + "/sign/abc", root) == Place(signed=True, upload="abc")
    assert parse_place(root + "/a/b", root) is None
    assert parse_place("/upload/resumables", root) is None


def test_public_addresses() -> None:
    plain = Approach("http", "10.0.0.7:5000", "/storage/v1")
    assert public_base(StorageSettings(), plain) == "http://10.0.0.7:5000/storage/v1"
    configured = StorageSettings(public_url="https://files.example/storage/v1")
    assert public_base(configured, plain) == "https://files.example/storage/v1"
    assert public_base(StorageSettings(public_url="https://files.example"), plain) == "https://files.example/storage/v1"
    local = StorageSettings(public_url="http://127.0.0.1:54321/storage/v1")
    assert public_base(local, plain) == "http://10.0.0.7:5000/storage/v1"
    near = Approach("http", "localhost:54321", "/storage/v1")
    assert public_base(local, near) == "http://127.0.0.1:54321/storage/v1"
    proxied = Approach("http", "inside:5000", "", "https", "a.example:1", "8443", "/base")
    assert public_base(StorageSettings(), proxied) == "https://a.example:8443"
    assert public_base(StorageSettings(allow_forwarded_prefix=True), proxied) == "https://a.example:8443/base"
    standard = Approach("http", "inside", "/s", "https", "a.example", "443")
    assert public_base(StorageSettings(), standard) == "https://a.example/s"


async def test_a_lock_is_asked_for_and_given_up_waiting_for() -> None:
    locks = Locks(patience=0.1)
    async with locks.hold("a") as asked:
        async with locks.hold("b"):
            assert not asked.is_set()
        with pytest.raises(StorageError) as refused:
            async with locks.hold("a"):
                pass
        assert refused.value.status == 503
        assert asked.is_set()
    async with asyncio.timeout(1), locks.hold("a") as again:
        assert not again.is_set()
