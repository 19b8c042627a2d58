"""Blobs on a local disk: the default blob store.

    <root>/blobs/<2 hex digits>/<version>     one file per version, written once
    <root>/tmp/<id>                           files being written
    <root>/uploads/<id>/<number>.<md5>        parts of unfinished uploads

A file is written elsewhere and whole before it gets its name under `blobs`, a small one there at once; then file and
folder are fsynced (in that order one commit of the file system's journal does for both), and only then does the store
say that it has it.
Names of objects never become names of files, so no name can point outside, be too long, or be both a file and a folder.
Files that the official storage container left (`<root>/<bucket>/<key>`) are read and deleted where they lie.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from socle_platform.blobs import (
    BlobNotFound,
    BlobStoreError,
    BlobStoreFull,
    BlobStoreUnusable,
    Digest,
    joined_etag,
    version_of,
)
from socle_platform.fsyncs import Fsyncs
from socle_platform.ports import BlobInfo, BlobWriter, PartInfo, StoredBlob, UnfinishedUpload
from socle_platform.small_files import SmallFiles

if TYPE_CHECKING:
    from socle_platform.ports import Hasher

_T = TypeVar("_T")
_KIB = 1024
_BATCH = 1024 * _KIB
"""Bytes collected before a write; as many again may be on their way to the disk."""
_AHEAD = 8 * _BATCH
"""Bytes written before the disk begins to store them, so that the fsync at the end finds little left."""
_WHOLE = 64 * _KIB
"""Reads up to this size take one trip to a thread."""
_READ_MIN, _READ_MAX, _READ_BUDGET = 4 * _KIB, 256 * _KIB, 1024 * _KIB
"""Bytes of one read: the budget is shared by all readers, and what a slow one was given waits in memory."""
_SMALL, _SMALL_SUM = 16 * _KIB, 16 * 1024 * _KIB
"""Blobs up to this size are kept in memory after a read, up to this much of them."""
_SLOW = 0.02
"""Seconds after which a reader counts as slow."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UPLOAD = re.compile(r"[0-9a-f]{32}")


