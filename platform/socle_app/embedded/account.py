"""The operating system user the server runs as: PostgreSQL refuses to be root (embedded-postgres.md §2)."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from socle_app.embedded.errors import AccountUnusable

DEFAULT_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as. `switched`: we are root and give up our rights for it."""

    name: str
    uid: int
    gid: int
    switched: bool


def own_name() -> str:
    """The name peer authentication will see for us. Raises AccountUnusable for a uid without a passwd line."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise AccountUnusable(
            f"User id {uid} has no line in /etc/passwd, which PostgreSQL needs. Add one "
            f"(echo 'socle:x:{uid}:{os.getegid()}::/:/sbin/nologin' >> /etc/passwd), "
            "run the container with a user that has one, or use --db-url."
        ) from None


def owner_name(uid: int) -> str:
    """A uid for people: its name, else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def resolve_account(run_as: str | None, data_owner: int | None = None) -> Account:
    """Whom to run as: ourselves, or as root `run_as`, else the owner of existing data, else nobody.

    Raises AccountUnusable when that user is unknown, is root, or is not us and we are not root.
    """
    mine = own_name()
    if os.geteuid() != 0:
        if run_as not in (None, mine):
            raise AccountUnusable(f"Only root can run the server as {run_as}. Start as root, or leave out --run-as.")
        return Account(mine, os.geteuid(), os.getegid(), switched=False)
    if run_as is None and data_owner:
        run_as = owner_name(data_owner)
    wanted = run_as or DEFAULT_UNPRIVILEGED
    try:
        entry = pwd.getpwnam(wanted)
    except KeyError:
        raise AccountUnusable(
            f"There is no operating system user {wanted} to run the server as (PostgreSQL refuses to run as root). "
            f"Create it (useradd --system {wanted}) or name another with --run-as."
        ) from None
    if entry.pw_uid == 0:
        raise AccountUnusable("PostgreSQL refuses to run as root. Name an unprivileged user with --run-as.")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=True)
