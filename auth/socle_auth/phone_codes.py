"""Codes that go by text message: made, sent, remembered (contracts/auth.md §7.7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from socle_auth import codes, texting
from socle_auth.errors import ErrorCode
from socle_auth.store import one_time, users

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import User
    from socle_platform.db import Connection


@dataclass(frozen=True, slots=True)
class Purpose:
    """Which code of the user it is: its name in errors, and the columns that hold it."""

    name: str
    token_column: str
    sent_column: str


CONFIRMATION = Purpose("confirmation", "confirmation_token", "confirmation_sent_at")
PHONE_CHANGE = Purpose("phone_change", "phone_change_token", "phone_change_sent_at")
REAUTHENTICATION = Purpose("reauthentication", "reauthentication_token", "reauthentication_sent_at")

TEST_MESSAGE_ID = "test-otp"


async def send_code(
    service: AuthService,
    connection: Connection,
    call: Call,
    user: User,
    phone: str,
    purpose: Purpose,
    channel: str = texting.SMS,
) -> tuple[User, str]:
    """Sends a code to `phone` and gives the changed user and the provider's message id.

    A test number gets its fixed code and no message, at the same pace as real ones. Raises 429 within the interval or
    beyond the allowance, and what texting.send raises.
    """
    settings, now = service.settings.sms, service.now()
    sent_at = getattr(user, purpose.sent_column)
    # strictly after the interval, unlike mail
    not_before = None if sent_at is None else sent_at + timedelta(microseconds=1)
    codes.check_frequency(not_before, now, settings.max_frequency, ErrorCode.OVER_SMS_SEND_RATE_LIMIT)
    code = settings.test_code(phone, now)
    message_id = TEST_MESSAGE_ID
    if code is None:
        await texting.charge(service)
        code = codes.new_code(service, settings.otp_length)
        message_id = await texting.send(
            service, connection, call, user, phone=phone, code=code, channel=channel, purpose=purpose.name
        )
    token_hash = codes.hash_code(phone, code)
    pending = {"phone_change": phone} if purpose is PHONE_CHANGE else {}
    user = await users.update(
        connection, user, now, **{purpose.token_column: token_hash, purpose.sent_column: now}, **pending
    )
    await one_time.put(connection, service.new_id(), user.id, purpose.token_column, token_hash, phone)
    return user, message_id
