"""Where the bytes are, how large they may be, and how the storage service speaks (contract storage.md).

Names are those of the official storage container; older aliases are accepted after them. Names that start with
`SOCLE_STORAGE_` are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

MIB = 1024 * 1024
DEFAULT_LIMIT = 50 * MIB
MIN_PART = 5 * MIB
"""The smallest part that S3 takes (the last one may be smaller)."""


@dataclass(frozen=True, slots=True)
class S3BackendSettings:
    """An S3 bucket as the place of the bytes.

    `access_key` empty: botocore looks for credentials itself (instance role, profile). `part_size` in bytes, held in
    memory once and a half per running upload. `timeout` in seconds, 0 = botocore's default.
    """

    bucket: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    force_path_style: bool = False
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    part_size: int = MIN_PART
    max_sockets: int = 200
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class TusSettings:
    """Resumable uploads: seconds until an unfinished one is forgotten, and how many may run at once."""

    path: str = "/upload/resumable"
    expiry: float = 86400.0
    max_concurrent: int = 500


@dataclass(frozen=True, slots=True)
class S3ProtocolSettings:
    """The S3 endpoint: its own key pair, and which public prefix and host clients sign.

    `anon_key` is the secret of signatures that come with a session token.
    """

    enabled: bool = True
    prefix: str = ""
    allow_forwarded: bool = False
    enforce_region: bool = False
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    anon_key: str = field(default="", repr=False)
    host_header: str = ""


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Image transforms: edges in pixels, source in bytes and pixels, time in seconds, cache in bytes on disk."""

    enabled: bool = True
    min_edge: int = 1
    max_edge: int = 2000
    max_source_bytes: int = 25_000_000
    max_source_pixels: int = 50_000_000
    max_frames: int = 60
    timeout: float = 15.0
    cache_bytes: int = 256 * MIB
    workers: int = 2


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Frozen settings of the storage service; sizes in bytes, times in seconds.

    `tenant` is the first segment of every blob key. `size_limit` is the ceiling of every upload, `standard_limit` of a
    plain one (0 = none of its own). `shared_max_age` > 0 adds `s-maxage` to answers of conditional requests.
    `blob_grace`: how long the bytes of a replaced or deleted version stay readable. `orphan_grace`: how old bytes
    without a row must be before the sweeper removes them. `sweep_interval` 0 switches the sweeper's clock off.
    """

    backend: str = "file"
    file_path: Path = Path("storage")
    file_bucket: str = ""
    s3: S3BackendSettings = field(default_factory=S3BackendSettings)
    tenant: str = "storage-single-tenant"
    region: str = "not-specified"
    size_limit: int = DEFAULT_LIMIT
    standard_limit: int = 0
    signed_upload_expiry: int = 7200
    empty_bucket_max: int = 200_000
    hard_limits: bool = False
    shared_max_age: int = 0
    etag_headers: tuple[str, ...] = ("if-none-match",)
    search_path: tuple[str, ...] = ("storage", "public", "extensions")
    statement_timeout: float = 30.0
    public_url: str = ""
    forwarded_host_pattern: str = ""
    allow_forwarded_prefix: bool = False
    tus: TusSettings = field(default_factory=TusSettings)
    s3_protocol: S3ProtocolSettings = field(default_factory=S3ProtocolSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    blob_grace: float = 300.0
    orphan_grace: float = 3600.0
    sweep_interval: float = 30.0
    scan_interval: float = 86400.0
    host: str = "0.0.0.0"  # noqa: S104 (as the container it stands in for; only `socle serve storage` binds it)
    port: int = 5000
    version: str = "0.0.0"


def load_storage(read: Reader) -> StorageSettings:
    """Reads the storage container's environment; problems are noted in the reader."""
    backend = read.choice("STORAGE_BACKEND", choices=("file", "s3"), default="file")
    s3 = _load_s3_backend(read)
    if backend == "s3" and not s3.bucket:
        read.problem("STORAGE_S3_BUCKET (or GLOBAL_S3_BUCKET) must name a bucket when STORAGE_BACKEND is s3")
    pattern = read.text("REQUEST_X_FORWARDED_HOST_REGEXP", "X_FORWARDED_HOST_REGEXP")
    try:
        re.compile(pattern)
    except re.error as error:
        read.problem(f"REQUEST_X_FORWARDED_HOST_REGEXP is no regular expression: {error}")
        pattern = ""
    return StorageSettings(
        backend=backend,
        file_path=Path(read.text("STORAGE_FILE_BACKEND_PATH", "FILE_STORAGE_BACKEND_PATH", default="storage")),
        file_bucket=read.text("STORAGE_S3_BUCKET", "GLOBAL_S3_BUCKET"),
        s3=s3,
        tenant=read.text("PROJECT_REF", "TENANT_ID", default="storage-single-tenant"),
        region=read.text("SERVER_REGION", "REGION", default="not-specified"),
        size_limit=read.size("UPLOAD_FILE_SIZE_LIMIT", "FILE_SIZE_LIMIT", default=DEFAULT_LIMIT),
        standard_limit=read.size("UPLOAD_FILE_SIZE_LIMIT_STANDARD", "FILE_SIZE_LIMIT_STANDARD_UPLOAD"),
        signed_upload_expiry=read.integer(
            "UPLOAD_SIGNED_URL_EXPIRATION_TIME", "SIGNED_UPLOAD_URL_EXPIRATION_TIME", default=7200, minimum=1
        ),
        empty_bucket_max=read.integer("STORAGE_EMPTY_BUCKET_MAX", default=200_000, minimum=0),
        hard_limits=read.boolean("REQUEST_HARD_LIMITS_ENABLED"),
        shared_max_age=read.integer("RESPONSE_S_MAXAGE", default=0, minimum=0),
        etag_headers=tuple(name.lower() for name in read.csv("REQUEST_ETAG_HEADERS", default=("if-none-match",))),
        search_path=read.csv("DATABASE_SEARCH_PATH", "DB_SEARCH_PATH", default=("storage", "public", "extensions")),
        statement_timeout=read.integer("DATABASE_STATEMENT_TIMEOUT", default=30_000, minimum=0) / 1000,
        public_url=read.text("STORAGE_PUBLIC_URL").rstrip("/"),
        forwarded_host_pattern=pattern,
        allow_forwarded_prefix=read.boolean("REQUEST_ALLOW_X_FORWARDED_PATH"),
        tus=_load_tus(read),
        s3_protocol=_load_s3_protocol(read),
        images=_load_images(read),
        blob_grace=read.seconds("SOCLE_STORAGE_BLOB_GRACE", default=300.0),
        orphan_grace=read.seconds("SOCLE_STORAGE_ORPHAN_GRACE", default=3600.0),
        sweep_interval=read.seconds("SOCLE_STORAGE_SWEEP_INTERVAL", default=30.0),
        scan_interval=read.seconds("SOCLE_STORAGE_SCAN_INTERVAL", default=86400.0),
        host=read.text("SERVER_HOST", "HOST", default="0.0.0.0"),  # noqa: S104 (see the field)
        port=read.integer("SERVER_PORT", "PORT", default=5000, minimum=0, maximum=65535),
        version=read.text("VERSION", default="0.0.0"),
    )


