"""Starting in the background, and stopping what runs there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from socle_app.places import locate
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from pathlib import Path

    from socle_app.options import StartOptions
    from socle_app.state import StateFolder

STOP_SECONDS = 40.0


class StartFailed(SocleError):
    """The platform did not come up."""

    def __init__(self, log: str, last_lines: str) -> None:
        self.hint = f"The whole log: {log}"
        super().__init__("The platform did not come up:\n" + last_lines)


def start_detached(options: StartOptions) -> None:
    """Starts the same command in a session of its own, waits until it is ready, and prints what it printed.

    Raises StartFailed with the end of its log when it gives up.
    """
    place = locate(options.project, options.state)
    place.state.ensure()
    arguments = [*(_flags(options)), "--json", "--state", str(place.state.path)]
    if options.project:
        arguments += ["--project", str(options.project)]
    log_file = place.state.log_file
    with open(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:  # noqa: PTH123 (its rights)
        before = log.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            [sys.executable, "-m", "socle_app", "start", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    if not line:
        child.wait()
        raise StartFailed(str(log_file), _last_words(log_file, before))
    if options.json:
        sys.stdout.write(line.decode())
        return
    from socle_app.banner import print_status
    from socle_app.cli.console import out, print_step, print_warning

    running = place.state.read_running()
    print_step(f"Serving in the background as process {child.pid} ({json.loads(line)['API_URL']})")
    if running is not None:
        print_status(out, running)
        for note in running.notes:
            print_warning(note)


def _last_words(log_file: Path, before: int) -> str:
    """What that start said for people, without its JSON lines; all it said where it died without a word."""
    with log_file.open("rb") as log:
        log.seek(before)
        lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(([line for line in lines if not line.startswith("{")] or lines)[-15:])


def _flags(options: StartOptions) -> list[str]:
    named = {
        "--host": options.host,
        "--port": options.port,
        "--db-port": options.database_port,
        "--db-url": options.database_url,
        "--run-as": options.run_as,
    }
    flags = [part for name, value in named.items() if value is not None for part in (name, str(value))]
    return [*flags, "--verbose"] if options.verbose else flags


def stop_running(state: StateFolder) -> bool:
    """Ends the platform of that state folder; False when none ran. Its own clean stop, then by force after a while."""
    running = state.read_running()
    if running is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while state.read_running() is not None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
            state.forget_running()
            break
        time.sleep(0.02)
    return True
