"""Call → the SELECT that calls the function (contract rest.md §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_rest.fields import PlannedField
from socle_rest.plan_call import JsonArguments, TextArguments, WholeBody
from socle_rest.query_filter import array_literal
from socle_rest.schema import QualifiedName
from socle_rest.sql_body import body_rows_sql
from socle_rest.statement import BODY, column_of, ident, qualified

if TYPE_CHECKING:
    from socle_rest.plan_call import Call
    from socle_rest.schema import Parameter
    from socle_rest.statement import Writer

_RESULT = QualifiedName("", "pgrst_call")
SCALAR = "pgrst_scalar"
"""The column that a result without columns gets."""


def call_sql(write: Writer, call: Call) -> str:
    """The statement that goes into `pgrst_source`."""
    function = call.function
    is_scalar = function.returns_scalar or function.returns_set_of_scalar
    columns = SCALAR if is_scalar else ", ".join([column_of(_RESULT, name) for name in call.returning])
    return f"SELECT {f'pgrst_call.{SCALAR}' if is_scalar else columns} {_from_sql(write, call, is_scalar=is_scalar)}"


def _from_sql(write: Writer, call: Call, *, is_scalar: bool) -> str:
    match call.arguments:
        case WholeBody(parameter, body):
            return f"FROM {_invocation(call, _whole_body(write, parameter, body), is_scalar=is_scalar)}"
        case TextArguments(values):
            texts = [f"{_named(parameter)}{_text_value(write, parameter, value)}" for parameter, value in values]
            return f"FROM {_invocation(call, ', '.join(texts), is_scalar=is_scalar)}"
        case JsonArguments(()):
            return f"FROM {_invocation(call, '', is_scalar=is_scalar)}"
        case JsonArguments(parameters, body, is_object):
            fields = [PlannedField(one.name, type=one.cast) for one in parameters]
            rows = body_rows_sql(write, body, fields, is_object=is_object, first_only=True)
            names = ", ".join([f"{_named(one)}pgrst_body.{ident(one.name)}" for one in parameters])
            return f"{rows}, LATERAL {_invocation(call, names, is_scalar=is_scalar)}"


def _invocation(call: Call, arguments: str, *, is_scalar: bool) -> str:
    invoked = f"{qualified(call.function.name)}({arguments})"
    return f"(SELECT {invoked} {SCALAR}) pgrst_call" if is_scalar else f"{invoked} pgrst_call"


def _named(parameter: Parameter) -> str:
    return f"{'VARIADIC ' if parameter.variadic else ''}{ident(parameter.name)} := "


def _whole_body(write: Writer, parameter: Parameter, body: bytes) -> str:
    """Bytes travel in PostgreSQL's hexadecimal form."""
    value = b"\\x" + body.hex().encode() if parameter.type == "bytea" else body
    return f"{write.param(value, BODY)}::{parameter.type}"


def _text_value(write: Writer, parameter: Parameter, value: str | tuple[str, ...]) -> str:
    text = value if isinstance(value, str) else array_literal(value)
    return f"{write.param(text)}::{parameter.cast}"
