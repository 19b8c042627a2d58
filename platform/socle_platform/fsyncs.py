"""Fsyncs beside the event loop.

The kernel does them by itself where it offers that (Linux's own asynchronous input and output, through `caio`): no
thread then waits for the disk and afterwards for its turn at the interpreter, which under load takes longer than the
disk. Elsewhere, and beyond what the kernel takes, threads do them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from caio.linux_aio import Context, Operation

_AT_ONCE = 512
"""Fsyncs that the kernel may have under way."""
_NEGATIVE = 1 << 63
"""The kernel's answers come unsigned; from here on they are numbers of errors, negated."""


class Fsync(NamedTuple):
    """One descriptor to sync, and who is told of the outcome, on the event loop."""

    descriptor: int
    tell: Callable[[OSError | None], object]


class Fsyncs:
    """Begins fsyncs. For use on one event loop; `executor` has the threads. `kernel` False: threads do all."""

    def __init__(self, executor: Executor, *, kernel: bool = True) -> None:
        self._executor = executor
        self._wants_kernel = kernel
        self._context: Context | None = None
        self._operation: type[Operation]
        self._loop: asyncio.AbstractEventLoop | None = None

    def _ask_kernel(self) -> None:
        """At the first use: the library takes a while to load."""
        self._wants_kernel = False
        try:
            from caio.linux_aio import Context, Operation

            self._context, self._operation = Context(max_requests=_AT_ONCE), Operation
        except (ImportError, OSError, SystemError):
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._context.fileno, self._read_answers)

    def close(self) -> None:
        """When nothing is under way any more."""
        if self._loop is not None and self._context is not None:
            self._loop.remove_reader(self._context.fileno)
        self._context = None

    def begin(self, fsyncs: Sequence[Fsync]) -> None:
        """Begins them all; none waits for another."""
        for fsync in fsyncs[self._submit(fsyncs) :]:
            work = asyncio.get_running_loop().run_in_executor(self._executor, _sync, fsync.descriptor)
            work.add_done_callback(partial(_tell_of_thread, fsync))

    def _submit(self, fsyncs: Sequence[Fsync]) -> int:
        """How many of them the kernel took, from the first on."""
        if self._wants_kernel:
            self._ask_kernel()
        if self._context is None:
            return 0
        operations = [self._operation.fsync(fsync.descriptor) for fsync in fsyncs]
        for operation, fsync in zip(operations, fsyncs, strict=True):
            operation.set_callback(partial(_tell_of_kernel, fsync))
        try:
            # The library's stub does not say what it takes.
            return self._context.submit(*operations)  # pyright: ignore[reportUnknownMemberType]
        except (OSError, SystemError):
            return 0

    def _read_answers(self) -> None:
        assert self._context is not None
        with contextlib.suppress(BlockingIOError):
            self._context.poll()
        while self._context.process_events(_AT_ONCE):  # there may be more than were asked for: no other wake comes
            pass


def _tell_of_kernel(fsync: Fsync, answer: int) -> None:
    number = 2 * _NEGATIVE - answer
    fsync.tell(OSError(number, os.strerror(number)) if answer >= _NEGATIVE else None)


def _tell_of_thread(fsync: Fsync, work: asyncio.Future[OSError | None]) -> None:
    fsync.tell(work.result())


def _sync(descriptor: int) -> OSError | None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error
    return None
