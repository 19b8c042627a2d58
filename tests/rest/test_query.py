"""The query string as values (contract rest.md §2, §3, §4)."""

from __future__ import annotations

import pytest

from socle_rest.errors import Code, RestError
from socle_rest.query import parse_order, parse_query, split_pairs
from socle_rest.query_filter import array_literal, parse_logic
from socle_rest.query_select import parse_select
from socle_rest.query_values import (
    Field,
    Filter,
    JsonStep,
    Logic,
    OrderTerm,
    Query,
    SelectEmbed,
    SelectField,
    SelectItem,
)
from socle_rest.query_words import parse_tree_path
from socle_rest.ranges import NOTHING, Range


def query(text: str, *, calls_by_get: bool = False) -> Query:
    return parse_query(split_pairs(text.encode()), calls_by_get=calls_by_get)


def field(name: str, *path: JsonStep) -> Field:
    return Field(name, path)


STAR = SelectField(field("*"))
ID = SelectField(field("id"))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("*", [STAR]),
        ("", []),
        ("id", [ID]),
        (" id , name ", [ID, SelectField(field("name"))]),
        ("with space", [SelectField(field("with space"))]),
        ("da-sh", [SelectField(field("da-sh"))]),
        ('"a.b:c"', [SelectField(field("a.b:c"))]),
        ('"say \\"hi\\" \\\\ "', [SelectField(field('say "hi" \\ '))]),
        ("تست", [SelectField(field("تست"))]),
        ("a$1", [SelectField(field("a$1"))]),
        ("x:id", [SelectField(field("id"), "x")]),
        ("id::text", [SelectField(field("id"), cast="text")]),
        ("id::double precision", [SelectField(field("id"), cast="double precision")]),
        ("x:id::text", [SelectField(field("id"), "x", "text")]),
        ("count()", [SelectField(field("*"), aggregate="count")]),
        ("n:count()::text", [SelectField(field("*"), "n", None, "count", "text")]),
        ("id.sum()", [SelectField(field("id"), aggregate="sum")]),
        ("x:id::int.avg()::text", [SelectField(field("id"), "x", "int", "avg", "text")]),
        ("data->a->>b", [SelectField(field("data", JsonStep("->", "a"), JsonStep("->>", "b")))]),
        (
            "data->0->-1",
            [SelectField(field("data", JsonStep("->", "+0", is_index=True), JsonStep("->", "-1", is_index=True)))],
        ),
        ("data->1abc", [SelectField(field("data", JsonStep("->", "1abc")))]),
        ('data->"k.1"', [SelectField(field("data", JsonStep("->", "k.1")))]),
        ("data->a-b", [SelectField(field("data", JsonStep("->", "a-b")))]),
        ("data->a::int", [SelectField(field("data", JsonStep("->", "a")), cast="int")]),
        ("books()", [SelectEmbed("books", ())]),
        ("books(id)", [SelectEmbed("books", (ID,))]),
        ("b:books(id)", [SelectEmbed("books", (ID,), "b")]),
        ("books!fk(id)", [SelectEmbed("books", (ID,), hint="fk")]),
        ("books!inner(id)", [SelectEmbed("books", (ID,), join="inner")]),
        ("books!fk!inner(id)", [SelectEmbed("books", (ID,), None, "fk", "inner")]),
        ("books!left!fk(id)", [SelectEmbed("books", (ID,), None, "fk", "left")]),
        ("books!inner_fk(id)", [SelectEmbed("books", (ID,), hint="inner_fk")]),
        ("...books(id)", [SelectEmbed("books", (ID,), spread=True)]),
        ("id,books(id,tags(*)),*", [ID, SelectEmbed("books", (ID, SelectEmbed("tags", (STAR,)))), STAR]),
        ("count:books(id)", [SelectEmbed("books", (ID,), "count")]),
    ],
)
def test_select(text: str, items: list[SelectItem]) -> None:
    assert parse_select(text) == tuple(items)


@pytest.mark.parametrize(
    "text",
    ["id,", "id::", "a->", "data->>--1", "data->>-7x", "b(id", "x:", "...b", "alias:...b(id)", "n!h", "a,!", "a.b()"],
)
def test_select_refuses(text: str) -> None:
    with pytest.raises(RestError, match="failed to parse select parameter") as raised:
        parse_select(text)
    assert raised.value.code is Code.QUERY_UNREADABLE


