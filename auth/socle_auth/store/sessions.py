"""Rows of `auth.sessions`, `auth.mfa_amr_claims` and `auth.refresh_tokens`."""

from __future__ import annotations

from datetime import UTC, datetime

from socle_auth.store.rows import NIL_UUID, RefreshToken, Session, load_amr, load_refresh_token, load_session
from socle_platform.db import Connection, Record

_COLUMNS = (
    "id, user_id, created_at, updated_at, factor_id, aal, not_after, refreshed_at, user_agent, ip, tag, "
    "oauth_client_id, refresh_token_hmac_key, refresh_token_counter, scopes"
)
_TOKEN_COLUMNS = "id, token, user_id, parent, session_id, revoked, created_at, updated_at"


_WHOLE = f"""select {_COLUMNS},
    (select jsonb_agg(to_jsonb(c)) from auth.mfa_amr_claims c where c.session_id = s.id) as amr
from auth.sessions s where id = $1"""


def _with_amr(record: Record | None) -> Session | None:
    if record is None:
        return None
    return load_session(record, tuple(load_amr(proof) for proof in record["amr"] or ()))


async def find(connection: Connection, session_id: str) -> Session | None:
    """The session with its proofs."""
    return _with_amr(await connection.fetchrow(_WHOLE, session_id))


async def find_and_lock(connection: Connection, session_id: str) -> Session | None:
    """The session, held until the transaction ends; None also when somebody else holds it."""
    return _with_amr(await connection.fetchrow(f"{_WHOLE} for update of s skip locked", session_id))


async def of_user(connection: Connection, user_id: str) -> list[Session]:
    """All sessions of a user, newest first, without their proofs."""
    records = await connection.fetch(
        f"select {_COLUMNS} from auth.sessions where user_id = $1 order by created_at desc", user_id
    )
    return [load_session(record) for record in records]


async def insert(connection: Connection, session: Session) -> None:
    await connection.execute(
        f"""insert into auth.sessions ({_COLUMNS})
        values ($1, $2, $3, $4, $5, $6::auth.aal_level, $7, $8, $9, $10::inet, $11, $12, $13, $14, $15)""",
        session.id,
        session.user_id,
        session.created_at,
        session.updated_at,
        session.factor_id,
        session.aal,
        session.not_after,
        None if session.refreshed_at is None else session.refreshed_at.astimezone(UTC).replace(tzinfo=None),
        session.user_agent or None,
        session.ip,
        session.tag,
        session.oauth_client_id,
        session.refresh_token_hmac_key,
        session.refresh_token_counter,
        session.scopes,
    )


async def mark_refreshed(
    connection: Connection, session_id: str, now: datetime, user_agent: str, ip: str | None
) -> None:
    """`refreshed_at` is a column without time zone: UTC (§5.3)."""
    await connection.execute(
        """update auth.sessions
        set refreshed_at = $2::timestamptz at time zone 'utc', user_agent = $3, ip = $4::inet, updated_at = $2
        where id = $1""",
        session_id,
        now,
        user_agent or None,
        ip,
    )


async def set_counter(connection: Connection, session_id: str, key: str | None, counter: int) -> None:
    """Where the second form of refresh tokens stands; `key` None leaves the session's key as it is."""
    await connection.execute(
        """update auth.sessions set refresh_token_counter = $3,
            refresh_token_hmac_key = coalesce($2, refresh_token_hmac_key) where id = $1""",
        session_id,
        key,
        counter,
    )


async def set_level(connection: Connection, session_id: str, aal: str, factor_id: str | None, now: datetime) -> None:
    await connection.execute(
        "update auth.sessions set aal = $2::auth.aal_level, factor_id = $3, updated_at = $4 where id = $1",
        session_id,
        aal,
        factor_id,
        now,
    )


async def add_proof(connection: Connection, claim_id: str, session_id: str, method: str, now: datetime) -> None:
    """Records how the session proved itself; a method proven again is stamped anew."""
    await connection.execute(
        """insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
        values ($1, $2, $4, $4, $3)
        on conflict on constraint mfa_amr_claims_session_id_authentication_method_pkey
        do update set updated_at = excluded.updated_at""",
        claim_id,
        session_id,
        method,
        now,
    )


