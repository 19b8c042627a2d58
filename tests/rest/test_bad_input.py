# ruff: noqa: E501 (a request is easier to read on one line)
"""Whatever arrives over a socket is answered in time, with the contract's 4xx, and leaves the service well
(contract rest.md §1 to §11, §16): URLs, headers and bodies that are large, deep, broken or generated."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bookshop import BOOKSHOP, ROLES
from harness.postgres import TestServer
from harness.rest_service import Answer, RestService, running_rest
from socle_rest.fuzzy import FuzzySet

SECONDS = 8.0
"""No answer takes longer: the database stops a statement after three."""
NOT_HTTP = frozenset({"bad_request", "uri_too_long", "request_header_fields_too_large"})
"""Codes of requests that do not get as far as the service."""
FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def service(server: TestServer) -> Iterator[RestService]:
    """The service on the bookshop, where every transaction is rolled back."""
    name = "bad_input_of_run"

    async def prepare() -> None:
        await server.run("postgres", *ROLES)
        await server.make_template("template_bookshop", "template0", BOOKSHOP, "analyze")
        await server.run(
            "postgres",
            f"drop database if exists {name} with (force)",
            f"create database {name} template template_bookshop",
            f"alter database {name} set statement_timeout = '3s'",
        )

    asyncio.run(prepare())
    environ = {
        "PGRST_DB_URI": server.dsn(name, "shop_login"),
        "PGRST_DB_ANON_ROLE": "shop_anon",
        "PGRST_DB_SCHEMAS": "shop,other",
        "PGRST_DB_TX_END": "rollback-allow-override",
        "PGRST_DB_AGGREGATES_ENABLED": "true",
        "PGRST_DB_PLAN_ENABLED": "true",
        "PGRST_JWT_SECRET": "s" * 40,
    }
    with running_rest(environ) as running:
        yield running


def is_own_failure(code: str | None) -> bool:
    """A 500 that PostgreSQL alone accounts for: an internal error, a limit of its own, or the statement's time."""
    return code is not None and (code[:2] in {"XX", "54"} or code == "57014")


def check(answer: Answer, method: str = "GET") -> None:
    """The answer is one that the contract has: no fault of ours, no lost connection, an error in its shape."""
    assert answer.status < 500 or (answer.status == 500 and (method == "HEAD" or is_own_failure(answer.code))), (
        answer.status,
        answer.body[:500],
    )
    if answer.status >= 400 and method != "HEAD":
        assert set(answer.json) == {"code", "message", "details", "hint"}
        if answer.code in NOT_HTTP:
            return
        assert answer.headers["proxy-status"] == f"PostgREST; error={answer.code}"


def ask(service: RestService, method: str, target: str | bytes, body: object = b"", **headers: str | bytes) -> Answer:
    """An answer that came in time. `headers` with `_` for `-`."""
    started = time.perf_counter()
    answer = service.ask(method, target, body, [(name.replace("_", "-"), value) for name, value in headers.items()])
    assert time.perf_counter() - started < SECONDS
    check(answer, method)
    return answer


