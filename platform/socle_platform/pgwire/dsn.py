"""Where to connect: libpq's connection URIs and key=value strings → Target (manual, «Connection Strings»)."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import unquote

from socle_platform.errors import SocleError

DEFAULT_PORT = 5432
DEFAULT_SOCKET_FOLDER = "/var/run/postgresql"
TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSION_KINDS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

_SCHEMES = ("postgresql://", "postgres://")
_PASSED_ON = ("application_name", "options", "replication")
"""Parameters of the string that are run-time parameters of the session."""
_UNDERSTOOD = frozenset(
    {
        "host", "hostaddr", "port", "dbname", "user", "password", "connect_timeout", "sslmode", "sslrootcert",
        "sslcert", "sslkey", "sslpassword", "target_session_attrs", "channel_binding", *_PASSED_ON,
    }
)  # fmt: skip
_NEEDLESS = frozenset(
    {
        "client_encoding", "fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "gssencmode", "gsslib", "krbsrvname", "gssdelegation", "sslcompression",
        "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "sslcrl", "sslcrldir", "sslnegotiation",
        "sslcertmode", "requirepeer", "require_auth", "passfile", "service", "load_balance_hosts",
        "min_protocol_version", "max_protocol_version",
    }
)  # fmt: skip
"""Parameters of libpq that are accepted and change nothing here."""
_ENVIRONMENT = {
    "PGHOST": "host", "PGHOSTADDR": "hostaddr", "PGPORT": "port", "PGDATABASE": "dbname", "PGUSER": "user",
    "PGPASSWORD": "password", "PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey", "PGAPPNAME": "application_name", "PGOPTIONS": "options",
    "PGCONNECT_TIMEOUT": "connect_timeout", "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGCHANNELBINDING": "channel_binding",
}  # fmt: skip
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|\Z)\s*", re.DOTALL)
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


class DsnInvalid(SocleError):
    """The database address cannot be read. Its message never repeats the address: it may hold a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server: `host` is a name, an IP address or the folder of a Unix socket; `name` is what a certificate says."""

    host: str
    port: int
    name: str = ""

    @property
    def socket_path(self) -> str | None:
        """The Unix socket's path, or None for TCP. `@` starts an abstract name."""
        if self.host.startswith("/"):
            return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}"
        if self.host.startswith("@"):
            return f"\0{self.host[1:]}/.s.PGSQL.{self.port}"
        return None

    def __str__(self) -> str:
        return self.socket_path or f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """How the session is encrypted: libpq's sslmode, paths of PEM files ("" = none; root "system" = the machine's)."""

    mode: str = "prefer"
    root: str = ""
    certificate: str = ""
    key: str = ""
    key_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address: servers in the order to try, who logs in, run-time parameters.

    `connect_timeout` is the limit for each server in seconds, 0 where the address does not say.
    """

    addresses: tuple[Address, ...]
    user: str
    database: str
    password: str = field(default="", repr=False)
    tls: Tls = field(default_factory=Tls)
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    connect_timeout: float = 0.0
    session: str = "any"

    def with_defaults(self, *, application_name: str, connect_timeout: float) -> Target:
        """The same with an application name and a time limit where the address had none."""
        return replace(
            self,
            parameters={"application_name": application_name, **self.parameters},
            connect_timeout=self.connect_timeout or connect_timeout,
        )


def parse_dsn(dsn: str, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Target:
    """Reads a URI or a key=value string; what it leaves open comes from libpq's variables in `environ`.

    Raises DsnInvalid.
    """
    found = {key: environ[name] for name, key in _ENVIRONMENT.items() if environ.get(name)}
    given = _uri(dsn) if dsn.startswith(_SCHEMES) else _pairs(dsn)
    if given.get("host") or given.get("hostaddr"):
        found.pop("host", None)
        found.pop("hostaddr", None)
    return _target({**found, **{key: value for key, value in given.items() if value}})


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise DsnInvalid("the database address has a broken %-escape")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError as problem:
        raise DsnInvalid("the database address has an escape that is not UTF-8") from problem
    if "\0" in decoded:
        raise DsnInvalid("the database address has a forbidden value %00")
    return decoded


def _uri(dsn: str) -> dict[str, str]:
    rest = dsn.split("://", 1)[1].split("#", 1)[0]
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    credentials, at, places = authority.rpartition("@")
    found: dict[str, str] = {}
    if at:
        user, _, password = credentials.partition(":")
        found |= {"user": _decode(user), "password": _decode(password)}
    hosts, ports = _places(places)
    found |= {"host": hosts, "port": ports, "dbname": _decode(database)}
    for piece in filter(None, query.split("&")):
        name, equals, value = piece.partition("=")
        if not equals:
            raise DsnInvalid(f"the database address lacks a value for {_decode(name)!r}")
        name, value = _decode(name), _decode(value.replace("+", "%20"))
        if (name, value) == ("ssl", "true"):
            name, value = "sslmode", "require"
        _accept(name)
        # `options` may be given several times (each a `-c name=value`); of everything else the last one counts.
        found[name] = f"{found[name]} {value}" if name == "options" and found.get(name) else value
    return found


def _places(places: str) -> tuple[str, str]:
    """Comma-separated hosts and ports of a URI's authority."""
    hosts: list[str] = []
    ports: list[str] = []
    for place in places.split(","):
        match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d*))?", place)
        if match is None:
            raise DsnInvalid("the database address has a host and port that cannot be read")
        hosts.append(_decode(match[1].strip("[]")))
        ports.append(match[2] or "")
    return ",".join(hosts), ",".join(ports)


