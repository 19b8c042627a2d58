"""Rows as JSON that PostgreSQL makes, with moments in the wire's form: ISO 8601, UTC, milliseconds, `Z`."""

from __future__ import annotations


def moment(column: str) -> str:
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


def object_json(alias: str = "o") -> str:
    plain = ("id", "bucket_id", "name", "version", "owner", "owner_id", "metadata", "user_metadata")
    moments = ("created_at", "updated_at", "last_accessed_at")
    pairs = [f"'{name}', {alias}.{name}" for name in plain]
    pairs += [f"'{name}', {moment(f'{alias}.{name}')}" for name in moments]
    return f"json_build_object({', '.join(pairs)})"


def bucket_json(alias: str = "b") -> str:
    plain = ("id", "name", "public", "owner", "type", "file_size_limit", "allowed_mime_types")
    pairs = [f"'{name}', {alias}.{name}" for name in plain]
    pairs += [f"'{name}', {moment(f'{alias}.{name}')}" for name in ("created_at", "updated_at")]
    return f"json_build_object({', '.join(pairs)})"