async def delete(connection: Connection, session_id: str) -> None:
    """Ends one session; its refresh tokens go with it."""
    await connection.execute("delete from auth.sessions where id = $1", session_id)


async def delete_all(connection: Connection, user_id: str, *, except_session: str | None = None) -> None:
    """Ends every session of the user, or every other one."""
    await connection.execute(
        "delete from auth.sessions where user_id = $1 and id <> $2", user_id, except_session or NIL_UUID
    )


async def delete_weaker(connection: Connection, user_id: str, aal: str) -> None:
    """Ends the user's sessions below an assurance level."""
    await connection.execute("delete from auth.sessions where user_id = $1 and aal < $2::auth.aal_level", user_id, aal)


async def insert_token(
    connection: Connection, token: str, user_id: str, session_id: str, parent: str, now: datetime
) -> None:
    """A refresh token of the first form; `parent` is the token it replaces, "" for a session's first."""
    await connection.execute(
        """insert into auth.refresh_tokens
            (instance_id, token, user_id, parent, session_id, revoked, created_at, updated_at)
        values ($1, $2, $3, $4, $5, false, $6, $6)""",
        NIL_UUID,
        token,
        user_id,
        parent or None,
        session_id,
        now,
    )


async def find_token(connection: Connection, token: str) -> RefreshToken | None:
    record = await connection.fetchrow(
        f"select {_TOKEN_COLUMNS} from auth.refresh_tokens where token = $1 limit 1", token
    )
    return None if record is None else load_refresh_token(record)


async def find_token_and_lock(connection: Connection, token: str) -> RefreshToken | None:
    """The token's row, held until the transaction ends; None also when somebody else holds it."""
    record = await connection.fetchrow(
        f"select {_TOKEN_COLUMNS} from auth.refresh_tokens where token = $1 limit 1 for update skip locked", token
    )
    return None if record is None else load_refresh_token(record)


async def active_token(connection: Connection, session_id: str) -> RefreshToken | None:
    """The session's newest token that is not revoked."""
    record = await connection.fetchrow(
        f"""select {_TOKEN_COLUMNS} from auth.refresh_tokens
        where session_id = $1 and revoked = false order by id desc limit 1""",
        session_id,
    )
    return None if record is None else load_refresh_token(record)


async def replace_token(connection: Connection, old: RefreshToken, token: str, now: datetime) -> None:
    """Revokes a token and puts its child in its place, in one statement."""
    await connection.execute(
        """with old as (
            update auth.refresh_tokens set revoked = true, updated_at = $5 where id = $1 returning user_id, session_id)
        insert into auth.refresh_tokens
            (instance_id, token, user_id, parent, session_id, revoked, created_at, updated_at)
        select $2, $3, user_id, $4, session_id, false, $5, $5 from old""",
        old.id,
        NIL_UUID,
        token,
        old.token,
        now,
    )


async def revoke_token(connection: Connection, token_id: int, now: datetime) -> None:
    await connection.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = $2 where id = $1", token_id, now
    )


async def revoke_family(connection: Connection, token: RefreshToken, now: datetime) -> None:
    """Revokes every token of the session; without a session, all that descend from the token."""
    if token.session_id is not None:
        await connection.execute(
            "update auth.refresh_tokens set revoked = true, updated_at = $2 where session_id = $1 and not revoked",
            token.session_id,
            now,
        )
        return
    await connection.execute(
        """with recursive family as (
            select id, token from auth.refresh_tokens where parent = $1
            union
            select child.id, child.token from auth.refresh_tokens child join family on child.parent = family.token)
        update auth.refresh_tokens set revoked = true, updated_at = $2
        where id in (select id from family) and not revoked""",
        token.token,
        now,
    )


async def delete_token(connection: Connection, token_id: int) -> None:
    await connection.execute("delete from auth.refresh_tokens where id = $1", token_id)
