"""Users by the thousand, in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from socle_platform.db import Connection, Database, Prepared

_GIVEN = """given as materialized (select * from json_to_recordset($1::json) as given (
  id uuid, aud text, role text, email text, phone text, encrypted_password text,
  email_confirmed_at timestamptz, phone_confirmed_at timestamptz, invited_at timestamptz, last_sign_in_at timestamptz,
  raw_app_meta_data jsonb, raw_user_meta_data jsonb, created_at timestamptz, banned_until timestamptz,
  is_sso_user boolean, is_anonymous boolean, identities json, factors json, passkeys json, recovery_codes json)),
present as (select given.id from given join auth.users u on u.id = given.id),
taken as (
  select given.id, given.email as what from given join auth.users u on u.email = given.email
    where not given.is_sso_user and u.is_sso_user = false
  union all select given.id, given.phone from given join auth.users u on u.phone = given.phone)"""
_STORED = """, stored as (
  insert into auth.users (
    instance_id, id, aud, role, email, phone, encrypted_password, email_confirmed_at, phone_confirmed_at,
    invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, banned_until,
    is_sso_user, is_anonymous, confirmation_token, recovery_token, email_change_token_new, email_change,
    phone_change, phone_change_token, email_change_token_current, email_change_confirm_status, reauthentication_token)
  select '00000000-0000-0000-0000-000000000000', id, aud, role, email, phone, encrypted_password,
    email_confirmed_at, phone_confirmed_at, invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
    created_at, created_at, banned_until, is_sso_user, is_anonymous, '', '', '', '', '', '', '', 0, ''
  from given where id not in (select id from present) and id not in (select id from taken)
  on conflict do nothing returning id),
