"""Moving users in and out, a thousand at a time, so that it can be stopped and started again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from socle_auth.store import transfer
from socle_auth.store.rows import NIL_UUID
from socle_auth.transfer.people import NotAPerson, Person, row_of

if TYPE_CHECKING:
    from socle_platform.db import Database

AT_ONCE = 1000
"""Users per transaction."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How an import went: users stored, those that were there already, and who could not be stored, and why."""

    stored: int = 0
    present: int = 0
    refused: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        return self.stored + self.present + len(self.refused)


@dataclass(slots=True)
class _Batch:
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    places: dict[str, str] = field(default_factory=dict[str, str])
    refused: list[str] = field(default_factory=list[str])


async def import_people(
    database: Database,
    people: Iterable[Person | NotAPerson],
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Callable[[Tally], None] = lambda _tally: None,
) -> Tally:
    """Stores everybody who is not there yet; `dry_run` only tells what would happen.

    Users have the same id at every run, so an interrupted import is simply run again. Raises DatabaseError and
    DatabaseUnavailable.
    """
    tally = Tally()
    seen = _Seen()
    for batch in _batches(people, now, seen):
        stored, present, refused = await _store(database, batch, dry_run=dry_run)
        tally = replace(
            tally,
            stored=tally.stored + stored,
            present=tally.present + present,
            refused=(*tally.refused, *batch.refused, *refused),
        )
        progress(tally)
    return tally


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


async def _store(database: Database, batch: _Batch, *, dry_run: bool) -> tuple[int, int, list[str]]:
    async with database.as_service("auth") as connection:
        ids, emails, phones = await transfer.known(connection, batch.rows)
        fresh, refused = list[dict[str, Any]](), list[str]()
        for row in batch.rows:
            if row["id"] in ids:
                continue
            taken = row["email"] if row["email"] in emails and not row["is_sso_user"] else None
            taken = taken or (row["phone"] if row["phone"] in phones else None)
            if taken:
                refused.append(f"{batch.places[row['id']]}: {taken} belongs to somebody else here")
            else:
                fresh.append(row)
        present = len(batch.rows) - len(fresh) - len(refused)
        stored = {row["id"] for row in fresh} if dry_run else await transfer.insert_users(connection, fresh)
    late = [row for row in fresh if row["id"] not in stored]
    refused += [f"{batch.places[row['id']]}: was taken by somebody else meanwhile" for row in late]
    return len(stored), present, refused


async def export_people(database: Database, file: TextIO, progress: Callable[[int], None] = lambda _done: None) -> int:
    """Writes everybody, one JSON object a line, with hashes and identities; `import_people` reads it. How many."""
    done, after = 0, NIL_UUID
    while True:
        async with database.as_service("auth") as connection:
            people = await transfer.page(connection, after, AT_ONCE)
        if not people:
            return done
        file.writelines(json.dumps(person, ensure_ascii=False) + "\n" for person in people)
        done, after = done + len(people), str(people[-1]["id"])
        progress(done)
