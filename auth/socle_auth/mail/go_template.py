"""The part of Go's template language that mails use (contracts/auth.md §7.6): parsing once, rendering often.

Variables, `if`/`else if`/`else`, `range`, `with`, assignments, pipelines and the functions `eq ne lt le gt ge and or
not index len printf print println html urlquery`. A value is escaped for the place it stands in (html_context); with
`html=False` (subjects, text messages) it is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from socle_auth.mail.go_functions import FUNCTIONS, is_true, items_of, member, render_value
from socle_auth.mail.html_context import Place, UnsafePlace

MAXIMUM_SIZE = 1 << 20
"""Characters of one template."""

_ACTION = re.compile(
    r"\{\{(?P<left>-\s)?\s*(?P<body>(?:/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|[^\"`])*?)\s*(?P<right>\s-)?\}\}",
    re.DOTALL,
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])
    |(?P<variable>\$\w*(?:\.\w+)*)|(?P<field>(?:\.\w+)+|\.)|(?P<assign>:=|=)|(?P<word>\w+)|(?P<mark>[|(),])
    |(?P<chain>\.\w+))""",
    re.VERBOSE,
)
_NUMBER_OF_ARGUMENTS = {"not": (1, 1), "len": (1, 1), "eq": (2, 99), "and": (1, 99), "or": (1, 99), "index": (2, 99)}
_COMPARED = ("ne", "lt", "le", "gt", "ge")


class TemplateError(ValueError):
    """The template cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class _Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class _Field:
    """`.A.B` of the dot, or `$x.A` of a variable (`$` itself is the whole data)."""

    variable: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: tuple[_Expression, ...]


_Expression: TypeAlias = "_Literal | _Field | _Call"


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Output:
    value: _Expression
    place: Place | None


@dataclass(frozen=True, slots=True)
class _Assign:
    variable: str
    value: _Expression


@dataclass(frozen=True, slots=True)
class _Block:
    """`if`, `with` or `range`; `variables` are those that `range`/`with` declares."""

    kind: str
    value: _Expression
    variables: tuple[str, ...]
    body: tuple[_Node, ...]
    otherwise: tuple[_Node, ...]


_Node: TypeAlias = "_Text | _Output | _Assign | _Block"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `fields`: the names it takes from its data."""

    nodes: tuple[_Node, ...]
    fields: frozenset[str]

    def render(self, data: Mapping[str, Any]) -> str:
        """The text for this data; a name that is missing is empty."""
        parts = list[str]()
        _Renderer(data, parts).run(self.nodes, data)
        return "".join(parts)


def parse_template(source: str, *, html: bool) -> Template:
    """Raises TemplateError naming the line."""
    if len(source) > MAXIMUM_SIZE:
        raise TemplateError(f"longer than {MAXIMUM_SIZE} characters")
    parser = _Parser(source, html=html)
    nodes = parser.parse()
    return Template(nodes, frozenset(parser.fields))


@dataclass(frozen=True, slots=True)
class _Piece:
    line: int
    text: str
    is_action: bool


def _pieces(source: str) -> Iterator[_Piece]:
    at, trim = 0, False
    for match in _ACTION.finditer(source):
        text = source[at : match.start()]
        if trim:
            text = text.lstrip()
        if match["left"]:
            text = text.rstrip()
        line = source.count("\n", 0, match.start()) + 1
        if "{{" in text:
            raise TemplateError(f"line {line}: {{{{ without its }}}}")
        yield _Piece(line, text, is_action=False)
        yield _Piece(line, _COMMENT.sub("", match["body"]).strip(), is_action=True)
        at, trim = match.end(), bool(match["right"])
    rest = source[at:].lstrip() if trim else source[at:]
    if "{{" in rest:
        raise TemplateError(f"line {source.count(chr(10)) + 1}: {{{{ without its }}}}")
    yield _Piece(source.count("\n") + 1, rest, is_action=False)


@dataclass(slots=True)
class _Open:
    kind: str
    value: _Expression
    variables: tuple[str, ...]
    line: int
    start: Place
    nodes: list[_Node] = field(default_factory=list["_Node"])
    body: tuple[_Node, ...] | None = None
    end: Place | None = None
    is_chained: bool = False


