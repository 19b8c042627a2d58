"""Signing keys of a project and their rotation: standby → in use → previously used → revoked (contract auth.md §5.2).

The file is a JSON array of JWKs, as `GOTRUE_JWT_KEYS` and config.toml's `signing_keys_path` have it: the one with
`sign` among its `key_ops` signs, the others verify. Two members of our own say more: `status` and `status_since`.
Revoked keys leave the array, so that no reader of the file can go on to trust them; what remains of them (no key, only
name and dates) stands beside it in `….revoked.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from socle_platform.errors import SocleError
from socle_platform.keys import parse_jwk

Status: TypeAlias = Literal["in_use", "standby", "previously_used"]
"""Words of the hosted platform's own key list."""
ALGORITHMS = ("ES256", "RS256", "EdDSA")
DEFAULT_ALGORITHM = "ES256"

_ORDER: Mapping[Status, int] = {"in_use": 0, "standby": 1, "previously_used": 2}


class SigningKeysUnusable(SocleError):
    """The file with the signing keys cannot be read or written."""


class KeyNotRevocable(SocleError):
    """That key cannot be revoked."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the file. `since` is when it got its status (ISO 8601), "" where a file of others does not say."""

    status: Status
    jwk: Mapping[str, Any] = field(repr=False)
    since: str = ""

    @property
    def kid(self) -> str:
        return str(self.jwk.get("kid", ""))

    @property
    def algorithm(self) -> str:
        return parse_jwk(self.jwk).algorithms[0]


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """What is remembered of a key that nothing verifies with any more."""

    kid: str
    algorithm: str
    revoked_at: str