def _pairs(dsn: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(dsn.rstrip()):
        match = _PAIR.match(dsn, position)
        if match is None:
            raise DsnInvalid("the database address is neither a postgresql:// URI nor key=value pairs")
        value = match[3] if match[2] is None else match[2]
        _accept(match[1])
        found[match[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()
    return found


def _accept(name: str) -> None:
    if name not in _UNDERSTOOD and name not in _NEEDLESS:
        raise DsnInvalid(f"the database address has an unknown parameter {name!r}")


def _target(found: Mapping[str, str]) -> Target:
    user = found.get("user", "") or _system_user()
    root = found.get("sslrootcert", "")
    mode = _one_of(found, "sslmode", TLS_MODES, "verify-full" if root == "system" else "prefer")
    if found.get("channel_binding") == "require":
        raise DsnInvalid("channel_binding=require is not supported")
    timeout = found.get("connect_timeout", "0")
    if not re.fullmatch(r"-?\d{1,9}", timeout):
        raise DsnInvalid("connect_timeout in the database address is not a whole number of seconds")
    return Target(
        addresses=_addresses(found),
        user=user,
        database=found.get("dbname", "") or user,
        password=found.get("password", ""),
        tls=Tls(mode, root, found.get("sslcert", ""), found.get("sslkey", ""), found.get("sslpassword", "")),
        parameters={name: found[name] for name in _PASSED_ON if found.get(name)},
        connect_timeout=max(0.0, float(timeout)),
        session=_one_of(found, "target_session_attrs", SESSION_KINDS, "any"),
    )


def _system_user() -> str:
    """Who runs this process, as libpq logs in where no user is named."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "postgres"


def _one_of(found: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    value = found.get(name, "") or default
    if value not in choices:
        raise DsnInvalid(f"{name} in the database address must be one of {', '.join(choices)}")
    return value


def _addresses(found: Mapping[str, str]) -> tuple[Address, ...]:
    names = found.get("host", "").split(",")
    numeric = found["hostaddr"].split(",") if found.get("hostaddr") else []
    if numeric and found.get("host") and len(numeric) != len(names):
        raise DsnInvalid("the database address has a different number of hosts and hostaddrs")
    hosts = numeric or names
    ports = found.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise DsnInvalid("the database address has a different number of hosts and ports")
    return tuple(
        Address(host or DEFAULT_SOCKET_FOLDER, _port(port), name if name and not name.startswith(("/", "@")) else host)
        for host, port, name in zip(hosts, ports, names if found.get("host") else hosts, strict=True)
    )


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise DsnInvalid("the database address has an impossible port")
    return int(text)
