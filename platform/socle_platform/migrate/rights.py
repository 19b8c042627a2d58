"""What the connecting role may do, what it lacks, and the SQL an administrator runs once to make up for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from socle_platform.errors import SocleError
from socle_platform.migrate.quoting import quote_identifier, quote_literal
from socle_platform.migrate.sources import load_platform_migrations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from asyncpg import Connection as DriverConnection

#: Roles that the bootstrap makes (migrations/platform/0001_roles.sql).
PLATFORM_ROLES = (
    "anon",
    "authenticated",
    "service_role",
    "authenticator",
    "postgres",
    "supabase_admin",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_realtime_admin",
    "supabase_functions_admin",
    "supabase_replication_admin",
    "supabase_read_only_user",
    "supabase_etl_admin",
    "dashboard_user",
    "pgbouncer",
    "pgsodium_keyiduser",
    "pgsodium_keyholder",
    "pgsodium_keymaker",
    "cli_login_postgres",
)

#: Roles that an owner without superuser rights must be able to act as and to grant.
ACTED_ROLES = (
    "anon",
    "authenticated",
    "service_role",
    "authenticator",
    "supabase_admin",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_realtime_admin",
    "supabase_functions_admin",
)

#: Roles of which an owner without superuser rights only sets the password.
_ADMINISTERED_ROLES = ("supabase_replication_admin", "supabase_read_only_user")

_ROLES_WITH_ADMIN_OPTION = 160000

_FACTS = """
select r.rolsuper, r.rolcreaterole, r.rolbypassrls,
       has_database_privilege(current_user, current_database(), 'create') as may_create_schemas,
       has_schema_privilege(current_user, 'public', 'create') as may_create_in_public,
       has_schema_privilege('public', 'public', 'usage') as public_is_open,
       pg_has_role(current_user, (select nspowner from pg_namespace where nspname = 'public'), 'usage') as owns_public,
       array(select x.rolname::text from pg_roles as x where x.rolname = any($1::text[])) as roles,
       array(select x.rolname::text from pg_roles as x
             where x.rolname = any($1::text[]) and
               pg_has_role(current_user, x.oid, 'member with admin option')) as grantable,
       (select coalesce(bool_or(x.rolbypassrls), false) from pg_roles as x where x.rolname = 'service_role')
         as service_role_bypasses
from pg_roles as r
where r.rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class MissingRight:
    """One right that is missing: its name, and the statement with which an administrator gives it."""

    right: str
    statement: str


class MissingRights(SocleError):
    """The connecting role lacks rights that the platform needs."""

    def __init__(self, role: str, missing: Sequence[MissingRight]) -> None:
        self.role = role
        self.missing = tuple(missing)
        lines = [f"role {quote_identifier(role)} lacks what the bootstrap needs:"]
        for one in missing:
            lines += [f"  - {one.right}", f"      {one.statement}"]
        lines.append(
            "Let an administrator run these, or all that `socle bootstrap --print-sql` prints, and start again."
        )
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True)
class Facts:
    """What bears on rights: the role, its server and its database."""

    role: str
    database: str
    server_version: int
    create_role: bool
    bypass_rls: bool
    create_schemas: bool
    create_in_public: bool
    open_public: bool
    roles: frozenset[str]
    grantable: frozenset[str]
    service_role_bypasses: bool


async def load_facts(connection: DriverConnection[Any], role: str, database: str, server_version: int) -> Facts:
    """Read what the connecting role may do."""
    row = await connection.fetchrow(_FACTS, list(ACTED_ROLES))
    assert row is not None
    return Facts(
        role=role,
        database=database,
        server_version=server_version,
        create_role=row["rolcreaterole"],
        bypass_rls=row["rolbypassrls"],
        create_schemas=row["may_create_schemas"],
        create_in_public=row["may_create_in_public"],
        open_public=row["public_is_open"] or row["owns_public"],
        roles=frozenset(row["roles"]),
        grantable=frozenset(row["grantable"]),
        service_role_bypasses=row["service_role_bypasses"],
    )


