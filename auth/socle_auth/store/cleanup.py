"""Taking away what has expired, a hundred rows at a time, past rows that somebody holds (contracts/auth.md §6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from socle_platform.db import Connection

_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One kind of expired rows: a statement whose only argument is the moment before which they are dead."""

    name: str
    sql: str
    age: timedelta

    async def run(self, connection: Connection, now: datetime) -> int:
        """How many rows it took away (or revoked)."""
        tag = await connection.execute(self.sql, now - self.age)
        return int(tag.rsplit(" ", 1)[-1])


def _delete(table: str, condition: str, key: str = "id") -> str:
    return (
        f"delete from auth.{table} where {key} in ("
        f"select {key} from auth.{table} where {condition} limit 100 for update skip locked)"
    )


_ALWAYS = (
    Sweep("revoked refresh tokens", _delete("refresh_tokens", "revoked is true and updated_at < $1"), _DAY),
    Sweep(
        "refresh tokens of ended sessions",
        """update auth.refresh_tokens set revoked = true, updated_at = now() where id in (
            select t.id from auth.refresh_tokens t join auth.sessions s on t.session_id = s.id
            where s.not_after < $1 and t.revoked is false limit 100 for update of t skip locked)""",
        _DAY,
    ),
    Sweep("ended sessions", _delete("sessions", "not_after < $1"), timedelta(hours=72)),
    Sweep("SAML relay states", _delete("saml_relay_states", "created_at < $1"), _DAY),
    Sweep("flow states", _delete("flow_state", "created_at < $1"), _DAY),
    Sweep("provider states", _delete("oauth_client_states", "created_at < $1"), _DAY),
    Sweep("authorizations of applications", _delete("oauth_authorizations", "expires_at < $1"), _DAY),
    Sweep("challenges", _delete("mfa_challenges", "created_at < $1"), _DAY),
    Sweep("unverified factors", _delete("mfa_factors", "created_at < $1 and status = 'unverified'"), _DAY),
    Sweep("passkey challenges", _delete("webauthn_challenges", "expires_at < $1"), timedelta(0)),
)


def sweeps(*, anonymous: bool, timebox: float | None, inactivity: float | None) -> Iterable[Sweep]:
    """What there is to take away under these settings (seconds)."""
    yield from _ALWAYS
    if anonymous:
        yield Sweep("anonymous users", _delete("users", "created_at < $1 and is_anonymous is true"), timedelta(days=30))
    if timebox is not None:
        yield Sweep("timed-out sessions", _delete("sessions", "created_at < $1"), _DAY + timedelta(seconds=timebox))
    if inactivity is not None:
        age = _DAY + timedelta(seconds=inactivity)
        refreshed = "refreshed_at is not null and refreshed_at < ($1::timestamptz at time zone 'utc')"
        yield Sweep("idle sessions", _delete("sessions", refreshed), age)
        never = (
            "refreshed_at is null and exists (select from auth.refresh_tokens t where t.session_id = sessions.id "
            "and t.revoked is false and t.updated_at < $1)"
        )
        yield Sweep("sessions never refreshed", _delete("sessions", never), age)