class _Parser:
    """One pass over the pieces with a stack of open blocks; the place in the HTML goes along."""

    def __init__(self, source: str, *, html: bool) -> None:
        self._source = source
        self._html = html
        self._place = Place()
        self._stack: list[_Open] = []
        self._nodes: list[_Node] = []
        self._line = 1
        self.fields = set[str]()

    def parse(self) -> tuple[_Node, ...]:
        for piece in _pieces(self._source):
            self._line = piece.line
            if piece.is_action:
                self._action(piece.text)
            elif piece.text:
                self._append(_Text(piece.text))
                if self._html:
                    self._place = self._place.after(piece.text)
        if self._stack:
            opened = self._stack[-1]
            raise TemplateError(f"line {opened.line}: {opened.kind} without its end")
        return tuple(self._nodes)

    def _append(self, node: _Node) -> None:
        (self._stack[-1].nodes if self._stack else self._nodes).append(node)

    def _fail(self, reason: str) -> TemplateError:
        return TemplateError(f"line {self._line}: {reason}")

    def _action(self, text: str) -> None:
        if not text:
            return
        word, _, rest = text.partition(" ")
        if word in ("if", "with", "range"):
            self._open(word, rest)
        elif word == "else":
            self._else(rest.strip())
        elif text == "end":
            self._end()
        elif word in ("define", "template", "block", "break", "continue"):
            raise self._fail(f"{word} is not supported")
        else:
            self._output(text)

    def _open(self, kind: str, text: str, *, is_chained: bool = False) -> None:
        variables, value = self._pipeline(text)
        if len(variables) > (2 if kind == "range" else 1):
            raise self._fail(f"too many variables in {kind}")
        self._stack.append(_Open(kind, value, variables, self._line, self._place, is_chained=is_chained))

    def _else(self, rest: str) -> None:
        if not self._stack or self._stack[-1].body is not None:
            raise self._fail("else without its if")
        opened = self._stack[-1]
        opened.body, opened.nodes = tuple(opened.nodes), []
        opened.end, self._place = self._place, opened.start
        if rest:
            word, _, condition = rest.partition(" ")
            if word not in ("if", "with") or not condition:
                raise self._fail(f"else {rest} is not understood")
            self._open(word, condition, is_chained=True)

    def _end(self) -> None:
        while True:
            if not self._stack:
                raise self._fail("end without a beginning")
            opened = self._stack.pop()
            last = tuple(opened.nodes)
            body, otherwise = (last, ()) if opened.body is None else (opened.body, last)
            other = opened.start if opened.body is None else opened.end
            assert other is not None
            if (other.state, other.element, other.attribute) != (
                self._place.state,
                self._place.element,
                self._place.attribute,
            ):
                raise self._fail(f"the branches of {opened.kind} end in different places of the HTML")
            self._append(_Block(opened.kind, opened.value, opened.variables, body, otherwise))
            if not opened.is_chained:
                return

    def _output(self, text: str) -> None:
        variables, value = self._pipeline(text)
        if variables:
            if len(variables) > 1:
                raise self._fail("one variable at a time")
            self._append(_Assign(" ".join(variables), value))
            return
        if self._html:
            try:
                self._place.check()
            except UnsafePlace as error:
                raise self._fail(str(error)) from None
            self._append(_Output(value, self._place))
            self._place = self._place.after_value()
        else:
            self._append(_Output(value, None))

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _tokens(self, text: str) -> list[tuple[str, str]]:
        tokens, at = list[tuple[str, str]](), 0
        text = text.strip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise self._fail(f"{text[at:]!r} is not understood")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        return tokens

    def _pipeline(self, text: str) -> tuple[tuple[str, ...], _Expression]:
        tokens = self._tokens(text)
        names = [index for index, (kind, _) in enumerate(tokens) if kind == "assign"]
        variables = list[str]()
        if names:
            head = [token for token in tokens[: names[0]] if token != ("mark", ",")]
            if not head or any(kind != "variable" or len(name) < 2 or "." in name for kind, name in head):
                raise self._fail("only a $variable can be assigned")
            variables = [name for _, name in head]
            tokens = tokens[names[0] + 1 :]
        return tuple(variables), self._piped(tokens)

    def _piped(self, tokens: list[tuple[str, str]]) -> _Expression:
        stages, depth, current = list[list[tuple[str, str]]](), 0, list[tuple[str, str]]()
        for token in tokens:
            depth += {"(": 1, ")": -1}.get(token[1], 0) if token[0] == "mark" else 0
            if token == ("mark", "|") and depth == 0:
                stages.append(current)
                current = []
            else:
                current.append(token)
        stages.append(current)
        value: _Expression | None = None
        for stage in stages:
            value = self._command(stage, value)
        assert value is not None
        return value

    def _command(self, tokens: list[tuple[str, str]], piped: _Expression | None) -> _Expression:
        if not tokens:
            raise self._fail("a value is missing")
        kind, word = tokens[0]
        if kind == "word" and word not in ("true", "false", "nil"):
            arguments = self._operands(tokens[1:])
            return self._call(word, arguments if piped is None else [*arguments, piped])
        operands = self._operands(tokens)
        if len(operands) != 1 or piped is not None:
            raise self._fail(f"{word!r} is not a function")
        return operands[0]

    def _call(self, name: str, arguments: list[_Expression]) -> _Expression:
        if name not in FUNCTIONS and name not in ("and", "or"):
            raise self._fail(f"{name!r} is not a function of mail templates")
        least, most = (2, 2) if name in _COMPARED else _NUMBER_OF_ARGUMENTS.get(name, (1, 99))
        if not least <= len(arguments) <= most:
            raise self._fail(f"{name} takes {least if least == most else f'at least {least}'} values")
        return _Call(name, tuple(arguments))

    def _operands(self, tokens: list[tuple[str, str]]) -> list[_Expression]:
        operands, at = list[_Expression](), 0
        while at < len(tokens):
            kind, text = tokens[at]
            if (kind, text) == ("mark", "("):
                end = self._closing(tokens, at)
                operands.append(self._piped(tokens[at + 1 : end]))
                at = end + 1
                continue
            operands.append(self._operand(kind, text))
            at += 1
        return operands

    def _closing(self, tokens: list[tuple[str, str]], at: int) -> int:
        depth = 0
        for index in range(at, len(tokens)):
            depth += {"(": 1, ")": -1}.get(tokens[index][1], 0) if tokens[index][0] == "mark" else 0
            if depth == 0:
                return index
        raise self._fail("a parenthesis is not closed")

    def _operand(self, kind: str, text: str) -> _Expression:
        match kind:
            case "text":
                try:
                    return _Literal(json.loads(text))
                except ValueError:
                    raise self._fail(f"{text} is not a text") from None
            case "raw":
                return _Literal(text[1:-1])
            case "number":
                return _Literal(float(text) if "." in text else int(text))
            case "word" if text in ("true", "false", "nil"):
                return _Literal({"true": True, "false": False, "nil": None}[text])
            case "field" | "variable":
                variable, *names = text.split(".")
                names = [name for name in names if name]
                self._note_field(variable, names)
                return _Field(variable if kind == "variable" else None, tuple(names))
            case _:
                raise self._fail(f"{text!r} is not understood here")

    def _note_field(self, variable: str, names: list[str]) -> None:
        """Names taken from the whole data are known to be right or wrong before anything is sent."""
        is_whole = variable == "$" or (not variable and not any(o.kind in ("with", "range") for o in self._stack))
        if is_whole and names:
            self.fields.add(names[0])


