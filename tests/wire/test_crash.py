"""`kill -9` of either process under a write load: what was acknowledged is there afterwards (fsync on)."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
import pytest

from harness.program import Program, running_program

WRITERS = 8
ENOUGH = 150


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    tmp_path.chmod(0o755)
    with running_program(tmp_path) as running:
        yield running


class Writers:
    """Insert rows until told to stop; each acknowledged name goes to a list outside the server."""

    def __init__(self, program: Program) -> None:
        self._program = program
        with program.client() as client:
            person = {"email": f"{uuid.uuid4()}@example.com", "password": "a-good-password"}
            self._owner: str = client.post("/auth/v1/signup", json=person).json()["user"]["id"]
        self._stopping = threading.Event()
        self.acknowledged: list[str] = []
        self.statuses: set[int] = set()
        self.bodies: list[str] = []
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, count: int) -> None:
        deadline = threading.Event()
        for _ in range(2000):
            if len(self.acknowledged) >= count:
                return
            deadline.wait(0.01)
        raise TimeoutError(f"only {len(self.acknowledged)} rows were written")

    def _write(self) -> None:
        with self._program.client() as client:
            while not self._stopping.is_set():
                name = uuid.uuid4().hex
                try:
                    answer = client.post("/rest/v1/product", json={"title": name, "created_by": self._owner})
                except httpx.HTTPError:
                    self._stopping.wait(0.01)
                    continue
                self.statuses.add(answer.status_code)
                if answer.status_code == 201:
                    self.acknowledged.append(name)
                elif len(self.bodies) < 100:
                    self.bodies.append(answer.text)


def test_kill_of_the_program(program: Program) -> None:
    with Writers(program) as writers:
        writers.wait_for(ENOUGH)
        program.kill()
    program.start()
    missing = set(writers.acknowledged) - all_titles(program)
    assert not missing


def test_kill_of_the_postmaster(program: Program) -> None:
    with Writers(program) as writers:
        writers.wait_for(ENOUGH)
        os.kill(program.database_pid(), signal.SIGKILL)
        before = len(writers.acknowledged)
        program.wait_until_healthy()
        writers.wait_for(before + ENOUGH)
    missing = set(writers.acknowledged) - all_titles(program)
    assert not missing
    assert writers.statuses <= {201, 503}, (writers.statuses, writers.bodies[:3])


def all_titles(program: Program) -> set[str]:
    names: set[str] = set()
    with program.client() as client:
        while True:
            page = client.get(f"/rest/v1/product?select=title&order=id&offset={len(names)}&limit=1000").json()
            names |= {row["title"] for row in page}
            if len(page) < 1000:
                return names


def test_requests_in_flight_while_the_database_dies(program: Program) -> None:
    """Two hundred requests wait in the database when it is killed: a clean 5xx each, and full service after."""

    async def scene() -> list[int]:
        secret = program.values["SERVICE_ROLE_KEY"]
        headers = {"apikey": secret, "authorization": f"Bearer {secret}"}
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=program.values["API_URL"], headers=headers, limits=limits, timeout=30
        ) as client:

            async def ask(number: int) -> int:
                answer = await client.get(f"/rest/v1/product_items?select=*&limit=1&id=gt.{number}")
                if answer.status_code != 200:
                    assert answer.json()["code"], answer.text
                return answer.status_code

            asking = [asyncio.create_task(ask(number)) for number in range(200)]
            await asyncio.sleep(0)
            os.kill(program.database_pid(), signal.SIGKILL)
            return list(await asyncio.gather(*asking))

    statuses = asyncio.run(scene())
    assert len(statuses) == 200
    assert set(statuses) <= {200, 503}, sorted(set(statuses))
    program.wait_until_healthy()
    with program.client() as client:
        assert client.get("/rest/v1/product_items?select=*").status_code == 200
        assert client.get("/auth/v1/admin/users").status_code == 200
