"""The SQL functions of schema storage, against a plain model in Python."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from harness.postgres import TestServer

Row = tuple[str, bool]
"""A listed name, and whether it is a file."""

PARTS = ["a", "b", "ab", "A b", "docs", "é", "x.y", "zz", "10", "2", "%", "_"]
ENDINGS = ["", "1", "-x", ".png", "_q", "!"]


def object_names() -> list[str]:
    """Names in every depth, many alike; no two that differ in case only."""
    chance = random.Random(7)  # noqa: S311 (the same names in every run)
    names = {
        "/".join(chance.choice(PARTS) + chance.choice(ENDINGS) for _ in range(chance.choice((1, 1, 2, 2, 3))))
        for _ in range(250)
    }
    return sorted({name.lower(): name for name in sorted(names)}.values())


NAMES = object_names()


def listed(prefix: str, *, folded: bool = False) -> list[Row]:
    """One level below the prefix in byte order: files, and folders at their first object."""

    def key(name: str) -> bytes:
        return (name.lower() if folded else name).encode()

    rows: dict[str, Row] = {}
    for name in sorted(NAMES, key=key):
        if not key(name).startswith(key(prefix)):
            continue
        slash = name.find("/", len(prefix))
        shown = name if slash < 0 else name[:slash]
        rows.setdefault(f"{key(shown)!r}{slash < 0}", (shown, slash < 0))
    return list(rows.values())


@pytest.fixture
async def storage(server: TestServer, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A bucket with the objects above and another with one."""
    connection = await asyncpg.connect(server.dsn(database_name))
    await connection.execute("insert into storage.buckets (id, name) values ('b', 'b'), ('other', 'other')")
    await connection.executemany(
        "insert into storage.objects (bucket_id, name, metadata, created_at) "
        "values ('b', $1, '{\"size\": 3}', timestamptz '2024-01-01' + $2 * interval '1 second')",
        [(name, (number * 37) % 101) for number, name in enumerate(NAMES)],
    )
    await connection.execute("insert into storage.objects (bucket_id, name) values ('other', 'docs/x')")
    yield connection
    await connection.close()


def rows(found: list[asyncpg.Record]) -> list[Row]:
    return [(row["name"], row["id"] is not None) for row in found]