@pytest.mark.parametrize(
    ("text", "filter_"),
    [
        ("eq.1", Filter(field("a"), "eq", "1", source=0)),
        ("eq.", Filter(field("a"), "eq", "", source=0)),
        ("not.eq.x.y", Filter(field("a"), "eq", "x.y", negated=True, source=0)),
        ("eq(any).{1,2}", Filter(field("a"), "eq", "{1,2}", quantifier="any", source=0)),
        ("like(all).{*a,b*}", Filter(field("a"), "like", "{%a,b%}", quantifier="all", source=0)),
        ("ilike.*x*", Filter(field("a"), "ilike", "%x%", source=0)),
        ("match.^x*", Filter(field("a"), "match", "^x*", source=0)),
        ("in.(1,2)", Filter(field("a"), "in", '{"1","2"}', source=0)),
        ('in.("a,b",c d, e)', Filter(field("a"), "in", '{"a,b","c d"," e"}', source=0)),
        ('in.("a\\"b\\\\")', Filter(field("a"), "in", '{"a\\"b\\\\"}', source=0)),
        ('in.(a"b")', Filter(field("a"), "in", '{"a\\"b\\""}', source=0)),
        ("in.()", Filter(field("a"), "in", "{}", source=0)),
        ("in.(  )", Filter(field("a"), "in", "{}", source=0)),
        ("in.(,)", Filter(field("a"), "in", '{"",""}', source=0)),
        ("is.null", Filter(field("a"), "is", "NULL", source=0)),
        ("is.NoT_nUll", Filter(field("a"), "is", "NOT NULL", source=0)),
        ("not.is.TRUE", Filter(field("a"), "is", "TRUE", negated=True, source=0)),
        ("is.unknown", Filter(field("a"), "is", "UNKNOWN", source=0)),
        ("isdistinct.3", Filter(field("a"), "isdistinct", "3", source=0)),
        ("cs.{1,2}", Filter(field("a"), "cs", "{1,2}", source=0)),
        ("adj.[1,2)", Filter(field("a"), "adj", "[1,2)", source=0)),
        ("fts.cat", Filter(field("a"), "fts", "cat", source=0)),
        ("wfts(french).chat noir", Filter(field("a"), "wfts", "chat noir", language="french", source=0)),
    ],
)
def test_filter(text: str, filter_: Filter) -> None:
    parsed = query("a=" + text.replace("&", "%26"))
    assert parsed.filters == (((), filter_),)


@pytest.mark.parametrize(
    "text", ["1", "nope.1", "eq", "eq(some).1", "is.nil", "in.1", "in.(1", "is().x", "fts().x", "not.not.eq.1"]
)
def test_filter_refuses(text: str) -> None:
    with pytest.raises(RestError, match="failed to parse filter"):
        query("a=" + text)


def test_embedded_and_json_filters() -> None:
    parsed = query("a.b.c->d->>0=eq.1")
    path = (JsonStep("->", "d"), JsonStep("->>", "+0", is_index=True))
    assert parsed.filters == ((("a", "b"), Filter(Field("c", path), "eq", "1", source=0)),)
    assert parsed.filter_keys == {"a.b.c->d->>0"}


def test_arguments_of_a_call_by_get() -> None:
    parsed = query("a=1&b=eq.1&c=inside&v=x&v=y&limit=3", calls_by_get=True)
    assert parsed.arguments == (("a", "1"), ("c", "inside"), ("v", "x"), ("v", "y"))
    assert [one.field.name for _, one in parsed.filters] == ["b"]


@pytest.mark.parametrize("value", ["in.x", "not.x", "is.x"])
def test_a_half_operator_is_no_argument(value: str) -> None:
    with pytest.raises(RestError):
        query(f"a={value}", calls_by_get=True)


EQ = Filter(field("id"), "eq", "1")


@pytest.mark.parametrize(
    ("key", "value", "path", "tree"),
    [
        ("or", "(id.eq.1,id.eq.1)", (), Logic("or", (EQ, EQ))),
        ("and", "( id.eq.1 )", (), Logic("and", (Filter(field("id"), "eq", "1 "),))),
        ("not.or", "(id.eq.1)", (), Logic("or", (EQ,), negated=True)),
        ("a.b.or", "(id.eq.1)", ("a", "b"), Logic("or", (EQ,))),
        ("a.not.and", "(id.eq.1)", ("a",), Logic("and", (EQ,), negated=True)),
        ("or", "(and(id.eq.1),not.or(id.eq.1))", (), Logic("or", (Logic("and", (EQ,)), Logic("or", (EQ,), True)))),
        ("or", '(id.eq."a,b)")', (), Logic("or", (Filter(field("id"), "eq", "a,b)"),))),
        ("or", "(id.cs.{1,2},id.eq.1)", (), Logic("or", (Filter(field("id"), "cs", "{1,2}"), EQ))),
        ("or", "(id.in.(1,2),id.eq.1)", (), Logic("or", (Filter(field("id"), "in", '{"1","2"}'), EQ))),
        ("or", "(not.eq.1)", (), Logic("or", (Filter(field("not"), "eq", "1"),))),
        ("or", "(id.not.is.null)", (), Logic("or", (Filter(field("id"), "is", "NULL", negated=True),))),
        ("or", "(d->>a.eq.1)", (), Logic("or", (Filter(field("d", JsonStep("->>", "a")), "eq", "1"),))),
    ],
)
def test_logic(key: str, value: str, path: tuple[str, ...], tree: Logic) -> None:
    assert parse_logic(key, value) == (path, tree)


