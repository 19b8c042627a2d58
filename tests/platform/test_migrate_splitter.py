"""SQL text cut into statements: by hand for each construct, and for anything that can be built from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_platform.migrate.splitter import CopyData, parse_copy, scan_tokens, split_statements


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        (";;; ;", []),
        ("-- nothing here\n/* nor here */", []),
        ("select 1", ["select 1"]),
        ("select 1;", ["select 1"]),
        ("  select 1 ;\n\n select 2;\n", ["select 1", "select 2"]),
        ("select 'a;b'; select 2", ["select 'a;b'", "select 2"]),
        ("select 'it''s; fine'; x", ["select 'it''s; fine'", "x"]),
        (r"select 'a\'; select 2", [r"select 'a\'", "select 2"]),
        (r"select E'a\';b'; x", [r"select E'a\';b'", "x"]),
        (r"select e'\\'; x", [r"select e'\\'", "x"]),
        ("select E'a'\n  '\\';b'; x", ["select E'a'\n  '\\';b'", "x"]),
        ("select E'a' -- more\n '\\';b'; x", ["select E'a' -- more\n '\\';b'", "x"]),
        ("select type'a\\'; x", ["select type'a\\'", "x"]),
        ('select ";" from "a""b;"; x', ['select ";" from "a""b;"', "x"]),
        ("select U&'\\0041;'; x", ["select U&'\\0041;'", "x"]),
        ("select 1 -- a; b\n; x", ["select 1 -- a; b", "x"]),
        ("select /* ; /* ; */ ; */ 1; x", ["select /* ; /* ; */ ; */ 1", "x"]),
        ("-- about x\nselect 1; -- end", ["-- about x\nselect 1"]),
        ("do $$ begin; end $$; x", ["do $$ begin; end $$", "x"]),
        ("do $body$ a; $$ ; $other$ ; $body$; x", ["do $body$ a; $$ ; $other$ ; $body$", "x"]),
        ("do $é$ ; $é$; x", ["do $é$ ; $é$", "x"]),
        ("select foo$bar$; select baz$bar$; x", ["select foo$bar$", "select baz$bar$", "x"]),
        ("prepare p as select $1; x", ["prepare p as select $1", "x"]),
        ("select 1$$a;b$$; x", ["select 1$$a;b$$", "x"]),
        ("create rule r as on insert to t do also (insert into a values (1); insert into b values (2)); x", None),
        ("select (1; 2); x", ["select (1; 2)", "x"]),
        ("select 1); x", ["select 1)", "x"]),
        ("begin; select 1; commit;", ["begin", "select 1", "commit"]),
        ("select 'left open; x", ["select 'left open; x"]),
        ("select $$left open; x", ["select $$left open; x"]),
        ("select 1; /* left open; x", ["select 1"]),
    ],
)
def test_statements(sql: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = [sql.removesuffix("; x"), "x"]
    assert texts(sql) == expected


@pytest.mark.parametrize(
    "head",
    [
        "create function f() returns int",
        "create or replace function f(a int, b text default ';') returns int language sql",
        "CREATE PROCEDURE p()",
        "create /* x */ or replace\nprocedure p()",
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        "begin atomic select 1; select 2; end",
        "BEGIN ATOMIC select case when true then 1 else 2 end; END",
        "begin atomic select case a when 1 then case when b then 1 end end; select 2; end",
        "begin atomic end",
    ],
)
def test_routine_bodies_stay_whole(head: str, body: str) -> None:
    statement = f"{head} {body}"
    assert texts(f"{statement}; select 3; end;") == [statement, "select 3", "end"]


def test_begin_elsewhere_opens_no_block() -> None:
    assert texts("create table begin_log (a int); begin; create view v as select 1; end; x") == [
        "create table begin_log (a int)",
        "begin",
        "create view v as select 1",
        "end",
        "x",
    ]


COPY = 'COPY "S".t (id, "Name") FROM stdin;\n1\tit\'s; $$ here\n2\t\\N\n\\.'


def test_lines_of_data_belong_to_their_copy() -> None:
    assert texts(f"select 1;\n{COPY}\n\n\n-- next\nselect 2;") == ["select 1", COPY, "-- next\nselect 2"]
    assert texts(f"{COPY}\r\nselect 2") == [COPY, "select 2"]
    assert texts("copy t from stdin;\n1\n2") == ["copy t from stdin;\n1\n2"]
    assert texts("copy t to stdout; copy t from '/f'; select 'from stdin'; x") == [
        "copy t to stdout",
        "copy t from '/f'",
        "select 'from stdin'",
        "x",
    ]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (COPY, CopyData("S", "t", ("id", "Name"), "1\tit's; $$ here\n2\t\\N\n", "")),
        ("copy t from stdin;\n\\.", CopyData(None, "t", None, "", "")),
        ("copy t from stdin;", CopyData(None, "t", None, "", "")),
        ("copy T (A)\nfrom STDIN with (format csv);\n1\n\\.", CopyData(None, "t", ("a",), "1\n", "with (format csv)")),
        ("copy t from '/f'", None),
        ("select 1", None),
        ("", None),
    ],
)
def test_what_a_copy_says(statement: str, expected: CopyData | None) -> None:
    assert parse_copy(statement) == expected


def test_offsets_point_into_the_text() -> None:
    sql = "  select 1 ;\n-- note\nselect 'é;' ;"
    assert [sql[one.start : one.end] for one in split_statements(sql)] == texts(sql)


_IDENTIFIERS = st.from_regex(r"\A[a-z_][a-z0-9_$]{0,6}\Z").filter(
    # An E before a quote is a prefix; these words open blocks.
    lambda word: word not in ("e", "begin", "end", "case", "create")
)
_TAGS = st.from_regex(r"\A([A-Za-z_é][A-Za-z0-9_é]{0,5})?\Z")
_ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@st.composite
def _dollar_quoted(draw: st.DrawFn) -> str:
    tag = f"${draw(_TAGS)}$"
    return tag + draw(_ANY_TEXT.filter(lambda text: tag not in text + "$" and not text.endswith("$"))) + tag


def _nested_comment(inner: str) -> str:
    return "/*" + inner.replace("/*", "").replace("*/", "").replace("/", "").replace("*", "") + "*/"


_PIECES = st.one_of(
    _IDENTIFIERS,
    _ANY_TEXT.map(lambda text: "'" + text.replace("'", "''") + "'"),
    _ANY_TEXT.map(lambda text: " E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    _ANY_TEXT.map(lambda text: '"' + text.replace('"', '""') + '"'),
    _dollar_quoted(),
    _ANY_TEXT.map(lambda text: "--" + text.replace("\n", " ").replace("\r", " ") + "\n"),
    _ANY_TEXT.map(_nested_comment),
    _ANY_TEXT.map(lambda text: "/* a " + _nested_comment(text) + " b */"),
    st.sampled_from(["(1; 2)", "((a;);)", "12", "1.5", "$1", "=", "+", "::", "[1]", ",", "."]),
)
_STATEMENTS = st.lists(_PIECES, min_size=1, max_size=6).map(lambda pieces: "select " + " ".join(pieces) + " x")


@given(st.lists(_STATEMENTS, max_size=5), st.sampled_from([";", ";\n", " ;\n\n", ";;", "; /* ; */ ;"]))
def test_whatever_is_joined_by_semicolons_is_split_again(statements: list[str], joint: str) -> None:
    assert texts(joint.join(statements)) == statements


@given(st.text(st.characters(codec="utf-8")))
def test_tokens_cover_any_text_without_gap(sql: str) -> None:
    tokens = list(scan_tokens(sql))
    assert "".join(sql[token.start : token.end] for token in tokens) == sql
    assert all(token.start < token.end for token in tokens)


@given(st.text(alphabet="e'\"$a1;-/*\\()\n xE", max_size=40))
def test_splitting_again_changes_nothing(sql: str) -> None:
    once = texts(sql)
    assert texts(";\n".join(once)) == once or _is_left_open(once)


def _is_left_open(statements: list[str]) -> bool:
    """A last quote, comment or parenthesis that is never closed swallows what is put after it."""
    return any(len(texts(f"{statement};x")) != 2 for statement in statements)
