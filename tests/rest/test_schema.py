"""Matching in the schema cache: relationships, overloads, handlers, and the words of the errors when nothing fits."""

from __future__ import annotations

import pytest

from socle_rest.fuzzy import FuzzySet
from socle_rest.hints import (
    function_hint,
    function_signature,
    relationship_choices,
    relationship_details,
    relationship_hint,
    table_hint,
)
from socle_rest.relationships import Key, TracedView, derive_relationships, view_primary_keys
from socle_rest.schema import (
    Function,
    MediaHandler,
    Parameter,
    QualifiedName,
    RelationKind,
    Relationship,
    ReturnType,
    Schema,
    Table,
)
from socle_rest.viewtrace import View, parse_origins, trace_columns


def name(text: str) -> QualifiedName:
    schema, _, local = text.rpartition(".")
    return QualifiedName(schema or "api", local)


def table(text: str) -> Table:
    return Table(name(text), RelationKind.TABLE, {})


def primary(relation: int, text: str, *columns: str) -> Key:
    return Key("p", f"{text}_pkey", relation, name(text), tuple(enumerate(columns, 1)))


def foreign(constraint: str, near: Key, columns: str, far: Key, referenced: str) -> Key:
    """A foreign key between the tables of two primary keys; its columns are numbered from 10, those they refer to as
    in the primary key."""
    numbers = {column: number for number, column in near.columns}
    return Key(
        "f",
        constraint,
        near.relation,
        near.table,
        tuple((numbers.get(column, 10 + at), column) for at, column in enumerate(columns.split(","))),
        far.relation,
        far.table,
        tuple(enumerate(referenced.split(","), 1)),
    )


def schema_of(*keys: Key, views: tuple[TracedView, ...] = (), exposed: tuple[str, ...] = ("api",)) -> Schema:
    primary_keys = {key.table: tuple(column for _, column in key.columns) for key in keys if key.kind == "p"}
    primary_keys |= view_primary_keys(keys, views)
    tables = {key.table: table(".".join(key.table)) for key in keys}
    return Schema(exposed, tables=tables, relationships=derive_relationships(keys, views, primary_keys, (), exposed))


FILMS, PEOPLE, ROLES = (
    primary(1, "films", "id"),
    primary(2, "people", "id"),
    primary(3, "roles", "film_id", "person_id"),
)
CINEMA = schema_of(
    FILMS,
    PEOPLE,
    ROLES,
    foreign("films_director_fkey", FILMS, "director_id", PEOPLE, "id"),
    foreign("films_writer_fkey", FILMS, "writer_id", PEOPLE, "id"),
    foreign("roles_film_fkey", ROLES, "film_id", FILMS, "id"),
    foreign("roles_person_fkey", ROLES, "person_id", PEOPLE, "id"),
)


def test_candidates_are_listed_in_one_order_with_all_that_the_message_needs() -> None:
    found = CINEMA.find_relationships(name("films"), "people", None)
    assert relationship_details(found) == [
        {
            "cardinality": "many-to-one",
            "embedding": "films with people",
            "relationship": "films_director_fkey using films(director_id) and people(id)",
        },
        {
            "cardinality": "many-to-one",
            "embedding": "films with people",
            "relationship": "films_writer_fkey using films(writer_id) and people(id)",
        },
        {
            "cardinality": "many-to-many",
            "embedding": "films with people",
            "relationship": "roles using roles_film_fkey(film_id) and roles_person_fkey(person_id)",
        },
    ]
    assert relationship_choices("people", found) == (
        "Try changing 'people' to one of the following: 'people!films_director_fkey', 'people!films_writer_fkey', "
        "'people!roles'. Find the desired relationship in the 'details' key."
    )


@pytest.mark.parametrize(
    ("target", "hint", "count"),
    [
        ("people", "films_writer_fkey", 1),
        ("people", "writer_id", 1),
        ("people", "id", 2),
        ("people", "roles", 1),
        ("writer_id", None, 1),
        ("films_writer_fkey", None, 1),
        ("writer_id", "people", 0),
        ("nobody", None, 0),
        ("people", "nothing", 0),
    ],
)
def test_targets_and_hints(target: str, hint: str | None, count: int) -> None:
    assert len(CINEMA.find_relationships(name("films"), target, hint)) == count


def test_a_view_cannot_be_named_by_its_constraint_or_column() -> None:
    shown = TracedView(name("humans"), {(2, 1): ("id",)})
    schema = schema_of(FILMS, PEOPLE, foreign("films_writer_fkey", FILMS, "writer_id", PEOPLE, "id"), views=(shown,))
    assert len(schema.find_relationships(name("films"), "humans", None)) == 1
    assert [one.target for one in schema.find_relationships(name("films"), "writer_id", None)] == [name("people")]


