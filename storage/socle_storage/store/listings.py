"""Statements of the two listing APIs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_storage.store.shapes import moment
from socle_storage.store.statements import Statements, only

if TYPE_CHECKING:
    from socle_storage.context import Caller

_SEARCH = f"""
select coalesce(json_agg(json_build_object(
         'name', s.name, 'id', s.id, 'updated_at', {moment("s.updated_at")}, 'created_at', {moment("s.created_at")},
         'last_accessed_at', {moment("s.last_accessed_at")}, 'metadata', s.metadata)), '[]')
  from storage.search($1, $2, $3::int, $4::int, $5::int, $6, $7, $8) s"""
_ENTRY = (
    "json_build_object({key}'id', l.id, 'name', l.name, 'metadata', l.metadata, "
    f"'updated_at', {moment('l.updated_at')}, 'created_at', {moment('l.created_at')}, "
    f"'last_accessed_at', {moment('l.last_accessed_at')})"
)
_LEVEL_ENTRY = _ENTRY.format(key="'key', l.key, ")
_LIST_LEVEL = f"select {_LEVEL_ENTRY} from storage.search_v2($1, $2, $3::int, $4::int, $5, $6, $7, $8) l"


def _list_flat(column: str, *, descending: bool) -> str:
    """The flat listing for a sort column: after ($3, name or moment and name) in that order, $4 rows."""
    order, after = ("desc", "<") if descending else ("asc", ">")
    if column == "name":
        beyond, by = f'l.name collate "C" {after} $3 collate "C"', f'l.name collate "C" {order}'
    else:
        moment = f"date_trunc('milliseconds', l.{column})"
        start = "coalesce(nullif($5, '')::timestamptz, 'epoch'::timestamptz)"
        beyond = f'({moment}, l.name collate "C") {after} ({start}, $3 collate "C")'
        by = f'{moment} {order}, l.name collate "C" {order}'
    return f"""
select {_ENTRY.format(key="")}
  from storage.objects l
 where l.bucket_id = $1
   and l.name collate "C" >= $2 and l.name collate "C" < $2 || chr(1114111)
   and ($3 = '' or {beyond})
 order by {by}
 limit $4::int"""


_FLAT = {
    (column, descending): _list_flat(column, descending=descending)
    for column in ("name", "created_at", "updated_at")
    for descending in (False, True)
}


@dataclass(frozen=True, slots=True)
class Search:
    """A request of the first listing API. `prefix` ends in a slash or is empty."""

    bucket: str
    prefix: str
    search: str = ""
    limit: int = 100
    offset: int = 0
    column: str = "name"
    order: str = "asc"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the second listing API: `limit` rows behind `after` (and `after_moment`) in the order asked for."""

    bucket: str
    prefix: str
    limit: int
    after: str = ""
    after_moment: str = ""
    column: str = "name"
    order: str = "asc"


class Listings(Statements):
    """Objects by prefix, as far as the caller sees them."""

    async def search(self, caller: Caller, search: Search) -> bytes:
        """The first listing API: a JSON array, made by PostgreSQL."""
        prefix, wanted = search.prefix, search.search
        levels = len((prefix + wanted).split("/"))
        arguments = (
            prefix,
            search.bucket,
            str(search.limit),
            str(levels),
            str(search.offset),
            wanted,
            search.column,
            search.order,
        )
        result = await self.run(caller, _SEARCH, [text.encode() for text in arguments], read_only=True)
        return result.rows[0][0] or b"[]"

    async def list_level(self, caller: Caller, page: Page) -> list[dict[str, Any]]:
        """One level below the prefix: objects, and folders with a null id."""
        levels = len(page.prefix.split("/"))
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(
                _LIST_LEVEL,
                page.prefix,
                page.bucket,
                page.limit,
                levels,
                page.after,
                page.order,
                page.column,
                page.after_moment,
            )
        return [only(row) for row in rows]

    async def list_flat(self, caller: Caller, page: Page) -> list[dict[str, Any]]:
        """Every object whose name begins with the prefix."""
        column = page.column if page.column in {"created_at", "updated_at"} else "name"
        arguments: list[object] = [page.bucket, page.prefix, page.after, page.limit]
        if column != "name":
            arguments.append(page.after_moment)
        async with self.acting_as(caller) as connection:
            rows = await connection.fetch(_FLAT[column, page.order == "desc"], *arguments)
        return [only(row) for row in rows]
