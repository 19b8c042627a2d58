"""What a client says, as bytes (manual, «Message Formats», frontend messages). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import Struct

PROTOCOL_VERSION = 0x0003_0000
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102

MAX_PARAMETERS = 0xFFFF
"""The protocol counts parameters in 16 bits."""
LONGEST_VALUES = 0x3FFF_0000
"""Bytes of one Bind's parameters; PostgreSQL refuses messages of 1 GiB (PQ_LARGE_MESSAGE_LIMIT), names come on top."""

_short = Struct("!H").pack
_long = Struct("!I").pack
_NULL = b"\xff\xff\xff\xff"

SYNC = b"S\0\0\0\4"
FLUSH = b"H\0\0\0\4"
TERMINATE = b"X\0\0\0\4"
COPY_DONE = b"c\0\0\0\4"
EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
"""Execute the unnamed portal to its end."""
TEXT_RESULTS = b"\0\0"
"""The end of a Bind that asks for every column as text."""


def _message(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"".join((kind, _long(len(body) + 4), body))


def text(value: str) -> bytes:
    """A zero-terminated string. Raises ValueError for text that holds NUL or a lone surrogate."""
    encoded = value.encode()
    if b"\0" in encoded:
        raise ValueError("text for PostgreSQL holds a NUL character")
    return encoded + b"\0"


def startup(parameters: Mapping[str, str]) -> bytes:
    """StartupMessage: user, database and any run-time settings."""
    body = b"".join([text(piece) for pair in parameters.items() for piece in pair]) + b"\0"
    return _long(len(body) + 8) + _long(PROTOCOL_VERSION) + body


def ssl_request() -> bytes:
    """SSLRequest; the answer is one byte, `S` or `N`."""
    return _long(8) + _long(_SSL_REQUEST)


def cancel_request(process: int, secret: bytes) -> bytes:
    """CancelRequest for another session; sent alone on a connection of its own."""
    return _long(12 + len(secret)) + _long(_CANCEL_REQUEST) + _long(process) + secret


def password(secret: bytes) -> bytes:
    """PasswordMessage: clear text or the MD5 answer, without the final NUL."""
    return _message(b"p", secret, b"\0")


def sasl_initial(mechanism: str, response: bytes) -> bytes:
    """SASLInitialResponse."""
    return _message(b"p", text(mechanism), _long(len(response)), response)


def sasl_response(response: bytes) -> bytes:
    """SASLResponse."""
    return _message(b"p", response)


def query(sql: str) -> bytes:
    """A simple query; may hold several statements."""
    return _message(b"Q", text(sql))


def parse(name: bytes, sql: str) -> bytes:
    """Parse with every parameter type left to PostgreSQL."""
    return _message(b"P", name, b"\0", text(sql), b"\0\0")


@lru_cache(maxsize=64)
def result_formats(formats: tuple[int, ...]) -> bytes:
    """The end of a Bind: 0 text, 1 binary for each column; one code for all; () is all text."""
    return b"".join([_short(len(formats)), *map(_short, formats)])


def bind_head(portal: bytes, name: bytes) -> bytes:
    """The start of a Bind's body: portal, statement, every parameter as text."""
    return b"".join((portal, b"\0", name, b"\0", b"\0\0"))


def count(parameters: int) -> bytes:
    """The number of parameters as a Bind states it. Raises ValueError beyond 65535."""
    if parameters > MAX_PARAMETERS:
        raise ValueError("a statement has at most 65535 parameters")
    return _short(parameters)


def sized(value: bytes) -> bytes:
    """One parameter of a Bind: its length, itself."""
    return _long(len(value)) + value


def append_values(parts: list[bytes], args: Iterable[bytes | None]) -> None:
    """Appends each parameter with its length; None is NULL."""
    for value in args:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_long(len(value)), value)


def bind(head: bytes, values: Sequence[bytes], tail: bytes = TEXT_RESULTS) -> bytes:
    """A Bind of `bind_head`, the pieces that make up the counted parameters, and `result_formats`."""
    body = b"".join((head, *values, tail))
    return b"B%b%b" % (_long(len(body) + 4), body)


def describe_statement(name: bytes) -> bytes:
    """Describe of a prepared statement: parameter types, then columns."""
    return _message(b"D", b"S", name, b"\0")


def close_statement(name: bytes) -> bytes:
    """Close of a prepared statement; closing an unknown one is no error."""
    return _message(b"C", b"S", name, b"\0")


def execute(portal: bytes, rows: int) -> bytes:
    """Execute of a portal for at most `rows` rows (0: all)."""
    return _message(b"E", portal, b"\0", _long(rows))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return _message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return _message(b"f", text(reason))
