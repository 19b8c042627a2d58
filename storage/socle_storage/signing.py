"""Signed URLs: tokens that stand for one object and one action (contract storage.md §3.3).

A download token opens only downloads and an upload token only uploads, and each only the object in its `url`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from socle_platform.keys import TokenError
from socle_storage.errors import (
    invalid_jwt,
    invalid_parameter,
    invalid_signature,
    jwt_text,
)
from socle_storage.names import verify_bucket, verify_key
from socle_storage.uploads import Upload, probe

if TYPE_CHECKING:
    from socle_storage.context import Caller, Storage
    from socle_storage.transforms import Transform

DOWNLOAD = "download"
UPLOAD = "upload"
_NOT_FOUND = "Either the object does not exist or you do not have access to it"
_LATEST = 8_640_000_000_000
"""Seconds since 1970 of the last moment that clients can name."""


def verify_token(storage: Storage, token: str, bucket: str, name: str, scope: str) -> Mapping[str, Any]:
    """The claims of a token that permits `scope` on this object now. Raises InvalidJWT or InvalidSignature.

    Tokens made before scopes existed are upload tokens if they say `upsert`, else download tokens.
    """
    verify_bucket(bucket)
    try:
        claims = storage.keyring.verify(token).claims
    except TokenError as error:
        raise invalid_jwt(jwt_text(error)) from error
    expires = claims.get("exp")
    if isinstance(expires, int | float) and expires <= storage.clock.now().timestamp():
        raise invalid_jwt('"exp" claim timestamp check failed')
    found = claims.get("scope", UPLOAD if "upsert" in claims else DOWNLOAD)
    if found != scope:
        raise invalid_signature(f"Token is not scoped for {scope}")
    if claims.get("url") != f"{bucket}/{name}":
        raise invalid_signature()
    return claims


async def sign_download(
    storage: Storage, caller: Caller, bucket: str, name: str, expires_in: int, transform: Transform | None = None
) -> str:
    """The path, with its token, under which the object can be read for `expires_in` seconds. Raises NoSuchKey."""
    verify_bucket(bucket)
    await storage.store.require_object(caller, bucket, verify_key(name))
    asked = transform.render(signed=True) if transform is not None else ""
    claims: dict[str, Any] = {}
    if asked and transform is not None:
        claims["transformations"] = asked
    if transform is not None and transform.format:
        claims["format"] = transform.format
    route = "render/image" if asked else "object"
    return _signed_path(storage, route, bucket, name, expires_in, claims)


async def sign_many(
    storage: Storage, caller: Caller, bucket: str, names: Sequence[str], expires_in: int
) -> list[dict[str, str | None]]:
    """One entry for each name, in order: a signed path, or an error where the caller sees no such object."""
    verify_bucket(bucket)
    verify_lifetime(storage, expires_in)
    visible = await storage.store.visible_names(caller, bucket, names)
    return [
        {"error": None, "path": name, "signedURL": _signed_path(storage, "object", bucket, name, expires_in, {})}
        if name in visible
        else {"error": _NOT_FOUND, "path": name, "signedURL": None}
        for name in names
    ]


async def sign_upload(storage: Storage, caller: Caller, upload: Upload) -> tuple[str, str]:
    """The path, and the token in it, that lets anyone upload this object once (or again, with `upsert`).

    Raises AccessDenied, KeyAlreadyExists.
    """
    verify_bucket(upload.bucket)
    verify_key(upload.name)
    await probe(storage, caller, upload)
    url = f"{upload.bucket}/{upload.name}"
    claims = {"owner": upload.owner, "url": url, "upsert": upload.upsert, "scope": UPLOAD}
    if upload.owner is None:
        del claims["owner"]
    token = _sign(storage, claims, storage.settings.signed_upload_expiry)
    return f"/object/upload/sign/{url}?token={token}", token


def verify_lifetime(storage: Storage, seconds: int) -> None:
    """Raises InvalidParameter for a moment that no calendar has."""
    if not 1 <= seconds <= _LATEST - storage.clock.now().timestamp():
        raise invalid_parameter("expiresIn")


def _signed_path(
    storage: Storage, route: str, bucket: str, name: str, expires_in: int, claims: Mapping[str, Any]
) -> str:
    verify_lifetime(storage, expires_in)
    url = f"{bucket}/{name}"
    token = _sign(storage, {**claims, "url": url, "scope": DOWNLOAD}, expires_in)
    return f"/{route}/sign/{url}?token={token}"


def _sign(storage: Storage, claims: Mapping[str, Any], expires_in: int) -> str:
    now = int(storage.clock.now().timestamp())
    return storage.keyring.sign({**claims, "iat": now, "exp": now + expires_in})