def missing_rights(facts: Facts) -> tuple[MissingRight, ...]:
    """What a role that is not superuser lacks for the bootstrap. Pure."""
    me, database = quote_identifier(facts.role), quote_identifier(facts.database)
    missing: list[MissingRight] = []
    if not facts.create_role:
        missing.append(MissingRight("attribute CREATEROLE", f"alter role {me} createrole;"))
    if not facts.create_schemas:
        missing.append(MissingRight(f"CREATE on database {database}", f"grant create on database {database} to {me};"))
    if not facts.create_in_public:
        missing.append(MissingRight("CREATE on schema public", f"grant create on schema public to {me};"))
    if not facts.open_public:
        missing.append(MissingRight("USAGE on schema public for everyone", "grant usage on schema public to public;"))
    may_make_bypassing = facts.server_version >= _ROLES_WITH_ADMIN_OPTION and facts.bypass_rls
    if "service_role" not in facts.roles and not may_make_bypassing:
        missing.append(
            MissingRight(
                "a role service_role with BYPASSRLS, which only a superuser can make",
                f"create role service_role nologin bypassrls; grant service_role to {me} with admin option;",
            )
        )
    elif "service_role" in facts.roles and not facts.service_role_bypasses:
        missing.append(MissingRight("BYPASSRLS on role service_role", "alter role service_role bypassrls;"))
    if facts.server_version >= _ROLES_WITH_ADMIN_OPTION:
        # Before 16, CREATEROLE alone was enough to grant any role.
        missing += [
            MissingRight(
                f"ADMIN OPTION on role {quote_identifier(role)}",
                f"grant {quote_identifier(role)} to {me} with admin option;",
            )
            for role in ACTED_ROLES
            if role in facts.roles and role not in facts.grantable
        ]
    return tuple(missing)


def print_sql(owner: str, database: str, *, root: Path | None = None) -> str:
    """The SQL that an administrator runs once, in `database`, so that `owner` can bootstrap without being superuser.

    It is repeatable and works on PostgreSQL 15 to 18. It makes what only a superuser can make (roles with BYPASSRLS and
    REPLICATION, event triggers, rights on settings) and gives the owner CREATEROLE, CREATE and the right to grant the
    platform's roles that exist already.
    """
    me, db = quote_identifier(owner), quote_identifier(database)
    parts = [
        f"-- Socle bootstrap for owner {me}: run once as a superuser, connected to database {db}.",
        "begin;",
        _ADMINISTRATOR_ROLES.replace("%OWNER%", quote_literal(owner)).replace(
            "%ROLES%", ", ".join(quote_literal(role) for role in (*ACTED_ROLES, *_ADMINISTERED_ROLES))
        ),
        f"alter role {me} createrole;",
        f"grant create on database {db} to {me} with grant option;",
        f"grant create, usage on schema public to {me};",
        f"create schema if not exists extensions authorization {me};",
    ]
    variables = {"operator": owner, "database": database}
    parts += [migration.render(variables) for migration in load_platform_migrations(root) if migration.superuser]
    parts += [
        "-- Only a superuser can watch all tables, present and future. If that is wanted:",
        "--   drop publication if exists supabase_realtime; create publication supabase_realtime for all tables;",
        "commit;",
        "",
    ]
    return "\n\n".join(parts)


_ADMINISTRATOR_ROLES = """do $administrator$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('service_role', 'nologin bypassrls'),
      ('supabase_replication_admin', 'login replication'),
      ('supabase_read_only_user', 'login bypassrls')
    ) as role_list (name, attributes)
  loop
    if to_regrole(wanted.name) is null then
      execute format('create role %I %s', wanted.name, wanted.attributes);
    end if;
  end loop;
  alter role service_role bypassrls;
  grant pg_read_all_data, pg_monitor to supabase_read_only_user;
  for wanted in select rolname as name from pg_catalog.pg_roles where rolname in (%ROLES%) loop
    execute format('grant %I to %I with admin option', wanted.name, %OWNER%);
  end loop;
end
$administrator$;"""
