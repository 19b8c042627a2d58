"""`socle serve SERVICE`: one service alone, as a drop-in for its upstream."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

serve = typer.Typer(help="Run one service alone, without the platform.", no_args_is_help=True)


@serve.callback()
def _services() -> None:
    """Run one service alone, without the platform."""


@serve.command()
def rest(
    config: Annotated[
        str | None, typer.Argument(help="A PostgREST configuration file; PGRST_* variables go over it.")
    ] = None,
    dump_schema: Annotated[
        bool, typer.Option("--dump-schema", help="Print the schema cache as JSON and exit.")
    ] = False,
) -> None:
    """Serve REST on any PostgreSQL in PostgREST's place (PGRST_DB_URI, PGRST_DB_SCHEMAS, PGRST_DB_ANON_ROLE …)."""
    from socle_app import serve_rest

    if dump_schema:
        document = asyncio.run(serve_rest.read_schema_document(serve_rest.load_options(os.environ, config)))
        sys.stdout.write(document.decode() + "\n")
    else:
        serve_rest.serve_rest(os.environ, config)
