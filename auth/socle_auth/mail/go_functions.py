"""Values and functions of the template language, as Go has them (contracts/auth.md §7.6)."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, cast
from urllib.parse import quote_plus

_VERB = re.compile(r"%(?:[+#0 -]*\d*(?:\.\d+)?)([a-zA-Z%])")


def member(value: Any, name: Any) -> Any:
    return cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None


def items_of(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        yield from ((key, mapping[key]) for key in sorted(mapping))
    elif isinstance(value, list | tuple):
        yield from enumerate(cast("Sequence[Any]", value))


def is_true(value: Any) -> bool:
    """Go's idea of truth: not false, zero, nil or empty."""
    return bool(value)


def render_value(value: Any) -> str:
    """A value as Go prints it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case list() | tuple():
            return f"[{' '.join(render_value(item) for item in cast('Sequence[Any]', value))}]"
        case Mapping():
            mapping = cast("Mapping[str, Any]", value)
            return f"map[{' '.join(f'{key}:{render_value(mapping[key])}' for key in sorted(mapping))}]"
        case _:
            return str(value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__ if value is None else "other"


def _equal(first: Any, *others: Any) -> bool:
    return any(_kind(first) == _kind(other) and first == other for other in others)


def _different(left: Any, right: Any) -> bool:
    return not _equal(left, right)


def _negated(value: Any) -> bool:
    return not is_true(value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        comparable = _kind(left) == _kind(right) == "number" or (isinstance(left, str) and isinstance(right, str))
        return comparable and compare(left, right)

    return ordered


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, list | tuple):
            items = cast("Sequence[Any]", value)
            value = items[key] if isinstance(key, int) and 0 <= key < len(items) else None
        else:
            value = member(value, key)
    return value


def _length(value: Any) -> int:
    return len(cast("Sequence[Any]", value)) if isinstance(value, str | list | tuple | Mapping) else 0


def _printf(pattern: Any, *values: Any) -> str:
    pending = list(values)

    def fill(match: re.Match[str]) -> str:
        if match[1] == "%":
            return "%"
        if not pending:
            return f"%!{match[1]}(MISSING)"
        value = pending.pop(0)
        try:
            return _formatted(match[0], match[1], value)
        except (TypeError, ValueError):
            return f"%!{match[1]}({render_value(value)})"

    return _VERB.sub(fill, str(pattern))


def _formatted(whole: str, verb: str, value: Any) -> str:
    flags = whole[1:-1]
    if len(flags) > 8:
        raise ValueError(flags)
    if verb in "sv":
        return str(f"%{flags}s" % render_value(value))
    if verb == "q":
        return json.dumps(render_value(value), ensure_ascii=False)
    if verb in "dxXof" and not isinstance(value, bool):
        return str(f"%{flags}{verb}" % value)
    raise ValueError(verb)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "eq": _equal,
    "ne": _different,
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
    "not": _negated,
    "len": _length,
    "index": _index,
    "printf": _printf,
    "print": lambda *values: "".join(render_value(value) for value in values),
    "println": lambda *values: " ".join(render_value(value) for value in values) + "\n",
    "html": lambda *values: escape("".join(render_value(value) for value in values)),
    "urlquery": lambda *values: quote_plus("".join(render_value(value) for value in values)),
}
