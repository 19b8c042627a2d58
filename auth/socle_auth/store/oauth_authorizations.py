"""Rows of `auth.oauth_authorizations` and `auth.oauth_consents` (§3.16)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from socle_auth.store.oauth_clients import OAuthClient, load_client
from socle_auth.store.rows import utc
from socle_platform.db import Connection, Record

PENDING = "pending"
APPROVED = "approved"
DENIED = "denied"
EXPIRED = "expired"

_COLUMNS = (
    "id, authorization_id, client_id, user_id, redirect_uri, scope, state, resource, code_challenge, "
    "code_challenge_method, status, authorization_code, created_at, expires_at, approved_at, nonce"
)


@dataclass(frozen=True, slots=True)
class Authorization:
    """A request of an application for a user's consent; approved, it holds the code."""

    id: str
    authorization_id: str
    client_id: str
    redirect_uri: str
    scope: str
    created_at: datetime
    expires_at: datetime
    user_id: str | None = None
    state: str = ""
    resource: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""
    status: str = PENDING
    code: str = field(default="", repr=False)
    nonce: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(self.scope.split())


@dataclass(frozen=True, slots=True)
class Consent:
    """What a user allowed an application."""

    client: OAuthClient
    scopes: tuple[str, ...]
    granted_at: datetime


def _load(record: Record) -> Authorization:
    created, expires = utc(record["created_at"]), utc(record["expires_at"])
    assert created is not None
    assert expires is not None
    return Authorization(
        id=record["id"],
        authorization_id=record["authorization_id"],
        client_id=record["client_id"],
        redirect_uri=record["redirect_uri"],
        scope=record["scope"],
        created_at=created,
        expires_at=expires,
        user_id=record["user_id"],
        state=record["state"] or "",
        resource=record["resource"] or "",
        code_challenge=record["code_challenge"] or "",
        code_challenge_method=record["code_challenge_method"] or "",
        status=record["status"],
        code=record["authorization_code"] or "",
        nonce=record["nonce"] or "",
    )


async def insert(connection: Connection, authorization: Authorization) -> None:
    """Raises DatabaseError 23514 when a text is longer than its column allows."""
    await connection.execute(
        """insert into auth.oauth_authorizations
            (id, authorization_id, client_id, redirect_uri, scope, state, resource, code_challenge,
             code_challenge_method, nonce, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9::auth.code_challenge_method, $10, $11, $12)""",
        authorization.id,
        authorization.authorization_id,
        authorization.client_id,
        authorization.redirect_uri,
        authorization.scope,
        authorization.state or None,
        authorization.resource or None,
        authorization.code_challenge,
        authorization.code_challenge_method,
        authorization.nonce or None,
        authorization.created_at,
        authorization.expires_at,
    )


async def find(connection: Connection, authorization_id: str) -> Authorization | None:
    """By its public id, held until the transaction ends: decisions about it come one after the other."""
    record = await connection.fetchrow(
        f"select {_COLUMNS} from auth.oauth_authorizations where authorization_id = $1 for update", authorization_id
    )
    return None if record is None else _load(record)


async def find_by_code(connection: Connection, code: str) -> Authorization | None:
    """By its code, held until the transaction ends: a code is traded once."""
    record = await connection.fetchrow(
        f"""select {_COLUMNS} from auth.oauth_authorizations
        where authorization_code = $1 and status = 'approved' for update""",
        code,
    )
    return None if record is None else _load(record)


async def set_user(connection: Connection, authorization: Authorization, user_id: str) -> None:
    await connection.execute(
        "update auth.oauth_authorizations set user_id = $2 where id = $1", authorization.id, user_id
    )


async def approve(connection: Connection, authorization: Authorization, code: str, now: datetime) -> None:
    await connection.execute(
        """update auth.oauth_authorizations set status = 'approved', authorization_code = $2, approved_at = $3
        where id = $1""",
        authorization.id,
        code,
        now,
    )


async def set_status(connection: Connection, authorization: Authorization, status: str) -> None:
    """Denied or expired."""
    await connection.execute(
        "update auth.oauth_authorizations set status = $2::auth.oauth_authorization_status where id = $1",
        authorization.id,
        status,
    )


async def delete(connection: Connection, authorization: Authorization) -> None:
    await connection.execute("delete from auth.oauth_authorizations where id = $1", authorization.id)


async def consented_scopes(connection: Connection, user_id: str, client_id: str) -> frozenset[str] | None:
    """What the user allows the application at present; None for nothing."""
    scopes: str | None = await connection.fetchval(
        "select scopes from auth.oauth_consents where user_id = $1 and client_id = $2 and revoked_at is null",
        user_id,
        client_id,
    )
    return None if scopes is None else frozenset(scopes.split())


async def put_consent(
    connection: Connection, consent_id: str, user_id: str, client_id: str, scopes: str, now: datetime
) -> None:
    """The user's one consent for the application, given anew."""
    await connection.execute(
        """insert into auth.oauth_consents (id, user_id, client_id, scopes, granted_at) values ($1, $2, $3, $4, $5)
        on conflict (user_id, client_id)
        do update set scopes = excluded.scopes, granted_at = excluded.granted_at, revoked_at = null""",
        consent_id,
        user_id,
        client_id,
        scopes,
        now,
    )


async def consents_of(connection: Connection, user_id: str) -> list[Consent]:
    """Consents in force with their applications, latest first."""
    records = await connection.fetch(
        """select c.scopes, c.granted_at, to_jsonb(a) as client
        from auth.oauth_consents c join auth.oauth_clients a on a.id = c.client_id
        where c.user_id = $1 and c.revoked_at is null and a.deleted_at is null
        order by c.granted_at desc, c.id""",
        user_id,
    )
    found: list[Consent] = []
    for record in records:
        granted = utc(record["granted_at"])
        assert granted is not None
        found.append(Consent(load_client(record["client"]), tuple(record["scopes"].split()), granted))
    return found


async def revoke_consent(connection: Connection, user_id: str, client_id: str, now: datetime) -> bool:
    """Ends the consent and the application's sessions of this user; False when there was none."""
    tag = await connection.execute(
        """update auth.oauth_consents set revoked_at = greatest($3, granted_at)
        where user_id = $1 and client_id = $2 and revoked_at is null""",
        user_id,
        client_id,
        now,
    )
    if not tag.endswith(" 1"):
        return False
    await connection.execute(
        "delete from auth.sessions where user_id = $1 and oauth_client_id = $2", user_id, client_id
    )
    return True
