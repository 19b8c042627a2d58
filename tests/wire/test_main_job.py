"""The main job, by the examples of the README and with the official clients."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from supabase import create_client

from socle_app.testing import ProjectTemplate, TestPlatform

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
DENO = Path(sys.executable).parent / "deno"


def run_example(platform: TestPlatform, *command: str) -> list[str]:
    environ = {**os.environ, "API_URL": platform.url, "PUBLISHABLE_KEY": platform.keys.publishable_key}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_python_example(platform: TestPlatform) -> None:
    lines = run_example(platform, sys.executable, "-W", "ignore", str(EXAMPLES / "quickstart.py"))
    assert lines == [
        "alice wrote Sixty years of Alice",
        "bob sees 0 - anyone sees 0",
        "bob as alice: 42501",
        "anyone wrote Charles",
    ]


def test_the_javascript_example(platform: TestPlatform) -> None:
    lines = run_example(platform, str(DENO), "run", "-A", "--quiet", str(EXAMPLES / "quickstart.ts"))
    assert lines == [
        "alice wrote Sixty years of Alice",
        "bob sees 0 - anyone sees 0",
        "bob as alice: 403 42501",
        "anyone wrote Charles",
    ]


@pytest.mark.parametrize(("language", "name"), [("ts", "quickstart.ts"), ("python", "quickstart.py")])
def test_the_readme_shows_these_examples(language: str, name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", readme, flags=re.DOTALL)
    assert (EXAMPLES / name).read_text(encoding="utf-8") in blocks


def signed_up(platform: TestPlatform) -> Any:
    client: Any = create_client(platform.url, platform.anon_key)
    client.auth.sign_up({"email": f"{uuid.uuid4()}@example.com", "password": "a-good-password"})
    return client


def test_an_owner_cannot_give_himself_a_paid_plan(platform: TestPlatform) -> None:
    from postgrest.exceptions import APIError

    alice = signed_up(platform)
    product = alice.table("product").insert({"title": "mine"}).execute().data[0]
    for column in ("plan", "session_id"):
        with pytest.raises(APIError) as caught:
            alice.table("product").update({column: "basic"}).eq("id", product["id"]).execute()
        assert caught.value.code == "42501"
        with pytest.raises(APIError) as caught:
            alice.table("product").insert({"title": "x", column: "basic"}).execute()
        assert caught.value.code == "42501"
    service: Any = create_client(platform.url, platform.service_role_key)
    paid = service.table("product").update({"plan": "basic"}).eq("id", product["id"]).execute().data
    assert len(paid) == 1


def call(
    platform: TestPlatform, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    sent = {"apikey": platform.anon_key, "content-type": "application/json", **(headers or {})}
    answer = httpx.request(method, platform.url + path, content=body, headers=sent, timeout=10)
    return answer.status_code, answer.json() if answer.content else None


NONE_ALGORITHM = "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0."


def bad_inputs() -> list[tuple[str, str, str, bytes | None, dict[str, str], int, str]]:
    json_body = b'{"title": "x"}'
    return [
        ("malformed JSON", "POST", "/rest/v1/product_items", b'{"a":', {}, 400, "PGRST102"),
        ("unknown table", "GET", "/rest/v1/nothing", None, {}, 404, "PGRST205"),
        ("unknown column", "GET", "/rest/v1/product_items?select=nothing", None, {}, 400, "42703"),
        ("unknown filter column", "GET", "/rest/v1/product_items?nothing=eq.1", None, {}, 400, "42703"),
        ("wrong type", "GET", "/rest/v1/product_items?product_id=eq.x", None, {}, 400, "22P02"),
        ("unknown body column", "POST", "/rest/v1/product_items", b'{"nothing": 1}', {}, 400, "PGRST204"),
        ("no token, no right", "POST", "/rest/v1/product", json_body, {}, 401, "42501"),
        ("forged token", "GET", "/rest/v1/product", None, {"authorization": "Bearer a.b.c"}, 401, "PGRST301"),
        ("alg none", "GET", "/rest/v1/product", None, {"authorization": f"Bearer {NONE_ALGORITHM}"}, 401, "PGRST301"),
        ("not a token", "GET", "/rest/v1/product", None, {"authorization": "Bearer nonsense"}, 401, "PGRST301"),
        ("auth: malformed JSON", "POST", "/auth/v1/signup", b"{", {}, 400, "bad_json"),
        ("auth: no token", "GET", "/auth/v1/user", None, {}, 401, "no_authorization"),
        ("auth: forged token", "GET", "/auth/v1/user", None, {"authorization": "Bearer a.b.c"}, 403, "bad_jwt"),
    ]


@pytest.mark.parametrize("case", bad_inputs(), ids=lambda case: case[0])
def test_bad_input_has_the_wires_own_error(
    shared_platform: TestPlatform, case: tuple[str, str, str, bytes | None, dict[str, str], int, str]
) -> None:
    _, method, path, body, headers, status, code = case
    answered, document = call(shared_platform, method, path, body, headers)
    assert answered == status, document
    assert code in (document.get("code"), document.get("error_code")), document


def token_with(platform: TestPlatform, **claims: Any) -> dict[str, str]:
    import jwt

    return {"authorization": f"Bearer {jwt.encode(claims, platform.keys.jwt_secret)}"}


def test_tokens_that_have_expired_or_name_no_role(shared_platform: TestPlatform) -> None:
    expired = token_with(shared_platform, role="authenticated", exp=1)
    status, document = call(shared_platform, "GET", "/rest/v1/product", headers=expired)
    assert (status, document["code"]) == (401, "PGRST303")
    unknown = token_with(shared_platform, role="nobody_of_that_name")
    status, document = call(shared_platform, "GET", "/rest/v1/product", headers=unknown)
    assert (status, document["code"]) == (401, "22023")


def test_an_oversized_body_is_refused(shared_platform: TestPlatform) -> None:
    status, document = call(shared_platform, "POST", "/auth/v1/signup", b'{"email":"' + b"x" * (1 << 20) + b'"}')
    assert (status, document["error_code"]) == (413, "request_entity_too_large")


@pytest.fixture(scope="module")
def shared_platform(dedicace: ProjectTemplate) -> Generator[TestPlatform]:
    """One platform for tests that leave nothing behind."""
    with dedicace.platform() as running:
        yield running
