"""Rows of `auth.mfa_factors` and `auth.mfa_challenges` (§3.11)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from socle_auth.store.rows import Factor, load_factor, utc
from socle_platform.db import Connection, DatabaseError, Json, Record

_COLUMNS = (
    "id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret, phone, last_challenged_at, "
    "web_authn_credential, web_authn_aaguid, last_webauthn_challenge_data"
)
_CHALLENGE_COLUMNS = "id, factor_id, created_at, verified_at, host(ip_address) as ip, otp_code, web_authn_session_data"
_UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A question put to a factor. `session` is what a WebAuthn ceremony must remember."""

    id: str
    factor_id: str
    created_at: datetime
    ip_address: str
    verified_at: datetime | None = None
    otp_code: str = field(default="", repr=False)
    session: Any = field(default=None, repr=False)


def _load_challenge(record: Record) -> Challenge:
    created = utc(record["created_at"])
    assert created is not None
    return Challenge(
        id=record["id"],
        factor_id=record["factor_id"],
        created_at=created,
        ip_address=record["ip"],
        verified_at=utc(record["verified_at"]),
        otp_code=record["otp_code"] or "",
        session=record["web_authn_session_data"],
    )


async def find(connection: Connection, user_id: str, factor_id: str, *, lock: bool = False) -> Factor | None:
    """A factor of this user."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.mfa_factors where id = $1 and user_id = $2{' for update' if lock else ''}",
        factor_id,
        user_id,
    )
    return None if record is None else load_factor(record)


async def of_user(connection: Connection, user_id: str) -> list[Factor]:
    """All factors of a user, oldest first."""
    records = await connection.fetch(
        f"select {_COLUMNS} from auth.mfa_factors where user_id = $1 order by created_at, id", user_id
    )
    return [load_factor(record) for record in records]


async def insert(connection: Connection, factor: Factor) -> None:
    """A new factor. Raises DatabaseError 23505 when the user has its name or phone already."""
    await connection.execute(
        """insert into auth.mfa_factors
            (id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret, phone)
        values ($1, $2, $3, $4::auth.factor_type, $5::auth.factor_status, $6, $7, $8, $9)""",
        factor.id,
        factor.user_id,
        factor.friendly_name,
        factor.factor_type,
        factor.status,
        factor.created_at,
        factor.updated_at,
        factor.secret or None,
        factor.phone or None,
    )


async def rename(
    connection: Connection, factor_id: str, friendly_name: str | None, phone: str | None, now: datetime
) -> Factor | None:
    """Sets the name or phone; None leaves it as it is."""
    record = await connection.fetchrow(
        f"""update auth.mfa_factors
        set friendly_name = coalesce($2, friendly_name), phone = coalesce($3, phone), updated_at = $4
        where id = $1 returning {_COLUMNS}""",
        factor_id,
        friendly_name,
        phone,
        now,
    )
    return None if record is None else load_factor(record)


async def mark_verified(connection: Connection, factor_id: str, now: datetime) -> None:
    await connection.execute(
        "update auth.mfa_factors set status = 'verified', updated_at = $2 where id = $1", factor_id, now
    )


async def set_secret(connection: Connection, factor_id: str, secret: str) -> None:
    await connection.execute("update auth.mfa_factors set secret = $2 where id = $1", factor_id, secret)


async def set_credential(
    connection: Connection, factor_id: str, credential: dict[str, Any], model: str | None, now: datetime
) -> None:
    """The public-key credential of a webauthn factor; `model` is its AAGUID."""
    await connection.execute(
        """update auth.mfa_factors set web_authn_credential = $2::jsonb, web_authn_aaguid = $3::uuid, updated_at = $4
        where id = $1""",
        factor_id,
        Json(credential),
        model,
        now,
    )


async def set_last_ceremony(connection: Connection, factor_id: str, ceremony: dict[str, Any], now: datetime) -> None:
    """What the last WebAuthn ceremony was, shown in the factor (§3.0)."""
    await connection.execute(
        "update auth.mfa_factors set last_webauthn_challenge_data = $2::jsonb, updated_at = $3 where id = $1",
        factor_id,
        Json(ceremony),
        now,
    )


async def delete(connection: Connection, factor_id: str) -> bool:
    """Removes the factor with its challenges; False when it was gone already."""
    return (await connection.execute("delete from auth.mfa_factors where id = $1", factor_id)).endswith(" 1")


async def delete_unverified(connection: Connection, user_id: str, factor_type: str) -> None:
    """Removes the user's factors of a type that were never proven."""
    await connection.execute(
        """delete from auth.mfa_factors
        where user_id = $1 and factor_type = $2::auth.factor_type and status = 'unverified'""",
        user_id,
        factor_type,
    )


async def delete_abandoned(connection: Connection, before: datetime) -> None:
    """Removes factors of anybody that were never challenged and are older than `before` (§3.11)."""
    await connection.execute(
        """delete from auth.mfa_factors f
        where f.status = 'unverified' and f.created_at < $1
          and not exists (select from auth.mfa_challenges c where c.factor_id = f.id)""",
        before,
    )


async def downgrade_sessions(connection: Connection, factor_id: str, method: str, now: datetime) -> None:
    """Sessions that stood on this factor fall back to aal1, and its proof is struck out."""
    await connection.execute(
        """with lowered as (
            update auth.sessions set aal = 'aal1', factor_id = null, updated_at = $3 where factor_id = $1 returning id)
        delete from auth.mfa_amr_claims c using lowered
        where c.session_id = lowered.id and c.authentication_method = $2""",
        factor_id,
        method,
        now,
    )


async def insert_challenge(connection: Connection, challenge: Challenge) -> None:
    """Puts the challenge and stamps its factor.

    `last_challenged_at` is unique in the whole table: two challenges of one microsecond are told apart by one.
    """
    await connection.execute(
        """insert into auth.mfa_challenges (id, factor_id, created_at, ip_address, otp_code, web_authn_session_data)
        values ($1, $2, $3, $4::inet, $5, $6::jsonb)""",
        challenge.id,
        challenge.factor_id,
        challenge.created_at,
        challenge.ip_address,
        challenge.otp_code or None,
        None if challenge.session is None else Json(challenge.session),
    )
    for attempt in range(100):
        try:
            async with connection.transaction():
                await connection.execute(
                    "update auth.mfa_factors set last_challenged_at = $2, updated_at = $3 where id = $1",
                    challenge.factor_id,
                    challenge.created_at + timedelta(microseconds=attempt),
                    challenge.created_at,
                )
        except DatabaseError as error:
            if error.sqlstate != _UNIQUE_VIOLATION:
                raise
        else:
            return


async def find_challenge(connection: Connection, factor_id: str, challenge_id: str) -> Challenge | None:
    """The challenge of this factor, held until the transaction ends: one answer at a time."""
    record = await connection.fetchrow(
        f"select {_CHALLENGE_COLUMNS} from auth.mfa_challenges where id = $1 and factor_id = $2 for update",
        challenge_id,
        factor_id,
    )
    return None if record is None else _load_challenge(record)


async def mark_challenge_verified(connection: Connection, challenge_id: str, now: datetime) -> None:
    await connection.execute("update auth.mfa_challenges set verified_at = $2 where id = $1", challenge_id, now)


async def delete_challenge(connection: Connection, challenge_id: str) -> None:
    await connection.execute("delete from auth.mfa_challenges where id = $1", challenge_id)
