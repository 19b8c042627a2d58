"""The contract's error table: codes, both statuses, texts, and what PostgreSQL's errors become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from socle_platform import keys
from socle_platform.blobs import BlobNotFound, BlobStoreError, BlobStoreFull
from socle_platform.db import ConnectionLost, DatabaseError, PoolTimeout
from socle_platform.http import BodyTooLarge
from socle_storage import errors

TABLE: list[tuple[Exception, str, str, str, str, int]] = [
    (errors.no_such_bucket(), "NoSuchBucket", "404", "Bucket not found", "Bucket not found", 400),
    (errors.no_such_key(), "NoSuchKey", "404", "not_found", "Object not found", 400),
    (errors.blob_missing(), "NoSuchKey", "404", "Not found", "The resource was not found", 400),
    (errors.no_such_upload(), "NoSuchUpload", "404", "NoSuchUpload", "Upload not found", 400),
    (errors.access_denied(), "AccessDenied", "403", "Unauthorized", "Access denied", 400),
    (errors.access_denied("x").at(403), "AccessDenied", "403", "Unauthorized", "x", 403),
    (errors.expired_token(), "ExpiredToken", "400", "ExpiredToken", "The provided token has expired.", 400),
    (
        errors.bucket_not_empty(),
        "ResourceNotEmpty",
        "409",
        "ResourceNotEmpty",
        "The bucket you tried to delete is not empty",
        400,
    ),
    (errors.invalid_range(), "InvalidRange", "416", "invalid_range", "invalid range provided", 416),
    (errors.missing_parameter("x"), "MissingParameter", "400", "MissingParameter", "Missing Required Parameter x", 400),
    (errors.lock_timeout(), "LockTimeout", "503", "acquiring_lock_timeout", "acquiring lock timeout", 400),
    (errors.resource_locked(), "ResourceLocked", "423", "ResourceLocked", "The resource is locked", 400),
    (
        errors.feature_not_enabled("x"),
        "FeatureNotEnabled",
        "409",
        "FeatureNotEnabled",
        "The feature x is not enabled for this resource",
        400,
    ),
    (errors.internal_error(), "InternalError", "500", "Internal", "Internal server error", 500),
    (errors.aborted(), "Aborted", "499", "Request aborted", "Request aborted", 499),
    (errors.slow_down(), "SlowDown", "429", "too_many_connections", "Too many connections issued to the database", 429),
    (BlobNotFound(), "NoSuchKey", "404", "Not found", "The resource was not found", 400),
    (BlobStoreFull(), "InternalError", "500", "Internal", "The storage backend has no space left", 500),
    (BlobStoreError("secret path"), "S3Error", "500", "S3Error", "The storage backend failed", 500),
    (PoolTimeout(), "DatabaseTimeout", "544", "DatabaseTimeout", "The connection to the database timed out", 544),
    (ConnectionLost(), "DatabaseTimeout", "544", "DatabaseTimeout", "The connection to the database timed out", 544),
    (BodyTooLarge(), "EntityTooLarge", "413", "FastifyError", "Request body is too large", 413),
    (RuntimeError("secret"), "InternalError", "500", "Internal", "Internal server error", 500),
]


@pytest.mark.parametrize(("error", "code", "status", "legacy", "message", "http"), TABLE)
def test_the_table(error: Exception, code: str, status: str, legacy: str, message: str, http: int) -> None:
    response = errors.render(error)
    assert json.loads(response.body) == {"statusCode": status, "error": legacy, "message": message, "code": code}
    assert response.status == http
    assert errors.render(error, semantic=True).status == int(status)


def test_headers_of_some_errors() -> None:
    assert ("cache-control", "no-store") in errors.render(errors.blob_missing()).headers
    assert ("connection", "close") in errors.render(errors.aborted()).headers


@pytest.mark.parametrize(
    ("sqlstate", "detail", "code", "status"),
    [
        ("42501", {}, "AccessDenied", "403"),
        ("23505", {}, "ResourceAlreadyExists", "409"),
        ("23503", {"detail": "Key (bucket_id)=(x) is not present in table"}, "InvalidRequest", "404"),
        ("23503", {"detail": "is still referenced from table"}, "ResourceReferenced", "409"),
        ("55P03", {}, "ResourceLocked", "423"),
        ("57014", {}, "DatabaseTimeout", "544"),
        ("25006", {}, "DatabaseReadOnly", "503"),
        ("25P02", {}, "DatabaseTransactionAborted", "500"),
        ("42P17", {}, "DatabaseInvalidObjectDefinition", "503"),
        ("42703", {}, "DatabaseSchemaMismatch", "503"),
        ("42P01", {}, "DatabaseSchemaMismatch", "503"),
        ("22P02", {}, "InvalidParameter", "400"),
        ("22P05", {}, "InvalidParameter", "400"),
        ("53300", {}, "SlowDown", "429"),
        ("40001", {}, "TransactionError", "409"),
        ("22012", {}, "DatabaseError", "500"),
        ("P0001", {}, "DatabaseError", "500"),
    ],
)
def test_what_postgresql_says(sqlstate: str, detail: dict[str, Any], code: str, status: str) -> None:
    body = errors.translate(DatabaseError(sqlstate, "some text", **detail)).body()
    assert (body["code"], body["statusCode"]) == (code, status)


def test_texts_of_postgresql_that_clients_know() -> None:
    rls = DatabaseError("42501", 'new row violates row-level security policy for table "objects"')
    assert errors.translate(rls).message == "new row violates row-level security policy"
    role = DatabaseError("22023", 'role "nobody" does not exist')
    assert errors.translate(role).body()["code"] == "AccessDenied"
    assert errors.translate(DatabaseError("22012", "division by zero")).message == "database error, code: 22012"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (keys.TokenExpired(), '"exp" claim timestamp check failed'),
        (keys.TokenNotYetValid(), '"nbf" claim timestamp check failed'),
        (keys.TokenSignatureInvalid(), "signature verification failed"),
        (keys.TokenMalformed(), "Invalid Compact JWS"),
        (keys.TokenAudienceMismatch(), "JWT not in audience"),
    ],
)
def test_what_is_wrong_with_a_token(error: keys.TokenError, text: str) -> None:
    assert errors.jwt_text(error) == text
