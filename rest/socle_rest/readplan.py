"""What to read, decided: the tree of one select and its embeds. Nothing in here came straight from the URL but names
and values, which become quoted identifiers and parameters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_rest.fields import PlannedField
    from socle_rest.query_values import Filter
    from socle_rest.ranges import Range
    from socle_rest.schema import AnyRelationship, QualifiedName


@dataclass(frozen=True, slots=True)
class PlannedSelect:
    """One output column: `aggregate(field::cast)::aggregate_cast AS alias`."""

    field: PlannedField
    alias: str | None = None
    cast: str | None = None
    aggregate: str | None = None
    aggregate_cast: str | None = None

    @property
    def output_name(self) -> str:
        """The key it has in the row."""
        return self.field.name if self.alias is None else self.alias


@dataclass(frozen=True, slots=True)
class PlannedFilter:
    """A comparison; `filter` holds operator, value, negation."""

    field: PlannedField
    filter: Filter


@dataclass(frozen=True, slots=True)
class EmbedIsNull:
    """`embed=is.null`: no row of it; `position` is that of the embed in its plan."""

    position: int
    negated: bool


@dataclass(frozen=True, slots=True)
class PlannedLogic:
    """`[NOT] (a AND b …)`, or with OR."""

    operator: str
    children: tuple[PlannedCondition, ...]
    negated: bool = False


PlannedCondition = PlannedFilter | EmbedIsNull | PlannedLogic


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """A field to sort by; with `embed` it is one of a to-one embed, by the name of its subquery."""

    field: PlannedField
    embed: str | None = None
    direction: str | None = None
    nulls: str | None = None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A select: `source` (an empty schema means a name of this statement) read as `alias`.

    `table` is the relation that the source stands for: itself, or what a mutation or call returned."""

    table: QualifiedName
    source: QualifiedName
    alias: str | None
    select: tuple[PlannedSelect, ...]
    where: tuple[PlannedCondition, ...]
    order: tuple[PlannedOrder, ...]
    range: Range
    embeds: tuple[Embed, ...] = ()

    @property
    def selects_everything(self) -> bool:
        """`select=*` and nothing else: the row type is that of the relation."""
        return (
            not self.embeds
            and len(self.select) == 1
            and self.select[0].field.name == "*"
            and self.select[0].aggregate is None
        )


class Shape(Enum):
    """How an embed appears in its parent."""

    OBJECT = "object"
    ARRAY = "array"
    SPREAD_ONE = "columns of the one row"
    SPREAD_MANY = "columns as arrays"

    @property
    def is_spread(self) -> bool:
        """Its columns are lifted into the parent."""
        return self in {Shape.SPREAD_ONE, Shape.SPREAD_MANY}


@dataclass(frozen=True, slots=True)
class SpreadColumn:
    """A column lifted from a spread embed, aggregated in the parent if the aggregate was hoisted."""

    name: str
    alias: str | None = None
    aggregate: str | None = None
    aggregate_cast: str | None = None


@dataclass(frozen=True, slots=True)
class JoinCondition:
    """Equality of a column of the parent (or of the junction) with one of the embed's own relations."""

    left: tuple[QualifiedName, str]
    right: tuple[QualifiedName, str]


@dataclass(frozen=True, slots=True)
class Embed:
    """A related select inside another. `lateral` names its subquery; `parent` is what the parent is called in SQL.

    `is_hidden`: it was selected without columns, so that it only joins. For SPREAD_MANY `extra_select` are the columns
    that only `spread_order` needs; each comes with the subquery it is read from, None for the embed itself."""

    plan: ReadPlan
    relationship: AnyRelationship
    parent: QualifiedName
    name: str
    lateral: str
    shape: Shape
    is_inner: bool
    joins: tuple[JoinCondition, ...] = ()
    is_hidden: bool = False
    spread_select: tuple[SpreadColumn, ...] = ()
    spread_order: tuple[PlannedOrder, ...] = ()
    extra_select: tuple[tuple[str | None, PlannedSelect], ...] = ()
