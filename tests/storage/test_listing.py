"""The two listing APIs over HTTP."""

from __future__ import annotations

import base64
from typing import Any

from harness.storage import Lab, refusal

NAMES = ["b.txt", "a/one", "a/two", "B/three", "c/d/four", "a_b/x", "aab/x", "p%q", "Zed", "a"]


async def filled(lab: Lab, names: list[str] = NAMES) -> str:
    bucket = await lab.bucket()
    await lab.admin.executemany(
        "insert into storage.objects (bucket_id, name, version, metadata, created_at)"
        " values ($1, $2, gen_random_uuid(), '{\"size\": 1}', '2026-01-01'::timestamptz + $3 * interval '1 second')",
        [(bucket, name, index) for index, name in enumerate(names)],
    )
    return bucket


async def search(lab: Lab, bucket: str, prefix: str = "", **body: object) -> list[dict[str, Any]]:
    answer = await lab.http.post(f"/object/list/{bucket}", json={"prefix": prefix, **body}, headers=lab.service)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def names(lab: Lab, bucket: str, prefix: str = "", **body: object) -> list[str]:
    return [row["name"] for row in await search(lab, bucket, prefix, **body)]


async def test_one_level_with_folders_between_files(lab: Lab) -> None:
    bucket = await filled(lab, [name for name in NAMES if name != "p%q"])
    assert await names(lab, bucket) == ["a", "a", "a_b", "aab", "b.txt", "B", "c", "Zed"]
    rows = await search(lab, bucket, "a")
    assert [row["name"] for row in rows] == ["one", "two"]
    assert set(rows[0]) == {"name", "id", "updated_at", "created_at", "last_accessed_at", "metadata"}
    assert rows[0]["created_at"] == "2026-01-01T00:00:01.000Z"
    folder = next(row for row in await search(lab, bucket) if row["name"] == "c")
    assert folder == {
        "name": "c",
        "id": None,
        "updated_at": None,
        "created_at": None,
        "last_accessed_at": None,
        "metadata": None,
    }
    assert await names(lab, bucket, "c") == ["d"]
    assert await names(lab, bucket, "c/d/") == ["four"]
    assert await names(lab, bucket, "b") == ["three"]
    assert await names(lab, bucket, "none") == []
    assert await names(lab, "nowhere") == []


async def test_wildcards_are_letters(lab: Lab) -> None:
    bucket = await filled(lab)
    for column in ("name", "created_at"):
        sort = {"column": column, "order": "asc"}
        assert await names(lab, bucket, search="a_", sortBy=sort) == ["a_b"]
        assert await names(lab, bucket, search="p%", sortBy=sort) == ["p%q"]
        assert await names(lab, bucket, search="%", sortBy=sort) == []


async def test_search_pages_and_orders(lab: Lab) -> None:
    bucket = await filled(lab, ["x/b1", "x/b2", "x/a1", "x/sub/y", "x/b3"])
    assert await names(lab, bucket, "x", search="B") == ["b1", "b2", "b3"]
    assert await names(lab, bucket, "x", search="b2") == ["b2"]
    assert await names(lab, bucket, "x", limit=2, offset=1) == ["b1", "b2"]
    assert await names(lab, bucket, "x", sortBy={"column": "name", "order": "desc"}) == ["sub", "b3", "b2", "b1", "a1"]
    by_time = {"column": "created_at", "order": "desc"}
    assert await names(lab, bucket, "x", sortBy=by_time) == ["sub", "b3", "a1", "b2", "b1"]
    assert await names(lab, bucket, "x", search="sub/", sortBy=by_time) == ["sub/y"]


async def test_bodies_of_the_first_api_that_are_refused(lab: Lab) -> None:
    bucket = await lab.bucket()
    cases: list[tuple[Any, str]] = [
        ({}, "body must have required property 'prefix'"),
        ({"prefix": "", "limit": 0}, "body/limit must be >= 1"),
        ({"prefix": "", "limit": "many"}, "body/limit must be integer"),
        ({"prefix": "", "offset": -1}, "body/offset must be >= 0"),
        ({"prefix": {}}, "body/prefix must be string"),
        ({"prefix": "", "sortBy": {"order": "asc"}}, "body/sortBy must have required property 'column'"),
        ({"prefix": "", "sortBy": {"column": "id"}}, "body/sortBy/column must be equal to one of the allowed values"),
        ({"prefix": "", "sortBy": 1}, "body/sortBy must be object"),
        ([], "body must be object"),
        ({"prefix": "\u0000"}, "body/prefix must be valid text"),
    ]
    for body, message in cases:
        answer = await lab.http.post(f"/object/list/{bucket}", json=body, headers=lab.service)
        assert (refusal(answer), answer.json()["message"]) == ((400, "400", "InvalidRequest"), message)
    raw = {**lab.service, "content-type": "application/json"}
    for content in (b"{", b"\xff", b'{"prefix": "\\ud800"}'):
        answer = await lab.http.post(f"/object/list/{bucket}", content=content, headers=raw)
        assert refusal(answer) == (400, "400", "InvalidRequest")
    answer = await lab.http.post(f"/object/list/{bucket}", content=b"[" * 2_000_000, headers=raw)
    assert refusal(answer)[1:] == ("413", "EntityTooLarge")
    answer = await lab.http.post(f"/object/list/{bucket}", content=b'{"prefix":"' + b"[" * 100_000, headers=raw)
    assert refusal(answer) == (400, "400", "InvalidRequest")


# --- the second API


