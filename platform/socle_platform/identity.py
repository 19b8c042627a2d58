"""Who calls, and what the database may know about the call (contract rest.md §13)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller after verification.

    `role` is the database role (anon, authenticated, service_role or a custom one), `subject` is claims["sub"],
    `claims_json` is the text given to PostgreSQL as `request.jwt.claims` (`role` always present), `token` is the
    bearer token it was read from, if any.
    """

    role: str
    subject: str | None
    claims: Mapping[str, object]
    claims_json: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def anonymous(cls, role: str = "anon") -> Identity:
        """A caller that showed no token."""
        return cls.of_role(role)

    @classmethod
    def service(cls) -> Identity:
        """The role that passes row level security, for work on a caller's behalf that needs no caller."""
        return cls.of_role("service_role")

    @classmethod
    def of_role(cls, role: str) -> Identity:
        """An identity with a role and nothing else."""
        claims = {"role": role}
        return cls(role, None, MappingProxyType(claims), json.dumps(claims, separators=(",", ":")))


class RequestFacts(NamedTuple):
    """What SQL may see of the request (a tuple: it is made on every request, and a key of what is kept).

    Both JSON texts are objects; `headers_json` has lower-case names and no cookie.
    """

    method: str = "GET"
    path: str = "/"
    headers_json: str = "{}"
    cookies_json: str = "{}"


def quote_identifier(name: str) -> str:
    """A name as SQL reads it, in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def render_search_path(schemas: Iterable[str]) -> str:
    """The value of `search_path`: each schema quoted, in order."""
    return ", ".join([quote_identifier(schema) for schema in schemas])


def identity_settings(
    who: Identity,
    facts: RequestFacts,
    search_path: Sequence[str],
    extra: Mapping[str, str] = _NOTHING,
    *,
    role_settings: Mapping[str, str] = _NOTHING,
) -> tuple[tuple[str, str], ...]:
    """The transaction-local settings of one request as (name, value), in the order of contract rest.md §13.

    search_path; `role_settings` (what `ALTER ROLE … SET` says, set while still the login role); role; claims; method,
    path, headers, cookies; then `extra` (time zone, the called function's settings, `app.settings.*`) in its order.
    """
    return (
        ("search_path", render_search_path(search_path)),
        *role_settings.items(),
        ("role", who.role),
        ("request.jwt.claims", who.claims_json),
        ("request.method", facts.method),
        ("request.path", facts.path),
        ("request.headers", facts.headers_json),
        ("request.cookies", facts.cookies_json),
        *extra.items(),
    )
