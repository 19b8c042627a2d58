"""Rows of `auth.webauthn_credentials` and `auth.webauthn_challenges` (§3.12)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from socle_auth.passkeys.ceremony import Credential
from socle_auth.store.rows import utc
from socle_platform.db import Connection, Json, Record

REGISTRATION = "registration"
AUTHENTICATION = "authentication"

_COLUMNS = (
    "id, user_id, credential_id, public_key, attestation_type, aaguid, sign_count, transports, backup_eligible, "
    "backed_up, friendly_name, created_at, updated_at, last_used_at"
)


@dataclass(frozen=True, slots=True)
class Passkey:
    """A stored credential with its name and times."""

    id: str
    user_id: str
    credential: Credential
    friendly_name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class PasskeyChallenge:
    """A consumed challenge: what the ceremony must remember, and until when it counted."""

    session: Any
    expires_at: datetime


def _load(record: Record) -> Passkey:
    created = utc(record["created_at"])
    assert created is not None
    credential = Credential(
        id=record["credential_id"],
        public_key=record["public_key"],
        sign_count=record["sign_count"],
        model=record["aaguid"],
        transports=tuple(record["transports"] or ()),
        attestation=record["attestation_type"],
        backup_eligible=record["backup_eligible"],
        backed_up=record["backed_up"],
    )
    return Passkey(
        id=record["id"],
        user_id=record["user_id"],
        credential=credential,
        friendly_name=record["friendly_name"],
        created_at=created,
        last_used_at=utc(record["last_used_at"]),
    )


async def of_user(connection: Connection, user_id: str) -> list[Passkey]:
    """All passkeys of a user, oldest first."""
    records = await connection.fetch(
        f"select {_COLUMNS} from auth.webauthn_credentials where user_id = $1 order by created_at, id", user_id
    )
    return [_load(record) for record in records]


async def find_by_credential(connection: Connection, credential_id: bytes) -> Passkey | None:
    """The passkey of a credential id, held until the transaction ends: its counter only grows."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.webauthn_credentials where credential_id = $1::bytea for update", credential_id
    )
    return None if record is None else _load(record)


async def insert(
    connection: Connection, passkey_id: str, user_id: str, credential: Credential, name: str, now: datetime
) -> Passkey:
    """A new passkey. Raises DatabaseError 23505 when the credential is registered already."""
    record = await connection.fetchrow(
        f"""insert into auth.webauthn_credentials
            (id, user_id, credential_id, public_key, attestation_type, aaguid, sign_count, transports, backup_eligible,
             backed_up, friendly_name, created_at, updated_at)
        values ($1, $2, $3::bytea, $4::bytea, $5, $6::uuid, $7, $8::jsonb, $9, $10, $11, $12, $12)
        returning {_COLUMNS}""",
        passkey_id,
        user_id,
        credential.id,
        credential.public_key,
        credential.attestation,
        credential.model,
        credential.sign_count,
        Json(list(credential.transports)),
        credential.backup_eligible,
        credential.backed_up,
        name,
        now,
    )
    assert record is not None
    return _load(record)


async def rename(connection: Connection, user_id: str, passkey_id: str, name: str, now: datetime) -> Passkey | None:
    record = await connection.fetchrow(
        f"""update auth.webauthn_credentials set friendly_name = $3, updated_at = $4
        where id = $1 and user_id = $2 returning {_COLUMNS}""",
        passkey_id,
        user_id,
        name,
        now,
    )
    return None if record is None else _load(record)


async def mark_used(connection: Connection, passkey_id: str, sign_count: int, backed_up: bool, now: datetime) -> None:
    await connection.execute(
        """update auth.webauthn_credentials
        set sign_count = $2, backed_up = $3, last_used_at = $4, updated_at = $4 where id = $1""",
        passkey_id,
        sign_count,
        backed_up,
        now,
    )


async def delete(connection: Connection, user_id: str, passkey_id: str) -> bool:
    """Removes a passkey of this user; False when there is none."""
    tag = await connection.execute(
        "delete from auth.webauthn_credentials where id = $1 and user_id = $2", passkey_id, user_id
    )
    return tag.endswith(" 1")


async def insert_challenge(
    connection: Connection,
    challenge_id: str,
    user_id: str | None,
    kind: str,
    session: dict[str, Any],
    now: datetime,
    expires_at: datetime,
) -> None:
    await connection.execute(
        """insert into auth.webauthn_challenges (id, user_id, challenge_type, session_data, created_at, expires_at)
        values ($1, $2, $3, $4::jsonb, $5, $6)""",
        challenge_id,
        user_id,
        kind,
        Json(session),
        now,
        expires_at,
    )


async def consume_challenge(
    connection: Connection, challenge_id: str, kind: str, user_id: str | None
) -> PasskeyChallenge | None:
    """Takes the challenge away, whatever comes of it: it counts once, for this kind and user only."""
    record = await connection.fetchrow(
        """delete from auth.webauthn_challenges
        where id = $1 and challenge_type = $2 and user_id is not distinct from $3::uuid
        returning session_data, expires_at""",
        challenge_id,
        kind,
        user_id,
    )
    if record is None:
        return None
    expires = utc(record["expires_at"])
    assert expires is not None
    return PasskeyChallenge(record["session_data"], expires)
