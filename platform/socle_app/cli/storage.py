"""`socle storage`: the bytes of objects from one place to another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from socle_app.cli.database import DatabaseOption
from socle_app.cli.platform import ProjectOption, StateOption

if TYPE_CHECKING:
    from socle_app.storage_migration import Journey
    from socle_storage.relocation import Relocated

_SHOWN = 20
"""How many objects that could not be copied are named."""


def register(app: typer.Typer) -> None:
    storage = typer.Typer(help="Buckets and objects.", no_args_is_help=True)
    storage.callback()(_family)
    storage.command()(migrate)
    app.add_typer(storage, name="storage")


def _family() -> None:
    """A family of commands, even while it has one member."""


def migrate(
    to: Annotated[str, typer.Option("--to", help="s3 or file: where the bytes shall be.")],
    db_url: DatabaseOption = None,
    project: ProjectOption = None,
    state: StateOption = None,
    end_uploads: Annotated[
        bool, typer.Option("--end-uploads", help="Forget unfinished uploads; their clients begin again.")
    ] = False,
) -> None:
    """Copy the bytes of every object to another store and prove each copy; what is there already is left alone.

    Both stores come from the environment (FILE_STORAGE_BACKEND_PATH; STORAGE_S3_*). Run it while the service serves,
    then once more after it has stopped, then change STORAGE_BACKEND. Nothing is deleted at the source. Exits with 1
    where an object could not be copied, or an upload is unfinished.
    """
    from socle_app.cli.console import print_step, print_warning
    from socle_app.places import locate
    from socle_app.storage_migration import BACKENDS, Journey

    if to not in BACKENDS:
        raise typer.BadParameter(f"{to!r} is neither {' nor '.join(BACKENDS)}", param_hint="--to")
    place = locate(project.absolute() if project else None, state.absolute() if state else None)
    moved, unfinished = asyncio.run(_migrate(Journey(place, to, db_url), end_uploads=end_uploads))
    for name in moved.failed[:_SHOWN]:
        print_warning(f"{name}: its bytes are not there, or not what its row says")
    if len(moved.failed) > _SHOWN:
        print_warning(f"… and {len(moved.failed) - _SHOWN} more")
    print_step(f"{moved.objects} objects seen, {moved.copied} copied, {len(moved.failed)} could not be.")
    if unfinished:
        print_warning(f"{unfinished}. Their bytes stay where they are, and cannot go on after the change.")
        print_warning("Let them finish and run this again, or run it with --end-uploads: their clients begin again.")
    if moved.failed or unfinished:
        raise typer.Exit(1)


async def _migrate(journey: Journey, *, end_uploads: bool) -> tuple[Relocated, str]:
    """What was copied, and the unfinished uploads in words ("" for none)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from socle_app.cli.console import err, print_step

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    async with journey.begin() as migration:
        with Progress(*columns, console=err, transient=True) as bar:
            objects, size = await migration.totals()
            task = bar.add_task("Comparing", total=size)

            def show(state: Relocated) -> None:
                bar.update(task, completed=state.bytes, description=f"{state.objects} of {objects} objects")

            moved = await migration.copy(show)
        if end_uploads:
            print_step(f"{await migration.end_uploads()} unfinished uploads forgotten.")
        left = await migration.unfinished()
    return moved, left.render() if left.count else ""
