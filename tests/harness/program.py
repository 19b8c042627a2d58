"""Socle as its users run it: a process of its own, started and killed from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from harness.postgres import free_port

_START_SECONDS = 30.0


@dataclass
class Program:
    """`socle start` in a folder; ports stay the same over restarts."""

    folder: Path
    extra: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict[str, str])
    port: int = field(default_factory=free_port)
    database_port: int = field(default_factory=free_port)
    values: dict[str, str] = field(default_factory=dict[str, str])
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "program.log"

    def start(self) -> None:
        """Returns once it is ready; raises with the end of its log when it gives up."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "SOCLE_"))}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "socle_app", "start", "--json", *self._ports(), *self.extra],
                cwd=self.folder,
                env={**inherited, **self.environ},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(_START_SECONDS)
            raise RuntimeError(self.log.read_text()[-3000:])
        self.values = json.loads(line)

    def _ports(self) -> list[str]:
        return ["--port", str(self.port), "--db-port", str(self.database_port)]

    def kill(self) -> None:
        """`kill -9`, as the machine would do it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """A clean stop by SIGTERM; the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(40)
        self._close()
        return code

    def _close(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None

    def database_pid(self) -> int:
        """The postmaster, as the platform itself notes it."""
        note = json.loads((self.folder / ".socle" / "run.json").read_text())
        return int(note["database_pid"])

    def client(self, key: str = "SERVICE_ROLE_KEY") -> httpx.Client:
        secret = self.values[key]
        headers = {"apikey": secret, "authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.values["API_URL"], headers=headers, timeout=20)

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.HTTPError):
                    if client.get("/health").status_code == 200:
                        return
                time.sleep(0.05)
        raise TimeoutError("the platform did not recover")


@contextlib.contextmanager
def running_program(folder: Path, *extra: str, environ: dict[str, str] | None = None) -> Generator[Program]:
    """A started program in `folder`, stopped at the end."""
    program = Program(folder, extra, environ or {})
    try:
        program.start()
        yield program
    finally:
        program.stop()
