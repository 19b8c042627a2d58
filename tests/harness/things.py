"""A table under row level security, its users, and short ways to ask for it; for tests of `Database`."""

from __future__ import annotations

import asyncio
from typing import Any

from socle_platform.db import Database, Prepared, Result
from socle_platform.identity import Identity, RequestFacts

FACTS = RequestFacts("POST", "/things", '{"x-one":"1"}', '{"c":"d"}')
ALICE = "7c0d2e6e-3b4e-4c12-9d7c-00000000000a"
BOB = "7c0d2e6e-3b4e-4c12-9d7c-00000000000b"

SCHEMA = (
    "create table public.things (id int primary key, owner uuid default auth.uid(), note text)",
    "alter table public.things enable row level security",
    "create policy own on public.things to authenticated using (owner = auth.uid()) with check (owner = auth.uid())",
    "create table public.firm (id int primary key, twin int references public.firm deferrable initially deferred)",
    "grant all on public.things, public.firm to anon, authenticated, service_role",
)


def user(subject: str) -> Identity:
    """A signed-in user."""
    claims = {"role": "authenticated", "sub": subject}
    return Identity("authenticated", subject, claims, f'{{"role":"authenticated","sub":"{subject}"}}')


async def fill(database: Database) -> None:
    """Makes the tables, one thing of Alice's (1, a) and one of Bob's (2, b)."""
    async with database.as_service("platform") as connection:
        for sql in SCHEMA:
            await connection.execute(sql)
        await connection.execute("insert into public.things values (1, $1, 'a'), (2, $2, 'b')", ALICE, BOB)


async def notes(database: Database, who: Identity) -> list[Any]:
    """The notes that `who` may read, by id."""
    async with database.acting_as(who, FACTS, read_only=True) as connection:
        return [row["note"] for row in await connection.fetch("select note from public.things order by id")]


async def run(database: Database, who: Identity, sql: str, *args: bytes | None, **options: Any) -> Result:
    """One statement with parameters as bytes."""
    return await database.run_as(who, FACTS, Prepared(sql, args), **options)


async def until(database: Database, question: str) -> None:
    """Asks until the answer is true; each time anew, for a transaction sees one snapshot of the server's activity."""
    async with asyncio.timeout(5):
        while True:
            async with database.as_service("platform") as connection:
                if await connection.fetchval(question):
                    return
