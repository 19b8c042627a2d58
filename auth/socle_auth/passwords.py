"""Passwords: hashing off the event loop, every accepted hash, strength (contracts/auth.md §5.4)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from socle_auth import encryption, leaked
from socle_auth.errors import WeakPassword, failure, invalid
from socle_auth.sha512_crypt import sha512_crypt
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from argon2 import PasswordHasher as Argon2

    from socle_auth.context import AuthService
    from socle_auth.store.rows import User
    from socle_platform.config.auth import Argon2Settings

_Answer = TypeVar("_Answer")

LONGEST = 72
"""Bytes; what bcrypt can tell apart, kept for every hash so that a user can be moved back."""

_ARGON2 = re.compile(
    r"\$argon2(?P<kind>d|i|id)\$v=(?P<v>\d+)\$m=(?P<m>\d{1,10}),t=(?P<t>\d{1,10}),p=(?P<p>\d{1,5})"
    r"(?P<extra>,[^$]*)?\$(?P<salt>[^$]*)\$(?P<hash>[^$]*)",
    re.ASCII,
)
_BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_FIREBASE = re.compile(
    r"\$fbscrypt\$v=(?P<v>\d+),n=(?P<n>\d{1,5}),r=(?P<r>\d{1,5}),p=(?P<p>\d{1,5})"
    r"(?:,ss=(?P<ss>[^,$]*))?(?:,sk=(?P<sk>[^$]*))?\$(?P<salt>[^$]+)\$(?P<hash>[^$]+)",
    re.ASCII,
)
_SHA512 = re.compile(r"\$6\$(?:rounds=(?P<rounds>\d{1,9})\$)?(?P<salt>[^$]{1,16})\$[./A-Za-z0-9]{86}", re.ASCII)
_MOST_BCRYPT_COST = 16
_MOST_SCRYPT_MEMORY = 1 << 30
_MOST_SHA512_ROUNDS = 200_000


class BadHash(SocleError):
    """This is not a password hash that we can verify."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fits`: the password is the right one. `is_old`: its hash should be replaced by a fresh one."""

    fits: bool
    is_old: bool


class PasswordHasher:
    """Hashes and verifies on a bounded pool of threads, so that a storm of logins cannot stall other requests."""

    def __init__(self, settings: Argon2Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.workers or os.cpu_count() or 1, thread_name_prefix="password")
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """A fresh argon2id hash."""
        return await self._run(lambda: self._argon2().hash(password))

    async def verify(self, stored: str, password: str) -> Verdict:
        """Whether the password fits the hash. A hash we cannot read fits nothing."""
        return await self._run(lambda: self._verify(stored, password))

    async def verify_nobody(self, password: str) -> None:
        """The same work for a user who does not exist or has no password: time tells nothing (§9)."""
        await self._run(lambda: self._verify(self._hash_of_nobody(), password))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _argon2(self) -> Argon2:
        from argon2 import PasswordHasher as Argon2

        settings = self._settings
        return Argon2(time_cost=settings.passes, memory_cost=settings.memory_kib, parallelism=settings.lanes)

    def _hash_of_nobody(self) -> str:
        if self._nobody is None:
            self._nobody = self._argon2().hash(base64.b64encode(os.urandom(24)).decode())
        return self._nobody

    def _verify(self, stored: str, password: str) -> Verdict:
        try:
            check_hash(stored)
        except BadHash:
            return Verdict(fits=False, is_old=False)
        if stored.startswith("$argon2"):
            fits = _verify_argon2(stored, password)
            return Verdict(fits, fits and self._argon2().check_needs_rehash(stored))
        return Verdict(_verify_foreign(stored, password), is_old=True)


def check_hash(stored: str) -> None:
    """Whether this is a hash we verify, with bounded cost. Raises BadHash.

    bcrypt (`$2a$ $2b$ $2y$`), argon2i and argon2id (v=19, m ≤ 1 GiB, t ≤ 20, p ≤ 16, no keyid or data),
    Firebase's scrypt (v=1), sha512-crypt (`$6$`).
    """
    if stored.startswith("$argon2"):
        _check_argon2(stored)
    elif stored.startswith("$fbscrypt"):
        _check_firebase(stored)
    elif stored.startswith("$6$"):
        match = _SHA512.fullmatch(stored)
        if match is None or int(match["rounds"] or 5000) > _MOST_SHA512_ROUNDS:
            raise BadHash("incorrect sha512-crypt hash format")
    else:
        match = _BCRYPT.fullmatch(stored)
        if match is None or not 4 <= int(match["cost"]) <= _MOST_BCRYPT_COST:
            raise BadHash("incorrect bcrypt hash format")


def _check_argon2(stored: str) -> None:
    match = _ARGON2.fullmatch(stored)
    if match is None:
        raise BadHash("incorrect argon2 hash format")
    if match["kind"] == "d":
        raise BadHash("argon2d is not supported, only argon2i and argon2id")
    if match["v"] != "19" or match["extra"]:
        raise BadHash("argon2 hashes of another version, or with keyid or data, are not supported")
    memory, passes, lanes = int(match["m"]), int(match["t"]), int(match["p"])
    if not (8 * lanes <= memory <= 1_048_576 and 1 <= passes <= 20 and 1 <= lanes <= 16):
        raise BadHash("argon2 hash has a cost outside the limits")
    if not _decode(match["salt"]) or not _decode(match["hash"]):
        raise BadHash("argon2 hash or salt is empty")