async def page(lab: Lab, bucket: str, **body: object) -> dict[str, Any]:
    answer = await lab.http.post(f"/object/list-v2/{bucket}", json=body, headers=lab.service)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def walk(lab: Lab, bucket: str, **body: object) -> list[str]:
    """Every name, page by page."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(50):
        result = await page(lab, bucket, **body, **({"cursor": cursor} if cursor else {}))
        found += [row["name"] for row in result["folders"] + result["objects"]]
        cursor = result.get("nextCursor")
        assert result["hasNext"] == (cursor is not None) == ("nextCursorKey" in result)
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


async def test_flat_pages_in_code_point_order(lab: Lab) -> None:
    bucket = await filled(lab)
    everything = sorted(NAMES)
    result = await page(lab, bucket)
    assert [row["name"] for row in result["objects"]] == everything
    assert (result["folders"], result["hasNext"]) == ([], False)
    assert set(result["objects"][0]) == {"id", "name", "metadata", "updated_at", "created_at", "last_accessed_at"}
    for limit in (1, 3, 9):
        assert await walk(lab, bucket, limit=limit) == everything
    assert [row["name"] for row in (await page(lab, bucket, prefix="a/"))["objects"]] == ["a/one", "a/two"]
    assert [row["name"] for row in (await page(lab, bucket, prefix="a_"))["objects"]] == ["a_b/x"]
    assert (await page(lab, bucket, prefix="A/"))["objects"] == []


async def test_levels_with_folders_apart(lab: Lab) -> None:
    bucket = await filled(lab)
    result = await page(lab, bucket, with_delimiter=True)
    assert [row["name"] for row in result["folders"]] == ["B/", "a/", "a_b/", "aab/", "c/"]
    assert [row["name"] for row in result["objects"]] == ["Zed", "a", "b.txt", "p%q"]
    folder = result["folders"][1]
    assert (folder["id"], folder["key"], folder["created_at"], folder["metadata"]) == (None, "a", None, None)
    assert result["objects"][0]["key"] == "Zed"
    inner = await page(lab, bucket, prefix="c/", with_delimiter=True)
    assert (inner["folders"][0]["name"], inner["folders"][0]["key"]) == ("c/d/", "d")
    everything = sorted(row["name"] for row in result["folders"] + result["objects"])
    for limit in (1, 2, 4):
        for column in ("name", "created_at"):
            for order in ("asc", "desc"):
                sort = {"column": column, "order": order}
                assert sorted(await walk(lab, bucket, limit=limit, with_delimiter=True, sortBy=sort)) == everything


async def test_other_orders_page_without_loss(lab: Lab) -> None:
    bucket = await filled(lab)
    by_name = [row["name"] for row in (await page(lab, bucket, sortBy={"column": "name", "order": "desc"}))["objects"]]
    assert by_name == sorted(NAMES, reverse=True)
    for order, expected in (("asc", NAMES), ("desc", NAMES[::-1])):
        sort = {"column": "created_at", "order": order}
        assert [row["name"] for row in (await page(lab, bucket, sortBy=sort))["objects"]] == expected
        assert await walk(lab, bucket, limit=1, sortBy=sort) == expected
    level = await page(lab, bucket, with_delimiter=True, sortBy={"column": "created_at", "order": "asc"})
    dated = {row["name"]: row["created_at"] for row in level["folders"]}
    assert dated["a/"] == "2026-01-01T00:00:01.000Z"


async def test_cursors(lab: Lab) -> None:
    bucket = await filled(lab)
    first = await page(lab, bucket, limit=2, sortBy={"column": "name", "order": "desc"})
    text = base64.b64decode(first["nextCursor"]).decode()
    assert text == f"l:{first['nextCursorKey']}\no:desc\nc:name"
    going_on = await page(lab, bucket, limit=2, cursor=first["nextCursor"], sortBy={"column": "created_at"})
    assert [row["name"] for row in going_on["objects"]] == sorted(NAMES, reverse=True)[2:4]
    upward = base64.b64encode(b"l:b.txt").decode()
    result = await page(lab, bucket, cursor=upward, sortBy={"column": "name", "order": "desc"})
    assert [row["name"] for row in result["objects"]] == ["c/d/four", "p%q"]
    for bad in ("!", "bm9uc2Vuc2U=", base64.b64encode(b"o:sideways").decode(), base64.b64encode(b"c:owner").decode()):
        answer = await lab.http.post(f"/object/list-v2/{bucket}", json={"cursor": bad}, headers=lab.service)
        assert refusal(answer) == (400, "400", "InvalidParameter"), bad
    late = base64.b64encode(b"l:a\nc:created_at\na:never").decode()
    answer = await lab.http.post(f"/object/list-v2/{bucket}", json={"cursor": late}, headers=lab.service)
    assert refusal(answer) == (400, "400", "InvalidParameter")


async def test_lists_show_what_the_caller_may_see(lab: Lab) -> None:
    bucket = await filled(lab)
    await lab.policy("select", check="(storage.foldername(name))[1] = 'a'")

    async def seen(path: str, body: dict[str, object]) -> Any:
        return (await lab.http.post(f"/object/{path}/{bucket}", json=body, headers=lab.alice)).json()

    assert [row["name"] for row in await seen("list", {"prefix": ""})] == ["a"]
    assert [row["name"] for row in (await seen("list-v2", {}))["objects"]] == ["a/one", "a/two"]
    assert [row["name"] for row in (await seen("list-v2", {"with_delimiter": True}))["folders"]] == ["a/"]
