"""Putting messages into the inbox, in the transaction of what they are about: they come or go together."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from socle_auth.store import inbox
from socle_auth.store.inbox import StoredMessage
from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.smtp import render_message

if TYPE_CHECKING:
    from socle_auth.context import AuthService
    from socle_platform.db import Connection
    from socle_platform.ports import Mail

PAUSE = 30.0
"""Seconds between two rounds of throwing away what is too old or too much."""


def new_message_id(service: AuthService) -> str:
    """22 letters and digits, as Mailpit's ids."""
    return base64.b32encode(service.random_bytes(14)).decode().rstrip("=")[:22]


async def keep_mail(service: AuthService, connection: Connection, mail: Mail) -> bool:
    """Whether the inbox took the mail; where it is off, the mail is dropped, as the official service does it."""
    if not service.settings.inbox.enabled:
        return False
    host = urlsplit(service.settings.external_url).hostname or "localhost"
    message = render_message(mail, service.settings.smtp, host, service.now())
    stored = StoredMessage(
        id=new_message_id(service),
        kind="mail",
        created_at=service.now(),
        sender=str(message["From"]),
        recipient=mail.to,
        subject=mail.subject,
        body=mail.text,
        size=0,
        is_read=False,
        html=mail.html,
        source=message.as_bytes().decode("utf-8", "replace"),
    )
    await inbox.add(connection, stored)
    return True


async def keep_text(service: AuthService, connection: Connection, phone: str, text: str) -> str | None:
    """The id of the message in the inbox; None where text messages do not go there."""
    if not service.settings.inbox.texts:
        return None
    stored = StoredMessage(
        id=new_message_id(service),
        kind="sms",
        created_at=service.now(),
        sender="sms",
        recipient=f"+{phone}",
        subject=text,
        body=text,
        size=0,
        is_read=False,
        source=text,
    )
    await inbox.add(connection, stored)
    return stored.id


async def trim_once(service: AuthService) -> int:
    """Throws away what is too old or too much; how many messages that were."""
    settings = service.settings.inbox
    async with service.connect() as connection:
        return await inbox.trim(connection, most=settings.most, before=service.now() - timedelta(seconds=settings.age))


async def run(service: AuthService, pause: float = PAUSE) -> None:
    """Rounds of `trim_once` until cancelled."""
    settings = service.settings.inbox
    if not (settings.enabled or settings.texts):
        return
    while True:
        try:
            await trim_once(service)
        except (DatabaseError, DatabaseUnavailable) as error:
            service.note("debug", f"the inbox could not be trimmed: {error}")
        await asyncio.sleep(pause)
