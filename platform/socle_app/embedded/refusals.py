"""Extensions the embedded server cannot have: asking for one gives a reason and a way out, not "is not available"."""

from __future__ import annotations

from dataclasses import dataclass

REFUSED_COMMENT = "not part of the embedded server"
_VERSION = "absent"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One extension and what to do instead."""

    name: str
    hint: str


_EXTERNAL = "Set an external PostgreSQL that has it (--db-url), or remove the line."
_TOOL = "It is a tool for administrators and changes no result: remove the line, or use an external server (--db-url)."
_SPACE = "Use cube and earthdistance for distances, or set an external PostgreSQL that has it (--db-url)."
_SEARCH = "Use pg_trgm or the built-in full text search, or set an external PostgreSQL that has it (--db-url)."
_LANGUAGE = "Write the function in plpgsql or SQL, or set an external PostgreSQL that has the language (--db-url)."
_HTTP = "Make the request in a function of the platform, or set an external PostgreSQL that has it (--db-url)."
_GONE = "PostgreSQL itself dropped it in version 17: remove the line."

_HINTS = {
    _SPACE: (
        "postgis", "postgis_raster", "postgis_sfcgal", "postgis_topology", "postgis_tiger_geocoder", "pgrouting",
        "address_standardizer", "address_standardizer_data_us",
    ),
    _SEARCH: ("pgroonga", "pgroonga_database", "rum"),
    _LANGUAGE: (
        "plv8", "plls", "plcoffee", "pljava", "plperl", "plperlu", "plpython3u", "pltcl", "pltclu",
    ),
    _HTTP: ("http",),
    _TOOL: (
        "hypopg", "index_advisor", "plpgsql_check", "pg_repack", "pg_stat_monitor", "pg_tle", "safeupdate", "supautils",
        "pg_plan_filter", "wal2json",
    ),
    _EXTERNAL: (
        "pgaudit", "pgtap", "pg_jsonschema", "pg_hashids", "pg_partman", "timescaledb", "wrappers", "orioledb",
        "sslinfo", "xml2",
    ),
    _GONE: ("adminpack", "old_snapshot"),
}  # fmt: skip

REFUSED = tuple(Refusal(name, hint) for hint, names in _HINTS.items() for name in names)


def render_refusal(refusal: Refusal) -> dict[str, str]:
    """Control file and script by file name. Trusted, so that everybody gets the reason and not a missing right."""
    return {
        f"{refusal.name}.control": (
            f"comment = '{REFUSED_COMMENT}'\ndefault_version = '{_VERSION}'\nrelocatable = true\ntrusted = true\n"
        ),
        f"{refusal.name}--{_VERSION}.sql": (
            f"do $$ begin raise 'extension \"{refusal.name}\" is not part of the embedded server'\n"
            f"  using errcode = '0A000', hint = '{refusal.hint}'; end $$;\n"
        ),
    }
