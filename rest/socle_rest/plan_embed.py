"""Relationships of a request: which one is meant, under which names it is joined (contract rest.md §2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from socle_rest.errors import Code, RestError
from socle_rest.hints import relationship_choices, relationship_details, relationship_hint
from socle_rest.readplan import JoinCondition
from socle_rest.schema import ComputedRelationship, QualifiedName

if TYPE_CHECKING:
    from socle_rest.schema import AnyRelationship, Schema

JUNCTION = QualifiedName("", "pgrst_junction")
"""What the table in the middle is called inside its embed."""
MAX_NAME = 63
"""Bytes of a name that PostgreSQL tells apart."""


class Lateral(NamedTuple):
    """The two ends of a join: what the parent is called, the alias of the embed's relation."""

    parent: QualifiedName
    alias: str


def find_relationship(schema: Schema, origin: QualifiedName, target: str, hint: str | None) -> AnyRelationship:
    """The one relationship meant. Raises RestError (PGRST200, PGRST201)."""
    found = schema.find_relationships(origin, target, hint)
    if len(found) == 1:
        return found[0]
    if found:
        raise RestError(
            Code.AMBIGUOUS_RELATIONSHIP,
            details=relationship_details(found),
            hint=relationship_choices(target, found),
            origin=origin.name,
            target=target,
        )
    using = "" if hint is None else f" using the hint '{hint}'"
    raise RestError(
        Code.NO_RELATIONSHIP,
        details=(
            f"Searched for a foreign key relationship between '{origin.name}' and '{target}'{using}"
            f" in the schema '{origin.schema}', but no matches were found."
        ),
        hint=relationship_hint(schema, origin, target),
        origin=origin.name,
        target=target,
    )


def table_alias(relationship: AnyRelationship, parent: QualifiedName, depth: int) -> str:
    """The alias of the embedded relation: errors of PostgreSQL show it, so it is made of the relation's name.

    Through a junction it is the name itself, unless the parent is called so."""
    name = relationship.target.name
    through_junction = not isinstance(relationship, ComputedRelationship) and relationship.junction is not None
    if through_junction and parent != QualifiedName("", name):
        return name
    return _shortened(name, f"_{depth}")


def lateral_name(relationship: AnyRelationship, name: str, depth: int, position: int) -> str:
    """The name of the embed's subquery, made of the two relations' names.

    The same embed twice without an alias has the same name twice: PostgreSQL says so (42712), as clients expect. A
    name too long for PostgreSQL is told from those of its siblings by its position among them."""
    whole = f"{relationship.table.name}_{name}_{depth}"
    if len(whole.encode()) <= MAX_NAME:
        return whole
    return _shortened(f"{relationship.table.name}_{name}", f"_{depth}_{position}")


def _shortened(name: str, suffix: str) -> str:
    """Name and suffix, cut in the name so that PostgreSQL does not cut the suffix."""
    raw = name.encode()
    room = MAX_NAME - len(suffix)
    return (name if len(raw) <= room else raw[:room].decode(errors="ignore")) + suffix


def join_conditions(relationship: AnyRelationship, ends: Lateral) -> tuple[JoinCondition, ...]:
    """The equalities between parent and embed; a computed relationship has none."""
    if isinstance(relationship, ComputedRelationship):
        return ()
    own = QualifiedName("", ends.alias)
    if relationship.junction is not None:
        far = tuple(JoinCondition((own, column), (JUNCTION, via)) for column, via in relationship.junction.far)
        near = tuple(
            JoinCondition((JUNCTION, via), (ends.parent, column)) for column, via in relationship.junction.near
        )
        return far + near
    return tuple(JoinCondition((own, target), (ends.parent, column)) for column, target in relationship.columns)
