"""Hooks over HTTP: signatures, retries, limits, rejections; and hooks in Python (contracts/auth.md §7.5, §12.47)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.auth_site import PASSWORD, AuthSite, changed, claims_of, open_site, refusal
from harness.internet import Internet, started_internet
from harness.site import Answer, Call, Reply
from socle_auth import HookRejected, hook, hook_requests, python_hooks
from socle_auth.python_hooks import forget_hooks
from socle_platform.config.auth import HookSettings
from socle_platform.config.reader import ConfigError
from socle_platform.db import Database
from socle_platform.outgoing import OutgoingFailed
from socle_platform.ports import HttpAnswer

URL = "https://hooks.example.com/before"
SECRET = "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "v1,whsec_" + "QUFB" * 10
NEW = {"email": "ada@example.com", "password": PASSWORD}


@asynccontextmanager
async def hooked_site(
    database: Database, answer: Answer, name: str = "before_user_created", secrets: tuple[str, ...] = (SECRET, OTHER)
) -> AsyncGenerator[tuple[AuthSite, Internet]]:
    hooks = {name: HookSettings(enabled=True, uri=URL, secrets=secrets)}
    async with started_internet() as internet, open_site(database, changed(hooks=hooks), http=internet) as site:
        internet.on("POST", URL, answer)
        yield site, internet


def test_the_published_example_of_a_signature() -> None:
    """standardwebhooks.com, test vector of the specification's libraries."""
    signature = hook_requests.sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_request_is_signed_by_every_secret(database: Database) -> None:
    async with hooked_site(database, Reply({})) as (site, internet):
        assert (await site.post("/signup", NEW)).status_code == 200
        (call,) = internet.calls(URL)
        event: Any = call.json
        assert event["user"]["email"] == "ada@example.com"
        assert event["metadata"]["name"] == "before-user-created"
        assert call.headers["content-type"] == "application/json"
        moment = int(call.headers["webhook-timestamp"])
        assert moment == int(site.clock.seconds())
        expected = [hook_requests.sign(key, call.headers["webhook-id"], moment, call.body) for key in (SECRET, OTHER)]
        assert call.headers["webhook-signature"] == ", ".join(expected)


OVERSIZED = b'{"a":"' + b"x" * (200 * 1024) + b'"}'
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("reply", "status", "code", "words"),
    [
        (Reply({"error": {"http_code": 418, "message": "not today"}}), 418, "unknown", "not today"),
        (Reply({"error": {"message": "no"}}), 500, "unexpected_failure", "no"),
        (Reply(b"ok", 200, {"content-type": "text/plain"}), 400, "hook_payload_invalid_content_type", "text/plain"),
        (Reply(OVERSIZED, 200, JSON), 422, "hook_payload_over_size_limit", "size limit"),
        (Reply(b"{nonsense", 200, JSON), 500, "unexpected_failure", "unmarshaling"),
        (Reply([1]), 500, "unexpected_failure", "unmarshaling"),
        (Reply({}, 400), 500, "unexpected_failure", "Invalid payload sent to hook"),
        (Reply({}, 401), 500, "unexpected_failure", "Hook requires authorization token"),
        (Reply({}, 418), 500, "unexpected_failure", "Unexpected status code returned from hook: 418"),
        (Reply({}, 503), 500, "unexpected_failure", "Service currently unavailable due to hook"),
        (Reply({}, 429, {"retry-after": "1"}), 500, "unexpected_failure", "Service currently unavailable due to hook"),
    ],
)
async def test_answers_that_stop_a_sign_up(
    database: Database, reply: Reply, status: int, code: str, words: str
) -> None:
    async with hooked_site(database, reply) as (site, internet):
        answer = await site.post("/signup", NEW)
        assert refusal(answer) == (status, code)
        assert words in answer.json()["message"]
        assert len(internet.calls(URL)) == (3 if reply.headers.get("retry-after") else 1)
        assert await site.rows("select 1 from auth.users") == []


@pytest.mark.parametrize("reply", [Reply({}), Reply({}, 202), Reply(b"", 204), Reply({"error": {"message": ""}})])
async def test_answers_that_let_it_happen(database: Database, reply: Reply) -> None:
    async with hooked_site(database, reply) as (site, _):
        assert (await site.post("/signup", NEW)).status_code == 200


@pytest.mark.parametrize("status", [429, 503])
async def test_a_promised_return_is_tried_again_at_once(database: Database, status: int) -> None:
    replies = iter([Reply({}, status, {"retry-after": "60"}), Reply({})])
    async with hooked_site(database, lambda _call: next(replies)) as (site, internet):
        assert (await site.post("/signup", NEW)).status_code == 200
        first, second = internet.calls(URL)
        assert first.headers["webhook-id"] != second.headers["webhook-id"]


