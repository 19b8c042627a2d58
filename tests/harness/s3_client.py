"""A client of the S3 protocol (boto3), and signatures by hand for requests that no client sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from harness.storage import Lab

KEY, SECRET, ANON = "access-key", "secret-key", "the-anon-key"


class S3:
    """boto3 without its blocking: every operation in a thread."""

    def __init__(self, url: str, key: str = KEY, secret: str = SECRET, token: str | None = None, **config: Any) -> None:
        options: dict[str, Any] = {"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}, **config}
        boto3: Any = import_module("boto3")  # its stubs name every service there is
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=f"{url}/s3",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            region_name="eu-west-3",
            config=Config(**options),
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(asyncio.to_thread, getattr(self.client, name))

    async def body(self, **wanted: Any) -> bytes:
        return await asyncio.to_thread(lambda: bytes(self.client.get_object(**wanted)["Body"].read()))


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer: Any = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def signed(lab: Lab, method: str, url: str, body: bytes = b"", **headers: str) -> dict[str, str]:
    """The headers of a request signed by botocore for `url`, wherever it is sent."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=url, data=body, headers=extra)
    if extra.get("x-amz-content-sha256", "").endswith("-TRAILER"):
        request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    return dict(request.headers.items())
