"""Outcome → Response, errors on the wire, CORS (contract rest.md §5, §8, §11, §16)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.rest_samples import SCHEMA, SETTINGS, plan_of, request_of
from socle_platform.config.rest import RestSettings
from socle_platform.db import ConnectionLost, DatabaseError, DatabaseUnavailable, PoolTimeout
from socle_platform.http import BodyTooLarge
from socle_platform.keys import (
    NoKeyConfigured,
    TokenAlgorithmRefused,
    TokenEmpty,
    TokenError,
    TokenExpired,
    TokenKeyUnknown,
    TokenMalformed,
    TokenSignatureInvalid,
)
from socle_rest.cors import preflight, simple_headers
from socle_rest.errors import Code, Failure, RestError, failure_body, failure_of, render_error
from socle_rest.headers import fixed_headers
from socle_rest.job import make_job
from socle_rest.plan import Description, Inspection, RelationRead
from socle_rest.respond import (
    Response,
    parse_headers,
    parse_status,
    respond,
    respond_description,
    respond_document,
)
from socle_rest.run import Outcome
from socle_rest.schema import QualifiedName


def answer(
    method: str, url: str, outcome: Outcome, body: bytes = b"{}", settings: RestSettings = SETTINGS, **headers: str
) -> Response:
    plan, request = plan_of(method, url, body, settings, **headers)
    assert not isinstance(plan, Description | Inspection)
    return respond(make_job(plan, request, settings), outcome)


def value(response: Response, name: str) -> str | None:
    found = [text.decode() for key, text in response.headers if key == name.encode()]
    assert len(found) < 2
    return found[0] if found else None


ROW = Outcome(None, 1, b'[{"id":1}]')


@pytest.mark.parametrize(("name", "shown"), [("a;b,c'd", "a;b,c'd"), ("a b", "a%20b"), ("é/?", "%C3%A9%2F%3F")])
def test_names_in_locations_are_encoded_only_where_they_must_be(name: str, shown: str) -> None:
    plan, request = plan_of("GET", "/authors", b"", SETTINGS)
    assert isinstance(plan, RelationRead)
    request = replace(request, target=QualifiedName("shop", name))
    assert fixed_headers(plan, request, warns=False).path == f"/{shown}"


def test_read() -> None:
    found = answer("GET", "/authors?name=eq.a%20b&id=gt.0", ROW)
    assert (found.status, found.body) == (200, ROW.body)
    assert value(found, "content-range") == "0-0/*"
    assert value(found, "content-location") == "/authors?id=gt.0&name=eq.a%20b"
    assert value(found, "content-length") == "10"
    assert value(found, "content-type") == "application/json; charset=utf-8"
    assert value(found, "vary") == "Accept, Prefer, Range"
    assert value(found, "preference-applied") is None
    assert value(found, "content-profile") is None


def test_partial_read() -> None:
    found = answer("GET", "/authors?limit=1", Outcome(9, 1, b"[]"), prefer="count=exact")
    assert (found.status, value(found, "content-range")) == (206, "0-0/9")
    assert value(found, "preference-applied") == "count=exact"


def test_read_beyond_the_end() -> None:
    found = answer("GET", "/authors?offset=10", Outcome(3, 0, b"[]"), prefer="count=exact")
    assert (found.status, value(found, "content-range")) == (416, "*/3")
    assert json.loads(found.body)["details"] == "An offset of 10 was requested, but there are only 3 rows."


def test_head() -> None:
    found = answer("HEAD", "/authors", Outcome(None, 3, b""))
    assert (found.body, value(found, "content-length"), value(found, "content-range")) == (b"", None, "0-2/*")
    assert value(found, "content-type") == "application/json; charset=utf-8"


def test_profile_is_shown_where_it_was_negotiated() -> None:
    many = RestSettings(schemas=("api", "other"))
    assert value(answer("GET", "/authors", ROW, settings=many), "content-profile") == "api"
    minimal = answer("POST", "/authors", Outcome(None, 1, b""), settings=many)
    assert value(minimal, "content-profile") is None


def test_legacy_names_are_warned_of() -> None:
    found = answer("GET", "/books?select=a:authors(*)&authors.id=eq.1", ROW)
    assert "Update `authors` to `a` in query string filters" in str(value(found, "warning"))


@pytest.mark.parametrize(
    ("prefer", "inserted", "status"),
    [
        ("", None, 201),
        ("resolution=merge-duplicates", 1, 201),
        ("resolution=merge-duplicates", 0, 200),
        ("resolution=merge-duplicates", None, 200),
        ("resolution=ignore-duplicates", None, 201),
    ],
)
def test_insert(prefer: str, inserted: int | None, status: int) -> None:
    found = answer("POST", "/authors", Outcome(None, 1, b"", inserted=inserted), prefer=prefer)
    assert (found.status, found.body, value(found, "content-length")) == (status, b"", "0")
    assert (value(found, "content-range"), value(found, "content-type")) == ("*/*", None)


def test_insert_with_body_and_location() -> None:
    shown = answer("POST", "/authors", ROW, prefer="return=representation, count=exact, missing=default")
    assert (shown.status, shown.body, value(shown, "content-range")) == (201, ROW.body, "*/1")
    assert value(shown, "preference-applied") == "missing=default, return=representation, count=exact"
    located = answer(
        "POST",
        "/books",
        Outcome(None, 1, b"", location=(("id", "eq.1 2"), ("b", "is.null"))),
        prefer="return=headers-only",
    )
    assert value(located, "location") == "/books?id=eq.1%202&b=is.null"


def test_resolution_is_applied_only_with_a_target() -> None:
    outcome = Outcome(None, 1, b"", inserted=1)
    prefer = "resolution=merge-duplicates"
    assert value(answer("POST", "/authors", outcome, prefer=prefer), "preference-applied") == prefer
    assert value(answer("POST", "/notes", outcome, prefer=prefer), "preference-applied") is None


@pytest.mark.parametrize(
    ("method", "prefer", "outcome", "status", "content_range"),
    [
        ("PATCH", "", Outcome(None, 2, b""), 204, "0-1/*"),
        ("PATCH", "return=representation", Outcome(None, 2, b"[]"), 200, "0-1/*"),
        ("PATCH", "count=exact", Outcome(None, 0, b""), 204, "*/0"),
        ("DELETE", "", Outcome(None, 2, b""), 204, "*/*"),
        ("DELETE", "return=representation,count=exact", Outcome(None, 2, b"[]"), 200, "*/2"),
    ],
)
def test_update_and_delete(method: str, prefer: str, outcome: Outcome, status: int, content_range: str) -> None:
    found = answer(method, "/authors", outcome, prefer=prefer)
    assert (found.status, value(found, "content-range")) == (status, content_range)
    assert (value(found, "content-length") is None) == (status == 204)


@pytest.mark.parametrize(("inserted", "status"), [(1, 201), (0, 200)])
def test_put(inserted: int, status: int) -> None:
    outcome = Outcome(None, 1, b"[]", inserted=inserted)
    shown = answer("PUT", "/authors?id=eq.1", outcome, b'{"id":1}', prefer="return=representation")
    assert (shown.status, value(shown, "content-range")) == (status, None)
    assert answer("PUT", "/authors?id=eq.1", outcome, b'{"id":1}').status == 204


def test_calls() -> None:
    scalar = answer("GET", "/rpc/add?a=1", Outcome(None, 1, b"3"))
    assert (scalar.status, scalar.body, value(scalar, "content-range")) == (200, b"3", "0-0/*")
    nothing = answer("POST", "/rpc/nothing", Outcome(None, 1, b"null"))
    assert (nothing.status, nothing.body, value(nothing, "content-type")) == (204, b"", None)
    strict = answer("POST", "/rpc/pick", ROW, b'{"n":1}', prefer="handling=strict, max-affected=4")
    assert value(strict, "preference-applied") == "handling=strict, max-affected=4"


def test_explained() -> None:
    settings = RestSettings(schemas=("api",), plan_enabled=True)
    found = answer(
        "GET", "/authors", Outcome(None, 0, b"Plan\n"), settings=settings, accept="application/vnd.pgrst.plan"
    )
    assert (found.status, found.body) == (200, b"Plan\n")
    assert value(found, "content-range") is None


def test_custom_headers_and_status() -> None:
    outcome = Outcome(None, 1, b"[]", b'[{"X-A": "1"}, {"x-a": "2"}, {"Vary": "X"}]', b"418")
    found = answer("GET", "/authors", outcome)
    assert found.status == 418
    assert [text for name, text in found.headers if name == b"x-a"] == [b"1", b"2"]
    assert value(found, "vary") == "X"


@pytest.mark.parametrize(
    "text",
    [b"{}", b"[1]", b"nope", b'[{"a":"1","b":"2"}]', b'[{"a":1}]', b'[{"a b":"1"}]', b'[{"a":"x\\r\\nSet-Cookie: y"}]'],
)
def test_bad_custom_headers(text: bytes) -> None:
    with pytest.raises(RestError) as raised:
        parse_headers(text)
    assert (raised.value.code, raised.value.status) == (Code.RESPONSE_HEADERS, 500)


def test_custom_status() -> None:
    assert parse_status(b"204 No Content") == 204
    for text in (b"", b"x", b"99", b"1000", b"9" * 50):
        with pytest.raises(RestError) as raised:
            parse_status(text)
        assert raised.value.code is Code.RESPONSE_STATUS


def test_description_and_document() -> None:
    options = respond_description(Description("OPTIONS,GET"))
    assert (value(options, "allow"), value(options, "content-length")) == ("OPTIONS,GET", "0")
    document = respond_document(request_of("GET", "/"), b"{}")
    assert value(document, "content-type") == "application/openapi+json; charset=utf-8"
    head = respond_document(request_of("HEAD", "/"), b"{}")
    assert (head.body, value(head, "content-length")) == (b"", None)


# --- errors ----------------------------------------------------------------------------------------------------------


def database_error(sqlstate: str, message: str = "m", detail: str | None = None) -> DatabaseError:
    return DatabaseError(sqlstate=sqlstate, message=message, detail=detail, hint="h", severity="ERROR")


@pytest.mark.parametrize(
    ("sqlstate", "message", "anonymous", "authenticated"),
    [
        ("08006", "m", 503, 503),
        ("09000", "m", 500, 500),
        ("0LP01", "m", 403, 403),
        ("0P000", "m", 403, 403),
        ("21000", "UPDATE requires a WHERE clause", 400, 400),
        ("21000", "more than one row", 500, 500),
        ("22023", 'role "x" does not exist', 401, 401),
        ("22023", "bad value", 400, 400),
        ("22P02", "m", 400, 400),
        ("23503", "m", 409, 409),
        ("23505", "m", 409, 409),
        ("23502", "m", 400, 400),
        ("25006", "m", 405, 405),
        ("25P02", "m", 500, 500),
        ("28000", "m", 403, 403),
        ("2D000", "m", 500, 500),
        ("40001", "m", 500, 500),
        ("42501", "m", 401, 403),
        ("42703", "m", 400, 400),
        ("42704", "m", 400, 400),
        ("42883", "function xmlagg(record) does not exist", 406, 406),
        ("42883", "m", 404, 404),
        ("42P01", "m", 404, 404),
        ("42P10", "m", 400, 400),
        ("42P17", "m", 500, 500),
        ("53400", "m", 500, 500),
        ("53300", "m", 503, 503),
        ("54001", "m", 500, 500),
        ("55000", "m", 500, 500),
        ("57014", "m", 500, 500),
        ("57P01", "m", 503, 503),
        ("58000", "m", 500, 500),
        ("F0000", "m", 500, 500),
        ("HV000", "m", 500, 500),
        ("P0001", "m", 400, 400),
        ("P0002", "m", 500, 500),
        ("PT402", "m", 402, 402),
        ("PTxyz", "m", 500, 500),
        ("PT000", "m", 500, 500),
        ("XX000", "m", 500, 500),
    ],
)
def test_sqlstates(sqlstate: str, message: str, anonymous: int, authenticated: int) -> None:
    error = database_error(sqlstate, message, "d")
    assert failure_of(error).status == anonymous
    found = failure_of(error, authenticated=True)
    assert (found.status, found.code, found.message) == (authenticated, sqlstate, message)
    assert (found.details, found.hint) == ("d", "h")


def test_raised_responses() -> None:
    message = json.dumps({"code": "123", "message": "ABC", "details": "DEF"})
    detail = json.dumps({"status": 332, "headers": {"X-Header": "str"}})
    found = failure_of(database_error("PGRST", message, detail))
    assert found == Failure(332, "123", "ABC", "DEF", None, (("X-Header", "str"),))


@pytest.mark.parametrize(
    ("message", "detail", "details"),
    [
        ("INVALID", '{"status":1}', "Invalid JSON value for MESSAGE: 'INVALID'"),
        ('{"code":1}', "{}", "Invalid JSON value for MESSAGE: '{\"code\":1}'"),
        ('{"code":"1","message":"m"}', None, "DETAIL is missing in the RAISE statement"),
        ('{"code":"1","message":"m"}', "x", "Invalid JSON value for DETAIL: 'x'"),
        ('{"code":"1","message":"m"}', '{"status":200}', "Invalid JSON value for DETAIL: '{\"status\":200}'"),
        (
            '{"code":"1","message":"m"}',
            '{"status":5,"headers":{}}',
            'Invalid JSON value for DETAIL: \'{"status":5,"headers":{}}\'',
        ),
    ],
)
def test_badly_raised_responses(message: str, detail: str | None, details: str) -> None:
    found = failure_of(database_error("PGRST", message, detail))
    assert (found.status, found.code, found.details) == (500, Code.RAISED_UNREADABLE, details)


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (TokenEmpty(), 401, "PGRST301", "Empty JWT is sent in Authorization header"),
        (TokenMalformed("Expected 3 parts in JWT; got 2"), 401, "PGRST301", "Expected 3 parts in JWT; got 2"),
        (TokenMalformed("The JWT header is not JSON"), 401, "PGRST301", "JWT cryptographic operation failed"),
        (TokenMalformed("The JWT payload is not JSON"), 401, "PGRST303", "Parsing claims failed"),
        (TokenSignatureInvalid(), 401, "PGRST301", "No suitable key or wrong key type"),
        (TokenKeyUnknown(), 401, "PGRST301", "No suitable key or wrong key type"),
        (TokenAlgorithmRefused(), 401, "PGRST301", "Wrong or unsupported encoding algorithm"),
        (TokenExpired(), 401, "PGRST303", "JWT expired"),
        (NoKeyConfigured(), 500, "PGRST300", "Server lacks JWT secret"),
    ],
)
def test_tokens(error: TokenError, status: int, code: str, message: str) -> None:
    found = failure_of(error)
    assert (found.status, found.code, found.message) == (status, code, message)
    challenge = dict(found.headers).get("WWW-Authenticate")
    assert challenge == (f'Bearer error="invalid_token", error_description="{message}"' if status == 401 else None)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PoolTimeout("x"), 504, "PGRST003"),
        (ConnectionLost("x"), 503, "PGRST001"),
        (DatabaseUnavailable("x"), 503, "PGRST000"),
        (BodyTooLarge(), 413, "PGRST102"),
        (ValueError("secret"), 500, "PGRSTX00"),
        (RestError(Code.ANONYMOUS_DISABLED), 401, "PGRST302"),
    ],
)
def test_other_failures(error: Exception, status: int, code: str) -> None:
    response = render_error(error)
    body = json.loads(response.body)
    assert (response.status, body["code"]) == (status, code)
    assert set(body) == {"code", "message", "details", "hint"}
    assert "secret" not in response.body.decode()
    assert dict(response.headers)["Proxy-Status"] == f"PostgREST; error={code}"
    assert dict(response.headers)["Content-Type"] == "application/json; charset=utf-8"


def test_terse_errors() -> None:
    assert json.loads(failure_body(Failure(400, "x", "m", "d", "h"), verbose=False)) == {"code": "x", "message": "m"}


def test_every_code_has_its_own_text() -> None:
    assert len({code.value for code in Code}) == len(Code)
    retired = {"PGRST104", "PGRST109", "PGRST110", "PGRST113", "PGRST119"}
    assert not retired & {code.value for code in Code}


# --- CORS ------------------------------------------------------------------------------------------------------------


def test_preflight() -> None:
    headers = {
        b"origin": b"http://example.com",
        b"access-control-request-method": b"POST",
        b"access-control-request-headers": b"Foo,Bar",
    }
    found = dict(preflight(headers, ()) or ())
    assert found == {
        b"access-control-allow-origin": b"*",
        b"access-control-allow-methods": b"GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD",
        b"access-control-allow-headers": b"Authorization, Foo, Bar, Accept, Accept-Language, Content-Language",
        b"access-control-max-age": b"86400",
    }
    allowed = dict(preflight(headers, ["http://example.com"]) or ())
    assert allowed[b"access-control-allow-origin"] == b"http://example.com"
    assert allowed[b"access-control-allow-credentials"] == b"true"
    assert preflight(headers, ["http://other.com"]) is None
    assert preflight({b"origin": b"x"}, ()) is None


def test_simple_requests() -> None:
    assert simple_headers({}, ()) == ()
    assert dict(simple_headers({b"origin": b"x"}, ()))[b"access-control-allow-origin"] == b"*"
    assert simple_headers({b"origin": b"x"}, ["y"]) == ()


def test_schema_sample_is_whole() -> None:
    assert SCHEMA.names == ("api",)
