"""`socle auth`: looking at mails before anybody gets one; users in and out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from socle_app.cli.database import DatabaseOption
from socle_app.cli.platform import ProjectOption, StateOption

if TYPE_CHECKING:
    from socle_app.places import Place
    from socle_auth.mail.templates import Rendered
    from socle_auth.transfer.moving import Tally
    from socle_auth.transfer.people import NotAPerson, Person
    from socle_platform.db import Database

_SHOWN = 20
"""How many people that could not be stored are named."""


def register(app: typer.Typer) -> None:
    auth = typer.Typer(help="Sign-in: mails, users in and out.", no_args_is_help=True)
    auth.callback()(_family)
    auth.command("preview-mail")(preview_mail)
    auth.command("import")(import_users)
    auth.command("export")(export_users)
    app.add_typer(auth, name="auth")


def _family() -> None:
    """A family of commands, even while it has one member."""


def preview_mail(
    kind: Annotated[str, typer.Argument(help="invite, confirmation, recovery, magic_link, … or `all` to check each.")],
    project: ProjectOption = None,
    state: StateOption = None,
    language: Annotated[str, typer.Option(help="Language of built-in mails: en or fr.")] = "en",
    part: Annotated[str, typer.Option(help="What to print: html, text or subject.")] = "html",
) -> None:
    """Print a mail as the project's templates make it, with sample values; exit with 1 where one cannot be used."""
    from socle_app.cli.console import print_step
    from socle_app.places import locate
    from socle_auth.mail.templates import TEMPLATE_NAMES

    if kind != "all" and kind not in TEMPLATE_NAMES:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(TEMPLATE_NAMES)}, all", param_hint="KIND")
    if language not in ("en", "fr"):
        raise typer.BadParameter(f"{language!r} is neither en nor fr", param_hint="--language")
    if part not in ("html", "text", "subject"):
        raise typer.BadParameter(f"{part!r} is none of html, text, subject", param_hint="--part")
    names = TEMPLATE_NAMES if kind == "all" else (kind,)
    place = locate(project.absolute() if project else None, state.absolute() if state else None)
    mails = asyncio.run(_render(names, language, place))
    if kind == "all":
        for name, words in mails.items():
            print_step(f"{name}: {words.subject}")
        return
    shown = {"html": mails[kind].html, "text": mails[kind].text, "subject": mails[kind].subject}[part]
    sys.stdout.write(shown if shown.endswith("\n") else f"{shown}\n")


def import_users(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="What was exported.")],
    source: Annotated[str | None, typer.Option("--from", help="supabase, firebase or auth0; guessed.")] = None,
    db_url: DatabaseOption = None,
    project: ProjectOption = None,
    state: StateOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    firebase_signer_key: Annotated[str, typer.Option(help="base64_signer_key of the hash parameters.")] = "",
    firebase_salt_separator: Annotated[str, typer.Option(help="base64_salt_separator.")] = "Bw==",
    firebase_rounds: Annotated[int, typer.Option(help="rounds.")] = 8,
    firebase_mem_cost: Annotated[int, typer.Option(help="mem_cost.")] = 14,
) -> None:
    """Store users of Supabase (SQL dump, JSON), Firebase or Auth0 (JSON, CSV) with their passwords and identities.

    Who is there already is left alone, so an interrupted import is simply run again. Exits with 1 where somebody could
    not be stored.
    """
    from socle_app.cli.console import print_step, print_warning
    from socle_app.cli.database import find_target
    from socle_auth.transfer.people import NotAPerson
    from socle_auth.transfer.sources import SOURCES, FirebaseHash, guess_source, read_people
    from socle_platform.errors import SocleError

    if source is not None and source not in SOURCES:
        raise typer.BadParameter(f"{source!r} is none of {', '.join(SOURCES)}", param_hint="--from")
    parameters = FirebaseHash(firebase_signer_key, firebase_salt_separator, firebase_rounds, firebase_mem_cost)
    _, target = find_target(project, state, db_url)
    try:
        people = read_people(file, SOURCES[source] if source else guess_source(file), parameters)
        tally = asyncio.run(_import(target, people, dry_run=dry_run))
    except NotAPerson as error:
        raise SocleError(f"{file}: {error}") from error
    for text in tally.refused[:_SHOWN]:
        print_warning(text)
    if len(tally.refused) > _SHOWN:
        print_warning(f"… and {len(tally.refused) - _SHOWN} more")
    verb = "would be stored" if dry_run else "stored"
    print_step(f"{tally.stored} users {verb}, {tally.present} were there already, {len(tally.refused)} not usable.")
    if tally.refused:
        raise typer.Exit(1)


async def _import(target: str, people: Iterable[Person | NotAPerson], *, dry_run: bool) -> Tally:
    from datetime import UTC, datetime

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from socle_app.cli.console import err
    from socle_auth.transfer.moving import import_people

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    async with _database(target) as database:
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("Reading", total=None)

            def show(tally: Tally) -> None:
                bar.update(task, description=f"{tally.seen} users read, {tally.stored} stored")

            return await import_people(database, people, datetime.now(UTC), dry_run=dry_run, progress=show)


def export_users(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to; it must not exist yet.")],
    db_url: DatabaseOption = None,
    project: ProjectOption = None,
    state: StateOption = None,
) -> None:
    """Write every user, one JSON object a line, with password hashes and identities; only you can read the file."""
    from socle_app.cli.console import print_step
    from socle_app.cli.database import find_target
    from socle_platform.errors import SocleError

    _, target = find_target(project, state, db_url)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SocleError(f"{file} cannot be written: {error.strerror}") from error
    with open(descriptor, "w", encoding="utf-8") as out:  # noqa: PTH123 - a descriptor with its rights set
        done = asyncio.run(_export(target, out))
    print_step(f"{done} users written to {file}")


async def _export(target: str, out: TextIO) -> int:
    from rich.progress import Progress

    from socle_app.cli.console import err
    from socle_auth.store import transfer
    from socle_auth.transfer.moving import export_people

    async with _database(target) as database:
        async with database.as_service("auth") as connection:
            total = await transfer.count(connection)
        with Progress(console=err, transient=True) as bar:
            task = bar.add_task("Writing users", total=total)
            return await export_people(database, out, lambda done: bar.update(task, completed=done))


@contextlib.asynccontextmanager
async def _database(target: str) -> AsyncGenerator[Database]:
    from socle_platform.config.database import DatabaseSettings
    from socle_platform.db import Database

    settings = DatabaseSettings(
        api_dsn=target, service_dsns={"auth": target}, service_roles={}, api_pool_size=1, service_pool_size=1
    )
    database = Database(settings)
    try:
        await database.start()
        yield database
    finally:
        await database.close()


async def _render(names: tuple[str, ...], language: str, place: Place) -> dict[str, Rendered]:
    """The mails by name. Raises ConfigError with every template that cannot be used."""
    from socle_app.cli.console import print_warning
    from socle_auth.mail.builtin import sample_data
    from socle_auth.mail.templates import MailTemplates
    from socle_platform.config.auth_messages import load_mailer
    from socle_platform.config.reader import Reader
    from socle_platform.outgoing import Allowances, OutgoingHttp

    read = Reader(place.project.environment(os.environ))
    settings = load_mailer(read)
    read.finish()
    http = OutgoingHttp(Allowances(everything=True))
    try:
        templates = MailTemplates(settings, http, lambda: 0.0, lambda _level, text: print_warning(text))
        await templates.load()
        return {name: await templates.render(name, language, sample_data(name)) for name in names}
    finally:
        await http.close()