def test_composite_keys_cannot_be_named_by_a_column() -> None:
    shows, seats = primary(1, "shows", "day", "room"), primary(2, "seats", "id")
    schema = schema_of(shows, seats, foreign("seats_show_fkey", seats, "day,room", shows, "day,room"))
    assert len(schema.find_relationships(name("seats"), "shows", None)) == 1
    assert schema.find_relationships(name("seats"), "day", None) == ()
    assert schema.find_relationships(name("seats"), "shows", "day") == ()


def test_relationships_to_other_schemas_are_kept_apart() -> None:
    other = primary(5, "other.people", "id")
    schema = schema_of(
        FILMS, other, foreign("films_writer_fkey", FILMS, "writer_id", other, "id"), exposed=("api", "other")
    )
    assert schema.find_relationships(name("films"), "people", None) == ()
    assert len(schema.relationships[name("films"), "other"]) == 1


def test_a_unique_column_makes_a_one_to_one() -> None:
    unique = Key("u", "films_writer_key", 1, name("films"), ((10, "writer_id"),))
    schema = schema_of(FILMS, PEOPLE, unique, foreign("films_writer_fkey", FILMS, "writer_id", PEOPLE, "id"))
    (one,) = schema.find_relationships(name("people"), "films", None)
    assert isinstance(one, Relationship)
    assert (one.to_one, one.is_referenced) == (True, True)


# ---- overloads -------------------------------------------------------------------------------------------------------

_VOID = ReturnType(QualifiedName("pg_catalog", "void"))


def function(*parameters: Parameter) -> Function:
    return Function(name("f"), parameters, _VOID)


def required(text: str) -> Parameter:
    return Parameter(text, "integer", "integer")


def optional(text: str) -> Parameter:
    return Parameter(text, "integer", "integer", required=False)


def whole(kind: str) -> Function:
    return function(Parameter("", kind, kind))


NONE, ONE, TWO, BOTH = (
    function(),
    function(required("a")),
    function(required("a"), required("b")),
    function(required("a"), optional("c")),
)


@pytest.mark.parametrize(
    ("overloads", "keys", "content_type", "expected"),
    [
        ((NONE,), "", None, (NONE,)),
        ((NONE,), "a", None, ()),
        ((NONE,), "", "application/octet-stream", ()),
        ((ONE, TWO), "a", None, (ONE,)),
        ((ONE, TWO), "ab", None, (TWO,)),
        ((ONE, TWO), "b", None, ()),
        ((ONE, BOTH), "a", None, (ONE, BOTH)),
        ((ONE, BOTH), "ac", None, (BOTH,)),
        ((function(optional("a")),), "", None, (function(optional("a")),)),
        ((whole("jsonb"),), "xyz", "application/json", (whole("jsonb"),)),
        ((whole("jsonb"),), "xyz", None, ()),
        ((whole("json"), whole("jsonb")), "x", "application/json", (whole("json"), whole("jsonb"))),
        ((ONE, whole("json")), "a", "application/json", (ONE,)),
        ((whole("text"),), "", "text/plain", (whole("text"),)),
        ((whole("text"),), "", "text/xml", ()),
        ((whole("bytea"),), "", "application/octet-stream", (whole("bytea"),)),
    ],
)
def test_overloads(
    overloads: tuple[Function, ...], keys: str, content_type: str | None, expected: tuple[Function, ...]
) -> None:
    schema = Schema(("api",), functions={name("f"): overloads})
    assert schema.find_functions(name("f"), set(keys), content_type) == expected


def test_signatures_name_every_argument() -> None:
    assert function_signature(TWO) == "api.f(a => integer, b => integer)"


# ---- hints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "child", "hint"),
    [
        ("film", "people", "Perhaps you meant 'films' instead of 'film'."),
        ("films", "peopel", "Perhaps you meant 'people' instead of 'peopel'."),
        ("films", "people", None),
        ("noclosealternative", "people", None),
        ("films", "noclosealternative", None),
    ],
)
def test_hints_for_relationships(parent: str, child: str, hint: str | None) -> None:
    assert relationship_hint(CINEMA, name(parent), child) == hint


FUNCTIONS = Schema(
    ("api",),
    functions={
        name("test"): (
            function(required("val"), required("param"), required("name")),
            function(required("id"), required("attr")),
        ),
        name("another"): (NONE,),
        name("private.other"): (NONE,),
    },
)


