"""Words for requests the schema cache cannot satisfy: hints of PGRST200, 202, 205, details of PGRST201 and 203.

Texts and thresholds are those of contracts/rest.md §16. They are built only when such an error is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_rest.fuzzy import FuzzySet
from socle_rest.schema import Cardinality, QualifiedName, Relationship

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from socle_rest.schema import AnyRelationship, ColumnPairs, Function, Schema

MIN_NAME_SCORE = 0.75
"""Table and function names need this much likeness, so that a guess does not list what exists."""
MAX_TABLES = 500
"""A schema with this many tables or more gives no table hints."""


def table_hint(schema: Schema, name: QualifiedName) -> str | None:
    """PGRST205: the table that was probably meant."""
    names = [one.name for one in schema.tables if one.schema == name.schema]
    if len(names) >= MAX_TABLES:
        return None
    nearest = FuzzySet(names).nearest(name.name, MIN_NAME_SCORE)
    return None if nearest is None else f"Perhaps you meant the table '{name.schema}.{nearest}'"


def function_hint(schema: Schema, name: QualifiedName, keys: Iterable[str]) -> str | None:
    """PGRST202: the function that was probably meant, or, if the name exists, the nearest list of parameters."""
    if overloads := schema.overloads(name):
        lists = FuzzySet(_parameter_list(one.name for one in overload.parameters) for overload in overloads)
        nearest = lists.nearest(_parameter_list(keys))
        found = None if nearest is None else name.name + nearest
    else:
        names = (one.name for one in schema.functions if one.schema == name.schema)
        found = FuzzySet(names).nearest(name.name, MIN_NAME_SCORE)
    return None if found is None else f"Perhaps you meant to call the function {name.schema}.{found}"


def relationship_hint(schema: Schema, origin: QualifiedName, target: str) -> str | None:
    """PGRST200: the parent that was probably meant, or, if that one has relationships, the child."""
    known = schema.relationships.get((origin, origin.schema), ())
    if not known and schema.table(origin) is None:
        parents = (near.name for near, far_schema in schema.relationships if far_schema == origin.schema)
        found, wrong = FuzzySet(parents).nearest(origin.name), origin.name
    else:
        children = FuzzySet(one.target.name for one in known).matches(target)
        found, wrong = next((name for score, name in children if score < 1), None), target
    return None if found is None else f"Perhaps you meant '{found}' instead of '{wrong}'."


def relationship_details(candidates: Sequence[AnyRelationship]) -> list[dict[str, str]]:
    """PGRST201: each candidate with its cardinality, the two relations and the keys it uses."""
    return [_relationship_details(one) for one in candidates if isinstance(one, Relationship)]


def relationship_choices(target: str, candidates: Sequence[AnyRelationship]) -> str:
    """PGRST201: the hint that lists what to write instead."""
    choices = ", ".join(
        f"'{one.target.name}!{one.junction.table.name if one.junction else one.constraint}'"
        for one in candidates
        if isinstance(one, Relationship)
    )
    return (
        f"Try changing '{target}' to one of the following: {choices}. "
        "Find the desired relationship in the 'details' key."
    )


def function_signature(function: Function) -> str:
    """PGRST203: `schema.name(argument => type, …)`."""
    arguments = ", ".join(f"{one.name} => {one.type}" for one in function.parameters)
    return f"{function.name.schema}.{function.name.name}({arguments})"


def _relationship_details(one: Relationship) -> dict[str, str]:
    embedding = f"{one.table.name} with {one.target.name}"
    if one.junction is not None:
        between = one.junction
        using = (
            f"{between.table.name} using {between.near_constraint}{_columns(between.near, 1)}"
            f" and {between.far_constraint}{_columns(between.far, 1)}"
        )
    else:
        using = (
            f"{one.constraint} using {one.table.name}{_columns(one.columns, 0)}"
            f" and {one.target.name}{_columns(one.columns, 1)}"
        )
    return {"cardinality": Cardinality(one.cardinality).value, "embedding": embedding, "relationship": using}


def _columns(pairs: ColumnPairs, side: int) -> str:
    return "(" + ", ".join(pair[side] for pair in pairs) + ")"


def _parameter_list(names: Iterable[str]) -> str:
    return "(" + ", ".join(sorted(names)) + ")"
