"""Resumable uploads by the genuine clients: tus-js-client (npm, in deno) and tuspy."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

from tusclient.client import TusClient

from harness.deno import run_deno
from harness.listening import listening
from harness.storage import ALICE, Lab
from socle_platform.ports import Resources
from socle_storage.routes import build

SCRIPT = """
import { Buffer } from "node:buffer";
import * as tus from "npm:tus-js-client@4";
const bytes = Buffer.alloc(given.size);
for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 8)) & 255;
const options = {
  endpoint: given.endpoint, retryDelays: [0, 50, 100], chunkSize: given.chunk, headers: given.headers,
  uploadDataDuringCreation: true, removeFingerprintOnSuccess: true,
  metadata: { bucketName: given.bucket, objectName: given.name, contentType: "video/webm", cacheControl: "30",
              metadata: JSON.stringify({ from: "js" }) },
};
const finished = (stopAt: number | null, previous: string | null) => new Promise<any>((resolve, reject) => {
  const upload = new tus.Upload(bytes, {
    ...options, uploadUrl: previous,
    onError: reject,
    onSuccess: () => resolve({ url: upload.url, done: true }),
    onChunkComplete: async (_size, accepted) => {
      if (stopAt !== null && accepted >= stopAt) {
        stopAt = null;
        await upload.abort();
        resolve({ url: upload.url, done: false, accepted });
      }
    },
  });
  upload.start();
});
const first = await finished(given.stop, null);
const second = first.done ? first : await finished(null, first.url);
let refused = null;
try {
  await finished(null, null);
} catch (error) {
  refused = [error.originalResponse.getStatus(), error.originalResponse.getBody()];
}
answer({ first, second, refused });
"""


def pattern(size: int) -> bytes:
    return bytes((i * 31 + (i >> 8)) & 255 for i in range(size))


async def test_tus_js_client_stops_and_resumes(lab: Lab) -> None:
    bucket = await lab.bucket("videos")
    await lab.policy("insert")
    size = 1_500_000
    found = await run_deno(
        SCRIPT,
        endpoint=f"{lab.url}/upload/resumable",
        headers={**lab.alice, "x-upsert": "false"},
        bucket=bucket,
        name="folder/clip.webm",
        size=size,
        chunk=400_000,
        stop=800_000,
    )
    assert found["first"]["done"] is False
    assert found["second"]["done"] is True
    assert found["first"]["url"] == found["second"]["url"]
    assert found["refused"] == [409, "The resource already exists"]
    stored = await lab.http.get(f"/object/{bucket}/folder/clip.webm", headers=lab.service)
    assert stored.content == pattern(size)
    assert stored.headers["content-type"] == "video/webm"
    assert stored.headers["cache-control"] == "max-age=30"
    row = await lab.row(bucket, "folder/clip.webm")
    assert row is not None
    assert (row["owner_id"], row["user_metadata"]) == (ALICE, {"from": "js"})


async def test_tus_js_client_with_a_signed_token(lab: Lab) -> None:
    bucket = await lab.bucket("videos")
    await lab.policy("insert")
    signed = await lab.http.post(f"/object/upload/sign/{bucket}/one.webm", headers=lab.alice)
    found = await run_deno(
        SCRIPT,
        endpoint=f"{lab.url}/upload/resumable/sign",
        headers={"x-signature": signed.json()["token"]},
        bucket=bucket,
        name="one.webm",
        size=300_000,
        chunk=100_000,
        stop=None,
    )
    assert found["first"]["done"] is True
    stored = await lab.http.get(f"/object/{bucket}/one.webm", headers=lab.service)
    assert stored.content == pattern(300_000)


def send(address: str, headers: dict[str, str], file: Path, **options: Any) -> Any:
    """Sends the file, or a piece of it, by tuspy; returns its uploader."""
    stop_at = options.pop("stop_at", None)
    client: Any = TusClient(f"{address}/upload/resumable", headers=headers)
    with file.open("rb") as stream:
        uploader = client.uploader(file_stream=stream, **options)
        uploader.upload(stop_at=stop_at)
    return uploader


async def test_tuspy_resumes_after_a_restart_of_the_server(lab: Lab, tmp_path: Path) -> None:
    bucket = await lab.bucket()
    body = os.urandom(2_000_000)
    file = tmp_path / "file.bin"
    file.write_bytes(body)
    metadata = {"bucketName": bucket, "objectName": "file.bin"}
    begin = partial(send, lab.url, lab.service, file, chunk_size=300_000, metadata=metadata, stop_at=900_000)
    begun = await asyncio.to_thread(begin)
    resources = Resources(lab.storage.store.database, lab.keyring, blobs=lab.storage.blobs)
    async with listening(build(lab.storage.settings, resources)) as again:
        url = begun.url.replace(lab.url, again)
        resumed = await asyncio.to_thread(partial(send, again, lab.service, file, chunk_size=700_000, url=url))
    assert resumed.offset == len(body)
    stored = await lab.http.get(f"/object/{bucket}/file.bin", headers=lab.service)
    assert stored.content == body
