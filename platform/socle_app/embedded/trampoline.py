"""Started as a program of its own (`python -I -S trampoline.py …`): gives up rights, then becomes the server.

    trampoline.py exec  UID GID SIGNAL PARENT PROGRAM [ARGUMENT…]
    trampoline.py probe UID GID PATH…        exit status 1 when one of the paths cannot be read or entered

UID -1 keeps the user. SIGNAL (0 = none) is what the kernel sends the program when PARENT ends. A change of user id
clears that wish, and `preexec_fn` is unsafe in a process with threads: hence this small step between.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # the typing module costs the server's start a few milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
NOT_SWITCHED = 125
NOT_EXECUTED = 126


def fail(status: int, what: str, error: OSError) -> None:
    sys.stderr.write(f"FATAL:  {what}: {error.strerror}\n")
    sys.exit(status)


def become(uid: int, gid: int) -> None:
    if uid < 0:
        return
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        fail(NOT_SWITCHED, f"could not become user id {uid}", error)


def prepare_following(death_signal: int) -> Callable[[int], None]:
    """What asks for `death_signal` at the end of a parent, or ends at once if that parent is gone already.

    Everything is loaded now: later, Python's own files may be out of the user's reach.
    """
    if not death_signal or not sys.platform.startswith("linux"):
        return lambda _parent: None
    try:
        import ctypes
    except ImportError:  # a Python built without it: the next start finds what is left behind
        return lambda _parent: None
    prctl = ctypes.CDLL(None).prctl

    def follow(parent: int) -> None:
        prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)

    return follow


def main(arguments: list[str]) -> None:
    action, uid, gid = arguments[0], int(arguments[1]), int(arguments[2])
    if action == "probe":
        become(uid, gid)
        sys.exit(0 if all(os.access(path, os.R_OK | os.X_OK) for path in arguments[3:]) else 1)
    follow = prepare_following(death_signal=int(arguments[3]))
    become(uid, gid)
    follow(int(arguments[4]))
    # Python ignores these two for itself, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(arguments[5], arguments[5:])  # noqa: S606 — no shell is the point
    except OSError as error:
        fail(NOT_EXECUTED, f"could not execute {arguments[5]}", error)


if __name__ == "__main__":
    main(sys.argv[1:])
