"""Brings databases up to date: the platform's own migrations, a project's, and its declared policies."""

from __future__ import annotations

from socle_platform.migrate.bootstrap import (
    BootstrapReport,
    Connect,
    MigrationChanged,
    MigrationFailed,
    ServerTooOld,
    ensure_platform,
)
from socle_platform.migrate.rights import MissingRight, MissingRights, print_sql
from socle_platform.migrate.sources import MigrationFile, MigrationFileInvalid, SeedFile, load_migration_files, sql_root

__all__ = [
    "BootstrapReport",
    "Connect",
    "MigrationChanged",
    "MigrationFailed",
    "MigrationFile",
    "MigrationFileInvalid",
    "MissingRight",
    "MissingRights",
    "SeedFile",
    "ServerTooOld",
    "ensure_platform",
    "load_migration_files",
    "print_sql",
    "sql_root",
]
