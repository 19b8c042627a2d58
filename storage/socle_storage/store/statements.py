"""How a statement runs: as the caller under row level security, or past it as the service (contract storage.md §5)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from socle_platform.db import Prepared

if TYPE_CHECKING:
    from socle_platform.config.storage import StorageSettings
    from socle_platform.db import Connection, Database, Result
    from socle_storage.context import Caller

LOCK_TIMEOUT = "5000"
"""Milliseconds that a final write waits for another one on the same object (contract §3.1)."""


class Statements:
    """Statements on one database, in the name of a caller."""

    def __init__(self, database: Database, settings: StorageSettings) -> None:
        self.database = database
        self._search_path = settings.search_path
        self._timeout = str(round(settings.statement_timeout * 1000))

    def _settings(self, caller: Caller, **more: str) -> dict[str, str]:
        who = caller.identity
        return {
            "request.jwt": who.token or "",
            "request.jwt.claim.role": who.role,
            "request.jwt.claim.sub": who.subject or "",
            "storage.operation": caller.operation,
            "storage.allow_delete_query": "true",
            "statement_timeout": self._timeout,
            **more,
        }

    @asynccontextmanager
    async def acting_as(self, caller: Caller, **settings: str) -> AsyncGenerator[Connection, None]:
        """A transaction as the caller."""
        async with self.database.acting_as(
            caller.identity,
            caller.facts,
            search_path=self._search_path,
            settings=self._settings(caller, **settings),
        ) as connection:
            yield connection

    async def run(
        self,
        caller: Caller,
        text: str,
        args: Sequence[bytes | None],
        *,
        read_only: bool = False,
        rollback: bool = False,
        reset: bool | None = None,
    ) -> Result:
        """One statement as the caller, in one round trip. What is rolled back leaves nothing in the session either.

        `reset` False: no code of the project's ran in it, so the session needs no cleaning.
        """
        return await self.database.run_as(
            caller.identity,
            caller.facts,
            Prepared(text, args),
            read_only=read_only,
            rollback=rollback,
            reset=False if rollback else reset,
            search_path=self._search_path,
            settings=self._settings(caller) if read_only else self._settings(caller, lock_timeout=LOCK_TIMEOUT),
        )


def only(row: Mapping[str, Any]) -> Any:
    """The value of a row with one column."""
    return next(iter(row.values()))
