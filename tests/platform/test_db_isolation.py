"""Nobody ever sees another's rows: many users on few sessions, among failures, cancellations and abuse."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from harness.postgres import TestServer
from socle_platform.db import Connection, Database, DatabaseError, Prepared, Row
from socle_platform.identity import Identity, RequestFacts

USERS = 50
REQUESTS = 5000
ROWS_EACH = 4
IN_FLIGHT = 16

SCHEMA = (
    "create table public.secrets (id int primary key, owner uuid not null, note text)",
    "create index on public.secrets (owner)",
    "alter table public.secrets enable row level security",
    "create policy own on public.secrets for all to authenticated"
    " using (owner = auth.uid()) with check (owner = auth.uid())",
    "grant all on public.secrets to authenticated, service_role",
    # What a careless or malicious function may do to the session it runs in.
    """create function public.abuse(victim text) returns int language plpgsql volatile as $$
    begin
      perform set_config('request.jwt.claims', json_build_object('sub', victim, 'role', 'service_role')::text, false);
      perform set_config('search_path', 'pg_temp', false);
      perform set_config('statement_timeout', '0', false);
      perform set_config('app.abused', victim, false);
      perform set_config('role', 'service_role', false);
      return 1;
    end $$""",
    # The same under a false flag: it may run in read-only requests, whose sessions are not cleaned up.
    """create function public.sly_abuse(victim text) returns int language plpgsql stable as $$
    begin
      perform set_config('request.jwt.claims', json_build_object('sub', victim, 'role', 'service_role')::text, false);
      perform set_config('search_path', 'pg_temp', false);
      perform set_config('role', 'service_role', false);
      return 1;
    end $$""",
    """create function public.shadow() returns int language plpgsql volatile as $$
    begin
      create temp table if not exists secrets (id int, owner uuid, note text);
      execute 'deallocate all';
      return 1;
    end $$""",
)

READ = "select owner, note, current_user, auth.uid(), current_setting('app.abused', true) from public.secrets"


def user(number: int) -> Identity:
    subject = str(UUID(int=number + 1))
    claims = {"role": "authenticated", "sub": subject}
    return Identity("authenticated", subject, claims, json.dumps(claims))


class Callers:
    """The kinds of request. Each asserts what its own user may see; the outcomes are counted."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.counted: Counter[str] = Counter()
        self.ids = iter(range(10_000, 1_000_000))

    def check(self, who: Identity, rows: list[Row]) -> None:
        subject = (who.subject or "").encode()
        assert len(rows) == ROWS_EACH, (who.subject, rows)
        for owner, note, role, uid, abused in rows:
            assert (owner, role, uid) == (subject, b"authenticated", subject)
            assert note == b"note of " + subject
            assert not abused

    async def read(self, who: Identity) -> None:
        result = await self.database.run_as(who, RequestFacts(), Prepared(READ), read_only=True)
        self.check(who, result.rows)

    async def read_in_a_transaction(self, who: Identity) -> None:
        result = await self.database.run_as(
            who, RequestFacts(), Prepared(READ), read_only=True, isolation="repeatable read"
        )
        self.check(who, result.rows)

    async def read_a_stream(self, who: Identity) -> None:
        async with self.database.stream_as(who, RequestFacts(), Prepared(READ), batch=3) as batches:
            self.check(who, [row async for rows in batches for row in rows])

    async def read_in_a_block(self, who: Identity) -> None:
        async with self.database.acting_as(who, RequestFacts(), read_only=True) as connection:
            for _ in range(2):
                await self.check_block(connection, who)

    async def check_block(self, connection: Connection, who: Identity) -> None:
        rows = await connection.fetch("select owner, auth.uid() as uid, current_user as role from public.secrets")
        assert rows == [{"owner": who.subject, "uid": who.subject, "role": "authenticated"}] * ROWS_EACH

    async def write_and_take_back(self, who: Identity) -> None:
        sql = "insert into public.secrets values ($1, auth.uid(), 'x') returning owner"
        statement = Prepared(sql, (str(next(self.ids)).encode(),))
        result = await self.database.run_as(who, RequestFacts(), statement, rollback=True)
        assert result.rows == [((who.subject or "").encode(),)]

    async def write_for_another(self, who: Identity) -> None:
        other = user((int(UUID(who.subject or "")) + 1) % USERS)
        sql = "insert into public.secrets values ($1, $2, 'forged')"
        args = (str(next(self.ids)).encode(), (other.subject or "").encode())
        await self.expect("42501", self.database.run_as(who, RequestFacts(), Prepared(sql, args)))

    async def fail(self, who: Identity) -> None:
        failing = self.chance.choice(
            [
                Prepared("select 1 / (id - id) from public.secrets"),
                Prepared("select * from public.nowhere"),
                Prepared("select $1::int", (b"x",)),
            ]
        )
        await self.expect(None, self.database.run_as(who, RequestFacts(), failing))

    async def fail_with_a_role(self, who: Identity) -> None:
        stranger = Identity(self.chance.choice(("postgres", "nobody")), who.subject, who.claims, who.claims_json)
        await self.expect(None, self.database.run_as(stranger, RequestFacts(), Prepared(READ)))

    async def expect(self, sqlstate: str | None, request: Awaitable[object]) -> None:
        with pytest.raises(DatabaseError) as caught:
            await request
        assert sqlstate in (None, caught.value.sqlstate)

    async def give_up(self, who: Identity) -> None:
        slow = Prepared("select pg_sleep(10) from public.secrets")
        task = asyncio.ensure_future(self.database.run_as(who, RequestFacts(), slow, read_only=True))
        await asyncio.sleep(self.chance.choice((0, 0, 0.001, 0.003)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def give_up_a_block(self, who: Identity) -> None:
        async def work() -> None:
            async with self.database.acting_as(who, RequestFacts()) as connection:
                await self.check_block(connection, who)
                await connection.execute("select pg_sleep(10)")

        task = asyncio.ensure_future(work())
        await asyncio.sleep(self.chance.choice((0, 0.001, 0.003)))
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError), outcome

    async def abuse(self, who: Identity) -> None:
        victim = (user(self.chance.randrange(USERS)).subject or "").encode()
        function = self.chance.choice(("abuse", "sly_abuse"))
        statement = Prepared(f"select public.{function}($1)", (victim,))
        await self.database.run_as(who, RequestFacts(), statement, read_only=function == "sly_abuse")

    async def shadow(self, who: Identity) -> None:
        await self.database.run_as(who, RequestFacts(), Prepared("select public.shadow()"))

    async def one(self) -> None:
        kinds: list[tuple[int, Callable[[Identity], Awaitable[None]]]] = [
            (60, self.read),
            (6, self.read_in_a_transaction),
            (4, self.read_a_stream),
            (8, self.read_in_a_block),
            (4, self.write_and_take_back),
            (3, self.write_for_another),
            (4, self.fail),
            (2, self.fail_with_a_role),
            (2, self.give_up),
            (1, self.give_up_a_block),
            (5, self.abuse),
            (1, self.shadow),
        ]
        (kind,) = self.chance.choices([call for _, call in kinds], [weight for weight, _ in kinds])
        await kind(user(self.chance.randrange(USERS)))
        self.counted[kind.__name__] += 1


async def test_5000_requests_of_50_users_on_4_sessions(database: Database, server: TestServer) -> None:
    async with database.as_service("platform") as connection:
        for sql in SCHEMA:
            await connection.execute(sql)
        for number in range(USERS * ROWS_EACH):
            owner = user(number % USERS).subject
            sql = "insert into public.secrets values ($1, $2::uuid, 'note of ' || $2::uuid)"
            await connection.execute(sql, number, owner)
    callers = Callers(database, seed=20240601)
    remaining = iter(range(REQUESTS))

    async def work() -> None:
        for _ in remaining:
            await callers.one()

    await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])
    assert sum(callers.counted.values()) == REQUESTS
    assert len(callers.counted) == 12, callers.counted
    state = database.pool_states()["api"]
    assert state.size <= state.limit == 4
    async with database.as_service("platform") as connection:
        assert await connection.fetchval("select count(*) from public.secrets") == USERS * ROWS_EACH
