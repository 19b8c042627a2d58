"""Requests of one shape: the shortcut gives exactly what planning from scratch gives."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.rest_samples import SCHEMA, SETTINGS
from socle_platform.config.rest import RestSettings
from socle_rest.errors import RestError
from socle_rest.job import Job, make_job
from socle_rest.plan import Description, Inspection, RelationMutation, make_plan
from socle_rest.request import RawRequest, parse_request
from socle_rest.shapes import MAX_LENGTH, Shapes, cut

CAPPED = replace(SETTINGS, max_rows=7)


def raw(query: str, method: str = "GET", path: bytes = b"/books", body: bytes = b"", **headers: str) -> RawRequest:
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return RawRequest(method, path, query.encode(), pairs, body)


def planned(request: RawRequest, chosen: RestSettings = SETTINGS) -> Job:
    parsed = parse_request(request, chosen)
    plan = make_plan(parsed, SCHEMA, chosen)
    assert not isinstance(plan, Description | Inspection)
    return make_job(plan, parsed, chosen)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("id=eq.1", "id=eq.2"),
        ("id=eq.1&limit=5", "id=eq.2&limit=9"),
        ("id=in.(1,2)", "id=in.(3)"),
        ("title=like.a*", "title=like.*b*"),
        ("id=not.gt.1&offset=3", "id=not.gt.5&offset=4"),
        ("title=fts(english).a", "title=fts(english).b"),
        ("title=eq.a%20b", "title=eq.x+y"),
    ],
)
def test_same_shape(one: str, other: str) -> None:
    first, second = cut(raw(one)), cut(raw(other))
    assert first is not None
    assert second is not None
    assert first.key == second.key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("id=eq.1", "id=neq.1"),
        ("id=eq.1", "title=eq.1"),
        ("id=eq.1", "id=eq(any).1"),
        ("id=is.null", "id=is.true"),
        ("select=id", "select=title"),
        ("order=id", "order=eq.desc"),
        ("or=(id.eq.1)", "or=(id.eq.2)"),
        ("limit=1", "offset=1"),
        ("id=eq.1", "id=eq.1&limit=1"),
        ("id=fts(a).x", "id=fts(b).x"),
        ("a.limit=1", "a.limit=2"),
    ],
)
def test_other_shape(one: str, other: str) -> None:
    first, second = cut(raw(one)), cut(raw(other))
    assert first is None or second is None or first.key != second.key


def test_headers_are_part_of_the_shape() -> None:
    plain = cut(raw("id=eq.1"))
    others = (
        raw("id=eq.1", accept="text/csv"),
        raw("id=eq.1", prefer="count=exact"),
        raw("id=eq.1", accept_profile="api"),
    )
    for one in others:
        other = cut(one)
        assert plain is not None
        assert other is not None
        assert plain.key != other.key
    assert plain == cut(raw("id=eq.1", user_agent="x"))


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=2&limit=x", "limit=1&limit=2", "offset=0", "%6fr=(id.eq.1)", "id=in.(1", "id=eq.%ff"),
        "a=" + "x" * MAX_LENGTH,
    ],
)
def test_no_shape(query: str) -> None:
    found = cut(raw(query))
    assert found is None or found.limit is None


def test_what_has_no_shape_at_all() -> None:
    assert cut(raw("", "GET", b"/rpc/add")) is None
    assert cut(raw("", "GET", range="0-1")) is None
    assert cut(raw("", "POST", body=b"{")) is None
    assert cut(raw("", "POST", body=b"a=1", content_type="application/x-www-form-urlencoded")) is None
    assert cut(raw("", "POST", b"/rpc/whole", b'{"":1}')) is None


def test_shapes_of_bodies() -> None:
    def key(body: bytes, query: str = "", method: str = "POST", path: bytes = b"/books") -> object:
        found = cut(raw(query, method, path, body))
        assert found is not None
        return found.key

    assert key(b'{"id":1,"title":"a"}') == key(b'{"title":"b","id":2}')
    assert key(b'{"id":1}') != key(b'[{"id":1}]')
    assert key(b'{"id":1}') != key(b'{"title":1}')
    assert key(b"[]", "columns=id") == key(b'[{"x":1}]', "columns=id")
    assert key(b'{"id":1}', "columns=id", "PUT") != key(b'{"title":1}', "columns=id", "PUT")
    assert cut(raw("", "POST", body=b"{}", content_type="application/json; charset=utf-8")) is not None
    assert key(b"", path=b"/rpc/nothing") == key(b"{}", path=b"/rpc/nothing")


def test_what_stays_is_never_taken_for_what_was_cut() -> None:
    """A parameter without a value may be written like a piece of another request's shape."""
    pairs = [
        (raw("id=eq.1"), raw("id&eq.")),
        (raw("limit=1"), raw("limit")),
        (raw("", accept="text/csv"), raw("accept&text/csv")),
        (raw("id=eq.1"), raw("=&id&eq.")),
    ]
    for one, other in pairs:
        first, second = cut(one), cut(other)
        assert first is not None
        assert second is not None
        assert first.key != second.key


