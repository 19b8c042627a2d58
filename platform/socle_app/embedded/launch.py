"""Starting programs as the server's user through the trampoline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from socle_app.embedded import trampoline
from socle_app.embedded.errors import AccountUnusable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_app.embedded.account import Account

ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": "UTC"}


def trampolined(account: Account, program: Path, arguments: Sequence[str], death_signal: signal.Signals) -> list[str]:
    """The command that becomes `program`, as `account`, ended by `death_signal` when we die.

    The kernel ties that wish to the starting *thread*; from any thread but the main one it is left out.
    """
    wish = int(death_signal) if threading.current_thread() is threading.main_thread() else 0
    return [*_head(account, "exec"), str(wish), str(os.getpid()), str(program), *arguments]


def spawn(command: Sequence[str], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start without terminal, own session (Ctrl-C is ours to handle), few variables, `output` for both streams."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
    )


def can_reach(account: Account, paths: Sequence[Path]) -> bool:
    """Whether `account` may read and enter all `paths`: true where the modes say so, otherwise tried as that user.

    Raises AccountUnusable when this machine does not let us become that user.
    """
    if not account.switched:
        return all(os.access(path, os.R_OK | os.X_OK) for path in paths)
    if all(_modes_allow(path, account) for path in paths):
        return True
    outcome = subprocess.run(
        [*_head(account, "probe"), *map(str, paths)], cwd="/", env=ENVIRONMENT, capture_output=True, check=False
    )
    if outcome.returncode == trampoline.NOT_SWITCHED:
        raise AccountUnusable(
            f"This process is root but may not become user {account.name} "
            f"({outcome.stderr.decode(errors='replace').strip()}). Start it as an ordinary user, or use --db-url."
        )
    return outcome.returncode == 0


def _modes_allow(path: Path, account: Account) -> bool:
    real = path.resolve()
    return _grants(real, account, 0o5) and all(_grants(folder, account, 0o1) for folder in real.parents)


def _grants(path: Path, account: Account, wanted: int) -> bool:
    facts = path.stat()
    shift = 6 if facts.st_uid == account.uid else 3 if facts.st_gid == account.gid else 0
    return facts.st_mode >> shift & wanted == wanted


def _head(account: Account, action: str) -> list[str]:
    uid, gid = (account.uid, account.gid) if account.switched else (-1, -1)
    return [sys.executable, "-I", "-S", str(Path(trampoline.__file__)), action, str(uid), str(gid)]
