"""The wording of unreadable parameters, and its agreement with the quick readers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socle_rest.errors import RestError
from socle_rest.grammar import MAX_EXPLAINED, explain
from socle_rest.query import parse_order, parse_query
from socle_rest.query_filter import parse_logic
from socle_rest.query_select import parse_select

_FIELD = "field name (* or [a..z0..9_$])"


@pytest.mark.parametrize(
    ("kind", "text", "column", "sentence"),
    [
        (
            "select parameter",
            "id,clients(name[])",
            16,
            'unexpected \'[\' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input',
        ),
        ("select parameter", "d->>-78xy", 8, 'unexpected \'x\' expecting digit, "->", "::", ".", "," or end of input'),
        ("select parameter", "data->>--34", 9, 'unexpected "-" expecting digit'),
        (
            "select parameter",
            "data->(x",
            7,
            'unexpected "(" expecting "-", digit or any non reserved character different from: .,>()',
        ),
        (
            "select parameter",
            "name!hint",
            5,
            'unexpected \'!\' expecting letter, digit, "-", "->>", "->", "::", ".", ")", "," or end of input',
        ),
        ("select parameter", "name::", 7, "unexpected end of input expecting letter or digit"),
        ("filter", "0", 1, 'unexpected "0" expecting "not" or operator (eq, gt, ...)'),
        ("filter", "noop.0", 1, 'unexpected "o" expecting "not" or operator (eq, gt, ...)'),
        ("filter", "fts().value", 5, 'unexpected ")" expecting operator (eq, gt, ...)'),
        ("filter", "is().value", 3, 'unexpected "(" expecting operator (eq, gt, ...)'),
        ("filter", "is.nil", 5, 'unexpected "i" expecting isVal: (null, not_null, true, false, unknown)'),
        ("order", "id.ac", 4, 'unexpected "c" expecting "asc", "desc", "nullsfirst" or "nullslast"'),
        ("order", "id.descc", 8, "unexpected 'c' expecting delimiter (.), \",\" or end of input"),
        ("order", "id.nullslasttt", 13, "unexpected 't' expecting \",\" or end of input"),
        ("order", "id.asc.nlsfst", 8, 'unexpected "l" expecting "nullsfirst" or "nullslast"'),
        (
            "order",
            "clients(name,id)",
            8,
            'unexpected \'(\' expecting letter, digit, "-", "->>", "->", delimiter (.), "," or end of input',
        ),
        (
            "logic tree",
            "or()",
            4,
            f'unexpected ")" expecting {_FIELD}, negation operator (not) or logic operator (and, or)',
        ),
        ("logic tree", "or(id.in.1,2,id.eq.3)", 10, 'unexpected "1" expecting "("'),
        ("logic tree", "and(ord(id.eq.1,id.eq.1),id.eq.2)", 7, 'unexpected "d" expecting "("'),
        ("logic tree", "or(id.eq.1,not.xor(a.eq.2))", 16, 'unexpected "x" expecting logic operator (and, or)'),
        ("columns parameter", "", 1, f"unexpected end of input expecting {_FIELD}"),
        ("tree path", "", 1, f"unexpected end of input expecting {_FIELD}"),
    ],
)
def test_sentences(kind: str, text: str, column: int, sentence: str) -> None:
    assert explain(kind, text) == (f"(line 1, column {column})", sentence)


def test_position_counts_lines_and_tabs() -> None:
    assert explain("order", '"a\nb".up')[0] == "(line 2, column 4)"
    assert explain("order", "\tid.up")[0] == "(line 1, column 12)"


def test_characters_outside_ascii_are_shown_by_number() -> None:
    assert explain("filter", "é")[1].startswith('unexpected "\\233"')


def test_limits() -> None:
    assert explain("filter", "x" * (MAX_EXPLAINED + 1))[1] == "the text is too long to be explained"
    assert "nested too deep" in explain("logic tree", "or(" * 600)[1]


def test_what_is_readable_is_not_explained() -> None:
    assert explain("order", "id.asc")[1] == "unknown parse error"


_ALPHABET = st.sampled_from(
    (
        *'ab1_$ -.,:()!*>"\\{}',
        *("->", "->>", "::", "eq.", "not.", "in.(", "is.null", "and(", "or(", "count()", ".sum()"),
        *("...", "!inner", ".asc", ".nullsfirst", "fts(english).", "like(any)."),
    )
)
_TEXTS = st.lists(_ALPHABET, max_size=14).map("".join)


def _refused(read: Callable[[], object]) -> RestError | None:
    try:
        read()
    except RestError as error:
        return error
    return None


@given(_TEXTS)
def test_readers_and_grammar_agree_on_select(text: str) -> None:
    """But for a spread without its embed at the very start: the grammar reads nothing there, and we refuse it."""
    error = _refused(lambda: parse_select(text))
    if error is not None and not text.startswith("..."):
        assert error.details != "unknown parse error", text


@given(_TEXTS)
def test_readers_and_grammar_agree_on_order(text: str) -> None:
    error = _refused(lambda: parse_order(text))
    if error is not None:
        assert error.details != "unknown parse error", text


@given(_TEXTS)
def test_readers_and_grammar_agree_on_filters(text: str) -> None:
    error = _refused(lambda: parse_query([("a", text)]))
    assert (error is None) == (explain("filter", text)[1] == "unknown parse error")


@given(_TEXTS)
def test_readers_and_grammar_agree_on_logic(text: str) -> None:
    error = _refused(lambda: parse_logic("or", text))
    assert (error is None) == (explain("logic tree", "or" + text)[1] == "unknown parse error")


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_read_or_refused(key: str, value: str) -> None:
    for name in (key, "select", "order", "or", "columns", "on_conflict", "limit", "a.limit"):
        error = _refused(lambda name=name: parse_query([(name, value)]))  # type: ignore[misc] # bound at once
        assert error is None or error.status == 400
