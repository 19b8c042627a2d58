"""`socle serve SERVICE`: one service alone, as a drop-in for its upstream."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
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
    dump_config: Annotated[
        bool, typer.Option("--dump-config", help="Print all settings as a configuration file and exit.")
    ] = False,
    dump_schema: Annotated[
        bool, typer.Option("--dump-schema", help="Print the schema cache as JSON and exit.")
    ] = False,
    example: Annotated[
        bool, typer.Option("--example", "-e", help="Print a configuration file with the defaults and exit.")
    ] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask a running service's admin server whether it is ready.")
    ] = False,
) -> None:
    """Serve REST on any PostgreSQL in PostgREST's place (PGRST_DB_URI, PGRST_DB_SCHEMAS, PGRST_DB_ANON_ROLE …)."""
    from socle_app import serve_rest as service

    options = service.load_options({} if example else os.environ, None if example else config)
    if example:
        sys.stdout.write(service.example_config(options))
    elif dump_config:
        sys.stdout.write(asyncio.run(service.read_config_text(options)))
    elif dump_schema:
        sys.stdout.write(asyncio.run(service.read_schema_document(options)).decode() + "\n")
    elif ready:
        sys.stdout.write(f"OK: {asyncio.run(service.check_ready(options))}\n")
    else:
        service.serve_rest(options)


@serve.command()
def auth() -> None:
    """Serve sign-in on any PostgreSQL in the auth container's place (DATABASE_URL, GOTRUE_JWT_SECRET, GOTRUE_* …)."""
    from socle_app import serve_auth as service

    _run(service.serve_auth(os.environ))


@serve.command()
def storage() -> None:
    """Serve buckets and objects in the storage container's place (DATABASE_URL, AUTH_JWT_SECRET, STORAGE_BACKEND …)."""
    from socle_app import serve_storage as service

    _run(service.serve_storage(os.environ))


def _run(service: Coroutine[None, None, None]) -> None:
    import uvloop

    uvloop.run(service)