def _check_firebase(stored: str) -> None:
    match = _FIREBASE.fullmatch(stored)
    if match is None or match["v"] != "1":
        raise BadHash("incorrect scrypt hash format")
    power, block, lanes = int(match["n"]), int(match["r"]), int(match["p"])
    if not (1 <= power <= 24 and block >= 1 and 1 <= lanes <= 255):
        raise BadHash("scrypt hash has a cost outside the limits")
    if 128 * block * (2**power + lanes) > _MOST_SCRYPT_MEMORY:
        raise BadHash("scrypt hash needs too much memory")
    for part in ("ss", "sk", "salt", "hash"):
        _decode(match[part] or "")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except ValueError:
        raise BadHash("the hash is not in base64") from None


def _verify_argon2(stored: str, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHashError
    from argon2.low_level import Type, verify_secret

    kind = Type.ID if stored.startswith("$argon2id$") else Type.I
    try:
        return verify_secret(stored.encode(), password.encode(), kind)
    except (Argon2Error, InvalidHashError):
        return False


def _verify_foreign(stored: str, password: str) -> bool:
    secret = password.encode()
    if stored.startswith("$fbscrypt"):
        return _verify_firebase(stored, secret)
    if stored.startswith("$6$"):
        return hmac.compare_digest(sha512_crypt(secret, stored), stored)
    import bcrypt

    if b"\x00" in secret:
        return False
    return bcrypt.checkpw(secret[:LONGEST], stored.encode())


def _verify_firebase(stored: str, secret: bytes) -> bool:
    """scrypt gives an AES-256 key; the hash is the project's signer key in counter mode from zero."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    match = _FIREBASE.fullmatch(stored)
    if match is None:
        return False
    power, block, lanes = int(match["n"]), int(match["r"]), int(match["p"])
    salt = _decode(match["salt"]) + _decode(match["ss"] or "")
    key = hashlib.scrypt(
        secret, salt=salt, n=2**power, r=block, p=lanes, dklen=32, maxmem=256 * block * (2**power + lanes) + 65536
    )
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return hmac.compare_digest(
        encryptor.update(_decode(match["sk"] or "")) + encryptor.finalize(), _decode(match["hash"])
    )


def stored_hash(service: AuthService, user: User) -> str:
    """The user's hash as such; "" without one. Raises Undecipherable for one sealed under an unknown key."""
    return encryption.unseal(service.settings.security.encryption, user.id, user.encrypted_password)


async def verify_user(service: AuthService, user: User | None, password: str) -> Verdict:
    """Whether this is the user's password; for nobody, or nobody with a password, the same work and no."""
    stored = "" if user is None else stored_hash(service, user)
    if user is None or not stored:
        await service.hasher.verify_nobody(password)
        return Verdict(fits=False, is_old=False)
    verdict = await service.hasher.verify(stored, password)
    is_stale = encryption.is_stale(service.settings.security.encryption, user.encrypted_password)
    return Verdict(verdict.fits, verdict.is_old or (verdict.fits and is_stale))


async def hash_for(service: AuthService, user_id: str, password: str) -> str:
    """What to store as `encrypted_password`; call it outside any transaction. "" for no password."""
    if not password:
        return ""
    return seal_hash(service, user_id, await service.hasher.hash(password))


def seal_hash(service: AuthService, user_id: str, hashed: str) -> str:
    """A hash as it is stored: sealed where encryption is on."""
    return encryption.seal(service.settings.security.encryption, user_id, hashed, service.random_bytes)


def check_length(password: str) -> None:
    """Raises `validation_failed` beyond 72 bytes."""
    if len(password.encode("utf-8", "surrogatepass")) > LONGEST:
        raise invalid(f"Password cannot be longer than {LONGEST} characters")


async def weakness(service: AuthService, password: str) -> WeakPassword | None:
    """What is weak about the password, or None. Raises 500 when the leak check must work and does not."""
    settings = service.settings.password
    messages, reasons = list[str](), list[str]()
    if len(password) < settings.min_length:
        reasons.append("length")
        messages.append(f"Password should be at least {settings.min_length} characters.")
    if not all(set(password) & set(characters) for characters in settings.required_characters):
        reasons.append("characters")
        sets = ", ".join(settings.required_characters)
        messages.append(f"Password should contain at least one character of each: {sets}.")
    if settings.hibp.enabled and await _is_leaked(service, password):
        reasons.append("pwned")
        messages.append("Password is known to be weak and easy to guess, please choose a different one.")
    return WeakPassword(" ".join(messages), reasons) if reasons else None


async def _is_leaked(service: AuthService, password: str) -> bool:
    try:
        return await leaked.is_leaked(service, password)
    except (SocleError, OSError) as error:
        if service.settings.password.hibp.fail_closed:
            message = "Unable to perform password strength check with HaveIBeenPwned.org."
            raise failure(message, error) from error
        service.note("warning", f"the list of leaked passwords could not be asked, all are allowed: {error}")
        return False


async def check_strength(service: AuthService, password: str) -> None:
    """Raises `validation_failed` beyond 72 bytes, WeakPassword (422) when it is weak."""
    check_length(password)
    if (weak := await weakness(service, password)) is not None:
        raise weak
