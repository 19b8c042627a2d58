"""What docs/auth.md tells people who move from a hosted project, done as they do it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import asyncpg

from harness.auth_site import AuthSite, open_site
from harness.postgres import TestServer

ROOT = Path(__file__).parents[2]
TABLES = ("users", "identities", "sessions", "refresh_tokens", "mfa_factors", "mfa_amr_claims", "one_time_tokens")


def test_the_table_of_settings_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "auth-settings"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_links_and_pictures_are_whole() -> None:
    text = (ROOT / "docs" / "auth.md").read_text(encoding="utf-8")
    assert text.count("```") % 2 == 0
    assert len(re.findall(r"^```mermaid$", text, re.MULTILINE)) >= 4


async def test_users_sessions_and_passwords_come_along(site: AuthSite, server: TestServer, database_name: str) -> None:
    """Rows as the project's own role reads and writes them, into a database whose triggers would object."""
    session = await site.signed_in()
    async with server.clone() as other:
        source = await asyncpg.connect(server.url(database_name))
        target = await asyncpg.connect(server.url(other))
        try:
            await target.execute(
                """create function public.object() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
                create trigger object after insert on auth.users for each row execute function public.object()"""
            )
            await target.execute("set session_replication_role = replica")
            for table in TABLES:
                columns = [
                    row["column_name"]
                    for row in await source.fetch(
                        """select column_name from information_schema.columns where table_schema = 'auth'
                        and table_name = $1 and is_generated = 'NEVER' order by ordinal_position""",
                        table,
                    )
                ]
                rows = await source.fetch(f"select {', '.join(columns)} from auth.{table}")
                await target.copy_records_to_table(
                    table, schema_name="auth", columns=columns, records=[tuple(row.values()) for row in rows]
                )
            await target.execute(
                "select setval(pg_get_serial_sequence('auth.refresh_tokens', 'id'), max(id)) from auth.refresh_tokens"
            )
        finally:
            await source.close()
            await target.close()
        async with server.open(other) as moved, open_site(moved, clock=site.clock) as there:
            assert (await there.sign_in())["user"]["id"] == session["user"]["id"]
            answer = await there.post("/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]})
            assert answer.status_code == 200
            assert (await there.get("/user", token=session["access_token"])).status_code == 200
