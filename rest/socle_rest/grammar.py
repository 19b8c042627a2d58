"""Says where and why a query parameter is unreadable, in the words that clients know (contract rest.md §2, §3, §16).

The readers of `query.py` are quick and only say yes or no. When one says no, the same grammar is run here once more,
slowly, as recognisers that keep what was expected where. The rules by which such expectations are merged and worded
are those of the Parsec library ("unexpected …, expecting … or …"), since the wire shows its sentences.

A recogniser takes the text and a position and answers (consumed, end, error): `end` is -1 when it refused, `error`
may be there on success too (what else could have stood there). Recognisers that fail after consuming are final unless
wrapped in `attempt`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

MAX_EXPLAINED = 4096
"""Characters: longer texts are refused without telling where they are wrong."""

_UNEXPECTED_INPUT, _UNEXPECTED, _EXPECTED = range(3)


class _Error(NamedTuple):
    at: int
    messages: tuple[tuple[int, str], ...]


class _Reply(NamedTuple):
    consumed: bool
    end: int
    error: _Error | None


_Recogniser = Callable[[str, int], _Reply]


def explain(kind: str, text: str) -> tuple[str, str]:
    """("(line 1, column N)", "unexpected … expecting …") for a text refused as `kind`."""
    if len(text) > MAX_EXPLAINED:
        return "(line 1, column 1)", "the text is too long to be explained"
    try:
        reply = _recogniser_of(kind)(text, 0)
    except RecursionError:
        return "(line 1, column 1)", "the text is nested too deep to be explained"
    if reply.end >= 0 or reply.error is None:
        return "(line 1, column 1)", "unknown parse error"
    return _position(text, reply.error.at), _sentence(reply.error.messages)


@cache
def _recogniser_of(kind: str) -> _Recogniser:
    return {
        "select parameter": _select(),
        "filter": _operation(_any_value),
        "logic tree": _logic_tree(),
        "order": _order(),
        "tree path": _tree_path(),
        "columns parameter": _names(),
        "on_conflict parameter": _names(),
    }[kind]


# --- how errors are merged and worded --------------------------------------------------------------------------------


def _merge(first: _Error | None, second: _Error | None) -> _Error | None:
    if second is None or not second.messages:
        return first if first is not None and first.messages else second
    if first is None or not first.messages:
        return second
    if first.at == second.at:
        return _Error(first.at, first.messages + second.messages)
    return first if first.at > second.at else second


def _position(text: str, at: int) -> str:
    line, column = 1, 1
    for char in text[:at]:
        if char == "\n":
            line, column = line + 1, 1
        elif char == "\t":
            column += 8 - (column - 1) % 8
        else:
            column += 1
    return f"(line {line}, column {column})"


def _sentence(messages: tuple[tuple[int, str], ...]) -> str:
    by_kind = [[text for kind, text in messages if kind == wanted] for wanted in range(3)]
    parts: list[str] = []
    if by_kind[_UNEXPECTED_INPUT] and not by_kind[_UNEXPECTED]:
        parts.append(f"unexpected {by_kind[_UNEXPECTED_INPUT][0] or 'end of input'}")
    if unexpected := _enumeration(by_kind[_UNEXPECTED]):
        parts.append(f"unexpected {unexpected}")
    if expected := _enumeration(by_kind[_EXPECTED]):
        parts.append(f"expecting {expected}")
    return " ".join(parts) or "unknown parse error"


def _enumeration(words: list[str]) -> str:
    distinct = [word for word in dict.fromkeys(words) if word]
    if len(distinct) < 2:
        return "".join(distinct)
    return ", ".join(distinct[:-1]) + " or " + distinct[-1]


_NAMED_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "\0": "\\NUL", "\x7f": "\\DEL"}


def _shown(text: str, mark: str = '"') -> str:
    """A text in quotation marks, what is not printable ASCII escaped by its number."""
    inner = "".join(
        _NAMED_ESCAPES.get(char) or (f"\\{mark}" if char == mark else char if " " <= char <= "~" else f"\\{ord(char)}")
        for char in text
    )
    return f"{mark}{inner}{mark}"


# --- recognisers -----------------------------------------------------------------------------------------------------


def _nothing(_text: str, at: int) -> _Reply:
    return _Reply(False, at, None)


def _one(accepts: Callable[[str], bool], expected: str | None = None) -> _Recogniser:
    """One character."""

    def recognise(text: str, at: int) -> _Reply:
        if at < len(text) and accepts(text[at]):
            return _Reply(True, at + 1, None)
        found = _shown(text[at]) if at < len(text) else ""
        messages = ((_EXPECTED, expected or ""), (_UNEXPECTED_INPUT, found))
        return _Reply(False, -1, _Error(at, messages))

    return recognise


def _char(wanted: str) -> _Recogniser:
    return _one(lambda char: char == wanted, _shown(wanted))


def _none_of(chars: str) -> _Recogniser:
    return _one(lambda char: char not in chars)


def _word(word: str) -> _Recogniser:
    """The word; it counts as consumed once its first character is there."""

    def recognise(text: str, at: int) -> _Reply:
        for offset, wanted in enumerate(word):
            here = at + offset
            if here >= len(text) or text[here] != wanted:
                found = _shown(text[here]) if here < len(text) else ""
                error = _Error(at, ((_EXPECTED, _shown(word)), (_UNEXPECTED_INPUT, found)))
                return _Reply(offset > 0, -1, error)
        return _Reply(True, at + len(word), None)

    return recognise


def _then(*parts: _Recogniser) -> _Recogniser:
    """One after the other."""

    def recognise(text: str, at: int) -> _Reply:
        consumed, error = False, None
        for part in parts:
            reply = part(text, at)
            error = reply.error if reply.consumed else _merge(error, reply.error)
            consumed = consumed or reply.consumed
            if reply.end < 0:
                return _Reply(consumed, -1, error)
            at = reply.end
        return _Reply(consumed, at, error)

    return recognise


def _either(*choices: _Recogniser) -> _Recogniser:
    """The first that accepts; one that refused after consuming ends the search."""

    def recognise(text: str, at: int) -> _Reply:
        error = None
        for choice in choices:
            reply = choice(text, at)
            if reply.consumed:
                return reply
            error = _merge(error, reply.error)
            if reply.end >= 0:
                return _Reply(False, reply.end, error)
        return _Reply(False, -1, error)

    return recognise


def _attempt(part: _Recogniser) -> _Recogniser:
    """A refusal counts as if nothing had been consumed."""

    def recognise(text: str, at: int) -> _Reply:
        reply = part(text, at)
        return _Reply(False, -1, reply.error) if reply.end < 0 else reply

    return recognise


def _ahead(part: _Recogniser) -> _Recogniser:
    """Accepts without moving."""

    def recognise(text: str, at: int) -> _Reply:
        reply = part(text, at)
        return reply if reply.end < 0 else _Reply(False, at, None)

    return recognise


def _named(part: _Recogniser, expected: str) -> _Recogniser:
    """Whatever it expects at its very start is called by this one name."""

    def recognise(text: str, at: int) -> _Reply:
        reply = part(text, at)
        if reply.consumed or (reply.end >= 0 and (reply.error is None or not reply.error.messages)):
            return reply
        others = tuple(one for one in (reply.error.messages if reply.error else ()) if one[0] != _EXPECTED)
        where = reply.error.at if reply.error else at
        return _Reply(reply.consumed, reply.end, _Error(where, ((_EXPECTED, expected), *others)))

    return recognise


def _many(part: _Recogniser) -> _Recogniser:
    """As often as it goes, also not at all."""

    def recognise(text: str, at: int) -> _Reply:
        consumed = False
        while True:
            reply = part(text, at)
            if reply.end < 0:
                return reply if reply.consumed else _Reply(consumed, at, reply.error)
            if not reply.consumed:
                return _Reply(consumed, at, reply.error)
            consumed, at = True, reply.end

    return recognise


def _many1(part: _Recogniser) -> _Recogniser:
    return _then(part, _many(part))


def _optional(part: _Recogniser) -> _Recogniser:
    return _either(part, _nothing)


def _separated1(part: _Recogniser, separator: _Recogniser) -> _Recogniser:
    return _then(part, _many(_then(separator, part)))


def _not_followed_by(part: _Recogniser, shown: Callable[[str], str]) -> _Recogniser:
    """Refuses without consuming where `part` would accept."""

    def recognise(text: str, at: int) -> _Reply:
        reply = part(text, at)
        if reply.end < 0:
            return _Reply(False, at, None)
        return _Reply(False, -1, _Error(reply.end, ((_UNEXPECTED, shown(text[at : reply.end])),)))

    return recognise


def _later(build: Callable[[], _Recogniser]) -> _Recogniser:
    """For rules that contain themselves."""
    return lambda text, at: build()(text, at)


# --- the grammar -----------------------------------------------------------------------------------------------------


def _character(char: str) -> str:
    return _shown(char, "'")


def _end(text: str, at: int) -> _Reply:
    """The end of the text; what stands there instead is shown in single quotes."""
    if at == len(text):
        return _Reply(False, at, None)
    return _Reply(False, -1, _Error(at, ((_EXPECTED, "end of input"), (_UNEXPECTED, _character(text[at])))))


_any_char = _one(lambda _: True)
_blanks = _many(_one(lambda char: char in " \t"))
_digit = _one(lambda char: char in "0123456789", "digit")
_letter = _one(str.isalpha, "letter")
_delimiter = _named(_char("."), "delimiter (.)")


def _lexeme(part: _Recogniser) -> _Recogniser:
    return _then(_blanks, part, _blanks)


_comma = _lexeme(_char(","))
_identifier = _many1(_either(_letter, _digit, _one(lambda char: char in "_ $")))
_dash = _attempt(_then(_char("-"), _not_followed_by(_char(">"), _character)))
_quoted = _then(_char('"'), _many(_either(_none_of('\\"'), _then(_char("\\"), _any_char))), _char('"'))
_name = _named(_either(_quoted, _separated1(_identifier, _dash)), "field name (* or [a..z0..9_$])")
_quoted_value = _attempt(_then(_quoted, _not_followed_by(_none_of(",)"), _character)))


def _json_path() -> _Recogniser:
    after_index = _either(
        _attempt(_ahead(_word("->"))),
        _attempt(_ahead(_word("::"))),
        _attempt(_ahead(_word("."))),
        _attempt(_ahead(_word(","))),
        _attempt(_end),
    )
    index = _then(_optional(_char("-")), _many1(_digit), after_index)
    key = _named(
        _either(_quoted, _separated1(_many1(_none_of("(-:.,>)")), _dash)),
        "any non reserved character different from: .,>()",
    )
    arrow = _either(_attempt(_word("->>")), _attempt(_word("->")))
    return _many(_then(arrow, _either(_attempt(index), _attempt(key))))


_path = _json_path()
_field = _lexeme(_then(_name, _optional(_path)))


def _names() -> _Recogniser:
    return _separated1(_name, _comma)


def _tree_path() -> _Recogniser:
    return _then(_separated1(_name, _delimiter), _optional(_path))


@cache
def _select() -> _Recogniser:
    alias = _optional(_attempt(_then(_name, _char(":"), _not_followed_by(_char(":"), _character))))
    parameter = _then(_char("!"), _either(_attempt(_word("left")), _attempt(_word("inner")), _attempt(_name)))
    parameters = _then(_optional(parameter), _optional(parameter), _attempt(_ahead(_word("("))))
    spread = _lexeme(_then(_word("..."), _name, parameters))
    relation = _lexeme(_then(alias, _relation_name, parameters))
    children = _then(_char("("), _later(_select), _char(")"))
    item = _either(_then(_attempt(spread), children), _then(_attempt(relation), children), _select_field(alias))
    return _optional(_separated1(item, _comma))


def _relation_name(text: str, at: int) -> _Reply:
    """Any name but `count`, which is an aggregate."""
    reply = _name(text, at)
    return _Reply(True, -1, None) if reply.end >= 0 and text[at : reply.end] == "count" else reply


def _select_field(alias: _Recogniser) -> _Recogniser:
    end = _either(_attempt(_ahead(_word(")"))), _attempt(_ahead(_word(","))), _attempt(_end))
    cast = _optional(_then(_word("::"), _identifier))
    aggregate = _then(
        _char("."),
        _either(_word("sum"), _word("avg"), _word("count"), _attempt(_word("max")), _attempt(_word("min"))),
        _word("()"),
    )
    return _lexeme(
        _either(
            _attempt(_then(_word("*"), end)),
            _attempt(_then(alias, _word("count()"), cast, end)),
            _then(alias, _field, cast, _optional(_attempt(aggregate)), cast, end),
        )
    )


def _in_parentheses(part: _Recogniser) -> _Recogniser:
    return _then(_char("("), part, _char(")"))


def _words(*words: str) -> _Recogniser:
    return _either(*(_attempt(_word(word)) for word in words))


def _caseless(word: str) -> _Recogniser:
    return _attempt(_then(*(_either(_char(char), _char(char.upper())) for char in word)))


_any_value = _many(_any_char)


def _operation(value: _Recogniser) -> _Recogniser:
    element = _either(_quoted_value, _many(_none_of(",)")))
    values = _then(_lexeme(_char("(")), _separated1(element, _char(",")), _lexeme(_char(")")))
    states = (_caseless(word) for word in ("null", "not_null", "true", "false", "unknown"))
    state = _named(_either(*states), "isVal: (null, not_null, true, false, unknown)")
    unknown = "unknown single value operator"
    simple = _named(_words("neq", "cs", "cd", "ov", "sl", "sr", "nxr", "nxl", "adj"), unknown)
    compare = _named(_words("eq", "gte", "gt", "lte", "lt", "like", "ilike", "match", "imatch"), unknown)
    quantifier = _optional(_attempt(_in_parentheses(_either(_attempt(_word("any")), _word("all")))))
    language = _optional(_attempt(_in_parentheses(_identifier)))
    operation = _named(
        _either(
            _then(_attempt(_then(_word("in"), _delimiter)), values),
            _then(_attempt(_then(_word("is"), _delimiter)), state),
            _then(_attempt(_then(_word("isdistinct"), _delimiter)), value),
            _attempt(_then(_words("fts", "plfts", "phfts", "wfts"), language, _delimiter, value)),
            _attempt(_then(simple, _delimiter, value)),
            _attempt(_then(compare, quantifier, _delimiter, value)),
        ),
        "operator (eq, gt, ...)",
    )
    return _then(_optional(_attempt(_then(_word("not"), _delimiter))), operation)


@cache
def _logic_tree() -> _Recogniser:
    array = _attempt(_then(_word("{"), _many(_none_of("{}")), _word("}")))
    value = _either(_quoted_value, array, _many(_none_of(",)")))
    filtered = _then(_field, _delimiter, _operation(value))
    negation = _named(_optional(_attempt(_then(_word("not"), _delimiter))), "negation operator (not)")
    operator = _named(_either(_attempt(_word("and")), _word("or")), "logic operator (and, or)")
    children = _separated1(_later(_logic_tree), _comma)
    tree = _then(negation, operator, _lexeme(_char("(")), children, _lexeme(_char(")")))
    return _either(_attempt(filtered), tree)


def _order() -> _Recogniser:
    end = _either(_attempt(_ahead(_char(","))), _attempt(_end))
    direction = _optional(
        _either(_attempt(_then(_delimiter, _word("asc"))), _attempt(_then(_delimiter, _word("desc"))))
    )
    nulls = _optional(
        _either(_attempt(_then(_delimiter, _word("nullsfirst"))), _attempt(_then(_delimiter, _word("nullslast"))))
    )
    tail = _then(direction, _either(_then(nulls, end), end))
    related = _then(_name, _in_parentheses(_field), tail)
    term = _lexeme(_either(_attempt(related), _then(_field, tail)))
    return _separated1(term, _char(","))
