"""JavaScript clients in tests: scripts run by the deno wheel, with genuine npm packages."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

_TIMEOUT = 60.0


async def run_deno(script: str, **values: object) -> Any:
    """Runs the script (TypeScript) with `values` as the global `given`; what it passes to `answer` comes back.

    Skips the test where the npm packages that it imports cannot be had.
    """
    deno = shutil.which("deno", path=str(Path(sys.executable).parent)) or shutil.which("deno")
    if deno is None:
        pytest.skip("deno is not installed (the wheel `deno`)")
    with tempfile.TemporaryDirectory(prefix="socle-deno-") as folder:
        file = Path(folder) / "script.ts"
        prelude = (
            f"const given: any = {json.dumps(values)};\n"
            'const answer = (value: unknown) => console.log("ANSWER " + JSON.stringify(value));\n'
        )
        file.write_text(prelude + script)
        await _prepare(deno, file)
        code, out, err = await _run(deno, "run", "--allow-all", "--no-check", "--quiet", str(file))
    answers = [line[7:] for line in out.splitlines() if line.startswith("ANSWER ")]
    assert code == 0, f"{out}\n{err}"
    assert answers, f"{out}\n{err}"
    return json.loads(answers[-1])


async def _prepare(deno: str, file: Path) -> None:
    """Fetches what the script imports, so that a missing network is not taken for a failing test."""
    code, _, err = await _run(deno, "cache", "--no-check", str(file))
    if code:
        pytest.skip(f"the npm packages of this test cannot be fetched: {err.strip()[-200:]}")


async def _run(*command: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_TIMEOUT):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), err.decode()
