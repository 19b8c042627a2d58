"""Media types of Accept and Content-Type (contract rest.md §10, RFC 9110 §12.5.1): pure parsing and naming."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final


class Kind(Enum):
    """The media types that mean something to us; OTHER may mean something to a custom handler."""

    JSON = "application/json"
    GEOJSON = "application/geo+json"
    CSV = "text/csv"
    TEXT = "text/plain"
    XML = "text/xml"
    OPENAPI = "application/openapi+json"
    FORM = "application/x-www-form-urlencoded"
    OCTETS = "application/octet-stream"
    ANY = "*/*"
    STRIPPED_ARRAY = "application/vnd.pgrst.array+json;nulls=stripped"
    OBJECT = "application/vnd.pgrst.object+json"
    STRIPPED_OBJECT = "application/vnd.pgrst.object+json;nulls=stripped"
    PLAN = "application/vnd.pgrst.plan"
    OTHER = ""


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What `vnd.pgrst.plan` asks of EXPLAIN, and which answer it is about."""

    target: MediaType
    format: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaType:
    """One media type; `name` is how it is written out, `essence` type/subtype in lower case without parameters."""

    kind: Kind
    name: str
    essence: str
    explain: ExplainOptions | None = None

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        return self.name if self.kind in {Kind.OCTETS, Kind.OTHER} else f"{self.name}; charset=utf-8"

    @property
    def is_singular(self) -> bool:
        """Exactly one row is wanted, as an object."""
        return self.kind in {Kind.OBJECT, Kind.STRIPPED_OBJECT}


def _known(kind: Kind) -> MediaType:
    return MediaType(kind, kind.value, kind.value.partition(";")[0])


JSON: Final = _known(Kind.JSON)
OPENAPI: Final = _known(Kind.OPENAPI)
CSV: Final = _known(Kind.CSV)
ANY: Final = _known(Kind.ANY)

_PLAIN: Final = {
    kind.value: _known(kind)
    for kind in (
        *(Kind.JSON, Kind.GEOJSON, Kind.CSV, Kind.TEXT, Kind.XML, Kind.OPENAPI, Kind.FORM, Kind.OCTETS, Kind.ANY),
    )
}
_PLAN_FORMATS: Final = {
    "application/vnd.pgrst.plan": "text",
    "application/vnd.pgrst.plan+text": "text",
    "application/vnd.pgrst.plan+json": "json",
}
_OPTIONS: Final = ("analyze", "verbose", "settings", "buffers", "wal")
_essence = re.compile(r"([\w.*]+)/([\w.*+-]+)").match
_parameter = re.compile(r'\s*;\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([\w|/.+*-]+))').match


@lru_cache(maxsize=256)
def parse_media_type(text: str) -> MediaType:
    """One media type with its parameters, read leniently: what follows an unreadable parameter is ignored."""
    found = _essence(text)
    if found is None:
        return MediaType(Kind.OTHER, text, text.lower())
    essence = found.group().lower()
    if (plain := _PLAIN.get(essence)) is not None:
        return plain
    parameters: dict[str, str] = {}
    at = found.end()
    while (pair := _parameter(text, at)) is not None:
        parameters.setdefault(pair.group(1).lower(), pair.group(2) or pair.group(3) or "")
        at = pair.end()
    stripped = parameters.get("nulls") == "stripped"
    match essence:
        case "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object":
            return _known(Kind.STRIPPED_OBJECT if stripped else Kind.OBJECT)
        case "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array":
            return _known(Kind.STRIPPED_ARRAY) if stripped else JSON
        case _ if essence in _PLAN_FORMATS:
            return _plan(_PLAN_FORMATS[essence], parameters.get("for"), parameters.get("options", ""))
        case _:
            return MediaType(Kind.OTHER, text, essence)


def _plan(form: str, target: str | None, options: str) -> MediaType:
    wanted = options.split("|")
    chosen = tuple(option for option in _OPTIONS if option in wanted)
    about = JSON if target is None else parse_media_type(target)
    name = f'{Kind.PLAN.value}+{form}; for="{about.name}"'
    if chosen:
        name += f"; options={'|'.join(chosen)}"
    return MediaType(Kind.PLAN, name, Kind.PLAN.value, ExplainOptions(about, form, chosen))


@lru_cache(maxsize=256)
def parse_accept(text: str | None) -> tuple[MediaType, ...]:
    """The acceptable types, best first: by q, then the more specific, then as written. No header accepts anything."""
    if text is None:
        return (ANY,)
    ranked: list[tuple[float, int, MediaType]] = []
    for part in text.replace(" ", "").split(","):
        name, _, rest = part.partition(";q=")
        ranked.append((_quality(rest), name.count(";") - name.count("*"), parse_media_type(name)))
    ranked.sort(key=lambda one: one[:2], reverse=True)
    return tuple(media_type for _, _, media_type in ranked)


_q_value = re.compile(r"[0-9]+(?:\.[0-9]+)?").match


def _quality(text: str) -> float:
    found = _q_value(text)
    return 1.0 if found is None else float(found.group())
