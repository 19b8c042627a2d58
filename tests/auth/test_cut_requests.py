"""A request that ends before its body is the caller's mistake, and no failure of ours."""

from __future__ import annotations

from harness.auth_site import AuthSite
from socle_auth.routes import application
from socle_platform.events import RequestFailed
from socle_platform.http import Message


async def test_a_body_that_is_cut_off_is_no_failure_of_ours(site: AuthSite) -> None:
    incoming: list[Message] = [
        {"type": "http.request", "body": b'{"email":', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"50")]
    scope = {"type": "http", "method": "POST", "path": "/signup", "query_string": b"", "headers": headers}
    await application(site.service)({**scope, "client": ("127.0.0.1", 1)}, receive, send)
    assert sent[0]["status"] == 400
    assert b"validation_failed" in sent[1]["body"]
    assert not any(isinstance(seen, RequestFailed) for seen in site.observations)
