"""Every way a REST request can fail, and how it is told (contract rest.md §16).

SocleError
├── RestError           one entry of the closed table below
├── TokenError          a token that proves nothing (socle_platform.keys)
├── DatabaseError       PostgreSQL's own answer: its SQLSTATE is the code
└── DatabaseUnavailable no answer from PostgreSQL

`failure_of` turns each of them into a Failure (status, code, message, details, hint, headers) and `render_failure`
writes that to the wire. Retired codes, never to be used again: PGRST104, 109, 110, 113, 119.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from socle_platform.db import ConnectionLost, DatabaseError, DatabaseUnavailable, PoolTimeout
from socle_platform.errors import SocleError, WireResponse
from socle_platform.http import BodyTooLarge
from socle_platform.keys import (
    NoKeyConfigured,
    TokenAlgorithmRefused,
    TokenAudienceMismatch,
    TokenClaimInvalid,
    TokenEmpty,
    TokenError,
    TokenExpired,
    TokenIssuedInFuture,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
)
from socle_rest.sqlstate import raised_failure, status_of_sqlstate

if TYPE_CHECKING:
    from socle_rest.sqlstate import Details

JSON_TYPE = "application/json; charset=utf-8"


class Code(StrEnum):
    """The closed set of our own error codes."""

    CONNECTION_FAILED = "PGRST000"
    CONNECTION_LOST = "PGRST001"
    NO_SCHEMA = "PGRST002"
    POOL_TIMEOUT = "PGRST003"
    QUERY_UNREADABLE = "PGRST100"
    RPC_METHOD = "PGRST101"
    BODY_UNREADABLE = "PGRST102"
    RANGE_UNSATISFIABLE = "PGRST103"
    PUT_FILTERS = "PGRST105"
    SCHEMA_NOT_EXPOSED = "PGRST106"
    MEDIA_TYPE = "PGRST107"
    NOT_EMBEDDED = "PGRST108"
    RESPONSE_HEADERS = "PGRST111"
    RESPONSE_STATUS = "PGRST112"
    PUT_RANGE = "PGRST114"
    PUT_MISMATCH = "PGRST115"
    NOT_SINGULAR = "PGRST116"
    METHOD = "PGRST117"
    ORDER_TO_MANY = "PGRST118"
    EMBED_FILTER = "PGRST120"
    RAISED_UNREADABLE = "PGRST121"
    PREFERENCES = "PGRST122"
    AGGREGATES_DISABLED = "PGRST123"
    MAX_AFFECTED = "PGRST124"
    PATH = "PGRST125"
    OPENAPI_DISABLED = "PGRST126"
    NOT_IMPLEMENTED = "PGRST127"
    MAX_AFFECTED_SINGLE = "PGRST128"
    NO_RELATIONSHIP = "PGRST200"
    AMBIGUOUS_RELATIONSHIP = "PGRST201"
    NO_FUNCTION = "PGRST202"
    AMBIGUOUS_FUNCTION = "PGRST203"
    NO_COLUMN = "PGRST204"
    NO_TABLE = "PGRST205"
    NO_SECRET = "PGRST300"  # noqa: S105 - a code, not a password
    TOKEN_UNREADABLE = "PGRST301"  # noqa: S105
    ANONYMOUS_DISABLED = "PGRST302"
    TOKEN_CLAIMS = "PGRST303"  # noqa: S105
    INTERNAL = "PGRSTX00"


_TABLE: dict[Code, tuple[int, str]] = {
    Code.CONNECTION_FAILED: (503, "Database connection error."),
    Code.CONNECTION_LOST: (503, "Database client error. Retrying the connection."),
    Code.NO_SCHEMA: (503, "Could not query the database for the schema cache. Retrying."),
    Code.POOL_TIMEOUT: (504, "Timed out acquiring connection from connection pool."),
    Code.QUERY_UNREADABLE: (400, "{message}"),
    Code.RPC_METHOD: (405, "Cannot use the {method} method on RPC"),
    Code.BODY_UNREADABLE: (400, "{message}"),
    Code.RANGE_UNSATISFIABLE: (416, "Requested range not satisfiable"),
    Code.PUT_FILTERS: (405, "Filters must include all and only primary key columns with 'eq' operators"),
    Code.SCHEMA_NOT_EXPOSED: (406, "Invalid schema: {schema}"),
    Code.MEDIA_TYPE: (406, "None of these media types are available: {types}"),
    Code.NOT_EMBEDDED: (400, "'{name}' is not an embedded resource in this request"),
    Code.RESPONSE_HEADERS: (
        500,
        "response.headers guc must be a JSON array composed of objects with a single key and a string value",
    ),
    Code.RESPONSE_STATUS: (500, "response.status guc must be a valid status code"),
    Code.PUT_RANGE: (400, "limit/offset querystring parameters are not allowed for PUT"),
    Code.PUT_MISMATCH: (400, "Payload values do not match URL in primary key column(s)"),
    Code.NOT_SINGULAR: (406, "Cannot coerce the result to a single JSON object"),
    Code.METHOD: (405, "Unsupported HTTP method: {method}"),
    Code.ORDER_TO_MANY: (400, "A related order on '{name}' is not possible"),
    Code.EMBED_FILTER: (400, "Bad operator on the '{name}' embedded resource"),
    Code.RAISED_UNREADABLE: (500, "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"),
    Code.PREFERENCES: (400, "Invalid preferences given with handling=strict"),
    Code.AGGREGATES_DISABLED: (400, "Use of aggregate functions is not allowed"),
    Code.MAX_AFFECTED: (400, "Query result exceeds max-affected preference constraint"),
    Code.PATH: (404, "Invalid path specified in request URL"),
    Code.OPENAPI_DISABLED: (404, "Root endpoint metadata is disabled"),
    Code.NOT_IMPLEMENTED: (400, "Feature not implemented"),
    Code.MAX_AFFECTED_SINGLE: (
        400,
        "Function must return SETOF or TABLE when max-affected preference is used with handling=strict",
    ),
    Code.NO_RELATIONSHIP: (
        400,
        "Could not find a relationship between '{origin}' and '{target}' in the schema cache",
    ),
    Code.AMBIGUOUS_RELATIONSHIP: (
        300,
        "Could not embed because more than one relationship was found for '{origin}' and '{target}'",
    ),
    Code.NO_FUNCTION: (404, "Could not find the function {signature} in the schema cache"),
    Code.AMBIGUOUS_FUNCTION: (300, "Could not choose the best candidate function between: {candidates}"),
    Code.NO_COLUMN: (400, "Could not find the '{column}' column of '{table}' in the schema cache"),
    Code.NO_TABLE: (404, "Could not find the table '{table}' in the schema cache"),
    Code.NO_SECRET: (500, "Server lacks JWT secret"),
    Code.TOKEN_UNREADABLE: (401, "{message}"),
    Code.ANONYMOUS_DISABLED: (401, "Anonymous access is disabled"),
    Code.TOKEN_CLAIMS: (401, "{message}"),
    Code.INTERNAL: (500, "{message}"),
}


class RestError(SocleError):
    """A request that cannot be answered: a code of the table, with the words its message needs."""

    def __init__(self, code: Code, *, details: Details = None, hint: str | None = None, **words: object) -> None:
        super().__init__(_TABLE[code][1].format(**words))
        self.code = code
        self.details = details
        self.hint = hint

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return _TABLE[self.code][0]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it leaves: everything the wire shows of it."""

    status: int
    code: str
    message: str
    details: Details = None
    hint: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