class Unreachable:
    """A client that cannot connect `failures` times, then answers {}."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> HttpAnswer:
        assert (method, url) == ("POST", URL)
        assert headers is not None
        assert body is not None
        assert timeout <= hook_requests.SECONDS
        self.tries += 1
        if self.tries <= self.failures:
            raise OutgoingFailed("connection refused")
        return HttpAnswer(200, {"content-type": "application/json; charset=utf-8"}, b"{}")


@pytest.mark.parametrize(("failures", "status", "tries"), [(2, 200, 3), (3, 422, 3)])
async def test_a_failed_connection_is_tried_three_times(
    database: Database, monkeypatch: pytest.MonkeyPatch, failures: int, status: int, tries: int
) -> None:
    monkeypatch.setattr(hook_requests, "PAUSE", 0.001)
    client = Unreachable(failures)
    hooks = {"before_user_created": HookSettings(enabled=True, uri=URL)}
    async with open_site(database, changed(hooks=hooks), http=client) as site:
        answer = await site.post("/signup", NEW)
        assert (answer.status_code, client.tries) == (status, tries)
        if status == 422:
            assert refusal(answer) == (422, "hook_timeout_after_retry")


async def test_a_slow_hook_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_requests, "SECONDS", 0.2)
    done = asyncio.Event()

    async def slow(_call: Call) -> Reply:
        await done.wait()
        return Reply({})

    async with hooked_site(database, slow) as (site, _):
        assert refusal(await site.post("/signup", NEW)) == (422, "hook_timeout")
        done.set()


async def test_secrets_that_cannot_sign(database: Database) -> None:
    key = "A" * 44
    async with hooked_site(database, Reply({}), secrets=(f"v1a,whpk_{key}:whsk_{key}",)) as (site, internet):
        assert refusal(await site.post("/signup", NEW)) == (500, "unexpected_failure")
        assert internet.calls(URL) == []


async def test_claims_mails_and_texts_over_http(database: Database) -> None:
    def claims(call: Call) -> Reply:
        event: Any = call.json
        return Reply({"claims": {**event["claims"], "plan": "pro"}})

    async with hooked_site(database, claims, "custom_access_token") as (site, _):
        assert claims_of(await site.signed_in(), site.keyring)["plan"] == "pro"
        await site.run("delete from auth.users")
    async with hooked_site(database, Reply({}), "send_email") as (site, internet):
        await site.post("/signup", NEW)
        event: Any = internet.calls(URL)[0].json
        assert event["email_data"]["email_action_type"] == "signup"
        assert site.outbox.mails == []
        confirm = {"type": "email", "email": "ada@example.com", "token": event["email_data"]["token"]}
        assert (await site.post("/verify", confirm)).status_code == 200


# -- in Python ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_functions() -> Iterator[None]:
    yield
    forget_hooks()


async def test_a_python_function_changes_the_claims(database: Database) -> None:
    seen = list[dict[str, Any]]()

    @hook("custom_access_token")
    async def add_plan(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(event)
        return {"claims": {**event["claims"], "plan": "pro"}}

    async with open_site(database) as site:
        session = await site.signed_in()
        assert claims_of(session, site.keyring)["plan"] == "pro"
        assert (seen[0]["user_id"], seen[0]["authentication_method"]) == (session["user"]["id"], "password")
    assert callable(add_plan)


def _reject(_event: dict[str, Any]) -> None:
    raise HookRejected("friends only", 451)


def _break(_event: dict[str, Any]) -> None:
    raise RuntimeError("a bug")


def _nonsense(_event: dict[str, Any]) -> Any:
    return 7


@pytest.mark.parametrize(
    ("function", "status", "words"),
    [(_reject, 451, "friends only"), (_break, 500, "Error invoking hook"), (_nonsense, 500, "instead of a mapping")],
)
async def test_python_functions_refuse_and_fail(
    database: Database, function: Callable[[dict[str, Any]], Any], status: int, words: str
) -> None:
    hook("before_user_created")(function)
    async with open_site(database) as site:
        answer = await site.post("/signup", NEW)
        assert answer.status_code == status
        assert words in answer.json()["message"]
        assert await site.rows("select 1 from auth.users") == []


async def test_a_slow_python_function_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_hooks, "SECONDS", 0.1)

    @hook("before_user_created")
    async def slow(_event: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    async with open_site(database) as site:
        assert refusal(await site.post("/signup", NEW)) == (422, "hook_timeout")
    assert callable(slow)


async def test_the_settings_go_first(database: Database) -> None:
    hook("before_user_created")(_reject)
    async with hooked_site(database, Reply({})) as (site, _):
        assert (await site.post("/signup", NEW)).status_code == 200


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="not a hook"):
        hook("before_breakfast")
    hook("send_sms")(_reject)
    with pytest.raises(ValueError, match="already"):
        hook("send_sms")(_reject)


async def test_modules_are_imported_at_start(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_hooks.py").write_text(
        "from socle_auth import hook\n\n@hook('before_user_created')\ndef nobody(event):\n"
        "    return {'error': {'http_code': 403, 'message': 'closed'}}\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    async with open_site(database, changed(hook_modules=("my_hooks",))) as site:
        answer = await site.post("/signup", NEW)
        assert (answer.status_code, answer.json()["message"]) == (403, "closed")
    with pytest.raises(ConfigError, match="no_such_hooks"):
        async with open_site(database, changed(hook_modules=("no_such_hooks",))):
            pass
    sys.modules.pop("my_hooks")
