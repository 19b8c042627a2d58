"""Where the SQL files lie, and what one of them is."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from socle_platform.errors import SocleError
from socle_platform.migrate.quoting import quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLATFORM_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_PROJECT_FILE = re.compile(r"^(\d+)_(.*)\.sql$", re.DOTALL)
_DIRECTIVE = re.compile(r"^-- socle: (\w+)$", re.MULTILINE)
_VARIABLE = re.compile(r""":(["'])([a-z_]+)\1""")


class MigrationFileInvalid(SocleError):
    """A migration file cannot be used."""


def sql_root() -> Path:
    """Where migrations/ and policies/ lie: inside an installed wheel, else at the top of the checkout."""
    packaged = Path(__file__).parents[1] / "_sql"
    return packaged if packaged.is_dir() else Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class PlatformMigration:
    """One numbered file of migrations/platform; `checksum` is the SHA-256 of its text with plain newlines.

    A line `-- socle: superuser` marks what only a superuser can run, `-- socle: cluster` what is about the whole
    server and therefore runs again where a database arrives on a server that lacks the roles.
    """

    version: int
    name: str
    sql: str
    checksum: str
    superuser: bool
    cluster: bool

    @property
    def title(self) -> str:
        """The file's name without its ending, such as 0003_auth."""
        return f"{self.version:04d}_{self.name}"

    def render(self, variables: Mapping[str, str]) -> str:
        """The SQL with psql's `:"name"` (a quoted identifier) and `:'name'` (a quoted literal) filled in."""

        def fill(match: re.Match[str]) -> str:
            value = variables[match[2]]
            return quote_identifier(value) if match[1] == '"' else quote_literal(value)

        return _VARIABLE.sub(fill, self.sql)


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A project's migration: `<version>_<name>.sql` (contract cli.md §1)."""

    version: str
    name: str
    path: Path

    @property
    def title(self) -> str:
        """The file's name."""
        return self.path.name

    def read(self) -> str:
        """The file's text."""
        return read_sql(self.path)


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A seed: `path` is the name it is recorded under, relative to the project (`supabase/seed.sql`)."""

    path: str
    file: Path


def read_sql(path: Path) -> str:
    """The text of an SQL file without a byte order mark.

    Raises MigrationFileInvalid when it is not there or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MigrationFileInvalid(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise MigrationFileInvalid(f"{path}: {error.strerror}") from error


def parse_platform_migration(filename: str, sql: str) -> PlatformMigration:
    """The migration that a file name and its text make.

    Raises MigrationFileInvalid when the name has not the form 0001_name.sql.
    """
    match = _PLATFORM_FILE.match(filename)
    if match is None:
        raise MigrationFileInvalid(f"{filename}: a platform migration is called like 0001_roles.sql")
    sql = sql.replace("\r\n", "\n")
    directives = set(_DIRECTIVE.findall(sql))
    return PlatformMigration(
        version=int(match[1]),
        name=match[2],
        sql=sql,
        checksum=hashlib.sha256(sql.encode()).hexdigest(),
        superuser="superuser" in directives,
        cluster="cluster" in directives,
    )


@lru_cache(maxsize=4)
def load_platform_migrations(root: Path | None = None) -> tuple[PlatformMigration, ...]:
    """The platform's migrations in order; `root` stands for sql_root() in tests."""
    folder = (root or sql_root()) / "migrations" / "platform"
    found = sorted(
        (parse_platform_migration(path.name, read_sql(path)) for path in folder.glob("*.sql")),
        key=lambda migration: migration.version,
    )
    for before, after in pairwise(found):
        if before.version == after.version:
            raise MigrationFileInvalid(f"{before.title} and {after.title} have the same number")
    if not found:
        raise MigrationFileInvalid(f"{folder}: no platform migrations here")
    return tuple(found)


def load_migration_files(folder: Path) -> tuple[tuple[MigrationFile, ...], tuple[str, ...]]:
    """A project's migrations sorted by version, and the names of SQL files that are none (contract cli.md §1).

    Raises MigrationFileInvalid when two files have one version.
    """
    found: dict[str, MigrationFile] = {}
    skipped: list[str] = []
    for path in sorted(folder.glob("*.sql")) if folder.is_dir() else ():
        match = _PROJECT_FILE.match(path.name)
        if match is None:
            skipped.append(path.name)
        elif match[1] in found:
            raise MigrationFileInvalid(f"{found[match[1]].title} and {path.name} have the same version")
        else:
            found[match[1]] = MigrationFile(version=match[1], name=match[2], path=path)
    return tuple(found[version] for version in sorted(found)), tuple(skipped)
