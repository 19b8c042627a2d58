"""The built wheel in a clean environment, away from any checkout: SQL and the built-in project are inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from harness.postgres import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_wheel_starts_away_from_the_checkout(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    venv = tmp_path / "venv"
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv, cwd=tmp_path)
    install: list[str | Path] = [BIN / "uv", "pip", "install", "--quiet", "--python", venv / "bin" / "python"]
    run(*install, "--require-hashes", "-r", ROOT / "requirements" / "base.txt", cwd=tmp_path)
    run(*install, "--no-deps", wheel, cwd=tmp_path)
    project = tmp_path / "empty"
    project.mkdir(mode=0o755)
    command: list[str | Path] = [
        venv / "bin" / "socle",
        "start",
        "--json",
        "--port",
        str(free_port()),
        "--db-port",
        str(free_port()),
    ]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    child = subprocess.Popen(
        command, cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        line = child.stdout.readline()
        assert line, child.stderr.read()[-4000:]
        values = json.loads(line)
        answer = httpx.get(
            f"{values['REST_URL']}/product_items?select=*", headers={"apikey": values["ANON_KEY"]}, timeout=10
        )
        assert (answer.status_code, answer.json()) == (200, [])
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == 0
