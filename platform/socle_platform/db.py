"""The database as every service sees it: transactions as a caller, transactions as a service, one-write requests.

Here, and nowhere else, a session takes a role and a caller's claims. They are set inside the transaction that needs
them, in the same write, every time: what an earlier user left behind in a session never counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from socle_platform.config.database import SERVICE_ROLES
from socle_platform.events import Noted, Observe, silent
from socle_platform.identity import (
    Identity,
    RequestFacts,
    identity_settings,
    render_search_path,
)
from socle_platform.pgwire import messages
from socle_platform.pgwire.block import (
    COMMIT,
    Block,
    Command,
    Record,
    Rollback,
    Types,
    command,
    counted,
    written,
)
from socle_platform.pgwire.codec import Json
from socle_platform.pgwire.connect import open_wire
from socle_platform.pgwire.dsn import parse_dsn
from socle_platform.pgwire.errors import (
    ConnectFailed,
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    PoolTimeout,
    ProtocolViolation,
)
from socle_platform.pgwire.pending import Pending
from socle_platform.pgwire.pool import Pool
from socle_platform.pgwire.protocol import Row
from socle_platform.pgwire.stream import RowStream
from socle_platform.pgwire.wire import Answer, Outcome, Wire, is_stale_statement

if TYPE_CHECKING:
    from socle_platform.config.database import DatabaseSettings

__all__ = [
    "ConnectFailed",
    "Connection",
    "ConnectionLost",
    "Database",
    "DatabaseError",
    "DatabaseUnavailable",
    "Json",
    "Outcome",
    "PoolTimeout",
    "Prepared",
    "ProtocolViolation",
    "Record",
    "Result",
    "Rollback",
    "Row",
]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_PUBLIC = ("public", "extensions")

_SERVICE_SEARCH_PATHS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"auth": ("auth",), "storage": ("storage",), "realtime": ("realtime",), "platform": _PUBLIC}
)
"""What `ALTER ROLE supabase_…_admin SET search_path` says upstream; here it is said in each transaction."""

_RESET = (
    "reset role; reset all; close all; unlisten *; select pg_catalog.pg_advisory_unlock_all();"
    " discard temp; discard sequences"
)
"""Everything a session's user can leave behind, but for prepared statements (hot path notes, guard 3)."""

_ISOLATION = {
    level: f"begin isolation level {level}"
    for level in ("read uncommitted", "read committed", "repeatable read", "serializable")
}
_ROLLBACK = command("rollback")
_CHECK_CONSTRAINTS = command("set constraints all immediate")
_READ_ONLY = ("transaction_read_only", "on")


class Connection(Protocol):
    """One database connection inside a transaction block.

    Parameters are `$1, $2 …` and travel as text without a type: PostgreSQL does the typing; write a `::cast` where it
    is ambiguous. None → NULL, bool, int, float, Decimal, str as is, bytes → bytea, datetime → ISO, UUID → text,
    dict → JSON text, list/tuple → array literal, Json(x) → JSON text of anything.
    Results: bool, int, float, Decimal (numeric), bytes (bytea), datetime (timestamptz aware, timestamp naive),
    json/jsonb → Python value, arrays of those → list; every other type, uuid among them, is str.
    Every method raises DatabaseError or DatabaseUnavailable.
    """

    async def execute(self, sql: str, *args: object) -> str:
        """Runs one statement and returns its command tag, e.g. `UPDATE 3`."""
        ...

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """All rows."""
        ...

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        """The first row, or None."""
        ...

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """A savepoint: kept at normal exit, undone on an exception (`Rollback` is swallowed)."""
        ...


class Prepared(NamedTuple):
    """One statement with its parameters, already in PostgreSQL's text form (a tuple: it is made on every request).

    `key` stands for `text` in the cache of prepared statements ("" = the text itself): two statements of one key must
    have one text. `result_formats` asks for binary columns (1) as the manual's Bind message says; () is all text.
    """

    text: str
    args: Sequence[bytes | None] = ()
    key: str = ""
    result_formats: tuple[int, ...] = ()


class Result(NamedTuple):
    """What one request got: raw rows, the command tag, the settings asked for by `gucs`, the rows of `after`."""

    rows: list[Row]
    tag: str
    gucs: Mapping[str, str | None] = _NOTHING
    after: Sequence[Row] = ()


@dataclass(frozen=True, slots=True)
class PoolState:
    """How a pool stands: sessions open, of them free, requests that wait, the most that may be open."""

    size: int
    idle: int
    waiting: int
    limit: int