@pytest.mark.parametrize("value", ["()", "", "(id.eq.1", "(id)", "(xor(id.eq.1))", "(id.in.1,2)"])
def test_logic_refuses(value: str) -> None:
    with pytest.raises(RestError, match="failed to parse logic tree"):
        parse_logic("or", value)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("id", [OrderTerm(field("id"))]),
        ("id.desc", [OrderTerm(field("id"), direction="desc")]),
        ("id.nullsfirst, b.asc", [OrderTerm(field("id"), nulls="nullsfirst"), OrderTerm(field("b"), direction="asc")]),
        ("id.desc.nullslast", [OrderTerm(field("id"), None, "desc", "nullslast")]),
        ("d->>a.asc", [OrderTerm(field("d", JsonStep("->>", "a")), direction="asc")]),
        ("rel(id).desc", [OrderTerm(field("id"), "rel", "desc")]),
        ("rel(d->a)", [OrderTerm(field("d", JsonStep("->", "a")), "rel")]),
    ],
)
def test_order(text: str, terms: list[OrderTerm]) -> None:
    assert parse_order(text) == tuple(terms)


@pytest.mark.parametrize("text", ["", "id.up", "id.desc.x", "id.nullsfirst.desc", "rel(id,b)", "id,", "rel(id"])
def test_order_refuses(text: str) -> None:
    with pytest.raises(RestError, match="failed to parse order"):
        parse_order(text)


def test_ranges_and_reserved_keys() -> None:
    parsed = query("limit=3&offset=2&a.limit=5&b.offset=1&select=x&select=y&columns=b,a&on_conflict=c,d&order=z&skip")
    assert parsed.root_range == Range(2, 4)
    assert dict(parsed.ranges) == {("a",): Range(0, 4), ("b",): Range(1, None)}
    assert parsed.select == (SelectField(field("x")),)
    assert parsed.columns == frozenset({"a", "b"})
    assert parsed.on_conflict == ("c", "d")
    assert parsed.order == (((), (OrderTerm(field("z")),)),)
    assert parsed.filters == ()


def test_limit_zero() -> None:
    assert query("limit=0").root_range == NOTHING


@pytest.mark.parametrize("parameter", ["columns", "on_conflict"])
def test_bad_name_lists(parameter: str) -> None:
    for text in ("", "a,", ",a"):
        with pytest.raises(RestError, match=f"failed to parse {parameter} parameter"):
            query(f"{parameter}={text}")


def test_canonical_form_is_sorted_and_encoded() -> None:
    assert query("c=eq.3&a=eq.x+y&b&a=eq.%C3%A9").canonical == "a=eq.x%20y&a=eq.%C3%A9&b=&c=eq.3"


def test_decoding() -> None:
    assert split_pairs(b"a+b=%2B&&x&%zz=%4") == (("a b", "+"), ("x", None), ("%zz", "%4"))
    with pytest.raises(RestError, match="decode"):
        split_pairs(b"a=%ff")


def test_depth_is_bounded() -> None:
    with pytest.raises(RestError) as raised:
        query("select=" + "a(" * 200 + "id" + ")" * 200)
    assert "more than 100 deep" in str(raised.value.details)
    with pytest.raises(RestError):
        query("or=" + "(or" * 1000 + "(id.eq.1)" + ")" * 1000)
    with pytest.raises(RestError):
        query("select=a" + "->b" * 500)


def test_tree_path() -> None:
    assert parse_tree_path('a."b.c".d') == (("a", "b.c"), Field("d"))
    for key in ("", ".", "->x"):
        with pytest.raises(RestError):
            parse_tree_path(key)


def test_array_literal() -> None:
    assert array_literal(['a"b', "c\\", ""]) == '{"a\\"b","c\\\\",""}'
