"""Small files and their fsyncs, by the kernel and by threads."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from socle_platform.fsyncs import Fsync, Fsyncs
from socle_platform.small_files import SmallFiles


@pytest.fixture(params=[True, False], ids=["kernel", "threads"])
async def fsyncs(request: pytest.FixtureRequest) -> AsyncIterator[Fsyncs]:
    with ThreadPoolExecutor(2) as executor:
        fsyncs = Fsyncs(executor, kernel=request.param)
        yield fsyncs
        fsyncs.close()


async def outcomes(fsyncs: Fsyncs, descriptors: Sequence[int]) -> list[OSError | None]:
    """What is told of each, in their order."""
    loop = asyncio.get_running_loop()
    told: list[asyncio.Future[OSError | None]] = [loop.create_future() for _ in descriptors]
    fsyncs.begin([Fsync(number, future.set_result) for number, future in zip(descriptors, told, strict=True)])
    return list(await asyncio.gather(*told))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def descriptors() -> set[str]:
    return names(Path("/proc/self/fd"))


async def test_files_that_come_together_are_all_durable(tmp_path: Path, fsyncs: Fsyncs) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = SmallFiles(fsyncs)
    wanted = {tmp_path / folder / str(number): os.urandom(number) for folder in "ab" for number in range(270)}
    waiters = [files.write(str(path), body) for path, body in wanted.items()]
    assert not any(waiter.done() for waiter in waiters)
    await asyncio.gather(*waiters)
    assert {path: path.read_bytes() for path in wanted} == wanted
    await files.close()


async def test_closing_waits_and_leaves_nothing_open(tmp_path: Path, fsyncs: Fsyncs) -> None:
    await outcomes(fsyncs, [])
    before = descriptors()
    files = SmallFiles(fsyncs)
    waiters = [files.write(str(tmp_path / str(number)), b"x") for number in range(20)]
    await files.close()
    assert all(waiter.done() and waiter.exception() is None for waiter in waiters)
    assert descriptors() <= before


async def test_what_cannot_be_synced_is_told_and_spoils_nothing_else(tmp_path: Path, fsyncs: Fsyncs) -> None:
    reading, writing = os.pipe()
    good = os.open(tmp_path, os.O_RDONLY)
    first, second, third = await outcomes(fsyncs, [good, reading, good])
    assert (first, third) == (None, None)
    assert second is not None
    assert second.errno == errno.EINVAL
    for descriptor in (reading, writing, good):
        os.close(descriptor)


class _FullDisk(Fsyncs):
    """Every other fsync finds no room."""

    def begin(self, fsyncs: Sequence[Fsync]) -> None:
        for number, fsync in enumerate(fsyncs):
            fsync.tell(OSError(errno.ENOSPC, "No space left on device") if number % 2 else None)


async def test_a_file_that_cannot_be_made_durable_is_gone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        files = SmallFiles(_FullDisk(executor))
        before = descriptors()
        good, bad = files.write(str(tmp_path / "good"), b"x"), files.write(str(tmp_path / "bad"), b"x")
        await good
        with pytest.raises(OSError, match="No space left"):
            await bad
        assert names(tmp_path) == {"good"}
        await files.close()
        assert descriptors() <= before


async def test_a_name_that_is_taken_is_left_alone(tmp_path: Path, fsyncs: Fsyncs) -> None:
    (tmp_path / "a").write_bytes(b"old")
    files = SmallFiles(fsyncs)
    with pytest.raises(FileExistsError):
        files.write(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    await files.close()