class Database:
    """Pools of sessions, and the only ways to use them.

    Times and sizes as in DatabaseSettings. Raises DsnInvalid for an address that cannot be read. Notices that
    PostgreSQL sends (RAISE NOTICE …) are observed.
    """

    def __init__(self, settings: DatabaseSettings, observe: Observe = silent) -> None:
        self._settings = settings
        self._observe = observe
        self._types = Types()
        self._pools: dict[str, Pool] = {}
        self._api = self._pool(settings.api_dsn, settings.api_pool_size)
        shared = settings.service_dsns.get("platform", settings.api_dsn)
        self._services = {
            service: self._pool(settings.service_dsns.get(service, shared), settings.service_pool_size)
            for service in {**SERVICE_ROLES, **settings.service_roles, **settings.service_dsns}
        }
        self._service_frames = {
            service: _service_frame(service, settings.service_roles.get(service, "")) for service in self._services
        }

    def _pool(self, dsn: str, size: int) -> Pool:
        if dsn not in self._pools:
            settings = self._settings
            self._pools[dsn] = Pool(
                self._opener(dsn),
                size=size,
                acquire_timeout=settings.acquire_timeout,
                idle_timeout=settings.idle_timeout,
                max_lifetime=settings.max_lifetime,
                cancel_timeout=settings.cancel_timeout,
                reset=_RESET,
            )
        return self._pools[dsn]

    def _opener(self, dsn: str) -> Callable[[], Awaitable[Wire]]:
        settings = self._settings
        target = parse_dsn(dsn, settings.libpq).with_defaults(
            application_name=settings.application_name, connect_timeout=settings.connect_timeout
        )
        return lambda: open_wire(target, statement_cache=settings.statement_cache, on_notice=self._notice)

    def _notice(self, notice: DatabaseError) -> None:
        level = "warning" if notice.severity == "WARNING" else "debug"
        self._observe(Noted("database", level, f"{notice.severity}: {notice.message}"))

    async def start(self) -> None:
        """Opens a first session for requests, to see that it works. Raises ConnectFailed."""
        self._api.release(await self._api.acquire())

    async def ping(self) -> None:
        """One round trip. Raises DatabaseUnavailable, or DatabaseError."""
        wire = await self._api.acquire()
        try:
            await wire.query("")
        finally:
            self._api.release(wire)

    async def ask(self, sql: str) -> bytes | None:
        """The first value that a statement of the platform's own gives to the login role itself, as text.

        Raises DatabaseUnavailable, or DatabaseError."""
        wire = await self._api.acquire()
        try:
            rows = (await wire.query(sql))[0].rows
        except BaseException:
            self._api.recover(wire)
            raise
        self._api.release(wire)
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Ends every session once it is idle, at the latest after the cancel timeout."""
        for pool in self._pools.values():
            await pool.close()

    def forget_statements(self) -> None:
        """Prepares every statement anew from its next use on: for a schema that has changed."""
        for pool in self._pools.values():
            pool.generation += 1

    def renew_sessions(self) -> None:
        """Serves later requests on new sessions, which know the login role's and the database's present settings."""
        for pool in self._pools.values():
            pool.renew()

    def pool_states(self) -> dict[str, PoolState]:
        """How the pools stand: `api`, and each service by its name (services of one login share one)."""
        pools = {"api": self._api, **self._services}
        return {name: PoolState(pool.size, pool.idle, pool.waiting, pool.limit) for name, pool in pools.items()}

    # ---- transaction blocks --------------------------------------------------------------------------------------

    def acting_as(
        self,
        who: Identity,
        facts: RequestFacts,
        *,
        read_only: bool = False,
        isolation: str | None = None,
        search_path: Sequence[str] = _PUBLIC,
        settings: Mapping[str, str] = _NOTHING,
    ) -> AbstractAsyncContextManager[Connection]:
        """A transaction as `who`: commits at normal exit, rolls back on an exception (`Rollback` is swallowed).

        Takes a session with its first statement. `isolation` is a level in SQL's words. A block that hides a failed
        statement raises DatabaseError 25P02 at its end, for nothing of it was kept.
        """
        opening = (_begin(isolation, read_only=read_only), _frame(who, facts, search_path, settings))
        release = self._api.release if read_only else self._api.release_reset
        return Block(self._api, self._types, who.role, opening, release)

    def as_service(self, service: str) -> AbstractAsyncContextManager[Connection]:
        """A transaction as the admin role of auth, storage, realtime or platform: the platform's own work.

        Raises ValueError for an unknown service.
        """
        if service not in self._services:
            raise ValueError(f"unknown service {service!r}")
        role, opening = self._service_frames[service]
        pool = self._services[service]
        return Block(pool, self._types, role, (_begin(None), opening), pool.release)

    # ---- one-write requests --------------------------------------------------------------------------------------

    async def run_as_service(self, service: str, statement: Prepared) -> Result:
        """One statement as the admin role of a service, in one write and one transaction; final when it is returned.

        For what `as_service` would take a transaction block, hence a second round trip. Raises KeyError for an unknown
        service.
        """
        pool = self._services[service]
        role, opening = self._service_frames[service]
        steps = (opening, _command(role, statement))
        wire = pool.take() or await pool.acquire()
        try:
            result = _result(await _exchange(wire, steps, 1), 1, None, ())
        except DatabaseError:
            pool.release(wire)
            raise
        except BaseException:
            pool.recover(wire)
            raise
        pool.release(wire)
        return result

    async def run_as(
        self,
        who: Identity,
        facts: RequestFacts,
        statement: Prepared,
        *,
        read_only: bool = False,
        isolation: str | None = None,
        search_path: Sequence[str] = _PUBLIC,
        settings: Mapping[str, str] = _NOTHING,
        role_settings: Mapping[str, str] = _NOTHING,
        before: Prepared | None = None,
        after: Prepared | None = None,
        gucs: Sequence[str] = (),
        check: Callable[[Result], None] | None = None,
        rollback: bool = False,
        reset: bool | None = None,
    ) -> Result:
        """One statement as `who`, in one write and one transaction; the result is final when it is returned.

        In the same transaction, `before` runs between the settings and the statement, `after` behind it, and `gucs`
        names run-time settings to read at the end. `role_settings` are the role's own (statement_timeout …), asserted
        before the role is taken; `settings` come last.
        `check` sees the result before it is kept: what it raises is raised here and nothing is kept (one round trip
        more). `rollback` keeps nothing, but reports deferred constraints as a commit would. `reset` says whether the
        session is cleaned up behind the caller's back once the result is out: needed when user-defined code may have
        run; by default unless `read_only`.
        Cancelling the wait cancels the statement on the server.
        """
        explicit = isolation is not None or rollback or check is not None
        steps = [_frame(who, facts, search_path, settings, role_settings, read_only=read_only and not explicit)]
        if explicit:
            steps.insert(0, _begin(isolation, read_only=read_only))
        if before is not None:
            steps.append(_command(who.role, before))
        at = len(steps)
        steps.append(_command(who.role, statement))
        if after is not None:
            steps.append(_command(who.role, after))
        if gucs:
            steps.append(_gucs_command(gucs))
        if explicit and check is None:
            steps += _ending(rollback=rollback)
        pool = self._api
        wire = pool.take() or await pool.acquire()
        try:
            result = _result(await _exchange(wire, steps, at), at, after, gucs)
            if check is not None:
                check(result)
                await _exchange(wire, _ending(rollback=rollback), whole=False)
        except DatabaseError:
            self._give_back(wire, reset=not read_only if reset is None else reset)
            raise
        except BaseException:
            pool.recover(wire)
            raise
        self._give_back(wire, reset=not read_only if reset is None else reset)
        return result

    def begin_as(
        self,
        who: Identity,
        facts: RequestFacts,
        statement: Prepared,
        done: Callable[[Outcome | DatabaseError | DatabaseUnavailable | None], None],
        *,
        read_only: bool,
        search_path: Sequence[str],
        settings: Mapping[str, str],
        role_settings: Mapping[str, str],
        reset: bool,
    ) -> Pending | None:
        """The plainest `run_as`, without a task: `done` is called with the result, with the error, or with None.

        None, here as from `done`, says that nothing was kept and that `run_as` has to be asked instead.
        """
        frame = _frame(who, facts, search_path, settings, role_settings, read_only=read_only)
        pending = Pending(self._api, (frame, _command(who.role, statement)), done, reset=reset)
        return pending if self._api.lend(pending) else None

    def _give_back(self, wire: Wire, *, reset: bool) -> None:
        if reset:
            self._api.release_reset(wire)
        else:
            self._api.release(wire)

    def stream_as(
        self,
        who: Identity,
        facts: RequestFacts,
        statement: Prepared,
        *,
        batch: int = 256,
        read_only: bool = True,
        isolation: str | None = None,
        search_path: Sequence[str] = _PUBLIC,
        settings: Mapping[str, str] = _NOTHING,
        role_settings: Mapping[str, str] = _NOTHING,
        before: Prepared | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Row]]]:
        """The same, in portions of `batch` rows that are fetched as they are consumed.

        Committed when the block is left normally, rolled back (and the statement stopped) when it is left by an
        exception. The first portion is there before the block begins: errors of the statement's start come from
        `async with`.
        """
        opening = [
            _begin(isolation, read_only=read_only),
            _frame(who, facts, search_path, settings, role_settings),
        ]
        if before is not None:
            opening.append(_command(who.role, before))
        return RowStream(self._api, opening, _command(who.role, statement), batch, reset=not read_only)


# ---- the frame ---------------------------------------------------------------------------------------------------


def _service_frame(service: str, role: str) -> tuple[str, Command]:
    """The role that a service works as ("": its login), and the statement that takes it."""
    path = render_search_path(_SERVICE_SEARCH_PATHS.get(service, _PUBLIC))
    pairs = (("search_path", path), *((("role", role),) if role else ()))
    return role, _settings_command(pairs)


def _frame(
    who: Identity,
    facts: RequestFacts,
    search_path: Sequence[str],
    settings: Mapping[str, str],
    role_settings: Mapping[str, str] = _NOTHING,
    *,
    read_only: bool = False,
) -> Command:
    """The one statement that asserts `identity_settings` for the transaction it is in."""
    return _framed(
        who.role,
        who.claims_json,
        facts,
        tuple(search_path),
        tuple(settings.items()) if settings else (),
        tuple(role_settings.items()) if role_settings else (),
        read_only,
    )


@lru_cache(maxsize=1024)
def _framed(
    role: str,
    claims_json: str,
    facts: RequestFacts,
    search_path: tuple[str, ...],
    settings: tuple[tuple[str, str], ...],
    role_settings: tuple[tuple[str, str], ...],
    read_only: bool,
) -> Command:
    """Callers repeat themselves, so their settings are kept in wire form."""
    _refuse_none(role)
    who = Identity(role, None, _NOTHING, claims_json)
    pairs = identity_settings(who, facts, search_path, dict(settings), role_settings=dict(role_settings))
    return _settings_command((_READ_ONLY, *pairs) if read_only else pairs)


def _refuse_none(role: str) -> None:
    """No role can be called so, but taking it would mean to stay the login role."""
    if role == "none":
        raise DatabaseError("22023", 'role "none" does not exist')


def _settings_command(pairs: Sequence[tuple[str, str]]) -> Command:
    """Text that is not UTF-8 loses what cannot be said."""
    sql = _settings_sql(len(pairs))
    pieces = [_setting_name(name) + messages.sized(value.encode(errors="replace")) for name, value in pairs]
    return Command(sql, sql, (messages.count(2 * len(pairs)) + b"".join(pieces),))


@lru_cache(maxsize=512)
def _setting_name(name: str) -> bytes:
    return messages.sized(name.encode(errors="replace"))


@lru_cache(maxsize=256)
def _settings_sql(settings: int) -> str:
    calls = [f"pg_catalog.set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(settings)]
    return f"select {', '.join(calls)}"


def _gucs_command(names: Sequence[str]) -> Command:
    sql = f"select {', '.join(f'pg_catalog.current_setting(${n + 1}, true)' for n in range(len(names)))}"
    values = [messages.count(len(names))]
    messages.append_values(values, [name.encode() for name in names])
    return Command(sql, sql, values)


def _begin(isolation: str | None, *, read_only: bool = False) -> Command:
    """BEGIN with a level out of the four that exist. Raises ValueError for another."""
    if isolation is None:
        sql = "begin"
    elif (sql := _ISOLATION.get(isolation.lower(), "")) == "":
        raise ValueError(f"unknown isolation level {isolation!r}")
    return command(f"{sql} read only" if read_only else sql)


def _command(role: str, statement: Prepared) -> Command:
    """A caller's statement. Its prepared form belongs to one role: under another, PostgreSQL would plan it anew."""
    text, args, key, formats = statement
    values = counted(args)
    messages.append_values(values, args)
    return Command(
        text, (role, key or text), values, messages.result_formats(formats) if formats else messages.TEXT_RESULTS
    )


