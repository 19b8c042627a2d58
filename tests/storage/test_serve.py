"""`socle serve storage`: the container's environment, on a database that this platform did not set up."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import httpx
import pytest

from harness.postgres import TestServer
from harness.storage import SECRET
from socle_app.serve_storage import CannotListen, load_options, open_storage
from socle_platform.blobs import BlobStoreUnusable
from socle_platform.config.reader import ConfigError
from socle_platform.keys import Keyring, parse_jwk, secret_key
from socle_storage.store.bookkeeping import BookkeepingRefused, StorageSchemaMissing


def environ(server: TestServer, database: str, folder: Path, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": server.dsn(database, "supabase_storage_admin"),
        "PGRST_JWT_SECRET": SECRET,
        "ANON_KEY": "unused",
        "SERVICE_KEY": "unused",
        "STORAGE_BACKEND": "file",
        "FILE_STORAGE_BACKEND_PATH": str(folder),
        "FILE_SIZE_LIMIT": "1000",
        "TENANT_ID": "stub",
        "GLOBAL_S3_BUCKET": "stub",
        "REGION": "stub",
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": "0",
        **more,
    }


async def test_it_stands_in_for_the_container(server: TestServer, database_name: str, folder: Path) -> None:
    """On a database with the storage schema and data, but without our bookkeeping."""
    admin = await asyncpg.connect(server.dsn(database_name))
    await admin.execute("drop schema storage_internal cascade")
    await admin.execute(f'grant create on database "{database_name}" to supabase_storage_admin')
    await admin.execute("insert into storage.buckets (id, name, public) values ('b', 'b', true)")
    version = "11111111-1111-4111-8111-111111111111"
    await admin.execute(
        "insert into storage.objects (bucket_id, name, version, metadata) values ('b', 'dir/old.txt', $1, $2)",
        version,
        json.dumps({"eTag": '"x"', "size": 3, "mimetype": "text/plain"}),
    )
    old = folder / "stub" / "stub" / "b" / "dir" / "old.txt" / version
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    service = {"authorization": f"Bearer {Keyring([secret_key(SECRET)]).sign({'role': 'service_role'})}"}
    async with (
        open_storage(load_options(environ(server, database_name, folder))) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        assert (await http.get("/status")).status_code == 200
        assert (await http.get("/health")).json() == {"healthy": True}
        assert (await http.get("/object/public/b/dir/old.txt")).content == b"old"
        answer = await http.post("/object/b/new.txt", content=b"x" * 1000, headers=service)
        assert answer.status_code == 200, answer.text
        answer = await http.post("/object/b/large.txt", content=b"x" * 1001, headers=service)
        assert answer.json()["code"] == "EntityTooLarge"
        await http.put("/object/b/dir/old.txt", content=b"newer", headers=service)
        assert (await http.get("/object/public/b/dir/old.txt")).content == b"newer"
    listed = await admin.fetchval("select key from storage_internal.blob_gc")
    assert listed == f"b/dir/old.txt/{version}"
    async with (
        open_storage(load_options(environ(server, database_name, folder))) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        assert (await http.get("/object/public/b/new.txt")).status_code == 200
    await admin.close()


async def test_what_it_cannot_start_with(server: TestServer, database_name: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        load_options(
            {
                "STORAGE_BACKEND": "tape",
                "FILE_SIZE_LIMIT": "huge",
                "JWT_JWKS": "{",
                "SERVER_PORT": "99999",
                "REQUEST_X_FORWARDED_HOST_REGEXP": "(",
            }
        )
    text = "\n".join(wrong.value.problems)
    for name in ("STORAGE_BACKEND", "UPLOAD_FILE_SIZE_LIMIT", "JWT_JWKS", "SERVER_PORT", "DATABASE_URL"):
        assert name in text
    assert "AUTH_JWT_SECRET" in text
    assert "REQUEST_X_FORWARDED_HOST_REGEXP" in text
    with pytest.raises(ConfigError, match="STORAGE_S3_BUCKET"):
        load_options(environ(server, database_name, folder, STORAGE_BACKEND="s3", GLOBAL_S3_BUCKET=""))
    with pytest.raises(CannotListen, match="SERVER_PORT"):
        async with open_storage(load_options(environ(server, database_name, folder, SERVER_HOST="192.0.2.1"))):
            pass
    (folder / "file").write_text("x")
    with pytest.raises(BlobStoreUnusable):
        async with open_storage(load_options(environ(server, database_name, folder / "file"))):
            pass
    with pytest.raises(StorageSchemaMissing):
        async with open_storage(load_options(environ(server, "postgres", folder))):
            pass


async def test_a_login_without_rights_is_told_what_it_needs(
    server: TestServer, database_name: str, folder: Path
) -> None:
    await server.run(database_name, "drop schema storage_internal cascade")
    with pytest.raises(BookkeepingRefused) as refused:
        async with open_storage(load_options(environ(server, database_name, folder))):
            pass
    assert "permission denied for database" in refused.value.message
    assert "grant create on database" in refused.value.hint


async def test_tokens_of_a_key_set(server: TestServer, database_name: str, folder: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    private = ec.generate_private_key(ec.SECP256R1())
    jwk = {**ECAlgorithm.to_jwk(private, as_dict=True), "kid": "k1", "alg": "ES256"}
    public = {name: value for name, value in jwk.items() if name != "d"}
    other = environ(server, database_name, folder, JWT_JWKS=json.dumps({"keys": [public]}))
    token = Keyring([parse_jwk({**jwk, "key_ops": ["sign"]})]).sign({"role": "service_role"})
    async with open_storage(load_options(other)) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.post("/bucket", json={"name": "x"}, headers={"authorization": f"Bearer {token}"})
        assert answer.json() == {"name": "x"}
        signed = await http.post(
            "/object/sign/x", json={"expiresIn": 5, "paths": ["a"]}, headers={"authorization": f"Bearer {token}"}
        )
        assert signed.status_code == 200
