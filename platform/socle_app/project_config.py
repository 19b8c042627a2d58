"""Reads a project's config.toml and .env files, and turns them into the environment names that services read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, cast

from socle_app.project_keys import KEYS, PASSWORD_REQUIREMENTS, Key, find_key, without_effect
from socle_platform.config.reader import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KeyPath: TypeAlias = "tuple[str, ...]"

_REFERENCE = re.compile(r"^env\((.*)\)$", re.DOTALL)
_FLAGS = {
    **dict.fromkeys(("true", "1", "t", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "f", "no", "off"), False),
}
_WITHOUT_OWN_MAIL_SERVER = "360000"

_LINE = re.compile(
    r"""
    ^[^\S\n]*(?:export[^\S\n]+)?(?P<name>[A-Za-z_][\w.]*)[^\S\n]*=[^\S\n]*
    (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<plain>[^\n]*))
    """,
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
_EXPANSION = re.compile(r"\\(?P<escape>.)|\$\{(?P<name>[A-Za-z_]\w*)\}", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Config:
    """A config.toml as read: values by path, already of the right kind.

    `exists`: there is a file (then the official template's defaults hold for what it leaves out). `warnings` name
    unknown keys, unset variables and values that have no effect.
    """

    exists: bool = False
    values: Mapping[KeyPath, object] = field(default_factory=dict["KeyPath", object], repr=False)
    warnings: tuple[str, ...] = ()

    def text(self, path: str, default: str = "") -> str:
        """A text or number as text."""
        value = self.values.get(tuple(path.split(".")))
        return default if value is None else _text(value)

    def flag(self, path: str, *, default: bool) -> bool:
        """A flag."""
        value = self.values.get(tuple(path.split(".")))
        return value if isinstance(value, bool) else default

    def list(self, path: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts."""
        value = self.values.get(tuple(path.split(".")))
        return default if value is None else cast("tuple[str, ...]", value)

    def section(self, path: str) -> dict[str, dict[str, object]]:
        """What lies below a path, by the name that follows it: functions → {hello: {verify_jwt: False}}."""
        prefix = tuple(path.split("."))
        found: dict[str, dict[str, object]] = {}
        for at, value in self.values.items():
            if at[: len(prefix)] == prefix and len(at) > len(prefix):
                found.setdefault(at[len(prefix)], {})[".".join(at[len(prefix) + 1 :])] = value
        return found

    def environment(self) -> dict[str, str]:
        """The environment names that follow from the file and its overrides; none without either."""
        names: dict[str, str] = {}
        if self.exists:
            names = {key.name: key.default for key in KEYS if key.name and key.default is not None}
        for path, value in self.values.items():
            key = find_key(path)
            if key is not None and key.name:
                shown = not value if key.opposite else value
                names[_fill(key, path)] = _text(shown)
        return self._with_mail_server(names) | self._password_rule() | self._text_messages()

    def _with_mail_server(self, names: dict[str, str]) -> dict[str, str]:
        has_section = any(path[:3] == ("auth", "email", "smtp") for path in self.values)
        if has_section and self.flag("auth.email.smtp.enabled", default=True):
            return names
        kept = {name: value for name, value in names.items() if not _is_mail_server(name)}
        return {**kept, "GOTRUE_RATE_LIMIT_EMAIL_SENT": _WITHOUT_OWN_MAIL_SERVER} if self.exists else kept

    def _password_rule(self) -> dict[str, str]:
        wanted = self.text("auth.password_requirements")
        return {"GOTRUE_PASSWORD_REQUIRED_CHARACTERS": PASSWORD_REQUIREMENTS[wanted]} if wanted else {}

    def _text_messages(self) -> dict[str, str]:
        names: dict[str, str] = {}
        codes = self.section("auth.sms.test_otp")
        if codes:
            names["GOTRUE_SMS_TEST_OTP"] = ",".join(f"{phone}:{code['']}" for phone, code in codes.items())
        for provider, settings in self.section("auth.sms").items():
            if provider != "test_otp" and settings.get("enabled") is True:
                names["GOTRUE_SMS_PROVIDER"] = provider
                names |= {
                    f"GOTRUE_SMS_{provider}_{name}".upper(): _text(value)
                    for name, value in settings.items()
                    if name != "enabled"
                }
        return names


def read_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """A project's config.toml; every key can be overridden by `SUPABASE_<SECTION>_<KEY>` in `environ`.

    Raises ConfigError with every problem: not TOML, a value of the wrong kind, an unknown password rule.
    """
    problems: list[str] = []
    raw: dict[KeyPath, object] = {}
    if path is not None:
        try:
            raw = dict(_flatten(tomllib.loads(path.read_text(encoding="utf-8-sig"))))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path.name} is not TOML: {error}"]) from error
    overrides = _overrides(raw, environ)
    values: dict[KeyPath, object] = {}
    warnings: list[str] = []
    for at, given in (raw | overrides).items():
        shown = ".".join(at)
        key = find_key(at)
        if key is None:
            warnings.append(f"config.toml: {shown} is not a known key")
            continue
        if key.name is None:
            value = _resolve(given, environ)
            if value is not None and (instead := without_effect(at, _text(value))):
                warnings.append(f"config.toml: {shown} = {_text(value)} has no effect: {instead}")
            continue
        value = _resolve(given, environ)
        if value is None:
            if _matters(at, raw):
                warnings.append(f"config.toml: {shown} names a variable that is not set: {given}")
            continue
        try:
            values[at] = _convert(key, value)
        except ValueError as error:
            problems.append(f"config.toml: {shown} must be {error}, not {value!r}")
    rule = values.get(("auth", "password_requirements"), "")
    if rule and rule not in PASSWORD_REQUIREMENTS:
        problems.append(
            f"config.toml: auth.password_requirements must be one of {', '.join(PASSWORD_REQUIREMENTS)}, not {rule!r}"
        )
    if problems:
        raise ConfigError(problems)
    return Config(exists=path is not None, values=values, warnings=tuple(warnings))