# --- URLs ------------------------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
EMBEDS = ",".join(f"b{n}:books(id)" for n in range(200))
CHAIN = "book:books(author:authors(" * 60


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        pytest.param("/authors?or=" + "(or" * 1000 + "(id.eq.1)" + ")" * 1000, 400, "PGRST100", id="parentheses"),
        pytest.param("/authors?and=(" + "not.and(" * 1000 + "id.eq.1" + ")" * 1001, 400, "PGRST100", id="negations"),
        pytest.param("/authors?or=" + "(" * 30_000, 400, "PGRST100", id="parentheses that never close"),
        pytest.param("/authors?or=(" + "or(" * 90 + "id.eq.1,id.eq.2" + ")" * 91, 200, None, id="as deep as allowed"),
        pytest.param(f"/authors?select=id,{EMBEDS}", 200, None, id="200 embeds"),
        pytest.param(f"/authors?select={CHAIN}id{'))' * 60}", 400, "PGRST100", id="120 embeds in each other"),
        pytest.param(f"/authors?select={CHAIN}", 400, "PGRST100", id="embeds that never close"),
        pytest.param("/authors?select=" + "a" * MEGABYTE, 414, "uri_too_long", id="a megabyte of select"),
        pytest.param("/authors?name=eq." + "a" * MEGABYTE, 414, "uri_too_long", id="a megabyte of value"),
        pytest.param("/" + "a" * MEGABYTE, 414, "uri_too_long", id="a megabyte of path"),
        pytest.param("/authors?name=eq." + "a" * 60_000, 200, None, id="a long value"),
        pytest.param("/authors?id=in.(" + "1," * 29_000 + "1)", 200, None, id="a long list"),
        pytest.param("/authors?or=(" + "id.eq.1," * 7_000 + "id.eq.1)", 200, None, id="a long condition"),
        pytest.param("/authors?" + "id=eq.1&" * 7_000, 200, None, id="many filters"),
        pytest.param("/authors?order=" + "id," * 1_660 + "id", 200, None, id="many terms of order"),
        pytest.param("/authors?select=" + ",".join(f"c{n}:id" for n in range(1_700)), 500, "54011", id="more columns than PostgreSQL has"),
        pytest.param("/" + "b" * 50_000, 404, "PGRST205", id="a long table"),
        pytest.param("/rpc/" + "b" * 50_000, 404, "PGRST202", id="a long function"),
        pytest.param("/rpc/add?" + "&".join(f"a{n}=1" for n in range(5_000)), 404, "PGRST202", id="many arguments"),
        pytest.param("/rpc/join_up?sep=x&" + "parts=1&" * 7_000, 200, None, id="many values of a variadic argument"),
        pytest.param("/books?facts" + "->a" * 15_000 + "=eq.1", 400, "PGRST100", id="a long JSON path"),
        pytest.param("/authors?" + "books." * 9_000 + "id=eq.1", 400, "PGRST108", id="a long path of embeds"),
        pytest.param(b"/authors?name=eq.\xff\xfe", 400, "PGRST100", id="bytes outside UTF-8"),
        pytest.param("/authors?name=eq.Zoë", 200, None, id="letters outside ASCII"),
        pytest.param("/größe", 404, "PGRST205", id="a table outside ASCII"),
        pytest.param(b"/auth\x00ors", 400, "bad_request", id="a NUL byte"),
        pytest.param("/authors?name=eq.%FF", 400, "PGRST100", id="invalid UTF-8"),
        pytest.param("/authors?%FF=eq.1", 400, "PGRST100", id="invalid UTF-8 in a name"),
        pytest.param("/authors?name=eq.%ED%A0%80", 400, "PGRST100", id="half a surrogate pair"),
        pytest.param("/authors%FF", 404, None, id="invalid UTF-8 in the path"),
        pytest.param("/authors?name=eq.%00", 400, "22021", id="NUL in a value"),
        pytest.param("/authors?name=in.(a,%00)", 400, "22021", id="NUL in a list"),
        pytest.param("/authors?select=id,a%00b:name", 400, None, id="NUL in an alias"),
        pytest.param("/books?select=facts->a%00b", 400, None, id="NUL in a JSON path"),
        pytest.param("/books?order=facts->a%00b", 400, None, id="NUL in an order"),
        pytest.param("/authors?select=id::te%00xt", 400, "PGRST100", id="NUL in a cast"),
        pytest.param("/authors%00", 404, "PGRST205", id="NUL in the path"),
        pytest.param("/rpc/add?a=%00", 400, "22021", id="NUL in an argument"),
        pytest.param("/authors?select=id::%22;drop table x%22", 400, "PGRST100", id="a statement for a cast"),
        pytest.param("/authors?name=eq.x%27;drop table shop.authors;--", 200, None, id="a statement for a value"),
        pytest.param("/authors?%22id\\%22;drop table x;--%22=eq.1", 400, "42703", id="a statement for a column"),
        pytest.param("/authors?select=%22id\\%22;drop table x;--%22", 400, "42703", id="a statement for a selected column"),
        pytest.param("/authors?select=%22id\\%22;drop table x;--%22:id", 200, None, id="a statement for an alias"),
        pytest.param("/authors?limit=" + "9" * 5_000, 400, "22003", id="a huge limit"),
        pytest.param("/authors?offset=" + "9" * 5_000, 400, "22003", id="a huge offset"),
        pytest.param("/authors?limit=9223372036854775807&offset=9223372036854775807", 200, None, id="the largest of both"),
        pytest.param("/authors?limit=-9", 416, "PGRST103", id="a negative limit"),
        pytest.param("/authors?limit=0&offset=5", 416, "PGRST103", id="nothing, from somewhere"),
        pytest.param("/authors?limit=1e9&offset=zero", 200, None, id="a limit that is no number"),
        pytest.param("/books?select=facts->99999999999", 400, "22003", id="a huge index"),
        pytest.param("/books?title=match.(((", 400, "2201B", id="a broken expression"),
        pytest.param("/books?title=fts(nope).x", 400, "42704", id="an unknown language"),
        pytest.param("/books?tags=cs.{", 400, "22P02", id="half an array"),
        pytest.param("/books?id=eq(any).{", 400, "22P02", id="half an array of numbers"),
        pytest.param("/books?id=eq(some).{1}", 400, "PGRST100", id="an unknown quantifier"),
        pytest.param("/books?id=frob.1", 400, "PGRST100", id="an unknown operator"),
        pytest.param("/books?order=id.sideways", 400, "PGRST100", id="an unknown direction"),
        pytest.param("/books?nope.id=eq.1", 400, "PGRST108", id="a filter on what is not embedded"),
        pytest.param("//authors", 404, "PGRST125", id="two slashes"),
        pytest.param("/authors/1", 404, "PGRST125", id="a path too deep"),
        pytest.param("/%2e%2e/authors", 404, "PGRST125", id="up and down"),
        pytest.param("/../../etc/passwd", 404, "PGRST125", id="up and out"),
    ],
)  # fmt: skip
def test_urls(service: RestService, target: str | bytes, status: int, code: str | None) -> None:
    if isinstance(target, str):
        target = target.replace(" ", "%20")
    answer = ask(service, "GET", target)
    assert (answer.status, answer.code if code else None) == (status, code), answer.body[:300]
    assert ask(service, "GET", "/authors?select=id&id=eq.1").json == [{"id": 1}]


