"""Rows of `auth.users`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from socle_auth.store.rows import (
    NIL_UUID,
    AmrClaim,
    Session,
    User,
    load_amr,
    load_factor,
    load_identity,
    load_session,
    load_user,
)
from socle_platform.db import Connection, Json, Record

_COLUMNS = (
    "id",
    "aud",
    "role",
    "email",
    "encrypted_password",
    "email_confirmed_at",
    "invited_at",
    "confirmation_token",
    "confirmation_sent_at",
    "recovery_token",
    "recovery_sent_at",
    "email_change_token_new",
    "email_change",
    "email_change_sent_at",
    "last_sign_in_at",
    "raw_app_meta_data",
    "raw_user_meta_data",
    "created_at",
    "updated_at",
    "phone",
    "phone_confirmed_at",
    "phone_change",
    "phone_change_token",
    "phone_change_sent_at",
    "confirmed_at",
    "email_change_token_current",
    "email_change_confirm_status",
    "banned_until",
    "reauthentication_token",
    "reauthentication_sent_at",
    "is_sso_user",
    "deleted_at",
    "is_anonymous",
)
_PLAIN = ", ".join(f"u.{column}" for column in _COLUMNS)
_RETURNING = ", ".join(_COLUMNS)
_WHOLE = f"""{_PLAIN},
    (select jsonb_agg(to_jsonb(i) order by i.created_at, i.provider, i.id)
        from auth.identities i where i.user_id = u.id) as identities,
    (select jsonb_agg(to_jsonb(f) order by f.created_at, f.id) from auth.mfa_factors f where f.user_id = u.id)
        as factors"""

_SETTABLE = frozenset(_COLUMNS) - {"id", "created_at", "confirmed_at"}
_JSON_COLUMNS = frozenset({"raw_app_meta_data", "raw_user_meta_data"})
_NULL_WHEN_EMPTY = frozenset({"email", "phone", "encrypted_password"})

NO_PENDING_TOKENS: Mapping[str, object] = {
    "confirmation_token": "",
    "recovery_token": "",
    "email_change_token_new": "",
    "email_change_token_current": "",
    "phone_change_token": "",
    "reauthentication_token": "",
}
"""Every column that holds the hash of a code or link; cleared together, so that no unused code survives (§3.4)."""


def load_whole_user(record: Record) -> User:
    """A user with identities and factors from a row of `_WHOLE`."""
    return load_user(
        record,
        tuple(load_identity(item) for item in record["identities"] or ()),
        tuple(load_factor(item) for item in record["factors"] or ()),
    )


async def find(connection: Connection, user_id: str, *, lock: bool = False) -> User | None:
    """The user with identities and factors; `lock` keeps other writers off the row until the transaction ends."""
    if lock and await connection.fetchval("select id from auth.users where id = $1 for no key update", user_id) is None:
        return None
    record = await connection.fetchrow(f"select {_WHOLE} from auth.users u where u.id = $1", user_id)
    return None if record is None else load_whole_user(record)


async def try_lock(connection: Connection, user_id: str) -> bool:
    """Holds the row until the transaction ends; False when somebody else does, so that nobody waits for nobody."""
    return (
        await connection.fetchval("select id from auth.users where id = $1 for no key update skip locked", user_id)
        is not None
    )


async def find_by_email(connection: Connection, email: str, audience: str) -> User | None:
    """By address and audience, letter case ignored; users of a single sign-on provider are not found so (§1.10)."""
    record = await connection.fetchrow(
        f"""select {_WHOLE} from auth.users u
        where (u.instance_id = '00000000-0000-0000-0000-000000000000' or u.instance_id is null)
          and lower(u.email) = $1 and u.aud = $2 and u.is_sso_user = false
        limit 1""",
        email.lower(),
        audience,
    )
    return None if record is None else load_whole_user(record)


async def find_by_phone(connection: Connection, phone: str, audience: str) -> User | None:
    record = await connection.fetchrow(
        f"select {_WHOLE} from auth.users u where u.phone = $1 and u.aud = $2 and u.is_sso_user = false limit 1",
        phone,
        audience,
    )
    return None if record is None else load_whole_user(record)


async def find_by_phone_change(connection: Connection, phone: str, audience: str) -> User | None:
    """The latest user who asked to change to this number."""
    record = await connection.fetchrow(
        f"""select {_WHOLE} from auth.users u
        where u.phone_change = $1 and u.phone_change <> '' and u.aud = $2 and u.is_sso_user = false
        order by u.phone_change_sent_at desc nulls last limit 1""",
        phone,
        audience,
    )
    return None if record is None else load_whole_user(record)


async def find_by_email_change(connection: Connection, email: str, audience: str) -> list[User]:
    """Users for whom a code sent to `email` may confirm a change of address: as the new one, or as the present one."""
    records = await connection.fetch(
        f"""select {_WHOLE} from auth.users u
        where u.aud = $2 and u.is_sso_user = false
          and (u.email_change = $1 or (lower(u.email) = $1 and u.email_change <> ''))
        order by u.email_change_sent_at desc nulls last limit 20""",
        email.lower(),
        audience,
    )
    return [load_whole_user(record) for record in records]


async def find_registered(
    connection: Connection,
    email: str,
    audience: str,
    *,
    own_domains: Sequence[str] = (),
    except_user: str | None = None,
) -> User | None:
    """Who already has this address in the default linking domain: by an identity's address, else by the row's (§3.1).

    `own_domains` are providers that live in a linking domain of their own; `sso:…` always does.
    """
    record = await connection.fetchrow(
        f"""select {_WHOLE} from auth.users u
        where u.aud = $2 and u.id <> $4
          and u.id in (
            select i.user_id from auth.identities i
            where i.email = $1 and i.provider not like 'sso:%' and i.provider <> all($3::text[]))
        order by u.created_at limit 1""",
        email.lower(),
        audience,
        list(own_domains),
        except_user or NIL_UUID,
    )
    return load_whole_user(record) if record is not None else await find_by_email(connection, email, audience)


async def find_with_session(
    connection: Connection, user_id: str, session_id: str | None
) -> tuple[User | None, Session | None]:
    """The user of a token and its session, in one statement."""
    record = await connection.fetchrow(
        f"""select {_WHOLE},
            (select to_jsonb(s) || jsonb_build_object('amr', (
                select jsonb_agg(to_jsonb(c)) from auth.mfa_amr_claims c where c.session_id = s.id))
             from auth.sessions s where s.id = $2::uuid) as session
        from auth.users u where u.id = $1""",
        user_id,
        session_id,
    )
    if record is None:
        return None, None
    found = record["session"]
    session = None
    if found is not None:
        amr: tuple[AmrClaim, ...] = tuple(load_amr(item) for item in found["amr"] or ())
        session = load_session(found, amr)
    return load_whole_user(record), session


@dataclass(frozen=True, slots=True)
class NewUser:
    """What an insert needs; `id` is chosen by us so that a hook can see it before."""

    id: str
    aud: str
    email: str = ""
    phone: str = ""
    encrypted_password: str = ""
    app_metadata: Mapping[str, Any] | None = None
    user_metadata: Mapping[str, Any] | None = None
    is_anonymous: bool = False
    is_sso_user: bool = False
    banned_until: datetime | None = None


async def insert(connection: Connection, new: NewUser, role: str, now: datetime) -> User:
    """Inserts the row, sets its role by an update of its own (project triggers rely on both), and reloads it."""
    await connection.execute(
        """insert into auth.users (
            instance_id, id, aud, role, email, phone, encrypted_password, raw_app_meta_data, raw_user_meta_data,
            is_anonymous, is_sso_user, banned_until, created_at, updated_at,
            confirmation_token, recovery_token, email_change_token_new, email_change, phone_change,
            phone_change_token, email_change_token_current, email_change_confirm_status, reauthentication_token)
        values ($1, $2, $3, '', $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, '', '', '', '', '', '', '', 0, '')""",
        NIL_UUID,
        new.id,
        new.aud,
        new.email or None,
        new.phone or None,
        new.encrypted_password,
        Json(dict(new.app_metadata or {})),
        Json(dict(new.user_metadata or {})),
        new.is_anonymous,
        new.is_sso_user,
        new.banned_until,
        now,
    )
    await connection.execute(
        "update auth.users set role = $2, updated_at = $3 where id = $1", new.id, role.strip(), now
    )
    user = await find(connection, new.id)
    if user is None:
        raise LookupError("the new user's row was taken away by a trigger")
    return user


async def update(connection: Connection, user: User, now: datetime, **changes: object) -> User:
    """Sets the named columns and gives the user as the row now is, with the identities and factors it had.

    Raises ValueError for a column that is not to be set, LookupError when the row is gone.
    """
    unknown = changes.keys() - _SETTABLE
    if unknown:
        raise ValueError(f"columns of auth.users that cannot be set: {sorted(unknown)}")
    values = {"updated_at": now, **changes}
    assignments = ", ".join(f'"{column}" = ${place}' for place, column in enumerate(values, start=2))
    record = await connection.fetchrow(
        f"update auth.users set {assignments} where id = $1 returning {_RETURNING}",
        user.id,
        *(_to_column(column, value) for column, value in values.items()),
    )
    if record is None:
        raise LookupError("the user's row is gone")
    return load_user(record, user.identities, user.factors)


def _to_column(column: str, value: object) -> object:
    if column in _JSON_COLUMNS:
        return Json(value)
    return None if column in _NULL_WHEN_EMPTY and value == "" else value


async def forget_tokens(connection: Connection, user: User, now: datetime, **changes: object) -> User:
    """Clears every pending code and link of the user, in the row and in one_time_tokens, with other `changes`."""
    user = await update(connection, user, now, **{**NO_PENDING_TOKENS, **changes})
    await connection.execute("delete from auth.one_time_tokens where user_id = $1", user.id)
    return user


async def delete(connection: Connection, user_id: str) -> bool:
    """Removes the row and everything that hangs on it; False when there was none."""
    return (await connection.execute("delete from auth.users where id = $1", user_id)).endswith(" 1")


async def reload(connection: Connection, user: User) -> User:
    """The user as stored now, with identities and factors. Raises LookupError when the row is gone."""
    found = await find(connection, user.id)
    if found is None:
        raise LookupError("the user's row is gone")
    return found


async def with_identities(connection: Connection, user: User) -> User:
    """The same user with its identities read again."""
    records = await connection.fetch(
        "select * from auth.identities where user_id = $1 order by created_at, id", user.id
    )
    return replace(user, identities=tuple(load_identity(record) for record in records))


_SORTS = {("created_at", True): "u.created_at asc, u.id asc", ("created_at", False): "u.created_at desc, u.id desc"}
_FILTER = "(u.email like $2 or u.raw_user_meta_data->>'full_name' ilike $2)"


async def page(
    connection: Connection, audience: str, pattern: str | None, *, ascending: bool, limit: int, offset: int
) -> tuple[list[User], int]:
    """One page of users (identities not loaded) and how many match in all. `pattern` is a LIKE pattern or None."""
    where = "u.aud = $1 and ($2::text is null or " + _FILTER + ")"
    total: int = await connection.fetchval(f"select count(*) from auth.users u where {where}", audience, pattern)
    records = await connection.fetch(
        f"""select {_PLAIN} from auth.users u where {where}
        order by {_SORTS["created_at", ascending]} limit $3 offset $4""",
        audience,
        pattern,
        limit,
        offset,
    )
    return [load_user(record) for record in records], total


async def page_after(
    connection: Connection,
    audience: str,
    pattern: str | None,
    *,
    ascending: bool,
    limit: int,
    after: tuple[datetime, str] | None,
) -> list[User]:
    """Users beyond a (created_at, id) place, without counting: keyset paging."""
    comparison = ">" if ascending else "<"
    moment, user_id = after or (None, None)
    records = await connection.fetch(
        f"""select {_PLAIN} from auth.users u
        where u.aud = $1 and ($2::text is null or {_FILTER})
          and ($4::timestamptz is null or (u.created_at, u.id) {comparison} ($4::timestamptz, $5::uuid))
        order by {_SORTS["created_at", ascending]} limit $3""",
        audience,
        pattern,
        limit,
        moment,
        user_id,
    )
    return [load_user(record) for record in records]
