"""Reads settings from an environment mapping and gathers every problem before complaining once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from socle_platform.errors import SocleError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_TRUE = frozenset({"1", "t", "true", "yes", "on"})
_FALSE = frozenset({"0", "f", "false", "no", "off"})


class ConfigError(SocleError):
    """The settings cannot be used.

    `problems` lists every one of them, a sentence each, in the order found.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("The settings cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (`1h30m`, `500ms`) or a bare number of seconds. Raises ValueError."""
    text = text.strip()
    sign = -1.0 if text.startswith("-") else 1.0
    text = text.removeprefix("-").removeprefix("+")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return sign * float(text)
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise ValueError(f"not a duration: {text!r}")
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def parse_size(text: str) -> int:
    """Bytes of `52428800`, `50MiB` or `50MB` (both binary, as the official local stack counts). Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a size: {text!r}")
    unit = match[2].lower().rstrip("b").rstrip("i")
    return int(float(match[1]) * 1024 ** " kmgt".index(unit or " "))


class Reader:
    """Typed look-ups in one environment mapping.

    A missing or empty value gives the default; a bad one is noted in `problems` and gives the default, so that one
    run lists every mistake. Several names may be given: the first that is set wins (aliases, newest first).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def raw(self, *names: str) -> str | None:
        """The text of the first name that is set and not empty."""
        for name in names:
            if value := self._environ.get(name):
                return value
        return None

    def problem(self, text: str) -> None:
        """Notes a problem found by the caller."""
        self.problems.append(text)

    def finish(self) -> None:
        """Raises ConfigError if anything was wrong."""
        if self.problems:
            raise ConfigError(self.problems)

    def text(self, *names: str, default: str = "") -> str:
        value = self.raw(*names)
        return default if value is None else value

    def secret(self, *names: str, default: str = "") -> str:
        """Like text; its value never appears in a problem."""
        return self.text(*names, default=default)

    def boolean(self, *names: str, default: bool = False) -> bool:
        value = self.raw(*names)
        if value is None:
            return default
        if value.strip().lower() in _TRUE:
            return True
        if value.strip().lower() not in _FALSE:
            self.problem(f"{names[0]} must be true or false, not {value!r}")
            return default
        return False

    def integer(self, *names: str, default: int = 0, minimum: int | None = None, maximum: int | None = None) -> int:
        value = self.raw(*names)
        if value is None:
            return default
        try:
            number = int(value.strip())
        except ValueError:
            self.problem(f"{names[0]} must be a whole number, not {value!r}")
            return default
        if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
            bounds = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
            self.problem(f"{names[0]} must be {bounds}, not {number}")
            return default
        return number

    def number(self, *names: str, default: float = 0.0) -> float:
        value = self.raw(*names)
        if value is None:
            return default
        try:
            return float(value)
        except ValueError:
            self.problem(f"{names[0]} must be a number, not {value!r}")
            return default

    def seconds(self, *names: str, default: float = 0.0) -> float:
        """A Go duration or a bare number of seconds, in seconds."""
        value = self.raw(*names)
        if value is None:
            return default
        try:
            return parse_duration(value)
        except ValueError:
            self.problem(f"{names[0]} must be a duration such as 10s, 5m or 1h30m, not {value!r}")
            return default

    def size(self, *names: str, default: int = 0) -> int:
        """A size in bytes: `52428800`, `50MiB`."""
        value = self.raw(*names)
        if value is None:
            return default
        try:
            return parse_size(value)
        except ValueError:
            self.problem(f"{names[0]} must be a size such as 50MiB, not {value!r}")
            return default

    def choice(self, *names: str, choices: Sequence[str], default: str) -> str:
        value = self.raw(*names)
        if value is None:
            return default
        if value not in choices:
            self.problem(f"{names[0]} must be one of {', '.join(choices)}, not {value!r}")
            return default
        return value

    def csv(self, *names: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """Comma-separated words, blanks trimmed, empty ones dropped."""
        value = self.raw(*names)
        if value is None:
            return tuple(default)
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)

    def prefixed(self, prefix: str) -> dict[str, str]:
        """All names that start with `prefix`, without it, values as they are."""
        return {name[len(prefix) :]: value for name, value in self._environ.items() if name.startswith(prefix)}
