"""The genuine Python client (storage3, as supabase-py uses it) against the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from harness.storage import Lab


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[AsyncStorageClient]:
    """As the service role."""
    async with client_of(lab, lab.service) as opened:
        yield opened


def client_of(lab: Lab, who: dict[str, str]) -> AsyncStorageClient:
    return AsyncStorageClient(f"{lab.url}/", {"Authorization": who["authorization"], "apiKey": "x"})


async def test_buckets(client: AsyncStorageClient) -> None:
    await client.create_bucket("pictures", options={"public": True, "file_size_limit": 5_000_000})
    bucket = await client.get_bucket("pictures")
    assert (bucket.id, bucket.public, bucket.file_size_limit) == ("pictures", True, 5_000_000)
    await client.update_bucket("pictures", {"public": False, "allowed_mime_types": ["image/png"]})
    assert [each.name for each in await client.list_buckets()] == ["pictures"]
    await client.empty_bucket("pictures")
    assert (await client.delete_bucket("pictures"))["message"] == "Successfully deleted"
    with pytest.raises(StorageApiError, match="Bucket not found"):
        await client.get_bucket("pictures")


async def test_objects(lab: Lab, client: AsyncStorageClient, tmp_path: Path) -> None:
    await lab.bucket("files")
    files = client.from_("files")
    path = tmp_path / "a.txt"
    path.write_bytes(b"from a file")
    stored = await files.upload("dir/a.txt", path, {"content-type": "text/plain", "cache-control": "60"})
    assert stored.full_path == "files/dir/a.txt"
    with pytest.raises(StorageApiError) as refused:
        await files.upload("dir/a.txt", b"again", {"content-type": "text/plain"})
    assert (refused.value.code, refused.value.status) == ("Duplicate", "409")
    await files.upload("dir/a.txt", b"again", {"content-type": "text/plain", "upsert": "true"})
    await files.update("dir/a.txt", b"third", {"content-type": "text/plain"})
    assert await files.download("dir/a.txt") == b"third"
    assert await files.exists("dir/a.txt")
    assert not await files.exists("dir/none.txt")
    info = await files.info("dir/a.txt")
    assert info["name"] == "dir/a.txt"
    await files.copy("dir/a.txt", "dir/b.txt")
    await files.move("dir/b.txt", "c.txt")
    listed: list[dict[str, Any]] = await files.list("dir")
    assert [row["name"] for row in listed] == ["a.txt"]
    page = await files.list_v2({"with_delimiter": True})
    assert [folder.name for folder in page.folders] == ["dir/"]
    assert [row.name for row in page.objects] == ["c.txt"]
    removed = await files.remove(["dir/a.txt", "none"])
    assert [row["name"] for row in removed] == ["dir/a.txt"]


async def test_signed_urls(lab: Lab, client: AsyncStorageClient) -> None:
    await lab.bucket("files")
    files = client.from_("files")
    await files.upload("a b.txt", b"signed", {"content-type": "text/plain"})
    signed = await files.create_signed_url("a b.txt", 60, {"download": "x.txt"})
    async with httpx.AsyncClient() as anyone:
        answer = await anyone.get(str(signed["signedURL"]))
    assert (answer.content, answer.headers["content-type"]) == (b"signed", "text/plain")
    assert answer.headers["content-disposition"].startswith("attachment; filename=x.txt")
    many = await files.create_signed_urls(["a b.txt", "none"], 60)
    assert [each["error"] is None for each in many] == [True, False]
    upload = await files.create_signed_upload_url("new.txt")
    await files.upload_to_signed_url(upload["path"], upload["token"], b"later", {"content-type": "text/plain"})
    assert await files.download("new.txt") == b"later"


async def test_public_urls(lab: Lab, client: AsyncStorageClient) -> None:
    await lab.bucket("open", public=True)
    files = client.from_("open")
    await files.upload("a.txt", b"open", {"content-type": "text/plain"})
    url = await files.get_public_url("a.txt", {"download": True})
    async with httpx.AsyncClient() as anyone:
        answer = await anyone.get(url)
    assert (answer.content, answer.headers["content-disposition"]) == (b"open", "attachment;")


async def test_policies_reach_the_client_as_errors(lab: Lab) -> None:
    await lab.bucket("files")
    async with client_of(lab, lab.alice) as client:
        files = client.from_("files")
        with pytest.raises(StorageApiError, match="row-level security"):
            await files.upload("a", b"x", {"content-type": "text/plain"})
        assert await files.list() == []
        assert await files.remove(["a"]) == []
