"""The schema cache: what the catalogue says about the exposed schemas, as one frozen value.

`catalog.load_schema` fills it; planning reads it; nothing changes it. A reload builds a new value and swaps the
reference, so a request keeps the one it started with. The rules of matching are those of contracts/rest.md §2.1, §2.3
and §9.

Type names (`Column.type`, `Parameter.type`, the keys of `representations`) are written as PostgreSQL writes them with
an empty search path: bare for built-in types (`json`, `tsvector`, `integer`), schema-qualified and quoted otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet


class QualifiedName(NamedTuple):
    """A relation, function or type by schema and name, both unquoted. An empty schema means: by the search path."""

    schema: str
    name: str


ColumnPairs = tuple[tuple[str, str], ...]
"""Columns that are equal across a relationship, in constraint order: (column of the near side, of the far side)."""


class RelationKind(StrEnum):
    """What a relation is; views are VIEW and MATERIALIZED_VIEW only."""

    TABLE = "table"
    PARTITIONED_TABLE = "partitioned table"
    FOREIGN_TABLE = "foreign table"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized view"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is without length and with a domain over a built-in type resolved to that type
    (`character varying`); `nominal_type` is as declared (`character varying(10)`, `api.email`)."""

    name: str
    type: str
    nominal_type: str
    nullable: bool
    default: str | None = None
    """The SQL text of the default expression; None when there is none or the column is generated."""
    enum: tuple[str, ...] = ()
    max_length: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A served relation. `insertable`, `updatable`, `deletable` say what the relation can do, not who may do it."""

    name: QualifiedName
    kind: RelationKind
    columns: Mapping[str, Column]
    """By name, in catalogue order."""
    primary_key: tuple[str, ...] = ()
    """Sorted by name for tables; for views traced to the tables below, empty unless all key columns are there."""
    insertable: bool = False
    updatable: bool = False
    deletable: bool = False
    description: str | None = None
    computed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Computed fields: function name → type of its result."""

    @property
    def is_view(self) -> bool:
        """Whether it is a view or a materialized view."""
        return self.kind in {RelationKind.VIEW, RelationKind.MATERIALIZED_VIEW}


class Cardinality(StrEnum):
    """How many rows on either side, near side first."""

    ONE_TO_MANY = "one-to-many"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_ONE = "one-to-one"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True)
class Junction:
    """The table in the middle of a many-to-many relationship.

    `near` pairs (column of the near table, column of the junction); `far` pairs (column of the far table, column of
    the junction)."""

    table: QualifiedName
    near_constraint: str
    far_constraint: str
    near: ColumnPairs
    far: ColumnPairs


@dataclass(frozen=True, slots=True)
class Relationship:
    """A foreign key seen from one of its sides, or two of them through a junction."""

    table: QualifiedName
    target: QualifiedName
    cardinality: Cardinality
    constraint: str
    """Name of the foreign key; empty for many-to-many (see `junction`)."""
    columns: ColumnPairs
    """(column of `table`, column of `target`); empty for many-to-many."""
    is_self: bool = False
    table_is_view: bool = False
    target_is_view: bool = False
    is_referenced: bool = False
    """One-to-one only: `table` is the referenced side, not the one that holds the foreign key."""
    junction: Junction | None = None

    @property
    def to_one(self) -> bool:
        """Whether an embed of it is an object (or null) rather than an array."""
        return self.cardinality in {Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_ONE}


@dataclass(frozen=True, slots=True)
class ComputedRelationship:
    """A function of one row of `table` that returns rows of `target`."""

    function: QualifiedName
    table: QualifiedName
    target: QualifiedName
    to_one: bool
    is_self: bool = False


AnyRelationship = Relationship | ComputedRelationship


