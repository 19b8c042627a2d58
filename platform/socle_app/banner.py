"""What a person sees when the platform is ready, and what `socle status` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from socle_app.state import Running

_URLS = ("API_URL", "REST_URL", "STORAGE_S3_URL", "MAILPIT_URL", "DB_URL")
_KEYS = ("PUBLISHABLE_KEY", "SECRET_KEY", "ANON_KEY", "SERVICE_ROLE_KEY", "JWT_SECRET")


def render_environment(values: Mapping[str, str]) -> str:
    """`NAME="value"` lines as a shell or a dotenv file reads them."""
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def print_status(console: Console, running: Running) -> None:
    """URLs, keys and places of a running platform, a line each; long keys are left whole for copying."""
    for name in (*_URLS, *_KEYS):
        if running.values.get(name):
            console.print(Text.assemble((f"{name:<17}", "bold cyan"), running.values[name]), soft_wrap=True)
    places = {
        "project": running.project,
        "process": str(running.pid),
        "postgres": f"process {running.database_pid}" if running.database_pid else "external",
        "data": running.data_dir,
        "socket": running.socket_dir,
        "runs as": running.run_as,
    }
    for name, value in places.items():
        if value:
            console.print(Text(f"{name:<17}{value}", style="dim"), soft_wrap=True)


def print_ready(console: Console, running: Running, seconds: float) -> None:
    """Shown once at the end of a start: where everything is, three things to try, what to know."""
    values = running.values
    key = values["PUBLISHABLE_KEY"]
    console.rule(f"[bold green]Socle is ready[/] ({seconds:.1f} s)", style="green", align="left")
    print_status(console, running)
    person = '{"email":"a@example.com","password":"secret-password"}'
    tries = {
        "Read a table": f"curl '{values['REST_URL']}/product_items?select=*' -H 'apikey: {key}'",
        "Sign up": f"curl '{values['API_URL']}/auth/v1/signup' -H 'apikey: {key}' -d '{person}'",
        "Look at the data": f"psql {values['DB_URL']}",
    }
    console.rule("[bold]Three things to try[/]", style="green", align="left")
    for number, (name, command) in enumerate(tries.items(), 1):
        console.print(Text.assemble((f"{number}. {name:<18}", "bold"), (command, "green")), soft_wrap=True)
    for note in running.notes:
        console.print(Text(f"! {note}", style="yellow"))
    console.print(Text("Ctrl-C stops it; the data stays.", style="dim"))
