"""The built-in inbox: mails and text messages that nobody else takes (socle.inbox_messages)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from socle_platform.db import Connection, Record

_SUMMARY = (
    "id, kind, created_at, sender, recipient, subject, left(body, 400) as body, octet_length(source) as size, is_read"
)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message; of a list, `html` and `source` are empty and `body` is its beginning. `size` in bytes."""

    id: str
    kind: str
    created_at: datetime
    sender: str
    recipient: str
    subject: str
    body: str
    size: int
    is_read: bool
    html: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages: words that occur in a field (`None`: in any of them), and whether they were read.

    Fields are `from`, `to`, `subject` and `kind`; a refused word must not occur.
    """

    wanted: tuple[tuple[str | None, str], ...] = ()
    refused: tuple[tuple[str | None, str], ...] = ()
    is_read: bool | None = None


_FIELDS = {
    None: "concat_ws(chr(10), sender, recipient, subject, body)",
    "from": "sender",
    "to": "recipient",
    "subject": "subject",
    "kind": "kind",
}


def _condition(wanted: Filter) -> tuple[str, list[object]]:
    """SQL made of fixed pieces; every word is a parameter."""
    clauses, values = ["true"], list[object]()
    for words, comparison in ((wanted.wanted, "> 0"), (wanted.refused, "= 0")):
        for name, word in words:
            values.append(word.lower())
            clauses.append(f"position(${len(values)}::text in lower({_FIELDS[name]})) {comparison}")
    if wanted.is_read is not None:
        values.append(wanted.is_read)
        clauses.append(f"is_read = ${len(values)}::boolean")
    return " and ".join(clauses), values


async def add(connection: Connection, message: StoredMessage) -> None:
    """Keeps one message; with the transaction under way it comes or goes."""
    await connection.execute(
        """insert into socle.inbox_messages (id, kind, created_at, sender, recipient, subject, html, body, source)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        message.id,
        message.kind,
        message.created_at,
        message.sender,
        message.recipient,
        message.subject,
        message.html,
        message.body,
        message.source,
    )


async def page(connection: Connection, wanted: Filter, start: int, limit: int) -> tuple[list[StoredMessage], int]:
    """The newest first, and how many there are of them altogether."""
    condition, values = _condition(wanted)
    total = await connection.fetchval(f"select count(*) from socle.inbox_messages where {condition}", *values)
    rows = await connection.fetch(
        f"""select {_SUMMARY} from socle.inbox_messages where {condition}
        order by created_at desc, id limit ${len(values) + 1} offset ${len(values) + 2}""",
        *values,
        limit,
        start,
    )
    return [_message(row) for row in rows], int(total)


async def counts(connection: Connection) -> tuple[int, int]:
    """How many messages there are, and how many of them are unread."""
    row = await connection.fetchrow(
        "select count(*) as total, count(*) filter (where not is_read) as unread from socle.inbox_messages"
    )
    assert row is not None
    return int(row["total"]), int(row["unread"])


async def find(connection: Connection, message_id: str) -> StoredMessage | None:
    """One message whole; `latest` is the newest."""
    row = await connection.fetchrow(
        """select id, kind, created_at, sender, recipient, subject, html, body, source, is_read,
          octet_length(source) as size
        from socle.inbox_messages where id = $1 or $1 = 'latest' order by created_at desc, id limit 1""",
        message_id,
    )
    return None if row is None else _message(row)


async def mark(connection: Connection, ids: Sequence[str] | None, *, is_read: bool) -> None:
    """Marks these messages, or all of them (None), as read or unread."""
    await connection.execute(
        "update socle.inbox_messages set is_read = $2::boolean where $1::text[] is null or id = any($1::text[])",
        ids,
        is_read,
    )


async def delete(connection: Connection, ids: Sequence[str] | None) -> None:
    """Deletes these messages, or all of them (None)."""
    await connection.execute("delete from socle.inbox_messages where $1::text[] is null or id = any($1::text[])", ids)


async def delete_found(connection: Connection, wanted: Filter) -> None:
    """Deletes what a search finds."""
    condition, values = _condition(wanted)
    await connection.execute(f"delete from socle.inbox_messages where {condition}", *values)


async def trim(connection: Connection, *, most: int, before: datetime) -> int:
    """Deletes what is older than `before` or beyond the newest `most`; how many that were."""
    tag = await connection.execute(
        """delete from socle.inbox_messages where id in (
          select id from socle.inbox_messages where created_at < $1
             or id in (select id from socle.inbox_messages order by created_at desc, id offset $2)
          for update skip locked)""",
        before,
        most,
    )
    return int(tag.rsplit(" ", 1)[-1])


async def is_there(connection: Connection) -> bool:
    """Whether this database has an inbox."""
    return bool(await connection.fetchval("select to_regclass('socle.inbox_messages') is not null"))


def _message(row: Record) -> StoredMessage:
    return StoredMessage(**row)
