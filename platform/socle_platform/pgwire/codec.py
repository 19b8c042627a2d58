"""Python values ↔ PostgreSQL's text forms."""

from __future__ import annotations


class Json:
    """Marks a value that travels as JSON text, whatever it is (a bare list would be an array)."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value
