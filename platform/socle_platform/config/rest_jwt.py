"""How the REST service reads tokens when it runs alone: secret, audience, place of the role.

Source: contracts/rest.md §13 and §15.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from socle_platform.keys import Keyring, parse_jwks, role_claim, secret_key

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader
    from socle_platform.keys import Key

RoleOf: TypeAlias = Callable[[Mapping[str, object]], str | None]
"""Finds the database role in a token's claims."""

DEFAULT_ROLE_PATH = "$.role"
_MIN_SECRET = 32
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")
_STEP = re.compile(r'\.(?:"(?P<quoted>[^"]*)"|(?P<name>[\w$@]+))|\[(?P<index>\d+)\]')
_FILTER = re.compile(r'\[\?\(@\s*(?P<compare>==\^|==|!=|\^==|\*==)\s*"(?P<text>[^"]*)"\)\]$')
_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "==": lambda value, text: value == text,
    "!=": lambda value, text: value != text,
    "^==": lambda value, text: value.startswith(text),
    "==^": lambda value, text: value.endswith(text),
    "*==": lambda value, text: text in value,
}


@dataclass(frozen=True, slots=True)
class RestJwtSettings:
    """`keys` is empty when no secret is configured: then a token is an error (PGRST300)."""

    keys: tuple[Key, ...] = field(default=(), repr=False)
    audience: str | None = None
    role_path: str = DEFAULT_ROLE_PATH
    role_of: RoleOf = field(default=role_claim, repr=False, compare=False)
    cache_max_entries: int = 1000

    def keyring(self, anonymous_role: str | None) -> Keyring:
        """The keyring these settings describe. A token without a role gets `anonymous_role`, or "" if there is none."""
        return Keyring(
            self.keys,
            audience=self.audience,
            role_of=self.role_of,
            anonymous_role=anonymous_role or "",
            cache_size=self.cache_max_entries,
        )


def load_rest_jwt(read: Reader) -> RestJwtSettings:
    """Reads the `PGRST_JWT_*` settings."""
    audience = read.text("PGRST_JWT_AUD") or None
    if audience and ":" in audience and not _URI.fullmatch(audience):
        read.problem("PGRST_JWT_AUD must be a plain word or a valid URI")
    path = read.text("PGRST_JWT_ROLE_CLAIM_KEY", "PGRST_ROLE_CLAIM_KEY", default=DEFAULT_ROLE_PATH)
    return RestJwtSettings(
        keys=_load_secret(read),
        audience=audience,
        role_path=path,
        role_of=_load_role_path(read, path),
        cache_max_entries=read.integer("PGRST_JWT_CACHE_MAX_ENTRIES", default=1000, minimum=0),
    )


def read_boolean(read: Reader, *names: str, default: bool) -> bool:
    """`true`, `FALSE`, `on`, or a number (true above zero), as PostgREST takes them."""
    value = (read.raw(*names) or "").strip()
    if re.fullmatch(r"-?\d+", value):
        return int(value) > 0
    return read.boolean(*names, default=default)


def parse_role_path(path: str) -> RoleOf:
    """A JSON path (RFC 9535: `$.a.roles[0]`) or the older form (`.a.roles[0]`, `.roles[?(@ == "x")]`).

    The first match is the role; what is not text there is taken as its JSON text, which names no role.
    Raises ValueError.
    """
    if path in {DEFAULT_ROLE_PATH, ".role"}:
        return _plain_role
    if not path.startswith("$"):
        return _parse_old_path(path)
    from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError

    try:
        query = JSONPathEnvironment().compile(path)
    except JSONPathError as error:
        raise ValueError(str(error)) from None

    def first_match(claims: Mapping[str, object]) -> str | None:
        node = query.find_one(cast("Any", claims))
        return None if node is None else _as_role(node.value)

    return first_match


def _plain_role(claims: Mapping[str, object]) -> str | None:
    return _as_role(claims["role"]) if "role" in claims else None


def _parse_old_path(path: str) -> RoleOf:
    steps: list[str | int] = []
    where = 0
    while found := _STEP.match(path, where):
        steps.append(int(found["index"]) if found["index"] else found["quoted"] or found["name"])
        where = found.end()
    last = _FILTER.fullmatch(path, where)
    if (where < len(path) and last is None) or not path:
        raise ValueError(f"nothing known at {path[where:]!r}")

    def walk(claims: Mapping[str, object]) -> str | None:
        value: object = claims
        for step in steps:
            value = _child(value, step)
        if last is not None:
            value = _first_fitting(value, last["compare"], last["text"])
        return None if value is None else _as_role(value)

    return walk


def _child(value: object, step: str | int) -> object:
    if isinstance(step, str):
        return cast("dict[str, object]", value).get(step) if isinstance(value, dict) else None
    items = cast("list[object]", value) if isinstance(value, list) else []
    return items[step] if step < len(items) else None


def _first_fitting(value: object, compare: str, text: str) -> str | None:
    items = cast("list[object]", value) if isinstance(value, list) else []
    fits = _COMPARISONS[compare]
    return next((item for item in items if isinstance(item, str) and fits(item, text)), None)


def _as_role(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _load_role_path(read: Reader, path: str) -> RoleOf:
    try:
        return parse_role_path(path)
    except ValueError as error:
        read.problem(f"PGRST_JWT_ROLE_CLAIM_KEY is not a JSON path: {error}")
        return role_claim


def _load_secret(read: Reader) -> tuple[Key, ...]:
    """Text, a JWK, or a JWK set; possibly in a file (`@path`), possibly in base64 (also of the URL kind)."""
    text = read.secret("PGRST_JWT_SECRET")
    if not text:
        return ()
    raw = text.encode()
    if text.startswith("@"):
        try:
            raw = Path(text[1:]).read_bytes().removesuffix(b"\n")
        except OSError as error:
            read.problem(f"PGRST_JWT_SECRET names a file that cannot be read: {error.strerror} ({text[1:]})")
            return ()
    if read_boolean(read, "PGRST_JWT_SECRET_IS_BASE64", "PGRST_SECRET_IS_BASE64", default=False):
        try:
            raw = base64.b64decode(raw.strip().translate(bytes.maketrans(b"-_.", b"+/=")), validate=True)
        except binascii.Error:
            read.problem("PGRST_JWT_SECRET is not base64, as PGRST_JWT_SECRET_IS_BASE64 says it is")
            return ()
    try:
        return _parse_secret(raw)
    except ValueError as error:
        read.problem(f"PGRST_JWT_SECRET cannot be used: {error}")
        return ()


def _parse_secret(raw: bytes) -> tuple[Key, ...]:
    """Keys of a secret's bytes. Text is an HS256 key and must have 32 bytes. Raises ValueError."""
    document: object = None
    with contextlib.suppress(ValueError):
        document = json.loads(raw)
    if isinstance(document, dict):
        try:
            return parse_jwks(cast("dict[str, object]", document))
        except (KeyError, TypeError, AttributeError):
            raise ValueError("it is JSON, but neither a JWK nor a JWK set") from None
    if len(raw) < _MIN_SECRET:
        raise ValueError(f"it must be at least {_MIN_SECRET} characters long")
    return (replace(secret_key(raw), algorithms=("HS256",)),)
