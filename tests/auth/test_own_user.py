"""GET /user is written by PostgreSQL: it says what every other answer says of the same rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.auth_site import AuthSite
from socle_auth import wire
from socle_auth.store import own_user, users

_ODD = "update auth.users set {change} where id = $1"
_FACTOR = """insert into auth.mfa_factors
    (id, user_id, friendly_name, factor_type, status, created_at, updated_at, secret, phone, last_challenged_at,
     web_authn_credential, web_authn_aaguid, last_webauthn_challenge_data)
  values (gen_random_uuid(), $1, $2, $3::auth.factor_type, 'verified', now(), now(), 'the secret', $4, $5, '{"a": 1}',
     $6::uuid, $7::jsonb)"""

CHANGES = (
    "aud = aud",
    "created_at = null, updated_at = null, confirmation_token = null",
    "raw_app_meta_data = null, raw_user_meta_data = null",
    """raw_app_meta_data = '[1]', raw_user_meta_data = 'null'""",
    """raw_user_meta_data = '{"empty": null, "deep": {"x": [1.50, 1e30, null, true, "é\\"\\u2028"]}, "": ""}'""",
    "email_change = 'new@example.com', phone_change = '33600000000', phone = '33611111111'",
    "email = null, email_confirmed_at = null, role = null, is_anonymous = true",
    "banned_until = 'infinity', last_sign_in_at = '-infinity'",
    "created_at = '0044-03-15 BC', updated_at = '10000-01-01', invited_at = '0001-01-01 00:00:00Z'",
    "banned_until = '2001-02-03 04:05:06.7+05:30', deleted_at = '1999-12-31 23:59:59.999999-11', "
    "invited_at = '2030-01-01', confirmation_sent_at = now(), recovery_sent_at = now(), phone_confirmed_at = now(), "
    "email_change_sent_at = now(), phone_change_sent_at = now(), reauthentication_sent_at = now()",
)


async def both_renderings(site: AuthSite, user_id: str) -> tuple[Any, Any]:
    found = await own_user.find(site.database, user_id, None, site.clock.now())
    assert found is not None
    async with site.database.as_service("auth") as connection:
        user = await users.find(connection, user_id)
    assert user is not None
    return json.loads(found.body), json.loads(json.dumps(wire.render_user(user)))


@pytest.mark.parametrize("change", CHANGES)
async def test_it_says_what_other_answers_say(site: AuthSite, change: str) -> None:
    user_id = (await site.create_user(user_metadata={"name": "Ada"}))["id"]
    await site.run(_ODD.format(change=change), user_id)
    written, rendered = await both_renderings(site, user_id)
    assert written == rendered


async def test_factors_and_identities_too(site: AuthSite) -> None:
    user_id = (await site.create_user())["id"]
    await site.run(_FACTOR, user_id, "phone", "phone", "33622222222", None, None, None)
    await site.run(_FACTOR, user_id, "", "webauthn", None, site.clock.now(), user_id, '{"challenge": {"empty": null}}')
    await site.run(
        """insert into auth.identities
          (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
        values ('7', $1, '{"sub": "7", "email": null}', 'github', null, null, '2020-02-29'),
          ('8', $1, '{"email": "Other@Example.com", "custom_claims": {"a": null}}', 'gitlab', now(), now(), now())""",
        user_id,
    )
    written, rendered = await both_renderings(site, user_id)
    assert written == rendered
    text = json.dumps(written)
    assert "the secret" not in text
    assert '"custom_claims": {"a": null}' in text
    assert len(written["factors"]) == 2
    assert len(written["identities"]) == 3


async def test_the_time_zone_of_the_database_does_not_show(site: AuthSite) -> None:
    user_id = (await site.create_user())["id"]
    database = (await site.row("select current_database() as name"))["name"]
    await site.run(f"""alter role supabase_auth_admin in database "{database}" set timezone = 'Asia/Kolkata'""")
    site.database.renew_sessions()
    written, rendered = await both_renderings(site, user_id)
    assert written == rendered


async def test_a_session_of_somebody_else_is_no_session(site: AuthSite) -> None:
    ada, bob = await site.signed_in(), await site.signed_in(email="bob@example.com")
    session_id = site.keyring.verify(bob["access_token"]).claims["session_id"]
    now = int(site.clock.seconds())
    forged = site.keyring.sign(
        {
            "sub": ada["user"]["id"],
            "role": "authenticated",
            "aud": "authenticated",
            "session_id": session_id,
            "exp": now + 60,
        }
    )
    answer = await site.get("/user", token=forged)
    assert (answer.status_code, answer.json()["code"]) == (403, "session_not_found")
