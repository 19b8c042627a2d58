"""Reading JSON bodies and queries field by field, with the words of JSON schema validation. Pure.

Scalars are converted as the official service does: "10" is the integer 10, 1 is the text "1", null is the empty value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from socle_storage.errors import invalid_input


class Fields:
    """An object whose members are asked for by name and kind. Every method raises InvalidRequest (400)."""

    def __init__(self, value: object, where: str = "body") -> None:
        if not isinstance(value, Mapping):
            raise invalid_input(f"{where} must be object")
        self._values = cast("Mapping[str, Any]", value)
        self._where = where

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __len__(self) -> int:
        return len(self._values)

    def is_null(self, name: str) -> bool:
        """Present, and null."""
        return name in self._values and self._values[name] is None

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def place(self, name: str) -> str:
        return f"{self._where}/{name}"

    def require(self, *names: str) -> None:
        """Complains about the first of the names that is absent."""
        for name in names:
            if name not in self._values:
                raise invalid_input(f"{self._where} must have required property '{name}'")

    def text(self, name: str, default: str | None = None) -> str | None:
        if name not in self._values:
            return default
        return parse_text(self._values[name], self.place(name))

    def required_text(self, name: str) -> str:
        self.require(name)
        return parse_text(self._values[name], self.place(name))

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise invalid_input(f"{self.place(name)} must be equal to one of the allowed values")
        return value

    def boolean(self, name: str) -> bool | None:
        if name not in self._values:
            return None
        value = self._values[name]
        if value is None or value in (False, 0, "false"):
            return False
        if value in (True, 1, "true"):
            return True
        raise invalid_input(f"{self.place(name)} must be boolean")

    def integer(self, name: str, *, minimum: int | None = None) -> int | None:
        if name not in self._values:
            return None
        value = parse_integer(self._values[name])
        if value is None:
            raise invalid_input(f"{self.place(name)} must be integer")
        if minimum is not None and value < minimum:
            raise invalid_input(f"{self.place(name)} must be >= {minimum}")
        return value

    def number(self, name: str) -> float | None:
        if name not in self._values:
            return None
        value = self._values[name]
        try:
            number = math.nan if isinstance(value, bool) else float(value or 0)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise invalid_input(f"{self.place(name)} must be number")
        return number

    def texts(self, name: str, *, minimum: int = 0, maximum: int | None = None) -> list[str]:
        """A required array of texts; one text alone counts as an array of one."""
        self.require(name)
        value = self._values[name]
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        if len(items) < minimum:
            raise invalid_input(f"{self.place(name)} must NOT have fewer than {minimum} items")
        if maximum is not None and len(items) > maximum:
            raise invalid_input(f"{self.place(name)} must NOT have more than {maximum} items")
        return [parse_text(item, f"{self.place(name)}/{index}") for index, item in enumerate(items)]

    def inner(self, name: str) -> Fields | None:
        """A nested object."""
        return Fields(self._values[name], self.place(name)) if name in self._values else None


def parse_text(value: object, place: str) -> str:
    """A text; numbers and booleans are written out, null is empty. PostgreSQL cannot hold NUL or half characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise invalid_input(f"{place} must be string")
    if "\0" in value or not _is_unicode(value):
        raise invalid_input(f"{place} must be valid text")
    return value


def parse_integer(value: object) -> int | None:
    """A whole number, also as text or as null (0); None for anything else."""
    if value is None:
        return 0
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    elif isinstance(value, str) and value.strip().lstrip("+-").isascii() and value.strip().lstrip("+-").isdigit():
        try:
            number = int(value)
        except ValueError:
            return None
    else:
        return None
    return number if -(2**53) < number < 2**53 else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
