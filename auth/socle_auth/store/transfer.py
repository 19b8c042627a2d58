"""Users by the thousand, in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from socle_platform.db import Connection, Json

_COLUMNS = """id uuid, aud text, role text, email text, phone text, encrypted_password text,
  email_confirmed_at timestamptz, phone_confirmed_at timestamptz, invited_at timestamptz, last_sign_in_at timestamptz,
  raw_app_meta_data jsonb, raw_user_meta_data jsonb, created_at timestamptz, banned_until timestamptz,
  is_sso_user boolean, is_anonymous boolean, identities jsonb"""


async def insert_users(connection: Connection, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Inserts those whose id, address and number are free, with their identities; gives their ids."""
    inserted = await connection.fetch(
        f"""insert into auth.users (
          instance_id, id, aud, role, email, phone, encrypted_password, email_confirmed_at, phone_confirmed_at,
          invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at, banned_until,
          is_sso_user, is_anonymous, confirmation_token, recovery_token, email_change_token_new, email_change,
          phone_change, phone_change_token, email_change_token_current, email_change_confirm_status,
          reauthentication_token)
        select '00000000-0000-0000-0000-000000000000', id, aud, role, email, phone, encrypted_password,
          email_confirmed_at, phone_confirmed_at, invited_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
          created_at, created_at, banned_until, is_sso_user, is_anonymous, '', '', '', '', '', '', '', 0, ''
        from jsonb_to_recordset($1::jsonb) as given ({_COLUMNS})
        on conflict do nothing returning id""",
        Json(list(rows)),
    )
    ids = {str(record["id"]) for record in inserted}
    fresh = [row for row in rows if row["id"] in ids and row["identities"]]
    if fresh:
        await connection.execute(
            """insert into auth.identities
              (id, provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
            select identity.id, identity.provider_id, given.id, identity.identity_data, identity.provider,
              given.last_sign_in_at, given.created_at, given.created_at
            from jsonb_to_recordset($1::jsonb) as given
                (id uuid, last_sign_in_at timestamptz, created_at timestamptz, identities jsonb),
              jsonb_to_recordset(given.identities) as identity
                (id uuid, provider text, provider_id text, identity_data jsonb)
            on conflict do nothing""",
            Json(fresh),
        )
    return ids


async def known(connection: Connection, rows: Sequence[dict[str, Any]]) -> tuple[set[str], set[str], set[str]]:
    """Which of these ids, addresses and numbers there are already."""
    found = await connection.fetch(
        """select id, case when not is_sso_user then lower(email) end as email, phone from auth.users
        where id = any($1::uuid[]) or email = any($2::text[]) or phone = any($3::text[])""",
        [row["id"] for row in rows],
        [row["email"] for row in rows if row["email"]],
        [row["phone"] for row in rows if row["phone"]],
    )
    return (
        {str(record["id"]) for record in found},
        {record["email"] for record in found if record["email"]},
        {record["phone"] for record in found if record["phone"]},
    )


async def page(connection: Connection, after: str, limit: int) -> list[dict[str, Any]]:
    """The next users by id, with hashes and identities, as JSON objects; without those that were deleted softly."""
    records = await connection.fetch(
        """select u.id, (to_jsonb(u)
            - array['instance_id', 'confirmation_token', 'recovery_token', 'email_change_token_new',
              'email_change_token_current', 'phone_change_token', 'reauthentication_token', 'email_change',
              'phone_change', 'email_change_confirm_status', 'confirmed_at', 'is_super_admin', 'deleted_at',
              'confirmation_sent_at', 'recovery_sent_at', 'email_change_sent_at', 'phone_change_sent_at',
              'reauthentication_sent_at']
            || jsonb_build_object('identities', coalesce(
              (select jsonb_agg(jsonb_build_object('id', i.id, 'provider', i.provider, 'provider_id', i.provider_id,
                'identity_data', i.identity_data) order by i.created_at, i.id)
               from auth.identities i where i.user_id = u.id), '[]'))) as person
        from auth.users u where u.id > $1::uuid and u.deleted_at is null order by u.id limit $2""",
        after,
        limit,
    )
    return [dict(record["person"]) for record in records]


async def count(connection: Connection) -> int:
    """How many users there are to export."""
    return int(await connection.fetchval("select count(*) from auth.users where deleted_at is null"))
