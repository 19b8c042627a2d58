"""The schema cache as the JSON that PostgREST's tools know: `/schema_cache` of the admin server, `--dump-schema`.

Maps whose keys are no text are arrays of [key, value]; a value of several kinds carries a `tag`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from socle_rest.schema import Cardinality, ComputedRelationship

if TYPE_CHECKING:
    from socle_rest.schema import (
        AnyRelationship,
        Column,
        Function,
        MediaHandler,
        Parameter,
        QualifiedName,
        Schema,
        Table,
    )

Node: TypeAlias = dict[str, Any]

_CARDINALITIES = {
    Cardinality.ONE_TO_MANY: "O2M",
    Cardinality.MANY_TO_ONE: "M2O",
    Cardinality.ONE_TO_ONE: "O2O",
    Cardinality.MANY_TO_MANY: "M2M",
}
_MEDIA_TYPES = {
    "*/*": "MTAny",
    "application/geo+json": "MTGeoJSON",
    "application/json": "MTApplicationJSON",
    "application/octet-stream": "MTOctetStream",
    "application/openapi+json": "MTOpenAPI",
    "application/x-www-form-urlencoded": "MTUrlEncoded",
    "text/csv": "MTTextCSV",
    "text/plain": "MTTextPlain",
    "text/xml": "MTTextXML",
}
_BUILT_IN = (
    ("*/*", "BuiltinOvAggJson", "application/json"),
    ("application/json", "BuiltinOvAggJson", "application/json"),
    ("text/csv", "BuiltinOvAggCsv", "text/csv"),
    ("application/geo+json", "BuiltinOvAggGeoJson", "application/geo+json"),
)
_ISOLATIONS = {"serializable": "Serializable", "repeatable read": "RepeatableRead"}


def render_schema(schema: Schema) -> bytes:
    """Everything in the cache."""
    return orjson.dumps(
        {
            "dbTables": [[_name(name), _table(table)] for name, table in schema.tables.items()],
            "dbRelationships": [
                [[_name(table), far], [_relationship(one) for one in ones]]
                for (table, far), ones in schema.relationships.items()
            ],
            "dbRoutines": [
                [_name(name), [_function(one) for one in overloads]] for name, overloads in schema.functions.items()
            ],
            "dbRepresentations": [
                [[source, target], {"drSourceType": source, "drTargetType": target, "drFunction": ".".join(function)}]
                for (source, target), function in schema.representations.items()
            ],
            "dbMediaHandlers": [
                *[_handler(one) for one in schema.media_handlers.values()],
                *[_built_in(*one) for one in _BUILT_IN if (None, one[0]) not in schema.media_handlers],
            ],
        }
    )


def _name(name: QualifiedName) -> Node:
    return {"qiName": name.name, "qiSchema": name.schema}


def _table(table: Table) -> Node:
    return {
        "tableSchema": table.name.schema,
        "tableName": table.name.name,
        "tableDescription": table.description,
        "tableIsView": table.is_view,
        "tableInsertable": table.insertable,
        "tableUpdatable": table.updatable,
        "tableDeletable": table.deletable,
        "tablePKCols": table.primary_key,
        "tableColumns": {name: _column(column) for name, column in table.columns.items()},
    }


def _column(column: Column) -> Node:
    return {
        "colName": column.name,
        "colDescription": column.description,
        "colNullable": column.nullable,
        "colType": column.type,
        "colNominalType": column.nominal_type,
        "colMaxLen": column.max_length,
        "colDefault": column.default,
        "colEnum": column.enum,
    }


def _relationship(one: AnyRelationship) -> Node:
    sides = {"relTable": _name(one.table), "relForeignTable": _name(one.target), "relIsSelf": one.is_self}
    if isinstance(one, ComputedRelationship):
        return {
            "tag": "ComputedRelationship",
            **sides,
            "relFunction": _name(one.function),
            "relTableAlias": {"qiName": "", "qiSchema": ""},
            "relToOne": one.to_one,
        }
    cardinality: Node = {"tag": _CARDINALITIES[one.cardinality]}
    if one.junction is not None:
        cardinality["contents"] = {
            "junTable": _name(one.junction.table),
            "junConstraint1": one.junction.near_constraint,
            "junConstraint2": one.junction.far_constraint,
            "junColsSource": one.junction.near,
            "junColsTarget": one.junction.far,
        }
    else:
        cardinality |= {"relCons": one.constraint, "relColumns": one.columns}
        if one.cardinality is Cardinality.ONE_TO_ONE:
            cardinality["isParent"] = one.is_referenced
    views = {"relTableIsView": one.table_is_view, "relFTableIsView": one.target_is_view}
    return {"tag": "Relationship", **sides, "relCardinality": cardinality, **views}


def _function(function: Function) -> Node:
    returns = function.returns
    kind: Node = {"tag": "Scalar", "contents": _name(returns.type)}
    if returns.is_composite:
        kind = {"tag": "Composite", "contents": [_name(returns.type), returns.is_domain]}
    return {
        "pdSchema": function.name.schema,
        "pdName": function.name.name,
        "pdDescription": function.description,
        "pdParams": [_parameter(one) for one in function.parameters],
        "pdReturnType": {"tag": "SetOf" if returns.is_set else "Single", "contents": kind},
        "pdVolatility": function.volatility.capitalize(),
        "pdHasVariadic": function.has_variadic,
        "pdIsoLvl": None if function.isolation is None else _ISOLATIONS.get(function.isolation, "ReadCommitted"),
        "pdFuncSettings": function.settings,
    }


def _parameter(one: Parameter) -> Node:
    return {
        "ppName": one.name,
        "ppType": one.type,
        "ppTypeMaxLength": one.cast,
        "ppReq": one.required,
        "ppVar": one.variadic,
    }


def _handler(one: MediaHandler) -> list[object]:
    relation = _relation(one.target)
    custom = {"tag": "CustomFunc", "contents": [_name(one.function), relation]}
    return [[relation, _media_type(one.media_type)], [custom, _media_type(one.content_type)]]


def _built_in(asked: str, handler: str, answered: str) -> list[object]:
    return [[_relation(None), _media_type(asked)], [{"tag": handler}, _media_type(answered)]]


def _relation(target: QualifiedName | None) -> Node:
    return {"tag": "RelAnyElement"} if target is None else {"tag": "RelId", "contents": _name(target)}


def _media_type(text: str) -> Node:
    return {"tag": _MEDIA_TYPES[text]} if text in _MEDIA_TYPES else {"tag": "MTOther", "contents": text}
