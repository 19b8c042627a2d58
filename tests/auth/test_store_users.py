"""Looking users up stays fast when there are many."""

from __future__ import annotations

import asyncpg

from harness.postgres import TestServer
from socle_auth.store import users
from socle_platform.db import Database


async def test_an_address_is_found_by_index(server: TestServer, database_name: str, database: Database) -> None:
    await server.run(
        database_name,
        """insert into auth.users (instance_id, id, aud, email)
        select case when n % 2 = 0 then '00000000-0000-0000-0000-000000000000'::uuid end, gen_random_uuid(),
               'authenticated', 'person' || n || '@example.com'
        from generate_series(1, 20000) n""",
        "analyze auth.users",
    )
    statements: list[str] = []

    class Recording:
        """Keeps the statement and runs it."""

        def __init__(self, connection: object) -> None:
            self._connection = connection

        async def fetchrow(self, sql: str, *args: object) -> object:
            statements.append(sql)
            return await self._connection.fetchrow(sql, *args)  # type: ignore[attr-defined]  # a Connection

    async with database.as_service("auth") as connection:
        for name in ("person1@example.com", "Person2@Example.com"):
            found = await users.find_by_email(Recording(connection), name, "authenticated")  # type: ignore[arg-type]
            assert found is not None
            assert found.email == name.lower()
    driver = await asyncpg.connect(server.dsn(database_name))
    try:
        plan = await driver.fetch(f"explain {statements[0]}", "person1@example.com", "authenticated")
    finally:
        await driver.close()
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on users" not in text, text