def test_a_url_longer_than_any_header(service: RestService) -> None:
    """Clients refuse answers with headers of 16 KiB, so a long URL is not repeated in them."""
    answer = ask(service, "GET", "/authors?select=id&id=in.(" + ",".join(map(str, range(1, 9_000))) + ")")
    assert len(answer.json) == 3
    assert sum(len(name) + len(value) for name, value in answer.headers.items()) < 8_192


# --- methods and headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "LOCK", "PROPFIND", "DELETE", "PUT"])
def test_methods_without_meaning(service: RestService, method: str) -> None:
    answer = ask(service, method, "/rpc/add")
    assert (answer.status, answer.code) == (405, "PGRST101")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        pytest.param({"Range": "0-" + "9" * 5_000}, 400, "22003", id="a range to the moon"),
        pytest.param({"Range": "9" * 30 + "-"}, 400, "22003", id="a range from the moon"),
        pytest.param({"Range": "5-1"}, 416, "PGRST103", id="a range backwards"),
        pytest.param({"Range": "bytes=0-1, 3-4"}, 200, None, id="ranges of bytes"),
        pytest.param({"Range": b"\xff-\xfe"}, 200, None, id="a range of nothing"),
        pytest.param({"Prefer": "," * 10_000}, 200, None, id="preferences for nothing"),
        pytest.param({"Prefer": "count=exact;count=planned, =, return=, handling"}, 200, None, id="half preferences"),
        pytest.param({"Prefer": "handling=strict, frob=1"}, 400, "PGRST122", id="an unknown preference"),
        pytest.param({"Prefer": "timezone=" + "a" * 5_000}, 400, "22023", id="a long time zone"),
        pytest.param({"Prefer": b"timezone=\xff"}, 400, "22023", id="a time zone in bytes"),
        pytest.param({"Prefer": "timezone='; drop table shop.authors; --"}, 400, "22023", id="a statement for a time zone"),
        pytest.param({"Accept": "/"}, 406, "PGRST107", id="half a media type"),
        pytest.param({"Accept": "text/csv;q=nan, */*;q=1e999"}, 200, None, id="qualities that are none"),
        pytest.param({"Accept": b"\xff/\xff"}, 406, "PGRST107", id="a media type in bytes"),
        pytest.param({"Accept": ", ".join(["a/b"] * 5_000)}, 406, "PGRST107", id="many media types"),
        pytest.param({"Accept": 'application/vnd.pgrst.plan+json; for="application/vnd.pgrst.plan"; options=frob'}, 406, "PGRST107", id="the plan of a plan"),
        pytest.param({"Accept-Profile": "pg_catalog"}, 406, "PGRST106", id="the catalogue"),
        pytest.param({"Accept-Profile": b"\xff"}, 406, "PGRST106", id="a schema in bytes"),
        pytest.param({"Authorization": "Bearer"}, 401, "PGRST301", id="no token"),
        pytest.param({"Authorization": b"Bearer \xff.\xff.\xff"}, 401, "PGRST301", id="a token in bytes"),
        pytest.param({"Authorization": "Bearer " + "a" * 30_000}, 401, "PGRST301", id="a long token"),
        pytest.param({"Authorization": "Bearer e30.e30."}, 401, "PGRST301", id="an empty token"),
        pytest.param({"X-Anything": b"\xff\xfe\x80", "Cookie": b"a=\xff; b; =;;"}, 200, None, id="other headers in bytes"),
        pytest.param({"X-Anything": "a" * 60_000}, 200, None, id="a long header"),
        pytest.param({f"X-{n}": "1" for n in range(2_000)}, 200, None, id="many headers"),
        pytest.param({"X-Anything": b"a\x00b"}, 400, None, id="NUL in a header"),
        pytest.param({"Expect": "100-continue"}, 200, None, id="an expectation without a body"),
        pytest.param({"Upgrade": "websocket", "Connection": "upgrade"}, 200, None, id="an upgrade"),
    ],
)  # fmt: skip
def test_headers(service: RestService, headers: dict[str, str | bytes], status: int, code: str | None) -> None:
    answer = service.ask("GET", "/authors?select=id", b"", headers.items())
    check(answer)
    assert (answer.status, answer.code if code else None) == (status, code), answer.body[:300]
    assert ask(service, "GET", "/authors?select=id&id=eq.1").json == [{"id": 1}]