class DiskBlobs:
    """The BlobStore port on a folder. `legacy_bucket`: the folder under which the official container kept its keys."""

    minimum_part = 1

    def __init__(self, root: Path, *, legacy_bucket: str = "", threads: int = 8) -> None:
        self._root = root.absolute()
        self._legacy = self._root / legacy_bucket if legacy_bucket else self._root
        self._blobs = self._root / "blobs"
        self._blobs_text = str(self._blobs)
        self._tmp = self._root / "tmp"
        self._uploads = self._root / "uploads"
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="socle-disk")
        self._readers = 0
        self._small = _SmallBlobs()
        self.small_files = SmallFiles(Fsyncs(self._executor))

    async def open(self) -> None:
        """Makes the folders and proves that files can be written, read and deleted. Raises BlobStoreUnusable."""
        await self.in_thread(self._prepare)

    async def close(self) -> None:
        await self.small_files.close()
        await asyncio.to_thread(self._executor.shutdown)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Runs blocking work in this store's threads and translates what the system says."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except OSError as error:
            raise translate(error) from error

    def begin_in_thread(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Begins blocking work in this store's threads; what the system says comes as it is."""
        return asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _prepare(self) -> None:
        try:
            for folder in (self._blobs, self._tmp, self._uploads):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(256):
                (self._blobs / f"{number:02x}").mkdir(exist_ok=True)
            for folder in (self._blobs, self._root, self._root.parent):
                _sync_folder(folder)
            proof = self._tmp / f"{uuid.uuid4().hex}.proof"
            with proof.open("xb") as file:
                file.write(b"socle")
                _sync(file)
            if proof.read_bytes() != b"socle":
                raise OSError(errno.EIO, "a file read back differently")
            proof.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise BlobStoreUnusable(
                f"The storage folder {self._root} cannot be used: {reason}. "
                "It must exist or be creatable, and be writable by this user (FILE_STORAGE_BACKEND_PATH)."
            ) from error

    # --- whole blobs

    @asynccontextmanager
    async def writer(self, key: str, *, hashers: Sequence[Hasher] = ()) -> AsyncGenerator[BlobWriter, None]:
        writing = _Writing(self, self._place(key), Digest(hashers))
        try:
            yield writing
        finally:
            await writing.abandon()

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Chunks grow while the reader keeps up and shrink when it is slow or when there are many readers."""
        if end is not None and end <= start:
            await self.head(key)
            return
        remembered = self._small.get(key)
        if remembered is not None:
            yield remembered[start:end]
            return
        file, chunk, whole = await self.in_thread(lambda: self._open_first(key, start, end))
        if file is None:
            if whole:
                self._small.remember(key, chunk)
            yield chunk
            return
        self._readers += 1
        loop = asyncio.get_running_loop()
        size = _WHOLE
        position = start + len(chunk)
        try:
            while chunk:
                given = loop.time()
                yield chunk
                if end is not None and position >= end:
                    return
                size = self._next_size(size, slow=loop.time() - given > _SLOW)
                wanted = size if end is None else min(size, end - position)
                cached = _pread_cached(file, wanted, position)
                read = partial(os.pread, file.fileno(), wanted, position)
                chunk = await self.in_thread(read) if cached is None else cached
                position += len(chunk)
        finally:
            self._readers -= 1
            file.close()

    def _next_size(self, size: int, *, slow: bool) -> int:
        return min(_WHOLE if slow else size * 2, self._fair_size(self._readers))

    def _fair_size(self, readers: int) -> int:
        """Bytes of one read when so many share the budget."""
        return max(min(_READ_BUDGET // readers, _READ_MAX), _READ_MIN)

    def _open_first(self, key: str, start: int, end: int | None) -> tuple[IO[bytes] | None, bytes, bool]:
        """The open file when there is more after the first chunk, that chunk, and whether it is the whole file."""
        file = self._open(key)
        try:
            size = os.fstat(file.fileno()).st_size
            stop = size if end is None else min(end, size)
            wanted = max(stop - start, 0)
            first = wanted if wanted <= _WHOLE else min(_WHOLE, self._fair_size(self._readers + 1))
            chunk = os.pread(file.fileno(), first, start)
        except BaseException:
            file.close()
            raise
        if start + len(chunk) < stop:
            return file, chunk, False
        file.close()
        return None, chunk, len(chunk) == size

    async def head(self, key: str) -> BlobInfo:
        return await self.in_thread(lambda: _info(self._find(key)))

    async def copy(self, source: str, target: str) -> BlobInfo:
        """A second name for the same bytes where the file system has hard links, else a copy."""
        return await self.in_thread(lambda: self._link(source, target))

    def _link(self, source: str, target: str) -> BlobInfo:
        found, path = self._find(source), self._path(target)
        try:
            os.link(found, path)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
                raise
            with self._placing(path) as place, _open_unbuffered(found) as reader:
                shutil.copyfileobj(reader, place, _BATCH)
        _sync_folder(path.parent)
        return _info(path)

    async def delete(self, keys: Sequence[str]) -> None:
        await self.in_thread(lambda: self._delete(keys))

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._small.forget(key)
            with contextlib.suppress(FileNotFoundError, BlobNotFound):
                self._find(key).unlink()

    async def scan(self) -> AsyncIterator[StoredBlob]:
        for number in range(256):
            for blob in await self.in_thread(partial(_listed, self._blobs / f"{number:02x}")):
                yield blob

    # --- uploads in parts

    async def begin(self, key: str) -> str:
        self._path(key)
        upload = uuid.uuid4().hex
        await self.in_thread(lambda: self._begin(upload))
        return upload

    def _begin(self, upload: str) -> None:
        (self._uploads / upload).mkdir()
        _sync_folder(self._uploads)

    async def write_part(
        self,
        key: str,
        upload: str,
        number: int,
        chunks: AsyncIterable[bytes],
        *,
        size: int,
        hashers: Sequence[Hasher] = (),
        verify: Callable[[], None] | None = None,
    ) -> PartInfo:
        self._path(key)
        folder = await self.in_thread(lambda: self._upload(upload))
        writing = _Writing(self, None, Digest(hashers))
        try:
            received = 0
            async for chunk in chunks:
                received += len(chunk)
                if received > size:
                    break
                await writing.write(chunk)
            if received != size:
                raise BlobStoreError(f"a part of {size} bytes came as {received}")
            return await writing.commit_part(folder, number, verify)
        finally:
            await writing.abandon()

    async def copy_part(
        self, key: str, upload: str, number: int, source: str, start: int = 0, end: int | None = None
    ) -> PartInfo:
        if end is None:
            end = (await self.head(source)).size
        async with contextlib.aclosing(self.read(source, start, end)) as chunks:
            return await self.write_part(key, upload, number, chunks, size=end - start)

    async def finish(self, key: str, upload: str, parts: Sequence[PartInfo]) -> BlobInfo:
        path = self._path(key)
        return await self.in_thread(lambda: self._join(path, upload, parts))

    def _join(self, path: Path, upload: str, parts: Sequence[PartInfo]) -> BlobInfo:
        folder = self._upload(upload)
        with self._placing(path) as place:
            for part in parts:
                with _open_unbuffered(_part_path(folder, part.number, part.etag)) as reader:
                    _append(reader, place)
        shutil.rmtree(folder, ignore_errors=True)
        info = _info(path)
        return BlobInfo(info.size, joined_etag(parts), info.last_modified)

    async def abandon(self, key: str, upload: str) -> None:
        if _UPLOAD.fullmatch(upload):
            await self.in_thread(lambda: shutil.rmtree(self._uploads / upload, ignore_errors=True))

    async def unfinished(self) -> AsyncIterator[UnfinishedUpload]:
        for entry in await self.in_thread(lambda: list(os.scandir(self._uploads))):
            with contextlib.suppress(FileNotFoundError):
                yield UnfinishedUpload("", entry.name, _moment(entry.stat().st_mtime))

    async def tidy(self, before: datetime) -> int:
        return await self.in_thread(lambda: self._tidy(before.timestamp()))

    def _tidy(self, before: float) -> int:
        removed = 0
        for entry in os.scandir(self._tmp):
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_mtime < before:
                    Path(entry.path).unlink()
                    removed += 1
        return removed

    # --- names and files

    def _path(self, key: str) -> Path:
        """Where a new blob goes. Raises BlobNotFound for a key without a version."""
        return Path(self._place(key))

    def _place(self, key: str) -> str:
        """The same as text: a Path costs more than a small file's writing."""
        version = version_of(key)
        if version is None:
            raise BlobNotFound(f"a key that ends in no version: {key!r}")
        return f"{self._blobs_text}/{version[:2]}/{version}"

    def _find(self, key: str) -> Path:
        """Where a blob is: at its own place, else where the official container put it. Raises BlobNotFound."""
        if version_of(key) is not None:
            path = self._path(key)
            if path.exists():
                return path
        old = self._legacy_path(key)
        if old is None or not old.is_file():
            raise BlobNotFound
        return old

    def _open(self, key: str) -> IO[bytes]:
        with contextlib.suppress(FileNotFoundError, BlobNotFound):
            return _open_unbuffered(self._path(key))
        return _open_unbuffered(self._find(key))

    def _legacy_path(self, key: str) -> Path | None:
        if any(part in {"", ".", ".."} for part in key.split("/")) or "\\" in key or "\0" in key:
            return None
        try:
            path = Path(os.path.realpath(self._legacy / key))
        except OSError:
            return None
        return path if path.is_relative_to(os.path.realpath(self._legacy)) else None

    def _upload(self, upload: str) -> Path:
        folder = self._uploads / upload
        if not _UPLOAD.fullmatch(upload) or not folder.is_dir():
            raise BlobNotFound
        return folder

    def temporary(self) -> tuple[Path, IO[bytes]]:
        """A new file that `tidy` will remove unless it is renamed."""
        path = self._tmp / os.urandom(16).hex()
        return path, path.open("xb", buffering=0)

    @contextlib.contextmanager
    def _placing(self, path: Path) -> Generator[IO[bytes], None, None]:
        """A file that appears under `path` as a whole or not at all."""
        place, file = self.temporary()
        try:
            with file:
                yield file
                place = place.rename(path)
                _sync(file)
            _sync_folder(path.parent)
        except BaseException:
            place.unlink(missing_ok=True)
            raise


class _SmallBlobs:
    """The small blobs read last, whole: a key never changes its bytes. Bounded by their number and sum."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> bytes | None:
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
        return body

    def remember(self, key: str, body: bytes) -> None:
        if len(body) > _SMALL or key in self._bodies:
            return
        self._bodies[key] = body
        self._size += len(body) + len(key)
        while self._size > _SMALL_SUM:
            old, forgotten = self._bodies.popitem(last=False)
            self._size -= len(forgotten) + len(old)

    def forget(self, key: str) -> None:
        body = self._bodies.pop(key, None)
        if body is not None:
            self._size -= len(body) + len(key)


class _Writing:
    """A file being written: collects small chunks, hashes beside the write, keeps at most two batches in memory."""

    def __init__(self, store: DiskBlobs, path: str | None, digest: Digest) -> None:
        self._store = store
        self._path = path
        self._digest = digest
        self._batch: list[bytes] = []
        self._batched = 0
        self._size = 0
        self._work: asyncio.Future[Any] | None = None
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None
        self._written = self._begun = 0

    async def write(self, chunk: bytes) -> None:
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= _BATCH:
            await self._settle()
            self._work = asyncio.create_task(self._flush(self._take()))

    async def commit(self) -> BlobInfo:
        path = self._path
        if path is None:
            raise BlobStoreError("a part is committed by commit_part")
        modified = await self._commit(lambda: Path(path))
        return BlobInfo(self._size, self._digest.etag, modified)

    async def commit_part(self, folder: Path, number: int, verify: Callable[[], None] | None) -> PartInfo:
        def place() -> Path:
            if verify is not None:
                verify()
            return _part_path(folder, number, self._digest.etag)

        await self._commit(place)
        await self._store.in_thread(lambda: _remove_older_parts(folder, number, self._digest.etag))
        return PartInfo(number, self._size, self._digest.etag)

    async def _commit(self, path_of: Callable[[], Path]) -> datetime:
        await self._settle()
        batch = self._take()
        try:
            if self._temporary is None and self._path is not None and self._size <= _SMALL:
                self._digest.update(batch)
                self._work = self._store.small_files.write(self._path, batch)
            else:
                self._work = self._store.begin_in_thread(lambda: self._finish(batch, path_of))
            await asyncio.shield(self._work)
        except OSError as error:
            raise translate(error) from error
        return datetime.now(UTC)

    async def abandon(self) -> None:
        """Waits for what a thread is still doing, then forgets the file unless it was committed."""
        if self._work is not None:
            if not self._work.done():
                await asyncio.wait([self._work])
            self._work.exception()
        if self._file is not None:
            await asyncio.shield(self._store.in_thread(self._discard))

    def _take(self) -> bytes:
        batch, self._batch = self._batch, []
        self._size += self._batched
        self._batched = 0
        return batch[0] if len(batch) == 1 else b"".join(batch)

    async def _settle(self) -> None:
        """Waits for the batch on its way; cancelling the wait leaves the thread its file until it is done with it."""
        if self._work is not None:
            await asyncio.shield(self._work)
            self._work = None

    async def _flush(self, batch: bytes) -> None:
        """One write and one update, whatever the batch came in: each return of a thread waits for the interpreter."""
        writing = self._store.in_thread(lambda: self._append(batch))
        hashing = self._store.in_thread(lambda: self._digest.update(batch))
        for outcome in await asyncio.gather(writing, hashing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def _append(self, batch: bytes) -> None:
        if self._file is None:
            self._temporary, self._file = self._store.temporary()
        _write_all(self._file, batch)
        self._written += len(batch)
        if self._written - self._begun >= _AHEAD:
            _begin_storing(self._file, self._begun, self._written)
            self._begun = self._written

    def _finish(self, batch: bytes, path_of: Callable[[], Path]) -> None:
        self._append(batch)
        self._digest.update(batch)
        assert self._file is not None
        assert self._temporary is not None
        path = path_of()
        self._temporary = self._temporary.rename(path)
        _sync(self._file)
        _sync_folder(path.parent)
        self._file.close()
        self._file = None

    def _discard(self) -> None:
        if self._file is not None and self._temporary is not None:
            self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)


def translate(error: OSError) -> BlobStoreError:
    """The system's complaint as one of ours."""
    if error.errno in _FULL:
        return BlobStoreFull()
    if isinstance(error, FileNotFoundError):
        return BlobNotFound()
    return BlobStoreError(f"The storage folder failed: {error.strerror or error}")


def _write_all(file: IO[bytes], batch: bytes) -> None:
    rest = memoryview(batch)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def _begin_storing(file: IO[bytes], start: int, end: int) -> None:
    """Tells the disk to begin with these bytes. Linux takes the advice so; what is on its way stays in memory too."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _append(reader: IO[bytes], place: IO[bytes]) -> None:
    """Adds a whole file to another inside the kernel where that works."""
    try:
        while os.copy_file_range(reader.fileno(), place.fileno(), 1 << 30):
            pass
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
            raise
        shutil.copyfileobj(reader, place, _BATCH)


def _pread_cached(file: IO[bytes], size: int, position: int) -> bytes | None:
    """What of these bytes is in memory already; None when a thread has to fetch them (or the system cannot say)."""
    buffer = bytearray(size)
    try:
        count = os.preadv(file.fileno(), [buffer], position, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(memoryview(buffer)[:count])


def _open_unbuffered(path: Path) -> IO[bytes]:
    return path.open("rb", buffering=0)


def _sync(file: IO[bytes]) -> None:
    os.fsync(file.fileno())


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moment(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _info(path: Path) -> BlobInfo:
    stat = path.stat()
    return BlobInfo(stat.st_size, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', _moment(stat.st_mtime))


def _listed(folder: Path) -> list[StoredBlob]:
    """ctime, not mtime: a hard link made just now is a new blob with old contents."""
    found: list[StoredBlob] = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            if version_of(entry.name):
                found.append(StoredBlob(entry.name, entry.name, stat.st_size, _moment(stat.st_ctime)))
    return found


def _part_path(folder: Path, number: int, etag: str) -> Path:
    return folder / "{:05d}.{}".format(number, etag.strip('"'))


def _remove_older_parts(folder: Path, number: int, etag: str) -> None:
    keep = _part_path(folder, number, etag).name
    for entry in os.scandir(folder):
        if entry.name.startswith(f"{number:05d}.") and entry.name != keep:
            Path(entry.path).unlink(missing_ok=True)
