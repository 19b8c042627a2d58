"""Every error of the storage service, its place in the contract's table, and how PostgreSQL's errors become one.

StorageError     one class, one closed set of codes: what differs between errors is data, not behaviour

The number in the body (`statusCode`, a string) is what went wrong; the HTTP status is 400 for almost everything, except
on the S3, vector and analytics routes, which answer with the real one (contract storage.md §1.1).
"""

from __future__ import annotations

from enum import StrEnum

import orjson

from socle_platform.blobs import BlobNotFound, BlobStoreError, BlobStoreFull
from socle_platform.db import DatabaseError, DatabaseUnavailable, PoolTimeout
from socle_platform.errors import SocleError, WireResponse
from socle_platform.http import BodyTooLarge
from socle_platform.keys import (
    TokenEmpty,
    TokenError,
    TokenExpired,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
    TokenSignatureInvalid,
)

JSON = "application/json; charset=utf-8"


class Code(StrEnum):
    """The closed set of codes on the wire."""

    NO_SUCH_BUCKET = "NoSuchBucket"
    NO_SUCH_KEY = "NoSuchKey"
    NO_SUCH_UPLOAD = "NoSuchUpload"
    ACCESS_DENIED = "AccessDenied"
    INVALID_JWT = "InvalidJWT"
    INVALID_SIGNATURE = "InvalidSignature"
    SIGNATURE_DOES_NOT_MATCH = "SignatureDoesNotMatch"
    INVALID_ACCESS_KEY = "InvalidAccessKeyId"
    EXPIRED_TOKEN = "ExpiredToken"  # noqa: S105 (a code, not a secret)
    RESOURCE_ALREADY_EXISTS = "ResourceAlreadyExists"
    KEY_ALREADY_EXISTS = "KeyAlreadyExists"
    BUCKET_ALREADY_EXISTS = "BucketAlreadyExists"
    RESOURCE_NOT_EMPTY = "ResourceNotEmpty"
    RESOURCE_REFERENCED = "ResourceReferenced"
    INVALID_REQUEST = "InvalidRequest"
    INVALID_MIME_TYPE = "InvalidMimeType"
    ENTITY_TOO_LARGE = "EntityTooLarge"
    INVALID_KEY = "InvalidKey"
    INVALID_BUCKET_NAME = "InvalidBucketName"
    INVALID_RANGE = "InvalidRange"
    INVALID_PARAMETER = "InvalidParameter"
    MISSING_PARAMETER = "MissingParameter"
    INVALID_UPLOAD_SIGNATURE = "InvalidUploadSignature"
    INVALID_UPLOAD_ID = "InvalidUploadId"
    INVALID_CHECKSUM = "InvalidChecksum"
    MISSING_PART = "MissingPart"
    MISSING_CONTENT_LENGTH = "MissingContentLength"
    MALFORMED_TRAILER = "MalformedTrailerError"
    MALFORMED_XML = "MalformedXML"
    REQUEST_TIME_TOO_SKEWED = "RequestTimeTooSkewed"
    CONTENT_SHA256_MISMATCH = "XAmzContentSHA256Mismatch"
    BAD_DIGEST = "BadDigest"
    INVALID_DIGEST = "InvalidDigest"
    INCOMPLETE_BODY = "IncompleteBody"
    INVALID_PART = "InvalidPart"
    INVALID_PART_ORDER = "InvalidPartOrder"
    ENTITY_TOO_SMALL = "EntityTooSmall"
    INVALID_ARGUMENT = "InvalidArgument"
    PRECONDITION_FAILED = "PreconditionFailed"
    NOT_IMPLEMENTED = "NotImplemented"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    RESOURCE_LOCKED = "ResourceLocked"
    LOCK_TIMEOUT = "LockTimeout"
    FEATURE_NOT_ENABLED = "FeatureNotEnabled"
    NOT_SUPPORTED = "NotSupported"
    TRANSACTION_ERROR = "TransactionError"
    DATABASE_READ_ONLY = "DatabaseReadOnly"
    DATABASE_INVALID_OBJECT_DEFINITION = "DatabaseInvalidObjectDefinition"
    DATABASE_SCHEMA_MISMATCH = "DatabaseSchemaMismatch"
    DATABASE_TRANSACTION_ABORTED = "DatabaseTransactionAborted"
    DATABASE_TIMEOUT = "DatabaseTimeout"
    DATABASE_ERROR = "DatabaseError"
    INTERNAL_ERROR = "InternalError"
    S3_ERROR = "S3Error"
    SLOW_DOWN = "SlowDown"
    ABORTED = "Aborted"


