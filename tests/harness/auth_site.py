"""The auth service in the test's process: a real database, a clock that the test moves, an outbox that it reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx

from socle_auth import routes
from socle_auth.context import AuthService
from socle_platform.config.auth import (
    Argon2Settings,
    AuthSettings,
    JwtSettings,
    PasswordSettings,
    Rate,
    RateLimitSettings,
)
from socle_platform.db import Database
from socle_platform.errors import SocleError
from socle_platform.events import Observation
from socle_platform.keys import Key, Keyring, secret_key
from socle_platform.ports import HttpClient, Mail, Resources

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
PASSWORD = "correct horse battery"
SITE = "http://localhost:3000"
API = "http://localhost:9999"

FAST = AuthSettings(
    site_url=SITE,
    external_url=API,
    uri_allow_list=("http://localhost:3000/**", "https://app.example.com/**", "com.app://**"),
    jwt=JwtSettings(issuer=API),
    password=PasswordSettings(argon2=Argon2Settings(memory_kib=64, passes=1, workers=2)),
    rates=RateLimitSettings(
        token_refresh=10_000,
        otp=10_000,
        verify=10_000,
        anonymous_users=10_000,
        email_sent=Rate(10_000),
        sms_sent=Rate(10_000),
    ),
)
"""Cheap hashes and generous limits; a test changes what it is about."""


class MovableClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **parts: float) -> None:
        """`advance(minutes=5)`: forward, never back."""
        self.moment += timedelta(**parts)

    def seconds(self) -> float:
        return self.moment.timestamp()


class MailNotTaken(SocleError):
    """The mail server is dead."""


@dataclass
class Outbox:
    """A mailer port that keeps what it is given, or refuses everything."""

    mails: list[Mail] = field(default_factory=list[Mail])
    is_dead: bool = False
    is_open: asyncio.Event | None = None

    async def send(self, mail: Mail) -> None:
        if self.is_open is not None:
            await self.is_open.wait()
        if self.is_dead:
            raise MailNotTaken
        self.mails.append(mail)

    def last(self, to: str | None = None) -> Mail:
        return next(mail for mail in reversed(self.mails) if to is None or mail.to == to)

    def code(self, to: str | None = None) -> str:
        """The code in the last mail."""
        match = re.search(r"\b(\d{6,10})\b", self.last(to).text.replace(self.link(to), ""))
        assert match is not None, self.last(to).text
        return match[1]

    def link(self, to: str | None = None) -> str:
        """The link in the last mail, "" without one."""
        match = re.search(r"https?://\S+token=\S+", self.last(to).text)
        return match[0] if match else ""

    def link_parameters(self, to: str | None = None) -> dict[str, str]:
        return query_of(self.link(to))


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}


def fragment_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).fragment, keep_blank_values=True).items()}


@dataclass
class AuthSite:
    """One running service."""

    service: AuthService
    database: Database
    clock: MovableClock
    outbox: Outbox
    client: httpx.AsyncClient
    observations: list[Observation]

    @property
    def keyring(self) -> Keyring:
        return self.service.resources.keyring

    async def send(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        old_api: bool = False,
    ) -> httpx.Response:
        """One request, as the official client sends it (`old_api` leaves the version header out)."""
        sent = {} if old_api else {"X-Supabase-Api-Version": "2024-01-01"}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return await self.client.request(
            method, path, json=json, headers={**sent, **(headers or {})}, content=content, data=form
        )

    async def post(self, path: str, json: Any = None, **rest: Any) -> httpx.Response:
        empty: dict[str, Any] | None = None if "content" in rest or "form" in rest else {}
        return await self.send("POST", path, empty if json is None else json, **rest)

    async def get(self, path: str, **rest: Any) -> httpx.Response:
        return await self.send("GET", path, **rest)

    async def put(self, path: str, json: Any, **rest: Any) -> httpx.Response:
        return await self.send("PUT", path, json, **rest)

    async def delete(self, path: str, json: Any = None, **rest: Any) -> httpx.Response:
        return await self.send("DELETE", path, json, **rest)

    def admin_token(self, role: str = "service_role", **claims: object) -> str:
        """A key of an administrator, as `socle status` shows one."""
        now = int(self.clock.seconds())
        return self.keyring.sign({"role": role, "iat": now, "exp": now + 3600, **claims})

    async def admin(self, method: str, path: str, json: Any = None, **rest: Any) -> httpx.Response:
        return await self.send(method, path, json, token=self.admin_token(), **rest)

    async def create_user(self, **fields: Any) -> dict[str, Any]:
        """A confirmed user with PASSWORD by the admin route, unless told otherwise."""
        body = {"email": "ada@example.com", "password": PASSWORD, "email_confirm": True, **fields}
        answer = await self.admin("POST", "/admin/users", {k: v for k, v in body.items() if v is not None})
        assert answer.status_code == 200, answer.text
        user: dict[str, Any] = answer.json()
        return user

    async def sign_in(self, email: str = "ada@example.com", password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.post("/token?grant_type=password", {"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session

    async def signed_in(self, **fields: Any) -> dict[str, Any]:
        """A new confirmed user's session."""
        user = await self.create_user(**fields)
        return await self.sign_in(user["email"])

    async def sign_in_after_confirming(self, user_id: str) -> dict[str, Any]:
        """Confirms the address by the admin route and signs in."""
        user = (await self.admin("PUT", f"/admin/users/{user_id}", {"email_confirm": True})).json()
        return await self.sign_in(user["email"])

    async def refresh(self, refresh_token: str) -> httpx.Response:
        return await self.post("/token?grant_type=refresh_token", {"refresh_token": refresh_token})

    async def rows(self, sql: str, *args: object) -> list[dict[str, Any]]:
        async with self.database.as_service("auth") as connection:
            return await connection.fetch(sql, *args)

    async def row(self, sql: str, *args: object) -> dict[str, Any]:
        found = await self.rows(sql, *args)
        assert len(found) == 1, found
        return found[0]

    async def run(self, sql: str, *args: object) -> None:
        async with self.database.as_service("auth") as connection:
            await connection.execute(sql, *args)

    async def user_row(self, email: str = "ada@example.com") -> dict[str, Any]:
        return await self.row("select * from auth.users where email = $1", email)


