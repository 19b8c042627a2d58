"""Prefer, Accept, ranges, bodies, and the request made of them (contract rest.md §1, §5, §7, §8, §10)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rest_samples import SETTINGS, request_of
from socle_platform.config.rest import OpenApiSettings, RestSettings, SqlName
from socle_rest.errors import Code, RestError
from socle_rest.media import Kind, parse_accept, parse_media_type
from socle_rest.payload import Payload, parse_payload
from socle_rest.prefer import Preferences, parse_preferences, preference_applied
from socle_rest.ranges import (
    EVERYTHING,
    NOTHING,
    Range,
    combine_ranges,
    content_range,
    parse_range_header,
    range_status,
    top_level_range,
)
from socle_rest.request import Action, RawRequest, parse_request
from socle_rest.schema import QualifiedName

# --- Prefer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], Preferences()),
        (["return=representation"], Preferences(returning="representation")),
        (["return=minimal", "return=representation"], Preferences(returning="minimal")),
        (["count=exact,   tx=rollback ,missing=default"],
         Preferences(count="exact", transaction="rollback", missing="default")),
        (["resolution=ignore-duplicates, handling=strict, nope, x=y"],
         Preferences(resolution="ignore-duplicates", handling="strict", invalid=("nope", "x=y"))),
        (["timezone=America/Lima, max-affected=5"], Preferences(timezone="America/Lima", max_affected=5)),
        (["max-affected=many"], Preferences()),
        (["return=Representation"], Preferences(invalid=("return=Representation",))),
    ],
)  # fmt: skip
def test_preferences(headers: list[str], found: Preferences) -> None:
    assert parse_preferences(headers, allow_transaction=True) == found


def test_transaction_preference_is_heard_only_where_allowed() -> None:
    assert parse_preferences(["tx=rollback"], allow_transaction=False) == Preferences()


def test_preference_applied_has_one_order() -> None:
    text = (
        "max-affected=3, timezone=UTC, handling=strict, tx=commit, count=planned, return=minimal, missing=null,"
        "resolution=merge-duplicates"
    )
    assert preference_applied(parse_preferences([text], allow_transaction=True)) == (
        "resolution=merge-duplicates, missing=null, return=minimal, count=planned, tx=commit, handling=strict, "
        "timezone=UTC, max-affected=3"
    )
    assert preference_applied(Preferences(max_affected=3)) is None
    assert preference_applied(Preferences()) is None


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_prefer_header_is_read(headers: list[str]) -> None:
    parse_preferences(headers, allow_transaction=True)


# --- Accept ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "content_type"),
    [
        ("application/json", Kind.JSON, "application/json; charset=utf-8"),
        ("Application/JSON;charset=utf-8", Kind.JSON, "application/json; charset=utf-8"),
        ("text/csv", Kind.CSV, "text/csv; charset=utf-8"),
        ("application/octet-stream", Kind.OCTETS, "application/octet-stream"),
        ("application/vnd.pgrst.object", Kind.OBJECT, "application/vnd.pgrst.object+json; charset=utf-8"),
        ("ApplicatIon/vnd.PgRsT.object+json", Kind.OBJECT, "application/vnd.pgrst.object+json; charset=utf-8"),
        (
            "application/vnd.pgrst.object+json; NULLS=stripped",
            Kind.STRIPPED_OBJECT,
            "application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8",
        ),
        ("application/vnd.pgrst.array+json", Kind.JSON, "application/json; charset=utf-8"),
        (
            "application/vnd.pgrst.array;nulls=stripped",
            Kind.STRIPPED_ARRAY,
            "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8",
        ),
        ("application/vnd.twkb", Kind.OTHER, "application/vnd.twkb"),
        ("nonsense", Kind.OTHER, "nonsense"),
        (
            "application/vnd.pgrst.plan",
            Kind.PLAN,
            'application/vnd.pgrst.plan+text; for="application/json"; charset=utf-8',
        ),
        (
            'application/vnd.pgrst.plan+json; for="text/xml" ; options=wal|analyze|nope;',
            Kind.PLAN,
            'application/vnd.pgrst.plan+json; for="text/xml"; options=analyze|wal; charset=utf-8',
        ),
        (
            'application/vnd.pgrst.plan+json; for="application/vnd.pgrst.object+json"; options=;',
            Kind.PLAN,
            'application/vnd.pgrst.plan+json; for="application/vnd.pgrst.object+json"; charset=utf-8',
        ),
    ],
)
def test_media_types(text: str, kind: Kind, content_type: str) -> None:
    found = parse_media_type(text)
    assert (found.kind, found.content_type) == (kind, content_type)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, ["*/*"]),
        ("text/csv, application/json", ["text/csv", "application/json"]),
        ("text/csv;q=0.5, application/json;q=0.9", ["application/json", "text/csv"]),
        ("*/*, text/csv", ["text/csv", "*/*"]),
        ("text/plain; q=0.1, */*;q=nope", ["*/*", "text/plain"]),
    ],
)
def test_accept_is_ordered(text: str | None, names: list[str]) -> None:
    assert [one.name for one in parse_accept(text)] == names


@given(st.text(max_size=60))
def test_any_accept_header_is_read(text: str) -> None:
    assert parse_accept(text)


# --- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "offset", "found"),
    [
        ("3", None, Range(0, 2)),
        (None, "3", Range(3, None)),
        ("3", "2", Range(2, 4)),
        ("0", None, NOTHING),
        ("many", None, None),
        ("many", "4", Range(4, None)),
        ("2", "-1", Range(-1, 0)),
        (" 7 ", None, Range(0, 6)),
        ("9" * 5000, None, Range(0, 10**40 - 2)),
    ],
)
def test_limit_and_offset(limit: str | None, offset: str | None, found: Range | None) -> None:
    limits = {} if limit is None else {"limit": limit}
    offsets = {} if offset is None else {"limit": offset}
    assert combine_ranges(limits, offsets).get("limit") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("0-9", Range(0, 9)), ("5-", Range(5, None)), (None, EVERYTHING), ("items=0-9", EVERYTHING), ("-5", EVERYTHING)],
)
def test_range_header(text: str | None, found: Range) -> None:
    assert parse_range_header(text) == found


def test_top_level_range() -> None:
    assert top_level_range(Range(0, 4), Range(2, 9)) == Range(2, 4)
    assert top_level_range(NOTHING, Range(2, 9)) == NOTHING
    assert top_level_range(Range(-3, -1), EVERYTHING) == NOTHING
    assert top_level_range(Range(-2, None), EVERYTHING) == EVERYTHING
    for root, header, words in (
        (EVERYTHING, Range(5, 2), "lower boundary"),
        (Range(0, -6), EVERYTHING, "Limit should be"),
        (Range(5, 4), EVERYTHING, "Limit should be"),
    ):
        with pytest.raises(RestError) as raised:
            top_level_range(root, header)
        assert raised.value.code is Code.RANGE_UNSATISFIABLE
        assert words in str(raised.value.details)


def test_restriction_to_max_rows() -> None:
    assert EVERYTHING.restrict(10) == Range(0, 9)
    assert Range(5, None).restrict(10) == Range(5, 14)
    assert Range(5, 6).restrict(10) == Range(5, 6)
    assert NOTHING.restrict(10) == NOTHING
    assert EVERYTHING.restrict(None) == EVERYTHING


@pytest.mark.parametrize(
    ("first", "last", "total", "text", "status"),
    [
        (0, 4, None, "0-4/*", 200),
        (0, 4, 5, "0-4/5", 200),
        (0, 4, 9, "0-4/9", 206),
        (0, -1, 0, "*/0", 200),
        (0, -1, None, "*/*", 200),
        (9, 8, 5, "*/5", 416),
        (5, 4, 5, "*/5", 206),
    ],
)
def test_content_range(first: int, last: int, total: int | None, text: str, status: int) -> None:
    assert content_range(first, last, total) == text
    assert range_status(first, last, total) == status


# --- bodies ----------------------------------------------------------------------------------------------------------


def payload(body: bytes, kind: str = "application/json", *, is_call: bool = False, columns: str = "") -> Payload:
    names = frozenset(columns.split(",")) if columns else None
    return parse_payload(body, parse_media_type(kind), names, is_call=is_call)


@pytest.mark.parametrize(
    ("body", "text", "keys"),
    [
        (b'{"a":1,"b":2}', b'{"a":1,"b":2}', ("a", "b")),
        (b'[{"a":1},{"a":2}]', b'[{"a":1},{"a":2}]', ("a",)),
        (b"[]", b"[]", ()),
        (b"{}", b"{}", ()),
        (b"17", b"[]", ()),
        (b'"x"', b"[]", ()),
        (b'{"n":12345678901234567890123}', b'{"n":12345678901234567890123}', ("n",)),
    ],
)
def test_json_bodies(body: bytes, text: bytes, keys: tuple[str, ...]) -> None:
    assert payload(body) == Payload(text, frozenset(keys))


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "application/json", "Empty or invalid json"),
        (b"{", "application/json", "Empty or invalid json"),
        (b"\xff", "application/json", "Empty or invalid json"),
        (b"[" * 3000, "application/json", "Empty or invalid json"),
        (b'[{"a":1},{"b":1}]', "application/json", "All object keys must match"),
        (b'[{"a":1},3]', "application/json", "All object keys must match"),
        (b"[3]", "application/json", "All object keys must match"),
        (b"a,b\n1\n1,2", "text/csv", "All lines must have same number of fields"),
        (b"", "text/csv", "The CSV body has no header line"),
        (b'a\n"x', "text/csv", "The CSV body is unreadable at character 3"),
        (b"a\n\xff", "text/csv", "The CSV body is not UTF-8"),
        (b"x", "text/plain", "Content-Type not acceptable: text/plain"),
        (b"x", "Nope/Nope", "Content-Type not acceptable: Nope/Nope"),
    ],
)
def test_bad_bodies(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(RestError) as raised:
        payload(body, kind)
    assert (raised.value.code, raised.value.message) == (Code.BODY_UNREADABLE, message)


def test_csv_body() -> None:
    found = payload(b'a,"b, c"\r\n1,"say ""hi""\n"\r\n\r\nNULL,\n', "text/csv")
    assert json.loads(found.text) == [{"a": "1", "b, c": 'say "hi"\n'}, {"a": None, "b, c": ""}]
    assert found.keys == {"a", "b, c"}
    assert payload(b"a,b", "text/csv") == Payload(b"[]")


def test_form_body() -> None:
    found = payload(b"a=1&a=2&b=x+y&c", "application/x-www-form-urlencoded")
    assert json.loads(found.text) == {"a": "2", "b": "x y", "c": ""}
    assert found.pairs is None
    called = payload(b"a=1&a=2", "application/x-www-form-urlencoded", is_call=True)
    assert called.pairs == (("a", "1"), ("a", "2"))


def test_columns_leave_the_body_unread() -> None:
    assert payload(b"not json", columns="a,b") == Payload(b"not json", frozenset({"a", "b"}))


def test_call_bodies() -> None:
    assert payload(b"", is_call=True) == Payload(b"{}")
    assert payload(b"\x00\xff", "application/octet-stream", is_call=True) == Payload(b"\x00\xff")
    assert payload(b"hi", "text/plain", is_call=True) == Payload(b"hi")


def test_object_or_array() -> None:
    assert Payload(b" \n {").is_object
    assert not Payload(b" [").is_object


# --- the whole request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "url", "action", "name"),
    [
        ("GET", "/books", Action.READ, "books"),
        ("HEAD", "/books", Action.READ, "books"),
        ("POST", "/books", Action.INSERT, "books"),
        ("PUT", "/books", Action.UPSERT, "books"),
        ("PATCH", "/books", Action.UPDATE, "books"),
        ("DELETE", "/books", Action.DELETE, "books"),
        ("OPTIONS", "/books", Action.DESCRIBE_RELATION, "books"),
        ("GET", "/rpc/add", Action.CALL_BY_GET, "add"),
        ("POST", "/rpc/add", Action.CALL, "add"),
        ("OPTIONS", "/rpc/add", Action.DESCRIBE_FUNCTION, "add"),
        ("GET", "/", Action.INSPECT, ""),
        ("OPTIONS", "/", Action.DESCRIBE_ROOT, ""),
        ("GET", "/a%2Fb%20%C3%A9", Action.READ, "a/b é"),
    ],
)
def test_actions(method: str, url: str, action: Action, name: str) -> None:
    found = request_of(method, url, b"{}")
    assert (found.action, found.target) == (action, QualifiedName("api", name))
    assert found.headers_only == (method == "HEAD")


@pytest.mark.parametrize(
    ("method", "url", "code"),
    [
        ("GET", "/books/", Code.PATH),
        ("GET", "/a/b", Code.PATH),
        ("GET", "/rpc/a/b", Code.PATH),
        ("GET", "/%ff", Code.PATH),
        ("POST", "/", Code.METHOD),
        ("TRACE", "/books", Code.METHOD),
        ("DELETE", "/rpc/add", Code.RPC_METHOD),
        ("PUT", "/books?limit=3", Code.PUT_RANGE),
        ("GET", "/books?limit=-1", Code.RANGE_UNSATISFIABLE),
    ],
)
def test_refusals(method: str, url: str, code: Code) -> None:
    with pytest.raises(RestError) as raised:
        request_of(method, url, b"{}")
    assert raised.value.code is code


def test_profiles() -> None:
    many = RestSettings(schemas=("api", "other"))
    assert request_of("GET", "/books", accept_profile="other", settings=many).target.schema == "other"
    assert request_of("POST", "/books", b"{}", content_profile="other", settings=many).target.schema == "other"
    assert request_of("GET", "/books", content_profile="nope", settings=many).target.schema == "api"
    assert request_of("GET", "/books", settings=many).shows_profile
    assert not request_of("GET", "/books").shows_profile
    assert request_of("GET", "/books", accept_profile="api").shows_profile
    with pytest.raises(RestError) as raised:
        request_of("GET", "/books", accept_profile="hidden", settings=many)
    assert (raised.value.code, raised.value.hint) == (
        Code.SCHEMA_NOT_EXPOSED,
        "Only the following schemas are exposed: api, other",
    )


def test_range_header_counts_for_get_only() -> None:
    assert request_of("GET", "/books?limit=20", range="0-9").range == Range(0, 9)
    assert request_of("HEAD", "/books", range="0-9").range == EVERYTHING


def test_root_settings() -> None:
    closed = RestSettings(openapi=OpenApiSettings(mode="disabled"))
    with pytest.raises(RestError) as raised:
        request_of("GET", "/", settings=closed)
    assert raised.value.code is Code.OPENAPI_DISABLED
    own = RestSettings(root_spec=SqlName("api", "root"))
    assert request_of("GET", "/", settings=own).target == QualifiedName("public", "root")


@given(st.binary(max_size=30), st.binary(max_size=60), st.binary(max_size=30), st.sampled_from(["GET", "POST", "PUT"]))
def test_any_bytes_are_read_or_refused(path: bytes, query_string: bytes, header: bytes, method: str) -> None:
    names = (b"accept", b"content-type", b"prefer", b"range", b"accept-profile", b"content-profile")
    raw = RawRequest(method, b"/" + path, query_string, tuple((name, header) for name in names), header)
    refusal = _refusal(raw)
    assert refusal is None or 400 <= refusal.status < 500


def _refusal(raw: RawRequest) -> RestError | None:
    try:
        parse_request(raw, SETTINGS)
    except RestError as error:
        return error
    return None
