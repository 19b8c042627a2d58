"""What people read: stderr for progress and problems, stdout for answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from socle_platform.errors import SocleError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_problem(error: SocleError) -> None:
    """The message, and below it the way out where the error knows one."""
    err.print(f"[bold red]✗[/] {escape(error.message)}")
    hint = getattr(error, "hint", None)
    if hint:
        err.print(f"  [yellow]→[/] {escape(str(hint))}")


def print_step(text: str) -> None:
    err.print(f"[green]✓[/] {escape(text)}")


def print_warning(text: str) -> None:
    err.print(f"[yellow]![/] {escape(text)}")
