"""The command line. Each command family is a module of its own; nothing heavy is imported before a command runs."""

from __future__ import annotations

import gc
import sys

import typer

from socle_app.cli import auth, database, develop, doctor, keys, platform, serve, storage, version
from socle_app.cli.console import print_problem
from socle_platform.errors import SocleError

app = typer.Typer(
    name="socle",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(version.whole)
platform.register(app)
database.register(app)
doctor.register(app)
develop.register(app)
auth.register(app)
storage.register(app)
app.add_typer(keys.keys, name="keys")
app.add_typer(serve.serve, name="serve")


def main() -> None:
    """Runs one command; an error of ours is a sentence on stderr and exit code 1, never a traceback."""
    if sys.argv[1:2] == ["start"]:
        gc.disable()  # a start makes many objects and no garbage; lifecycle.settle_memory enables it again
    try:
        app()
    except SocleError as error:
        print_problem(error)
        sys.exit(1)
