"""The Prefer header (contract rest.md §7, RFC 7240): pure parsing, and the echo in Preference-Applied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VALUES: Final = {
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "return": ("representation", "minimal", "headers-only"),
    "count": ("exact", "planned", "estimated"),
    "tx": ("commit", "rollback"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
}
_number = re.compile(r"\s*(-?[0-9]{1,18})\s*").fullmatch


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers; None where it said nothing. `invalid` are the texts nobody knows, in order."""

    resolution: str | None = None
    returning: str | None = None
    count: str | None = None
    transaction: str | None = None
    missing: str | None = None
    handling: str | None = None
    timezone: str | None = None
    max_affected: int | None = None
    invalid: tuple[str, ...] = ()

    @property
    def is_strict(self) -> bool:
        """Unknown preferences are errors and `max-affected` counts."""
        return self.handling == "strict"

    @property
    def counts_rows(self) -> bool:
        """The exact number of rows is wanted, at least as a first try."""
        return self.count in {"exact", "estimated"}

    @property
    def counts_by_plan(self) -> bool:
        """The planner's estimate is wanted."""
        return self.count in {"planned", "estimated"}

    @property
    def wants_body(self) -> bool:
        """`return=representation`."""
        return self.returning == "representation"


NO_PREFERENCES = Preferences()


def parse_preferences(headers: Iterable[str], *, allow_transaction: bool) -> Preferences:
    """The header values, comma separated and repeated; the first of a kind wins.

    `allow_transaction`: `tx=` is heard only if `db-tx-end` lets clients override it."""
    words = [word.strip() for header in headers for word in header.split(",")]
    if not words:
        return NO_PREFERENCES
    found: dict[str, str] = {}
    invalid: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if (equals and name in {"timezone", "max-affected"}) or value in _VALUES.get(name, ()):
            found.setdefault(name, value)
        else:
            invalid.append(word)
    number = _number(found.get("max-affected", ""))
    return Preferences(
        resolution=found.get("resolution"),
        returning=found.get("return"),
        count=found.get("count"),
        transaction=found.get("tx") if allow_transaction else None,
        missing=found.get("missing"),
        handling=found.get("handling"),
        timezone=found.get("timezone"),
        max_affected=None if number is None else int(number.group(1)),
        invalid=tuple(invalid),
    )


def preference_applied(applied: Preferences) -> str | None:
    """The header's value for the preferences that were heeded; None when there are none."""
    return ", ".join(_echo(applied)) or None


def _echo(applied: Preferences) -> Iterator[str]:
    for name, value in (
        ("resolution", applied.resolution),
        ("missing", applied.missing),
        ("return", applied.returning),
        ("count", applied.count),
        ("tx", applied.transaction),
        ("handling", applied.handling),
        ("timezone", applied.timezone),
    ):
        if value is not None:
            yield f"{name}={value}"
    if applied.max_affected is not None and applied.is_strict:
        yield f"max-affected={applied.max_affected}"
