"""Both renderings of every error (contracts/auth.md §7.1), and the contract's table of statuses (§7.2)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from harness.auth_site import AuthSite, refusal
from socle_auth.errors import (
    USUAL_STATUS,
    AuthError,
    ErrorCode,
    OAuthError,
    WeakPassword,
    as_auth_error,
    failure,
    parse_api_version,
    render_error,
)
from socle_platform.db import ConnectionLost, DatabaseError
from socle_platform.errors import WireResponse
from socle_platform.http import BodyTooLarge

NEW = "2024-01-01"


def shown(response: WireResponse) -> tuple[int, dict[str, Any], dict[str, str]]:
    return response.status, json.loads(response.body), dict(response.headers)


@pytest.mark.parametrize(
    ("header", "version"),
    [
        (None, None),
        ("", None),
        ("2023-12-31", None),
        ("2024-01-01", NEW),
        ("2024-01-02", NEW),
        ("2099-12-31", NEW),
        ("2024-13-01", None),
        ("2024-1-1", None),
        ("20240101", None),
        ("latest", None),
        ("2024-01-01T00:00:00Z", None),
        ("٢٠٢٤-٠١-٠١", None),
    ],
)
def test_the_version_is_read_by_exact_day(header: str | None, version: str | None) -> None:
    assert parse_api_version(header) == version


def test_the_present_rendering() -> None:
    status, body, headers = shown(render_error(AuthError(ErrorCode.USER_BANNED, "no"), NEW, "req"))
    assert (status, body) == (403, {"code": "user_banned", "message": "no"})
    assert headers["x-supabase-api-version"] == NEW
    assert headers["x-sb-error-code"] == "user_banned"


def test_the_old_rendering() -> None:
    status, body, headers = shown(render_error(AuthError(ErrorCode.USER_BANNED, "no"), None, "req"))
    assert (status, body) == (403, {"code": 403, "error_code": "user_banned", "msg": "no"})
    assert "x-supabase-api-version" not in headers
    assert headers["x-sb-error-code"] == "user_banned"


def test_only_old_server_errors_carry_the_request_id() -> None:
    assert shown(render_error(failure("x"), None, "req"))[1]["error_id"] == "req"
    assert "error_id" not in shown(render_error(failure("x"), NEW, "req"))[1]


@pytest.mark.parametrize(("version", "code"), [(NEW, "weak_password"), (None, 422)])
def test_a_weak_password_names_its_reasons(version: str | None, code: object) -> None:
    status, body, headers = shown(render_error(WeakPassword("weak", ["length", "pwned"]), version))
    assert status == 422
    assert body["code"] == code
    assert body["weak_password"] == {"reasons": ["length", "pwned"]}
    assert headers["x-sb-error-code"] == "weak_password"


@pytest.mark.parametrize("version", [NEW, None])
def test_an_oauth_fault_is_the_same_in_both(version: str | None) -> None:
    status, body, headers = shown(render_error(OAuthError("invalid_grant", "why"), version))
    assert (status, body) == (400, {"error": "invalid_grant", "error_description": "why"})
    assert "x-sb-error-code" not in headers


@pytest.mark.parametrize(("status", "code"), [(403, "unknown"), (500, "unexpected_failure")])
def test_a_hooks_rejection_has_no_code_of_ours(status: int, code: str) -> None:
    answered, body, headers = shown(render_error(AuthError(None, "the hook says no", status), NEW))
    assert (answered, body) == (status, {"code": code, "message": "the hook says no"})
    assert "x-sb-error-code" not in headers


@pytest.mark.parametrize("version", [NEW, None])
@pytest.mark.parametrize(
    ("cause", "status", "body"),
    [
        (
            DatabaseError("P0001", "too young", hint="wait"),
            500,
            {"code": "P0001", "message": "too young", "hint": "wait"},
        ),
        (DatabaseError("PT418", "teapot", detail="d"), 418, {"code": "PT418", "message": "teapot", "detail": "d"}),
        (DatabaseError("23514", "check", schema="public"), 500, {"code": "23514", "message": "check"}),
    ],
)
def test_what_the_projects_sql_raised_is_told(
    version: str | None, cause: DatabaseError, status: int, body: dict[str, str]
) -> None:
    assert shown(render_error(failure("ours", cause), version))[:2] == (status, body)


@pytest.mark.parametrize(
    "cause",
    [DatabaseError("42P01", "secret table"), DatabaseError("23505", "dup", detail="Key (email)=(x)", schema="auth")],
)
def test_what_our_own_sql_met_is_not_told(cause: DatabaseError) -> None:
    assert shown(render_error(failure("Database error"), NEW))[1]["message"] == "Database error"
    assert cause.message not in render_error(failure("Database error", cause), NEW).body.decode()


def test_anything_else_is_a_500_without_internals() -> None:
    status, body, _ = shown(render_error(RuntimeError("secret"), NEW))
    assert (status, body["code"]) == (500, "unexpected_failure")
    assert "secret" not in body["message"]


def test_a_lost_database_is_a_503_that_clients_retry() -> None:
    error = as_auth_error(ConnectionLost())
    assert isinstance(error, AuthError)
    assert error.status == 503


def test_a_large_body_is_a_413() -> None:
    error = as_auth_error(BodyTooLarge())
    assert isinstance(error, AuthError)
    assert (error.status, error.code) == (413, ErrorCode.REQUEST_ENTITY_TOO_LARGE)


def test_every_code_has_a_status_between_400_and_599() -> None:
    assert all(400 <= AuthError(code, "x").status < 600 for code in ErrorCode)
    assert set(USUAL_STATUS) <= set(ErrorCode)
    assert all(re.fullmatch("[a-z0-9_]+", code.value) for code in ErrorCode)


async def test_body_too_large(site: AuthSite) -> None:
    answer = await site.post("/signup", content=b'{"email":"' + b"a" * (1 << 20) + b'"}')
    assert refusal(answer) == (413, "request_entity_too_large")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"email": 1}',
        b'{"email":"a@b.co","password":"secret123","data":"x"}',
        b'{"email":"a@b.co","password":["x"]}',
        b"{" * 10_000,
        b"NaN",
        b'{"data":' + b'{"a":' * 300 + b"1" + b"}" * 301,
        b'{"data":{"a":1e999}}',
        b'{"data":{"a":' + b"9" * 5000 + b"}}",
    ],
)
async def test_a_body_that_is_no_object_or_of_wrong_types_is_bad_json(site: AuthSite, content: bytes) -> None:
    assert refusal(await site.post("/signup", content=content)) == (400, "bad_json")


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800"])
async def test_characters_that_cannot_be_stored_are_refused(site: AuthSite, text: str) -> None:
    content = f'{{"email":"a@example.com","password":"secret123","data":{{"x":["{text}"]}}}}'.encode()
    assert refusal(await site.post("/signup", content=content)) == (400, "validation_failed")


async def test_the_content_type_does_not_matter_and_unknown_fields_are_ignored(site: AuthSite) -> None:
    answer = await site.post(
        "/signup",
        content=b'{"email":"a@example.com","password":"secret123","surprise":1,"data":null}',
        headers={"content-type": "text/plain"},
    )
    assert answer.status_code == 200


async def test_unknown_routes_and_methods_are_plain_text(site: AuthSite) -> None:
    unknown, wrong = await site.get("/nowhere"), await site.delete("/signup")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert unknown.headers["content-type"].startswith("text/plain")


async def test_a_success_carries_the_asked_version_too(site: AuthSite) -> None:
    assert (await site.get("/settings")).headers["x-supabase-api-version"] == NEW
    assert "x-supabase-api-version" not in (await site.get("/settings", old_api=True)).headers
