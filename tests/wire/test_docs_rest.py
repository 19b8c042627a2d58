"""docs/rest.md holds: each request in it is sent to a running service, and each answer in it is the one that comes.

An example is a block ```` ```http ```` with a request, and right after it a block with the answer: ```` ```json ````
for a body of a successful answer, ```` ```http ```` for a status line, headers that must be among those sent, and the
body. `$ADA` in a request is a token of the reader Ada.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.postgres import PLATFORM_TEMPLATE, TestServer
from harness.rest_service import Answer, RestService, running_rest
from socle_platform.keys import Keyring, secret_key

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "rest.md"
SCHEMA = ROOT / "docs" / "examples" / "rest.sql"
SECRET = "an example secret of many characters"
SETTINGS = {
    "PGRST_DB_ANON_ROLE": "anon",
    "PGRST_DB_SCHEMAS": "public,archive",
    "PGRST_DB_AGGREGATES_ENABLED": "true",
    "PGRST_DB_PLAN_ENABLED": "true",
    "PGRST_DB_PRE_REQUEST": "public.check_client",
    "PGRST_DB_TX_END": "rollback-allow-override",  # so that no example sees what another one wrote
    "PGRST_JWT_SECRET": SECRET,
}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REQUEST = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/\S*.*)")


@dataclass(frozen=True, slots=True)
class Example:
    """A request of the document with the answer it promises."""

    line: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: str
    language: str
    answer: str


def examples(text: str) -> list[Example]:
    """The examples in order. Raises AssertionError for a request without an answer."""
    found: list[Example] = []
    blocks = list(_BLOCK.finditer(text))
    for number, block in enumerate(blocks):
        language, content = block.groups()
        if language != "http" or not (start := _REQUEST.match(content)):
            continue
        answer = blocks[number + 1] if number + 1 < len(blocks) else None
        line = text.count("\n", 0, block.start()) + 1
        assert answer is not None, f"the request in line {line} has no answer"
        assert answer[1] in {"json", "http"}, f"the request in line {line} has no answer"
        assert text[block.end() : answer.start()].strip() == "", f"the request in line {line} has no answer"
        head, _, body = content.partition("\n\n")
        found.append(
            Example(line, start[1], start[2], _headers(head.split("\n")[1:]), body.strip("\n"), answer[1], answer[2])
        )
    return found


def _headers(lines: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [line.partition(": ") for line in lines if line]
    return tuple((name, value) for name, _, value in pairs)


EXAMPLES = examples(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def service(server: TestServer) -> Iterator[RestService]:
    """The service on the schema of the document."""
    name = "docs_rest_of_run"

    async def prepare() -> None:
        await server.run("postgres", f"drop database if exists {name} with (force)")
        await server.run("postgres", f"create database {name} template {PLATFORM_TEMPLATE} owner postgres")
        await server.run(name, f"set role postgres; {SCHEMA.read_text(encoding='utf-8')}", "analyze")

    asyncio.run(prepare())
    with running_rest({**SETTINGS, "PGRST_DB_URI": server.dsn(name, "authenticator")}) as running:
        yield running


def send(service: RestService, example: Example) -> Answer:
    """The request as an HTTP client sends it: encoded, with its body's type, the token in the place of its name."""
    token = Keyring([secret_key(SECRET)], anonymous_role="anon").sign({"role": "authenticated", "sub": "ada"})
    headers = [(name, value.replace("$ADA", token)) for name, value in example.headers]
    if example.body and "content-type" not in {name.lower() for name, _ in headers}:
        headers.append(("Content-Type", "application/json"))
    return service.ask(example.method, quote(example.target, safe="/?&=.,:*!()$%-_~@+;'"), example.body, headers)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"line {example.line}")
def test_example(service: RestService, example: Example) -> None:
    answer = send(service, example)
    if example.language == "json":
        assert 200 <= answer.status < 300, answer.body
        assert answer.json == json.loads(example.answer)
        return
    head, blank, body = example.answer.partition("\n\n")
    status, *headers = head.strip().split("\n")
    assert f"HTTP/1.1 {answer.status} {answer.reason}" == status, answer.body
    for name, value in _headers(headers):
        assert answer.headers.get(name.lower()) == value
    if blank:
        assert _value(answer.body.decode()) == _value(body)


def _value(body: str) -> object:
    """JSON by its value; anything else by its lines."""
    try:
        return json.loads(body)
    except ValueError:
        return body.strip().splitlines()


def test_the_document_has_examples_of_everything() -> None:
    assert len(EXAMPLES) > 60
    assert {example.method for example in EXAMPLES} >= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


def test_a_request_without_an_answer_is_noticed() -> None:
    with pytest.raises(AssertionError, match="line 1 has no answer"):
        examples("```http\nGET /books\n```\n\nSome text.\n\n```json\n[]\n```\n")


def test_the_table_of_settings_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "rest-settings"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
