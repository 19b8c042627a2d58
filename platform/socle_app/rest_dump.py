"""The settings of `socle serve rest` as a configuration file: `--dump-config`, and with defaults `--example`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from socle_platform.config.database import DatabaseSettings
    from socle_platform.config.rest import ListenSettings, RestSettings, SqlName


def render_config(settings: RestSettings, database: DatabaseSettings, environ: Mapping[str, str]) -> str:
    """Every setting, one a line, sorted; reading it again gives the same. `environ` has the secret as it was given."""
    values: dict[str, str | int | bool | None] = {
        **_api(settings),
        **_database(settings, database),
        **_jwt(settings, environ),
        **_listen("server", settings.server),
        **_listen("admin-server", settings.admin),
        "server-port": settings.server.port,
        "server-reuseport": settings.server.reuse_port,
        "admin-server-port": settings.admin.port,
        **dict(settings.app_settings),
    }
    return "".join(sorted(f"{name} = {_literal(value)}\n" for name, value in values.items()))


def _api(settings: RestSettings) -> dict[str, str | int | bool | None]:
    end = ("rollback" if settings.rollback_all else "commit") + (
        "-allow-override" if settings.allow_tx_override else ""
    )
    return {
        "client-error-verbosity": "verbose" if settings.verbose_errors else "minimal",
        "db-aggregates-enabled": settings.aggregates_enabled,
        "db-anon-role": settings.anon_role or "",
        "db-extra-search-path": ",".join(settings.extra_search_path),
        "db-hoisted-tx-settings": ",".join(settings.hoisted_tx_settings),
        "db-max-rows": settings.max_rows,
        "db-plan-enabled": settings.plan_enabled,
        "db-pre-request": _name(settings.pre_request),
        "db-root-spec": _name(settings.root_spec),
        "db-schemas": ",".join(settings.schemas),
        "db-tx-end": end,
        "log-level": settings.log_level,
        "log-query": settings.log_query,
        "openapi-mode": settings.openapi.mode,
        "openapi-security-active": settings.openapi.security_active,
        "openapi-server-proxy-uri": settings.openapi.server_proxy_uri or "",
        "server-cors-allowed-origins": ",".join(settings.cors_allowed_origins),
        "server-trace-header": settings.trace_header or "",
        "server-timing-enabled": settings.timing_enabled,
        "url-use-legacy-target-names": settings.legacy_target_names,
    }


def _database(settings: RestSettings, database: DatabaseSettings) -> dict[str, str | int | bool | None]:
    return {
        "db-channel": settings.channel,
        "db-channel-enabled": settings.channel_enabled,
        "db-config": settings.config_in_database,
        "db-pool": database.api_pool_size,
        "db-pool-acquisition-timeout": int(database.acquire_timeout),
        "db-pool-automatic-recovery": settings.automatic_recovery,
        "db-pool-max-idletime": int(database.idle_timeout),
        "db-pool-max-lifetime": int(database.max_lifetime),
        "db-pre-config": _name(settings.pre_config),
        "db-replica-uris": " ".join(database.replica_dsns),
        "db-prepared-statements": settings.prepared_statements,
        "db-uri": database.api_dsn,
    }


def _jwt(settings: RestSettings, environ: Mapping[str, str]) -> dict[str, str | int | bool | None]:
    flag = environ.get("PGRST_JWT_SECRET_IS_BASE64") or environ.get("PGRST_SECRET_IS_BASE64") or "false"
    return {
        "jwt-aud": settings.jwt.audience or "",
        "jwt-cache-max-entries": settings.jwt.cache_max_entries,
        "jwt-role-claim-key": settings.jwt.role_path,
        "jwt-secret": environ.get("PGRST_JWT_SECRET", ""),
        "jwt-secret-is-base64": flag.lower() not in {"false", "off", "no", "0", "f", "n"},
    }


def _listen(prefix: str, settings: ListenSettings) -> dict[str, str | int | bool | None]:
    return {
        f"{prefix}-host": settings.host,
        f"{prefix}-unix-socket": settings.unix_socket or "",
        f"{prefix}-unix-socket-mode": f"{settings.unix_socket_mode:o}",
    }


def _name(name: SqlName | None) -> str:
    return "" if name is None else ".".join(part for part in name if part)


def _literal(value: str | int | bool | None) -> str:
    """As the file format has it: text in quotes, with `$` doubled and `"` and `\\` escaped; nothing is empty text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = (value or "").replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'
