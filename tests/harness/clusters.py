"""Throw-away PostgreSQL clusters that are not the platform's own: any installed version, superuser `postgres`.

Servers of distributions are looked for where Debian puts them; the embedded wheel's server is always there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.postgres import free_port
from socle_app.embedded.account import Account, resolve_account
from socle_app.embedded.server_tree import find_server_tree, reachable_tree

PASSWORD = "postgres"
_SUPPORTED = range(15, 19)
_SECONDS_TO_START = 20.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: TCP on loopback, superuser `postgres` with a password."""

    port: int

    def url(self, database: str = "postgres", role: str = "postgres", password: str = PASSWORD) -> str:
        """A connection URL."""
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"


def installed_servers() -> dict[str, Path | None]:
    """Folders with initdb and postgres by major version; None stands for the embedded wheel's."""
    found: dict[str, Path | None] = {
        path.parent.parent.name: path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")
        if re.fullmatch(r"\d+", path.parent.parent.name) and int(path.parent.parent.name) in _SUPPORTED
    }
    return {**found, find_server_tree().major: None}


@contextlib.contextmanager
def running_cluster(binaries: Path | None) -> Generator[Cluster]:
    """A fresh cluster until the block ends; as root it runs as an unprivileged user."""
    account = resolve_account(None)
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="socle-cluster-", dir=shm if os.access(shm, os.W_OK) else None))
    folder.chmod(0o711)
    try:
        if binaries is None:
            binaries = reachable_tree(find_server_tree(), account, folder).program("postgres").parent
        with _server(binaries, folder, account) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _server(binaries: Path, folder: Path, account: Account) -> Generator[Cluster]:
    data, log, password = folder / "data", folder / "log", folder / "password"
    data.mkdir(mode=0o700)
    password.write_text(PASSWORD)
    if account.switched:
        for path in (data, password, folder):
            os.chown(path, account.uid, account.gid)
    access: list[str | Path] = ["-U", "postgres", f"--pwfile={password}", "-A", "scram-sha-256"]
    init: list[str | Path] = [binaries / "initdb", "-D", data, *access, "--no-sync", "-E", "UTF8", "--locale=C"]
    assert _spawn(init, account, log).wait(timeout=60) == 0, log.read_text(errors="replace")
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "fsync": "off", "wal_level": "logical", "shared_buffers": "32MB"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = _spawn([binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, *options], account, log)
    try:
        _wait_until_ready(data, server, log)
        yield Cluster(port)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)


def _spawn(command: Sequence[str | Path], account: Account, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        if not account.switched:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
            )
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )


def _wait_until_ready(data: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(errors="replace")
        with contextlib.suppress(OSError, IndexError):
            if (data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready":
                return
        time.sleep(0.005)
    raise AssertionError(f"not ready: {log.read_text(errors='replace')}")
