"""The data folder: verified before each start, made by initdb when there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from socle_app.embedded.account import owner_name
from socle_app.embedded.errors import DataOfAnother, ForeignMajor, InitFailed, NotDataFolder
from socle_app.embedded.launch import spawn, trampolined
from socle_app.embedded.logfile import last_words
from socle_app.embedded.processes import processes_in, send, until_ended, until_gone
from socle_app.embedded.status import SUPERUSER

if TYPE_CHECKING:
    from pathlib import Path

    from socle_app.embedded.account import Account
    from socle_app.embedded.layout import Layout
    from socle_app.embedded.server_tree import ServerTree

# No password anywhere: our own pg_hba.conf stands in the way of the one initdb writes.
_OPTIONS = (
    f"--username={SUPERUSER}",
    "--no-sync",
    "--no-instructions",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=peer",
    "--auth-host=reject",
)


def data_owner(data_dir: Path) -> int | None:
    """The uid that owns existing data."""
    try:
        return data_dir.stat().st_uid
    except OSError:
        return None


def verify_data(data_dir: Path, tree: ServerTree, account: Account) -> bool:
    """Whether there is a database to start. Raises ForeignMajor, NotDataFolder, DataOfAnother."""
    if not data_dir.is_dir():
        return False
    owner, version = data_dir.stat().st_uid, data_dir / "PG_VERSION"
    readable = account.switched or owner == account.uid
    if readable and not version.exists():
        if any(data_dir.iterdir()):
            raise NotDataFolder(data_dir)
        data_dir.rmdir()
        return False
    if owner != account.uid:
        raise DataOfAnother(data_dir, owner_name(owner), account.name)
    found = version.read_text().strip()
    if found != tree.major:
        raise ForeignMajor(data_dir, found, tree.major)
    return True


async def make_data(layout: Layout, tree: ServerTree, account: Account) -> None:
    """initdb beside the final place, then a rename: a data folder is whole or not there. Raises InitFailed."""
    if layout.data_new.exists():
        await _clear_half_made(layout.data_new)
    layout.data_new.mkdir(mode=0o700)
    if account.switched:
        os.chown(layout.data_new, account.uid, account.gid)
    report = layout.log.with_name("initdb.log")
    command = trampolined(account, tree.program("initdb"), [*_OPTIONS, "-D", str(layout.data_new)], signal.SIGKILL)
    with report.open("wb") as output:
        process = spawn(command, output)
    try:
        await until_ended(process)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise InitFailed(f"The database could not be created: {last_words(report)} (log: {report})")
    layout.data_new.rename(layout.data)


def start_flushing(layout: Layout, tree: ServerTree, account: Account) -> subprocess.Popen[bytes]:
    """Bring a new database's files to the disk while it is already in use; initdb left that out to be quick."""
    options = ["--sync-only", "--sync-method=syncfs", "-D", str(layout.data)]
    return spawn(trampolined(account, tree.program("initdb"), options, signal.SIGKILL), subprocess.DEVNULL)


async def _clear_half_made(folder: Path) -> None:
    """Remove what an initdb left that was killed half-way, and its helpers."""
    left = processes_in(folder)
    for pid in left:
        send(pid, signal.SIGKILL)
    await until_gone(left, 5.0)
    shutil.rmtree(folder)
