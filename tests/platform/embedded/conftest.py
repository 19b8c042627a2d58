"""State folders with a database in them or not, and servers that are stopped at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from harness.embedded import ServerMaker, open_folder
from harness.postgres import free_port
from socle_app.embedded import EmbeddedServer

collect_ignore = [] if os.geteuid() == 0 else ["test_as_root.py"]


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder of one's own that everybody may enter."""
    with open_folder() as made:
        yield made


@pytest.fixture(scope="session")
def made_once() -> Generator[Path]:
    """A state folder with a fresh, stopped database; copied by `state`, never started itself."""
    with open_folder() as made:
        server = EmbeddedServer(made / "state", port=free_port(), host="", profile="test", keep_alive=False)

        async def make() -> None:
            await server.start()
            await server.stop()

        asyncio.run(make())
        yield made / "state"


@pytest.fixture
def state(made_once: Path, folder: Path) -> Path:
    """A state folder of one's own with a database in it."""
    subprocess.run(["cp", "-a", str(made_once), str(folder / "state")], check=True)  # noqa: S607
    return folder / "state"


@pytest.fixture
async def server_of(folder: Path) -> AsyncGenerator[ServerMaker]:
    """Makes servers; what they share lies in `folder`/shared."""
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o711)
    maker = ServerMaker(shared)
    yield maker
    await maker.stop_all()
