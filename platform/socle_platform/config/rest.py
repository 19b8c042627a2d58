"""Settings of the REST service, by PostgREST's names (contracts/rest.md §15).

`load_rest` reads environment names (`PGRST_DB_SCHEMAS`). A configuration file and settings kept in the database come
to the same names first: see `postgrest_file`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from socle_platform.config.rest_jwt import RestJwtSettings, load_rest_jwt, read_boolean

if TYPE_CHECKING:
    from socle_platform.config.reader import Reader

SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})
DEFAULT_HOISTED = ("statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation")
LOG_LEVELS = ("crit", "error", "warn", "info", "debug")
OPENAPI_MODES = ("follow-privileges", "ignore-privileges", "disabled")
TX_ENDS = ("commit", "commit-allow-override", "rollback", "rollback-allow-override")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DEFAULT_MODE = 0o660


class SqlName(NamedTuple):
    """A function's name as configured: `schema.name`, or a bare name (empty schema) that the search path resolves."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class OpenApiSettings:
    """What `GET /` tells."""

    mode: str = "follow-privileges"
    security_active: bool = False
    server_proxy_uri: str | None = None


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where a server listens. `host` may be `*`, `*4`, `!4`, `*6` or `!6`; a unix socket takes the port's place."""

    host: str = "!4"
    port: int | None = None
    unix_socket: str | None = None
    unix_socket_mode: int = _DEFAULT_MODE
    reuse_port: bool = False


@dataclass(frozen=True, slots=True)
class RestSettings:
    """Everything configurable about the REST service but its database connections (`DatabaseSettings`).

    Times are seconds. `rollback_all` and `allow_tx_override` are the two halves of `db-tx-end`."""

    schemas: tuple[str, ...] = ("public",)
    extra_search_path: tuple[str, ...] = ("public",)
    anon_role: str | None = None
    pre_request: SqlName | None = None
    pre_config: SqlName | None = None
    root_spec: SqlName | None = None
    max_rows: int | None = None
    stream_rows: int = 10_000
    """Reads of more rows are streamed instead of being held in memory; 0 switches it off."""
    aggregates_enabled: bool = False
    plan_enabled: bool = False
    prepared_statements: bool = True
    rollback_all: bool = False
    allow_tx_override: bool = False
    hoisted_tx_settings: tuple[str, ...] = DEFAULT_HOISTED
    app_settings: tuple[tuple[str, str], ...] = ()
    """(`app.settings.name`, value), sorted by name."""
    channel: str = "pgrst"
    channel_enabled: bool = True
    config_in_database: bool = True
    automatic_recovery: bool = True
    schema_poll: float = 10.0
    """How often to look for schema changes where no event trigger reports them; 0 switches it off."""
    verbose_errors: bool = True
    legacy_target_names: bool = True
    openapi: OpenApiSettings = field(default_factory=OpenApiSettings)
    cors_allowed_origins: tuple[str, ...] = ()
    """Empty allows any origin."""
    trace_header: str | None = None
    timing_enabled: bool = False
    etag_enabled: bool = False
    """Whether reads carry a validator."""
    log_level: str = "error"
    log_query: bool = False
    jwt: RestJwtSettings = field(default_factory=RestJwtSettings)
    server: ListenSettings = field(default_factory=lambda: ListenSettings(port=3000))
    admin: ListenSettings = field(default_factory=ListenSettings)

    def search_path(self, schema: str) -> tuple[str, ...]:
        """The search path of a request on `schema`."""
        return (schema, *self.extra_search_path)


