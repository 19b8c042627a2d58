"""Which names buckets and objects may have (contract storage.md §2, §3). Pure."""

from __future__ import annotations

import re

from socle_storage.errors import invalid_bucket_name, invalid_key

_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")
_BUCKET = re.compile(r"[A-Za-z0-9_!.*'() &$=@;:+,?-]{1,100}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-5][0-9a-f]{3}-[089ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
MAX_NAME = 1024
"""Characters of an object's name: S3's limit, and a defence."""
PLACEHOLDER = ".emptyFolderPlaceholder"
_RESERVED_SUFFIX = "--table-s3"


def verify_key(name: str) -> str:
    """The name of an object. Raises InvalidKey.

    `.` and `..` as whole segments are refused on every backend, so that a bucket can move from one to another.
    """
    if len(name) > MAX_NAME or not _KEY.fullmatch(name):
        raise invalid_key(name[:MAX_NAME])
    if "." in name and not {".", ".."}.isdisjoint(name.split("/")):
        raise invalid_key(name)
    return name


def verify_bucket(bucket: str) -> str:
    """The id of a bucket. Raises InvalidBucketName."""
    if not _BUCKET.fullmatch(bucket):
        raise invalid_bucket_name()
    return bucket


def verify_new_bucket(name: str) -> str:
    """A name for a new bucket: also no white space around it, and not of a reserved form. Raises InvalidBucketName."""
    verify_bucket(name)
    if name != name.strip() or name in {".", ".."} or name.endswith(_RESERVED_SUFFIX):
        raise invalid_bucket_name()
    return name


def is_placeholder(name: str) -> bool:
    """Whether the object marks an empty folder: no bytes, any type."""
    return name.endswith(PLACEHOLDER)


def uuid_or_none(text: str | None) -> str | None:
    """The text if it is a UUID (the deprecated `owner` columns hold nothing else)."""
    return text if text is not None and _UUID.fullmatch(text) else None
