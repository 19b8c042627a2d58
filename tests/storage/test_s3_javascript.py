"""The S3 protocol by Amazon's own JavaScript SDK, which streams bodies in chunks with a checksum behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.deno import run_deno
from harness.storage import Lab
from socle_platform.config.storage import S3ProtocolSettings, StorageSettings
from socle_storage.s3api.chunked import ChunkedBody

SCRIPT = """
import { Readable } from "node:stream";
import { Buffer } from "node:buffer";
import { S3Client, PutObjectCommand, GetObjectCommand, ListObjectsV2Command, DeleteObjectsCommand }
  from "npm:@aws-sdk/client-s3@3";
const client = new S3Client({
  endpoint: given.endpoint, region: "eu-west-3", forcePathStyle: true, maxAttempts: 1,
  credentials: { accessKeyId: "key", secretAccessKey: "secret" },
});
const bytes = Buffer.alloc(given.size, "streamed ");
const Bucket = given.bucket;
await client.send(new PutObjectCommand({
  Bucket, Key: "stream", Body: Readable.from([bytes.subarray(0, 70000), bytes.subarray(70000)]),
  ContentLength: bytes.length, ContentType: "text/plain", Metadata: { from: "js" },
}));
await client.send(new PutObjectCommand({ Bucket, Key: "buffer", Body: bytes, ChecksumAlgorithm: "SHA256" }));
const got = await client.send(new GetObjectCommand({ Bucket, Key: "stream" }));
const same = Buffer.from(await got.Body.transformToByteArray()).equals(bytes);
const list = await client.send(new ListObjectsV2Command({ Bucket }));
const keys = list.Contents.map((each: any) => [each.Key, each.Size]);
const removed = await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: "buffer" }] } }));
let refused = null;
try {
  await client.send(new GetObjectCommand({ Bucket, Key: "nothing" }));
} catch (error) {
  refused = [error.name, error.$metadata.httpStatusCode];
}
answer({ same, metadata: got.Metadata, keys, removed: removed.Deleted.map((each: any) => each.Key), refused });
"""


@pytest.fixture
def settings(settings: StorageSettings) -> StorageSettings:
    return replace(settings, s3_protocol=S3ProtocolSettings(access_key="key", secret_key="secret"))


async def test_the_sdk(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = await lab.bucket()
    chunked: list[ChunkedBody] = []

    def counted(*arguments: Any, **named: Any) -> ChunkedBody:
        chunked.append(ChunkedBody(*arguments, **named))
        return chunked[-1]

    monkeypatch.setattr("socle_storage.s3api.payload.ChunkedBody", counted)
    found = await run_deno(SCRIPT, endpoint=f"{lab.url}/s3", bucket=bucket, size=200_000)
    assert found == {
        "same": True,
        "metadata": {"from": "js"},
        "keys": [["buffer", 200_000], ["stream", 200_000]],
        "removed": ["buffer"],
        "refused": ["NoSuchKey", 404],
    }
    assert [set(body.trailers) for body in chunked] == [{"x-amz-checksum-crc32"}]