# --- bodies ----------------------------------------------------------------------------------------------------------

JSON_TYPE = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("target", "body", "content_type", "status", "code"),
    [
        pytest.param("/books", b"[" * 100_000 + b"]" * 100_000, JSON_TYPE, 400, "PGRST102", id="deep arrays"),
        pytest.param("/books", b'{"facts":' * 2_000 + b"1" + b"}" * 2_000, JSON_TYPE, 400, "PGRST102", id="deep objects"),
        pytest.param("/books?columns=id,facts", b'{"id":90,"facts":' + b"[" * 100_000, JSON_TYPE, 500, "54001", id="deeper than PostgreSQL goes"),
        pytest.param("/books?columns=id", b"\xff", JSON_TYPE, 400, "22021", id="invalid UTF-8 that PostgreSQL reads"),
        pytest.param("/books?columns=id", b"{", JSON_TYPE, 400, "22P02", id="half an object that PostgreSQL reads"),
        pytest.param("/books?columns=id", b"3", JSON_TYPE, 400, "22023", id="a number that PostgreSQL reads"),
        pytest.param("/books?columns=" + ",".join(f"a{n}" for n in range(9_000)), b"{}", JSON_TYPE, 400, "PGRST204", id="many columns"),
        pytest.param("/books", b"", JSON_TYPE, 400, "PGRST102", id="nothing"),
        pytest.param("/books", b"\xff\xfe", JSON_TYPE, 400, "PGRST102", id="invalid UTF-8"),
        pytest.param("/books", b'{"id":1', JSON_TYPE, 400, "PGRST102", id="half an object"),
        pytest.param("/books", b"{'id':1}", JSON_TYPE, 400, "PGRST102", id="single quotes"),
        pytest.param("/books", b'{"id":NaN}', JSON_TYPE, 400, "PGRST102", id="not a number"),
        pytest.param("/books", b'{"id":1}{"id":2}', JSON_TYPE, 400, "PGRST102", id="two documents"),
        pytest.param("/books", b'{"title":"\\ud800"}', JSON_TYPE, 400, None, id="half a surrogate pair"),
        pytest.param("/books", b'{"id":90,"title":"\\u0000"}', JSON_TYPE, 400, "22P05", id="an escaped NUL"),
        pytest.param("/books", b'{"id":90,"title":"\x00"}', JSON_TYPE, 400, "PGRST102", id="a NUL byte"),
        pytest.param("/books", b'{"id":' + b"9" * 4_000 + b"}", JSON_TYPE, 400, None, id="a number of 4,000 digits"),
        pytest.param("/books", b'{"id":90,"price":1e400}', JSON_TYPE, 400, None, id="a number beyond floats"),
        pytest.param("/books", b'{"id":3000000000}', JSON_TYPE, 400, "22003", id="a number beyond the column"),
        pytest.param("/books", b'{"id":1,"id":90}', JSON_TYPE, 201, None, id="a key twice"),
        pytest.param("/books", b'{"":1}', JSON_TYPE, 400, "PGRST204", id="a key without a name"),
        pytest.param("/books", b'{"id\\u0000":1}', JSON_TYPE, 400, "PGRST204", id="a key with NUL"),
        pytest.param("/books", b'{"id\\"; drop table shop.books; --":1}', JSON_TYPE, 400, "PGRST204", id="a statement for a key"),
        pytest.param("/books", b'[{"id":90},{"title":"x"}]', JSON_TYPE, 400, "PGRST102", id="uneven rows"),
        pytest.param("/books", b'[{"id":90},[1]]', JSON_TYPE, 400, "PGRST102", id="a row that is a list"),
        pytest.param("/books", b"[null]", JSON_TYPE, 400, "PGRST102", id="a row that is null"),
        pytest.param("/books", json.dumps({f"k{n}": n for n in range(20_000)}).encode(), JSON_TYPE, 400, "PGRST204", id="many keys"),
        pytest.param("/rpc/add", json.dumps({f"k{n}": n for n in range(20_000)}).encode(), JSON_TYPE, 404, "PGRST202", id="many arguments"),
        pytest.param("/rpc/add", b'{"a":[[[1]]]}', JSON_TYPE, 400, "22P02", id="an argument of another type"),
        pytest.param("/rpc/shout", b"\x00", "text/plain", 400, "22021", id="NUL as text"),
        pytest.param("/rpc/shout", b"\xff", "text/plain", 400, "22021", id="invalid UTF-8 as text"),
        pytest.param("/rpc/size_of", bytes(range(256)), "application/octet-stream", 200, None, id="every byte"),
        pytest.param("/books", b"id=%FF", FORM, 400, "PGRST100", id="a form with invalid UTF-8"),
        pytest.param("/books", b"title=%00&id=90", FORM, 400, "22P05", id="a form with NUL"),
        pytest.param("/books", b"&&=&=1&;%", FORM, 400, "PGRST204", id="a form of signs"),
        pytest.param("/books", b'id,title\n90,"x', "text/csv", 400, "PGRST102", id="CSV with an open quote"),
        pytest.param("/books", b"id,title\n90,x\n91", "text/csv", 400, "PGRST102", id="CSV with a field missing"),
        pytest.param("/books", b"\xff", "text/csv", 400, "PGRST102", id="CSV with invalid UTF-8"),
        pytest.param("/books", b"id,title\n90,\x00", "text/csv", 400, "22P05", id="CSV with NUL"),
        pytest.param("/books", b"{}", "application/json; charset=" + "x" * 30_000, 400, None, id="a long parameter"),
        pytest.param("/books", b"{}", "application/xml", 400, "PGRST102", id="another type"),
        pytest.param("/books", b"{}", "/;;;=", 400, "PGRST102", id="no type"),
    ],
)  # fmt: skip
def test_bodies(
    service: RestService, target: str, body: bytes, content_type: str, status: int, code: str | None
) -> None:
    answer = ask(service, "POST", target, body, Content_Type=content_type)
    assert (answer.status, answer.code if code else None) == (status, code), answer.body[:300]
    assert ask(service, "GET", "/authors?select=id&id=eq.1").json == [{"id": 1}]


