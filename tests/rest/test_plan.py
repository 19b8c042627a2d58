"""ApiRequest + Schema → Plan: relationships, shapes, functions, negotiation (contract rest.md §2, §8, §9, §10)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.rest_samples import SETTINGS, api, plan_of
from socle_platform.config.rest import RestSettings
from socle_rest.errors import Code, RestError
from socle_rest.negotiate import Builtin
from socle_rest.plan import Description, FunctionCall, Inspection, RelationMutation, RelationRead
from socle_rest.plan_call import JsonArguments, TextArguments, WholeBody
from socle_rest.plan_mutate import Conflict, Delete, Insert, Update
from socle_rest.ranges import Range
from socle_rest.readplan import Embed, EmbedIsNull, PlannedFilter, Shape
from socle_rest.schema import MediaHandler

AGGREGATES = replace(SETTINGS, aggregates_enabled=True)


def read(url: str, settings: RestSettings = SETTINGS, **headers: str) -> RelationRead:
    plan, _ = plan_of("GET", url, b"", settings, **headers)
    assert isinstance(plan, RelationRead)
    return plan


def write(method: str, url: str, body: bytes = b"{}", **headers: str) -> RelationMutation:
    plan, _ = plan_of(method, url, body, SETTINGS, **headers)
    assert isinstance(plan, RelationMutation)
    return plan


def call(method: str, url: str, body: bytes = b"", **headers: str) -> FunctionCall:
    plan, _ = plan_of(method, url, body, SETTINGS, **headers)
    assert isinstance(plan, FunctionCall)
    return plan


def refused(method: str, url: str, body: bytes = b"", settings: RestSettings = SETTINGS, **headers: str) -> RestError:
    with pytest.raises(RestError) as raised:
        plan_of(method, url, body, settings, **headers)
    return raised.value


def embeds(url: str) -> tuple[Embed, ...]:
    return read(url).read.plan.embeds


# --- embeds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shape", "target", "name"),
    [
        ("/books?select=authors(*)", Shape.OBJECT, "authors", "authors"),
        ("/books?select=author_id(*)", Shape.OBJECT, "authors", "author_id"),
        ("/books?select=books_author_id_fkey(*)", Shape.OBJECT, "authors", "books_author_id_fkey"),
        ("/books?select=a:authors!author_id(*)", Shape.OBJECT, "authors", "a"),
        ("/books?select=reviews(*)", Shape.ARRAY, "reviews", "reviews"),
        ("/books?select=covers(*)", Shape.OBJECT, "covers", "covers"),
        ("/covers?select=books(*)", Shape.OBJECT, "books", "books"),
        ("/books?select=labels(*)", Shape.ARRAY, "labels", "labels"),
        ("/books?select=labels!book_labels(*)", Shape.ARRAY, "labels", "labels"),
        ("/books?select=next:books(*)", Shape.ARRAY, "books", "next"),
        ("/books?select=previous_id(*)", Shape.OBJECT, "books", "previous_id"),
        ("/authors?select=best_book(*)", Shape.OBJECT, "books", "best_book"),
        ("/books?select=...authors(name)", Shape.SPREAD_ONE, "authors", "authors"),
        ("/books?select=...reviews(stars)", Shape.SPREAD_MANY, "reviews", "reviews"),
    ],
)
def test_relationships(url: str, shape: Shape, target: str, name: str) -> None:
    (embed,) = embeds(url)
    assert (embed.shape, embed.plan.table, embed.name) == (shape, api(target), name)


def test_no_relationship() -> None:
    error = refused("GET", "/books?select=author(*)")
    assert error.code is Code.NO_RELATIONSHIP
    assert error.message == "Could not find a relationship between 'books' and 'author' in the schema cache"
    assert error.details == (
        "Searched for a foreign key relationship between 'books' and 'author' in the schema 'api', "
        "but no matches were found."
    )
    assert error.hint == "Perhaps you meant 'authors' instead of 'author'."
    hinted = refused("GET", "/books?select=authors!nope(*)")
    assert "using the hint 'nope'" in str(hinted.details)


def test_ambiguous_relationship() -> None:
    error = refused("GET", "/labels?select=seals(*)")
    assert (error.code, error.status) == (Code.AMBIGUOUS_RELATIONSHIP, 300)
    assert isinstance(error.details, list)
    assert [one["cardinality"] for one in error.details] == ["one-to-many", "one-to-many"]
    assert "'seals!seals_a_fkey', 'seals!seals_b_fkey'" in str(error.hint)


def test_embed_tree() -> None:
    (authors,) = embeds("/books?select=id,authors!inner(name,books(id,reviews()))&authors.books.limit=2")
    assert authors.is_inner
    (books,) = authors.plan.embeds
    assert books.plan.range == Range(0, 1)
    (reviews,) = books.plan.embeds
    assert reviews.is_hidden
    assert not books.is_hidden
    assert books.parent.name == "authors_1"
    assert (authors.plan.alias, books.plan.alias, reviews.plan.alias) == ("authors_1", "books_2", "reviews_3")


def test_names_of_subqueries_are_short_and_differ_where_the_answers_keys_do() -> None:
    """Siblings of one key share a name: PostgreSQL refuses them (42712), and no value is lost silently."""
    long = "x" * 80
    found = embeds(f"/books?select={long}:authors(*),authors(*),a:authors(*),a:publishers(*)")
    names = [one.lateral for one in found]
    assert len(set(names)) == 3
    assert names[2] == names[3] == "books_a_1"
    assert all(len(name.encode()) <= 63 for name in names)


def test_many_to_many_of_the_same_name_as_its_parent() -> None:
    (labels,) = embeds("/books?select=labels(books(labels(*)))")
    (books,) = labels.plan.embeds
    (inner,) = books.plan.embeds
    assert (labels.plan.alias, books.plan.alias, inner.plan.alias) == ("labels", "books", "labels")
    assert {one.right[0].name for one in inner.joins} == {"pgrst_junction", "books"}


def test_filters_find_their_embed() -> None:
    plan = read("/books?select=a:authors(*),reviews(*)&id=eq.1&a.name=eq.x&reviews.or=(stars.gt.3,stars.is.null)")
    authors, reviews = plan.read.plan.embeds
    assert len(plan.read.plan.where) == len(authors.plan.where) == len(reviews.plan.where) == 1
    assert refused("GET", "/books?b.name=eq.x").code is Code.NOT_EMBEDDED
    assert refused("GET", "/books?select=authors(*)&authors.x.limit=3").hint == (
        "Verify that 'x' is included in the 'select' query parameter."
    )


def test_legacy_target_names() -> None:
    url = "/books?select=a:authors(*)&authors.name=eq.x"
    assert read(url).read.legacy_names == (("authors", "a"),)
    assert read("/books?select=a:authors(*)&a.name=eq.x").read.legacy_names == ()
    error = refused("GET", url, settings=replace(SETTINGS, legacy_target_names=False))
    assert error.details == "Target names are not allowed in filters if they have an alias"
    assert error.hint == "Change 'authors' to 'a' in filters, orders or limits."


def test_null_filters_on_embeds() -> None:
    (condition,) = read("/books?select=authors(*)&authors=is.null").read.plan.where
    assert condition == EmbedIsNull(0, negated=False)
    (negated,) = read("/books?select=id,reviews(),authors()&authors=not.is.null").read.plan.where
    assert negated == EmbedIsNull(1, negated=True)
    (plain,) = read("/books?select=authors(*)&authors=is.not_null").read.plan.where
    assert isinstance(plain, PlannedFilter)
    (column,) = read("/books?author_id=is.null").read.plan.where
    assert isinstance(column, PlannedFilter)


def test_related_order() -> None:
    (order,) = read("/books?select=a:authors(name)&order=a(name).desc").read.plan.order
    assert (order.embed, order.field.name, order.direction) == ("books_a_1", "name", "desc")
    error = refused("GET", "/books?select=reviews(*)&order=reviews(stars)")
    assert error.code is Code.ORDER_TO_MANY
    assert error.details == "'books' and 'reviews' do not form a many-to-one or one-to-one relationship"
    assert refused("GET", "/books?order=authors(name)").code is Code.NOT_EMBEDDED


def test_max_rows_caps_every_level() -> None:
    plan = read("/books?select=reviews(*)&limit=99&reviews.limit=2", replace(SETTINGS, max_rows=5)).read.plan
    assert plan.range == Range(0, 4)
    assert plan.embeds[0].plan.range == Range(0, 1)


# --- fields ----------------------------------------------------------------------------------------------------------


def test_types_decide_about_json_access_and_search() -> None:
    plan = read("/books?facts->>a=eq.1&tags->>0=eq.1&words=fts.x&title=fts(french).x&search=fts.x").read.plan
    fields = [one.field for one in plan.where if isinstance(one, PlannedFilter)]
    assert [one.to_jsonb for one in fields[:2]] == [False, True]
    assert [one.is_searched for one in fields[2:]] == [False, True, False]
    assert fields[3].search_language == "french"


def test_representations() -> None:
    plan = read("/books?select=price,p:price&price=eq.1").read.plan
    assert [(one.field.transform, one.alias) for one in plan.select] == [(api("json"), "price"), (api("json"), "p")]
    (condition,) = plan.where
    assert isinstance(condition, PlannedFilter)
    assert condition.field.transform == api("money")
    assert len(read("/books").read.plan.select) == 9  # written out, since one column has a representation
    assert len(read("/authors").read.plan.select) == 1


@pytest.mark.parametrize(
    ("select", "alias"),
    [("facts->a->>b", "b"), ("facts->a->0", "a"), ("facts->0", "facts"), ("x:facts->a", "x"), ("facts", None)],
)
def test_automatic_aliases(select: str, alias: str | None) -> None:
    assert read(f"/books?select={select}").read.plan.select[0].alias == alias


# --- aggregates and spreads ------------------------------------------------------------------------------------------


def test_aggregates_have_to_be_enabled() -> None:
    for select in ("count()", "authors(id.sum())", "...reviews(stars.avg())"):
        assert refused("GET", f"/books?select={select}").code is Code.AGGREGATES_DISABLED
    assert read("/books?select=count()", AGGREGATES).read.plan.select[0].aggregate == "count"


def test_star_is_written_out_beside_an_aggregate() -> None:
    plan = read("/authors?select=*,count()", AGGREGATES).read.plan
    assert [one.output_name for one in plan.select] == ["id", "name", "born", "*"]


def test_aggregates_of_a_spread_are_hoisted() -> None:
    plan = read("/reviews?select=book_id,...books(price.sum(),...authors(count()))", AGGREGATES).read.plan
    (books,) = plan.embeds
    assert all(one.aggregate is None for one in books.plan.select)
    assert [(one.name, one.aggregate) for one in books.spread_select] == [("sum", "sum"), ("count", "count")]
    (authors,) = books.plan.embeds
    assert [one.aggregate for one in authors.spread_select] == [None]
    assert authors.plan.select[0].field.is_whole_row


def test_aggregates_of_a_to_many_spread_are_not_there() -> None:
    error = refused("GET", "/books?select=...reviews(stars.sum())", settings=AGGREGATES)
    assert error.code is Code.NOT_IMPLEMENTED
    nested = refused("GET", "/authors?select=...books(...publishers(id.sum()))", settings=AGGREGATES)
    assert nested.code is Code.NOT_IMPLEMENTED


def test_order_of_a_to_many_spread_moves_out() -> None:
    (reviews,) = embeds("/books?select=...reviews(stars)&reviews.order=id.desc")
    assert reviews.plan.order == ()
    assert [one.field.name for one in reviews.spread_order] == ["pgrst_order_1"]
    assert [one.field.name for _, one in reviews.extra_select] == ["id"]


# --- mutations -------------------------------------------------------------------------------------------------------


def test_insert() -> None:
    plan = write("POST", "/authors", b'[{"name":"x","id":1}]', prefer="return=representation")
    assert isinstance(plan.mutation, Insert)
    assert [one.name for one in plan.mutation.columns] == ["id", "name"]
    assert plan.mutation.returning == ("*",)
    assert plan.mutation.conflict is None
    assert write("POST", "/books", b"{}").mutation.returning == ()


def test_unknown_columns_and_tables() -> None:
    error = refused("POST", "/books", b'{"nope":1}')
    assert (error.code, error.message) == (
        Code.NO_COLUMN,
        "Could not find the 'nope' column of 'books' in the schema cache",
    )
    missing = refused("DELETE", "/bookz")
    assert (missing.code, missing.status, missing.hint) == (
        Code.NO_TABLE,
        404,
        "Perhaps you meant the table 'api.books'",
    )


@pytest.mark.parametrize(
    ("url", "prefer", "conflict"),
    [
        ("/books", "resolution=merge-duplicates", Conflict(("id",), merges=True)),
        ("/books", "resolution=ignore-duplicates", Conflict(("id",), merges=False)),
        ("/books?on_conflict=title,id", "resolution=merge-duplicates", Conflict(("title", "id"), merges=True)),
        ("/books?on_conflict=title", "", None),
        ("/notes", "resolution=merge-duplicates", None),
    ],
)
def test_upsert(url: str, prefer: str, conflict: Conflict | None) -> None:
    mutation = write("POST", url, b"[]", prefer=prefer).mutation
    assert isinstance(mutation, Insert)
    assert mutation.conflict == conflict


def test_put() -> None:
    mutation = write("PUT", "/books?id=eq.1", b'{"id":1,"title":"x"}').mutation
    assert isinstance(mutation, Insert)
    assert (mutation.is_put, mutation.counts_inserted, len(mutation.conditions)) == (True, True, 1)
    both = write("PUT", "/seals?b=eq.1&a=eq.2", b'{"a":2,"b":1}').mutation
    assert isinstance(both, Insert)
    assert len(both.conditions) == 2


@pytest.mark.parametrize(
    "query", ["", "?id=gt.1", "?id=not.eq.1", "?title=eq.x", "?id=eq.1&title=eq.x", "?and=(id.eq.1)", "?id=eq(any).1"]
)
def test_put_filters(query: str) -> None:
    assert refused("PUT", f"/books{query}", b'{"id":1}').code is Code.PUT_FILTERS
    assert refused("PUT", "/notes?text=eq.x", b'{"text":"x"}').code is Code.PUT_FILTERS


def test_update_and_delete() -> None:
    update = write("PATCH", "/books?id=eq.1&or=(id.eq.2)", b'{"title":"x"}', prefer="missing=default").mutation
    assert isinstance(update, Update)
    assert (len(update.where), update.applies_defaults) == (2, True)
    delete = write("DELETE", "/books?id=eq.1&limit=3&offset=1").mutation
    assert isinstance(delete, Delete)
    assert len(delete.where) == 1


def test_returning_has_what_the_read_needs() -> None:
    def returning(select: str, order: str = "") -> tuple[str, ...]:
        url = f"/books?select={select}{order}"
        return write("POST", url, b"{}", prefer="return=representation").mutation.returning

    assert returning("title") == ("id", "title")
    assert returning("title,authors(name)") == ("author_id", "id", "title")
    assert returning("labels(name)") == ("id",)
    assert returning("title", "&order=tags") == ("id", "tags", "title")
    for select in ("*,books(*)", "id,best_book(id)"):
        plan = write("POST", f"/authors?select={select}", b"{}", prefer="return=representation")
        assert plan.mutation.returning == ("*",)


def test_root_filters_of_a_mutation_are_not_those_of_its_read() -> None:
    plan = write("PATCH", "/books?id=eq.1&authors.name=eq.x&select=id,authors(*)", b"{}")
    assert plan.read.plan.where == ()
    assert len(plan.read.plan.embeds[0].plan.where) == 1
    assert plan.read.plan.source.name == "pgrst_source"


# --- calls -----------------------------------------------------------------------------------------------------------


def test_overloads() -> None:
    assert len(call("GET", "/rpc/add?a=1").call.function.parameters) == 2
    assert len(call("GET", "/rpc/add?a=1&b=2&c=3").call.function.parameters) == 3
    assert len(call("POST", "/rpc/add", b'{"a":1,"b":2}').call.function.parameters) == 2
    assert refused("GET", "/rpc/twin?a=1").code is Code.AMBIGUOUS_FUNCTION


def test_arguments() -> None:
    text = call("GET", "/rpc/join_up?sep=x&sep=-&parts=a&parts=b").call.arguments
    assert isinstance(text, TextArguments)
    assert [value for _, value in text.values] == ["-", ("a", "b")]
    form = call(
        "POST", "/rpc/join_up", b"parts=a&sep=-", content_type="application/x-www-form-urlencoded"
    ).call.arguments
    assert isinstance(form, TextArguments)
    assert [value for _, value in form.values] == ["-", ("a",)]
    assert isinstance(call("POST", "/rpc/add", b'{"a":1}').call.arguments, JsonArguments)
    assert isinstance(call("POST", "/rpc/whole", b'{"x":1}').call.arguments, WholeBody)
    raw = call("POST", "/rpc/bytes", b"\x00\xff", content_type="application/octet-stream").call.arguments
    assert isinstance(raw, WholeBody)
    assert raw.body == b"\x00\xff"


def test_no_function() -> None:
    error = refused("POST", "/rpc/adds", b'{"a":1}')
    assert error.message == "Could not find the function api.adds(a) in the schema cache"
    assert error.details == (
        "Searched for the function api.adds with parameter a or with a single unnamed json/jsonb parameter, "
        "but no matches were found in the schema cache."
    )
    get = refused("GET", "/rpc/add?x=1&y=2")
    assert get.details == (
        "Searched for the function api.add with parameters x, y, but no matches were found in the schema cache."
    )
    assert refused("GET", "/rpc/nope").message == (
        "Could not find the function api.nope without parameters in the schema cache"
    )
    raw = refused("POST", "/rpc/add", b"x", content_type="text/plain")
    assert (raw.message, raw.hint) == ("Could not find the function api.add in the schema cache", None)
    assert "with a single unnamed text parameter" in str(raw.details)


def test_transaction_mode_of_calls() -> None:
    assert call("GET", "/rpc/pick?n=1").call.read_only
    assert not call("POST", "/rpc/pick", b'{"n":1}').call.read_only
    assert call("POST", "/rpc/add", b'{"a":1}').call.read_only


def test_columns_of_a_call() -> None:
    assert call("GET", "/rpc/pick?n=1&select=title&author_id=eq.1").call.returning == ("author_id", "title")
    assert call("GET", "/rpc/pick?n=1&select=title,authors(*)").call.returning == ("author_id", "title")
    assert call("GET", "/rpc/table_of?n=1").call.returning == ("*",)
    assert call("GET", "/rpc/table_of?n=1&or=(a.eq.1,b.eq.2)&select=c").call.returning == ("a", "b", "c")


def test_max_affected_needs_a_set() -> None:
    strict = "handling=strict, max-affected=1"
    assert refused("POST", "/rpc/add", b'{"a":1}', prefer=strict).code is Code.MAX_AFFECTED_SINGLE
    assert call("POST", "/rpc/pick", b'{"n":1}', prefer=strict)


# --- the rest --------------------------------------------------------------------------------------------------------


def test_strict_handling() -> None:
    error = refused("GET", "/books", prefer="handling=strict, nope, other")
    assert (error.code, error.details) == (Code.PREFERENCES, "Invalid preferences: nope, other")
    assert read("/books", prefer="nope")


@pytest.mark.parametrize(
    ("url", "accept", "handler"),
    [
        ("/authors", "application/json", Builtin.JSON),
        ("/authors", "*/*", Builtin.JSON),
        ("/authors", "text/csv", Builtin.CSV),
        ("/authors", "application/geo+json", Builtin.GEOJSON),
        ("/authors", "application/vnd.pgrst.object+json", Builtin.OBJECT),
        ("/authors", "application/vnd.pgrst.array+json;nulls=stripped", Builtin.STRIPPED_ARRAY),
        ("/authors", "text/html", "html_agg"),
        ("/labels", "application/vnd.label", "label_agg"),
        ("/labels?select=*", "application/vnd.nope, application/vnd.label", "label_agg"),
    ],
)
def test_negotiation(url: str, accept: str, handler: Builtin | str) -> None:
    found = read(url, accept=accept).negotiated.handler
    assert (found.function.name if isinstance(found, MediaHandler) else found) == handler


@pytest.mark.parametrize(
    ("method", "url", "accept"),
    [
        ("GET", "/authors", "text/nope"),
        ("GET", "/labels?select=id", "application/vnd.label"),
        ("POST", "/authors", "text/nope"),
        ("GET", "/authors", 'application/vnd.pgrst.plan+text; for="application/json"'),
        ("GET", "/", "text/csv"),
    ],
)
def test_nothing_acceptable(method: str, url: str, accept: str) -> None:
    error = refused(method, url, b"{}", accept=accept)
    assert (error.code, error.message) == (Code.MEDIA_TYPE, f"None of these media types are available: {accept}")


def test_no_body_where_none_is_shown() -> None:
    head, _ = plan_of("HEAD", "/books")
    assert isinstance(head, RelationRead)
    assert head.negotiated.handler is Builtin.NOTHING
    assert write("POST", "/books").negotiated.handler is Builtin.NOTHING


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("/books", "OPTIONS,GET,HEAD,POST,PUT,PATCH,DELETE"),
        ("/notes", "OPTIONS,GET,HEAD,POST"),
        ("/rpc/nothing", "OPTIONS,POST"),
        ("/rpc/numbers", "OPTIONS,GET,HEAD,POST"),
        ("/", "OPTIONS,GET,HEAD"),
    ],
)
def test_descriptions(url: str, allow: str) -> None:
    assert plan_of("OPTIONS", url)[0] == Description(allow)


def test_inspection() -> None:
    assert plan_of("GET", "/")[0] == Inspection()
