"""Nodes tell each other what they took out of the buckets (contracts/auth.md §7.3).

A request asks its own node's buckets only, and never waits for the database. As soon as something was taken, but not
more often than every PAUSE, a node settles with the database and learns what the others took: together they let through
at most what one node would, and what they spend within that pause.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socle_auth.store import limits
from socle_platform.db import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from socle_auth.context import AuthService

PAUSE = 0.05
"""Seconds between two settlements: a node under load writes twenty times a second, an idle one not at all."""

_AFTER_TROUBLE = 0.5
_SWEEP_SECONDS = 120.0
_AT_ONCE = 1000


async def settle_once(service: AuthService) -> int:
    """Tells what this node took and learns the shared levels; how many buckets that were.

    What could not be told is told the next time. Raises DatabaseError or DatabaseUnavailable.
    """
    spendings = service.limits.take_spendings(_AT_ONCE)
    if not spendings:
        return 0
    try:
        async with service.connect() as connection:
            levels = await limits.settle(connection, spendings)
    except BaseException:
        service.limits.give_back(spendings)
        raise
    service.limits.learn(spendings, levels)
    return len(spendings)


async def run(service: AuthService, pause: float = PAUSE) -> None:
    """Settles until cancelled. Without the shared table each node counts for itself."""
    is_shared, sweep_at = False, 0.0
    while True:
        await service.limits.taken.wait()
        service.limits.taken.clear()
        try:
            if not is_shared and not await _is_shared(service):
                return
            is_shared = True
            while await settle_once(service) == _AT_ONCE:
                pass
            if (now := asyncio.get_running_loop().time()) >= sweep_at:
                sweep_at = now + _SWEEP_SECONDS
                async with service.connect() as connection:
                    await limits.forget_full(connection, service.now().timestamp())
            await asyncio.sleep(pause)
        except (DatabaseError, DatabaseUnavailable) as error:
            service.note("debug", f"rate limits are not shared just now: {error}")
            service.limits.taken.set()
            await asyncio.sleep(_AFTER_TROUBLE)


async def _is_shared(service: AuthService) -> bool:
    async with service.connect() as connection:
        if await limits.is_there(connection):
            return True
    service.note("warning", "socle.rate_limits is missing: every node counts rate limits for itself")
    return False