def test_a_body_that_never_comes(service: RestService) -> None:
    """The client leaves in the middle of its body; nothing is written and the service goes on."""
    with pytest.raises(TimeoutError):
        _impatient(service, b"POST /authors HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    assert ask(service, "GET", "/authors?select=count()").json == [{"count": 3}]


def _impatient(service: RestService, request: bytes) -> Answer:
    other = RestService(service.port, time_limit=0.3)
    return other.send(request, "POST")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET /authors HTTP/9.9\r\n\r\n",
        b"POST /authors HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /authors HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /authors HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
        b"POST /authors HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http(service: RestService, request_: bytes) -> None:
    other = RestService(service.port)
    answer = other.send(request_, "GET")
    other.hang_up()
    assert (answer.status, answer.code) == (400, "bad_request")
    assert ask(service, "GET", "/authors?select=id&id=eq.1").json == [{"id": 1}]


# --- generated input -------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("id", "title", "author_id", "price", "facts", "tags", "stock", "authors", "books", "reviews", "labels", "covers"),
        *("eq", "neq", "in", "is", "like", "cs", "ov", "fts", "match", "not", "or", "and", "any", "all", "null", "isdistinct"),
        *(".", ",", "(", ")", "!", ":", "::", "->", "->>", "...", "*", '"', "{", "}", "=", "&", "%", "%00", "%25", "+", " ", "-"),
        *("inner", "left", "count()", ".sum()", "select", "order", "limit", "offset", "columns", "on_conflict", "desc", "nullsfirst"),
        *("1", "0", "-1", "99999999999999999999", "é", "\U0001f600", "text", "int", "\\", "'", ";", "--"),
    ]
)  # fmt: skip
TEXTS = st.lists(WORDS | st.text(max_size=4), max_size=14).map("".join)
KEYS = st.sampled_from(["select", "order", "or", "and", "not.or", "limit", "offset", "columns", "on_conflict", "id", "facts", "authors.id", "reviews.order", "title", "price"]) | TEXTS  # fmt: skip
VALUES = TEXTS | st.builds("{}.{}".format, st.sampled_from(["eq", "in", "is", "not.eq", "cs", "like(any)", "fts(english)", "gt"]), TEXTS)  # fmt: skip
PATHS = st.sampled_from(["/books", "/authors", "/places", "/titles", "/typed", "/rpc/add", "/rpc/books_over", "/rpc/join_up", "/rpc/echo", "/"]) | TEXTS.map(lambda text: "/" + quote(text, safe=""))  # fmt: skip
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
QUERIES = st.lists(st.tuples(KEYS, VALUES), max_size=5).map(
    lambda pairs: "&".join(f"{quote(key)}={quote(value)}" for key, value in pairs)
) | st.binary(max_size=40).map(quote_from_bytes)

