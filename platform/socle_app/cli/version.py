"""`socle --version`: of this program, and of the PostgreSQL that it brings."""

from __future__ import annotations

from typing import Annotated

import typer

from socle_app.cli.console import out


def print_version(wanted: bool) -> None:
    """Prints two lines and ends the program. An installation without the server still has a version."""
    if not wanted:
        return
    from importlib.metadata import version

    from socle_app.embedded.errors import ServerNotInstalled
    from socle_app.embedded.server_tree import find_server_tree

    out.print(f"socle {version('socle-platform')}")
    try:
        embedded = ".".join(find_server_tree().version.split(".")[:2])  # the third number is the wheel's own
    except ServerNotInstalled:
        embedded = "not installed for this system (--db-url uses another)"
    out.print(f"embedded PostgreSQL {embedded}")
    raise typer.Exit


def whole(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            help="Show the versions of Socle and its PostgreSQL.",
            callback=print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """A whole Supabase-compatible backend in one program, on real PostgreSQL."""
