"""Follows the file of signing keys while a platform runs: a rotation reaches every service within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from socle_platform.config.keys import read_signing_keys
from socle_platform.events import Observation
from socle_platform.keys import Keyring

if TYPE_CHECKING:
    from socle_platform.config.keys import KeySettings
    from socle_platform.events import Observe
    from socle_platform.keys import Key

INTERVAL = 0.5
"""Seconds between two looks at the file."""

_Signature: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class SigningKeysReplaced(Observation):
    """Tokens are signed with `current` from now on, and verified with all of `known` (names of keys, "" for none)."""

    current: str
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SigningKeysRefused(Observation):
    """The file cannot be used; the keys stay as they were."""

    LEVEL: ClassVar[str] = "warning"
    path: str
    reason: str


@contextlib.asynccontextmanager
async def following(keyring: Keyring, keys: KeySettings, observe: Observe) -> AsyncGenerator[None]:
    """Keeps the keyring's keys those of the settings' file until the block ends. Without a file it does nothing."""
    path = keys.signing_keys_file
    if path is None:
        yield
        return
    task = asyncio.create_task(_follow(keyring, keys, path, observe), name="signing keys")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _follow(keyring: Keyring, keys: KeySettings, path: Path, observe: Observe) -> None:
    """The first look always reads: the file may have changed since the settings were loaded."""
    seen: _Signature = None
    had_keys = bool(keys.signing_keys)
    while True:
        found = await asyncio.to_thread(_signature, path)
        if found != seen:
            seen = found
            fresh = await asyncio.to_thread(_read, path, observe)
            if fresh is not None:
                _replace(keyring, replace(keys, signing_keys=fresh).keys(), observe)
                had_keys = True
        elif found is None and had_keys:
            had_keys = False
            observe(SigningKeysRefused(str(path), "it is gone"))
        await asyncio.sleep(INTERVAL)


def _replace(keyring: Keyring, fresh: tuple[Key, ...], observe: Observe) -> None:
    if not fresh or fresh == keyring.keys:
        return
    keyring.replace(fresh)
    known = tuple(key.kid or "" for key in fresh)
    observe(SigningKeysReplaced(keyring.signing_key.kid or "", known))


def _signature(path: Path) -> _Signature:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _read(path: Path, observe: Observe) -> tuple[Key, ...] | None:
    """None where the file cannot be used (reported) or is not there."""
    try:
        return _proven(read_signing_keys(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        observe(SigningKeysRefused(str(path), error.strerror or str(error)))
    except ValueError as error:
        observe(SigningKeysRefused(str(path), str(error)))
    return None


def _proven(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """Keys of which the signing one really signs. Raises ValueError."""
    if keys:
        keyring = Keyring(keys)
        try:
            keyring.verify(keyring.sign({}))
        except Exception as error:  # each kind of broken key has an error of its own
            raise ValueError(f"the key {keyring.signing_key.kid or ''} cannot sign: {error}") from error
    return keys
