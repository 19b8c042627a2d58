"""Where the embedded server keeps what: data, socket, log, and the notes that find them again.

    <state>/postgres/            lock, endpoint.json, location.json, log/
    <home>/                      data/, socket/, pg_hba.conf, pg_ident.conf, extensions/<mark>/extension/

`home` is `<state>/postgres`, unless we are root and the server's user cannot enter it: then a folder below the shared
folder (/var/lib/socle), named in location.json. Modes of folders that are not ours are never changed; `.socle` is
ours, and root's may be passed through by the server's group (0710) where that lets the data stay in it: never by
everybody, for it holds stored files too.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, cast

from socle_app.embedded.errors import DataMissing, PathUnusable
from socle_app.embedded.launch import can_reach

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_app.embedded.account import Account

SHARED_DIRS = (Path("/var/lib/socle"), Path("/var/tmp/socle"))  # noqa: S108 — owner and mode are verified
STATE_NAME = ".socle"
OWN_MARK = ".made-by-socle"
"""In a state folder of any other name that a start made: its mode is ours to choose."""
SOCKET_PATH_BYTES = 107  # sun_path less its closing NUL
ENTERABLE = 0o711
CLOSED, PASSABLE = 0o700, 0o710


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one project. `own` lies in the project's state folder, `home` where the server can work."""

    own: Path
    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def data_new(self) -> Path:
        """Where initdb works; renamed to `data` once complete."""
        return self.home / "data.new"

    @property
    def hba(self) -> Path:
        return self.home / "pg_hba.conf"

    @property
    def ident(self) -> Path:
        return self.home / "pg_ident.conf"

    @property
    def extensions(self) -> Path:
        return self.home / "extensions"

    @property
    def log(self) -> Path:
        return self.own / "log" / "postgres.log"

    @property
    def lock(self) -> Path:
        return self.own / "lock"

    @property
    def endpoint(self) -> Path:
        return self.own / "endpoint.json"

    @property
    def owner(self) -> Path:
        """Whose database it is, where it lives elsewhere."""
        return self.home / "owner.json"

    @property
    def record(self) -> Path:
        return self.own / "location.json"


def known_layout(state_dir: Path) -> Layout:
    """The layout as recorded, touching nothing."""
    own = state_dir.resolve() / "postgres"
    home = read_note(own / "location.json").get("home")
    return Layout(own, Path(home) if isinstance(home, str) else own)


def ensure_own(state_dir: Path, account: Account) -> Layout:
    """Make the project's own folders; where the data lives may be undecided yet. Raises PathUnusable."""
    known = known_layout(state_dir)
    if set(":\n\0") & set(str(known.own)):
        raise PathUnusable(f"PostgreSQL cannot work below {known.own}: the name holds a colon. Choose with --state.")
    if not state_dir.is_dir():
        state_dir.mkdir(parents=True, mode=CLOSED)
        if account.switched:
            _let_pass(state_dir, account)
    _make(known.own, account)
    known.log.parent.mkdir(mode=0o700, exist_ok=True)
    return known


def ensure_home(known: Layout, account: Account, shared_dir: Path | None) -> Layout:
    """Decide on first use where the data lives; later, verify it.

    Raises PathUnusable (a place the server cannot work in) and DataMissing (recorded data is gone).
    """
    if known.record.exists():
        verify_owner(known)
        return known
    if _fits(known.own, account):
        return known
    if known.data.is_dir():
        raise PathUnusable(
            f"User {account.name} can no longer enter {known.data}. Let it pass through the folders above "
            f"(chmod o+x on each), or name another user with --run-as."
        )
    return _elsewhere(known.own, account, shared_dir or ensure_shared_dir())


def ensure_shared_dir(candidates: tuple[Path, ...] = SHARED_DIRS) -> Path:
    """Root's folder for what the server's user must reach; nobody else may write to it. Raises PathUnusable."""
    for folder in candidates:
        try:
            folder.mkdir(mode=ENTERABLE)
            folder.chmod(ENTERABLE)
        except FileExistsError:
            pass
        except OSError:
            continue
        facts = folder.lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o022:
            return folder
    names = " nor ".join(map(str, candidates))
    raise PathUnusable(f"Neither {names} can be used for the server's files. Choose a reachable folder with --state.")


