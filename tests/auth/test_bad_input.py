"""Whatever is sent, the answer is the wire's own error and never a 500 (every route of the core)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from harness.auth_site import PASSWORD, AuthSite, changed, open_site
from socle_auth.routes import all_routes
from socle_platform.db import Database

FIELDS = [
    "email",
    "phone",
    "password",
    "data",
    "channel",
    "code_challenge",
    "code_challenge_method",
    "refresh_token",
    "auth_code",
    "code_verifier",
    "create_user",
    "type",
    "token",
    "token_hash",
    "redirect_to",
    "current_password",
    "nonce",
    "app_metadata",
    "user_metadata",
    "id",
    "aud",
    "role",
    "password_hash",
    "email_confirm",
    "phone_confirm",
    "ban_duration",
    "should_soft_delete",
    "new_email",
    "friendly_name",
    "factor_type",
    "issuer",
    "challenge_id",
    "code",
    "provider",
    "id_token",
    "access_token",
    "chain",
    "message",
    "signature",
    "domain",
    "provider_id",
]
PIECES: tuple[Any, ...] = (
    "",
    "a",
    "ada@example.com",
    "ada@example.com ",
    "Ada <ada@example.com>",
    "x" * 300 + "@example.com",
    "15550101234",
    "+1 (555) 010",
    "é" * 40,
    "'; drop table auth.users; --",
    "%s%n{{ .Token }}${7*7}",
    "..\\..\\etc",
    "\u202e\u0000",
    "\ud800",
    "signup",
    "email_change",
    "recovery",
    "24h",
    "-1h",
    "00000000-0000-0000-0000-000000000000",
    "aaaaaaaaaaaa",
    "A" * 43,
    0,
    -1,
    1.5,
    1e308,
    2**70,
    True,
    None,
    [],
    ["a", 1],
    {},
    {"a": {"b": [None, {"c": "\u0000"}]}},
    {"sub": "x", "email": 7, "__proto__": {}},
)
QUERIES = (
    "",
    "?grant_type=password",
    "?grant_type=refresh_token",
    "?grant_type=pkce",
    "?redirect_to=http://[::1",
    "?redirect_to=//evil&redirect_to=x",
    "?page=%00&per_page=-5&sort=x",
    "?type=%00&token=%ff",
    "?type=recovery&token=pkce_'&redirect_to=%zz",
    "?scope=%F0%9F%92%A9&filter=%25%5C&query=author:%00",
)


def bodies(dice: random.Random, count: int) -> Iterator[bytes]:
    """JSON objects of known fields with surprising values, and a few things that are no JSON."""
    for number in range(count):
        if number % 12 == 0:
            yield dice.choice((b"", b"\x00", b"[1]", b'"x"', b"{", b"\xff\xfe{}", b"null", b"[" * 5000))
            continue
        body = {dice.choice(FIELDS): dice.choice(PIECES) for _ in range(dice.randrange(1, 7))}
        yield json.dumps(body).encode()


async def test_no_input_breaks_the_service(database: Database) -> None:
    dice = random.Random(20261124)  # noqa: S311 - repeatable on purpose
    settings = changed(
        external__anonymous_enabled=True,
        external__phone_enabled=True,
        sms__autoconfirm=True,
        security__manual_linking=True,
        passkey__enabled=True,
        oauth_server__enabled=True,
    )
    async with open_site(database, settings) as site:
        session = await site.signed_in()
        ours = [route for route in all_routes() if not route.path.startswith(("/sso", "/callback"))]
        for route in ours:
            for body in bodies(dice, 8 if route.method in ("POST", "PUT", "PATCH") else 3):
                site.clock.advance(minutes=1)
                path = fill(route.path, dice, session["user"]["id"]) + dice.choice(QUERIES)
                token = dice.choice((None, session["access_token"], site.admin_token(), "nonsense"))
                headers = dice.choice(({}, {"x-forwarded-for": "\x01, ::gg"}, {"x-jwt-aud": "é"}, {"host": "[evil"}))
                content = body if route.method in ("POST", "PUT", "PATCH", "DELETE") else None
                answer = await site.send(route.method, path, content=content, token=token, headers=latin(headers))
                if answer.status_code >= 500:
                    allowed = ("Unable to get SMS provider", "Error creating user")
                    assert any(text in answer.text for text in allowed), (
                        route,
                        path,
                        body,
                        answer.text,
                        failures(site),
                    )
                session = await renewed(site, session)


def latin(headers: dict[str, str]) -> Any:
    return {name: value.encode("latin-1") for name, value in headers.items()}


def failures(site: AuthSite) -> list[object]:
    return [getattr(observation, "error", None) for observation in site.observations[-1:]]


def fill(path: str, dice: random.Random, user_id: str) -> str:
    """A route's path with something in each parameter."""
    parts = [
        dice.choice(("x", user_id, "%00", "..%2f", "💩", "0" * 32)) if part.startswith("{") else part
        for part in path.split("/")
    ]
    return "/".join(parts)


async def renewed(site: AuthSite, session: dict[str, Any]) -> dict[str, Any]:
    """A session that works: some of what was sent signs out or deletes."""
    if site.clock.seconds() < session["expires_at"] - 120:
        answer = await site.get("/user", token=session["access_token"])
        if answer.status_code == 200:
            return session
    await site.run("delete from auth.users where email = 'ada@example.com'")
    return await site.signed_in(password=PASSWORD)
