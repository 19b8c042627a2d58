"""What PostgreSQL's own errors mean in HTTP (contract rest.md §16, the SQLSTATE map)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import orjson

Details = str | list[dict[str, str]] | None

_EXACT = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
_BY_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}


def status_of_sqlstate(sqlstate: str, message: str, *, authenticated: bool) -> int:
    """The status for an error of the server. `authenticated`: the role was another than the anonymous one."""
    if sqlstate.startswith("PT"):
        return _custom_status(sqlstate[2:])
    match sqlstate:
        case "21000":
            return 400 if message.endswith("requires a WHERE clause") else 500
        case "22023":
            return 401 if message.startswith("role") and message.endswith("does not exist") else 400
        case "42501":
            return 403 if authenticated else 401
        case "42883":
            return 406 if message.startswith("function xmlagg(") else 404
        case _:
            return _EXACT.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], 400)


def _custom_status(digits: str) -> int:
    """`RAISE SQLSTATE 'PT402'`: the three characters are the status, if a server can send it."""
    return int(digits) if digits.isascii() and digits.isdigit() and 200 <= int(digits) <= 999 else 500


@dataclass(frozen=True, slots=True)
class Raised:
    """The whole response a database function asked for with `RAISE SQLSTATE 'PGRST'`."""

    status: int
    code: str
    message: str
    details: str | None
    hint: str | None
    headers: tuple[tuple[str, str], ...]


_MESSAGE_HINT = (
    "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'."
)
_DETAIL_HINT = "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."


def raised_failure(message: str, detail: str | None) -> Raised | tuple[str, str]:
    """The response asked for, or (details, hint) of PGRST121 when the JSON is not what it has to be."""
    body = _object(message)
    if body is None or not _texts(body, required=("code", "message"), optional=("details", "hint")):
        return f"Invalid JSON value for MESSAGE: '{message}'", _MESSAGE_HINT
    if detail is None:
        return "DETAIL is missing in the RAISE statement", _DETAIL_HINT
    head = _object(detail)
    headers = None if head is None else _header_pairs(head.get("headers"))
    status = None if head is None else head.get("status")
    if head is None or headers is None or not _texts(head, optional=("status_text",)) or not _is_status(status):
        return f"Invalid JSON value for DETAIL: '{detail}'", _DETAIL_HINT
    texts = cast("dict[str, str]", body)
    return Raised(
        cast("int", status), texts["code"], texts["message"], texts.get("details"), texts.get("hint"), headers
    )


def _is_status(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 999


def _object(text: str) -> dict[str, object] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _texts(value: dict[str, object], *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> bool:
    return all(isinstance(value.get(name), str) for name in required) and all(
        isinstance(value.get(name), str | None) for name in optional
    )


def _header_pairs(value: object) -> tuple[tuple[str, str], ...] | None:
    if not isinstance(value, dict):
        return None
    pairs = cast("dict[str, object]", value).items()
    if not all(isinstance(content, str) for _, content in pairs):
        return None
    return tuple((name, cast("str", content)) for name, content in pairs)