def socket_dir(layout: Layout, port: int, account: Account) -> Path:
    """The folder of the Unix socket: beside the data if the path is short enough, else a short one of our own."""
    beside = layout.home / "socket"
    if len(os.fsencode(beside / f".s.PGSQL.{port}")) <= SOCKET_PATH_BYTES:
        _make(beside, account)
        return beside
    name = f"socle-{sha256(os.fsencode(layout.home)).hexdigest()[:8]}"
    for parent in (Path("/run/user") / str(os.geteuid()), Path("/run"), Path("/tmp")):  # noqa: S108 — owner verified
        short = parent / name
        try:
            _make(short, account)
        except OSError:
            continue
        facts = short.lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid in (account.uid, os.geteuid()) and not facts.st_mode & 0o022:
            return short
    raise PathUnusable(f"{layout.home} is too long for a socket, and there is no place for a short one.")


def read_note(path: Path) -> dict[str, object]:
    """A small JSON note of ours; empty when missing or unreadable."""
    try:
        note: object = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, object]", note) if isinstance(note, dict) else {}


def write_note(path: Path, note: Mapping[str, object]) -> None:
    """Write a note whole or not at all, for its owner only."""
    building = path.with_suffix(".new")
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(note))
    building.replace(path)


def _make(folder: Path, account: Account) -> None:
    """A folder of ours: for us alone, or as root enterable, and the server's where it must write."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    else:
        if account.switched:
            folder.chmod(ENTERABLE)
    if account.switched and folder.name.startswith(("socket", "socle-")) and not folder.is_symlink():
        os.chown(folder, account.uid, account.gid)


def _let_pass(state: Path, account: Account) -> None:
    os.chown(state, -1, account.gid)
    state.chmod(PASSABLE)


def _fits(home: Path, account: Account) -> bool:
    """Tried with the socket folder, which belongs to the server's user."""
    if not account.switched:
        return True
    tried, state = home / "socket", home.parent
    _make(tried, account)
    if can_reach(account, [tried]):
        return True
    facts = state.stat()
    ours = state.name == STATE_NAME or (state / OWN_MARK).exists()
    if ours and facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) in (CLOSED, PASSABLE):
        _let_pass(state, account)
        if can_reach(account, [tried]):
            return True
        os.chown(state, -1, facts.st_gid)
        state.chmod(stat.S_IMODE(facts.st_mode))
    tried.rmdir()
    return False


def verify_owner(known: Layout) -> None:
    """Data elsewhere serves one project: not its copy too. A project that moved takes its data along."""
    owner = read_note(known.owner).get("state")
    if not known.data.is_dir() or not isinstance(owner, str):
        raise DataMissing(known.data, known.record)
    if owner == str(known.own.parent):
        return
    if read_note(Path(owner) / "postgres" / "location.json").get("home") == str(known.home):
        raise PathUnusable(
            f"The database in {known.home} belongs to the project in {owner}, of which this seems to be a copy. "
            f"To begin with an empty database here, delete {known.record}."
        )
    write_note(known.owner, {"state": str(known.own.parent)})


def _elsewhere(own: Path, account: Account, shared_dir: Path) -> Layout:
    project = re.sub(r"[^A-Za-z0-9_-]+", "-", own.parents[1].name).strip("-")[:24] or "project"
    home = shared_dir / f"{project}-{secrets.token_hex(4)}"
    home.mkdir(mode=ENTERABLE)
    home.chmod(ENTERABLE)
    if not _fits(home, account):
        raise PathUnusable(f"User {account.name} can enter neither {own} nor {shared_dir}. Choose with --run-as.")
    layout = Layout(own, home)
    write_note(layout.owner, {"state": str(own.parent)})
    write_note(layout.record, {"home": str(home)})
    return layout


def remove_data(layout: Layout) -> None:
    """Delete the database and what its start made beside it; of a home elsewhere nothing stays."""
    for folder in (layout.data, layout.data_new, layout.extensions, layout.home / "socket"):
        if folder.exists():
            shutil.rmtree(folder)
    for file in (layout.hba, layout.ident, layout.owner):
        file.unlink(missing_ok=True)
    if layout.home != layout.own:
        layout.home.rmdir()
    for note in (layout.record, layout.endpoint):
        note.unlink(missing_ok=True)
