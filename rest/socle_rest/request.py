"""HTTP as an ApiRequest: what is asked, before anything is known of the database (contract rest.md §1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from socle_rest.errors import Code, RestError
from socle_rest.media import JSON, MediaType, parse_accept, parse_media_type
from socle_rest.payload import Payload, parse_payload
from socle_rest.prefer import Preferences, parse_preferences
from socle_rest.query import parse_query, split_pairs
from socle_rest.query_values import Query
from socle_rest.ranges import EVERYTHING, Range, parse_range_header, top_level_range
from socle_rest.schema import QualifiedName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from socle_platform.config.rest import RestSettings


class Action(Enum):
    """What a method on a kind of resource does."""

    READ = "read"
    INSERT = "insert"
    UPSERT = "upsert"
    """PUT: exactly one row, by its key."""
    UPDATE = "update"
    DELETE = "delete"
    CALL = "call"
    CALL_BY_GET = "call by get"
    INSPECT = "inspect"
    """The OpenAPI document."""
    DESCRIBE_RELATION = "describe relation"
    DESCRIBE_FUNCTION = "describe function"
    DESCRIBE_ROOT = "describe root"

    @property
    def is_mutation(self) -> bool:
        """Rows of a relation are written."""
        return self in _MUTATIONS

    @property
    def is_call(self) -> bool:
        """A function is called."""
        return self in {Action.CALL, Action.CALL_BY_GET}


_MUTATIONS = frozenset({Action.INSERT, Action.UPSERT, Action.UPDATE, Action.DELETE})
_RELATION_ACTIONS = {
    "GET": Action.READ,
    "HEAD": Action.READ,
    "POST": Action.INSERT,
    "PUT": Action.UPSERT,
    "PATCH": Action.UPDATE,
    "DELETE": Action.DELETE,
    "OPTIONS": Action.DESCRIBE_RELATION,
}
_FUNCTION_ACTIONS = {
    "GET": Action.CALL_BY_GET,
    "HEAD": Action.CALL_BY_GET,
    "POST": Action.CALL,
    "OPTIONS": Action.DESCRIBE_FUNCTION,
}
_ROOT_ACTIONS = {"GET": Action.INSPECT, "HEAD": Action.INSPECT, "OPTIONS": Action.DESCRIBE_ROOT}
_CONTENT_PROFILE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class RawRequest(NamedTuple):
    """The request as bytes. `path` is below the mount point and still percent-encoded; header names in lower case."""

    method: str
    path: bytes
    query_string: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What is asked. `target` is a relation or function of `target.schema`, empty for the root."""

    action: Action
    method: str
    target: QualifiedName
    query: Query
    range: Range
    preferences: Preferences
    accept: tuple[MediaType, ...]
    content_type: MediaType
    payload: Payload | None = None
    keys: frozenset[str] = frozenset()
    """Columns to write, or names of the arguments of a POST."""
    shows_profile: bool = False
    """Whether answers carry Content-Profile."""

    @property
    def headers_only(self) -> bool:
        """HEAD: everything but the body."""
        return self.method == "HEAD"


def parse_request(raw: RawRequest, settings: RestSettings) -> ApiRequest:
    """The whole request. Raises RestError."""
    headers = _headers_of(raw.headers)
    segments = split_path(raw.path)
    resource = _resource_of(segments, settings)
    schema, shows_profile = _schema_of(raw.method, headers, settings)
    action = action_of(raw.method, resource)
    query = parse_query(split_pairs(raw.query_string), calls_by_get=action is Action.CALL_BY_GET)
    row_range = _range_of(raw.method, query, headers)
    content_type = parse_media_type(headers["content-type"]) if "content-type" in headers else JSON
    payload, keys = _payload_of(raw.body, action, query, content_type)
    return ApiRequest(
        action=action,
        method=raw.method,
        target=QualifiedName(schema, resource[1]),
        query=query,
        range=row_range,
        preferences=parse_preferences(_values(raw.headers, b"prefer"), allow_transaction=settings.allow_tx_override),
        accept=parse_accept(headers.get("accept")),
        content_type=content_type,
        payload=payload,
        keys=keys,
        shows_profile=shows_profile,
    )


def _headers_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that parsing reads, the first of a name."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name in _READ_HEADERS:
            found.setdefault(name.decode("latin-1"), value.decode("utf-8", "replace"))
    return found


_READ_HEADERS = frozenset({b"accept", b"accept-profile", b"content-profile", b"content-type", b"range"})


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def split_path(path: bytes) -> tuple[str, ...]:
    """The decoded segments; none for `/`. Raises RestError (PGRST125) for bytes that are no UTF-8."""
    trimmed = path.removeprefix(b"/")
    if not trimmed:
        return ()
    try:
        return tuple(unquote_to_bytes(segment).decode("utf-8") for segment in trimmed.split(b"/"))
    except UnicodeDecodeError as error:
        raise RestError(Code.PATH) from error


class Resource(Enum):
    """What a path names."""

    ROOT = "root"
    RELATION = "relation"
    FUNCTION = "function"


def _resource_of(segments: tuple[str, ...], settings: RestSettings) -> tuple[Resource, str]:
    match segments:
        case ():
            if settings.openapi.mode == "disabled":
                raise RestError(Code.OPENAPI_DISABLED)
            if settings.root_spec is not None:
                return Resource.FUNCTION, settings.root_spec.name
            return Resource.ROOT, ""
        case (name,):
            return Resource.RELATION, name
        case ("rpc", name):
            return Resource.FUNCTION, name
        case _:
            raise RestError(Code.PATH)


def action_of(method: str, resource: tuple[Resource, str]) -> Action:
    """What the method does there. Raises RestError (PGRST101, PGRST117)."""
    kind, _ = resource
    if kind is Resource.FUNCTION:
        action = _FUNCTION_ACTIONS.get(method)
        if action is None:
            raise RestError(Code.RPC_METHOD, method=method)
        return action
    action = (_ROOT_ACTIONS if kind is Resource.ROOT else _RELATION_ACTIONS).get(method)
    if action is None:
        raise RestError(Code.METHOD, method=method)
    return action


def _schema_of(method: str, headers: Mapping[str, str], settings: RestSettings) -> tuple[str, bool]:
    """The schema asked for, and whether answers name it."""
    name = "content-profile" if method in _CONTENT_PROFILE_METHODS else "accept-profile"
    profile = headers.get(name)
    if profile is None:
        return settings.schemas[0], len(settings.schemas) > 1
    if profile not in settings.schemas:
        exposed = ", ".join(settings.schemas)
        raise RestError(
            Code.SCHEMA_NOT_EXPOSED, hint=f"Only the following schemas are exposed: {exposed}", schema=profile
        )
    return profile, True


def _range_of(method: str, query: Query, headers: Mapping[str, str]) -> Range:
    header = parse_range_header(headers.get("range")) if method == "GET" else EVERYTHING
    found = top_level_range(query.root_range, header)
    if method == "PUT" and found != EVERYTHING:
        raise RestError(Code.PUT_RANGE)
    return found


def _payload_of(
    body: bytes, action: Action, query: Query, content_type: MediaType
) -> tuple[Payload | None, frozenset[str]]:
    if action is Action.DELETE or not (action.is_mutation or action is Action.CALL):
        return None, frozenset()
    columns = None if action is Action.UPSERT else query.columns
    payload = parse_payload(body, content_type, columns, is_call=action is Action.CALL)
    return payload, payload.keys
