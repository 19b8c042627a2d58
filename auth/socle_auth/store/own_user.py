"""The signed-in user as the wire shows them, made by one statement (contracts/auth.md §3.0).

Clients ask for their user all the time, so PostgreSQL writes the answer itself and no row becomes a Python value on the
way. What it says is what `wire.render_user` says of the same rows; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from socle_auth.store.rows import USER_TIMES
from socle_platform.db import Database, Prepared

_FIRST, _LAST = "timestamptz '0001-01-01 00:00:00Z'", "timestamptz '9999-12-31 23:59:59.999999Z'"


def _time(column: str) -> str:
    """RFC 3339 in UTC with fractional seconds and `Z`, null for nothing; the first or last such moment for infinity."""
    held = f"least(greatest({column}, {_FIRST}), {_LAST})"
    return f"""case when {column} is not null then
        to_char({held} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') end"""


def _object(column: str) -> str:
    return f"case jsonb_typeof({column}) when 'object' then {column} else '{{}}' end"


def _pairs(**columns: str) -> str:
    return ", ".join(f"'{name}', {expression}" for name, expression in columns.items())


def _texts(table: str, *names: str) -> dict[str, str]:
    return {name: f"coalesce({table}.{name}, '')" for name in names}


def _times(table: str, *names: str) -> dict[str, str]:
    return {name: _time(f"{table}.{name}") for name in names}


_IDENTITY = f"""jsonb_build_object({
    _pairs(
        identity_id="i.id",
        id="i.provider_id",
        user_id="i.user_id",
        identity_data=_object("i.identity_data"),
        provider="i.provider",
    )
}) || jsonb_strip_nulls(jsonb_build_object({
    _pairs(email="nullif(i.email, '')", **_times("i", "last_sign_in_at", "created_at", "updated_at"))
}))"""

_FACTOR = f"""jsonb_build_object({
    _pairs(
        id="f.id",
        status="f.status",
        factor_type="f.factor_type",
        **_times("f", "created_at", "updated_at", "last_challenged_at"),
        **_texts("f", "phone"),
    )
}) || jsonb_strip_nulls(jsonb_build_object({
    _pairs(friendly_name="nullif(f.friendly_name, '')", web_authn_aaguid="f.web_authn_aaguid")
})) || case when f.last_webauthn_challenge_data is null or f.last_webauthn_challenge_data = 'null' then '{{}}'
    else jsonb_build_object('last_webauthn_challenge_data', f.last_webauthn_challenge_data) end"""

_USER = f"""jsonb_build_object({
    _pairs(
        id="u.id",
        **_texts("u", "aud", "role", "email", "phone"),
        app_metadata=_object("u.raw_app_meta_data"),
        user_metadata=_object("u.raw_user_meta_data"),
        is_anonymous="coalesce(u.is_anonymous, false)",
        identities=f'''coalesce((
            select jsonb_agg({_IDENTITY} order by i.created_at, i.provider, i.id)
            from auth.identities i where i.user_id = u.id), '[]')''',
        **{
            name: f"coalesce({_time(f'u.{name}')}, '1970-01-01T00:00:00.000000Z')"
            for name in ("created_at", "updated_at")
        },
    )
}) || jsonb_strip_nulls(jsonb_build_object({
    _pairs(
        new_email="nullif(u.email_change, '')",
        new_phone="nullif(u.phone_change, '')",
        **_times("u", *USER_TIMES),
    )
})) || coalesce((select jsonb_build_object('factors', jsonb_agg({_FACTOR} order by f.created_at, f.id))
    from auth.mfa_factors f where f.user_id = u.id having count(*) > 0), '{{}}')"""

_STATEMENT = f"""select {_USER},
    coalesce(u.banned_until > $3::timestamptz, false),
    exists (select from auth.sessions s where s.id = $2::uuid and s.user_id = u.id)
from auth.users u where u.id = $1::uuid"""


@dataclass(frozen=True, slots=True)
class OwnUser:
    """The user as JSON text; whether a ban is on; whether the session asked for is theirs."""

    body: bytes
    is_banned: bool
    has_session: bool


async def find(database: Database, user_id: str, session_id: str | None, now: datetime) -> OwnUser | None:
    """The user of a token and what there is to know about its session, in one round trip."""
    args = (user_id.encode(), None if session_id is None else session_id.encode(), now.isoformat().encode())
    rows = (await database.run_as_service("auth", Prepared(_STATEMENT, args, "auth own user"))).rows
    if not rows:
        return None
    body, banned, session = rows[0]
    return OwnUser(body or b"", banned == b"t", session == b"t")