_BEARER = (("WWW-Authenticate", "Bearer"),)


def failure_of(error: Exception, *, authenticated: bool = False) -> Failure:
    """What an exception means to the caller. `authenticated`: the role was another than the anonymous one."""
    match error:
        case RestError():
            headers = _BEARER if error.code is Code.ANONYMOUS_DISABLED else ()
            return Failure(error.status, error.code, error.message, error.details, error.hint, headers)
        case TokenError():
            return _of_token(error)
        case DatabaseError():
            return _of_database(error, authenticated=authenticated)
        case BodyTooLarge():
            return Failure(413, Code.BODY_UNREADABLE, error.message)
        case PoolTimeout():
            return _of_code(Code.POOL_TIMEOUT)
        case ConnectionLost():
            return _of_code(Code.CONNECTION_LOST, details=error.message)
        case DatabaseUnavailable():
            return _of_code(Code.CONNECTION_FAILED, details=error.message)
        case _:
            return _of_code(Code.INTERNAL, message="Internal error")


def _of_code(code: Code, *, details: Details = None, **words: object) -> Failure:
    status, template = _TABLE[code]
    return Failure(status, code, template.format(**words), details)


def _of_token(error: TokenError) -> Failure:
    details = None
    match error:
        case NoKeyConfigured():
            return _of_code(Code.NO_SECRET)
        case (
            TokenExpired() | TokenNotYetValid() | TokenIssuedInFuture() | TokenAudienceMismatch() | TokenClaimInvalid()
        ):
            code, message = Code.TOKEN_CLAIMS, error.message
        case TokenEmpty():
            code, message = Code.TOKEN_UNREADABLE, error.message
        case TokenMalformed():
            code, message = _of_malformed(error.message)
        case TokenAlgorithmRefused():
            code, message = Code.TOKEN_UNREADABLE, error.message
            details = "JWT is unsecured but expected 'alg' was not 'none'"
        case TokenKeyUnknown():
            code, message = Code.TOKEN_UNREADABLE, _NO_KEY
            details = "No suitable key was found to decode the JWT"
        case _:
            code, message = Code.TOKEN_UNREADABLE, _NO_KEY
            details = "None of the keys was able to decode the JWT"
    described = message.replace("\\", "\\\\").replace('"', '\\"')
    challenge = f'Bearer error="invalid_token", error_description="{described}"'
    return Failure(401, code, message, details, headers=(("WWW-Authenticate", challenge),))


