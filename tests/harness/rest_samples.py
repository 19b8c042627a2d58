"""A schema cache made by hand, for pure tests of REST planning: publishers, authors, books, covers, tags, shelves."""

from __future__ import annotations

from collections.abc import Sequence

from socle_platform.config.rest import RestSettings
from socle_rest.plan import Plan, make_plan
from socle_rest.request import ApiRequest, RawRequest, parse_request
from socle_rest.schema import (
    AnyRelationship,
    Cardinality,
    Column,
    ComputedRelationship,
    Function,
    Junction,
    MediaHandler,
    Parameter,
    QualifiedName,
    RelationKind,
    Relationship,
    ReturnType,
    Schema,
    Table,
    Volatility,
)

SETTINGS = RestSettings(schemas=("api",), anon_role="anon")


def api(name: str) -> QualifiedName:
    return QualifiedName("api", name)


def _table(name: str, columns: Sequence[Column], key: tuple[str, ...] = ("id",), **changes: object) -> Table:
    facts: dict[str, object] = {"insertable": True, "updatable": True, "deletable": True, **changes}
    return Table(api(name), RelationKind.TABLE, {one.name: one for one in columns}, key, **facts)  # type: ignore[arg-type] # keywords of the test's own


def _column(name: str, kind: str = "text", *, default: str | None = None) -> Column:
    return Column(name, kind, kind, nullable=True, default=default)


_TABLES = (
    _table("publishers", [_column("id", "integer"), _column("name")]),
    _table(
        "books",
        [
            _column("id", "integer", default="nextval('api.books_id_seq'::regclass)"),
            _column("title"),
            _column("author_id", "integer"),
            _column("publisher_id", "integer"),
            _column("previous_id", "integer"),
            _column("facts", "jsonb"),
            _column("tags", "text[]"),
            _column("words", "tsvector"),
            _column("price", "api.money"),
        ],
        computed={"shout": "text", "search": "tsvector"},
    ),
    _table("authors", [_column("id", "integer"), _column("name"), _column("born", "date")]),
    _table("covers", [_column("book_id", "integer"), _column("image", "bytea")], ("book_id",)),
    _table("labels", [_column("id", "integer"), _column("name")]),
    _table("book_labels", [_column("book_id", "integer"), _column("label_id", "integer")], ("book_id", "label_id")),
    _table("reviews", [_column("id", "integer"), _column("book_id", "integer"), _column("stars", "integer")]),
    _table("seals", [_column("a", "integer"), _column("b", "integer"), _column("note")], ("a", "b")),
    _table("notes", [_column("text")], (), updatable=False, deletable=False),
)


def _key(near: str, column: str, target: str, *, constraint: str | None = None) -> tuple[Relationship, Relationship]:
    """A foreign key `near.column → target.id`, from both sides."""
    name = constraint or f"{near}_{column}_fkey"
    is_self = near == target
    return (
        Relationship(api(near), api(target), Cardinality.MANY_TO_ONE, name, ((column, "id"),), is_self),
        Relationship(api(target), api(near), Cardinality.ONE_TO_MANY, name, (("id", column),), is_self),
    )


def _relationships() -> dict[tuple[QualifiedName, str], tuple[AnyRelationship, ...]]:
    one_to_one = "covers_book_id_fkey"
    near = (("id", "book_id"),)
    far = (("id", "label_id"),)
    through = Junction(api("book_labels"), "book_labels_book_id_fkey", "book_labels_label_id_fkey", near, far)
    back = Junction(api("book_labels"), "book_labels_label_id_fkey", "book_labels_book_id_fkey", far, near)
    found: list[AnyRelationship] = [
        *_key("books", "author_id", "authors"),
        *_key("books", "publisher_id", "publishers"),
        *_key("books", "previous_id", "books"),
        *_key("reviews", "book_id", "books"),
        *_key("book_labels", "book_id", "books"),
        *_key("book_labels", "label_id", "labels"),
        Relationship(api("covers"), api("books"), Cardinality.ONE_TO_ONE, one_to_one, (("book_id", "id"),)),
        Relationship(
            api("books"), api("covers"), Cardinality.ONE_TO_ONE, one_to_one, (("id", "book_id"),), is_referenced=True
        ),
        Relationship(api("books"), api("labels"), Cardinality.MANY_TO_MANY, "", (), junction=through),
        Relationship(api("labels"), api("books"), Cardinality.MANY_TO_MANY, "", (), junction=back),
        ComputedRelationship(api("best_book"), api("authors"), api("books"), to_one=True),
        # two keys between the same tables, for ambiguity
        *_key("seals", "a", "labels"),
        *_key("seals", "b", "labels"),
    ]
    grouped: dict[tuple[QualifiedName, str], tuple[AnyRelationship, ...]] = {}
    for one in found:
        place = (one.table, one.target.schema)
        grouped[place] = (*grouped.get(place, ()), one)
    return grouped


