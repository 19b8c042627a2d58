"""The guards of the house: plain rooms, a living standard library, light imports, no address in a lock file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("platform", "auth", "rest", "storage", "realtime", "functions")
HEAVY = ("aioboto3", "boto3", "botocore", "stripe", "sqlglot", "authlib", "pyvips", "PIL", "webauthn")


def test_rooms_are_plain_folders() -> None:
    for room in ROOMS:
        assert not (ROOT / room / "__init__.py").exists(), room
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_standard_library_survives_in_the_checkout() -> None:
    code = "import platform, uuid, asyncio; platform.system()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("module", ["socle_app.cli", "socle_app.lifecycle", "socle_app.app"])
def test_heavy_libraries_wait_for_their_first_use(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_help_imports_no_service() -> None:
    code = (
        "import sys\nfrom socle_app.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "services = ('socle_rest', 'socle_auth', 'uvicorn', 'asyncpg')\n"
        "print('|', *[name for name in sys.modules if name.startswith(services)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.rsplit("|", 1)[1].split() == []


def test_lock_files_name_versions_and_hashes_and_no_address() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"https?://|--index|--extra-index|--find-links", text), lock
        pins = re.findall(r"^[A-Za-z0-9_.\[\]-]+==", text, flags=re.MULTILINE)
        assert len(pins) > 20, lock
        assert text.count("--hash=sha256:") >= len(pins), lock


def test_each_package_is_marked_as_typed() -> None:
    packages = [path.parent for room in ROOMS for path in (ROOT / room).glob("*/__init__.py")]
    assert len(packages) == 7
    for package in packages:
        assert (package / "py.typed").exists(), package
