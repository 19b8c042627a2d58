"""The protocol's own refusals, beside those that it shares with the rest of the service."""

from __future__ import annotations

from socle_storage.errors import Code, StorageError


def missing_signature() -> StorageError:
    return StorageError(Code.ACCESS_DENIED, 403, "Missing signature")


def malformed_signature(message: str = "Invalid signature format") -> StorageError:
    return StorageError(Code.INVALID_SIGNATURE, 400, message)


def unknown_access_key() -> StorageError:
    return StorageError(Code.INVALID_ACCESS_KEY, 403, "The access key id is not known here")


def signature_mismatch(*, session: bool = False) -> StorageError:
    text = "The request signature we calculated does not match the signature you provided. "
    text += (
        "Check your credentials. The session token should be a valid JWT token"
        if session
        else "Check your key and signing method."
    )
    return StorageError(Code.SIGNATURE_DOES_NOT_MATCH, 403, text)


def unsigned_header(name: str) -> StorageError:
    text = f"There were headers present in the request which were not signed: {name}"
    return StorageError(Code.ACCESS_DENIED, 403, text)


def expired_request() -> StorageError:
    return StorageError(Code.ACCESS_DENIED, 403, "Request has expired")


def clock_skewed() -> StorageError:
    text = "The difference between the request time and the server's time is too large."
    return StorageError(Code.REQUEST_TIME_TOO_SKEWED, 403, text)


def hash_mismatch() -> StorageError:
    text = "The provided 'x-amz-content-sha256' header does not match what was computed."
    return StorageError(Code.CONTENT_SHA256_MISMATCH, 400, text)


def bad_digest(algorithm: str) -> StorageError:
    return StorageError(Code.BAD_DIGEST, 400, f"The {algorithm} you specified did not match the calculated checksum.")


def invalid_digest() -> StorageError:
    return StorageError(Code.INVALID_DIGEST, 400, "The Content-MD5 you specified is not valid.")


def invalid_checksum(header: str) -> StorageError:
    return StorageError(Code.INVALID_REQUEST, 400, f"Value for {header} header is invalid.")


def unknown_checksum() -> StorageError:
    text = "The checksum algorithm is not supported; use CRC32, CRC32C, CRC64NVME, SHA1, SHA256 or SHA512."
    return StorageError(Code.INVALID_REQUEST, 400, text)


def several_checksums() -> StorageError:
    text = "Expecting a single x-amz-checksum- header. Multiple checksum types are not allowed."
    return StorageError(Code.INVALID_REQUEST, 400, text)


def malformed_trailer() -> StorageError:
    text = "The trailer behind the body is not what the x-amz-trailer header announced."
    return StorageError(Code.MALFORMED_TRAILER, 400, text)


def incomplete_body() -> StorageError:
    text = "You did not provide the number of bytes specified by the Content-Length HTTP header."
    return StorageError(Code.INCOMPLETE_BODY, 400, text)


def missing_length() -> StorageError:
    return StorageError(Code.MISSING_CONTENT_LENGTH, 411, "You must provide the Content-Length HTTP header.")


def malformed_xml() -> StorageError:
    text = "The XML you provided was not well-formed or did not validate against our published schema."
    return StorageError(Code.MALFORMED_XML, 400, text)


def not_implemented(what: str) -> StorageError:
    return StorageError(Code.NOT_IMPLEMENTED, 501, f"This service does not offer {what}")


def method_not_allowed() -> StorageError:
    return StorageError(Code.METHOD_NOT_ALLOWED, 405, "The specified method is not allowed against this resource.")


def precondition_failed() -> StorageError:
    text = "At least one of the pre-conditions you specified did not hold"
    return StorageError(Code.PRECONDITION_FAILED, 412, text)


def invalid_part() -> StorageError:
    text = "One or more of the specified parts could not be found, or its ETag is not the part's."
    return StorageError(Code.INVALID_PART, 400, text)


def invalid_part_order() -> StorageError:
    return StorageError(Code.INVALID_PART_ORDER, 400, "The list of parts was not in ascending order.")


def part_too_small() -> StorageError:
    text = "Your proposed upload is smaller than the minimum allowed size"
    return StorageError(Code.ENTITY_TOO_SMALL, 400, text)


def invalid_argument(message: str) -> StorageError:
    return StorageError(Code.INVALID_ARGUMENT, 400, message)
