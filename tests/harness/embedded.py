"""Embedded servers of one's own: state folders on a fast disk that the server's user can enter."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from harness.postgres import free_port
from socle_app.embedded import EmbeddedServer, Endpoint
from socle_platform.events import Observe, silent


@contextlib.contextmanager
def open_folder() -> Generator[Path]:
    """A folder with a short path that everybody may enter (pytest's own are closed to other users)."""
    shm = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="socle-embedded-", dir=shm if os.access(shm, os.W_OK) else None))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@dataclass
class ServerMaker:
    """Makes servers whose data need not outlive the machine, and stops those that still run at the end."""

    shared_dir: Path
    made: list[EmbeddedServer] = field(default_factory=list[EmbeddedServer])

    def __call__(
        self,
        state: Path,
        *,
        port: int | None = None,
        host: str = "",
        keep_alive: bool = False,
        run_as: str | None = None,
        settings: Mapping[str, str] | None = None,
        observe: Observe = silent,
    ) -> EmbeddedServer:
        server = EmbeddedServer(
            state,
            port=port or free_port(),
            host=host,
            profile="test",
            keep_alive=keep_alive,
            run_as=run_as,
            settings=settings,
            observe=observe,
            shared_dir=self.shared_dir,
            stop_seconds=5.0,
        )
        self.made.append(server)
        return server

    async def stop_all(self) -> None:
        for server in self.made:
            await server.stop()


@contextlib.asynccontextmanager
async def connected(endpoint: Endpoint, role: str = "supabase_admin") -> AsyncGenerator[asyncpg.Connection[Any]]:
    """A session through the socket, as any role."""
    connection = await asyncpg.connect(
        host=str(endpoint.socket_dir), port=endpoint.port, user=role, database="postgres", timeout=10
    )
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError):  # some tests kill the other end
            await connection.close(timeout=5)