def load_rest(read: Reader) -> RestSettings:
    """Reads every `PGRST_*` setting; problems are noted in `read`."""
    tx_end = read.choice("PGRST_DB_TX_END", choices=TX_ENDS, default="commit")
    schemas = read.csv("PGRST_DB_SCHEMAS", "PGRST_DB_SCHEMA", default=("public",))
    for schema in sorted(SYSTEM_SCHEMAS.intersection(schemas)):
        read.problem(f"PGRST_DB_SCHEMAS does not allow schema: '{schema}'")
    return RestSettings(
        schemas=schemas or ("public",),
        extra_search_path=_extra_search_path(read),
        anon_role=read.text("PGRST_DB_ANON_ROLE") or None,
        pre_request=_sql_name(read, "PGRST_DB_PRE_REQUEST", "PGRST_PRE_REQUEST"),
        pre_config=_sql_name(read, "PGRST_DB_PRE_CONFIG"),
        root_spec=_sql_name(read, "PGRST_DB_ROOT_SPEC", "PGRST_ROOT_SPEC"),
        max_rows=_optional_integer(read, "PGRST_DB_MAX_ROWS", "PGRST_MAX_ROWS"),
        stream_rows=read.integer("SOCLE_REST_STREAM_ROWS", default=10_000, minimum=0),
        aggregates_enabled=read_boolean(read, "PGRST_DB_AGGREGATES_ENABLED", default=False),
        plan_enabled=read_boolean(read, "PGRST_DB_PLAN_ENABLED", default=False),
        prepared_statements=read_boolean(read, "PGRST_DB_PREPARED_STATEMENTS", default=True),
        rollback_all=tx_end.startswith("rollback"),
        allow_tx_override=tx_end.endswith("-allow-override"),
        hoisted_tx_settings=read.csv("PGRST_DB_HOISTED_TX_SETTINGS", default=DEFAULT_HOISTED),
        app_settings=tuple(
            sorted((f"app.settings.{name}", value) for name, value in read.prefixed("PGRST_APP_SETTINGS_").items())
        ),
        channel=read.text("PGRST_DB_CHANNEL", default="pgrst"),
        channel_enabled=read_boolean(read, "PGRST_DB_CHANNEL_ENABLED", default=True),
        config_in_database=read_boolean(read, "PGRST_DB_CONFIG", default=True),
        automatic_recovery=read_boolean(read, "PGRST_DB_POOL_AUTOMATIC_RECOVERY", default=True),
        schema_poll=read.seconds("SOCLE_REST_SCHEMA_POLL", default=10.0),
        verbose_errors=read.choice("PGRST_CLIENT_ERROR_VERBOSITY", choices=("verbose", "minimal"), default="verbose")
        == "verbose",
        legacy_target_names=read_boolean(read, "PGRST_URL_USE_LEGACY_TARGET_NAMES", default=True),
        openapi=_load_openapi(read),
        cors_allowed_origins=read.csv("PGRST_SERVER_CORS_ALLOWED_ORIGINS"),
        trace_header=_trace_header(read),
        timing_enabled=read_boolean(read, "PGRST_SERVER_TIMING_ENABLED", default=False),
        etag_enabled=read_boolean(read, "SOCLE_REST_ETAG", default=False),
        log_level=read.choice("PGRST_LOG_LEVEL", choices=LOG_LEVELS, default="error"),
        log_query=read_boolean(read, "PGRST_LOG_QUERY", default=False),
        jwt=load_rest_jwt(read),
        server=_load_server(read),
        admin=_load_admin(read),
    )


def _load_openapi(read: Reader) -> OpenApiSettings:
    uri = read.text("PGRST_OPENAPI_SERVER_PROXY_URI") or None
    if uri is not None and not _is_http_uri(uri):
        read.problem(
            "PGRST_OPENAPI_SERVER_PROXY_URI is malformed, a correct example: https://example.com:8443/basePath"
        )
    return OpenApiSettings(
        mode=read.choice("PGRST_OPENAPI_MODE", choices=OPENAPI_MODES, default="follow-privileges"),
        security_active=read_boolean(read, "PGRST_OPENAPI_SECURITY_ACTIVE", default=False),
        server_proxy_uri=uri,
    )


def _load_server(read: Reader) -> ListenSettings:
    return ListenSettings(
        host=read.text("PGRST_SERVER_HOST", default="!4"),
        port=read.integer("PGRST_SERVER_PORT", default=3000, minimum=0, maximum=65535),
        unix_socket=read.text("PGRST_SERVER_UNIX_SOCKET") or None,
        unix_socket_mode=_socket_mode(read, "PGRST_SERVER_UNIX_SOCKET_MODE"),
        reuse_port=read_boolean(read, "PGRST_SERVER_REUSEPORT", default=False),
    )


def _load_admin(read: Reader) -> ListenSettings:
    port = _optional_integer(read, "PGRST_ADMIN_SERVER_PORT")
    if port and port == read.integer("PGRST_SERVER_PORT", default=3000):
        read.problem("PGRST_ADMIN_SERVER_PORT cannot be the same as PGRST_SERVER_PORT")
    return ListenSettings(
        host=read.text("PGRST_ADMIN_SERVER_HOST", "PGRST_SERVER_HOST", default="!4"),
        port=port,
        unix_socket=read.text("PGRST_ADMIN_SERVER_UNIX_SOCKET") or None,
        unix_socket_mode=_socket_mode(read, "PGRST_ADMIN_SERVER_UNIX_SOCKET_MODE"),
    )


def _extra_search_path(read: Reader) -> tuple[str, ...]:
    """Unlike elsewhere, a value that is set and empty means an empty list."""
    name = "PGRST_DB_EXTRA_SEARCH_PATH"
    return () if read.prefixed(name).get("") == "" else read.csv(name, default=("public",))


def _sql_name(read: Reader, *names: str) -> SqlName | None:
    text = read.text(*names)
    if not text:
        return None
    schema, dot, name = text.partition(".")
    return SqlName(schema, name) if dot else SqlName("", text)


def _optional_integer(read: Reader, *names: str) -> int | None:
    return read.integer(*names, minimum=0) if read.raw(*names) else None


def _trace_header(read: Reader) -> str | None:
    name = read.text("PGRST_SERVER_TRACE_HEADER") or None
    if name is not None and not _HEADER_NAME.fullmatch(name):
        read.problem("PGRST_SERVER_TRACE_HEADER is not the name of a header")
        return None
    return name


def _socket_mode(read: Reader, name: str) -> int:
    text = read.text(name)
    if not text:
        return _DEFAULT_MODE
    if not re.fullmatch(r"[67][0-7]{2}", text):
        read.problem(f"{name} must be an octal number between 600 and 777")
        return _DEFAULT_MODE
    return int(text, 8)


def _is_http_uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
