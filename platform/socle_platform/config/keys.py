"""Keys of the project: the token secret, signing keys, and the keys that clients carry (contract cli.md §4)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from socle_platform.keys import Key, parse_jwks, secret_key

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

LOCAL_JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"  # noqa: S105 (the published local value)
LOCAL_PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
LOCAL_SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"  # noqa: S105 (the published local value)
LOCAL_S3_KEY_ID = "625729a08b95bf1b7ff351a663f3a23c"
LOCAL_S3_SECRET = "850181e4652dd023b7a98c58ae0d2d34bd487ee0cc3254aed6eda37307425907"  # noqa: S105 (as above)
LOCAL_KEY_EXPIRY = 1983812996
"""Unix time at which the published local keys end."""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """Secrets of a project. Empty text means "not set": the roof fills in local or generated values before use."""

    jwt_secret: str = field(default="", repr=False)
    anon_key: str = field(default="", repr=False)
    service_role_key: str = field(default="", repr=False)
    publishable_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    signing_keys: tuple[Key, ...] = field(default=(), repr=False)
    signing_keys_file: Path | None = None
    """Where the signing keys come from and are rotated; None where the environment itself holds them."""

    def keys(self) -> tuple[Key, ...]:
        """All keys to verify with; the signing key is an asymmetric one if there is any, else the secret."""
        marked = any(key.use_for_signing for key in self.signing_keys)
        secret = (secret_key(self.jwt_secret, signing=not marked),) if self.jwt_secret else ()
        return (*self.signing_keys, *secret)


def load_keys(read: Reader) -> KeySettings:
    """Reads JWT_SECRET, ANON_KEY, SERVICE_ROLE_KEY, PUBLISHABLE_KEY, SECRET_KEY and the signing keys (a JSON array of
    JWKs in GOTRUE_JWT_KEYS, or the path of a file with one in SIGNING_KEYS_PATH)."""
    secret = read.secret("JWT_SECRET", "GOTRUE_JWT_SECRET")
    signing_keys, file = _load_signing_keys(read)
    if secret and len(secret) < 16:
        read.problem("JWT_SECRET must have at least 16 characters (32 are better)")
    return KeySettings(
        jwt_secret=secret,
        anon_key=read.secret("ANON_KEY", "SUPABASE_ANON_KEY"),
        service_role_key=read.secret("SERVICE_ROLE_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SERVICE_KEY"),
        publishable_key=read.secret("PUBLISHABLE_KEY", "SUPABASE_PUBLISHABLE_KEY"),
        secret_key=read.secret("SECRET_KEY", "SUPABASE_SECRET_KEY"),
        signing_keys=signing_keys,
        signing_keys_file=file,
    )


def read_signing_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file with a JSON array of JWKs. Raises OSError, and ValueError for any other content."""
    return _parse_signing_keys(path.read_text(encoding="utf-8"))


def _parse_signing_keys(text: str) -> tuple[Key, ...]:
    try:
        return parse_jwks(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the signing keys are not a JSON array of JWKs: {error}") from None


def _load_signing_keys(read: Reader) -> tuple[tuple[Key, ...], Path | None]:
    text = read.secret("GOTRUE_JWT_KEYS", "JWT_KEYS")
    path = read.text("SIGNING_KEYS_PATH")
    file = Path(path).absolute() if path and not text else None
    try:
        if file is not None:
            return read_signing_keys(file), file
        return _parse_signing_keys(text) if text else (), None
    except OSError as error:
        read.problem(f"SIGNING_KEYS_PATH names a file that cannot be read: {error.strerror} ({path})")
    except ValueError as error:
        read.problem(str(error))
    return (), file
