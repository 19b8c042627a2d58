"""Accept against what can be produced: the media type of the answer and what makes its body (contract rest.md §10)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from socle_rest.errors import Code, RestError
from socle_rest.media import JSON, Kind, MediaType, parse_media_type
from socle_rest.schema import MediaHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_rest.request import ApiRequest
    from socle_rest.schema import QualifiedName, Schema


class Builtin(Enum):
    """The ways to build a body that need no function of the database's owner."""

    JSON = "json"
    STRIPPED_ARRAY = "array without nulls"
    OBJECT = "one object"
    STRIPPED_OBJECT = "one object without nulls"
    GEOJSON = "geojson"
    CSV = "csv"
    NOTHING = "no body"


Handler = Builtin | MediaHandler


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the answer is made with and called."""

    handler: Handler
    media_type: MediaType


_FIXED: Final[Mapping[Kind, Builtin]] = {
    Kind.OBJECT: Builtin.OBJECT,
    Kind.STRIPPED_OBJECT: Builtin.STRIPPED_OBJECT,
    Kind.STRIPPED_ARRAY: Builtin.STRIPPED_ARRAY,
}
"""Media types of our own, which nobody can override."""
_DEFAULT: Final[Mapping[Kind, Builtin]] = {
    Kind.ANY: Builtin.JSON,
    Kind.JSON: Builtin.JSON,
    Kind.CSV: Builtin.CSV,
    Kind.GEOJSON: Builtin.GEOJSON,
}


def negotiate(
    request: ApiRequest, target: QualifiedName, schema: Schema, *, default_select: bool, plan_enabled: bool
) -> Negotiated:
    """The first acceptable type that can be produced. `target` is the relation, or the function that is called.

    Raises RestError (PGRST107)."""
    for media_type in request.accept:
        found = _match(media_type, target, schema, default_select=default_select, plan_enabled=plan_enabled)
        if found is not None:
            no_body = request.headers_only or (request.action.is_mutation and not request.preferences.wants_body)
            return Negotiated(Builtin.NOTHING, found.media_type) if no_body else found
    raise media_type_error(request)


def media_type_error(request: ApiRequest) -> RestError:
    """PGRST107."""
    return RestError(Code.MEDIA_TYPE, types=", ".join(one.name for one in request.accept))


def _match(
    media_type: MediaType, target: QualifiedName, schema: Schema, *, default_select: bool, plan_enabled: bool
) -> Negotiated | None:
    if media_type.explain is not None:
        if not plan_enabled:
            return None
        about = _match(media_type.explain.target, target, schema, default_select=default_select, plan_enabled=False)
        return None if about is None else Negotiated(about.handler, media_type)
    if (fixed := _FIXED.get(media_type.kind)) is not None:
        return Negotiated(fixed, media_type)
    custom = schema.handler(target, media_type.essence, default_select=default_select)
    if custom is not None:
        return Negotiated(custom, parse_media_type(custom.content_type))
    builtin = _DEFAULT.get(media_type.kind)
    if builtin is None:
        return None
    return Negotiated(builtin, JSON if media_type.kind is Kind.ANY else media_type)
