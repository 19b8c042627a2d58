"""PostgREST's settings from environment, file and database; every form of secret; where the role is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from socle_platform.config.postgrest_file import IN_DATABASE, environment_name, load_environment, parse_config_file
from socle_platform.config.reader import ConfigError, Reader
from socle_platform.config.rest import DEFAULT_HOISTED, RestSettings, SqlName, load_rest
from socle_platform.config.rest_jwt import parse_role_path
from socle_platform.keys import TokenAudienceMismatch, secret_key

SECRET = "reallyreallyreallyreallyverysafe"


def load(**environ: str) -> RestSettings:
    read = Reader({f"PGRST_{name}": value for name, value in environ.items()})
    settings = load_rest(read)
    read.finish()
    return settings


def problems(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    return "\n".join(caught.value.problems)


def test_defaults() -> None:
    settings = load()
    assert settings == RestSettings()
    assert (settings.server.host, settings.server.port, settings.server.unix_socket_mode) == ("!4", 3000, 0o660)
    assert (settings.admin.host, settings.admin.port) == ("!4", None)
    assert settings.search_path("api") == ("api", "public")
    assert settings.hoisted_tx_settings == DEFAULT_HOISTED


def test_every_name() -> None:
    settings = load(
        DB_SCHEMAS="multi,   tenant,setup",
        DB_EXTRA_SEARCH_PATH="public, test",
        DB_ANON_ROLE="root",
        DB_PRE_REQUEST="please_run_fast",
        DB_PRE_CONFIG="postgrest.pre_config",
        DB_ROOT_SPEC="openapi_v3",
        DB_MAX_ROWS="1000",
        DB_AGGREGATES_ENABLED="true",
        DB_PLAN_ENABLED="true",
        DB_PREPARED_STATEMENTS="false",
        DB_TX_END="rollback-allow-override",
        DB_HOISTED_TX_SETTINGS="work_mem",
        DB_CHANNEL="postgrest",
        DB_CHANNEL_ENABLED="false",
        DB_CONFIG="false",
        DB_POOL_AUTOMATIC_RECOVERY="false",
        JWT_AUD="https://postgrest.org",
        JWT_ROLE_CLAIM_KEY="$.user[0].real_role",
        JWT_CACHE_MAX_ENTRIES="0",
        OPENAPI_MODE="ignore-privileges",
        OPENAPI_SECURITY_ACTIVE="true",
        OPENAPI_SERVER_PROXY_URI="https://postgrest.org",
        SERVER_CORS_ALLOWED_ORIGINS="http://example.com, http://other.com",
        SERVER_HOST="0.0.0.0",
        SERVER_PORT="80",
        SERVER_REUSEPORT="true",
        SERVER_TRACE_HEADER="X-Request-Id",
        SERVER_TIMING_ENABLED="true",
        SERVER_UNIX_SOCKET="/tmp/s.sock",
        SERVER_UNIX_SOCKET_MODE="777",
        ADMIN_SERVER_PORT="3001",
        CLIENT_ERROR_VERBOSITY="minimal",
        URL_USE_LEGACY_TARGET_NAMES="false",
        LOG_LEVEL="info",
        LOG_QUERY="true",
        APP_SETTINGS_two="2",
        APP_SETTINGS_One="1",
    )
    assert settings.schemas == ("multi", "tenant", "setup")
    assert settings.extra_search_path == ("public", "test")
    assert (settings.anon_role, settings.max_rows) == ("root", 1000)
    assert (settings.pre_request, settings.pre_config) == (
        SqlName("", "please_run_fast"),
        SqlName("postgrest", "pre_config"),
    )
    assert settings.root_spec == SqlName("", "openapi_v3")
    assert settings.aggregates_enabled
    assert settings.plan_enabled
    assert not settings.prepared_statements
    assert settings.rollback_all
    assert settings.allow_tx_override
    assert settings.hoisted_tx_settings == ("work_mem",)
    assert (settings.channel, settings.channel_enabled) == ("postgrest", False)
    assert not settings.config_in_database
    assert not settings.automatic_recovery
    assert (settings.jwt.audience, settings.jwt.cache_max_entries) == ("https://postgrest.org", 0)
    assert settings.jwt.role_of({"user": [{"real_role": "x"}]}) == "x"
    assert settings.openapi.mode == "ignore-privileges"
    assert settings.openapi.security_active
    assert settings.openapi.server_proxy_uri == "https://postgrest.org"
    assert settings.cors_allowed_origins == ("http://example.com", "http://other.com")
    assert (settings.server.host, settings.server.port, settings.server.reuse_port) == ("0.0.0.0", 80, True)
    assert (settings.server.unix_socket, settings.server.unix_socket_mode) == ("/tmp/s.sock", 0o777)
    assert (settings.admin.host, settings.admin.port) == ("0.0.0.0", 3001)
    assert settings.trace_header == "X-Request-Id"
    assert settings.timing_enabled
    assert not settings.verbose_errors
    assert not settings.legacy_target_names
    assert (settings.log_level, settings.log_query) == ("info", True)
    assert settings.app_settings == (("app.settings.One", "1"), ("app.settings.two", "2"))


def test_aliases_empty_values_and_loose_booleans() -> None:
    settings = load(
        DB_SCHEMA="aliased",
        MAX_ROWS="7",
        PRE_REQUEST="check",
        ROOT_SPEC="open",
        ROLE_CLAIM_KEY=".aliased",
        DB_TX_END="",
    )
    assert (settings.schemas, settings.max_rows) == (("aliased",), 7)
    assert (settings.pre_request, settings.root_spec) == (SqlName("", "check"), SqlName("", "open"))
    assert settings.jwt.role_of({"aliased": "x"}) == "x"
    assert not settings.rollback_all
    assert load(DB_EXTRA_SEARCH_PATH="").extra_search_path == ()
    assert load(DB_CHANNEL_ENABLED="0", DB_PLAN_ENABLED="2", DB_CONFIG="FALSE") == load(
        DB_CHANNEL_ENABLED="false", DB_PLAN_ENABLED="true", DB_CONFIG="False"
    )


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"DB_SCHEMAS": "api, pg_catalog"}, "does not allow schema: 'pg_catalog'"),
        ({"SERVER_UNIX_SOCKET_MODE": "599"}, "between 600 and 777"),
        ({"SERVER_UNIX_SOCKET_MODE": "778"}, "between 600 and 777"),
        ({"JWT_AUD": "http://%%localhorst.invalid"}, "PGRST_JWT_AUD"),
        ({"LOG_LEVEL": "never"}, "must be one of crit, error"),
        ({"DB_TX_END": "random"}, "must be one of commit"),
        ({"OPENAPI_MODE": "follow-"}, "must be one of follow-privileges"),
        ({"OPENAPI_SERVER_PROXY_URI": "htp:/@@localhorst.invalid"}, "malformed"),
        ({"JWT_SECRET": "too short"}, "at least 32 characters"),
        ({"JWT_SECRET": "no base-64!", "JWT_SECRET_IS_BASE64": "true"}, "not base64"),
        ({"JWT_SECRET": "@/does/not/exist"}, "cannot be read: No such file"),
        ({"JWT_SECRET": '{"kty": "unknown"}'}, "unknown key type"),
        ({"JWT_SECRET": '{"keys": 7}'}, "neither a JWK nor a JWK set"),
        ({"JWT_ROLE_CLAIM_KEY": "$.my_role;;domain"}, "not a JSON path"),
        ({"JWT_ROLE_CLAIM_KEY": "role.other"}, "not a JSON path"),
        ({"JWT_ROLE_CLAIM_KEY": ".role[?(@ =)]"}, "not a JSON path"),
        ({"ADMIN_SERVER_PORT": "3000"}, "cannot be the same"),
        ({"SERVER_TRACE_HEADER": "no header"}, "not the name of a header"),
        ({"DB_MAX_ROWS": "many"}, "whole number"),
    ],
)
def test_mistakes_are_sentences_without_secrets(environ: dict[str, str], sentence: str) -> None:
    found = problems(**environ)
    assert sentence in found
    assert "too short" not in found
    assert "no base-64!" not in found


# ---- secrets ---------------------------------------------------------------------------------------------------------


def test_text_base64_and_files_make_one_hs256_key(tmp_path: Path) -> None:
    expected = load(JWT_SECRET=SECRET).jwt.keys
    assert [key.algorithms for key in expected] == [("HS256",)]
    assert expected[0].jwk["k"] == secret_key(SECRET).jwk["k"]
    (tmp_path / "secret").write_bytes(SECRET.encode() + b"\n")
    assert load(JWT_SECRET=f"@{tmp_path / 'secret'}").jwt.keys == expected
    encoded = base64.urlsafe_b64encode(SECRET.encode()).decode().replace("=", ".")
    assert load(JWT_SECRET=encoded, JWT_SECRET_IS_BASE64="true").jwt.keys == expected
    (tmp_path / "encoded").write_text(encoded)
    assert load(JWT_SECRET=f"@{tmp_path / 'encoded'}", SECRET_IS_BASE64="1").jwt.keys == expected


def test_jwk_and_jwk_set() -> None:
    jwk = {**secret_key(SECRET).jwk, "alg": "HS512", "kid": "a"}
    assert [(key.kid, key.algorithms) for key in load(JWT_SECRET=json.dumps(jwk)).jwt.keys] == [("a", ("HS512",))]
    assert len(load(JWT_SECRET=json.dumps({"keys": [jwk, {**jwk, "kid": "b"}]})).jwt.keys) == 2


def test_the_keyring_follows_the_settings() -> None:
    settings = load(JWT_SECRET=SECRET, JWT_AUD="us", JWT_ROLE_CLAIM_KEY="$.a.b")
    keyring = settings.jwt.keyring("guest")
    assert keyring.verify(keyring.sign({"a": {"b": "author"}, "aud": "us"})).role == "author"
    assert keyring.verify(keyring.sign({"aud": []})).role == "guest"
    assert settings.jwt.keyring(None).verify(keyring.sign({})).role == ""
    with pytest.raises(TokenAudienceMismatch):
        keyring.verify(keyring.sign({"aud": ["them"]}))


AUTHOR = "postgrest_test_author"
NESTED = {"realm_access": {"roles": ["other", AUTHOR, {"not": "text"}]}, "https://x.com/roles": [{"value": AUTHOR}]}


@pytest.mark.parametrize(
    ("path", "claims", "role"),
    [
        ("$.role", {"role": "x"}, "x"),
        (".role", {"role": "x"}, "x"),
        ("$.role", {"role": 7}, "7"),
        (".role", {"role": None}, "null"),
        ("$.role", {}, None),
        ("$.a.b[1]", {"a": {"b": ["no", "x"]}}, "x"),
        ("$.a.b[9]", {"a": {"b": ["no", "x"]}}, None),
        ('$["https://x.com/roles"][0].value', NESTED, AUTHOR),
        ('."https://x.com/roles"[0].value', NESTED, AUTHOR),
        (f'$.realm_access.roles[?(@ == "{AUTHOR}")]', NESTED, AUTHOR),
        ('$.realm_access.roles[?(@ != "other")]', NESTED, AUTHOR),
        (f'.realm_access.roles[?(@ == "{AUTHOR}")]', NESTED, AUTHOR),
        ('.realm_access.roles[?(@ != "other")]', NESTED, AUTHOR),
        ('.realm_access.roles[?(@ ^== "postgrest_te")]', NESTED, AUTHOR),
        ('.realm_access.roles[?(@ ==^ "st_test_author")]', NESTED, AUTHOR),
        ('.realm_access.roles[?(@ *== "_test_")]', NESTED, AUTHOR),
        ('.realm_access.roles[?(@ == "nobody")]', NESTED, None),
        (".realm_access.roles.deeper", NESTED, None),
        ("$.realm_access.roles[2]", NESTED, '{"not":"text"}'),
    ],
)
def test_role_paths(path: str, claims: dict[str, object], role: str | None) -> None:
    assert parse_role_path(path)(claims) == role


@pytest.mark.parametrize("path", ["", "role", ".role##", ".my_role;;domain", "1234", "@@.role", ".a[?(@ =)]", "$.a["])
def test_role_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_role_path(path)


# ---- file and database -----------------------------------------------------------------------------------------------

FILE = """
# Commènt
db-schemas = "api, other"   # both
db-max-rows = 10
db-plan-enabled=on
jwt-secret = "a \\"b\\" $$c $(HOME_TOWN) \\\\ #d"
app.settings.Case = "kept"
db-anon-role = ""
"""


def test_a_file_becomes_environment_names() -> None:
    assert parse_config_file(FILE, {"HOME_TOWN": "Trier"}) == {
        "PGRST_DB_SCHEMAS": "api, other",
        "PGRST_DB_MAX_ROWS": "10",
        "PGRST_DB_PLAN_ENABLED": "true",
        "PGRST_JWT_SECRET": 'a "b" $c Trier \\ #d',
        "PGRST_APP_SETTINGS_Case": "kept",
        "PGRST_DB_ANON_ROLE": "",
    }


def test_lines_that_are_none_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config_file('yaml:\n  is: it\ndb-uri = "open\nok = 1', {})
    assert len(caught.value.problems) == 3


def test_database_before_environment_before_file(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text(FILE)
    environ = {"PGRST_DB_MAX_ROWS": "20", "PGRST_DB_ANON_ROLE": "env"}
    merged = load_environment(environ, str(file), {"db-anon-role": "stored", "db-schemas": ""})
    settings = load_rest(Reader({**merged, "PGRST_JWT_SECRET": ""}))
    assert (settings.max_rows, settings.anon_role, settings.plan_enabled) == (20, "stored", True)
    assert settings.schemas == ("public",)


def test_an_address_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "uri").write_text("postgresql://somewhere/db\n")
    assert load_environment({"PGRST_DB_URI": f"@{tmp_path / 'uri'}"})["PGRST_DB_URI"] == "postgresql://somewhere/db"
    with pytest.raises(ConfigError, match="PGRST_DB_URI cannot be read"):
        load_environment({"PGRST_DB_URI": "@/does/not/exist"})
    with pytest.raises(ConfigError, match="configuration file cannot be read"):
        load_environment({}, "/does/not/exist.conf")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_environment({}, str(tmp_path / "latin"))


class Recording(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: object = None) -> str | None:  # type: ignore[override]  # no default is ever given
        self.asked.add(key)
        return SECRET if key == "PGRST_JWT_SECRET" else None


def test_every_setting_that_may_be_stored_is_one_that_is_read() -> None:
    environ = Recording()
    load_rest(Reader(environ))
    assert {environment_name(name) for name in IN_DATABASE} <= environ.asked | {"PGRST_DB_EXTRA_SEARCH_PATH"}
