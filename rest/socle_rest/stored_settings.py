"""Settings kept in the database: `ALTER ROLE authenticator SET pgrst.…`, and the `db-pre-config` function.

Priority within the database: role in this database > role > function (contracts/rest.md §15).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.config.postgrest_file import IN_DATABASE
from socle_platform.identity import quote_identifier

if TYPE_CHECKING:
    from socle_platform.config.rest import SqlName
    from socle_rest.catalog import CatalogConnection

_PREFIX = "pgrst."
_NAMES = {_PREFIX + name.replace("-", "_"): name for name in IN_DATABASE}

OF_ROLE = """
select s.setting
from pg_catalog.pg_db_role_setting r
cross join lateral unnest(r.setconfig) as s (setting)
where r.setrole = (select oid from pg_catalog.pg_roles where rolname = current_user)
  and r.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_catalog))
order by r.setdatabase <> 0"""

CURRENT = """
select name, current_setting(name, true) as value
from unnest($1::text[]) as n (name)
where current_setting(name, true) is not null"""


async def load_stored_settings(connection: CatalogConnection, pre_config: SqlName | None) -> dict[str, str]:
    """Setting name (`db-schemas`) → text. Leaves the transaction with what the function set: roll it back.

    `connection` is the login role's, inside a transaction of its own. Raises what the driver raises.
    """
    found: dict[str, str] = {}
    if pre_config is not None:
        name = ".".join(quote_identifier(part) for part in pre_config if part)
        await connection.execute(f"select {name}()")
        rows = await connection.fetch(CURRENT, list(_NAMES))
        found = {_NAMES[row["name"]]: row["value"] for row in rows if row["value"]}
    for row in await connection.fetch(OF_ROLE):
        name, _, value = row["setting"].partition("=")
        if name in _NAMES:
            found[_NAMES[name]] = value
    return found
