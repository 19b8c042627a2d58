"""Read replicas of a database: which of them can serve a read, and how far each has come.

Every replica is asked twice a second how much of the primary's log it has replayed; one that does not answer is left
out until it does. A read that must see an earlier write names that write's log position: only a replica known to be
past it will do, otherwise the primary. Nobody waits for a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_platform.db import DatabaseError, DatabaseUnavailable
from socle_platform.events import Noted, Observe, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from socle_platform.db import Database

INTERVAL = 0.5
"""Seconds between two looks at a replica."""
PATIENCE = 2.0
"""Seconds after which a replica that does not say how far it is counts as gone."""
_REPLAYED = "select pg_catalog.pg_last_wal_replay_lsn()"
_WRITTEN = "select pg_catalog.pg_current_wal_insert_lsn()"
_position = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})").fullmatch


def parse_position(text: str) -> int:
    """A log position as PostgreSQL writes it (`16/B374D848`), in bytes. Raises ValueError."""
    found = _position(text)
    if found is None:
        raise ValueError(f"no log position: {text!r}")
    return (int(found.group(1), 16) << 32) + int(found.group(2), 16)


@dataclass(slots=True)
class _Replica:
    """`replayed` is None for a server that replays nothing: a copy of which nothing is known."""

    number: int
    database: Database
    works: bool = False
    replayed: int | None = None

    def can_serve(self, seen: int) -> bool:
        return self.works and (seen == 0 or (self.replayed is not None and self.replayed >= seen))


class Replicas:
    """The primary and its replicas, watched between `start` and `close`."""

    def __init__(self, primary: Database, replicas: Sequence[Database], observe: Observe = silent) -> None:
        self.primary = primary
        self._replicas = [_Replica(number, one) for number, one in enumerate(replicas, 1)]
        self._observe = observe
        self._watchers: list[asyncio.Task[None]] = []
        self._turn = 0

    async def start(self) -> None:
        """Looks at every replica, and keeps looking."""
        await asyncio.gather(*(self._look(one) for one in self._replicas))
        self._watchers = [asyncio.create_task(self._watch(one), name="replica") for one in self._replicas]

    async def close(self) -> None:
        """Ends the watch and the replicas' sessions; the primary is its owner's."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*(one.database.close() for one in self._replicas))

    def choose(self, seen: int = 0) -> Database:
        """Where a read goes that must see the log up to `seen`: the replicas take turns, the primary fills in."""
        fit = [one for one in self._replicas if one.can_serve(seen)]
        if not fit:
            return self.primary
        self._turn += 1
        return fit[self._turn % len(fit)].database

    def give_up(self, database: Database) -> None:
        """Leaves a replica out until it is seen to work again."""
        for one in self._replicas:
            if one.database is database:
                self._note(one, works=False)

    def renew_sessions(self) -> None:
        """As `Database.renew_sessions`, for the replicas."""
        for one in self._replicas:
            one.database.renew_sessions()

    async def written(self) -> str:
        """A log position behind all that the primary has committed. Raises DatabaseUnavailable, DatabaseError."""
        return (await self.primary.ask(_WRITTEN) or b"").decode()

    async def _watch(self, one: _Replica) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self._look(one)

    async def _look(self, one: _Replica) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                said = await one.database.ask(_REPLAYED)
        except (DatabaseUnavailable, DatabaseError, TimeoutError):
            self._note(one, works=False)
            return
        with contextlib.suppress(ValueError):
            one.replayed = None if said is None else parse_position(said.decode())
        self._note(one, works=True)

    def _note(self, one: _Replica, *, works: bool) -> None:
        if works != one.works:
            one.works = works
            level, state = (
                ("info", "takes reads") if works else ("warning", "does not answer; the primary takes its reads")
            )
            self._observe(Noted("database", level, f"Replica {one.number} {state}"))
