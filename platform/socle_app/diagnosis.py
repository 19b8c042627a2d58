"""Findings about this machine and this project: ports, versions, rights, disk, keys, database."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from socle_app.keychain import ensure_keychain
from socle_app.places import Place, locate
from socle_app.source import external_url
from socle_app.state import StateUnreadable
from socle_platform.config.database import load_database_port
from socle_platform.config.gateway import load_gateway
from socle_platform.config.keys import load_keys
from socle_platform.config.reader import ConfigError, Reader
from socle_platform.config.settings import load
from socle_platform.errors import SocleError

_LOW_DISK = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ok, worth knowing (warning) or in the way (error), with the remedy."""

    subject: str
    level: Literal["ok", "warning", "error"]
    text: str
    remedy: str = ""


async def examine(project: Path | None, state: Path | None) -> list[Finding]:
    """All findings, in the order in which a start would meet them."""
    place = locate(project, state)
    try:
        given = place.project.environment(os.environ)
    except ConfigError as error:
        return [_python(), *(Finding("settings", "error", problem) for problem in error.problems), _disk(place)]
    findings = [_python(), _project(place), *_settings(given), *_keys(place, given), _disk(place)]
    running = place.state.read_running()
    if running is not None:
        findings.append(Finding("platform", "ok", f"running as process {running.pid} at {running.values['API_URL']}"))
        findings.append(await _database(running.values["DB_URL"]))
        return findings
    findings += _ports(given)
    url = external_url(given)
    findings.append(await _database(url) if url else _embedded(place))
    return findings


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", "ok", f"{version} at {sys.executable}")


def _project(place: Place) -> Finding:
    return Finding("project", "ok", f"{place.project.name} at {place.project.root}, state in {place.state.path}")


def _settings(given: dict[str, str]) -> Iterator[Finding]:
    read = Reader(given)
    load_database_port(read)
    problems = list(read.problems)
    try:
        load(given)
    except ConfigError as error:
        problems += error.problems
    if problems:
        for problem in problems:
            yield Finding("settings", "error", problem)
    else:
        yield Finding("settings", "ok", "all readable")


def _keys(place: Place, given: dict[str, str]) -> Iterator[Finding]:
    read = Reader(given)
    gateway, keys = load_gateway(read), load_keys(read)
    try:
        place.state.ensure()
        keychain = ensure_keychain(keys, given, place.state, loopback=gateway.is_loopback)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("keys", "error", problem)
        return
    except StateUnreadable as error:
        yield Finding("keys", "error", error.message, error.hint)
        return
    text = "the published local ones (loopback only)" if keychain.is_local else "this project's own"
    yield Finding("keys", "ok", text)


def _disk(place: Place) -> Finding:
    folder = place.state.path if place.state.path.exists() else place.state.path.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free below {folder}"
    if free < _LOW_DISK:
        return Finding("disk", "warning", text, "Make room, or choose another folder with --state.")
    return Finding("disk", "ok", text)


def _ports(given: dict[str, str]) -> Iterator[Finding]:
    read = Reader(given)
    gateway = load_gateway(read)
    wanted = [("--port", gateway.host, gateway.port)]
    if not external_url(given):
        wanted.append(("--db-port", "127.0.0.1", load_database_port(read)))
    for flag, host, port in wanted:
        if _is_free(host, port):
            yield Finding("port", "ok", f"{host}:{port} is free")
        else:
            yield Finding("port", "error", f"{host}:{port} is in use", f"Choose another with {flag}.")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _embedded(place: Place) -> Finding:
    from socle_app.embedded.account import resolve_account
    from socle_app.embedded.server_tree import find_server_tree
    from socle_app.embedded.status import status

    try:
        tree = find_server_tree()
        account = resolve_account(None, None)
    except SocleError as error:
        return Finding("postgres", "error", error.message)
    found = status(place.state.path)
    data = "no data yet, a start makes it in" if found.state == "absent" else f"data ({found.state}) in"
    return Finding("postgres", "ok", f"embedded {tree.version}, will run as {account.name}; {data} {found.data_dir}")


async def _database(url: str) -> Finding:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Finding(
            "postgres", "error", f"cannot be reached: {error}", "Check the URL, the server and its pg_hba.conf."
        )
    try:
        version = await connection.fetchval("show server_version")
        role = await connection.fetchval("select current_user::text")
    finally:
        await connection.close()
    return Finding("postgres", "ok", f"{version}, reached as {role}")
