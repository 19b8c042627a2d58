"""`socle test`: the whole check of a checkout, with nothing but Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from socle_app.cli.console import err, print_step
from socle_platform.errors import SocleError

ROOT = Path(__file__).parents[3]


class NotACheckout(SocleError):
    """`socle test` needs a checkout of the repository; an installed wheel has no tests.

    `hint` names the way there.
    """

    hint = "Clone the repository and run ./socle test there."


@dataclass(frozen=True, slots=True)
class Check:
    """One tool of the house check and its command line."""

    name: str
    command: tuple[str, ...]


def register(app: typer.Typer) -> None:
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(test)
    app.command()(check)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


def test(
    context: typer.Context,
    fast: Annotated[bool, typer.Option("--fast", help="Only pytest, no linters and type checkers.")] = False,
) -> None:
    """Run the tests, the linters and the type checkers of this checkout (arguments go to pytest)."""
    _need_checkout()
    arguments = context.args or []
    # Each worker collects all tests: when one process did so before, it finds them compiled.
    collection = Check("collection of the tests", (_tool("pytest"), "-q", "--collect-only"))
    workers = [] if any(argument.startswith("-n") for argument in arguments) else ["-n", str((os.cpu_count() or 2) + 2)]
    if not fast and not arguments and not run_checks(collection):
        raise typer.Exit(1)
    code = subprocess.run([_tool("pytest"), "-q", "--dist", "worksteal", *workers, *arguments], cwd=ROOT).returncode
    raise typer.Exit(code)


def check() -> None:
    """Run ruff, mypy, pyright and import-linter."""
    _need_checkout()
    if not run_checks():
        raise typer.Exit(1)


def run_checks(*further: Check) -> bool:
    """All static checks, two at a time; prints the output of those that fail. Returns whether all passed."""
    checks = (
        *further,
        Check("mypy", (_tool("mypy"),)),
        Check("pyright", (_tool("basedpyright"),)),
        Check("ruff check", (_tool("ruff"), "check")),
        Check("ruff format", (_tool("ruff"), "format", "--check", "--quiet")),
        Check("import-linter", (_tool("lint-imports"),)),
    )
    with ThreadPoolExecutor(max_workers=2) as pool:
        return all(list(pool.map(_run, checks)))


def _run(item: Check) -> bool:
    started = time.monotonic()
    done = subprocess.run(item.command, cwd=ROOT, capture_output=True, text=True)
    took = f"{item.name} ({time.monotonic() - started:.0f} s)"
    if done.returncode == 0:
        print_step(took)
        return True
    err.print(f"[bold red]✗[/] {took}")
    err.out((done.stdout + done.stderr).rstrip())
    return False


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def bench(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="What to measure: start, rest, auth, storage, or all of them.")] = "all",
) -> None:
    """Measure this checkout. --write records the figures and draws docs/benchmarks.md; --check fails where one fell.

    Further arguments go to the benchmark.
    """
    _need_checkout()
    arguments = context.args
    if what.startswith("-"):  # an option came where the name is left out
        what, arguments = "all", [what, *arguments]
    program = ROOT / "bench" / f"{what}.py"
    if not what.isidentifier() or not program.is_file():
        raise typer.BadParameter(f"there is no benchmark {what!r}")
    raise typer.Exit(subprocess.run([sys.executable, str(program), *arguments], cwd=ROOT).returncode)


def _need_checkout() -> None:
    if not (ROOT / "tests").is_dir() or not (ROOT / "pyproject.toml").is_file():
        raise NotACheckout
