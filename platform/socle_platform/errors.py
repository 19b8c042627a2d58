"""The root of every error, and the one value that leaves as a response.

SocleError
├── ConfigError            settings that cannot be used (config/reader.py)
├── TokenError             a token that proves nothing (keys.py)
├── DatabaseError          PostgreSQL's own answer (db.py)
├── DatabaseUnavailable    no answer from PostgreSQL (db.py)
└── …                      each service's own closed set (<service>/errors.py)

Code raises what went wrong, never a response: the service that owns the mount point renders it (layout.md §5).
"""

from __future__ import annotations

from dataclasses import dataclass, field


class SocleError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        """The text for people; the class docstring's first line unless given."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class WireResponse:
    """A whole HTTP response as a value: status, header pairs as they go out, body bytes."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