def _ending(*, rollback: bool) -> list[Command]:
    return [_CHECK_CONSTRAINTS, _ROLLBACK] if rollback else [COMMIT]


async def _exchange(wire: Wire, steps: Sequence[Command], skip: int = 0, *, whole: bool = True) -> Answer:
    """All steps in one write. Raises its error.

    A `whole` transaction is written once more where only a stale prepared statement was to blame: nothing was kept.
    """
    answer = await wire.exchange(written(wire, steps), skip)
    if isinstance(answer.error, DatabaseError) and is_stale_statement(answer.error):
        wire.forget_statements()
        if whole:
            if wire.status != "I":
                await wire.query("rollback")
            answer = await wire.exchange(written(wire, steps), skip)
    if answer.error is not None:
        raise answer.error
    if len(answer.outcomes) != len(steps):
        raise wire.violated("fewer results than statements")
    return answer


def _result(answer: Answer, at: int, after: Prepared | None, gucs: Sequence[str]) -> Result:
    outcomes = answer.outcomes
    rows, tag = outcomes[at]
    if after is None and not gucs:
        return Result(rows, tag)
    found: dict[str, str | None] = {}
    if gucs:
        values = outcomes[at + (after is not None) + 1].rows[0]
        found = {name: None if value is None else value.decode() for name, value in zip(gucs, values, strict=True)}
    return Result(rows, tag, found, outcomes[at + 1].rows if after is not None else ())
