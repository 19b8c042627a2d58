"""The other places where PostgREST keeps settings, brought to the environment's names: its file, and the database.

Priority: database > environment > file (contracts/rest.md §15). The file has a setting a line, `db-schemas = "api"`;
values are text in double quotes, numbers, or `true`/`false`/`on`/`off`; `#` begins a comment; `$(NAME)` inside text is
that environment variable and `$$` a dollar sign.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from socle_platform.config.reader import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "PGRST_"
APP_PREFIX = "app.settings."
_LINE = re.compile(
    r"""\s*(?P<name>[A-Za-z_][\w.-]*)\s*=\s*
    (?: "(?P<text>(?:[^"\\]|\\.)*)" | (?P<word>[-+.\w]+) )
    \s*(?:\#.*)?""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)|\$(\$|\([^)]*\))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"on": "true", "off": "false"}

IN_DATABASE = (
    "client-error-verbosity",
    "db-aggregates-enabled",
    "db-anon-role",
    "db-extra-search-path",
    "db-hoisted-tx-settings",
    "db-max-rows",
    "db-plan-enabled",
    "db-pre-config",
    "db-pre-request",
    "db-prepared-statements",
    "db-root-spec",
    "db-schemas",
    "db-tx-end",
    "jwt-aud",
    "jwt-cache-max-entries",
    "jwt-role-claim-key",
    "jwt-secret",
    "jwt-secret-is-base64",
    "openapi-mode",
    "openapi-security-active",
    "openapi-server-proxy-uri",
    "server-cors-allowed-origins",
    "server-timing-enabled",
    "server-trace-header",
    "url-use-legacy-target-names",
)
"""The settings that may be kept in the database."""


def environment_name(setting: str) -> str:
    """`db-schemas` → `PGRST_DB_SCHEMAS`; `app.settings.x` → `PGRST_APP_SETTINGS_x` (its case is kept)."""
    if setting.startswith(APP_PREFIX):
        return f"{PREFIX}APP_SETTINGS_{setting.removeprefix(APP_PREFIX)}"
    return PREFIX + setting.upper().replace("-", "_")


def parse_config_file(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of a file as (environment name → text). Raises ConfigError with every line that cannot be read."""
    settings: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            problems.append(f'line {number} of the configuration file is not `name = "value"`: {line.strip()}')
        elif found["text"] is not None:
            settings[environment_name(found["name"])] = _unescape(found["text"], environ)
        else:
            settings[environment_name(found["name"])] = _WORDS.get(found["word"], found["word"])
    if problems:
        raise ConfigError(problems)
    return settings


def load_environment(
    environ: Mapping[str, str], file: str | None = None, in_database: Mapping[str, str] | None = None
) -> dict[str, str]:
    """One mapping of all three sources, with `@file` in `db-uri` replaced by what the file holds.

    `in_database` has the setting's names as in `IN_DATABASE`. Raises ConfigError if a file cannot be read.
    """
    merged = parse_config_file(_read(file, "the configuration file"), environ) if file else {}
    merged |= environ
    merged |= {environment_name(name): value for name, value in (in_database or {}).items()}
    uri = merged.get("PGRST_DB_URI", "")
    if uri.startswith("@"):
        merged["PGRST_DB_URI"] = _read(uri[1:], "the file of PGRST_DB_URI").strip()
    return merged


def _read(path: str, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{what} cannot be read: {reason} ({path})"]) from None


def _unescape(text: str, environ: Mapping[str, str]) -> str:
    def replacement(found: re.Match[str]) -> str:
        if found[1] is not None:
            return _ESCAPED.get(found[1], found[1])
        return "$" if found[2] == "$" else environ.get(found[2][1:-1], "")

    return _ESCAPE.sub(replacement, text)
