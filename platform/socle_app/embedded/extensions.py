"""The extensions PostgreSQL finds beside its own: a folder written for each server version."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from socle_app.embedded.server_tree import ServerTree


def ensure_extensions(folder: Path, tree: ServerTree) -> Path:
    place = folder / "x"
    (place / "extension").mkdir(parents=True, exist_ok=True)
    return place
