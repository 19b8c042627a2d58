"""The extensions PostgreSQL finds beside its own (`extension_control_path`, new in 18; embedded-postgres.md §4, §5).

Four kinds, written as one folder per server version:
- in SQL, from `extension/`: uuid-ossp, pgcrypto, pgjwt, and pgsodium (empty);
- the server's own that hosted projects may create, declared trusted;
- unserved (pg_net, pg_cron, pgmq, supabase_vault, pg_graphql): created with a warning, their functions raise 0A000;
- refused (postgis and the like): `create extension` raises 0A000 with a hint, instead of "is not available".
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from socle_app.embedded.refusals import REFUSED, render_refusal
from socle_app.embedded.unserved import UNSERVED, render_unserved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_app.embedded.server_tree import ServerTree

SOURCE = Path(__file__).parent / "extension"

TRUSTED = (
    "autoinc", "bloom", "dblink", "dict_xsyn", "earthdistance", "insert_username", "moddatetime", "pg_prewarm",
    "pg_stat_statements", "pg_walinspect", "pgrowlocks", "pgstattuple", "postgres_fdw", "refint", "vector",
)  # fmt: skip

# What the creator needs and the script, which runs as superuser, would keep to itself.
GRANTS = {
    "dblink": "grant usage on foreign data wrapper dblink_fdw to @extowner@ with grant option;",
    "pg_stat_statements": "grant execute on function pg_stat_statements_reset to @extowner@ with grant option;",
    "postgres_fdw": "grant usage on foreign data wrapper postgres_fdw to @extowner@ with grant option;",
}


def ensure_extensions(folder: Path, tree: ServerTree) -> Path:
    """Write the folder for this server if it is not there, and return it; older ones go.

    The name holds a mark of the contents, so a running server never sees a file change.
    """
    files = render_extensions(tree)
    mark = sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()[:12]
    place = folder / mark
    if not place.is_dir():
        building = folder / f"{mark}.{os.getpid()}"
        _write(building / "extension", files)
        building.rename(place)
    for older in folder.iterdir():
        if older != place:
            shutil.rmtree(older, ignore_errors=True)
    return place


def render_extensions(tree: ServerTree) -> dict[str, str]:
    """All files by name; what the server has itself is never shadowed by something less."""
    own = tree.share / "extension"
    files = {
        path.name: path.read_text()
        for path in sorted(SOURCE.iterdir())
        if path.suffix in (".control", ".sql") and not (own / _control_of(path.name)).exists()
    }
    for name in TRUSTED:
        if (own / f"{name}.control").exists():
            files |= _trusted(name, own)
    for extension in UNSERVED:
        if not (own / f"{extension.name}.control").exists():
            files |= render_unserved(extension)
    for refusal in REFUSED:
        if not (own / f"{refusal.name}.control").exists():
            files |= render_refusal(refusal)
    return files


def _control_of(file_name: str) -> str:
    return file_name.removesuffix(".control").partition("--")[0].removesuffix(".sql") + ".control"


def _trusted(name: str, own: Path) -> dict[str, str]:
    """The server's control file plus `trusted`; its scripts stay where they are, unless a grant is to be added."""
    control = (own / f"{name}.control").read_text()
    grant = GRANTS.get(name)
    if grant is None:
        where = str(own).replace("'", "''")
        return {f"{name}.control": f"{control}\ntrusted = true\ndirectory = '{where}'\n"}
    version = next(
        line.partition("=")[2].strip().strip("'") for line in control.splitlines() if line.startswith("default_version")
    )
    files = {path.name: path.read_text() for path in sorted(own.glob(f"{name}--*.sql"))}
    last = [script for script in files if script.endswith(f"--{version}.sql")]
    granted = {script: f"{files[script]}\n{grant}\n" for script in last}
    return {f"{name}.control": f"{control}\ntrusted = true\n", **files, **granted}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Readable by everybody whatever our umask: the server reads them as its own user."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o644)
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