class Volatility(StrEnum):
    """What PostgreSQL was told about a function's effects."""

    IMMUTABLE = "immutable"
    STABLE = "stable"
    VOLATILE = "volatile"


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input argument of a function; `name` is empty for the single unnamed one."""

    name: str
    type: str
    cast: str
    """`type` without a length (`character` → `character varying`), so that a cast neither pads nor cuts a value."""
    required: bool = True
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class ReturnType:
    """What a function returns. For a row type `type` is the relation's or composite's name; TABLE, OUT and INOUT
    results are composite with `type` = `pg_catalog.record`."""

    type: QualifiedName
    is_set: bool = False
    is_composite: bool = False
    is_domain: bool = False
    """A domain over the named (composite) type."""


_VOID = QualifiedName("pg_catalog", "void")


@dataclass(frozen=True, slots=True)
class Function:
    """A callable function; overloads are separate values."""

    name: QualifiedName
    parameters: tuple[Parameter, ...]
    returns: ReturnType
    volatility: Volatility = Volatility.VOLATILE
    has_variadic: bool = False
    isolation: str | None = None
    """`default_transaction_isolation` of its SET clause, lower case (`repeatable read`)."""
    settings: tuple[tuple[str, str], ...] = ()
    """The part of its SET clauses that `db-hoisted-tx-settings` asks to apply to the whole transaction."""
    description: str | None = None
    oid: int = 0

    @property
    def returns_scalar(self) -> bool:
        """One value that is not a row (void is one too)."""
        return not self.returns.is_set and not self.returns.is_composite

    @property
    def returns_set_of_scalar(self) -> bool:
        """A set of values that are not rows."""
        return self.returns.is_set and not self.returns.is_composite

    @property
    def returns_single(self) -> bool:
        """Not SETOF and not TABLE."""
        return not self.returns.is_set

    @property
    def returns_void(self) -> bool:
        """Nothing at all."""
        return not self.returns.is_set and self.returns.type == _VOID

    @property
    def relation(self) -> QualifiedName:
        """The relation its result is planned as: the row type's name in the function's own schema, else the
        function's own name (contract §2.1, "On RPC")."""
        return QualifiedName(self.name.schema, self.returns.type.name) if self.returns.is_composite else self.name


@dataclass(frozen=True, slots=True)
class MediaHandler:
    """What turns a result into the bytes of one media type.

    For an aggregate `target` is the relation whose rows it takes, or None for `anyelement`. For a function that
    returns a media type domain `target` is that function, and `function` is the domain: its name used as a function
    is the cast."""

    function: QualifiedName
    target: QualifiedName | None
    media_type: str
    """As asked for in Accept, lower case; `*/*` answers anything."""
    content_type: str
    """As answered: the same, or `application/octet-stream` for `*/*`."""


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """What `ALTER ROLE … SET` says for a role the login role may become. `isolation` is taken out of `settings`."""

    settings: tuple[tuple[str, str], ...] = ()
    isolation: str | None = None


