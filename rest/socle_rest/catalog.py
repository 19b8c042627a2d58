"""Fills the schema cache: asks the queries of `catalog_queries` in one snapshot and makes values of their rows."""

from __future__ import annotations

import json
from collections import defaultdict
from sys import intern
from typing import TYPE_CHECKING, Any, Protocol

from socle_rest import catalog_queries as queries
from socle_rest.relationships import Key, TracedView, derive_relationships, view_primary_keys
from socle_rest.schema import (
    Column,
    ComputedRelationship,
    Function,
    MediaHandler,
    Parameter,
    QualifiedName,
    RelationKind,
    ReturnType,
    RoleSettings,
    Schema,
    Table,
    Volatility,
)
from socle_rest.viewtrace import View, trace_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Row(Protocol):
    """A row whose values are looked up by column name."""

    def __getitem__(self, name: str, /) -> Any: ...


class CatalogConnection(Protocol):
    """The little that is needed of a connection: any driver's that binds `$1` will do."""

    async def execute(self, sql: str, /) -> Any: ...

    async def fetch(self, sql: str, /, *args: Any) -> Sequence[Row]: ...


_KINDS = {
    "r": RelationKind.TABLE,
    "p": RelationKind.PARTITIONED_TABLE,
    "f": RelationKind.FOREIGN_TABLE,
    "v": RelationKind.VIEW,
    "m": RelationKind.MATERIALIZED_VIEW,
}
_VOLATILITIES = {"i": Volatility.IMMUTABLE, "s": Volatility.STABLE, "v": Volatility.VOLATILE}
_VOLATILITY_ORDER = tuple(reversed(Volatility))
_CAN_UPDATE, _CAN_INSERT, _CAN_DELETE = 4, 8, 16
ISOLATION = "default_transaction_isolation"


async def load_schema(
    connection: CatalogConnection,
    names: Sequence[str],
    *,
    extra_search_path: Sequence[str] = (),
    hoisted: Iterable[str] = (),
) -> Schema:
    """Reads everything about the schemas `names`.

    `connection` is the login role's, inside a REPEATABLE READ READ ONLY transaction of its own: its search path is
    emptied to the end of it. `hoisted` names the function settings that go to the whole transaction
    (`db-hoisted-tx-settings`). Raises what the driver raises.
    """
    exposed = list(names)
    await connection.execute(queries.EMPTY_SEARCH_PATH)
    keys = [_key(row) for row in await connection.fetch(queries.KEYS)]
    views = _views(await connection.fetch(queries.VIEWS, list(dict.fromkeys([*names, *extra_search_path]))), set(names))
    row_functions = await connection.fetch(queries.ROW_FUNCTIONS, exposed)
    relations = await connection.fetch(queries.RELATIONS, exposed)
    schemas = await connection.fetch(queries.SCHEMAS, exposed)
    existing: set[str] = {row["schema"] for row in schemas}
    primary_keys = {key.table: _sorted_names(key) for key in keys if key.kind == "p"} | view_primary_keys(keys, views)
    return Schema(
        names=tuple(names),
        missing=tuple(name for name in names if name not in existing),
        tables=_tables(relations, primary_keys, _computed_fields(row_functions)),
        relationships=derive_relationships(keys, views, primary_keys, _computed_relationships(row_functions), exposed),
        functions=_functions(await connection.fetch(queries.FUNCTIONS, exposed), frozenset(hoisted)),
        representations={
            (row["source"], row["target"]): QualifiedName(row["schema"], row["name"])
            for row in await connection.fetch(queries.REPRESENTATIONS)
        },
        media_handlers=_media_handlers(await connection.fetch(queries.MEDIA_HANDLERS, exposed)),
        descriptions={row["schema"]: row["description"] for row in schemas if row["description"] is not None},
        roles=await load_role_settings(connection),
        server_version=(await connection.fetch(queries.SERVER))[0]["version"],
    )


async def load_role_settings(connection: CatalogConnection) -> dict[str, RoleSettings]:
    """`ALTER ROLE … SET` of every role that the login role is a direct member of (contract §15, "Role settings")."""
    found: dict[str, RoleSettings] = {}
    for row in await connection.fetch(queries.ROLE_SETTINGS):
        allowed = set(_items(row["allowed"]))
        pairs = [pair for pair in map(_setting, _items(row["settings"])) if pair[0] in allowed]
        found[row["role"]] = RoleSettings(
            tuple(pair for pair in pairs if pair[0] != ISOLATION),
            next((value.lower() for name, value in pairs if name == ISOLATION), None),
        )
    return found


def _tables(
    rows: Iterable[Row],
    primary_keys: Mapping[QualifiedName, tuple[str, ...]],
    computed: Mapping[QualifiedName, Mapping[str, str]],
) -> dict[QualifiedName, Table]:
    tables: dict[QualifiedName, Table] = {}
    for row in rows:
        name = QualifiedName(intern(row["schema"]), intern(row["name"]))
        columns = [_column(facts) for facts in _items(row["columns"])]
        extra = {"computed": computed[name]} if name in computed else {}
        tables[name] = Table(
            name=name,
            kind=_KINDS[row["kind"]],
            columns={column.name: column for column in columns},
            primary_key=primary_keys.get(name, ()),
            insertable=bool(row["writable"] & _CAN_INSERT),
            updatable=bool(row["writable"] & _CAN_UPDATE),
            deletable=bool(row["writable"] & _CAN_DELETE),
            description=row["description"],
            **extra,
        )
    return tables


