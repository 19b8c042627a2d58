"""Brings databases up to date: the platform's own migrations, a project's, and its declared policies."""

from __future__ import annotations

from socle_platform.migrate.bootstrap import (
    BootstrapReport,
    MigrationChanged,
    MigrationFailed,
    ServerTooOld,
    ensure_platform,
)
from socle_platform.migrate.failures import StatementFailed
from socle_platform.migrate.history import (
    MigrationsOutOfOrder,
    PushPlan,
    PushReport,
    RemoteVersionsUnknown,
    plan_migrations,
    plan_push,
    push,
)
from socle_platform.migrate.policies import (
    PoliciesReport,
    PolicyChange,
    PolicyFile,
    PolicyFileInvalid,
    apply_policies,
    load_policy_files,
)
from socle_platform.migrate.rights import MissingRight, MissingRights, print_sql
from socle_platform.migrate.session import Connect, DatabaseRefused, DatabaseUnreachable
from socle_platform.migrate.sources import MigrationFile, MigrationFileInvalid, SeedFile, load_migration_files, sql_root
from socle_platform.migrate.splitter import Statement, split_statements

__all__ = [
    "BootstrapReport",
    "Connect",
    "DatabaseRefused",
    "DatabaseUnreachable",
    "MigrationChanged",
    "MigrationFailed",
    "MigrationFile",
    "MigrationFileInvalid",
    "MigrationsOutOfOrder",
    "MissingRight",
    "MissingRights",
    "PoliciesReport",
    "PolicyChange",
    "PolicyFile",
    "PolicyFileInvalid",
    "PushPlan",
    "PushReport",
    "RemoteVersionsUnknown",
    "SeedFile",
    "ServerTooOld",
    "Statement",
    "StatementFailed",
    "apply_policies",
    "ensure_platform",
    "load_migration_files",
    "load_policy_files",
    "plan_migrations",
    "plan_push",
    "print_sql",
    "push",
    "split_statements",
    "sql_root",
]
