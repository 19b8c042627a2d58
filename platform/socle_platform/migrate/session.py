"""A driver connection for DDL: connecting with errors that say what to do, and working as the operator."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import asyncpg

from socle_platform.errors import SocleError
from socle_platform.migrate.quoting import quote_identifier, quote_literal

if TYPE_CHECKING:
    from asyncpg import Connection as DriverConnection

Connect: TypeAlias = str | Mapping[str, Any]
"""A connection URL, or the driver's own keyword arguments (host, port, user, password, database, …)."""

#: Key of the advisory lock that one push or policies run holds: the start of SHA-256("socle project migrations").
PROJECT_LOCK_KEY = 0x2B71_6E0D_94C3_5A18

_WHO = """
select current_user::text as role, r.rolsuper as superuser,
       (select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'supabase_migrations') as operator
from pg_roles as r where r.rolname = current_user
"""
_LOGIN_SETTINGS = """
select split_part(entry, '=', 1) as name, substr(entry, strpos(entry, '=') + 1) as value
from pg_db_role_setting as s, unnest(s.setconfig) as entry
where s.setrole in (0, $1::text::regrole)
  and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
order by s.setrole <> 0, s.setdatabase <> 0
"""


class DatabaseUnreachable(SocleError):
    """The database cannot be reached."""


class DatabaseRefused(SocleError):
    """The database refused what it was asked."""

    def __init__(self, message: str, sqlstate: str) -> None:
        self.sqlstate = sqlstate
        super().__init__(f"{message} (SQLSTATE {sqlstate})")


@contextmanager
def own_errors() -> Generator[None]:
    """Turns the driver's errors into DatabaseUnreachable (the connection broke) and DatabaseRefused."""
    try:
        yield
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError) as error:
        raise DatabaseUnreachable(f"the connection to the database was lost: {error}") from error
    except asyncpg.PostgresError as error:
        raise DatabaseRefused(getattr(error, "message", None) or str(error), error.sqlstate or "XX000") from error


class Operator:
    """A connection that works as the project's operator; made by `acting_as_operator`."""

    def __init__(
        self, connection: DriverConnection[Any], role: str, *, taken: bool = False, settings: Sequence[str] = ()
    ) -> None:
        self.connection = connection
        self.role = role
        self._role_value = quote_identifier(role) if taken else "none"
        self._reset = ";\n".join(["reset all", *settings, self.take_role()])

    def take_role(self) -> str:
        """The statement that undoes what a file's own `set role` did."""
        return f"set role {self._role_value}"

    async def reset(self) -> None:
        """RESET ALL, then what logging in as the operator would have set."""
        await self.connection.execute(self._reset)


async def connect(target: Connect) -> DriverConnection[Any]:
    """One driver connection to the target.

    Raises DatabaseUnreachable with the reason: refused, no such database or role, wrong password, starting up.
    """
    try:
        if isinstance(target, str):
            return await asyncpg.connect(target)
        return await asyncpg.connect(**target)
    except asyncpg.PostgresError as error:
        raise DatabaseUnreachable(f"{_no_way_to(target)}: {error} (SQLSTATE {error.sqlstate})") from error
    except (OSError, ValueError, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(f"{_no_way_to(target)}: {error or type(error).__name__}") from error


def _no_way_to(target: Connect) -> str:
    """What failed, with the server's name but nothing that stands before it in a URL, however odd that is."""
    place = re.split("[/?#]", target.partition("://")[2].rpartition("@")[2])[0] if isinstance(target, str) else ""
    return f"cannot connect to the database{f' at {place}' if place else ''}"


@asynccontextmanager
async def acting_as_operator(
    target: Connect, *, progress: Callable[[str], None], lock: bool = True
) -> AsyncGenerator[Operator]:
    """Connect and work as the owner of the project's objects (the role that owns schema supabase_migrations).

    A superuser takes its identity for the whole session, a member takes its role; anybody else stays itself. With
    `lock`, one run at a time: others wait. Notices from the server go to `progress`.
    """
    connection = await connect(target)
    try:
        with own_errors():
            connection.add_log_listener(lambda _, message: progress(_notice(message)))
            if lock:
                await _take_turns(connection, progress)
            yield await _become_operator(connection)
    finally:
        await connection.close()


async def _take_turns(connection: DriverConnection[Any], progress: Callable[[str], None]) -> None:
    if not await connection.fetchval("select pg_try_advisory_lock($1)", PROJECT_LOCK_KEY):
        progress("waiting for another run to finish")
        await connection.execute("set statement_timeout = 0; set lock_timeout = 0")
        await connection.execute("select pg_advisory_lock($1)", PROJECT_LOCK_KEY)


async def _become_operator(connection: DriverConnection[Any]) -> Operator:
    who = await connection.fetchrow(_WHO)
    assert who is not None
    role, operator = cast("str", who["role"]), cast("str | None", who["operator"])
    if operator is None or operator == role:
        return Operator(connection, role)
    if not who["superuser"] and not await connection.fetchval("select pg_has_role($1, 'member')", operator):
        return Operator(connection, role)
    rows = await connection.fetch(_LOGIN_SETTINGS, quote_identifier(operator))
    settings = [f"set {row['name']} to {_setting_value(row['name'], row['value'])}" for row in rows]
    if who["superuser"]:
        await connection.execute(f"set session authorization {quote_identifier(operator)}")
    acting = Operator(connection, operator, taken=not who["superuser"], settings=settings)
    await acting.reset()
    return acting


def _setting_value(name: str, value: str) -> str:
    """Lists of names are stored with their own quotes, everything else as plain text."""
    return value if name in ("search_path", "temp_tablespaces") and value else quote_literal(value)


def _notice(message: object) -> str:
    severity = getattr(message, "severity", None) or "NOTICE"
    return f"{severity}: {getattr(message, 'message', None) or message}"
