"""Moving users in and out, a thousand at a time, so that it can be stopped and started again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from socle_auth.store import transfer
from socle_auth.store.rows import NIL_UUID
from socle_auth.transfer.people import NotAPerson, Person, row_of
from socle_platform.db import DatabaseError

if TYPE_CHECKING:
    from socle_platform.db import Database

AT_ONCE = 1000
"""Users per transaction."""

_SOMEBODY = frozenset({"22", "23", "P0"})
"""Classes of errors that one row brings about: data that no column takes, a broken constraint, a trigger's refusal."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How an import went: users stored, those that were there already, and who could not be stored, and why."""

    stored: int = 0
    present: int = 0
    refused: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        return self.stored + self.present + len(self.refused)

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        refused = (*self.refused, *other.refused) if other.refused else self.refused
        return Tally(self.stored + other.stored, self.present + other.present, refused)

    def refuse(self, text: str) -> Tally:
        """One more that could not be stored."""
        return replace(self, refused=(*self.refused, text))


@dataclass(slots=True)
class _Batch:
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    places: dict[str, str] = field(default_factory=dict[str, str])
    refused: list[str] = field(default_factory=list[str])

    def place(self, row: Mapping[str, Any]) -> str:
        """Where the row stood in the file."""
        return self.places[row["id"]]


async def import_people(
    database: Database,
    people: Iterable[Person | NotAPerson],
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Callable[[Tally], None] = lambda _tally: None,
) -> Tally:
    """Stores everybody who is not there yet; `dry_run` only tells what would happen.

    While the database stores some, the next are read and checked. Users have the same id at every run, so an
    interrupted import is simply run again. Raises DatabaseError and DatabaseUnavailable.
    """
    tally = Tally()
    batches = _batches(people, now, _Seen())
    storing: asyncio.Task[Tally] | None = None
    try:
        while True:
            batch = await asyncio.to_thread(next, batches, None)
            if storing is not None:
                tally = tally.plus(await storing)
                progress(tally)
            if batch is None:
                return tally
            storing = asyncio.create_task(_store(database, batch, dry_run=dry_run, before=tally.stored))
    finally:
        if storing is not None:
            await asyncio.gather(storing, return_exceptions=True)


class _Seen:
    """Addresses and numbers earlier in the same file."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], str] = {}

    def check(self, row: dict[str, Any], place: str) -> None:
        """Raises NotAPerson when somebody before has the same id, address or number."""
        kinds = ("id", "phone") if row["is_sso_user"] else ("id", "email", "phone")
        keys = [(kind, str(row[kind])) for kind in kinds if row[kind]]
        for kind, value in keys:
            if (other := self._places.get((kind, value))) is not None:
                raise NotAPerson(f"has the same {kind} as {other} ({value})")
        for key in keys:
            self._places[key] = place


def _batches(people: Iterable[Person | NotAPerson], now: datetime, seen: _Seen) -> Iterator[_Batch]:
    pending = iter(people)
    while items := list(islice(pending, AT_ONCE)):
        batch = _Batch()
        for item in items:
            if isinstance(item, NotAPerson):
                batch.refused.append(str(item))
                continue
            try:
                row = row_of(item, now)
                seen.check(row, item.place)
            except NotAPerson as error:
                batch.refused.append(f"{item.place}: {error}")
                continue
            batch.rows.append(row)
            batch.places[row["id"]] = item.place
        yield batch


async def _store(database: Database, batch: _Batch, *, dry_run: bool, before: int) -> Tally:
    """One batch. Where PostgreSQL (or the project's own trigger) refuses somebody, it is halved until that is one."""
    if not batch.rows:
        return Tally(refused=tuple(batch.refused))
    try:
        verdicts = await transfer.put(database, batch.rows, dry_run=dry_run, before=before)
    except DatabaseError as error:
        if error.sqlstate[:2] not in _SOMEBODY:
            raise
        if len(batch.rows) == 1:
            return Tally(refused=(*batch.refused, f"{batch.place(batch.rows[0])}: {error.message}"))
        middle = len(batch.rows) // 2
        first = await _store(database, replace(batch, rows=batch.rows[:middle]), dry_run=dry_run, before=before)
        rest = replace(batch, rows=batch.rows[middle:], refused=[])
        return first.plus(await _store(database, rest, dry_run=dry_run, before=before))
    tally = Tally(refused=tuple(batch.refused))
    for row in batch.rows:
        verdict = verdicts[row["id"]]
        if verdict.was_present:
            tally = replace(tally, present=tally.present + 1)
        elif verdict.taken is not None:
            tally = tally.refuse(f"{batch.place(row)}: {verdict.taken} belongs to somebody else here")
        elif not verdict.is_stored:
            tally = tally.refuse(f"{batch.place(row)}: was taken by somebody else meanwhile")
    missing = len(tally.refused) - len(batch.refused) + tally.present
    return replace(tally, stored=len(batch.rows) - missing)


async def export_people(database: Database, file: TextIO, progress: Callable[[int], None] = lambda _done: None) -> int:
    """Writes everybody, one JSON object a line, with hashes and all that belongs to them; `import_people` reads it.

    Gives how many that were.
    """
    done, after = 0, NIL_UUID
    async with database.as_service("auth") as connection:
        belongings = await transfer.present_belongings(connection)
    while True:
        async with database.as_service("auth") as connection:
            people = await transfer.page(connection, after, AT_ONCE, belongings)
        if not people:
            return done
        file.writelines(json.dumps(person, ensure_ascii=False) + "\n" for person in people)
        done, after = done + len(people), str(people[-1]["id"])
        progress(done)
