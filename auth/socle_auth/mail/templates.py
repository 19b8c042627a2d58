"""Where the templates of mails come from: settings, files, addresses, or the built-in ones (contracts/auth.md §7.6).

Everything is read and parsed at start, and what cannot be used stops the start: a mail that says something else than
the project wrote is never sent. Later changes of a file or address are picked up; a version that cannot be used is
reported and the last good one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from socle_auth.mail import builtin
from socle_auth.mail.go_template import MAXIMUM_SIZE, Template, TemplateError, parse_template
from socle_auth.mail.plain_text import plain_text
from socle_platform.config.auth_messages import MAIL_TEMPLATES, NOTIFICATIONS
from socle_platform.config.reader import ConfigError
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_platform.config.auth_messages import MailerSettings
    from socle_platform.ports import HttpClient

TEMPLATE_NAMES = (*MAIL_TEMPLATES, *(f"{name}_notification" for name in NOTIFICATIONS))
FETCH_SECONDS = 10.0
FRESH_SECONDS = 600.0
"""How long a template from an address is used before it is asked for again."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail's words."""

    subject: str
    html: str
    text: str


class TemplateUnusable(SocleError):
    """A template of a mail cannot be used."""


@dataclass(slots=True)
class _Source:
    """A template from outside: its setting, where it is, and the last good version."""

    setting: str
    place: str
    template: Template | None = None
    stamp: float = 0.0
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_address(self) -> bool:
        return self.place.startswith(("http://", "https://"))


class MailTemplates:
    """All templates of one service."""

    def __init__(
        self,
        settings: MailerSettings,
        http: HttpClient | None,
        seconds: Callable[[], float],
        note: Callable[[str, str], None],
    ) -> None:
        """Raises ConfigError that lists every template that cannot be used."""
        self._http = http
        self._seconds = seconds
        self._note = note
        self._subjects: dict[str, Template] = {}
        self._inline: dict[str, Template] = {}
        self._sources: dict[str, _Source] = {}
        self._builtin: dict[tuple[str, str], tuple[Template, Template]] = {}
        problems = list[str]()
        for name in TEMPLATE_NAMES:
            try:
                self._read(settings, name)
            except TemplateUnusable as error:
                problems.append(str(error))
        if problems:
            raise ConfigError(problems)

    def _read(self, settings: MailerSettings, name: str) -> None:
        capitals = name.upper()
        if subject := settings.subjects.get(name):
            self._subjects[name] = parse_checked(name, subject, f"GOTRUE_MAILER_SUBJECTS_{capitals}", html=False)
        if content := settings.contents.get(name):
            self._inline[name] = parse_checked(name, content, f"GOTRUE_MAILER_CONTENTS_{capitals}", html=True)
        elif place := settings.templates.get(name):
            source = _Source(f"GOTRUE_MAILER_TEMPLATES_{capitals}", place)
            self._sources[name] = source
            if not source.is_address:
                self._read_file(name, source)

    async def load(self) -> None:
        """Fetches the templates that are at an address. Raises ConfigError that lists each that cannot be used."""
        problems = list[str]()
        for name, source in self._sources.items():
            if source.is_address:
                try:
                    await self._fetch(name, source)
                except TemplateUnusable as error:
                    problems.append(str(error))
        if problems:
            raise ConfigError(problems)

    async def render(self, name: str, language: str, data: Mapping[str, Any]) -> Rendered:
        """The words of one mail. Raises TemplateUnusable when its template was never readable."""
        subject, body = self._subjects.get(name), self._inline.get(name)
        if body is None and (source := self._sources.get(name)) is not None:
            body = await self._current(name, source)
        if subject is None or body is None:
            own_subject, own_body = self._built_in(name, language)
            subject, body = subject or own_subject, body or own_body
        html = body.render(data)
        one_line = " ".join(subject.render(data).split())
        return Rendered(one_line, html, plain_text(html))

    def _built_in(self, name: str, language: str) -> tuple[Template, Template]:
        found = self._builtin.get((name, language))
        if found is None:
            found = (
                parse_template(builtin.subject_source(name, language), html=False),
                parse_template(builtin.body_source(name, language), html=True),
            )
            self._builtin[name, language] = found
        return found

    async def _current(self, name: str, source: _Source) -> Template:
        async with source.refreshing:
            try:
                if not source.is_address:
                    self._read_file(name, source)
                elif source.template is None or self._seconds() - source.stamp > FRESH_SECONDS:
                    await self._fetch(name, source)
            except TemplateUnusable as error:
                if source.template is None:
                    raise
                source.stamp = self._seconds() if source.is_address else source.stamp
                self._note("error", f"{error}; the version read before is used")
        assert source.template is not None
        return source.template

    def _read_file(self, name: str, source: _Source) -> None:
        path = Path(source.place.removeprefix("file://"))
        try:
            stamp = path.stat().st_mtime
            if source.template is not None and stamp == source.stamp:
                return
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise TemplateUnusable(f"{source.setting}: the file {path} cannot be read: {reason}") from error
        source.template = parse_checked(name, text, f"{source.setting} ({path})", html=True)
        source.stamp = stamp

    async def _fetch(self, name: str, source: _Source) -> None:
        if self._http is None:
            raise TemplateUnusable(f"{source.setting}: there is no way to fetch {source.place}")
        try:
            answer = await self._http.request("GET", source.place, timeout=FETCH_SECONDS)
            if answer.status != 200:
                raise TemplateUnusable(f"{source.setting}: {source.place} answers with status {answer.status}")
            if len(answer.body) > MAXIMUM_SIZE:
                raise TemplateUnusable(f"{source.setting}: {source.place} is longer than {MAXIMUM_SIZE} bytes")
            text = answer.body.decode()
        except TemplateUnusable:
            raise
        except (SocleError, UnicodeDecodeError) as error:
            raise TemplateUnusable(f"{source.setting}: {source.place} cannot be fetched: {error}") from error
        source.template = parse_checked(name, text, f"{source.setting} ({source.place})", html=True)
        source.stamp = self._seconds()


def parse_checked(name: str, source: str, where: str, *, html: bool) -> Template:
    """Parses and tries a template; `where` names it in the error. Raises TemplateUnusable."""
    sample = builtin.sample_data(name)
    try:
        template = parse_template(source, html=html)
        unknown = sorted(template.fields - sample.keys())
        if unknown:
            known = " ".join(f".{field}" for field in sample)
            raise TemplateError(f".{unknown[0]} is not a variable of this mail (it has {known})")
        template.render(sample)
    except (TemplateError, TypeError, ValueError, RecursionError) as error:
        raise TemplateUnusable(f"{where}: {error}") from error
    return template