def claims_of(session: Mapping[str, Any], keyring: Keyring) -> Mapping[str, Any]:
    """The proven claims of a session's access token."""
    return cast("Mapping[str, Any]", keyring.verify(session["access_token"]).claims)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error in the present format."""
    assert answer.status_code >= 400, answer.text
    assert answer.headers["x-supabase-api-version"] == "2024-01-01"
    return answer.status_code, str(answer.json()["code"])


@asynccontextmanager
async def open_site(
    database: Database,
    settings: AuthSettings = FAST,
    *,
    keys: tuple[Key, ...] = (),
    http: HttpClient | None = None,
    clock: MovableClock | None = None,
    address: str = "127.0.0.1",
) -> AsyncGenerator[AuthSite]:
    """The service on `database`; `keys` stand before the shared secret; callers come from `address`."""
    clock = clock or MovableClock()
    outbox = Outbox()
    observations = list[Observation]()
    keyring = Keyring((*keys, secret_key(SECRET, signing=not keys)), time_of_day=clock.seconds)
    resources = Resources(
        database=database, keyring=keyring, clock=clock, mailer=outbox, http=http, observe=observations.append
    )
    service = routes.open_service(settings, resources)
    transport = httpx.ASGITransport(app=routes.application(service), client=(address, 50000))
    try:
        async with httpx.AsyncClient(transport=transport, base_url=API) as client:
            yield AuthSite(service, database, clock, outbox, client, observations)
    finally:
        service.hasher.close()


def changed(settings: AuthSettings = FAST, /, **parts: Any) -> AuthSettings:
    """Settings with parts replaced; `security__captcha=…` reaches into a nested one."""
    nested = dict[str, dict[str, Any]]()
    plain = dict[str, Any]()
    for name, value in parts.items():
        head, _, tail = name.partition("__")
        if tail:
            nested.setdefault(head, {})[tail] = value
        else:
            plain[head] = value
    for head, inner in nested.items():
        plain[head] = _replaced(getattr(settings, head), inner)
    return replace(settings, **plain)


def _replaced(value: Any, inner: Mapping[str, Any]) -> Any:
    direct = {name: item for name, item in inner.items() if "__" not in name}
    for name in {name.partition("__")[0] for name in inner if "__" in name}:
        deeper = {key.partition("__")[2]: item for key, item in inner.items() if key.startswith(f"{name}__")}
        direct[name] = _replaced(getattr(value, name), deeper)
    return replace(value, **direct)
