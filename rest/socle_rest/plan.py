"""ApiRequest + Schema → Plan: everything decided, nothing asked of the database yet (pure; contract rest.md §17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from socle_rest.errors import Code, RestError
from socle_rest.hints import table_hint
from socle_rest.media import OPENAPI, Kind
from socle_rest.negotiate import Negotiated, media_type_error, negotiate
from socle_rest.plan_call import Call, find_function, plan_call
from socle_rest.plan_mutate import Mutation, plan_mutation
from socle_rest.plan_read import PlannedRead, plan_read
from socle_rest.request import Action
from socle_rest.schema import Volatility

if TYPE_CHECKING:
    from socle_platform.config.rest import RestSettings
    from socle_rest.request import ApiRequest
    from socle_rest.schema import Schema, Table


@dataclass(frozen=True, slots=True)
class RelationRead:
    """GET or HEAD of a relation."""

    read: PlannedRead
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class RelationMutation:
    """A write and the read of what it returned."""

    read: PlannedRead
    mutation: Mutation
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call and the read of what it answered."""

    read: PlannedRead
    call: Call
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class Inspection:
    """The OpenAPI document of the request's schema."""


@dataclass(frozen=True, slots=True)
class Description:
    """OPTIONS: the methods allowed."""

    allow: str


Plan = RelationRead | RelationMutation | FunctionCall | Inspection | Description
DatabasePlan = RelationRead | RelationMutation | FunctionCall


def make_plan(request: ApiRequest, schema: Schema, settings: RestSettings) -> Plan:
    """What to do for a request. Raises RestError."""
    match request.action:
        case Action.READ:
            return _plan_relation_read(request, schema, settings)
        case Action.INSERT | Action.UPSERT | Action.UPDATE | Action.DELETE:
            return _plan_relation_mutation(request, schema, settings)
        case Action.CALL | Action.CALL_BY_GET:
            return _plan_function_call(request, schema, settings)
        case Action.INSPECT:
            return _plan_inspection(request)
        case Action.DESCRIBE_RELATION:
            return Description(_methods_of(_find_table(request, schema)))
        case Action.DESCRIBE_FUNCTION:
            call = find_function(request, schema)
            volatile = call.volatility is Volatility.VOLATILE
            return Description("OPTIONS,POST" if volatile else "OPTIONS,GET,HEAD,POST")
        case Action.DESCRIBE_ROOT:
            return Description("OPTIONS,GET,HEAD")


def _find_table(request: ApiRequest, schema: Schema) -> Table:
    found = schema.table(request.target)
    if found is None:
        name = f"{request.target.schema}.{request.target.name}"
        raise RestError(Code.NO_TABLE, hint=table_hint(schema, request.target), table=name)
    return found


def _check_preferences(request: ApiRequest) -> None:
    if request.preferences.is_strict and request.preferences.invalid:
        raise RestError(Code.PREFERENCES, details=f"Invalid preferences: {', '.join(request.preferences.invalid)}")


def _plan_relation_read(request: ApiRequest, schema: Schema, settings: RestSettings) -> RelationRead:
    table = _find_table(request, schema)
    read = plan_read(request, table.name, schema, settings)
    negotiated = negotiate(
        request,
        table.name,
        schema,
        default_select=read.plan.selects_everything,
        plan_enabled=settings.plan_enabled,
    )
    _check_preferences(request)
    return RelationRead(read, negotiated)


def _plan_relation_mutation(request: ApiRequest, schema: Schema, settings: RestSettings) -> RelationMutation:
    table = _find_table(request, schema)
    read = plan_read(request, table.name, schema, settings)
    mutation = plan_mutation(request, table, schema, read.plan)
    _check_preferences(request)
    negotiated = negotiate(
        request,
        table.name,
        schema,
        default_select=read.plan.selects_everything,
        plan_enabled=settings.plan_enabled,
    )
    return RelationMutation(read, mutation, negotiated)


def _plan_function_call(request: ApiRequest, schema: Schema, settings: RestSettings) -> FunctionCall:
    function = find_function(request, schema)
    read = plan_read(request, function.relation, schema, settings)
    call = plan_call(request, function, read.plan)
    negotiated = negotiate(
        request,
        function.relation,
        schema,
        default_select=read.plan.selects_everything,
        plan_enabled=settings.plan_enabled,
    )
    _check_preferences(request)
    if request.preferences.max_affected is not None and request.preferences.is_strict and function.returns_single:
        raise RestError(Code.MAX_AFFECTED_SINGLE)
    return FunctionCall(read, call, negotiated)


def _plan_inspection(request: ApiRequest) -> Inspection:
    produced = {Kind.ANY, Kind.JSON, OPENAPI.kind}
    if not any(one.kind in produced for one in request.accept):
        raise media_type_error(request)
    return Inspection()


def _methods_of(table: Table) -> str:
    methods = ["OPTIONS,GET,HEAD"]
    if table.insertable:
        methods.append("POST")
    if table.insertable and table.updatable and table.primary_key:
        methods.append("PUT")
    if table.updatable:
        methods.append("PATCH")
    if table.deletable:
        methods.append("DELETE")
    return ",".join(methods)