HEADER_NAMES = st.sampled_from(["Prefer", "Accept", "Range", "Accept-Profile", "Content-Profile", "Content-Type", "Authorization", "Cookie", "Range-Unit", "Origin", "X-Header"])  # fmt: skip
HEADER_WORDS = st.lists(
    st.sampled_from(
        [
            *("return=", "representation", "minimal", "count=", "exact", "planned", "estimated", "handling=strict", "tx=", "commit"),
            *("resolution=", "merge-duplicates", "missing=default", "max-affected=", "timezone=", "UTC", ",", ";", "=", " ", '"'),
            *("application/", "json", "text/csv", "vnd.pgrst.object+json", "vnd.pgrst.plan+json", "nulls=stripped", "options=analyze", "*/*"),
            *("for=", "q=0.1", "0-1", "5-2", "bytes=", "shop", "other", "Bearer ", "e30.e30.e30", "9999999999999999999999"),
        ]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=5),
    max_size=8,
).map("".join)  # fmt: skip
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_WORDS.map(str.strip)), max_size=4)

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "title", "a", "b", ""]) | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
BODIES = JSON_VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60) | TEXTS.map(str.encode)


@FUZZ
@given(METHODS, PATHS, QUERIES)
def test_generated_urls(service: RestService, method: str, path: str, query: str) -> None:
    ask(service, method, f"{path}?{query}", b"{}" if method in {"POST", "PUT", "PATCH"} else b"")