_UNNAMED: Mapping[str, frozenset[str]] = {
    "application/json": frozenset({"json", "jsonb"}),
    "text/plain": frozenset({"text"}),
    "text/xml": frozenset({"xml"}),
    "application/octet-stream": frozenset({"bytea"}),
}
RAW_BODY_TYPES = frozenset({"text/plain", "text/xml", "application/octet-stream"})
"""Content types whose body can only be the single unnamed argument of a function."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Everything planning may ask about the database. `names` are the exposed schemas, the default one first."""

    names: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Those of `names` that the database does not have."""
    tables: Mapping[QualifiedName, Table] = field(default_factory=dict[QualifiedName, Table])
    relationships: Mapping[tuple[QualifiedName, str], tuple[AnyRelationship, ...]] = field(
        default_factory=dict[tuple[QualifiedName, str], tuple[AnyRelationship, ...]]
    )
    """By (near relation, schema of the far one)."""
    functions: Mapping[QualifiedName, tuple[Function, ...]] = field(
        default_factory=dict[QualifiedName, tuple[Function, ...]]
    )
    """Overloads with the fewest parameters first."""
    representations: Mapping[tuple[str, str], QualifiedName] = field(
        default_factory=dict[tuple[str, str], QualifiedName]
    )
    """(source type, target type) → function of the implicit cast. `json`/`text` is always one of the two."""
    media_handlers: Mapping[tuple[QualifiedName | None, str], MediaHandler] = field(
        default_factory=dict[tuple[QualifiedName | None, str], MediaHandler]
    )
    """(relation or function, or None for any; media type) → handler. The built-in ones are not listed."""
    descriptions: Mapping[str, str] = field(default_factory=dict[str, str])
    """COMMENT ON SCHEMA, where there is one."""
    roles: Mapping[str, RoleSettings] = field(default_factory=dict[str, RoleSettings])
    server_version: int = 0
    """`server_version_num`, for example 180001."""

    def table(self, name: QualifiedName) -> Table | None:
        """The relation, or None (PGRST205, or a function's result that is no known relation)."""
        return self.tables.get(name)

    def column(self, table: QualifiedName, name: str) -> Column | None:
        """The column, or None: then it may still be a computed field, which SQL resolves."""
        known = self.tables.get(table)
        return known.columns.get(name) if known else None

    def representation(self, source: str, target: str) -> QualifiedName | None:
        """The function that turns a value of type `source` into one of type `target`, if one was declared."""
        return self.representations.get((source, target))

    def relationships_of(self, table: QualifiedName) -> tuple[AnyRelationship, ...]:
        """All relationships from a relation to relations of the same schema, in the order messages list them."""
        return self.relationships.get((table, table.schema), ())

    def find_relationships(self, origin: QualifiedName, target: str, hint: str | None) -> tuple[AnyRelationship, ...]:
        """The relationships meant by `origin?select=target!hint(…)`: exactly one is the answer, none is PGRST200,
        several are PGRST201."""
        return tuple(one for one in self.relationships_of(origin) if _is_meant(one, target, hint))

    def overloads(self, name: QualifiedName) -> tuple[Function, ...]:
        """All callable functions of that name."""
        return self.functions.get(name, ())

    def find_functions(
        self, name: QualifiedName, keys: AbstractSet[str], content_type: str | None
    ) -> tuple[Function, ...]:
        """The overloads that these argument names can call: one is the answer, none is PGRST202, several PGRST203.

        `content_type` is the body's media type for POST and None for GET and HEAD. A match by argument names beats
        a function with a single unnamed parameter that takes the whole body."""
        raw = content_type in RAW_BODY_TYPES
        overloads = self.overloads(name)
        if named := tuple(one for one in overloads if _takes(one.parameters, keys, raw=raw)):
            return named
        whole = _UNNAMED.get(content_type or "", frozenset())
        return tuple(one for one in overloads if _takes_whole_body(one.parameters, whole))

    def handler(self, target: QualifiedName, media_type: str, *, default_select: bool) -> MediaHandler | None:
        """The custom handler for a media type. One bound to the relation is used only when the request selects `*`;
        among those the `*/*` one answers everything and comes first."""
        if default_select:
            bound = self.media_handlers.get((target, "*/*")) or self.media_handlers.get((target, media_type))
            if bound:
                return bound
        return self.media_handlers.get((None, media_type))

    def role(self, name: str) -> RoleSettings:
        """Settings of the role, empty if it has none."""
        return self.roles.get(name, _NO_SETTINGS)


_NO_SETTINGS = RoleSettings()


def _is_meant(one: AnyRelationship, target: str, hint: str | None) -> bool:
    """Whether a relationship is what `target!hint` asks for (contract §2.1, "Target may be", "Hint may be")."""
    if isinstance(one, ComputedRelationship):
        return target == one.function.name
    near, far = one.columns[0] if len(one.columns) == 1 else (None, None)
    if one.is_self:
        if one.cardinality is Cardinality.ONE_TO_MANY:
            return target == one.target.name and (hint is None or hint == far)
        return hint is None and one.cardinality is Cardinality.MANY_TO_ONE and target == near
    if hint is None:
        if target == one.target.name:
            return True
        return not one.target_is_view and one.junction is None and target in {one.constraint, near}
    if target != one.target.name:
        return False
    if one.junction is not None:
        return hint == one.junction.table.name
    return hint in {one.constraint, near, far}


def _takes(parameters: Sequence[Parameter], keys: AbstractSet[str], *, raw: bool) -> bool:
    """Whether all required parameters are given and nothing else but optional ones."""
    if not parameters:
        return not keys and not raw
    required = {one.name for one in parameters if one.required}
    optional = {one.name for one in parameters if not one.required}
    return keys - optional == required if required else keys <= optional


def _takes_whole_body(parameters: Sequence[Parameter], types: AbstractSet[str]) -> bool:
    return len(parameters) == 1 and not parameters[0].name and parameters[0].type in types
