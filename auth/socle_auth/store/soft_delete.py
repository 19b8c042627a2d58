"""What a softly deleted user does not keep."""

from __future__ import annotations

from socle_platform.db import Connection

_BELONGINGS = ("sessions", "mfa_factors", "webauthn_credentials")


async def remove_belongings(connection: Connection, user_id: str) -> None:
    """Sessions, second factors and passkeys of the user, for good."""
    for table in _BELONGINGS:
        await connection.execute(f'delete from auth."{table}" where user_id = $1', user_id)
