"""Finished images on disk: the most recently used ones, within a number of bytes.

Files are named by a hash of what they are, written beside and renamed, so a file is whole or not there. What lies in
the folder at the first use counts; losing the folder costs only time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import uuid
from collections import OrderedDict
from pathlib import Path

_TOO_BIG = 8
"""An image larger than this share of the room is not kept."""


class ImageCache:
    """A folder with at most `room` bytes in it; 0 keeps nothing. Methods block: for worker threads."""

    def __init__(self, folder: Path, room: int) -> None:
        self._folder = folder
        self._room = room
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] | None = None
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes in the folder, as far as it was looked at."""
        return self._used

    def get(self, *identity: str) -> bytes | None:
        name = _name(identity)
        with self._lock:
            known = self._known()
            if name not in known:
                return None
            known.move_to_end(name)
        path = self._folder / name
        try:
            body = path.read_bytes()
            os.utime(path)
        except OSError:
            with self._lock:
                self._used -= known.pop(name, 0)
            return None
        return body

    def put(self, body: bytes, *identity: str) -> None:
        """Keeps the image if there is room for one like it. A disk that fails is no error."""
        if len(body) * _TOO_BIG > self._room:
            return
        name = _name(identity)
        temporary = self._folder / f".{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(body)
            temporary.rename(self._folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        with self._lock:
            known = self._known()
            self._used += len(body) - known.pop(name, 0)
            known[name] = len(body)
            self._make_room(known)

    def _make_room(self, known: OrderedDict[str, int]) -> None:
        while self._used > self._room and known:
            name, size = known.popitem(last=False)
            self._used -= size
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def _known(self) -> OrderedDict[str, int]:
        """Names and sizes, the longest unused first."""
        if self._sizes is None:
            found: list[tuple[float, str, int]] = []
            with contextlib.suppress(OSError):
                for entry in os.scandir(self._folder):
                    stat = entry.stat()
                    if entry.name.startswith("."):
                        Path(entry.path).unlink(missing_ok=True)
                    else:
                        found.append((stat.st_mtime, entry.name, stat.st_size))
            self._sizes = OrderedDict((name, size) for _, name, size in sorted(found))
            self._used = sum(self._sizes.values())
        return self._sizes


def _name(identity: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()