def _load_s3_backend(read: Reader) -> S3BackendSettings:
    return S3BackendSettings(
        bucket=read.text("STORAGE_S3_BUCKET", "GLOBAL_S3_BUCKET"),
        endpoint=read.text("STORAGE_S3_ENDPOINT", "GLOBAL_S3_ENDPOINT"),
        region=read.text("STORAGE_S3_REGION", "REGION", default="us-east-1"),
        force_path_style=read.boolean("STORAGE_S3_FORCE_PATH_STYLE", "GLOBAL_S3_FORCE_PATH_STYLE"),
        access_key=read.text("AWS_ACCESS_KEY_ID"),
        secret_key=read.secret("AWS_SECRET_ACCESS_KEY"),
        session_token=read.secret("AWS_SESSION_TOKEN"),
        part_size=max(read.size("STORAGE_S3_UPLOAD_PART_SIZE", default=MIN_PART), MIN_PART),
        max_sockets=read.integer("STORAGE_S3_MAX_SOCKETS", "GLOBAL_S3_MAX_SOCKETS", default=200, minimum=1),
        timeout=read.integer("STORAGE_S3_CLIENT_TIMEOUT", default=0, minimum=0) / 1000,
    )


def _load_tus(read: Reader) -> TusSettings:
    return TusSettings(
        path="/" + read.text("TUS_URL_PATH", default="/upload/resumable").strip("/"),
        expiry=read.integer("TUS_URL_EXPIRY_MS", default=86_400_000, minimum=1) / 1000,
        max_concurrent=read.integer("TUS_MAX_CONCURRENT_UPLOADS", default=500, minimum=1),
    )


def _load_s3_protocol(read: Reader) -> S3ProtocolSettings:
    return S3ProtocolSettings(
        enabled=read.boolean("S3_PROTOCOL_ENABLED", default=True),
        prefix=read.text("S3_PROTOCOL_PREFIX").rstrip("/"),
        allow_forwarded=read.boolean("S3_ALLOW_FORWARDED_HEADER"),
        enforce_region=read.boolean("S3_PROTOCOL_ENFORCE_REGION"),
        access_key=read.text("S3_PROTOCOL_ACCESS_KEY_ID"),
        secret_key=read.secret("S3_PROTOCOL_ACCESS_KEY_SECRET"),
        anon_key=read.secret("ANON_KEY", "SUPABASE_ANON_KEY"),
        host_header=read.text("S3_PROTOCOL_NON_CANONICAL_HOST_HEADER").lower(),
    )


def _load_images(read: Reader) -> ImageSettings:
    return ImageSettings(
        enabled=read.boolean("IMAGE_TRANSFORMATION_ENABLED", "ENABLE_IMAGE_TRANSFORMATION", default=True),
        min_edge=read.integer("IMAGE_TRANSFORMATION_LIMIT_MIN_SIZE", "IMG_LIMITS_MIN_SIZE", default=1, minimum=1),
        max_edge=read.integer("IMAGE_TRANSFORMATION_LIMIT_MAX_SIZE", "IMG_LIMITS_MAX_SIZE", default=2000, minimum=1),
        timeout=read.integer("IMGPROXY_REQUEST_TIMEOUT", default=15, minimum=1) * 1.0,
        cache_bytes=read.size("SOCLE_STORAGE_IMAGE_CACHE", default=256 * MIB),
        workers=read.integer("SOCLE_STORAGE_IMAGE_WORKERS", default=2, minimum=1),
    )
