"""The two listing APIs (contract storage.md §3.5, §3.6)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from socle_storage.caching import parse_moment
from socle_storage.errors import invalid_parameter
from socle_storage.names import verify_bucket
from socle_storage.store import Page, Search

if TYPE_CHECKING:
    from socle_storage.bodies import Fields
    from socle_storage.context import Caller, Storage

MAX_PAGE = 1000
_ORDERS = ("asc", "desc")
_COLUMNS = ("name", "created_at", "updated_at")
_JUST_BEHIND = "\x01"
"""Behind an object and before everything in a folder of the same name."""
_LINE = re.compile(r"([loca]):(.*)")


async def search(storage: Storage, caller: Caller, bucket: str, fields: Fields) -> bytes:
    """The first API: one level below a folder, as a JSON array. An unknown bucket is empty."""
    prefix = fields.required_text("prefix")
    limit = fields.integer("limit", minimum=1)
    offset = fields.integer("offset", minimum=0)
    column, order = _sort(fields, (*_COLUMNS, "last_accessed_at"))
    verify_bucket(bucket)
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    wanted = Search(
        bucket=bucket,
        prefix=prefix,
        search=fields.text("search") or "",
        limit=min(limit or 100, 1500),
        offset=min(offset or 0, 2**31 - 1501),
        column=column or "name",
        order=order or "asc",
    )
    return await storage.store.search(caller, wanted)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing goes on: the last name (and moment), and the sort that was asked for at its beginning."""

    after: str = ""
    order: str | None = None
    column: str | None = None
    moment: str = ""

    def render(self) -> str:
        lines = (("l", self.after), ("o", self.order), ("c", self.column), ("a", self.moment))
        return base64.b64encode("\n".join(f"{letter}:{text}" for letter, text in lines if text).encode()).decode()


def parse_cursor(text: str) -> Cursor:
    """Raises InvalidParameter. A cursor without a direction goes up, whatever the body says."""
    try:
        lines = base64.b64decode(text + "=" * (-len(text) % 4)).decode().split("\n")
    except (binascii.Error, UnicodeDecodeError):
        raise invalid_parameter("continuation token") from None
    found: dict[str, str] = {"o": "asc"}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            raise invalid_parameter("continuation token")
        found[match[1]] = match[2]
    if found["o"] not in _ORDERS or found.get("c", "name") not in _COLUMNS:
        raise invalid_parameter("continuation token")
    moment = found.get("a", "")
    if moment and parse_moment(moment) is None:
        raise invalid_parameter("continuation token")
    return Cursor(found.get("l", ""), found["o"], found.get("c"), moment)


async def list_page(storage: Storage, caller: Caller, bucket: str, fields: Fields) -> dict[str, Any]:
    """The second API: a page of objects and folders with full names, and where the next one begins."""
    prefix = fields.text("prefix") or ""
    limit = min(fields.integer("limit", minimum=1) or MAX_PAGE, MAX_PAGE)
    cursor_text = fields.text("cursor")
    delimited = fields.boolean("with_delimiter") or False
    column, order = _sort(fields, _COLUMNS)
    verify_bucket(bucket)
    cursor = parse_cursor(cursor_text) if cursor_text else Cursor()
    column, order = cursor.column or column, cursor.order or order
    page = Page(bucket, prefix, limit + 1, cursor.after, cursor.moment, column=column or "name", order=order or "asc")
    sort = Cursor(order=order, column=column)
    if not delimited:
        return _page_of(await storage.store.list_flat(caller, page), limit, sort)
    if page.column == "name" and page.order == "asc" and page.after and not page.after.endswith("/"):
        page = replace(page, after=page.after + _JUST_BEHIND)
    return _page_of(await storage.store.list_level(caller, page), limit, sort)


def _page_of(rows: list[dict[str, Any]], limit: int, sort: Cursor) -> dict[str, Any]:
    kept = rows[:limit]
    folders = [{**row, "name": row["name"].rstrip("/") + "/"} for row in kept if row["id"] is None]
    result: dict[str, Any] = {"hasNext": len(rows) > limit}
    if len(rows) > limit:
        last = kept[-1]
        moment = last.get(sort.column) if sort.column and sort.column != "name" else None
        by_name = sort.column in {None, "name"}
        after = last["name"] + "/" if last["id"] is None and by_name else last["name"]
        result["nextCursor"] = replace(sort, after=after, moment=moment or "").render()
        result["nextCursorKey"] = last["name"]
    return result | {"folders": folders, "objects": [row for row in kept if row["id"] is not None]}


def _sort(fields: Fields, columns: tuple[str, ...]) -> tuple[str | None, str | None]:
    inner = fields.inner("sortBy")
    if inner is None:
        return None, None
    inner.require("column")
    return inner.choice("column", columns), inner.choice("order", _ORDERS)
