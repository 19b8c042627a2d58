"""Small files: written at once, for that is memory's work, and made durable beside the event loop.

Files that come together share a commit of the file system's journal and one fsync of their folder.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial

from socle_platform.fsyncs import Fsync, Fsyncs


class _Written:
    """A file that is written and not yet durable: `left` fsyncs of it and of its folder are to come."""

    __slots__ = ("descriptor", "failure", "left", "path", "waiter")

    def __init__(self, path: str, descriptor: int, waiter: asyncio.Future[None]) -> None:
        self.path = path
        self.descriptor = descriptor
        self.waiter = waiter
        self.left = 2
        self.failure: OSError | None = None

    def synced(self, failure: OSError | None) -> None:
        """One fsync has ended. A file that cannot be made durable is removed again."""
        self.left -= 1
        self.failure = self.failure or failure
        if self.left:
            return
        os.close(self.descriptor)
        if self.failure is None:
            self.waiter.set_result(None)
        else:
            os.unlink(self.path)  # noqa: PTH108 (a Path would cost more than the call)
            self.waiter.set_exception(self.failure)


class SmallFiles:
    """Writes small files under their names. For use on one event loop."""

    def __init__(self, fsyncs: Fsyncs) -> None:
        self._fsyncs = fsyncs
        self._folders: dict[str, int] = {}
        self._waiting: dict[int, list[_Written]] = {}
        self._under_way: set[asyncio.Future[None]] = set()

    async def close(self) -> None:
        """Waits for what is on its way."""
        if self._under_way:
            await asyncio.wait(self._under_way)
        self._fsyncs.close()
        for folder in self._folders.values():
            os.close(folder)
        self._folders.clear()

    def write(self, path: str, body: bytes) -> asyncio.Future[None]:
        """Writes a new file at once. Raises OSError when that does not work.

        The future (not to be cancelled) ends when file and name are durable, or with the OSError that kept them from
        it; then there is no file.
        """
        folder = self._folder(os.path.dirname(path))  # noqa: PTH120 (a Path would cost more than the call)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        written = _Written(path, _write_new(path, body), waiter)
        if not self._waiting:
            loop.call_soon(self._sync_waiting)
        self._waiting.setdefault(folder, []).append(written)
        self._under_way.add(waiter)
        waiter.add_done_callback(self._under_way.discard)
        return waiter

    def _folder(self, path: str) -> int:
        opened = self._folders.get(path)
        if opened is None:
            opened = self._folders[path] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return opened

    def _sync_waiting(self) -> None:
        """Begins the fsyncs of all that was written in this turn of the loop."""
        waiting, self._waiting = self._waiting, {}
        fsyncs = [Fsync(each.descriptor, each.synced) for files in waiting.values() for each in files]
        fsyncs += [Fsync(folder, partial(_folder_synced, files)) for folder, files in waiting.items()]
        self._fsyncs.begin(fsyncs)


def _folder_synced(files: Sequence[_Written], failure: OSError | None) -> None:
    for written in files:
        written.synced(failure)


def _write_new(path: str, body: bytes) -> int:
    """The descriptor of a file that has these bytes, in memory so far."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        while body:
            body = body[os.write(descriptor, body) :]
    except BaseException:
        os.close(descriptor)
        os.unlink(path)  # noqa: PTH108 (a Path would cost more than the call)
        raise
    return descriptor
