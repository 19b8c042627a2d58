"""All settings of a platform as one frozen value, loaded once, validated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from socle_platform.config.auth import AuthSettings, load_auth
from socle_platform.config.gateway import GatewaySettings, load_gateway
from socle_platform.config.keys import KeySettings, load_keys
from socle_platform.config.reader import Reader
from socle_platform.config.rest import RestSettings, load_rest
from socle_platform.config.storage import StorageSettings, load_storage


@dataclass(frozen=True, slots=True)
class Settings:
    """One part per service; a service is handed its own part only."""

    gateway: GatewaySettings
    keys: KeySettings
    auth: AuthSettings
    rest: RestSettings
    storage: StorageSettings


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from an environment mapping. Raises ConfigError that lists every problem."""
    read = Reader(environ)
    settings = Settings(
        gateway=load_gateway(read),
        keys=load_keys(read),
        auth=load_auth(read),
        rest=load_rest(read),
        storage=load_storage(read),
    )
    read.finish()
    return settings