@pytest.mark.parametrize(
    ("wanted", "keys", "hint"),
    [
        ("testt", "val", "api.test"),
        ("other", "", None),
        ("noclosealternative", "", None),
        ("test", "vall pqaram nam", "api.test(name, param, val)"),
        ("test", "val param", "api.test(name, param, val)"),
        ("test", "id attrs", "api.test(attr, id)"),
        ("test", "id", "api.test(attr, id)"),
        ("test", "noclosealternative", None),
    ],
)
def test_hints_for_functions(wanted: str, keys: str, hint: str | None) -> None:
    expected = None if hint is None else f"Perhaps you meant to call the function {hint}"
    assert function_hint(FUNCTIONS, name(wanted), keys.split()) == expected


def test_hints_for_tables_need_much_likeness_and_few_tables() -> None:
    assert table_hint(CINEMA, name("filmz")) == "Perhaps you meant the table 'api.films'"
    assert table_hint(CINEMA, name("peo")) is None
    crowded = Schema(("api",), tables={name(f"table_{at}"): table(f"table_{at}") for at in range(500)})
    assert table_hint(crowded, name("tables_1")) is None


def test_likeness_ignores_case_and_signs_but_returns_the_word_itself() -> None:
    words = FuzzySet(["Order_Items", "orders"])
    assert words.matches("order_items") == [(1.0, "Order_Items")]
    assert words.nearest("orderitems") == "Order_Items"
    assert FuzzySet([]).nearest("x") is None
    assert FuzzySet(["", "ab"]).nearest("ac", 0.4) == "ab"


# ---- handlers and names ----------------------------------------------------------------------------------------------


def test_handlers_bound_to_a_relation_come_first_but_need_the_default_select() -> None:
    anything = MediaHandler(name("any_agg"), None, "text/csv", "text/csv")
    bound = MediaHandler(name("films_agg"), name("films"), "text/csv", "text/csv")
    star = MediaHandler(name("star_agg"), name("people"), "*/*", "application/octet-stream")
    handlers = {(one.target, one.media_type): one for one in (anything, bound, star)}
    schema = Schema(("api",), media_handlers=handlers)
    assert schema.handler(name("films"), "text/csv", default_select=True) == bound
    assert schema.handler(name("films"), "text/csv", default_select=False) == anything
    assert schema.handler(name("people"), "image/png", default_select=True) == star
    assert schema.handler(name("films"), "image/png", default_select=True) is None


def test_results_are_planned_as_their_row_type_in_the_functions_schema() -> None:
    rows = Function(name("f"), (), ReturnType(name("private.films"), is_set=True, is_composite=True))
    assert rows.relation == name("films")
    assert (rows.returns_scalar, rows.returns_single, rows.returns_set_of_scalar) == (False, False, False)
    assert NONE.relation == name("f")
    assert NONE.returns_void


# ---- view trees ------------------------------------------------------------------------------------------------------

TREE = (
    "({QUERY :commandType 1 :rtable ({RANGETBLENTRY :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1} "
    ":resno 1 :resname deep :ressortgroupref 0 :resorigtbl 99 :resorigcol 9 :resjunk false})}}) :targetList "
    "({TARGETENTRY :expr {VAR :varno 1 :location 7} :resno 1 :resname a\\{b\\ :resno\\ 8 :ressortgroupref 0 "
    ":resorigtbl 16 :resorigcol 3 :resjunk false} {TARGETENTRY :expr {OPEXPR :args ({VAR :varno 1} {CONST :constvalue "
    "4 [ 1 0 0 0 ]})} :resno 2 :resname c :ressortgroupref 0 :resorigtbl 0 :resorigcol 0 :resjunk false}) "
    ":havingQual <>})"
)


def test_only_the_outermost_target_list_counts_and_expressions_have_no_origin() -> None:
    assert parse_origins(TREE) == {1: (16, 3)}


def test_views_over_views_are_followed_and_cycles_end() -> None:
    def tree(*origins: tuple[int, int]) -> str:
        entries = " ".join(
            f"{{TARGETENTRY :expr {{VAR}} :resno {at} :resname x :resorigtbl {relation} :resorigcol {column}}}"
            for at, (relation, column) in enumerate(origins, 1)
        )
        return f"({{QUERY :targetList ({entries})}})"

    views = {
        10: View(10, ("one", "two"), tree((1, 1), (1, 1))),
        11: View(11, ("three",), tree((10, 2))),
        12: View(12, ("round",), tree((13, 1))),
        13: View(13, ("round",), tree((12, 1))),
    }
    assert trace_columns(views) == {10: {(1, 1): ("one", "two")}, 11: {(1, 1): ("three",)}, 12: {}, 13: {}}
