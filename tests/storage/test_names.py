"""Names of buckets and objects: whatever text comes, it is a name or an error of ours."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.storage import code_of
from socle_platform.blobs import MAX_KEY, blob_key, version_of
from socle_storage.errors import Code, StorageError
from socle_storage.names import is_placeholder, uuid_or_none, verify_bucket, verify_key, verify_new_bucket

ALPHABET = string.ascii_letters + string.digits + "_!.*'() &$=@;:+,?-"
VERSION = "11111111-1111-4111-8111-111111111111"


def accepts(name: str) -> bool:
    code = code_of(lambda: verify_key(name))
    assert code in {None, Code.INVALID_KEY}
    return code is None


@given(st.text(alphabet=ALPHABET + "/", min_size=1, max_size=200))
def test_every_name_of_the_alphabet_is_one_unless_it_climbs(name: str) -> None:
    assert accepts(name) is not bool({".", ".."} & set(name.split("/")))


@given(st.text(max_size=60))
def test_any_other_letter_makes_it_none(name: str) -> None:
    expected = bool(name) and set(name) <= set(ALPHABET + "/") and not {".", ".."} & set(name.split("/"))
    assert accepts(name) is expected


@given(st.text(max_size=120))
def test_buckets_have_the_same_letters_without_the_slash(name: str) -> None:
    fits = 0 < len(name) <= 100 and set(name) <= set(ALPHABET)
    assert code_of(lambda: verify_bucket(name)) is (None if fits else Code.INVALID_BUCKET_NAME)


@pytest.mark.parametrize("name", [" a", "a ", ".", "..", "x--table-s3", "a/b", ""])
def test_names_that_a_new_bucket_may_not_have(name: str) -> None:
    with pytest.raises(StorageError):
        verify_new_bucket(name)


def test_length_counts() -> None:
    assert accepts("n" * 1024)
    assert not accepts("n" * 1025)
    assert verify_new_bucket("b" * 100)


@given(st.text(alphabet=ALPHABET + "/", min_size=1, max_size=1024), st.sampled_from([VERSION, None]))
def test_every_name_has_a_key_that_s3_takes_and_that_says_its_version(name: str, version: str | None) -> None:
    key = blob_key("tenant", "b" * 100, name, version)
    assert len(key) <= MAX_KEY
    if version is not None:
        assert version_of(key) == version


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (VERSION, VERSION),
        (VERSION.upper(), VERSION.upper()),
        ("not-a-uuid", None),
        (None, None),
        (VERSION + "\n", None),
        ("11111111-1111-f111-8111-111111111111", None),
    ],
)
def test_only_a_uuid_fits_the_old_owner_column(text: str | None, found: str | None) -> None:
    assert uuid_or_none(text) == found


def test_the_mark_of_an_empty_folder() -> None:
    assert is_placeholder("a/.emptyFolderPlaceholder")
    assert not is_placeholder("a/emptyFolderPlaceholder.txt")
