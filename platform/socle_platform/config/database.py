"""Where the database is and how many sessions it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

SERVICE_ROLES: Mapping[str, str] = MappingProxyType(
    {
        "auth": "supabase_auth_admin",
        "storage": "supabase_storage_admin",
        "realtime": "supabase_realtime_admin",
        "platform": "supabase_admin",
    }
)
"""The admin role that each service works as."""

DEFAULT_DATABASE_PORT = 54322


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Frozen settings of one `Database`; times in seconds, 0 switches a limit off.

    `api_dsn` logs in as the authenticator, whose sessions take a caller's role. `service_dsns` gives each service its
    own login; a service that has none shares `service_dsns["platform"]`, or else the authenticator's pool.
    `service_roles` is the role that a service takes at the start of each of its transactions; "" takes none and stays
    the login role. `statement_cache` is how many prepared statements a session keeps; 0 prepares each anew, which a
    transaction pooler in between asks for. `libpq` holds PG* variables that fill in what an address leaves open.
    """

    api_dsn: str = field(repr=False)
    service_dsns: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    service_roles: Mapping[str, str] = field(default_factory=lambda: SERVICE_ROLES)
    api_pool_size: int = 10
    service_pool_size: int = 5
    acquire_timeout: float = 10.0
    connect_timeout: float = 10.0
    idle_timeout: float = 30.0
    max_lifetime: float = 1800.0
    cancel_timeout: float = 5.0
    statement_cache: int = 256
    application_name: str = "socle"
    libpq: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    replica_dsns: tuple[str, ...] = field(default=(), repr=False)
    """Logins as `api_dsn` on servers that follow its server."""


_between_uris = re.compile(r"[\s,]+(?=postgres(?:ql)?://)")


def load_database_port(read: Reader) -> int:
    """SOCLE_DB_PORT: the TCP port of the embedded PostgreSQL."""
    return read.integer("SOCLE_DB_PORT", default=DEFAULT_DATABASE_PORT, minimum=1, maximum=65535)


def load_database(read: Reader, api_dsn: str = "", service_dsns: Mapping[str, str] | None = None) -> DatabaseSettings:
    """Settings from the environment, under PostgREST's names where it has one; `api_dsn` is used where none is set."""
    return DatabaseSettings(
        api_dsn=read.secret("PGRST_DB_URI", default=api_dsn),
        replica_dsns=tuple(_between_uris.split(uris)) if (uris := read.secret("PGRST_DB_REPLICA_URIS").strip()) else (),
        service_dsns=dict(service_dsns or {}),
        libpq={f"PG{name}": value for name, value in read.prefixed("PG").items()},
        api_pool_size=read.integer("PGRST_DB_POOL", default=10, minimum=1),
        service_pool_size=read.integer("SOCLE_SERVICE_POOL", default=5, minimum=1),
        statement_cache=256 if read.boolean("PGRST_DB_PREPARED_STATEMENTS", default=True) else 0,
        acquire_timeout=read.seconds("PGRST_DB_POOL_ACQUISITION_TIMEOUT", default=10.0),
        idle_timeout=read.seconds("PGRST_DB_POOL_MAX_IDLETIME", "PGRST_DB_POOL_TIMEOUT", default=30.0),
        max_lifetime=read.seconds("PGRST_DB_POOL_MAX_LIFETIME", default=1800.0),
    )
