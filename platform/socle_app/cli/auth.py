"""`socle auth`: looking at mails before anybody gets one."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from socle_app.cli.platform import ProjectOption, StateOption

if TYPE_CHECKING:
    from socle_app.places import Place
    from socle_auth.mail.templates import Rendered


def register(app: typer.Typer) -> None:
    auth = typer.Typer(help="Sign-in: mails.", no_args_is_help=True)
    auth.callback()(_family)
    auth.command("preview-mail")(preview_mail)
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
