"""What outlives a change of signing keys: sessions by their refresh token, secrets of custom providers at rest."""

from __future__ import annotations

import jwt

from harness.auth_site import FAST, SECRET, open_site
from socle_app.signing_keys import generate_key
from socle_auth.oauth.client_secrets import seal_secret, unseal_secret
from socle_platform.db import Database
from socle_platform.keys import Key, parse_jwk, secret_key


def signing_key() -> Key:
    return parse_jwk(generate_key("in_use").jwk)


async def test_a_sealed_secret_opens_after_its_times_signing_key_is_revoked(database: Database) -> None:
    async with open_site(database, FAST, keys=(signing_key(),)) as site:
        stored = seal_secret(site.service, "row", "our-secret")
        assert "our-secret" not in stored
        site.service.resources.keyring.replace((signing_key(), secret_key(SECRET, signing=False)))
        assert unseal_secret(site.service, "row", stored) == "our-secret"


async def test_a_session_goes_on_under_the_next_key(database: Database) -> None:
    first, second = signing_key(), signing_key()
    async with open_site(database, FAST, keys=(first,)) as site:
        session = await site.signed_in()
        assert jwt.get_unverified_header(session["access_token"])["kid"] == first.kid
        site.service.resources.keyring.replace((second, secret_key(SECRET, signing=False)))
        refused = await site.get("/user", token=session["access_token"])
        assert refused.status_code == 403
        answer = await site.refresh(session["refresh_token"])
        assert answer.status_code == 200
        renewed = answer.json()["access_token"]
        assert jwt.get_unverified_header(renewed)["kid"] == second.kid
        assert (await site.get("/user", token=renewed)).status_code == 200
