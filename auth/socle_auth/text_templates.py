"""The words of text messages, read and tried at start like those of mails (contracts/auth.md §7.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_auth.mail.go_template import Template, TemplateError, parse_template
from socle_platform.config.reader import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from socle_platform.config.auth import AuthSettings

_SAMPLE = {"Code": "123456"}


@dataclass(frozen=True, slots=True)
class TextTemplates:
    """The words around a code: of sign-in and changes, and of a second factor."""

    sign_in: Template
    factor: Template

    @classmethod
    def of(cls, settings: AuthSettings, warn: Callable[[str], None]) -> TextTemplates:
        """Raises ConfigError that lists every template that cannot be used; warns of one without the code."""
        sources = {
            "GOTRUE_SMS_TEMPLATE": settings.sms.template,
            "GOTRUE_MFA_PHONE_TEMPLATE": settings.mfa.phone.template,
        }
        read, problems = list[Template](), list[str]()
        for name, source in sources.items():
            try:
                read.append(_parse_checked(source))
            except (TemplateError, TypeError, ValueError, RecursionError) as error:
                problems.append(f"{name}: {error}")
                continue
            if "Code" not in read[-1].fields:
                warn(f"{name} has no {{{{ .Code }}}}: whoever gets such a text cannot sign in with it")
        if problems:
            raise ConfigError(problems)
        return cls(*read)

    def words(self, code: str, *, for_factor: bool) -> str:
        """The text of one message."""
        return (self.factor if for_factor else self.sign_in).render({"Code": code})


def _parse_checked(source: str) -> Template:
    template = parse_template(source, html=False)
    if unknown := sorted(template.fields - _SAMPLE.keys()):
        raise TemplateError(f".{unknown[0]} is not a variable of a text message (it has .Code)")
    template.render(_SAMPLE)
    return template
