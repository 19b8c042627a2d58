"""Mail over SMTP: the adapter of the Mailer port, and how a mail looks on the wire (RFC 5322, 2045, 5321).

Encryption as the official service has it: implicit on port 465, else STARTTLS where the server offers it. A password is
never sent unencrypted except to the machine itself.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, make_msgid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    import ssl

    from socle_platform.config.auth_messages import SmtpSettings
    from socle_platform.ports import Mail

SECONDS = 8.0
"""For the whole conversation with the server; a request has ten."""

_IMPLICIT_TLS = 465
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


class MailNotSent(SocleError):
    """The mail server did not take the mail."""


def render_message(mail: Mail, settings: SmtpSettings, host: str, moment: datetime | None = None) -> EmailMessage:
    """The mail as a message with text and HTML. No value can add a header: line breaks become spaces.

    `host` is the right half of the Message-ID. Headers of the settings come after ours, `$messageType` filled in.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = formataddr((_one_line(settings.sender_name), settings.admin_email or f"noreply@{host}"))
    message["To"] = _one_line(mail.to)
    message["Subject"] = _one_line(mail.subject)
    message["Date"] = format_datetime(moment or datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=host)
    for name, values in settings.headers.items():
        if name.lower() in _OURS:
            continue
        for value in values:
            message[name] = _one_line(value.replace("$messageType", mail.kind))
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    return message


_OURS = frozenset(
    {"from", "to", "subject", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding"}
)


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


class SmtpMailer:
    """Sends each mail in a conversation of its own, so that a server's restart is nobody's problem."""

    def __init__(self, settings: SmtpSettings, external_url: str, *, tls_context: ssl.SSLContext | None = None) -> None:
        """`external_url` gives the name that we greet the server with."""
        self._settings = settings
        self._host = urlsplit(external_url).hostname or "localhost"
        self._tls_context = tls_context

    async def send(self, mail: Mail) -> None:
        """Raises MailNotSent: not reachable, too slow, refused the login, the sender or the recipient."""
        import asyncio

        import aiosmtplib

        message = render_message(mail, self._settings, self._host)
        try:
            async with asyncio.timeout(SECONDS):
                await self._deliver(mail, message)
        except TimeoutError as error:
            raise MailNotSent(f"{self._place}: no answer in {SECONDS:g} seconds") from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise MailNotSent(f"{self._place}: {error}") from error

    @property
    def _place(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    async def _deliver(self, mail: Mail, message: EmailMessage) -> None:
        import aiosmtplib

        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            use_tls=settings.port == _IMPLICIT_TLS,
            start_tls=None if settings.port != _IMPLICIT_TLS else False,
            tls_context=self._tls_context,
            local_hostname=self._host,
            timeout=SECONDS,
        )
        async with client:
            if settings.user:
                if client.get_transport_info("sslcontext") is None and settings.host not in _LOCAL:
                    raise MailNotSent(f"{self._place}: offers no encryption, so the password is not sent")
                await client.login(settings.user, settings.password)
            await client.send_message(message, sender=settings.admin_email, recipients=[mail.to])
