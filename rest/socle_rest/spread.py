"""What a spread embed hands to its parent: columns, aggregates, order (contract rest.md §2.2, "Aggregates in embeds").

An aggregate of a to-one spread would see one row only; so it is taken out of the embed and applied in the nearest
level that is not such a spread itself, grouped with that level's own columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from socle_rest.errors import Code, RestError
from socle_rest.fields import PlannedField
from socle_rest.readplan import PlannedOrder, PlannedSelect, SpreadColumn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from socle_rest.readplan import ReadPlan


class Hoisted(NamedTuple):
    """An aggregate on its way up."""

    aggregate: str
    cast: str | None
    alias: str | None


def without_aggregates(select: Sequence[PlannedSelect]) -> dict[str, Hoisted]:
    """The aggregates of a to-one spread's own columns, by the name that the column keeps."""
    return {
        one.output_name: Hoisted(one.aggregate, one.aggregate_cast, one.alias)
        for one in select
        if one.aggregate is not None
    }


def apply_hoisted(columns: Sequence[SpreadColumn], hoisted: Mapping[str, Hoisted]) -> tuple[SpreadColumn, ...]:
    """The lifted columns with the aggregates that came up with them."""
    return tuple(
        SpreadColumn(one.name, found.alias, found.aggregate, found.cast) if (found := hoisted.get(one.name)) else one
        for one in columns
    )


def spread_columns(plan: ReadPlan) -> tuple[SpreadColumn, ...]:
    """What the embed lifts: its own columns, its embeds by name, and what its own spreads lift."""
    columns = [SpreadColumn(one.output_name) for one in plan.select]
    for embed in plan.embeds:
        if embed.shape.is_spread:
            columns.extend(embed.spread_select)
        elif not embed.is_hidden:
            columns.append(SpreadColumn(embed.name))
    return tuple(columns)


def order_of_spread(
    plan: ReadPlan,
) -> tuple[tuple[PlannedOrder, ...], tuple[tuple[str | None, PlannedSelect], ...]]:
    """The order of a to-many spread, moved out to where its arrays are built, with the columns it needs there.

    Raises RestError (PGRST127) for aggregates."""
    if any(one.aggregate is not None for one in plan.select) or any(
        one.aggregate is not None for embed in plan.embeds for one in embed.spread_select
    ):
        raise RestError(
            Code.NOT_IMPLEMENTED,
            details="Aggregates are not implemented for one-to-many or many-to-many spreads.",
        )
    order: list[PlannedOrder] = []
    extra: list[tuple[str | None, PlannedSelect]] = []
    for number, one in enumerate(plan.order, start=1):
        name = f"pgrst_order_{number}"
        extra.append((one.embed, PlannedSelect(one.field, name)))
        order.append(PlannedOrder(PlannedField(name), None, one.direction, one.nulls))
    return tuple(order), tuple(extra)