@FUZZ
@given(METHODS, PATHS, HEADERS)
def test_generated_headers(service: RestService, method: str, path: str, headers: list[tuple[str, str]]) -> None:
    started = time.perf_counter()
    answer = service.ask(method, path, b'{"id":1}' if method in {"POST", "PUT", "PATCH"} else b"", headers)
    assert time.perf_counter() - started < SECONDS
    check(answer, method)


@FUZZ
@given(
    st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    PATHS,
    BODIES,
    st.sampled_from([JSON_TYPE, "text/csv", FORM, "text/plain", "application/octet-stream", "text/xml", ""]),
    st.sampled_from(["", "?columns=id,title", "?id=eq.1", "?on_conflict=id", "?select=id"]),
)
def test_generated_bodies(
    service: RestService, method: str, path: str, body: bytes, content_type: str, query: str
) -> None:
    ask(service, method, path + query, body, Content_Type=content_type, Prefer="return=representation")


def strategy_of(operation: Any) -> st.SearchStrategy[Any]:
    strategy: st.SearchStrategy[Any] = operation.as_strategy()
    return strategy


FAILING_BY_DESIGN = frozenset({"/rpc/bad_headers", "/rpc/raise_it", "/rpc/respond", "/rpc/sleep"})


def test_requests_made_from_the_openapi_document(service: RestService) -> None:
    """Schemathesis reads the document that we serve, and asks what it says can be asked."""
    document = service.ask("GET", "/").json
    schema: Any = schemathesis.openapi.from_dict(document)
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]
    asked = [one for one in operations if one.path not in FAILING_BY_DESIGN]
    assert len(asked) > 40

    @settings(parent=FUZZ, max_examples=60)
    @given(st.sampled_from(asked).flatmap(strategy_of))
    def exchange(case: Any) -> None:
        started = time.perf_counter()
        response = case.call(base_url=service.origin, timeout=SECONDS)
        assert time.perf_counter() - started < SECONDS
        check(
            Answer(
                response.status_code,
                "",
                {name.lower(): values[0] for name, values in response.headers.items()},
                response.content,
            ),
            case.method,
        )

    exchange()


# --- hints -----------------------------------------------------------------------------------------------------------


def test_a_long_name_keeps_nobody_waiting() -> None:
    """The name of a table that is not there is compared with those that are; a long one took a minute."""
    names = FuzzySet(f"customer_orders_of_{number}_{'abcdefghij'[number % 10] * 5}" for number in range(400))
    started = time.perf_counter()
    assert names.nearest("customer_orders_of_" * 3_000) is None
    assert time.perf_counter() - started < 1.0


@given(st.lists(st.text("ab_", min_size=1, max_size=12), max_size=6, unique=True), st.text("ab_", max_size=40))
def test_what_is_too_long_to_be_alike_would_not_have_been(words: list[str], word: str) -> None:
    """Leaving words out by their length alone changes no hint: all that a lower bar finds and passes is still found."""
    known = FuzzySet(words)
    everything = known.matches(word, 0.0)
    for bar in (0.33, 0.75):
        found = known.matches(word, bar)
        assert {match for match in everything if match[0] >= bar} <= set(found)
        assert all(score >= bar for score, _ in found)


def test_the_check_can_fail() -> None:
    with pytest.raises(AssertionError):
        check(Answer(500, "", {}, b'{"code":"PGRSTX00","message":"m","details":null,"hint":null}'))
    with pytest.raises(AssertionError):
        check(Answer(503, "", {}, b'{"code":"08P01","message":"m","details":null,"hint":null}'))
    with pytest.raises(AssertionError):
        check(Answer(404, "", {}, b'{"message":"m"}'))
    check(Answer(500, "", {}, b'{"code":"XX000","message":"m","details":null,"hint":null}'), "HEAD")
