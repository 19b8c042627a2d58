"""The database as every service sees it: transactions as a caller, transactions as a service, one-write requests.

Here, and nowhere else, a session takes a role and a caller's claims.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from socle_platform.pgwire.codec import Json
from socle_platform.pgwire.errors import (
    ConnectFailed,
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    PoolTimeout,
    ProtocolViolation,
)

if TYPE_CHECKING:
    from socle_platform.config.database import DatabaseSettings
    from socle_platform.identity import Identity, RequestFacts

__all__ = [
    "ConnectFailed",
    "Connection",
    "ConnectionLost",
    "Database",
    "DatabaseError",
    "DatabaseUnavailable",
    "Json",
    "PoolTimeout",
    "Prepared",
    "ProtocolViolation",
    "Record",
    "Result",
    "Rollback",
    "Row",
]

Record: TypeAlias = dict[str, Any]
"""One row: column name → value."""

Row: TypeAlias = tuple[bytes | None, ...]
"""One row as PostgreSQL sent it: each column's bytes, None for NULL."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Rollback(Exception):  # noqa: N818 - it is an order, not an error
    """Raised inside a transaction block to leave it with nothing kept and nothing raised."""


class Connection(Protocol):
    """One database connection inside a transaction block.

    Parameters are `$1, $2 …` and travel as text without a type: PostgreSQL does the typing; write a `::cast` where it
    is ambiguous. None → NULL, bool, int, float, Decimal, str as is, bytes → bytea, datetime → ISO, UUID → text,
    dict → JSON text, list/tuple → array literal, Json(x) → JSON text of anything.
    Results: bool, int, float, Decimal (numeric), bytes (bytea), datetime (timestamptz aware, timestamp naive),
    json/jsonb → Python value, arrays of those → list; every other type, uuid among them, is str.
    Every method raises DatabaseError or DatabaseUnavailable.
    """

    async def execute(self, sql: str, *args: object) -> str:
        """Runs one statement and returns its command tag, e.g. `UPDATE 3`."""
        ...

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """All rows."""
        ...

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        """The first row, or None."""
        ...

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """A savepoint: kept at normal exit, undone on an exception (`Rollback` is swallowed)."""
        ...


class Prepared(NamedTuple):
    """One statement with its parameters, already in PostgreSQL's text form (a tuple: it is made on every request).

    `key` stands for `text` in the cache of prepared statements ("" = the text itself): two statements of one key must
    have one text. `result_formats` asks for binary columns (1) as the manual's Bind message says; () is all text.
    """

    text: str
    args: Sequence[bytes | None] = ()
    key: str = ""
    result_formats: tuple[int, ...] = ()


class Result(NamedTuple):
    """What one request got: raw rows, the command tag, the settings asked for by `gucs`, the rows of `after`."""

    rows: list[Row]
    tag: str
    gucs: Mapping[str, str | None] = _NOTHING
    after: Sequence[Row] = ()


class Database:
    """Pools of sessions, and the only ways to use them."""

    def __init__(self, settings: DatabaseSettings) -> None: ...

    async def start(self) -> None:
        """Opens a first session. Raises ConnectFailed."""

    async def close(self) -> None:
        """Ends every session once it is idle, at the latest after the cancel timeout."""

    def acting_as(
        self,
        who: Identity,
        facts: RequestFacts,
        *,
        read_only: bool = False,
        isolation: str | None = None,
        search_path: Sequence[str] = ("public", "extensions"),
        settings: Mapping[str, str] = _NOTHING,
    ) -> AbstractAsyncContextManager[Connection]:
        """A transaction as `who`: commits at normal exit, rolls back on an exception (`Rollback` is swallowed)."""
        ...

    def as_service(self, service: str) -> AbstractAsyncContextManager[Connection]:
        """A transaction as the admin role of auth, storage, realtime or platform: the platform's own work."""
        ...

    async def run_as(
        self,
        who: Identity,
        facts: RequestFacts,
        statement: Prepared,
        *,
        read_only: bool = False,
        isolation: str | None = None,
        search_path: Sequence[str] = ("public", "extensions"),
        settings: Mapping[str, str] = _NOTHING,
        role_settings: Mapping[str, str] = _NOTHING,
        before: Prepared | None = None,
        after: Prepared | None = None,
        gucs: Sequence[str] = (),
        check: Callable[[Result], None] | None = None,
        rollback: bool = False,
        reset: bool | None = None,
    ) -> Result:
        """One statement as `who`, in one write and one transaction."""
        ...

    def stream_as(
        self,
        who: Identity,
        facts: RequestFacts,
        statement: Prepared,
        *,
        batch: int = 256,
        read_only: bool = True,
        isolation: str | None = None,
        search_path: Sequence[str] = ("public", "extensions"),
        settings: Mapping[str, str] = _NOTHING,
        role_settings: Mapping[str, str] = _NOTHING,
        before: Prepared | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Row]]]:
        """The same, in portions of `batch` rows that are fetched as they are consumed."""
        ...