fresh as (select given.* from given join stored using (id)),
known as (
  insert into auth.identities
    (id, provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
  select coalesce(one.id, gen_random_uuid()), one.provider_id, fresh.id, one.identity_data, one.provider,
    fresh.last_sign_in_at, fresh.created_at, fresh.created_at
  from fresh, json_to_recordset(fresh.identities) as one (id uuid, provider text, provider_id text, identity_data jsonb)
  on conflict do nothing)"""
_STRONG = """, proven as (
  insert into auth.mfa_factors (id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret, phone,
    web_authn_credential, web_authn_aaguid)
  select coalesce(one.id, gen_random_uuid()), fresh.id, one.friendly_name, one.factor_type::auth.factor_type,
    one.status::auth.factor_status, coalesce(one.created_at, fresh.created_at),
    coalesce(one.updated_at, one.created_at, fresh.created_at), one.secret, one.phone, one.web_authn_credential,
    one.web_authn_aaguid
  from fresh, json_to_recordset(fresh.factors) as one (id uuid, friendly_name text, factor_type text, status text,
    created_at timestamptz, updated_at timestamptz, secret text, phone text, web_authn_credential jsonb,
    web_authn_aaguid uuid)
  on conflict do nothing),
carried as (
  insert into auth.webauthn_credentials (id, user_id, credential_id, public_key, attestation_type, aaguid, sign_count,
    transports, backup_eligible, backed_up, friendly_name, created_at, updated_at, last_used_at)
  select coalesce(one.id, gen_random_uuid()), fresh.id, one.credential_id, one.public_key,
    coalesce(one.attestation_type, ''), one.aaguid, coalesce(one.sign_count, 0), coalesce(one.transports, '[]'),
    coalesce(one.backup_eligible, false), coalesce(one.backed_up, false), coalesce(one.friendly_name, ''),
    coalesce(one.created_at, fresh.created_at), coalesce(one.updated_at, one.created_at, fresh.created_at),
    one.last_used_at
  from fresh, json_to_recordset(fresh.passkeys) as one (id uuid, credential_id bytea, public_key bytea,
    attestation_type text, aaguid uuid, sign_count bigint, transports jsonb, backup_eligible boolean,
    backed_up boolean, friendly_name text, created_at timestamptz, updated_at timestamptz, last_used_at timestamptz)
  on conflict do nothing)"""
_SPARE = """, spare as (
  insert into socle.recovery_codes (user_id, set_id, code_hash, created_at, used_at)
  select fresh.id, one.set_id, one.code_hash, one.created_at, one.used_at
  from fresh, json_to_recordset(fresh.recovery_codes) as one (set_id uuid, code_hash text, created_at timestamptz,
    used_at timestamptz)
  on conflict do nothing)"""
_VERDICTS = """ select given.id, present.id is not null, taken.what, {stored}
from given left join present using (id) left join (select id, min(what) as what from taken group by id) taken using (id)
  {join}"""
_TRIED = f"with {_GIVEN}{_VERDICTS.format(stored='true', join='')}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row: it was there already; its address or number is somebody else's; or it was stored."""

    id: str
    was_present: bool
    taken: str | None
    is_stored: bool


def _statement(rows: Sequence[Mapping[str, Any]]) -> str:
    """Only with the tables that these rows need."""
    parts = ["with ", _GIVEN, _STORED]
    if any("factors" in row or "passkeys" in row for row in rows):
        parts.append(_STRONG)
    if any("recovery_codes" in row for row in rows):
        parts.append(_SPARE)
    joined = _VERDICTS.format(stored="stored.id is not null", join="left join stored using (id)")
    return "".join((*parts, joined))


async def put(
    database: Database, rows: Sequence[Mapping[str, Any]], *, dry_run: bool, before: int
) -> dict[str, Verdict]:
    """Stores those whose id, address and number are free, with all that belongs to them, in one statement and one
    transaction; a dry run only tells. What became of each, by id.

    `before`: how many were stored before. A plan made for an empty table is poor for a full one, so the statement is
    planned anew whenever that doubles.
    """
    text = _TRIED if dry_run else _statement(rows)
    statement = Prepared(text, (_json_of(rows),), f"{before.bit_length()} {text}")
    verdicts = dict[str, Verdict]()
    for user_id, present, taken, stored in (await database.run_as_service("auth", statement)).rows:
        known = Verdict(_text(user_id), present == b"t", taken.decode() if taken else None, stored == b"t")
        verdicts[known.id] = known
    return verdicts


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _json_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Numbers beyond 64 bits, which metadata may hold, take the slower way."""
    try:
        return orjson.dumps(rows)
    except TypeError:
        return json.dumps(rows).encode()


_LEFT_OUT = """array['instance_id', 'confirmation_token', 'recovery_token', 'email_change_token_new',
  'email_change_token_current', 'phone_change_token', 'reauthentication_token', 'email_change', 'phone_change',
  'email_change_confirm_status', 'confirmed_at', 'is_super_admin', 'deleted_at', 'confirmation_sent_at',
  'recovery_sent_at', 'email_change_sent_at', 'phone_change_sent_at', 'reauthentication_sent_at']"""
_BELONGINGS: Mapping[str, tuple[str, str]] = {
    "identities": (
        "auth.identities",
        """select jsonb_agg(jsonb_build_object('id', i.id, 'provider', i.provider, 'provider_id', i.provider_id,
          'identity_data', i.identity_data) order by i.created_at, i.id)
          from auth.identities i where i.user_id = u.id""",
    ),
    "factors": (
        "auth.mfa_factors",
        """select jsonb_agg(to_jsonb(f) - array['user_id', 'last_challenged_at', 'last_webauthn_challenge_data']
          order by f.created_at, f.id) from auth.mfa_factors f where f.user_id = u.id""",
    ),
    "passkeys": (
        "auth.webauthn_credentials",
        """select jsonb_agg(to_jsonb(w) - 'user_id' order by w.created_at, w.id)
          from auth.webauthn_credentials w where w.user_id = u.id""",
    ),
    "recovery_codes": (
        "socle.recovery_codes",
        """select jsonb_agg(to_jsonb(r) - 'user_id' order by r.code_hash)
          from socle.recovery_codes r where r.user_id = u.id""",
    ),
}
"""What belongs to a user, its table, and how it is collected."""


async def present_belongings(connection: Connection) -> tuple[str, ...]:
    """Which of them this database has: a project's may be older than passkeys, and none of ours."""
    names = list(_BELONGINGS)
    tables = [_BELONGINGS[name][0] for name in names]
    rows = await connection.fetch(
        "select name from unnest($1::text[]) name where to_regclass(name) is not null", tables
    )
    found = {row["name"] for row in rows}
    return tuple(name for name in names if _BELONGINGS[name][0] in found)


async def page(
    connection: Connection, after: str, limit: int, belongings: Sequence[str] = ("identities",)
) -> list[dict[str, Any]]:
    """The next users by id, with hashes and what belongs to them, as JSON objects; without those deleted softly."""
    parts = ", ".join(f"'{name}', coalesce(({_BELONGINGS[name][1]}), '[]')" for name in belongings)
    records = await connection.fetch(
        f"""select (to_jsonb(u) - {_LEFT_OUT}) || jsonb_build_object({parts}) as person
        from auth.users u where u.id > $1::uuid and u.deleted_at is null order by u.id limit $2""",
        after,
        limit,
    )
    return [dict(record["person"]) for record in records]


async def count(connection: Connection) -> int:
    """How many users there are to export."""
    return int(await connection.fetchval("select count(*) from auth.users where deleted_at is null"))