_RECORD = ReturnType(QualifiedName("pg_catalog", "record"), is_set=True, is_composite=True)
_INTEGER = ReturnType(QualifiedName("pg_catalog", "int4"))


def _parameter(name: str, kind: str = "integer", *, required: bool = True, variadic: bool = False) -> Parameter:
    return Parameter(name, kind, kind, required, variadic)


FUNCTIONS = (
    Function(api("add"), (_parameter("a"), _parameter("b", required=False)), _INTEGER, Volatility.IMMUTABLE),
    Function(api("add"), (_parameter("a"), _parameter("b"), _parameter("c")), _INTEGER, Volatility.IMMUTABLE),
    Function(api("nothing"), (), ReturnType(QualifiedName("pg_catalog", "void"))),
    Function(api("pick"), (_parameter("n"),), ReturnType(api("books"), is_set=True, is_composite=True)),
    Function(api("table_of"), (_parameter("n"),), _RECORD, Volatility.STABLE),
    Function(api("numbers"), (), ReturnType(QualifiedName("pg_catalog", "int4"), is_set=True), Volatility.STABLE),
    Function(
        api("join_up"), (_parameter("sep", "text"), _parameter("parts", "text[]", variadic=True)), _INTEGER,
        has_variadic=True,
    ),
    Function(api("whole"), (_parameter("", "json"),), _INTEGER),
    Function(api("bytes"), (_parameter("", "bytea"),), _INTEGER),
    Function(api("twin"), (_parameter("a", "integer"),), _INTEGER),
    Function(api("twin"), (_parameter("a", "text"),), _INTEGER),
    Function(
        api("slow"), (), _INTEGER, isolation="serializable", settings=(("statement_timeout", "3s"),)
    ),
)  # fmt: skip


def make_schema() -> Schema:
    functions: dict[QualifiedName, tuple[Function, ...]] = {}
    for one in FUNCTIONS:
        functions[one.name] = (*functions.get(one.name, ()), one)
    money = QualifiedName("api", "money")
    return Schema(
        ("api",),
        tables={one.name: one for one in _TABLES},
        relationships=_relationships(),
        functions=functions,
        representations={
            ("api.money", "json"): QualifiedName("api", "json"),
            ("json", "api.money"): money,
            ("text", "api.money"): money,
        },
        media_handlers={
            (api("labels"), "application/vnd.label"): MediaHandler(
                api("label_agg"), api("labels"), "application/vnd.label", "application/vnd.label"
            ),
            (None, "text/html"): MediaHandler(api("html_agg"), None, "text/html", "text/html"),
        },
    )


SCHEMA = make_schema()


def request_of(
    method: str, url: str, body: bytes = b"", settings: RestSettings = SETTINGS, **headers: str
) -> ApiRequest:
    """The request; header names are given with `_` for `-`."""
    path, _, query = url.encode().partition(b"?")
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return parse_request(RawRequest(method, path, query, pairs, body), settings)


def plan_of(
    method: str, url: str, body: bytes = b"", settings: RestSettings = SETTINGS, **headers: str
) -> tuple[Plan, ApiRequest]:
    """The plan against SCHEMA."""
    request = request_of(method, url, body, settings, **headers)
    return make_plan(request, SCHEMA, settings), request
