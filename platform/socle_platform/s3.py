"""Blobs in an S3 bucket, through aioboto3 (imported when the store is opened: it is slow and large).

Keys are the official storage container's, so its buckets can be used as they are. Streams of unknown length go up in
parts as they come; one part is on its way while the next half is collected.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from socle_platform.blobs import BlobNotFound, BlobStoreError, BlobStoreFull, BlobStoreUnusable, Digest, version_of
from socle_platform.config.storage import MIN_PART
from socle_platform.ports import BlobInfo, BlobWriter, PartInfo, StoredBlob, UnfinishedUpload

if TYPE_CHECKING:
    from socle_platform.config.storage import S3BackendSettings
    from socle_platform.ports import Hasher

_MISSING = frozenset({"NoSuchKey", "NoSuchUpload", "NotFound", "404"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"})
_COPY_MAX = 5 * 1024**3
"""Bytes that S3 copies in one request."""
_COPY_PART = 1024**3
_READ = 64 * 1024
_DELETE_MAX = 1000
_THREAD_HASH = 256 * 1024
_HINTS = {
    "NoSuchBucket": "there is no bucket of that name; create it, or correct STORAGE_S3_BUCKET",
    "AccessDenied": "these credentials may not do that; they need s3:PutObject, s3:GetObject and s3:DeleteObject",
    "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret is wrong; check AWS_SECRET_ACCESS_KEY and STORAGE_S3_REGION",
    "PermanentRedirect": "the bucket is in another region; check STORAGE_S3_REGION and STORAGE_S3_ENDPOINT",
    "AuthorizationHeaderMalformed": "the bucket is in another region; check STORAGE_S3_REGION",
}


class S3Blobs:
    """The BlobStore port on one bucket. `tenant` is the first segment of the keys that a scan looks at."""

    minimum_part = MIN_PART

    def __init__(self, settings: S3BackendSettings, tenant: str) -> None:
        self._settings = settings
        self._tenant = tenant
        self._bucket = settings.bucket
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Connects and proves it by a put, a get and a delete. Raises BlobStoreUnusable."""
        aioboto3: Any = import_module("aioboto3")
        configs: Any = import_module("aiobotocore.config")
        settings = self._settings
        timeouts = {"connect_timeout": settings.timeout, "read_timeout": settings.timeout} if settings.timeout else {}
        config = configs.AioConfig(
            max_pool_connections=settings.max_sockets,
            retries={"mode": "standard", "max_attempts": 3},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if settings.force_path_style else "auto",
                "payload_signing_enabled": False,
            },
            **timeouts,
        )
        session = aioboto3.Session(
            aws_access_key_id=settings.access_key or None,
            aws_secret_access_key=settings.secret_key or None,
            aws_session_token=settings.session_token or None,
            region_name=settings.region,
        )
        client = session.client("s3", endpoint_url=settings.endpoint or None, config=config)
        self._client = await self._stack.enter_async_context(client)
        try:
            await self._prove()
        except BaseException:
            await self.close()
            raise

    async def _prove(self) -> None:
        key = f"{self._tenant}/.socle-probe-{uuid.uuid4().hex}"
        step = "writing"
        try:
            await self._client.put_object(Bucket=self._bucket, Key=key, Body=b"socle")
            step = "reading"
            answer = await self._client.get_object(Bucket=self._bucket, Key=key)
            if await answer["Body"].read() != b"socle":
                raise BlobStoreError("an object read back differently")
            step = "deleting"
            await self._client.delete_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            place = f"{self._settings.endpoint or 'AWS'}, bucket {self._bucket!r}"
            raise BlobStoreUnusable(
                f"The S3 store ({place}) failed at {step} a test object: {explain(error)}."
            ) from error

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = None

    # --- whole blobs

    @asynccontextmanager
    async def writer(self, key: str, *, hashers: Sequence[Hasher] = ()) -> AsyncGenerator[BlobWriter, None]:
        writing = _Writing(self, key, self._settings.part_size, Digest(hashers))
        try:
            yield writing
        finally:
            await writing.abandon()

    async def put(self, key: str, body: bytes) -> None:
        with translated():
            await self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentMD5=await _content_md5(body))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        if end is not None and end <= start:
            await self.head(key)
            return
        ranged = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        with translated():
            answer = await self._client.get_object(Bucket=self._bucket, Key=key, **ranged)
            async with answer["Body"] as body:
                async for chunk in body.content.iter_chunked(_READ):
                    yield chunk

    async def head(self, key: str) -> BlobInfo:
        with translated():
            answer = await self._client.head_object(Bucket=self._bucket, Key=key)
        return BlobInfo(answer["ContentLength"], answer["ETag"], answer["LastModified"].astimezone(UTC))

    async def copy(self, source: str, target: str) -> BlobInfo:
        info = await self.head(source)
        if info.size > _COPY_MAX:
            upload = await self.begin(target)
            starts = range(0, info.size, _COPY_PART)
            parts = [
                await self.copy_part(target, upload, number, source, start, min(start + _COPY_PART, info.size))
                for number, start in enumerate(starts, 1)
            ]
            return await self.finish(target, upload, parts)
        with translated():
            answer = await self._client.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}
            )
        result = answer["CopyObjectResult"]
        return BlobInfo(info.size, _quoted(result.get("ETag", info.etag)), result["LastModified"].astimezone(UTC))

    async def delete(self, keys: Sequence[str]) -> None:
        for first in range(0, len(keys), _DELETE_MAX):
            objects = [{"Key": key} for key in keys[first : first + _DELETE_MAX]]
            with translated():
                answer = await self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            failed = [error for error in answer.get("Errors", ()) if error.get("Code") not in _MISSING]
            if failed:
                raise BlobStoreError(f"The S3 store did not delete {len(failed)} objects: {failed[0].get('Message')}")

    async def scan(self) -> AsyncIterator[StoredBlob]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._tenant}/")
        with translated():
            async for page in pages:
                for entry in page.get("Contents", ()):
                    version = version_of(entry["Key"])
                    if version is not None:
                        moment = entry["LastModified"].astimezone(UTC)
                        yield StoredBlob(entry["Key"], version, entry["Size"], moment)

    # --- uploads in parts

    async def begin(self, key: str) -> str:
        with translated():
            answer = await self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
        return str(answer["UploadId"])

    async def write_part(
        self,
        key: str,
        upload: str,
        number: int,
        chunks: AsyncIterable[bytes],
        *,
        size: int,
        hashers: Sequence[Hasher] = (),
        verify: Callable[[], None] | None = None,
    ) -> PartInfo:
        body = _PartBody(chunks, size, Digest(hashers), verify)
        if size > self._settings.part_size:
            try:
                etag = await self._upload_part(key, upload, number, body, size)
            except BlobStoreError as error:
                raise body.failure or error from error
            return PartInfo(number, size, etag)
        whole = b"".join([chunk async for chunk in body])
        return PartInfo(number, size, await self.put_part(key, upload, number, whole))

    async def put_part(self, key: str, upload: str, number: int, body: bytes) -> str:
        """Sends one part that is in memory, with its MD5, and returns its ETag."""
        return await self._upload_part(key, upload, number, body, len(body), ContentMD5=await _content_md5(body))

    async def _upload_part(self, key: str, upload: str, number: int, body: object, size: int, **more: str) -> str:
        with translated():
            answer = await self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=body,
                ContentLength=size,
                **more,
            )
        return str(answer["ETag"])

    async def copy_part(
        self, key: str, upload: str, number: int, source: str, start: int = 0, end: int | None = None
    ) -> PartInfo:
        if end is None:
            end = (await self.head(source)).size
        with translated():
            answer = await self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceRange=f"bytes={start}-{end - 1}",
            )
        return PartInfo(number, end - start, _quoted(answer["CopyPartResult"]["ETag"]))

    async def finish(self, key: str, upload: str, parts: Sequence[PartInfo]) -> BlobInfo:
        named = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        with translated():
            await self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": named}
            )
        return await self.head(key)

    async def abandon(self, key: str, upload: str) -> None:
        with contextlib.suppress(BlobNotFound), translated():
            await self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)

    async def unfinished(self) -> AsyncIterator[UnfinishedUpload]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=f"{self._tenant}/"
        )
        with translated():
            async for page in pages:
                for entry in page.get("Uploads", ()):
                    yield UnfinishedUpload(entry["Key"], entry["UploadId"], entry["Initiated"].astimezone(UTC))

    async def tidy(self, before: datetime) -> int:
        """Nothing lies around: what a writer did not finish is an unfinished upload."""
        return 0