def generate_key(status: Status, algorithm: str = DEFAULT_ALGORITHM, *, now: datetime | None = None) -> SigningKey:
    """A new key of one of ALGORITHMS with a random name."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    if algorithm == "ES256":
        jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    elif algorithm == "RS256":
        jwk = RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048), as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)
    named = {**jwk, "kid": str(uuid.uuid4()), "use": "sig", "alg": algorithm}
    return _with_status(SigningKey(status, named), status, now or datetime.now(UTC))


def parse_keys(document: object) -> tuple[SigningKey, ...]:
    """The keys of a file, in use first. Raises ValueError.

    As for the services, the first key that may sign is the one in use. A file of the official tools says nothing of
    the others: one that may sign is taken for a standby, one that may not for a former one.
    """
    if not isinstance(document, list):
        raise ValueError("it is no JSON array of JWKs")
    found: list[SigningKey] = []
    in_use = False
    for jwk in cast("list[object]", document):
        if not isinstance(jwk, dict):
            raise ValueError("one of its members is no JWK")
        members = cast("dict[str, Any]", jwk)
        may_sign = parse_jwk(members).use_for_signing
        status: Status = "previously_used"
        if may_sign and not in_use:
            status, in_use = "in_use", True
        elif may_sign or members.get("status") == "standby":
            status = "standby"
        found.append(SigningKey(status, members, str(members.get("status_since", ""))))
    return _sorted(found)


def rotate(keys: Sequence[SigningKey], fresh: Callable[[Status], SigningKey], now: datetime) -> tuple[SigningKey, ...]:
    """The standby signs from now on (a new key where there is none), the former one only verifies, a new one stands by.

    A key stands by for a whole turn, so that whoever caches the public keys knows it before the first token comes.
    """
    standby = next((key for key in keys if key.status == "standby"), None)
    moved = [_with_status(key, "previously_used", now) if key.status == "in_use" else key for key in keys]
    chosen = fresh("in_use") if standby is None else _with_status(standby, "in_use", now)
    kept = [key for key in moved if standby is None or key.jwk is not standby.jwk]
    waiting = [] if any(key.status == "standby" for key in kept) else [fresh("standby")]
    return _sorted([chosen, *waiting, *kept])


def replace_standby(keys: Sequence[SigningKey], standby: SigningKey) -> tuple[SigningKey, ...]:
    """Another key stands by; the one that did is forgotten, as it never signed anything."""
    return _sorted([standby, *(key for key in keys if key.status != "standby")])


def revoke(keys: Sequence[SigningKey], kid: str) -> tuple[tuple[SigningKey, ...], SigningKey]:
    """The keys without that one, and that one. Raises KeyNotRevocable for the key in use and for an unknown one."""
    found = next((key for key in keys if key.kid == kid), None)
    if found is None:
        raise KeyNotRevocable(f"There is no key {kid!r}: `socle keys list` shows them")
    if found.status == "in_use":
        raise KeyNotRevocable(f"{kid} signs the tokens of now: run `socle keys rotate` first")
    return tuple(key for key in keys if key is not found), found


class SigningKeyFile:
    """The file of a project's signing keys (0600, replaced as a whole) and the note of the revoked ones beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.revoked_path = self.path.with_suffix(".revoked.json")

    def read(self) -> tuple[SigningKey, ...]:
        """The keys; none where there is no file. Raises SigningKeysUnusable."""
        try:
            return parse_keys(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SigningKeysUnusable(f"{self.path} cannot be used: {error}") from error

    def read_revoked(self) -> tuple[RevokedKey, ...]:
        """The revoked keys, the latest first. Raises SigningKeysUnusable."""
        try:
            document = json.loads(self.revoked_path.read_text(encoding="utf-8"))
            return tuple(RevokedKey(**entry) for entry in document)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:
            raise SigningKeysUnusable(f"{self.revoked_path} cannot be used: {error}") from error

    def rotate(self, algorithm: str | None = None) -> tuple[SigningKey, ...]:
        """One turn; returns the new keys. New ones are made by `algorithm`, by default that of the key in use."""
        with self._alone():
            keys = self.read()
            wanted = algorithm or _own_algorithm(keys)
            turned = rotate(keys, lambda status: generate_key(status, wanted), datetime.now(UTC))
            self._write(turned)
        return turned

    def replace_standby(self, algorithm: str) -> SigningKey:
        """A new standby key; returns it."""
        with self._alone():
            fresh = generate_key("standby", algorithm)
            self._write(replace_standby(self.read(), fresh))
        return fresh

    def revoke(self, kid: str) -> SigningKey:
        """Forgets that key's material; returns what it was. Raises KeyNotRevocable."""
        with self._alone():
            kept, gone = revoke(self.read(), kid)
            note = RevokedKey(gone.kid, gone.algorithm, _iso(datetime.now(UTC)))
            entries = [note, *(entry for entry in self.read_revoked() if entry.kid != kid)]
            notes = [
                {"kid": entry.kid, "algorithm": entry.algorithm, "revoked_at": entry.revoked_at} for entry in entries
            ]
            self._replace(self.revoked_path, notes)
            self._write(kept)
        return gone

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """One change at a time: the folder is locked, as the file itself is replaced."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise SigningKeysUnusable(f"{self.path.parent} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, keys: Sequence[SigningKey]) -> None:
        self._replace(self.path, [dict(key.jwk) for key in keys])

    def _replace(self, path: Path, document: Sequence[object]) -> None:
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(document, stream, indent=1)
                stream.flush()
                os.fsync(stream.fileno())
            _keep_owner(path, fresh)
            fresh.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise SigningKeysUnusable(f"{path} cannot be written: {error.strerror}") from error


def _keep_owner(former: Path, fresh: Path) -> None:
    """Whoever could read the file before can read it afterwards, even if root turned the key."""
    if former.exists() and os.geteuid() == 0:
        facts = former.stat()
        os.chown(fresh, facts.st_uid, facts.st_gid)


def _own_algorithm(keys: Sequence[SigningKey]) -> str:
    chosen = next((key.algorithm for key in keys if key.status == "in_use"), DEFAULT_ALGORITHM)
    return chosen if chosen in ALGORITHMS else DEFAULT_ALGORITHM


def _with_status(key: SigningKey, status: Status, now: datetime) -> SigningKey:
    operations = ["sign", "verify"] if status == "in_use" else ["verify"]
    since = _iso(now)
    jwk = {**key.jwk, "key_ops": operations, "status": status, "status_since": since}
    return replace(key, status=status, jwk=jwk, since=since)


def _sorted(keys: Sequence[SigningKey]) -> tuple[SigningKey, ...]:
    """In use, standby, then the former ones, the latest first (official tools sign with the first of the file)."""
    latest_first = sorted(keys, key=lambda key: key.since, reverse=True)
    return tuple(sorted(latest_first, key=lambda key: _ORDER[key.status]))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
