"""`socle keys`: the keys that tokens are signed with, and their rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from socle_app.cli.platform import ProjectOption, StateOption
from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from socle_app.signing_keys import SigningKey, SigningKeyFile

keys = typer.Typer(help="Show and rotate the keys that tokens are signed with.", no_args_is_help=True)

AlgorithmOption = Annotated[
    str | None, typer.Option("--algorithm", "-a", help="ES256, RS256 or EdDSA (default: as now, else ES256).")
]
_MEANING = {
    "in_use": "signs and verifies",
    "standby": "published, signs after the next rotation",
    "previously_used": "verifies only",
    "revoked": "not accepted any more",
}


class KeysFromEnvironment(SocleError):
    """The signing keys come from GOTRUE_JWT_KEYS, which a program cannot change for the next start."""

    hint = "Change the variable yourself, or put its value into a file and name that in SIGNING_KEYS_PATH."


class UnknownAlgorithm(SocleError):
    """No key of that algorithm can be made."""


@keys.command("list")
def list_keys(
    project: ProjectOption = None,
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """Show all signing keys: in use, standby, previously used, revoked."""
    import json

    from socle_app.cli.console import err, out

    file = find_file(project, state)
    rows = _rows(file)
    if as_json:
        out.print_json(json.dumps(rows))
        return
    if not any(row["status"] == "in_use" for row in rows):
        err.print("Tokens are signed with the shared JWT_SECRET (HS256). `socle keys rotate` makes a signing key.")
    if rows:
        from rich.table import Table

        table = Table("Key", "Algorithm", "Status", "Since", box=None, pad_edge=False)
        table.columns[0].no_wrap = True
        table.columns[0].min_width = max(len(row["kid"]) for row in rows)
        for row in rows:
            table.add_row(row["kid"], row["algorithm"], row["status"].replace("_", " "), row["since"][:16])
        out.print(table)


@keys.command()
def rotate(project: ProjectOption = None, state: StateOption = None, algorithm: AlgorithmOption = None) -> None:
    """Sign with the standby key from now on; the former key goes on verifying, so nobody is signed out."""
    from socle_app.cli.console import print_step

    file = find_file(project, state)
    turned = file.rotate(_checked(algorithm))
    for key in turned[:2]:
        print_step(f"{key.kid} ({key.algorithm}): {_MEANING[key.status]}")
    _tell_running(project, state)


@keys.command()
def standby(project: ProjectOption = None, state: StateOption = None, algorithm: AlgorithmOption = None) -> None:
    """Make another standby key in place of the one there is, for example to change the algorithm."""
    from socle_app.cli.console import print_step
    from socle_app.signing_keys import DEFAULT_ALGORITHM

    fresh = find_file(project, state).replace_standby(_checked(algorithm) or DEFAULT_ALGORITHM)
    print_step(f"{fresh.kid} ({fresh.algorithm}): {_MEANING['standby']}")
    _tell_running(project, state)


@keys.command()
def revoke(
    kid: Annotated[str, typer.Argument(help="The key's name, as `socle keys list` shows it.")],
    project: ProjectOption = None,
    state: StateOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Refuse all tokens and signed links of a former key from now on."""
    from socle_app.cli.console import print_step

    file = find_file(project, state)
    if not yes:
        typer.confirm(
            "Sessions whose access token bears this key must refresh, and signed storage links made with it die. "
            "Revoke it?",
            abort=True,
        )
    gone = file.revoke(kid)
    print_step(f"{gone.kid} ({gone.algorithm}): {_MEANING['revoked']}")
    _tell_running(project, state)


def find_file(project: Path | None, state: Path | None) -> SigningKeyFile:
    """The file of a project's signing keys. Raises KeysFromEnvironment, ConfigError."""
    from socle_app.places import locate
    from socle_app.signing_keys import SigningKeyFile
    from socle_platform.config.keys import load_keys
    from socle_platform.config.reader import Reader

    place = locate(project.absolute() if project else None, state.absolute() if state else None)
    read = Reader(place.project.environment(os.environ))
    given = load_keys(read)
    read.finish()
    if given.signing_keys_file is None and given.signing_keys:
        raise KeysFromEnvironment
    if given.signing_keys_file is None:
        place.state.ensure()
    return SigningKeyFile(given.signing_keys_file or place.state.signing_keys_file)


def _rows(file: SigningKeyFile) -> list[dict[str, str]]:
    living = [_row(key) for key in file.read()]
    gone = [
        {"kid": key.kid, "algorithm": key.algorithm, "status": "revoked", "since": key.revoked_at}
        for key in file.read_revoked()
    ]
    return [*living, *gone]


def _row(key: SigningKey) -> dict[str, str]:
    return {"kid": key.kid, "algorithm": key.algorithm, "status": key.status, "since": key.since}


def _checked(algorithm: str | None) -> str | None:
    from socle_app.signing_keys import ALGORITHMS

    if algorithm is not None and algorithm not in ALGORITHMS:
        raise UnknownAlgorithm(f"{algorithm!r} is none of {', '.join(ALGORITHMS)}")
    return algorithm


def _tell_running(project: Path | None, state: Path | None) -> None:
    from socle_app.cli.console import err
    from socle_app.places import locate

    if locate(project, state).state.read_running() is not None:
        err.print("  The running platform takes this over within a second.")
