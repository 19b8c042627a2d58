"""The gateway: CORS, keys, ids, limits, the error boundary (contract clients.md §1)."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from socle_platform.errors import WireResponse
from socle_platform.events import Observation, RequestFailed, RequestServed
from socle_platform.http import (
    BodyTooLarge,
    Gateway,
    GatewayPolicy,
    Mount,
    Receive,
    Scope,
    Send,
    client_ip,
    credentials_of,
    facts_of,
    identity_of,
    json_response,
    route_path,
    send_response,
)
from socle_platform.identity import Identity
from socle_platform.keys import Keyring, TokenError, secret_key
from socle_platform.request_headers import headers_of, kept_headers

SECRET = "a-secret-of-at-least-32-characters-long"
KEYRING = Keyring((secret_key(SECRET),), opaque_keys={"sb_publishable_a": "anon", "sb_secret_b": "service_role"})


def scope_of(method: str, path: str, headers: dict[str, str] | None = None, query: str = "") -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        "client": ("192.0.2.1", 4711),
    }


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """A service: answers what it was called with; some paths misbehave."""
    path = route_path(scope)
    if path == "/boom":
        raise RuntimeError("secret detail")
    if path == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send_response(send, json_response(200, {"path": path, "body": body.decode()}), head=scope["method"] == "HEAD")


def render(error: Exception) -> WireResponse:
    return json_response(413 if isinstance(error, BodyTooLarge) else 500, {"message": type(error).__name__})


def gateway(observed: list[Observation] | None = None, *, require: bool = True) -> Gateway:
    mounts = (
        Mount("/rest/v1", "rest", echo, render, open_paths=("/open",), body_limit=10),
        Mount("/storage/v1", "storage", echo, render, checks_key=False),
    )
    return Gateway(mounts, KEYRING, GatewayPolicy(require), (observed if observed is not None else []).append)


async def ask(app: Gateway, scope: Scope, *chunks: bytes) -> Answer:
    answer = Answer()
    queue = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    queue.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return queue.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {key.decode(): value.decode("latin-1") for key, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


KEY = {"apikey": "sb_publishable_a"}


async def test_a_preflight_allows_whatever_it_asks_for() -> None:
    headers = {
        "origin": "https://app.test",
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "x-invented, authorization",
    }
    answer = await ask(gateway(), scope_of("OPTIONS", "/rest/v1/t", headers))
    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "x-invented, authorization"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in answer.headers["access-control-allow-methods"]


async def test_every_answer_has_cors_and_a_request_id() -> None:
    answer = await ask(gateway(), scope_of("GET", "/rest/v1/t", {**KEY, "x-request-id": "given-by-me"}))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-range" in answer.headers["access-control-expose-headers"]
    assert answer.headers["x-request-id"] == "given-by-me"
    other = await ask(gateway(), scope_of("GET", "/rest/v1/t", {**KEY, "x-request-id": "no\tgood"}))
    assert len(other.headers["x-request-id"]) == 24


@pytest.mark.parametrize(
    ("path", "headers", "require", "status"),
    [
        ("/rest/v1/t", {}, True, 401),
        ("/rest/v1/t", {}, False, 200),
        ("/rest/v1/t", {"apikey": "sb_publishable_wrong"}, False, 401),
        ("/rest/v1/t", {"apikey": "nonsense"}, True, 401),
        ("/rest/v1/t", {"APIKEY": "sb_secret_b"}, True, 200),
        ("/rest/v1/t", {"authorization": "Bearer sb_publishable_a"}, True, 200),
        ("/rest/v1/open", {}, True, 200),
        ("/rest/v1/open/below", {}, True, 200),
        ("/rest/v1/openly", {}, True, 401),
        ("/storage/v1/object/x", {}, True, 200),
        ("/nowhere/v1/x", {}, True, 404),
        ("/", {}, True, 404),
    ],
)
async def test_the_project_key(path: str, headers: dict[str, str], require: bool, status: int) -> None:
    answer = await ask(gateway(require=require), scope_of("GET", path, headers))
    assert answer.status == status
    if status == 401:
        assert set(json.loads(answer.body)) == {"message", "hint"}


async def test_the_key_may_travel_in_the_query() -> None:
    scope = scope_of("GET", "/rest/v1/t", query="a=1&apikey=sb_publishable_a&b=%20")
    assert (await ask(gateway(), scope)).status == 200
    assert scope["query_string"] == b"a=1&b=%20"  # a service would take it for a filter of its own
    assert credentials_of(scope).apikey == "sb_publishable_a"


async def test_a_key_in_the_header_leaves_the_query_alone() -> None:
    scope = scope_of("GET", "/rest/v1/t", KEY, query="apikey=eq.5")
    assert (await ask(gateway(), scope)).status == 200
    assert scope["query_string"] == b"apikey=eq.5"


async def test_what_a_service_lets_pass_is_its_own_500_and_an_observation() -> None:
    observed: list[Observation] = []
    answer = await ask(gateway(observed), scope_of("GET", "/rest/v1/boom", KEY))
    assert answer.status == 500
    assert b"secret detail" not in answer.body
    kinds = [type(observation) for observation in observed]
    assert kinds == [RequestFailed, RequestServed]


async def test_an_error_after_the_answer_began_closes_the_connection() -> None:
    with pytest.raises(RuntimeError):
        await ask(gateway(), scope_of("GET", "/rest/v1/late", KEY))


async def test_bodies_are_limited_by_promise_and_by_count() -> None:
    promised = await ask(gateway(), scope_of("POST", "/rest/v1/t", {**KEY, "content-length": "11"}), b"x" * 11)
    counted = await ask(gateway(), scope_of("POST", "/rest/v1/t", KEY), b"x" * 6, b"x" * 6)
    lying = await ask(gateway(), scope_of("POST", "/rest/v1/t", {**KEY, "content-length": "5"}), b"x" * 11)
    fitting = await ask(gateway(), scope_of("POST", "/rest/v1/t", KEY), b"x" * 10)
    assert [promised.status, counted.status, lying.status, fitting.status] == [413, 413, 413, 200]


async def test_head_has_no_body() -> None:
    answer = await ask(gateway(), scope_of("HEAD", "/rest/v1/t", {}))
    assert (answer.status, answer.body) == (401, b"")


@pytest.mark.parametrize(
    ("headers", "apikey", "bearer"),
    [
        ({}, None, None),
        ({"apikey": "k"}, "k", None),
        ({"apiKey": "k", "Authorization": "bearer tok"}, "k", "tok"),
        ({"authorization": "Basic tok"}, None, None),
        ({"authorization": "Bearer"}, None, ""),
        ({"apikey": "sb_secret_b", "authorization": "Bearer sb_secret_b"}, "sb_secret_b", None),
        ({"authorization": "Bearer sb_secret_b"}, "sb_secret_b", None),
        ({"apikey": "sb_publishable_a", "authorization": "Bearer sb_secret_b"}, "sb_publishable_a", "sb_secret_b"),
    ],
)
def test_credentials(headers: dict[str, str], apikey: str | None, bearer: str | None) -> None:
    found = credentials_of(scope_of("GET", "/", headers))
    assert (found.apikey, found.bearer) == (apikey, bearer)


def test_identity_prefers_the_bearer_and_falls_back_to_the_key() -> None:
    anonymous = Identity.anonymous()
    user = KEYRING.sign({"sub": "u", "role": "authenticated"})
    both = scope_of("GET", "/", {"apikey": "sb_secret_b", "authorization": f"Bearer {user}"})
    assert identity_of(both, KEYRING, anonymous).role == "authenticated"
    assert identity_of(scope_of("GET", "/", {"apikey": "sb_secret_b"}), KEYRING, anonymous).role == "service_role"
    assert identity_of(scope_of("GET", "/"), KEYRING, anonymous) is anonymous
    with pytest.raises(TokenError):
        identity_of(scope_of("GET", "/", {"authorization": "Bearer broken"}), KEYRING, anonymous)


def test_facts_have_lower_case_names_and_cookies_apart() -> None:
    scope = scope_of("GET", "/rest/v1/t", {"Traceparent": "00-x", "Cookie": "a=1; b=x=y"})
    facts = facts_of({**scope, "root_path": "/rest/v1"})
    assert json.loads(facts.headers_json) == {"traceparent": "00-x"}
    assert json.loads(facts.cookies_json) == {"a": "1", "b": "x=y"}
    assert (facts.method, facts.path) == ("GET", "/t")


@pytest.mark.parametrize(
    ("forwarded", "trusted", "expected"),
    [
        ("", ["192.0.2.0/24"], "192.0.2.1"),
        ("203.0.113.9", [], "192.0.2.1"),
        ("203.0.113.9", ["192.0.2.0/24"], "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 192.0.2.7", ["192.0.2.0/24"], "203.0.113.9"),
        ("nonsense", ["192.0.2.0/24"], "192.0.2.1"),
    ],
)
def test_client_address(forwarded: str, trusted: list[str], expected: str) -> None:
    scope = scope_of("GET", "/", {"x-forwarded-for": forwarded} if forwarded else {})
    assert client_ip(scope, [ipaddress.ip_network(network) for network in trusted]) == expected


async def test_requests_do_not_share_their_ids() -> None:
    app = gateway()
    answers = await asyncio.gather(*(ask(app, scope_of("GET", "/rest/v1/t", KEY)) for _ in range(20)))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 20


def test_headers_are_read_once_for_all_requests_that_send_the_same_and_not_kept_without_bound() -> None:
    first = scope_of("GET", "/rest/v1/t", {"apikey": "k", "authorization": "Bearer t", "cookie": "a=1"})
    again = {**first, "headers": list(first["headers"])}
    assert headers_of(first) is headers_of(again)
    assert credentials_of(again) == ("k", "t")
    assert json.loads(facts_of(again).cookies_json) == {"a": "1"}
    for number in range(3000):
        headers_of(scope_of("GET", "/", {"x-trace": str(number)}))
    assert kept_headers() <= 1024
    long = scope_of("GET", "/", {"x-long": "x" * 5000})
    assert headers_of(long) is headers_of(long)
    assert headers_of(long) is not headers_of({**long, "socle.headers": None})