# -- rendering ---------------------------------------------------------------------------------------------------------


class _Renderer:
    def __init__(self, data: Mapping[str, Any], parts: list[str]) -> None:
        self._variables: dict[str, Any] = {"$": data}
        self._parts = parts

    def run(self, nodes: Sequence[_Node], dot: Any) -> None:
        for node in nodes:
            match node:
                case _Text(text):
                    self._parts.append(text)
                case _Output(expression, place):
                    value = self._value(expression, dot)
                    text = value if isinstance(value, str) else render_value(value)
                    self._parts.append(text if place is None else place.escape(text))
                case _Assign(variable, expression):
                    self._variables[variable] = self._value(expression, dot)
                case _Block():
                    self._block(node, dot)

    def _block(self, block: _Block, dot: Any) -> None:
        value = self._value(block.value, dot)
        outer = dict(self._variables)
        if block.kind == "range":
            items = list(items_of(value))
            for key, item in items:
                for name, bound in zip(reversed(block.variables), (item, key), strict=False):
                    self._variables[name] = bound
                self.run(block.body, item)
            if not items:
                self.run(block.otherwise, dot)
        elif is_true(value):
            for name in block.variables:
                self._variables[name] = value
            self.run(block.body, value if block.kind == "with" else dot)
        else:
            self.run(block.otherwise, dot)
        self._variables = {name: self._variables.get(name) for name in outer}

    def _value(self, expression: _Expression, dot: Any) -> Any:
        match expression:
            case _Literal(value):
                return value
            case _Field(variable, names):
                value = dot if variable is None else self._variables.get(variable)
                for name in names:
                    value = member(value, name)
                return value
            case _Call(("and" | "or") as name, arguments):
                value = None
                for argument in arguments:
                    value = self._value(argument, dot)
                    if is_true(value) is (name == "or"):
                        break
                return value
            case _Call(name, arguments):
                return FUNCTIONS[name](*(self._value(argument, dot) for argument in arguments))
