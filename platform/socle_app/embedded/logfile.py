"""The server's log: a file (a pipe nobody reads would block the server), turned over at each start."""

from __future__ import annotations

import os
import re
import shutil
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 4
LARGE = 32 * 1024 * 1024
_GRAVE = re.compile(r"\b(FATAL|PANIC|HINT|DETAIL):\s+(.*)")


def rotate_log(path: Path) -> None:
    """Make way for a fresh log; the last ones stay as `postgres.log.1` (newest) … `.4`."""
    if path.exists() and path.stat().st_size:
        for number in range(KEPT, 0, -1):
            older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number}"))


def open_log(path: Path) -> IO[bytes]:
    """The log, for appending; only its owner reads it (statements may hold secrets)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def trim_log(path: Path) -> None:
    """Turn over a log that grew large under the writing server: copied, then emptied (it is open for appending)."""
    if path.stat().st_size > LARGE:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)


def last_words(path: Path, start: int = 0) -> str:
    """Why a program gave up, from byte `start` on: its last fatal lines with detail and hint, else the last line."""
    try:
        lines = path.read_bytes()[start:].decode(errors="replace").splitlines()
    except OSError:
        lines = []
    matches = [match for match in map(_GRAVE.search, lines) if match]
    grave = [f"HINT: {match[2]}" if match[1] == "HINT" else match[2] for match in matches]
    last = [line for line in lines if line.strip()][-1:]
    return " ".join(grave[-4:] or last) or "it ended without a word"