@pytest.mark.parametrize("prefix", ["", "a", "docs/", "docs1/", "d", "é", "%", "nothing"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_one_level_is_listed_completely(storage: asyncpg.Connection, prefix: str, order: str) -> None:
    expected = listed(prefix)
    if order == "desc":
        # A folder comes up at its last object.
        expected = sorted(
            expected, key=lambda row: f"{row[0]}/".encode() if not row[1] else row[0].encode(), reverse=True
        )
    query = "select * from storage.list_objects_with_delimiter('b', $1, '/', $2, '', $3, $4)"
    assert rows(await storage.fetch(query, prefix, 10_000, "", order)) == expected
    for size in (1, 2, 7):
        found: list[Row] = []
        token = ""
        while page := rows(await storage.fetch(query, prefix, size, token, order)):
            found += page
            token = page[-1][0] if page[-1][1] else f"{page[-1][0]}/"
        assert found == expected
    version_2 = await storage.fetch("select * from storage.search_v2($1, 'b', 10000, 1, '', $2)", prefix, order)
    assert rows(version_2) == expected[:1500]


@pytest.mark.parametrize(("prefix", "search"), [("", ""), ("", "A"), ("docs/", ""), ("a/", "b"), ("", "%"), ("", "É")])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_search_by_name(storage: asyncpg.Connection, prefix: str, search: str, order: str) -> None:
    expected = [(name[len(prefix) :], is_file) for name, is_file in listed(prefix + search, folded=True)]
    if order == "desc":
        expected.sort(key=lambda row: (row[0] if row[1] else f"{row[0]}/").lower().encode(), reverse=True)
    levels = prefix.count("/") + 1
    query = "select * from storage.search($1, 'b', $2, $3, $4, $5, 'name', $6)"
    assert rows(await storage.fetch(query, prefix, 1000, levels, 0, search, order)) == expected
    assert rows(await storage.fetch(query, prefix, 5, levels, 3, search, order)) == expected[3:8]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_search_by_time_puts_folders_first(storage: asyncpg.Connection, order: str) -> None:
    found = await storage.fetch("select * from storage.search('', 'b', 1000, 1, 0, '', 'created_at', $1)", order)
    folders = [row["name"] for row in found if row["id"] is None]
    files = [(row["created_at"], row["name"].encode()) for row in found if row["id"] is not None]
    assert sorted(rows(found)) == sorted(listed(""))
    assert rows(found)[: len(folders)] == [(name, False) for name in folders]
    assert folders == sorted(folders, key=str.encode, reverse=order == "desc")
    assert files == sorted(files, reverse=order == "desc")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_version_2_pages_by_time(storage: asyncpg.Connection, order: str) -> None:
    query = "select * from storage.search_v2('', 'b', $1, 1, $2, $3, 'created_at', $4)"
    whole = await storage.fetch(query, 1000, "", order, "")
    assert sorted(rows(whole)) == sorted(listed(""))
    found: list[Row] = []
    after, time = "", ""
    while page := await storage.fetch(query, 3, after, order, time):
        found += rows(page)
        after, time = page[-1]["name"], page[-1]["created_at"].isoformat()
    assert found == rows(whole)


async def test_listings_show_what_policies_show(storage: asyncpg.Connection) -> None:
    await storage.execute("create policy p on storage.objects for select to anon using (name like 'docs%')")
    await storage.execute("set role anon")
    expected = [row for row in listed("") if row[0].startswith("docs")]
    assert rows(await storage.fetch("select * from storage.search('', 'b', 1000)")) == expected
    assert rows(await storage.fetch("select * from storage.search_v2('', 'b', 1000)")) == expected


@pytest.mark.parametrize(
    ("name", "folders", "file", "extension"),
    [
        ("a/b/c.png", ["a", "b"], "c.png", "png"),
        ("c.tar.gz", [], "c.tar.gz", "gz"),
        ("a/README", ["a"], "README", "README"),
        ("a/", ["a"], "", ""),
        ("a//b", ["a", ""], "b", "b"),
    ],
)
async def test_parts_of_a_name(
    storage: asyncpg.Connection, name: str, folders: list[str], file: str, extension: str
) -> None:
    row = await storage.fetchrow("select storage.foldername($1), storage.filename($1), storage.extension($1)", name)
    assert row is not None
    assert tuple(row) == (folders, file, extension)


@pytest.mark.parametrize(
    ("operation", "asked", "only"),
    [
        ("storage.object.upload", "storage.object.upload", True),
        ("storage.object.upload", "object.upload", True),
        ("object.head_authenticated_info", "storage.object.head_authenticated_info", True),
        ("storage.object.upload", "storage.object.sign", False),
        ("", "storage.object.upload", False),
        (None, "storage.object.upload", False),
        ("storage.object.upload", "", False),
        ("storage.object.upload", None, False),
        ("", "", False),
    ],
)
async def test_operations(storage: asyncpg.Connection, operation: str | None, asked: str | None, only: bool) -> None:
    if operation is not None:
        await storage.execute("select set_config('storage.operation', $1, false)", operation)
    row = await storage.fetchrow(
        "select storage.operation(), storage.allow_only_operation($1), storage.allow_any_operation(array['x', $1])",
        asked,
    )
    assert row is not None
    assert tuple(row) == (operation, only, only)


async def test_the_rest(storage: asyncpg.Connection) -> None:
    sizes = await storage.fetch("select bucket_id, size from storage.get_size_by_bucket() order by 1")
    assert [tuple(row) for row in sizes] == [("b", 3 * len(NAMES)), ("other", None)]
    with pytest.raises(asyncpg.PostgresError) as rolled_back:
        await storage.execute("select storage.can_insert_object('b', 'fresh', null, '{}')")
    assert (rolled_back.value.sqlstate, str(rolled_back.value).splitlines()[0]) == ("PT200", "ROLLBACK")
    await storage.execute("set role authenticated")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await storage.execute("select storage.can_insert_object('b', 'fresh', null, '{}')")
    await storage.execute("reset role")
    with pytest.raises(asyncpg.RaiseError, match=r"is too long \(101 characters\)\. Max is 100"):
        await storage.execute("insert into storage.buckets (id, name) values ('x', repeat('x', 101))")
    before = await storage.fetchval("select updated_at from storage.objects where bucket_id = 'other'")
    await storage.execute("update storage.objects set metadata = '{}' where bucket_id = 'other'")
    assert await storage.fetchval("select updated_at from storage.objects where bucket_id = 'other'") > before
    tokens = await storage.fetchval("select path_tokens from storage.objects where bucket_id = 'other'")
    assert tokens == ["docs", "x"]


async def test_unfinished_uploads_are_listed_and_paged(storage: asyncpg.Connection) -> None:
    for number, key in enumerate(["a/1", "a/2", "b", "b", "c/1", "d"]):
        await storage.execute(
            "insert into storage.s3_multipart_uploads (id, upload_signature, bucket_id, key, version) "
            "values ($1, '', 'b', $2, '')",
            f"u{number}",
            key,
        )
    query = "select key, id from storage.list_multipart_uploads_with_delimiter('b', '', '/', $1, $2, $3)"
    whole = [tuple(row) for row in await storage.fetch(query, 100, "", "")]
    assert whole == [("a/", "u0"), ("b", "u2"), ("b", "u3"), ("c/", "u4"), ("d", "u5")]
    found: list[tuple[str, ...]] = []
    key = upload = ""
    while page := [tuple(row) for row in await storage.fetch(query, 1, key, upload)]:
        found += page
        key, upload = page[-1]
    assert found == whole
    assert [tuple(row) for row in await storage.fetch(query, 100, "b", "")] == whole[3:]
