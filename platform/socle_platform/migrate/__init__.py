"""Brings databases up to date: the platform's own migrations, a project's, and its declared policies.

Names are imported when first asked for, so that reading a project's files does not load the database driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from socle_platform.migrate.policies import PoliciesReport, PolicyChange, apply_policies
    from socle_platform.migrate.policy_files import PolicyFile, PolicyFileInvalid, load_policy_files
    from socle_platform.migrate.rights import MissingRight, MissingRights, print_sql
    from socle_platform.migrate.session import Connect, DatabaseRefused, DatabaseUnreachable
    from socle_platform.migrate.sources import (
        MigrationFile,
        MigrationFileInvalid,
        SeedFile,
        load_migration_files,
        sql_root,
    )
    from socle_platform.migrate.splitter import Statement, split_statements

_HOMES = {
    "BootstrapReport": "bootstrap",
    "Connect": "session",
    "DatabaseRefused": "session",
    "DatabaseUnreachable": "session",
    "MigrationChanged": "bootstrap",
    "MigrationFailed": "bootstrap",
    "MigrationFile": "sources",
    "MigrationFileInvalid": "sources",
    "MigrationsOutOfOrder": "history",
    "MissingRight": "rights",
    "MissingRights": "rights",
    "PoliciesReport": "policies",
    "PolicyChange": "policies",
    "PolicyFile": "policy_files",
    "PolicyFileInvalid": "policy_files",
    "PushPlan": "history",
    "PushReport": "history",
    "RemoteVersionsUnknown": "history",
    "SeedFile": "sources",
    "ServerTooOld": "bootstrap",
    "Statement": "splitter",
    "StatementFailed": "failures",
    "apply_policies": "policies",
    "ensure_platform": "bootstrap",
    "load_migration_files": "sources",
    "load_policy_files": "policy_files",
    "plan_migrations": "history",
    "plan_push": "history",
    "print_sql": "rights",
    "push": "history",
    "split_statements": "splitter",
    "sql_root": "sources",
}

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


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
