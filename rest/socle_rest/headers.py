"""Response headers that follow from the request alone, whatever the database answers (contract rest.md §7, §11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from socle_rest.plan import FunctionCall, RelationMutation
from socle_rest.plan_mutate import Delete, Insert, Update
from socle_rest.prefer import Preferences, preference_applied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from socle_rest.media import MediaType
    from socle_rest.plan import DatabasePlan
    from socle_rest.request import ApiRequest

Header = tuple[bytes, bytes]

_PATH_SAFE = "!$&'()*+,;=:@"
"""What a path segment may hold as it is (RFC 3986 §3.3): names are left as they are where that is possible."""
VARY: Header = (b"vary", b"Accept, Prefer, Range")


@dataclass(frozen=True, slots=True)
class FixedHeaders:
    """`content` goes with a body, `always` with every answer; `path` is how the resource is written in locations."""

    path: str
    content: tuple[Header, ...]
    always: tuple[Header, ...]


def fixed_headers(plan: DatabasePlan, request: ApiRequest, *, warns: bool) -> FixedHeaders:
    """The headers for a plan. `warns`: of embeds that were named the legacy way."""
    return FixedHeaders(
        path=f"/{quote(request.target.name, safe=_PATH_SAFE)}",
        content=content_headers(plan.negotiated.media_type, request),
        always=tuple(_always(plan, request, warns=warns)),
    )


def content_headers(media_type: MediaType, request: ApiRequest) -> tuple[Header, ...]:
    """Content-Type, and Content-Profile where the schema was negotiated."""
    kind = (b"content-type", media_type.content_type.encode("latin-1", "replace"))
    return (kind, (b"content-profile", request.target.schema.encode())) if request.shows_profile else (kind,)


def _always(plan: DatabasePlan, request: ApiRequest, *, warns: bool) -> Iterator[Header]:
    if plan.negotiated.media_type.explain is None:
        asked = request.preferences
        applied = preference_applied(
            replace(
                _heeded(plan, request),
                count=asked.count,
                transaction=asked.transaction,
                handling=asked.handling,
                timezone=asked.timezone,
            )
        )
        if applied is not None:
            yield b"preference-applied", applied.encode("latin-1", "replace")
    if warns and plan.read.legacy_names:
        yield b"warning", _legacy_warning(plan.read.legacy_names).encode("latin-1", "replace")
    yield VARY


def _heeded(plan: DatabasePlan, request: ApiRequest) -> Preferences:
    """The preferences that this kind of plan heeds, besides those that all do."""
    asked = request.preferences
    if isinstance(plan, FunctionCall):
        return Preferences(max_affected=asked.max_affected)
    if not isinstance(plan, RelationMutation):
        return Preferences()
    match plan.mutation:
        case Insert(is_put=True):
            return Preferences(returning=asked.returning)
        case Insert(primary_key=primary_key):
            has_target = bool(primary_key) or request.query.on_conflict is not None
            resolution = asked.resolution if has_target else None
            return Preferences(resolution=resolution, returning=asked.returning, missing=asked.missing)
        case Update():
            return Preferences(returning=asked.returning, missing=asked.missing, max_affected=asked.max_affected)
        case Delete():
            return Preferences(returning=asked.returning, max_affected=asked.max_affected)


def _legacy_warning(names: tuple[tuple[str, str], ...]) -> str:
    """Warning 299 when an embed with an alias was filtered by its relation's name."""
    changes = ", ".join([f"`{name}` to `{alias}`" for name, alias in names])
    text = (
        "Embedded resource was referenced by relation name even though it has an alias. This is deprecated and will "
        f"stop working in a future release. Update {changes} in query string filters, orders or limits."
    )
    return f'299 PostgREST "{text}"'
