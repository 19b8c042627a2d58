"""The protocol's headers as values. Pure.

Source: TUS 1.0.0, contract storage.md §8.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from socle_platform.errors import SocleError
from socle_storage.names import MAX_NAME

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,termination,expiration"
STREAM: Final = "application/offset+octet-stream"
_WHOLE = re.compile(r"[0-9]{1,18}")
_KEY = re.compile(r"[!-+\--~]+")
_ID = re.compile(r"[A-Za-z0-9_-]+")
_MAX_METADATA = 64 * 1024


class TusRefusal(SocleError):
    """The request is refused in the protocol's own words: a status and a plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text.strip())
        self.status = status
        self.text = text


def tus_required() -> TusRefusal:
    return TusRefusal(412, "Tus-Resumable Required\n")


def offset_required() -> TusRefusal:
    return TusRefusal(403, "Upload-Offset header required\n")


def type_required() -> TusRefusal:
    return TusRefusal(403, "Content-Type header required\n")


def unsupported_type() -> TusRefusal:
    return TusRefusal(415, f"Content-Type must be {STREAM}\n")


def length_required() -> TusRefusal:
    return TusRefusal(400, "Upload-Length or Upload-Defer-Length header required\n")


def invalid_header(name: str) -> TusRefusal:
    return TusRefusal(400, f"Invalid {name}\n")


def invalid_metadata() -> TusRefusal:
    return TusRefusal(400, "Invalid Upload-Metadata header")


def unknown_upload() -> TusRefusal:
    return TusRefusal(404, "The file for this url was not found\n")


def gone_upload() -> TusRefusal:
    return TusRefusal(410, "The file for this url no longer exists\n")


def offset_conflict() -> TusRefusal:
    return TusRefusal(409, "Upload-Offset conflict\n")


def size_exceeded() -> TusRefusal:
    """More bytes than the upload's own length."""
    return TusRefusal(413, "upload's size exceeded\n")


def maximum_exceeded() -> TusRefusal:
    """More bytes than the bucket or the service takes."""
    return TusRefusal(413, "Maximum size exceeded\n")


def already_complete() -> TusRefusal:
    return TusRefusal(400, "Cannot terminate an already completed upload")


def taken_over() -> TusRefusal:
    """Another request wants this upload, and this one gave way."""
    return TusRefusal(400, "Request aborted due to lock acquired")


def parse_whole(text: str, name: str) -> int:
    """A number of bytes. Raises TusRefusal (400)."""
    if not _WHOLE.fullmatch(text):
        raise invalid_header(name)
    return int(text)


def parse_length(length: str | None, deferred: str | None) -> int | None:
    """The length that a creation declares, None when it is put off. Raises TusRefusal (400)."""
    if (length is None) == (deferred is None):
        raise length_required()
    if length is None:
        if deferred != "1":
            raise invalid_header("upload-defer-length")
        return None
    return parse_whole(length, "upload-length")


def parse_pairs(text: str) -> Mapping[str, str]:
    """`Upload-Metadata`: pairs of a key and a base64 value; a key alone has an empty one. Raises TusRefusal (400)."""
    if len(text) > _MAX_METADATA:
        raise invalid_metadata()
    found: dict[str, str] = {}
    for pair in text.split(","):
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise invalid_metadata()
        try:
            found[key] = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
        except (binascii.Error, ValueError):
            raise invalid_metadata() from None
    return found


def render_pairs(values: Mapping[str, str]) -> str:
    """The header of these values."""
    pairs = ((key, base64.b64encode(value.encode()).decode()) for key, value in values.items())
    return ",".join(f"{key} {encoded}" if encoded else key for key, encoded in pairs)


def render_id(bucket: str, name: str, version: str) -> str:
    """The last segment of an upload's address."""
    return base64.urlsafe_b64encode(f"{bucket}/{name}/{version}".encode()).rstrip(b"=").decode()


def parse_id(text: str) -> tuple[str, str, str]:
    """Bucket, name and version. Raises TusRefusal (404) for what no upload can be called."""
    if len(text) > 4 * MAX_NAME or not _ID.fullmatch(text):
        raise unknown_upload()
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        raise unknown_upload() from None
    bucket, _, rest = decoded.partition("/")
    name, _, version = rest.rpartition("/")
    if not bucket or not name or not version or "\0" in decoded:
        raise unknown_upload()
    return bucket, name, version
