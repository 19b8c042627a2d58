"""Codes and links that go by mail: made, sent, remembered (contracts/auth.md §3.3 to §3.8).

Each function works in the transaction it is given: a mail that cannot be sent leaves nothing behind, neither a code nor
the moment that the next one has to wait from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_auth import codes, mailing, pkce
from socle_auth.errors import ErrorCode
from socle_auth.mailing import Letter, MailKind
from socle_auth.store import one_time, users

if TYPE_CHECKING:
    from datetime import datetime

    from socle_auth.context import AuthService, Call
    from socle_auth.pkce import Challenge
    from socle_auth.store.rows import User
    from socle_platform.db import Connection


def _check_interval(service: AuthService, sent_at: datetime | None) -> None:
    codes.check_frequency(
        sent_at, service.now(), service.settings.smtp.max_frequency, ErrorCode.OVER_EMAIL_SEND_RATE_LIMIT
    )


def new_mail_code(service: AuthService, address: str, challenge: Challenge | None = None) -> tuple[str, str]:
    """A code for the address and its hash as stored (marked for a PKCE flow)."""
    code = codes.new_code(service, service.settings.mailer.otp_length)
    return code, pkce.mark_hash(codes.hash_code(address, code), challenge)


async def remember(
    service: AuthService, connection: Connection, user: User, column: str, token_hash: str, relates_to: str = ""
) -> None:
    """Makes the hash known to links; `column` is the user's column of the same code."""
    await one_time.put(connection, service.new_id(), user.id, column, token_hash, relates_to or user.email)


async def send_confirmation(
    service: AuthService, connection: Connection, call: Call, user: User, challenge: Challenge | None
) -> User:
    """The first mail to a new user; type `signup`. Raises 429 within the interval."""
    _check_interval(service, user.confirmation_sent_at)
    code, token_hash = new_mail_code(service, user.email, challenge)
    await mailing.send(service, connection, call, Letter(MailKind.SIGNUP, user, code, token_hash))
    now = service.now()
    user = await users.update(connection, user, now, confirmation_token=token_hash, confirmation_sent_at=now)
    await remember(service, connection, user, "confirmation_token", token_hash)
    return user


async def send_invite(service: AuthService, connection: Connection, call: Call, user: User) -> User:
    """An administrator's invitation; no interval, always the implicit flow."""
    code, token_hash = new_mail_code(service, user.email)
    await mailing.send(service, connection, call, Letter(MailKind.INVITE, user, code, token_hash))
    now = service.now()
    user = await users.update(
        connection, user, now, confirmation_token=token_hash, confirmation_sent_at=now, invited_at=now
    )
    await remember(service, connection, user, "confirmation_token", token_hash)
    return user


async def send_recovery(
    service: AuthService,
    connection: Connection,
    call: Call,
    user: User,
    challenge: Challenge | None,
    kind: MailKind = MailKind.RECOVERY,
) -> User:
    """A recovery link or a magic link: one code and one interval for both. Raises 429 within the interval."""
    _check_interval(service, user.recovery_sent_at)
    code, token_hash = new_mail_code(service, user.email, challenge)
    await mailing.send(service, connection, call, Letter(kind, user, code, token_hash))
    now = service.now()
    user = await users.update(connection, user, now, recovery_token=token_hash, recovery_sent_at=now)
    await remember(service, connection, user, "recovery_token", token_hash)
    return user


async def send_email_change(
    service: AuthService, connection: Connection, call: Call, user: User, new_email: str, challenge: Challenge | None
) -> User:
    """To the new address, and with secure change also to the present one. Raises 429 within the interval."""
    _check_interval(service, user.email_change_sent_at)
    code_new, hash_new = new_mail_code(service, new_email, challenge)
    code, token_hash = "", ""
    if service.settings.mailer.secure_email_change and user.email:
        code, token_hash = new_mail_code(service, user.email, challenge)
    now = service.now()
    user = await users.update(
        connection,
        user,
        now,
        email_change=new_email,
        email_change_token_new=hash_new,
        email_change_token_current=token_hash,
        email_change_confirm_status=0,
        email_change_sent_at=now,
    )
    await remember(service, connection, user, "email_change_token_new", hash_new, new_email)
    if token_hash:
        await remember(service, connection, user, "email_change_token_current", token_hash)
    else:
        await one_time.delete_type(connection, user.id, "email_change_token_current")
    letter = Letter(
        MailKind.EMAIL_CHANGE, user, token=code, token_hash=token_hash, token_new=code_new, token_hash_new=hash_new
    )
    await mailing.send(service, connection, call, letter)
    return user


async def send_reauthentication(service: AuthService, connection: Connection, call: Call, user: User) -> User:
    """A nonce for changing the password. Raises 429 within the interval."""
    _check_interval(service, user.reauthentication_sent_at)
    code, token_hash = new_mail_code(service, user.email)
    await mailing.send(service, connection, call, Letter(MailKind.REAUTHENTICATION, user, code, token_hash))
    now = service.now()
    user = await users.update(connection, user, now, reauthentication_token=token_hash, reauthentication_sent_at=now)
    await remember(service, connection, user, "reauthentication_token", token_hash)
    return user
