"""Where the database comes from: the embedded server of the project, or one that a URL names."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from socle_platform.config.database import SERVICE_ROLES, load_database_port
from socle_platform.config.reader import Reader

if TYPE_CHECKING:
    from socle_app.embedded.supervisor import Endpoint
    from socle_app.options import StartOptions
    from socle_app.state import StateFolder
    from socle_platform.events import Observe

DATABASE = "postgres"
LOCAL_PASSWORD = "postgres"  # noqa: S105 (the official local stack's published value)


@dataclass(frozen=True, slots=True)
class Source:
    """A reachable PostgreSQL, before its bootstrap.

    `admin_dsn` logs in as whoever bootstraps; `operator_dsn` runs project migrations; `api_dsn` logs in as the
    authenticator; `service_dsns` as each service's admin role. `passwords` are the ones that bootstrap gives to roles.
    """

    admin_dsn: str = field(repr=False)
    operator_dsn: str = field(repr=False)
    api_dsn: str = field(repr=False)
    service_dsns: Mapping[str, str] = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)
    public_url: str = field(repr=False)
    endpoint: Endpoint | None = None


@contextlib.asynccontextmanager
async def open_source(
    given: Mapping[str, str], options: StartOptions, state: StateFolder, observe: Observe
) -> AsyncGenerator[Source]:
    """The database of a start. The embedded server is started here and stopped at the end."""
    url = options.database_url or external_url(given)
    if url:
        yield external_source(url, state)
        return
    from socle_app.embedded.supervisor import EmbeddedServer

    read = Reader(given)
    port = load_database_port(read)
    read.finish()
    server = EmbeddedServer(state.path, port=port, run_as=options.run_as or given.get("SOCLE_RUN_AS"), observe=observe)
    endpoint = await server.start()
    try:
        yield embedded_source(endpoint, given.get("POSTGRES_PASSWORD") or LOCAL_PASSWORD, state)
    finally:
        await server.stop()


def embedded_source(endpoint: Endpoint, password: str, state: StateFolder, database: str = DATABASE) -> Source:
    """The embedded server: we log in through its socket as any role, people over TCP with a password.

    Service roles get random passwords, kept 0600 in the state folder.
    """

    def dsn(role: str) -> str:
        folder = quote(str(endpoint.socket_dir), safe="")
        return f"postgresql:///{database}?host={folder}&port={endpoint.port}&user={role}"

    logins = ("authenticator", *SERVICE_ROLES.values())
    return Source(
        admin_dsn=dsn(endpoint.superuser),
        operator_dsn=dsn("postgres"),
        api_dsn=dsn("authenticator"),
        service_dsns={service: dsn(role) for service, role in SERVICE_ROLES.items()},
        passwords={**_kept_passwords(state, logins), "postgres": password},
        public_url=f"postgresql://postgres:{quote(password, safe='')}@{endpoint.host}:{endpoint.port}/{database}",
        endpoint=endpoint,
    )


def external_source(url: str, state: StateFolder) -> Source:
    """A PostgreSQL of somebody else: its login bootstraps; the authenticator gets a password that the state keeps."""
    passwords = _kept_passwords(state, ("authenticator",))
    return Source(
        admin_dsn=url,
        operator_dsn=url,
        api_dsn=with_login(url, "authenticator", passwords["authenticator"]),
        service_dsns={"platform": url},
        passwords=passwords,
        public_url=url,
    )


def _kept_passwords(state: StateFolder, roles: Sequence[str]) -> dict[str, str]:
    """A random password per role, made once and kept."""
    kept = state.read_keys()
    names = {role: f"PASSWORD_{role.upper()}" for role in roles}
    missing = {name: secrets.token_urlsafe(32) for name in names.values() if name not in kept}
    if missing:
        kept |= missing
        state.write_keys(kept)
    return {role: kept[name] for role, name in names.items()}


def external_url(given: Mapping[str, str]) -> str | None:
    """DATABASE_URL, or the parts POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB; None when neither is set."""
    if url := given.get("DATABASE_URL"):
        return url
    host = given.get("POSTGRES_HOST")
    if not host:
        return None
    user = quote(given.get("POSTGRES_USER") or "postgres", safe="")
    password = quote(given.get("POSTGRES_PASSWORD") or "", safe="")
    port = given.get("POSTGRES_PORT") or "5432"
    return f"postgresql://{user}:{password}@{host}:{port}/{quote(given.get('POSTGRES_DB') or DATABASE, safe='')}"


def with_login(url: str, user: str, password: str) -> str:
    """The same database under another login; `user`/`password` in the query are replaced too."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("user", "password")]
    if place:
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"
        return urlunsplit((parts.scheme, login, parts.path, urlencode(query), ""))
    login_query = urlencode([*query, ("user", user), ("password", password)])
    return f"{parts.scheme}://{parts.path}?{login_query}"