class _Writing:
    """A blob being written: in one request when it is small, else in parts as they fill."""

    def __init__(self, store: S3Blobs, key: str, part_size: int, digest: Digest) -> None:
        self._store = store
        self._key = key
        self._part_size = part_size
        self._digest = digest
        self._batch: list[bytes] = []
        self._batched = 0
        self._size = 0
        self._upload: str | None = None
        self._parts: list[PartInfo] = []
        self._sending: asyncio.Task[PartInfo] | None = None
        self._committed = False

    async def write(self, chunk: bytes) -> None:
        self._batch.append(chunk)
        self._batched += len(chunk)
        if self._batched >= self._part_size // 2:
            await self._settle()
        if self._batched >= self._part_size:
            await self._send_part()

    async def commit(self) -> BlobInfo:
        await self._settle()
        if self._upload is None:
            body = await self._take()
            await self._store.put(self._key, body)
        else:
            if self._batched:
                await self._send_part()
                await self._settle()
            await self._store.finish(self._key, self._upload, self._parts)
        self._committed = True
        return BlobInfo(self._size, self._digest.etag, datetime.now(UTC))

    async def abandon(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        if self._upload is not None and not self._committed:
            with contextlib.suppress(BlobStoreError):
                await asyncio.shield(self._store.abandon(self._key, self._upload))

    async def _take(self) -> bytes:
        body = b"".join(self._batch)
        self._batch = []
        self._batched = 0
        self._size += len(body)
        if len(body) >= _THREAD_HASH:
            await asyncio.to_thread(self._digest.update, body)
        else:
            self._digest.update(body)
        return body

    async def _send_part(self) -> None:
        if self._upload is None:
            self._upload = await self._store.begin(self._key)
        number = len(self._parts) + 1
        self._sending = asyncio.create_task(self._put_part(self._upload, number, await self._take()))

    async def _put_part(self, upload: str, number: int, body: bytes) -> PartInfo:
        etag = await self._store.put_part(self._key, upload, number, body)
        return PartInfo(number, len(body), etag)

    async def _settle(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._parts.append(await sending)


class _PartBody:
    """A stream of known length as aiohttp and botocore take it; it can be sent once only.

    `failure`: what ended it early, which those two would only call a broken connection. The last piece is held back
    until `verify` has agreed: a part that lacks it never counts.
    """

    def __init__(
        self, chunks: AsyncIterable[bytes], size: int, digest: Digest, verify: Callable[[], None] | None
    ) -> None:
        self.failure: Exception | None = None
        self._chunks = chunks
        self._size = size
        self._digest = digest
        self._verify = verify

    def read(self) -> bytes:
        """botocore knows a stream by this method; nobody calls it."""
        raise BlobStoreError("a stream is sent once only")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._pieces():
                yield chunk
        except Exception as error:
            self.failure = self.failure or error
            raise

    async def _pieces(self) -> AsyncIterator[bytes]:
        sent, last = 0, b""
        async for chunk in self._chunks:
            sent += len(chunk)
            if sent > self._size:
                break
            self._digest.update(chunk)
            if last:
                yield last
            last = chunk
        if sent != self._size:
            raise BlobStoreError(f"a part of {self._size} bytes came as {sent}")
        if self._verify is not None:
            self._verify()
        if last:
            yield last


def _quoted(etag: str) -> str:
    """Some gateways leave the quotes off in a copy's answer."""
    return etag if etag.startswith('"') else f'"{etag}"'


async def _content_md5(body: bytes) -> str:
    if len(body) < _THREAD_HASH:
        digest = _md5(body)
    else:
        digest = await asyncio.to_thread(_md5, body)
    return base64.b64encode(digest).decode()


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


@contextlib.contextmanager
def translated() -> Generator[None, None, None]:
    """Turns what botocore and aiohttp raise into the port's errors."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _MISSING:
            raise BlobNotFound from error
        if code in _FULL:
            raise BlobStoreFull from error
        raise BlobStoreError(f"The S3 store refused: {explain(error)}") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        raise BlobStoreError(f"The S3 store failed: {explain(error)}") from error


def explain(error: Exception) -> str:
    """What went wrong, and what to do about it where that is known."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return str(error) or type(error).__name__
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    return _HINTS.get(code, f"{code}: {answer.get('Message', '')}".strip(": "))
