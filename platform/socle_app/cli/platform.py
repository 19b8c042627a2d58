"""`socle start`, `status`, `stop`: one platform on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from socle_app.cli.console import err, out, print_step
from socle_app.options import StartOptions

ProjectOption = Annotated[
    Path | None, typer.Option("--project", "--workdir", help="Folder that holds supabase/ (default: found upwards).")
]
StateOption = Annotated[Path | None, typer.Option("--state", help="State folder (default: .socle in the project).")]


def register(app: typer.Typer) -> None:
    app.command()(start)
    app.command()(status)
    app.command()(stop)


def start(
    project: ProjectOption = None,
    state: StateOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the API (default 54321).")] = None,
    db_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of PostgreSQL (default 54322).")] = None,
    db_url: Annotated[
        str | None, typer.Option(help="Use this PostgreSQL 15-18 instead of the embedded one (or DATABASE_URL).")
    ] = None,
    run_as: Annotated[str | None, typer.Option(help="As root: the system user that runs PostgreSQL.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once ready, keep serving.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line on stdout once ready; logs on stderr.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every request.")] = False,
) -> None:
    """Start the whole backend: PostgreSQL, REST, auth, storage."""
    options = StartOptions(project, state, host, port, db_port, db_url, run_as, as_json, verbose)
    if detach:
        from socle_app.detach import start_detached

        start_detached(options)
        return
    from socle_app.lifecycle import serve

    serve(options)


def status(
    output: Annotated[str, typer.Option("--output", "-o", help="pretty, env or json.")] = "pretty",
    as_json: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
    project: ProjectOption = None,
    state: StateOption = None,
) -> None:
    """Show the running platform: URLs, keys, where its data lies."""
    from dataclasses import replace

    from socle_app.banner import print_status, render_environment
    from socle_app.embedded.status import status as embedded_status
    from socle_app.places import locate

    place = locate(project, state)
    running = place.state.read_running()
    if running is None:
        err.print("[yellow]Not running.[/] Start it with [bold]socle start[/].")
        raise typer.Exit(1)
    if as_json or output == "json":
        out.print_json(json.dumps(dict(running.values)))
    elif output == "env":
        typer.echo(render_environment(running.values), nl=False)
    elif output == "pretty":
        found = embedded_status(place.state.path).endpoint
        print_status(out, replace(running, database_pid=found.pid) if found else running)
    else:
        raise typer.BadParameter(f"-o must be pretty, env or json, not {output!r}")


def stop(project: ProjectOption = None, state: StateOption = None) -> None:
    """Stop the running platform; its data stays."""
    from socle_app.detach import stop_running
    from socle_app.places import locate

    if stop_running(locate(project, state).state):
        print_step("Stopped. The data is kept; `socle start` brings it back.")
    else:
        err.print("Nothing was running.")
