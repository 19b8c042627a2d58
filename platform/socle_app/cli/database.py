"""`socle db push`, `socle policies apply`, `socle bootstrap`: what an operator does to a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from socle_app.cli.console import err, out, print_step, print_warning
from socle_app.cli.platform import ProjectOption, StateOption

if TYPE_CHECKING:
    from pathlib import Path

    from socle_app.places import Place

DatabaseOption = Annotated[str | None, typer.Option("--db-url", help="The database (default: the running platform's).")]


def register(app: typer.Typer) -> None:
    db = typer.Typer(help="Migrations of the project.", no_args_is_help=True)
    db.callback()(_family)
    db.command()(push)
    app.add_typer(db, name="db")
    policies = typer.Typer(help="Declared row level policies.", no_args_is_help=True)
    policies.callback()(_family)
    policies.command()(apply)
    app.add_typer(policies, name="policies")
    app.command()(bootstrap)


def _family() -> None:
    """A family of commands, even while it has one member."""


def push(
    db_url: DatabaseOption = None,
    project: ProjectOption = None,
    state: StateOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    include_all: Annotated[bool, typer.Option("--include-all", help="Also migrations older than the newest.")] = False,
    include_seed: Annotated[bool, typer.Option("--include-seed", help="Run seeds that were never run.")] = False,
    include_roles: Annotated[bool, typer.Option("--include-roles", help="Run roles.sql first.")] = False,
) -> None:
    """Apply the project's pending migrations."""
    import os

    from socle_platform.migrate.history import push as push_migrations

    place, target = find_target(project, state, db_url)
    found = place.project
    report = asyncio.run(
        push_migrations(
            target,
            found.migrations(os.environ),
            seeds=found.seeds(os.environ),
            roles=found.roles_file(),
            include_all=include_all,
            include_seed=include_seed,
            include_roles=include_roles,
            dry_run=dry_run,
            progress=lambda text: err.print(text, markup=False),
        )
    )
    if report.plan.is_empty:
        print_step("Remote database is up to date.")
    elif dry_run:
        out.print(report.plan.render(), markup=False)
    else:
        print_step(f"Applied {len(report.plan.migrations)} migrations and {len(report.plan.seeds)} seeds.")


def apply(db_url: DatabaseOption = None, project: ProjectOption = None, state: StateOption = None) -> None:
    """Drop and make again the policies and grants that the project's files declare."""
    from socle_platform.migrate.policies import apply_policies

    place, target = find_target(project, state, db_url)
    files = place.project.policies()
    if not files:
        print_warning("This project declares no policies: put them into supabase/policies/<table>.sql")
        return
    out.print(asyncio.run(apply_policies(target, files)).render(), markup=False)


def bootstrap(
    db_url: DatabaseOption = None,
    project: ProjectOption = None,
    state: StateOption = None,
    print_sql: Annotated[
        bool, typer.Option("--print-sql", help="Print what an administrator runs once, and change nothing.")
    ] = False,
    owner: Annotated[str, typer.Option(help="With --print-sql: the role that will run Socle.")] = "postgres",
    database: Annotated[str, typer.Option(help="With --print-sql: the database it is for.")] = "postgres",
) -> None:
    """Bring a PostgreSQL up to the platform: roles, schemas, auth and storage tables."""
    from socle_platform.migrate import ensure_platform
    from socle_platform.migrate import print_sql as render_sql

    if print_sql:
        typer.echo(render_sql(owner, database))
        return
    _, target = find_target(project, state, db_url)
    report = asyncio.run(ensure_platform(target, progress=lambda text: err.print(text, markup=False)))
    for warning in report.warnings:
        print_warning(warning)
    print_step(f"{len(report.applied)} platform migrations applied; {report.operator} owns the project's objects.")


def find_target(project: Path | None, state: Path | None, db_url: str | None) -> tuple[Place, str]:
    """The project, and the database to work on: named, running here, or the environment's."""
    import os

    from socle_app.places import locate
    from socle_app.source import external_url

    place = locate(project, state)
    running = place.state.read_running()
    url = (
        db_url or (running.values["DB_URL"] if running else None) or external_url(place.project.environment(os.environ))
    )
    if url is None:
        err.print("[bold red]✗[/] No database: nothing runs here, and none was named.")
        err.print("  [yellow]→[/] Start the platform (`socle start`), or name one with --db-url.")
        raise typer.Exit(1)
    return place, url