class StorageError(SocleError):
    """The storage service refused.

    `status`: the semantic status, `statusCode` in the body. `legacy`: the text of `error`, the code unless given.
    `http_status`: the real one on normal routes when it is neither 500 nor 400. `close`: end the connection.
    """

    def __init__(
        self, code: Code, status: int, message: str, *, legacy: str = "", http_status: int = 0, close: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.legacy = legacy or str(code)
        self.http_status = http_status or (500 if status == 500 else 400)
        self.close = close

    def body(self) -> dict[str, str]:
        """The four keys that every error body has."""
        return {"statusCode": str(self.status), "error": self.legacy, "message": self.message, "code": str(self.code)}

    def at(self, http_status: int) -> StorageError:
        """The same error with another real status."""
        self.http_status = http_status
        return self


def no_such_bucket() -> StorageError:
    return StorageError(Code.NO_SUCH_BUCKET, 404, "Bucket not found", legacy="Bucket not found")


def no_such_key() -> StorageError:
    return StorageError(Code.NO_SUCH_KEY, 404, "Object not found", legacy="not_found")


def blob_missing() -> StorageError:
    """The row is there and its bytes are not."""
    return StorageError(Code.NO_SUCH_KEY, 404, "The resource was not found", legacy="Not found")


def no_such_upload() -> StorageError:
    return StorageError(Code.NO_SUCH_UPLOAD, 404, "Upload not found")


def access_denied(message: str = "Access denied") -> StorageError:
    return StorageError(Code.ACCESS_DENIED, 403, message, legacy="Unauthorized")


def row_security() -> StorageError:
    return access_denied("new row violates row-level security policy")


def invalid_jwt(message: str = "Invalid JWT") -> StorageError:
    return StorageError(Code.INVALID_JWT, 400, message)


def jwt_text(error: TokenError) -> str:
    """What is wrong with a token, in the words of the official service's library where clients know them."""
    match error:
        case TokenExpired():
            return '"exp" claim timestamp check failed'
        case TokenNotYetValid():
            return '"nbf" claim timestamp check failed'
        case TokenSignatureInvalid() | TokenKeyUnknown():
            return "signature verification failed"
        case TokenMalformed() | TokenEmpty():
            return "Invalid Compact JWS"
        case _:
            return error.message


def invalid_signature(message: str = "Invalid signature") -> StorageError:
    return StorageError(Code.INVALID_SIGNATURE, 400, message)


def expired_token() -> StorageError:
    return StorageError(Code.EXPIRED_TOKEN, 400, "The provided token has expired.")


def already_exists(code: Code = Code.RESOURCE_ALREADY_EXISTS) -> StorageError:
    return StorageError(code, 409, "The resource already exists", legacy="Duplicate")


def bucket_not_empty() -> StorageError:
    return StorageError(Code.RESOURCE_NOT_EMPTY, 409, "The bucket you tried to delete is not empty")


def invalid_request(message: str = "Invalid Request", *, legacy: str = "", status: int = 400) -> StorageError:
    return StorageError(Code.INVALID_REQUEST, status, message, legacy=legacy)


def related_missing() -> StorageError:
    """A row that this one would refer to is not there."""
    return invalid_request("The related resource does not exist", status=404)


def invalid_input(message: str) -> StorageError:
    """What a request's body, query or headers lack, in the words of JSON schema validation."""
    return invalid_request(message, legacy="Error")


def not_json(text: str) -> StorageError:
    """A body that is marked as JSON and is none, in the official service's words."""
    return invalid_request(f"Body {text} content-type is set to 'application/json'", legacy="FastifyError")


def no_content() -> StorageError:
    return invalid_request("No content provided")


def invalid_mime_type(mimetype: str) -> StorageError:
    return StorageError(
        Code.INVALID_MIME_TYPE, 415, f"mime type {mimetype} is not supported", legacy="invalid_mime_type"
    )


def invalid_content_type() -> StorageError:
    return StorageError(Code.INVALID_MIME_TYPE, 415, "Invalid Content-Type header", legacy="invalid_mime_type")


def too_large(entity: str = "object") -> StorageError:
    return StorageError(
        Code.ENTITY_TOO_LARGE, 413, f"The {entity} exceeded the maximum allowed size", legacy="Payload too large"
    )


def invalid_key(name: str) -> StorageError:
    return StorageError(Code.INVALID_KEY, 400, f"Invalid key: {name}")


def invalid_bucket_name() -> StorageError:
    return StorageError(Code.INVALID_BUCKET_NAME, 400, "Bucket name invalid", legacy="Invalid Input")


def invalid_range() -> StorageError:
    return StorageError(Code.INVALID_RANGE, 416, "invalid range provided", legacy="invalid_range", http_status=416)


def invalid_parameter(parameter: str, message: str = "") -> StorageError:
    return StorageError(Code.INVALID_PARAMETER, 400, message or f"Invalid Parameter {parameter}")


def missing_parameter(parameter: str) -> StorageError:
    return StorageError(Code.MISSING_PARAMETER, 400, f"Missing Required Parameter {parameter}")


def invalid_size() -> StorageError:
    return invalid_request("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B")


def invalid_robots_tag(message: str) -> StorageError:
    return invalid_request(f"Invalid X-Robots-Tag header: {message}", legacy="invalid_x_robots_tag")


def invalid_header(name: str, value: str) -> StorageError:
    text = f'Invalid character in response header "{name}": {value[:50]}'
    return invalid_request(text, legacy="invalid_header_char")


def feature_not_enabled(feature: str) -> StorageError:
    return StorageError(Code.FEATURE_NOT_ENABLED, 409, f"The feature {feature} is not enabled for this resource")


def lock_timeout() -> StorageError:
    return StorageError(Code.LOCK_TIMEOUT, 503, "acquiring lock timeout", legacy="acquiring_lock_timeout")


def resource_locked() -> StorageError:
    return StorageError(Code.RESOURCE_LOCKED, 423, "The resource is locked")


def aborted() -> StorageError:
    """The client went away before its request was complete."""
    return StorageError(Code.ABORTED, 499, "Request aborted", legacy="Request aborted", http_status=499, close=True)


def internal_error(message: str = "Internal server error") -> StorageError:
    return StorageError(Code.INTERNAL_ERROR, 500, message, legacy="Internal")


def database_timeout() -> StorageError:
    return StorageError(Code.DATABASE_TIMEOUT, 544, "The connection to the database timed out", http_status=544)


def slow_down() -> StorageError:
    return StorageError(
        Code.SLOW_DOWN,
        429,
        "Too many connections issued to the database",
        legacy="too_many_connections",
        http_status=429,
    )


def unknown_route(method: str, path: str) -> StorageError:
    text = f"Route {method}:{path} not found"
    return StorageError(Code.INVALID_REQUEST, 404, text, legacy="Not Found", http_status=404)


_BY_SQLSTATE: dict[str, tuple[Code, int, str]] = {
    "55P03": (Code.RESOURCE_LOCKED, 423, "The resource is locked"),
    "25006": (
        Code.DATABASE_READ_ONLY,
        503,
        "The database is currently in read-only mode. Please try again later.",
    ),
    "25P02": (
        Code.DATABASE_TRANSACTION_ABORTED,
        500,
        "The database transaction has been aborted. Roll back the transaction before retrying.",
    ),
    "42P17": (Code.DATABASE_INVALID_OBJECT_DEFINITION, 503, "The database schema is invalid or incompatible."),
    "42703": (Code.DATABASE_SCHEMA_MISMATCH, 503, "The database schema is out of sync. Please run migrations."),
    "42P01": (Code.DATABASE_SCHEMA_MISMATCH, 503, "The database schema is out of sync. Please run migrations."),
    "40001": (Code.TRANSACTION_ERROR, 409, "The transaction was in conflict with another one. Please try again."),
    "40P01": (Code.TRANSACTION_ERROR, 409, "The transaction was in conflict with another one. Please try again."),
}
_MULTIPART_KEYS = frozenset({"s3_multipart_uploads_bucket_id_fkey", "s3_multipart_uploads_parts_bucket_id_fkey"})
_BAD_TEXT = frozenset({"22P02", "22021", "22P05", "22001", "22003", "22007", "22008"})
"""Values that PostgreSQL could not read: the caller's mistake, never ours."""


def translate_database_error(error: DatabaseError) -> StorageError:
    """What PostgreSQL said, in the contract's words (§1.1)."""
    state, message = error.sqlstate, error.message
    if state in _BY_SQLSTATE:
        code, status, text = _BY_SQLSTATE[state]
        return StorageError(code, status, text)
    match state:
        case "42501":
            return row_security() if "row-level security" in message else access_denied(message)
        case "23505":
            return already_exists()
        case "23503":
            return _translate_reference(error)
        case "57014":
            return database_timeout()
        case "53300":
            return slow_down()
        case "22023" if "role" in message:
            return access_denied(message)
        case _ if state in _BAD_TEXT:
            return invalid_parameter("value", message)
        case _:
            pass
    return StorageError(Code.DATABASE_ERROR, 500, f"database error, code: {state}")


def _translate_reference(error: DatabaseError) -> StorageError:
    if "is still referenced from table" not in (error.detail or ""):
        return related_missing()
    if error.constraint in _MULTIPART_KEYS:
        text = "The bucket could not be updated because it is referenced by a pending multipart upload."
    else:
        text = "The resource could not be updated or removed due to a foreign key constraint"
    return StorageError(Code.RESOURCE_REFERENCED, 409, text)


def translate(error: Exception) -> StorageError:
    """Any exception that the service knows, as a StorageError; every other one is an internal error without details."""
    match error:
        case StorageError():
            return error
        case DatabaseError():
            return translate_database_error(error)
        case PoolTimeout():
            return database_timeout()
        case DatabaseUnavailable():
            return database_timeout()
        case BlobNotFound():
            return blob_missing()
        case BlobStoreFull():
            return internal_error("The storage backend has no space left")
        case BlobStoreError():
            return StorageError(Code.S3_ERROR, 500, "The storage backend failed")
        case BodyTooLarge():
            return StorageError(
                Code.ENTITY_TOO_LARGE, 413, "Request body is too large", legacy="FastifyError", http_status=413
            )
        case _:
            return internal_error()


def is_known(error: Exception) -> bool:
    """Whether `translate` has words of its own for it (an unknown one is worth an observation)."""
    return isinstance(error, StorageError | DatabaseError | DatabaseUnavailable | BlobStoreError | BodyTooLarge)


def render(error: Exception, *, semantic: bool = False) -> WireResponse:
    """The JSON error response. `semantic`: the real status, as the S3, vector and analytics routes answer."""
    known = translate(error)
    headers = [("content-type", JSON)]
    if known.legacy == "Not found":
        headers.append(("cache-control", "no-store"))
    if known.close:
        headers.append(("connection", "close"))
    status = known.status if semantic else known.http_status
    return WireResponse(status, tuple(headers), orjson.dumps(known.body()))