def test_templates_keep_no_bodies() -> None:
    body = b'{"title":"' + b"x" * 10_000 + b'"}'
    request = raw("", "POST", body=body)
    asked = cut(request)
    assert asked is not None
    shapes = Shapes()
    shapes.keep(asked.key, planned(request))
    other = asked._replace(body=b'{"title":"y"}')
    job = shapes.fill(other, None)
    assert job is not None
    assert job.statement.args == (b'{"title":"y"}',)
    assert isinstance(job.plan, RelationMutation)
    assert body not in repr(job).encode()
    assert b"xxx" not in repr(job).encode()


_VALUES = st.text(max_size=5)
_WORDS = st.sampled_from(
    ["eq", "not.eq", "like", "not.ilike", "in", "gt(any)", "fts", "wfts(english)", "cs", "isdistinct", "is", "match"]
)


@st.composite
def _pairs_of_queries(draw: st.DrawFn) -> tuple[str, str]:
    """Two queries that differ in values only."""
    first: list[str] = []
    second: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(["id", "title", "price", "authors.name", '"id"', "%69d", "tags->>0"]))
        operator = draw(_WORDS)
        for parts in (first, second):
            value = draw(st.just("null")) if operator == "is" else quote(draw(_VALUES))
            parts.append(f"{name}={operator}.({value})" if operator == "in" else f"{name}={operator}.{value}")
    for name in draw(st.lists(st.sampled_from(["limit", "offset"]), unique=True)):
        for parts in (first, second):
            parts.append(f"{name}={draw(st.integers(0, 20))}")
    for extra in draw(
        st.lists(
            st.sampled_from(
                ["select=id,authors(name)", "select=*", "order=eq.desc", "", "x", "or=(id.eq.1)", "a+b=eq.c"]
            ),
            max_size=3,
        )
    ):
        at = draw(st.integers(0, len(first)))
        first.insert(at, extra)
        second.insert(at, extra)
    return "&".join(first), "&".join(second)


_BODIES = st.sampled_from(
    [
        (b'{"id":1}', b'{"id":2}'),
        (b'[{"id":1,"title":"a"}]', b'[{"title":"b","id":2},{"id":3,"title":""}]'),
        (b"{}", b"{}"),
        (b"[]", b"7"),
        (b'{"a":1}', b'{"a":2}'),
        (b'{"n":1}', b'{"n":2}'),
        (b'{"x":[1]}', b'{"x":{}}'),
    ]
)
_TARGETS = st.sampled_from(
    [
        *(("GET", b"/books"), ("GET", b"/books"), ("HEAD", b"/books"), ("POST", b"/books"), ("PATCH", b"/books")),
        *(("PUT", b"/books"), ("DELETE", b"/books"), ("POST", b"/rpc/pick"), ("POST", b"/rpc/whole")),
        *(("POST", b"/rpc/add"), ("POST", b"/rpc/table_of"), ("POST", b"/rpc/nothing")),
    ]
)
_PREFERENCES = st.sampled_from(
    ["", "count=exact", "count=planned", "return=representation", "resolution=merge-duplicates, missing=default"]
)


@settings(deadline=None, max_examples=400)
@given(_TARGETS, _pairs_of_queries(), _BODIES, st.sampled_from([SETTINGS, CAPPED]), _PREFERENCES)
def test_the_shortcut_changes_nothing(
    target: tuple[str, bytes],
    queries: tuple[str, str],
    bodies: tuple[bytes, bytes],
    chosen: RestSettings,
    prefer: str,
) -> None:
    shapes = Shapes()
    first, second = (raw(query, *target, body, prefer=prefer) for query, body in zip(queries, bodies, strict=True))
    asked = cut(first)
    try:
        job = planned(first, chosen)
    except RestError:
        return
    if asked is None:
        return
    shapes.keep(asked.key, job)
    again = cut(second)
    filled = None if again is None else shapes.fill(again, chosen.max_rows)
    if filled is None:
        return
    expected = planned(second, chosen)
    assert filled.statement == expected.statement
    assert filled.planned == expected.planned
    if target[0] in {"GET", "HEAD"}:
        assert filled.canonical == expected.canonical
    assert filled.range == expected.range
    assert (filled.frame, filled.headers) == (expected.frame, expected.headers)


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    shapes = Shapes(limit=2)
    requests = [raw(f"select=id&{name}=eq.1") for name in ("id", "title", "author_id")]
    first, second, third = (one for one in map(cut, requests) if one is not None)
    shapes.keep(first.key, planned(requests[0]))
    shapes.keep(second.key, planned(requests[1]))
    assert shapes.fill(first, None) is not None
    shapes.keep(third.key, planned(requests[2]))
    assert len(shapes) == 2
    assert shapes.fill(second, None) is None
    assert shapes.fill(first, None) is not None
    shapes.clear()
    assert len(shapes) == 0
