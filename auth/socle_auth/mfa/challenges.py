"""Putting a challenge to a factor (§3.11)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socle_auth import audit, codes, encryption, texting, wire
from socle_auth.errors import ErrorCode
from socle_auth.mfa import keys
from socle_auth.mfa.factor_types import PHONE, WEBAUTHN, address_of, ensure_verification_on, require_factor
from socle_auth.store import factors as store
from socle_auth.store.factors import Challenge

if TYPE_CHECKING:
    from socle_auth.context import AuthService, Call
    from socle_auth.store.rows import Factor
    from socle_platform.db import Connection
    from socle_platform.errors import WireResponse


async def challenge(service: AuthService, call: Call) -> WireResponse:
    """POST /factors/{factor_id}/challenge."""
    user = call.require_user()
    async with service.connect() as connection:
        factor = await require_factor(connection, call, user, lock=True)
        ensure_verification_on(service, factor.factor_type)
        put = Challenge(service.new_id(), factor.id, service.now(), address_of(call))
        answer: dict[str, Any] = {"id": put.id, "type": factor.factor_type}
        if factor.factor_type == PHONE:
            put = await _text_code(service, connection, call, factor, put)
        elif factor.factor_type == WEBAUTHN:
            put, answer["webauthn"] = await keys.begin(service, connection, user, factor, put)
        await store.insert_challenge(connection, put)
        traits = {"factor_id": factor.id, "factor_status": factor.status}
        await audit.record(service, connection, call, "challenge_created", user, traits)
    expiry = put.created_at + timedelta(seconds=service.settings.mfa.challenge_expiry)
    return wire.reply(answer | {"expires_at": int(expiry.timestamp())})


async def _text_code(
    service: AuthService, connection: Connection, call: Call, factor: Factor, put: Challenge
) -> Challenge:
    """A phone factor's code, sent before the challenge is kept: what cannot be sent leaves nothing behind."""
    phone = service.settings.mfa.phone
    channel = call.optional_body().text("channel") or texting.SMS
    texting.check_channel(service, channel)
    codes.check_frequency(
        factor.last_challenged_at, service.now(), phone.max_frequency, ErrorCode.OVER_SMS_SEND_RATE_LIMIT
    )
    await texting.charge(service)
    code = codes.new_code(service, phone.otp_length)
    await texting.send(
        service,
        connection,
        call,
        call.require_user(),
        phone=factor.phone,
        code=code,
        channel=channel,
        purpose="MFA",
        sms_type="mfa",
    )
    sealed = encryption.seal(service.settings.security.encryption, put.id, code, service.random_bytes)
    return Challenge(put.id, put.factor_id, put.created_at, put.ip_address, otp_code=sealed)
