"""Signing keys turned under a running platform: nobody is signed out, and everybody learns of the new key."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from supabase import create_client

from harness.deno import run_deno
from harness.embedded import open_folder
from harness.program import Program, running_program

PASSWORD = "a-good-password-of-mine"
CLAIMS = """
import { createClient } from "npm:@supabase/supabase-js@2";
const supabase = createClient(given.url, given.key, { auth: { persistSession: false } });
await supabase.auth.setSession({ access_token: given.token, refresh_token: given.refresh });
let asked = 0;
const own = globalThis.fetch;
globalThis.fetch = (...what) => { asked += String(what[0]).includes("/user") ? 1 : 0; return own(...what); };
answer({ claims: await supabase.auth.getClaims(), asked });
"""


@pytest.fixture
def program() -> Iterator[Program]:
    """A new project on loopback."""
    with open_folder() as folder, running_program(folder) as running:
        yield running


@pytest.fixture(scope="module")
def rotated() -> Iterator[Program]:
    """A project whose keys have been turned, for tests that only look."""
    with open_folder() as folder, running_program(folder) as running:
        keys(running, "rotate")
        within_a_second(lambda: len(published(running)) == 2)
        yield running


def keys(program: Program, *arguments: str) -> str:
    """What `socle keys …` says in the project's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "socle_app", "keys", *arguments],
        cwd=program.folder,
        env=None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(program: Program) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(keys(program, "list", "--json"))
    return rows


def published(program: Program) -> list[str]:
    answer = httpx.get(f"{program.values['API_URL']}/auth/v1/.well-known/jwks.json")
    assert answer.status_code == 200
    return [key["kid"] for key in answer.json()["keys"]]


def within_a_second(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1.0
    while not holds():
        assert time.monotonic() < deadline, "a second later it is still not so"
        time.sleep(0.02)


def connect(program: Program) -> Any:
    return create_client(program.values["API_URL"], program.values["ANON_KEY"])


def signed_in(program: Program) -> Any:
    client = connect(program)
    client.auth.sign_up({"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD})
    return client


def token_of(client: Any) -> str:
    return str(client.auth.get_session().access_token)


def kid_of(client: Any) -> str | None:
    kid: str | None = jwt.get_unverified_header(token_of(client)).get("kid")
    return kid


def statuses(program: Program, token: str) -> list[int]:
    """How REST, auth and storage answer the bearer of a token."""
    headers = {"apikey": program.values["ANON_KEY"], "authorization": f"Bearer {token}"}
    with httpx.Client(base_url=program.values["API_URL"], headers=headers) as http:
        paths = ("/rest/v1/", "/auth/v1/user", "/storage/v1/bucket")
        return [http.get(path).status_code for path in paths]


def test_nobody_is_signed_out_by_a_rotation(program: Program) -> None:
    client = signed_in(program)
    shared = token_of(client)
    assert kid_of(client) is None
    assert published(program) == []

    keys(program, "rotate")
    first, standby = listed(program)
    within_a_second(lambda: published(program) == [first["kid"], standby["kid"]])
    assert statuses(program, shared) == [200, 200, 200]
    client.auth.refresh_session()
    assert kid_of(client) == first["kid"]
    old = token_of(client)
    assert statuses(program, old) == [200, 200, 200]

    keys(program, "rotate")
    within_a_second(lambda: len(published(program)) == 3)
    assert [(row["kid"], row["status"]) for row in listed(program)][::2] == [
        (standby["kid"], "in_use"),
        (first["kid"], "previously_used"),
    ]
    assert statuses(program, old) == [200, 200, 200]
    assert signed_in(program).auth.get_user() is not None
    client.auth.refresh_session()
    assert kid_of(client) == standby["kid"]
    assert statuses(program, token_of(client)) == [200, 200, 200]

    keys(program, "revoke", first["kid"], "--yes")
    within_a_second(lambda: first["kid"] not in published(program))
    assert statuses(program, old) == [401, 403, 400]
    assert statuses(program, token_of(client)) == [200, 200, 200]
    for name in ("ANON_KEY", "SERVICE_ROLE_KEY", "PUBLISHABLE_KEY", "SECRET_KEY"):
        with httpx.Client(base_url=program.values["API_URL"], headers={"apikey": program.values[name]}) as http:
            assert http.get("/rest/v1/").status_code == 200, name
    program.stop()
    program.start()
    assert statuses(program, token_of(client)) == [200, 200, 200]
    client.auth.refresh_session()
    assert kid_of(client) == standby["kid"]


def test_a_session_outlives_the_revocation_of_its_key(program: Program) -> None:
    keys(program, "rotate")
    first = listed(program)[0]
    within_a_second(lambda: first["kid"] in published(program))
    client = signed_in(program)
    assert kid_of(client) == first["kid"]
    keys(program, "rotate")
    keys(program, "revoke", first["kid"], "--yes")
    within_a_second(lambda: first["kid"] not in published(program))
    client.auth.refresh_session()
    assert kid_of(client) == listed(program)[0]["kid"]
    assert client.auth.get_user() is not None


def test_supabase_py_proves_tokens_by_the_published_keys(rotated: Program) -> None:
    client = signed_in(rotated)
    proven = client.auth.get_claims()
    assert proven["headers"]["alg"] == "ES256"
    assert proven["claims"]["role"] == "authenticated"
    forged = token_of(client)[:-8] + "AAAAAAAA"
    with pytest.raises(Exception, match="Invalid JWT signature"):
        client.auth.get_claims(jwt=forged)


async def test_supabase_js_proves_tokens_without_asking(rotated: Program) -> None:
    session = signed_in(rotated).auth.get_session()
    found = await run_deno(
        CLAIMS,
        url=rotated.values["API_URL"],
        key=rotated.values["ANON_KEY"],
        token=session.access_token,
        refresh=session.refresh_token,
    )
    assert found["claims"]["error"] is None
    assert found["claims"]["data"]["header"]["alg"] == "ES256"
    assert found["claims"]["data"]["claims"]["sub"] == session.user.id
    assert found["asked"] == 0


def test_a_new_project_for_others_signs_with_a_key_of_its_own() -> None:
    with open_folder() as folder, running_program(folder, "--host", "0.0.0.0") as program:
        program.values["API_URL"] = f"http://127.0.0.1:{program.port}"
        client = signed_in(program)
        first = listed(program)[0]
        assert (first["status"], first["algorithm"]) == ("in_use", "ES256")
        assert kid_of(client) == first["kid"]
        assert statuses(program, token_of(client)) == [200, 200, 200]
        kept = Path(program.folder, ".socle", "signing_keys.json")
        assert kept.stat().st_mode & 0o777 == 0o600
