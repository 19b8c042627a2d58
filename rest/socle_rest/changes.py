"""Notices schema changes where no event trigger reports them: a cheap look first, a thorough one if that moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from socle_platform.config.rest import RestSettings

HEARTBEAT = 30.0
"""Seconds between two looks at an idle connection that nothing else would find dead."""

# An enabled trigger on the end of DDL commands whose function sends a notice on the channel.
REPORTED = """
select exists (
    select from pg_catalog.pg_event_trigger t join pg_catalog.pg_proc p on p.oid = t.evtfoid
    where t.evtevent = 'ddl_command_end' and t.evtenabled <> 'D' and pg_catalog.strpos(p.prosrc, $1) > 0)"""

# Cheap, and moves with every DDL command, but with temporary tables too: then FINGERPRINT decides.
ACTIVITY = """
select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::text
from pg_catalog.pg_stat_sys_tables
where schemaname = 'pg_catalog' and relname in ('pg_attribute', 'pg_cast', 'pg_class', 'pg_constraint',
    'pg_db_role_setting', 'pg_description', 'pg_enum', 'pg_proc', 'pg_rewrite', 'pg_type')"""

FINGERPRINT = """
with space as (select oid from pg_catalog.pg_namespace where nspname = any($1::text[])),
relation as (select c.oid, c.xmin, c.ctid from pg_catalog.pg_class c where c.relnamespace in (select oid from space)),
change as (
    select xmin, ctid from relation
    union all select a.xmin, a.ctid from pg_catalog.pg_attribute a where a.attrelid in (select oid from relation)
    union all select w.xmin, w.ctid from pg_catalog.pg_rewrite w where w.ev_class in (select oid from relation)
    union all select p.xmin, p.ctid from pg_catalog.pg_proc p where p.pronamespace in (select oid from space)
    union all select t.xmin, t.ctid from pg_catalog.pg_type t where t.typnamespace in (select oid from space)
    union all select k.xmin, k.ctid from pg_catalog.pg_constraint k where k.contype in ('p', 'u', 'f')
    union all select e.xmin, e.ctid from pg_catalog.pg_enum e
    union all select m.xmin, m.ctid from pg_catalog.pg_cast m where m.oid >= 16384
    union all select d.xmin, d.ctid from pg_catalog.pg_description d where d.objoid >= 16384
)
select count(*) || ':' || coalesce(sum(pg_catalog.hashtextextended(xmin::text || ctid::text, 0)), 0) from change"""


class CatalogChanges:
    """Remembers how the catalogue looked."""

    def __init__(self) -> None:
        self._spaces: list[str] = []
        self._poll = 0.0
        self._activity = ""
        self._fingerprint = ""

    async def begin(self, connection: asyncpg.Connection, settings: RestSettings) -> None:
        """Takes the state from which changes count: call it before the schema cache is read."""
        reported = await connection.fetchval(REPORTED, settings.channel)
        self._poll = 0.0 if reported and settings.channel_enabled else settings.schema_poll
        self._spaces = list({*settings.schemas, *settings.extra_search_path})
        await self.happened(connection)

    @property
    def interval(self) -> float:
        """Seconds until it is time to look again."""
        return self._poll or HEARTBEAT

    async def happened(self, connection: asyncpg.Connection) -> bool:
        """Whether anything moved since the last look. Where changes are reported anyway, only a sign of life."""
        if not self._poll:
            await connection.fetchval("select 1")
            return False
        activity = await connection.fetchval(ACTIVITY)
        if activity == self._activity:
            return False
        self._activity = activity
        before, self._fingerprint = self._fingerprint, await connection.fetchval(FINGERPRINT, self._spaces)
        return bool(self._fingerprint != before)
