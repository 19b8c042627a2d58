"""`socle serve auth` in the auth container's place: its environment, its database, its addresses."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from harness.postgres import TestServer
from socle_app.serve_auth import AuthOptions, CannotListen, SchemaTooOld, load_options, open_auth
from socle_platform.config.reader import ConfigError

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
BODY = {"email": "ada@example.com", "password": "correct horse battery"}


def options_for(dsn: str, **more: str) -> AuthOptions:
    return load_options(
        {
            "GOTRUE_DB_DATABASE_URL": dsn,
            "GOTRUE_JWT_SECRET": SECRET,
            "GOTRUE_API_HOST": "127.0.0.1",
            "GOTRUE_API_PORT": "0",
            "GOTRUE_MAILER_AUTOCONFIRM": "true",
            "SOCLE_PASSWORD_HASH_MEMORY_KIB": "64",
            "SOCLE_PASSWORD_HASH_PASSES": "1",
            **more,
        }
    )


@asynccontextmanager
async def served(options: AuthOptions) -> AsyncGenerator[httpx.AsyncClient]:
    async with open_auth(options) as address, httpx.AsyncClient(base_url=address) as client:
        yield client


async def test_a_database_of_this_platform(server: TestServer, database_name: str) -> None:
    async with served(options_for(server.dsn(database_name, "supabase_auth_admin"))) as client:
        for prefix in ("", "/auth/v1"):
            answer = await client.post(f"{prefix}/signup", json={**BODY, "email": f"ada{len(prefix)}@example.com"})
            assert answer.status_code == 200
            assert answer.json()["token_type"] == "bearer"
        assert (await client.get("/health")).json()["name"] == "GoTrue"
        assert (await client.get("/auth/v1/settings")).json()["mailer_autoconfirm"] is True
        headers = {
            "origin": "https://x",
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-new",
        }
        preflight = await client.options("/signup", headers=headers)
        assert preflight.headers["access-control-allow-headers"] == "x-new"
        shown = (await client.get("/health")).headers["access-control-expose-headers"]
        assert all(name in shown for name in ("x-total-count", "link", "x-supabase-api-version"))


async def test_a_database_that_the_container_set_up_is_taken_over(server: TestServer, database_name: str) -> None:
    """Everything of ours is gone; what is left is what upstream's migrations make (contract auth.md §6)."""
    await server.run(
        database_name,
        "drop schema socle cascade",
        f'grant create on database "{database_name}" to supabase_auth_admin',  # as upstream's image does
    )
    async with served(options_for(server.dsn(database_name, "supabase_auth_admin"))) as client:
        assert (await client.post("/signup", json=BODY)).status_code == 200
    async with server.open(database_name) as database, database.as_service("auth") as connection:
        assert await connection.fetchval("select count(*) from socle.recovery_codes") == 0
        assert await connection.fetchval("select count(*) from auth.users") == 1


async def test_an_older_schema_is_refused_with_the_way_out(server: TestServer, database_name: str) -> None:
    await server.run(database_name, "delete from auth.schema_migrations where version > '2025'")
    with pytest.raises(SchemaTooOld, match="20241009103726") as caught:
        async with served(options_for(server.dsn(database_name, "supabase_auth_admin"))):
            pass
    assert "auth migrate" in caught.value.hint


async def test_an_empty_database_is_bootstrapped(server: TestServer) -> None:
    async with server.clone("template1") as name, served(options_for(server.dsn(name))) as client:
        assert (await client.post("/signup", json=BODY)).status_code == 200


async def test_a_taken_port_is_named(server: TestServer, database_name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = options_for(server.dsn(database_name, "supabase_auth_admin"), GOTRUE_API_PORT=str(port))
        with pytest.raises(CannotListen, match=str(port)):
            async with served(options):
                pass


def test_what_is_missing_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_options({"GOTRUE_DB_NAMESPACE": "other"})
    text = "\n".join(caught.value.problems)
    assert all(name in text for name in ("DATABASE_URL", "GOTRUE_JWT_SECRET", "GOTRUE_DB_NAMESPACE"))


def test_the_containers_own_names() -> None:
    options = load_options({"DATABASE_URL": "postgres://x/y", "GOTRUE_JWT_SECRET": SECRET, "PORT": "9999"})
    assert (options.port, options.host, options.dsn) == (9999, "0.0.0.0", "postgres://x/y")
    assert SECRET not in repr(options)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://x/y?search_path=auth", "postgres://x/y"),
        ("postgres://x/y?search_path=auth&sslmode=disable", "postgres://x/y?sslmode=disable"),
        ("postgres://x/y?sslmode=disable", "postgres://x/y?sslmode=disable"),
    ],
)
def test_the_search_path_of_the_containers_address_is_left_out(given: str, used: str) -> None:
    assert load_options({"DATABASE_URL": given, "GOTRUE_JWT_SECRET": SECRET}).dsn == used
