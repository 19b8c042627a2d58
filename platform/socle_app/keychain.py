"""Fills in the keys of a project: the published local ones on loopback, generated ones elsewhere (issue of trust).

The published secret is worthless as a secret, so it is refused on any other bind address.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from socle_app.signing_keys import SigningKeyFile
from socle_platform.config.keys import (
    LOCAL_JWT_SECRET,
    LOCAL_KEY_EXPIRY,
    LOCAL_PUBLISHABLE_KEY,
    LOCAL_S3_KEY_ID,
    LOCAL_S3_SECRET,
    LOCAL_SECRET_KEY,
    KeySettings,
    read_signing_keys,
)
from socle_platform.config.reader import ConfigError
from socle_platform.keys import Keyring, TokenError, secret_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_app.state import StateFolder

_TEN_YEARS = 10 * 365 * 24 * 3600
_API_ROLES = {"ANON_KEY": "anon", "SERVICE_ROLE_KEY": "service_role"}


@dataclass(frozen=True, slots=True)
class Keychain:
    """All keys of a project, complete. `is_local`: they are the published ones."""

    settings: KeySettings
    s3_key_id: str
    s3_secret: str
    is_local: bool

    def keyring(self, anonymous_role: str = "anon") -> Keyring:
        """The keyring that every service shares."""
        opaque = {self.settings.publishable_key: "anon", self.settings.secret_key: "service_role"}
        return Keyring(
            self.settings.keys(),
            anonymous_role=anonymous_role,
            opaque_keys={key: role for key, role in opaque.items() if key},
        )

    def environment(self) -> dict[str, str]:
        """The keys under the names that services and functions read."""
        keys = self.settings
        return {
            "JWT_SECRET": keys.jwt_secret,
            "ANON_KEY": keys.anon_key,
            "SERVICE_ROLE_KEY": keys.service_role_key,
            "PUBLISHABLE_KEY": keys.publishable_key,
            "SECRET_KEY": keys.secret_key,
            "S3_PROTOCOL_ACCESS_KEY_ID": self.s3_key_id,
            "S3_PROTOCOL_ACCESS_KEY_SECRET": self.s3_secret,
        }


def ensure_keychain(given: KeySettings, environ: Mapping[str, str], state: StateFolder, *, loopback: bool) -> Keychain:
    """Completes the given keys and proves them. Raises ConfigError that names each key which does not fit.

    On loopback, what is missing takes the published local values; elsewhere it is generated once and kept 0600.
    """
    if loopback:
        fallback = _local_values()
    else:
        _refuse_published(given, environ)
        if _is_new(given, state):
            SigningKeyFile(state.signing_keys_file).rotate()
        fallback = _generated_values(state)
    secret = given.jwt_secret or fallback["JWT_SECRET"]
    keys = _with_own_signing_keys(replace(given, jwt_secret=secret), state)
    keys = replace(
        keys,
        anon_key=given.anon_key or _api_key(keys, "anon"),
        service_role_key=given.service_role_key or _api_key(keys, "service_role"),
        publishable_key=given.publishable_key or fallback["PUBLISHABLE_KEY"],
        secret_key=given.secret_key or fallback["SECRET_KEY"],
    )
    _prove(keys)
    return Keychain(
        keys,
        environ.get("S3_PROTOCOL_ACCESS_KEY_ID") or fallback["S3_PROTOCOL_ACCESS_KEY_ID"],
        environ.get("S3_PROTOCOL_ACCESS_KEY_SECRET") or fallback["S3_PROTOCOL_ACCESS_KEY_SECRET"],
        is_local=loopback and secret == LOCAL_JWT_SECRET,
    )


def _refuse_published(given: KeySettings, environ: Mapping[str, str]) -> None:
    """Raises ConfigError that names each secret which everybody knows."""
    published = _local_values()
    found = {
        "JWT_SECRET": given.jwt_secret,
        "SECRET_KEY": given.secret_key,
        "S3_PROTOCOL_ACCESS_KEY_SECRET": environ.get("S3_PROTOCOL_ACCESS_KEY_SECRET"),
    }
    problems = [
        f"{name} is the published local one, which everybody knows: remove it to have one generated, or set your own "
        "(32 characters or more), or bind to 127.0.0.1"
        for name, value in found.items()
        if value == published[name]
    ]
    if problems:
        raise ConfigError(problems)


def _is_new(given: KeySettings, state: StateFolder) -> bool:
    """Whether all keys of this project are still to be made. Nobody can rely on its shared secret yet, so its tokens
    are signed with a key of their own from the first one on."""
    brought = given.jwt_secret or given.signing_keys or given.signing_keys_file
    return not brought and "JWT_SECRET" not in state.read_keys() and not state.signing_keys_file.exists()


def _with_own_signing_keys(given: KeySettings, state: StateFolder) -> KeySettings:
    """With the signing keys of the state folder, unless others were given. Raises ConfigError."""
    if given.signing_keys or given.signing_keys_file:
        return given
    file = state.signing_keys_file
    try:
        return replace(given, signing_keys=read_signing_keys(file), signing_keys_file=file)
    except FileNotFoundError:
        return replace(given, signing_keys_file=file)
    except (OSError, ValueError) as error:
        raise ConfigError([f"{file} cannot be used: {error}"]) from error


def _local_values() -> dict[str, str]:
    return {
        "JWT_SECRET": LOCAL_JWT_SECRET,
        "PUBLISHABLE_KEY": LOCAL_PUBLISHABLE_KEY,
        "SECRET_KEY": LOCAL_SECRET_KEY,
        "S3_PROTOCOL_ACCESS_KEY_ID": LOCAL_S3_KEY_ID,
        "S3_PROTOCOL_ACCESS_KEY_SECRET": LOCAL_S3_SECRET,
    }


def _generated_values(state: StateFolder) -> dict[str, str]:
    kept = state.read_keys()
    fresh = {
        "JWT_SECRET": secrets.token_urlsafe(48),
        "PUBLISHABLE_KEY": "sb_publishable_" + secrets.token_urlsafe(24),
        "SECRET_KEY": "sb_secret_" + secrets.token_urlsafe(24),
        "S3_PROTOCOL_ACCESS_KEY_ID": secrets.token_hex(16),
        "S3_PROTOCOL_ACCESS_KEY_SECRET": secrets.token_hex(32),
    }
    if any(name not in kept for name in fresh):
        kept = {**fresh, **kept}
        state.write_keys(kept)
    return kept


def _api_key(keys: KeySettings, role: str) -> str:
    """The project's own anon or service_role token; under the published secret it equals the published key.

    Signed with the secret, which outlives every rotation of the signing keys.
    """
    local = keys.jwt_secret == LOCAL_JWT_SECRET
    claims = {
        "iss": "supabase-demo" if local else "socle",
        "role": role,
        "exp": LOCAL_KEY_EXPIRY if local else int(time.time()) + _TEN_YEARS,
    }
    return Keyring((secret_key(keys.jwt_secret),)).sign(claims)


def _prove(keys: KeySettings) -> None:
    keyring = Keyring(keys.keys())
    problems: list[str] = []
    for name, role in _API_ROLES.items():
        token = keys.anon_key if name == "ANON_KEY" else keys.service_role_key
        try:
            found = keyring.verify(token).role
        except TokenError as error:
            problems.append(
                f"{name} does not verify under JWT_SECRET ({error.message}): remove it to have it made from the "
                "secret, or set the secret that it was signed with"
            )
            continue
        if found != role:
            problems.append(f"{name} carries the role {found!r} instead of {role!r}: the two keys may be swapped")
    if problems:
        raise ConfigError(problems)