def _column(facts: Sequence[Any]) -> Column:
    name, kind, nominal, nullable, default, labels, max_length, description = facts
    return Column(
        intern(name),
        intern(kind),
        intern(nominal),
        nullable,
        default if default is None else intern(default),
        tuple(labels or ()),
        max_length,
        description,
    )


def _key(row: Row) -> Key:
    table = QualifiedName(intern(row["schema"]), intern(row["table"]))
    columns = _numbered(row["columns"])
    if row["kind"] != "f":
        return Key(row["kind"], row["name"], row["relation"], table, columns)
    target = QualifiedName(intern(row["target_schema"]), intern(row["target"]))
    referenced = _numbered(row["referenced_columns"])
    return Key("f", row["name"], row["relation"], table, columns, row["referenced"], target, referenced)


def _numbered(text: str) -> tuple[tuple[int, str], ...]:
    return tuple((number, intern(name)) for number, name in _items(text))


def _sorted_names(key: Key) -> tuple[str, ...]:
    return tuple(sorted(name for _, name in key.columns))


def _views(rows: Iterable[Row], exposed: set[str]) -> list[TracedView]:
    """The exposed views with the base columns they show, traced through all views given."""
    names = {row["oid"]: QualifiedName(intern(row["schema"]), intern(row["name"])) for row in rows}
    views = {row["oid"]: View(row["oid"], tuple(map(intern, _items(row["columns"]))), row["tree"]) for row in rows}
    shown = trace_columns(views)
    return [TracedView(name, shown[oid]) for oid, name in names.items() if name.schema in exposed]


def _computed_relationships(rows: Iterable[Row]) -> list[ComputedRelationship]:
    found: list[ComputedRelationship] = []
    for row in rows:
        if row["target"] is not None:
            table = QualifiedName(row["table_schema"], row["table"])
            target = QualifiedName(row["target_schema"], row["target"])
            function = QualifiedName(row["schema"], row["name"])
            found.append(ComputedRelationship(function, table, target, row["to_one"], is_self=table == target))
    return found


def _computed_fields(rows: Iterable[Row]) -> dict[QualifiedName, dict[str, str]]:
    found: defaultdict[QualifiedName, dict[str, str]] = defaultdict(dict)
    for row in rows:
        if row["target"] is None and not row["is_set"]:
            found[QualifiedName(row["table_schema"], row["table"])][row["name"]] = row["type"]
    return dict(found)


def _functions(rows: Iterable[Row], hoisted: frozenset[str]) -> dict[QualifiedName, tuple[Function, ...]]:
    overloads: defaultdict[QualifiedName, list[Function]] = defaultdict(list)
    for row in rows:
        settings = [_setting(one) for one in _items(row["settings"])]
        function = Function(
            name=QualifiedName(intern(row["schema"]), intern(row["name"])),
            parameters=tuple(
                Parameter(intern(one[0]), intern(one[1]), intern(one[2]), *one[3:]) for one in _items(row["parameters"])
            ),
            returns=ReturnType(
                QualifiedName(intern(row["type_schema"]), intern(row["type_name"])),
                is_set=row["is_set"],
                is_composite=row["is_composite"],
                is_domain=row["is_domain"],
            ),
            volatility=_VOLATILITIES[row["volatility"]],
            has_variadic=row["has_variadic"],
            isolation=next((value.lower() for name, value in settings if name == ISOLATION), None),
            settings=tuple(pair for pair in settings if pair[0] in hoisted),
            description=row["description"],
            oid=row["oid"],
        )
        overloads[function.name].append(function)
    return {name: tuple(sorted(ones, key=_overload_order)) for name, ones in overloads.items()}


def _overload_order(one: Function) -> tuple[object, ...]:
    """Fewest parameters first; the rest only makes the order of a message certain."""
    parameters = tuple((each.name, each.type, each.cast, each.required, each.variadic) for each in one.parameters)
    returns = (one.returns.is_set, one.returns.is_composite, one.returns.type)
    return (
        len(parameters),
        one.description or "",
        parameters,
        returns,
        _VOLATILITY_ORDER.index(one.volatility),
        one.has_variadic,
    )


def _media_handlers(rows: Iterable[Row]) -> dict[tuple[QualifiedName | None, str], MediaHandler]:
    found: dict[tuple[QualifiedName | None, str], MediaHandler] = {}
    for row in rows:
        target = None if row["target"] is None else QualifiedName(row["target_schema"], row["target"])
        asked = row["media_type"].lower()
        answered = "application/octet-stream" if asked == "*/*" else row["media_type"]
        function = QualifiedName(row["schema"], row["name"])
        found[target, asked] = MediaHandler(function, target, asked, answered)
    return found


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _items(text: str | None) -> list[Any]:
    """A JSON array as json_agg makes it: NULL for no rows."""
    items: list[Any] = [] if text is None else json.loads(text)
    return items
