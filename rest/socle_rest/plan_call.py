"""Function calls, decided: which overload, which arguments (contract rest.md §9; pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from socle_rest.errors import Code, RestError
from socle_rest.hints import function_hint, function_signature
from socle_rest.media import Kind
from socle_rest.plan_mutate import needed_columns
from socle_rest.readplan import EmbedIsNull, PlannedFilter
from socle_rest.request import Action
from socle_rest.schema import RAW_BODY_TYPES, Volatility

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from socle_rest.readplan import PlannedCondition, ReadPlan
    from socle_rest.request import ApiRequest
    from socle_rest.schema import Function, Parameter, Schema


@dataclass(frozen=True, slots=True)
class TextArguments:
    """Arguments of a query string or form: a value each, a tuple for the variadic one."""

    values: tuple[tuple[Parameter, str | tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class JsonArguments:
    """Arguments by the keys of a JSON object, in the function's order."""

    parameters: tuple[Parameter, ...]
    body: bytes
    is_object: bool


@dataclass(frozen=True, slots=True)
class WholeBody:
    """The single unnamed argument."""

    parameter: Parameter
    body: bytes


Arguments = TextArguments | JsonArguments | WholeBody


@dataclass(frozen=True, slots=True)
class Call:
    """`returning` are the columns read of the result, `*` for all."""

    function: Function
    arguments: Arguments
    returning: tuple[str, ...]
    read_only: bool


def find_function(request: ApiRequest, schema: Schema) -> Function:
    """The overload to call. Raises RestError (PGRST202, PGRST203)."""
    keys = _argument_names(request)
    content_type = request.content_type.essence if request.action is Action.CALL else None
    found = schema.find_functions(request.target, keys, content_type)
    if len(found) == 1:
        return found[0]
    if found:
        raise RestError(
            Code.AMBIGUOUS_FUNCTION,
            hint=(
                "Try renaming the parameters or the function itself in the database so function overloading can be "
                "resolved"
            ),
            candidates=", ".join(function_signature(one) for one in found),
        )
    raise _no_function(request, schema, sorted(keys), content_type)


def _argument_names(request: ApiRequest) -> frozenset[str]:
    if request.action is Action.CALL:
        return request.keys
    return frozenset(name for name, _ in request.query.arguments)


def _no_function(request: ApiRequest, schema: Schema, keys: list[str], content_type: str | None) -> RestError:
    name = f"{request.target.schema}.{request.target.name}"
    listed = ", ".join(keys)
    takes_whole_body = content_type in RAW_BODY_TYPES
    named = f"{name}({listed})" if keys else f"{name} without parameters"
    searched = f" with parameter{'s' if len(keys) > 1 else ''} {listed}" if keys else " without parameters"
    whole = {
        Kind.TEXT: " with a single unnamed text parameter",
        Kind.XML: " with a single unnamed xml parameter",
        Kind.OCTETS: " with a single unnamed bytea parameter",
        Kind.JSON: f"{searched} or with a single unnamed json/jsonb parameter",
    }
    how = whole.get(request.content_type.kind, searched) if content_type is not None else searched
    return RestError(
        Code.NO_FUNCTION,
        details=f"Searched for the function {name}{how}, but no matches were found in the schema cache.",
        hint=None if takes_whole_body else function_hint(schema, request.target, keys),
        signature=name if takes_whole_body else named,
    )


def plan_call(request: ApiRequest, function: Function, read: ReadPlan) -> Call:
    """The call with its arguments."""
    by_get = request.action is Action.CALL_BY_GET
    names = needed_columns(read)
    if names and names != ("*",):
        names = tuple(sorted({*names, *_filtered_names(read.where)}))
    return Call(
        function=function,
        arguments=_arguments(request, function),
        returning=names or ("*",),
        read_only=by_get or function.volatility is not Volatility.VOLATILE,
    )


def _arguments(request: ApiRequest, function: Function) -> Arguments:
    parameters = function.parameters
    payload = request.payload
    pairs = request.query.arguments if request.action is Action.CALL_BY_GET else payload.pairs if payload else None
    if len(parameters) == 1 and not parameters[0].name:
        body = payload.text if payload is not None and pairs is None else orjson.dumps(dict(pairs or ()))
        return WholeBody(parameters[0], body)
    if pairs is not None:
        return TextArguments(tuple(_text_arguments(parameters, pairs)))
    assert payload is not None  # a call by POST has a body, if only an empty one
    given = tuple(one for one in parameters if one.name in request.keys)
    return JsonArguments(given, payload.text, payload.is_object)


def _text_arguments(
    parameters: Iterable[Parameter], pairs: tuple[tuple[str, str], ...]
) -> Iterator[tuple[Parameter, str | tuple[str, ...]]]:
    """A repeated name gives the variadic argument all its values, any other one its last."""
    for parameter in parameters:
        values = [value for name, value in pairs if name == parameter.name]
        if values:
            yield parameter, tuple(values) if parameter.variadic else values[-1]


def _filtered_names(conditions: Iterable[PlannedCondition]) -> Iterator[str]:
    for condition in conditions:
        if isinstance(condition, PlannedFilter):
            yield condition.field.name
        elif not isinstance(condition, EmbedIsNull):
            yield from _filtered_names(condition.children)
