"""The schema cache as a JSON document: what the admin server's `/schema_cache` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from socle_rest.schema import QualifiedName

if TYPE_CHECKING:
    from socle_rest.schema import Schema


def render_schema(schema: Schema) -> bytes:
    """Everything in the cache; names are written `schema.name`."""
    document = {
        "dbSchemas": schema.names,
        "dbTables": list(schema.tables.values()),
        "dbRelationships": [one for ones in schema.relationships.values() for one in ones],
        "dbRoutines": [one for overloads in schema.functions.values() for one in overloads],
        "dbRepresentations": [
            {"source": source, "target": target, "function": function}
            for (source, target), function in schema.representations.items()
        ],
        "dbMediaHandlers": list(schema.media_handlers.values()),
        "dbRoleSettings": schema.roles,
        "serverVersion": schema.server_version,
    }
    return orjson.dumps(document, default=_plain)


def _plain(value: object) -> object:
    """What orjson does not know: names are text, mappings are objects, other tuples are arrays."""
    if isinstance(value, QualifiedName):
        return f"{value.schema}.{value.name}"
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise TypeError(f"no JSON for {type(value).__name__}")
