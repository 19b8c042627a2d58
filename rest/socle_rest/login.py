"""How the REST service itself reaches the database, outside the pool that serves requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import asyncpg

from socle_platform.pgwire.connect import tls_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from socle_platform.pgwire.dsn import Target, Tls

Connect: TypeAlias = "Callable[[], Awaitable[asyncpg.Connection]]"
CONNECT_TIMEOUT = 10.0


def connector(target: Target, *, application_name: str = "socle rest") -> Connect:
    """Opens connections of the login role for `Live`: no statement cache, as they may go through a pooler."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(
            host=[address.host for address in target.addresses],
            port=[address.port for address in target.addresses],
            user=target.user,
            password=target.password or None,
            database=target.database,
            ssl=_encryption(target.tls),
            timeout=target.connect_timeout or CONNECT_TIMEOUT,
            statement_cache_size=0,
            server_settings={"application_name": application_name, **target.parameters},
        )

    return connect


def _encryption(tls: Tls) -> ssl.SSLContext | Literal["disable", "allow", "prefer"]:
    """As asyncpg takes it: a mode that may fall back is a word, one that insists is our own context."""
    if tls.mode in {"disable", "allow", "prefer"}:
        return cast("Literal['disable', 'allow', 'prefer']", tls.mode)
    return tls_context(tls, tls.mode)