def read_dotenv(text: str) -> dict[str, str]:
    """The variables of a .env file: `NAME=value`, with or without `export` before it.

    A value in single quotes is taken as it is; in double quotes `\\n` and the like are characters; a plain one ends at
    ` #`. `${NAME}` stands for a variable that is set further up, except in single quotes.
    """
    found: dict[str, str] = {}
    for match in _LINE.finditer(text):
        if match["single"] is not None:
            value = match["single"]
        elif match["double"] is not None:
            value = _expand(match["double"], found, escapes=True)
        else:
            value = _expand(re.split(r"(?:^|\s)#", match["plain"], maxsplit=1)[0].strip(), found, escapes=False)
        found[match["name"]] = value
    return found


def _expand(value: str, known: Mapping[str, str], *, escapes: bool) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["name"] is not None:
            return known.get(match["name"], "")
        char = match["escape"]
        return _ESCAPES.get(char, char) if escapes else "$" if char == "$" else match[0]

    return _EXPANSION.sub(replace, value)


def _flatten(table: Mapping[str, object], above: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(cast("dict[str, object]", value), (*above, name))
        else:
            yield (*above, name), value


def _overrides(raw: Mapping[KeyPath, object], environ: Mapping[str, str]) -> dict[KeyPath, object]:
    """What SUPABASE_* variables set: any known key without a name in it, and keys of sections that the file has."""
    if not any(name.startswith("SUPABASE_") for name in environ):
        return {}
    paths = {tuple(key.path.split(".")) for key in KEYS if "*" not in key.path}
    for at in raw:
        for key in KEYS:
            parts = tuple(key.path.split("."))
            if (
                len(parts) == len(at)
                and "*" in parts
                and all(p in ("*", a) for p, a in zip(parts[:-1], at, strict=False))
            ):
                last = at[-1] if parts[-1] == "*" else parts[-1]
                paths.add((*at[:-1], last))
    found: dict[KeyPath, object] = {}
    for at in paths:
        if value := environ.get("SUPABASE_" + "_".join(at).upper().replace("-", "_")):
            found[at] = value
    return found


def _resolve(value: object, environ: Mapping[str, str]) -> object | None:
    """The value with `env(NAME)` looked up; None where that is not set."""
    if isinstance(value, str) and (match := _REFERENCE.match(value)):
        return environ.get(match[1]) or None
    if isinstance(value, list):
        return [_resolve(item, environ) or "" for item in cast("list[object]", value)]
    return value


def _matters(at: KeyPath, raw: Mapping[KeyPath, object]) -> bool:
    """The template refers to variables of providers that are switched off: no need to warn about those."""
    return raw.get((*at[:-1], "enabled"), True) is not False


def _convert(key: Key, value: object) -> object:
    """The value in the key's kind. Raises ValueError with what it must be."""
    if key.kind == "flag":
        flag = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(flag, bool):
            raise ValueError("true or false")
        return flag
    if key.kind == "number":
        if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value):
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("a whole number")
        return value
    if key.kind == "list":
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if not isinstance(value, list):
            raise ValueError("a list of texts")
        return tuple(_text(item) for item in cast("list[object]", value))
    if isinstance(value, list | dict):
        raise ValueError("a text")
    return _text(value)


def _fill(key: Key, path: KeyPath) -> str:
    assert key.name is not None
    if "*" not in key.name:
        return key.name
    stars = [part for part, wanted in zip(path, key.path.split("."), strict=True) if wanted == "*"]
    return key.name.replace("*", stars[0].upper().replace("-", "_"))


def _is_mail_server(name: str) -> bool:
    return name.startswith("GOTRUE_SMTP_") and name != "GOTRUE_SMTP_MAX_FREQUENCY"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(_text(item) for item in cast("tuple[object, ...]", value))
    return str(value)
