"""The background job that takes away what has expired (contracts/auth.md §6.1, «cleanup»)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from socle_auth.store.cleanup import Sweep, sweeps
from socle_platform.db import DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from socle_auth.context import AuthService

PAUSE = 60.0
"""Seconds between two rounds; a round that found a full hundred goes on at once."""


async def sweep_once(service: AuthService) -> dict[str, int]:
    """One round: how many rows of each kind went. Each kind is a transaction of its own."""
    settings = service.settings
    counts = dict[str, int]()
    for sweep in sweeps(
        anonymous=settings.external.anonymous_enabled,
        timebox=settings.sessions.timebox,
        inactivity=settings.sessions.inactivity_timeout,
    ):
        counts[sweep.name] = await _sweep(service, sweep)
    return counts


async def _sweep(service: AuthService, sweep: Sweep) -> int:
    try:
        async with service.connect() as connection:
            return await sweep.run(connection, service.now())
    except DatabaseError as error:
        service.note("warning", f"cleaning up {sweep.name} failed: {error.sqlstate} {error}")
        return 0


async def run(service: AuthService, pause: float = PAUSE) -> None:
    """Rounds until cancelled. A database that is away is waited for."""
    if not service.settings.cleanup_enabled:
        return
    while True:
        try:
            counts = await sweep_once(service)
        except DatabaseUnavailable as error:
            service.note("debug", f"cleaning up has to wait: {error}")
            counts = {}
        if not any(count >= 100 for count in counts.values()):
            await asyncio.sleep(pause)
