"""Nodes tell each other what they took out of the buckets (contracts/auth.md §7.3).

A request asks its own node's buckets only. Twice a second each node settles with the database and learns what the
others took: together they let through at most what one node would, and what they spend within that half second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socle_auth.store import limits
from socle_platform.db import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from socle_auth.context import AuthService

PAUSE = 0.5
"""Seconds between two settlements."""

_AT_ONCE = 1000
_ROUNDS_BETWEEN_SWEEPS = 240


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
    rounds = 0
    while True:
        await asyncio.sleep(pause)
        try:
            if rounds == 0 and not await _is_shared(service):
                return
            while await settle_once(service) == _AT_ONCE:
                pass
            if rounds % _ROUNDS_BETWEEN_SWEEPS == _ROUNDS_BETWEEN_SWEEPS - 1:
                async with service.connect() as connection:
                    await limits.forget_full(connection, service.now().timestamp())
            rounds += 1
        except (DatabaseError, DatabaseUnavailable) as error:
            service.note("debug", f"rate limits are not shared just now: {error}")


async def _is_shared(service: AuthService) -> bool:
    async with service.connect() as connection:
        if await limits.is_there(connection):
            return True
    service.note("warning", "socle.rate_limits is missing: every node counts rate limits for itself")
    return False
