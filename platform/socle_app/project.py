"""What a project folder holds: `supabase/` with config.toml, migrations, seeds, functions; or the built-in project."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from socle_app.project_config import Config, read_config, read_dotenv
from socle_platform.errors import SocleError
from socle_platform.migrate.policy_files import PolicyFile, load_policy_files
from socle_platform.migrate.sources import MigrationFile, SeedFile, load_migration_files, sql_root

BUILT_IN = "dedicace"
_FOLDER = "supabase"
_MARKS = ("config.toml", "migrations", "functions", "seed.sql", "policies")


class ProjectNotFound(SocleError):
    """There is no project here."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project: `root` is the folder that holds `supabase/`, or, for the built-in one, the folder we were started in.

    Nothing is kept: each look reads the files again.
    """

    root: Path
    built_in: bool = False

    @property
    def supabase(self) -> Path:
        """The folder `supabase/`; need not be there for the built-in project."""
        return self.root / _FOLDER

    @property
    def name(self) -> str:
        """`project_id` of config.toml, else the folder's name."""
        return BUILT_IN if self.built_in else self.config({}).text("project_id") or self.root.name

    def config(self, process_environ: Mapping[str, str]) -> Config:
        """The project's config.toml, with variables of the process and of .env files looked up in it.

        Raises ConfigError.
        """
        path = self.supabase / "config.toml"
        return read_config(
            path if not self.built_in and path.is_file() else None, {**self.dotenv(process_environ), **process_environ}
        )

    def environment(self, process_environ: Mapping[str, str]) -> dict[str, str]:
        """One environment out of three: the process's wins over .env files, these over config.toml.

        Raises ConfigError when a file cannot be used.
        """
        config = self.config(process_environ)
        return {
            **config.environment(),
            **self._paths(config),
            **self.dotenv(process_environ),
            **process_environ,
        }

    def dotenv(self, process_environ: Mapping[str, str]) -> dict[str, str]:
        """Variables of the .env files. What is further up in `dotenv_files` wins."""
        found: dict[str, str] = {}
        for path in reversed(self.dotenv_files(process_environ)):
            found |= read_dotenv(path.read_text(encoding="utf-8-sig"))
        return found

    def dotenv_files(self, process_environ: Mapping[str, str]) -> tuple[Path, ...]:
        """The .env files that are there. SUPABASE_ENV (development unless set) chooses among `.env.<name>`:
        `.env.production` counts with SUPABASE_ENV=production."""
        chosen = process_environ.get("SUPABASE_ENV") or "development"
        names = (f".env.{chosen}.local", ".env.local", f".env.{chosen}", ".env")
        folders = (self.root,) if self.built_in else (self.supabase, self.root)
        return tuple(path for folder in folders for name in names if (path := folder / name).is_file())

    def migrations(self, process_environ: Mapping[str, str] | None = None) -> tuple[MigrationFile, ...]:
        """The migrations in order. Raises MigrationFileInvalid."""
        if not self.config(process_environ or {}).flag("db.migrations.enabled", default=True):
            return ()
        return load_migration_files(self.migrations_folder)[0]

    @property
    def migrations_folder(self) -> Path:
        """Where the migrations lie."""
        return sql_root() / "migrations" / BUILT_IN if self.built_in else self.supabase / "migrations"

    def policies(self) -> tuple[PolicyFile, ...]:
        """The declared policies: supabase/policies/*.sql. Raises PolicyFileInvalid."""
        if self.built_in:
            return load_policy_files(sql_root() / "policies" / BUILT_IN, prefix=f"policies/{BUILT_IN}/")
        return load_policy_files(self.supabase / "policies", prefix=f"{_FOLDER}/policies/")

    def seeds(self, process_environ: Mapping[str, str] | None = None) -> tuple[SeedFile, ...]:
        """The seed files: [db.seed] sql_paths, relative to supabase/, sorted within each pattern."""
        config = self.config(process_environ or {})
        if self.built_in or not config.flag("db.seed.enabled", default=True):
            return ()
        found: dict[Path, None] = {}
        for pattern in config.list("db.seed.sql_paths", ("./seed.sql",)):
            # Not Path.glob: it refuses patterns that go up.
            for match in sorted(glob.glob(pattern, root_dir=self.supabase, recursive=True)):  # noqa: PTH207
                path = (self.supabase / match).resolve()
                if path.is_file():
                    found[path] = None
        return tuple(SeedFile(path=self._shown(path), file=path) for path in found)

    def roles_file(self) -> Path | None:
        """supabase/roles.sql, if it is there."""
        path = self.supabase / "roles.sql"
        return path if not self.built_in and path.is_file() else None

    @property
    def functions_folder(self) -> Path | None:
        """supabase/functions, if it is there."""
        path = self.supabase / "functions"
        return path if not self.built_in and path.is_dir() else None

    def function_secrets(self, process_environ: Mapping[str, str]) -> dict[str, str]:
        """[edge_runtime.secrets]: what functions see besides the platform's own variables."""
        secrets = self.config(process_environ).section("edge_runtime.secrets")
        return {name: str(value[""]) for name, value in secrets.items() if "" in value}

    def warnings(self, process_environ: Mapping[str, str]) -> tuple[str, ...]:
        """What a person should know: unknown or unset keys, what has no effect, files in migrations/ that are none."""
        config, skipped = self.config(process_environ), load_migration_files(self.migrations_folder)[1]
        folder = self.functions_folder
        unserved = folder is not None and any(folder.iterdir())
        return (
            *config.warnings,
            *(
                f"config.toml: storage.buckets.{name} is not created: insert it into storage.buckets in a migration"
                for name in config.section("storage.buckets")
            ),
            *((f"{_FOLDER}/functions: functions are not served yet",) if unserved else ()),
            *(f"{_FOLDER}/migrations/{name}: skipped, a migration is called <digits>_<name>.sql" for name in skipped),
        )

    def _shown(self, path: Path) -> str:
        root = self.root.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

    def _paths(self, config: Config) -> dict[str, str]:
        """Values that name files: passed on as absolute paths."""
        names: dict[str, str] = {}
        if keys := config.text("auth.signing_keys_path"):
            names["SIGNING_KEYS_PATH"] = str(self._resolve(keys))
        for section, ending in (("template", ""), ("notification", "_NOTIFICATION")):
            for name, settings in config.section(f"auth.email.{section}").items():
                if path := settings.get("content_path"):
                    names[f"GOTRUE_MAILER_TEMPLATES_{name.upper()}{ending}"] = str(self._resolve(str(path)))
        return names

    def _resolve(self, path: str) -> Path:
        """A path of config.toml: relative to the project, where older files have it, or to supabase/."""
        below_root = (self.root / path).resolve()
        return below_root if below_root.exists() else (self.supabase / path).resolve()


def find_project(named: Path | None, start: Path) -> Project:
    """The project in the folder that was named, or the nearest one upwards from `start`, or the built-in one.

    `named` may be the folder that holds supabase/ or that folder itself. Raises ProjectNotFound where a folder was
    named and holds no project.
    """
    if named is not None:
        root = named.resolve()
        if root.name == _FOLDER and _is_project_folder(root):
            root = root.parent
        if not _is_project_folder(root / _FOLDER):
            reason = "has no supabase/ folder" if root.is_dir() else "is not a folder"
            raise ProjectNotFound(
                f"{root} {reason}. Name the folder that holds supabase/, or leave --project away: "
                f"without a project the built-in one ({BUILT_IN}) runs."
            )
        return Project(root)
    here = start.resolve()
    for folder in (here, *here.parents):
        if _is_project_folder(folder / _FOLDER):
            return Project(folder)
    return Project(here, built_in=True)


def _is_project_folder(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _MARKS)
