"""A storage service in a test's hands: its HTTP client, tokens of every role, and the database past all policies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from socle_platform.events import Observation
from socle_platform.keys import Keyring
from socle_platform.ports import Resources
from socle_storage.context import Storage
from socle_storage.errors import Code, StorageError

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"


@dataclass(slots=True)
class Lab:
    """Everything a test touches: the service, its HTTP client, tokens, and the database past all policies."""

    storage: Storage
    url: str
    http: httpx.AsyncClient
    keyring: Keyring
    admin: asyncpg.Connection[asyncpg.Record]
    folder: Path
    seen: list[Observation] = field(default_factory=list[Observation])

    def token(self, role: str, sub: str | None = None, *, expires_in: int = 3600, **claims: object) -> str:
        """A signed token of that role."""
        body: dict[str, object] = {"role": role, "exp": int(time.time()) + expires_in, **claims}
        return self.keyring.sign(body if sub is None else {**body, "sub": sub})

    def bearer(self, role: str, sub: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(role, sub)}"}

    @property
    def resources(self) -> Resources:
        """What the roof would give the service."""
        storage = self.storage
        return Resources(storage.store.database, self.keyring, blobs=storage.blobs, observe=self.seen.append)

    @property
    def service(self) -> dict[str, str]:
        return self.bearer("service_role")

    @property
    def alice(self) -> dict[str, str]:
        return self.bearer("authenticated", ALICE)

    @property
    def bob(self) -> dict[str, str]:
        return self.bearer("authenticated", BOB)

    @property
    def anon(self) -> dict[str, str]:
        return self.bearer("anon")

    async def bucket(self, name: str = "", **columns: object) -> str:
        """A new bucket by SQL."""
        name = name or f"bucket-{uuid.uuid4().hex[:8]}"
        names = ["id", "name", *columns]
        places = ", ".join(f"${index + 1}" for index in range(len(names)))
        await self.admin.execute(
            f"insert into storage.buckets ({', '.join(names)}) values ({places})", name, name, *columns.values()
        )
        return name

    async def policy(self, action: str, role: str = "authenticated", check: str = "true") -> None:
        """A policy on storage.objects: `action` is select, insert, update, delete or all."""
        using = "" if action == "insert" else f"using ({check})"
        with_check = "" if action in {"select", "delete"} else f"with check ({check})"
        await self.admin.execute(
            f'create policy "p{uuid.uuid4().hex}" on storage.objects for {action} to {role} {using} {with_check}'
        )

    async def put(
        self, bucket: str, name: str, body: bytes = b"hello", *, who: Mapping[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """A plain upload; header names are given with underscores."""
        extra = {key.replace("_", "-"): value for key, value in headers.items()}
        extra.setdefault("content-type", "text/plain")
        return await self.http.post(
            f"/object/{bucket}/{name}", content=body, headers={**(who or self.service), **extra}
        )

    async def row(self, bucket: str, name: str) -> dict[str, Any] | None:
        """The row of an object, past all policies."""
        found = await self.admin.fetchrow(
            "select * from storage.objects where bucket_id = $1 and name = $2", bucket, name
        )
        return None if found is None else dict(found)

    async def versions(self) -> set[str]:
        """The versions that rows name."""
        return {row["version"] for row in await self.admin.fetch("select version from storage.objects")}

    async def stored(self) -> set[str]:
        """The versions that the blob store holds."""
        return {blob.version async for blob in self.storage.blobs.scan()}


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Real status, statusCode and code of an error answer."""
    body = response.json()
    assert set(body) == {"statusCode", "error", "message", "code"}, body
    return response.status_code, body["statusCode"], body["code"]


def code_of(ask: Callable[[], object]) -> Code | None:
    """The code with which it is refused; None when it is not."""
    try:
        ask()
    except StorageError as error:
        return error.code
    return None
