"""Reading JSON that strangers shaped: typed look-ups that find nothing rather than fail (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast


def text_of(value: object) -> str:
    """Text as it is, a whole number as its digits, anything else as nothing."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def as_boolean(value: object) -> bool:
    """True, 1, "1" and "true": providers write truth in all these ways."""
    return value is True or value == 1 or (isinstance(value, str) and value.lower() in {"true", "1"})


def pick(value: object, *path: str | int) -> object:
    """The value under a path of keys and positions, or None."""
    for step in path:
        if isinstance(step, str) and isinstance(value, Mapping):
            value = cast("Mapping[str, object]", value).get(step)
        elif isinstance(step, int) and isinstance(value, list):
            entries = cast("list[object]", value)
            value = entries[step] if step < len(entries) else None
        else:
            return None
    return value


def pick_text(value: object, *path: str | int) -> str:
    """The text under a path, or nothing."""
    return text_of(pick(value, *path))


def pick_list(value: object, *path: str | int) -> Sequence[object]:
    """The list under a path, or an empty one."""
    found = pick(value, *path)
    return cast("list[object]", found) if isinstance(found, list) else []


def members(value: object) -> dict[str, object]:
    """A JSON object's members; nothing for any other value."""
    return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else {}
