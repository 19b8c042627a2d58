"""What a person sees when the platform is ready, and what `socle status` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from socle_app.state import Running

_URLS = ("API_URL", "REST_URL", "STORAGE_S3_URL", "MAILPIT_URL", "DB_URL")
_KEYS = ("PUBLISHABLE_KEY", "SECRET_KEY", "ANON_KEY", "SERVICE_ROLE_KEY", "JWT_SECRET")


def render_environment(values: Mapping[str, str]) -> str:
    """`NAME="value"` lines as a shell or a dotenv file reads them."""
    return "".join(f'{name}="{value}"\n' for name, value in values.items())


def status_table(running: Running) -> RenderableType:
    """URLs, keys and places of a running platform as a table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name in (*_URLS, *_KEYS):
        if running.values.get(name):
            table.add_row(name, Text(running.values[name]))
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
            table.add_row(Text(name, style="dim"), Text(value, style="dim"))
    return table


def ready_banner(running: Running, seconds: float, notes: tuple[str, ...] = ()) -> RenderableType:
    """The panel shown once at the end of a start: where everything is and three things to try."""
    values = running.values
    tries = Text.assemble(
        ("Three things to try\n", "bold"),
        "1. Read a table      ",
        (f"curl '{values['REST_URL']}/product_items?select=*' -H 'apikey: {values['PUBLISHABLE_KEY']}'\n", "green"),
        "2. Sign up           ",
        (
            f"curl '{values['API_URL']}/auth/v1/signup' -H 'apikey: {values['PUBLISHABLE_KEY']}' "
            '-d \'{"email":"a@example.com","password":"secret-password"}\'\n',
            "green",
        ),
        "3. Look at the data  ",
        (f"psql {values['DB_URL']}", "green"),
    )
    parts: list[RenderableType] = [status_table(running), Text(), tries]
    parts += [Text(f"! {note}", style="yellow") for note in notes]
    return Panel(Group(*parts), title=f"Socle is ready ({seconds:.1f} s)", border_style="green", title_align="left")