_NO_KEY = "No suitable key or wrong key type"


def _of_malformed(message: str) -> tuple[Code, str]:
    """What cannot be taken apart, in the three ways that clients know."""
    if message.startswith("Expected 3 parts"):
        return Code.TOKEN_UNREADABLE, message
    if "payload" in message:
        return Code.TOKEN_CLAIMS, "Parsing claims failed"
    return Code.TOKEN_UNREADABLE, "JWT cryptographic operation failed"


def _of_database(error: DatabaseError, *, authenticated: bool) -> Failure:
    if error.sqlstate == "PGRST":
        raised = raised_failure(error.message, error.detail)
        if isinstance(raised, tuple):
            details, hint = raised
            return Failure(500, Code.RAISED_UNREADABLE, _TABLE[Code.RAISED_UNREADABLE][1], details, hint)
        return Failure(raised.status, raised.code, raised.message, raised.details, raised.hint, raised.headers)
    status = status_of_sqlstate(error.sqlstate, error.message, authenticated=authenticated)
    headers = _BEARER if status == 401 else ()
    return Failure(status, error.sqlstate, error.message, error.detail, error.hint, headers)


def failure_body(failure: Failure, *, verbose: bool = True) -> bytes:
    """The JSON object: four keys always, or only code and message when `client-error-verbosity` is minimal."""
    body: dict[str, Details] = {"code": failure.code, "message": failure.message}
    if verbose:
        body |= {"details": failure.details, "hint": failure.hint}
    return orjson.dumps(body)


def render_error(error: Exception) -> WireResponse:
    """The error response for whatever a request raised, where nothing is known of the request."""
    return render_failure(failure_of(error))


def render_failure(failure: Failure, *, verbose: bool = True) -> WireResponse:
    """The whole error response."""
    body = failure_body(failure, verbose=verbose)
    headers = (
        ("Content-Type", JSON_TYPE),
        ("Content-Length", str(len(body))),
        ("Proxy-Status", f"PostgREST; error={failure.code}"),
        *failure.headers,
    )
    return WireResponse(failure.status, headers, body)
