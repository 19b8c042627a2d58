"""Project folders: which one is found, what its files say, and in which order they are heard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from socle_app.environment import notes_on_names
from socle_app.project import Project, ProjectNotFound, find_project
from socle_app.project_config import read_config, read_dotenv
from socle_app.project_keys import KEYS, PASSWORD_REQUIREMENTS, find_key
from socle_platform.config.auth import AuthSettings
from socle_platform.config.reader import ConfigError
from socle_platform.config.settings import load
from socle_platform.migrate import MigrationFileInvalid, sql_root

STOCK_CONFIG = """
project_id = "shop"

[api]
enabled = true
port = 55321
schemas = ["public", "graphql_public", "shop"]
extra_search_path = ["public", "extensions"]
max_rows = 500
[api.tls]
enabled = false

[db]
port = 55322
shadow_port = 54320
major_version = 17
[db.pooler]
enabled = false
default_pool_size = 20
[db.migrations]
enabled = true
schema_paths = []
[db.seed]
enabled = true
sql_paths = ["./seed.sql", "./seeds/*.sql"]

[realtime]
enabled = true
[studio]
enabled = true
openai_api_key = "env(OPENAI_API_KEY)"
[inbucket]
enabled = true

[storage]
enabled = true
file_size_limit = "20MiB"
[storage.image_transformation]
enabled = false
[storage.buckets.images]
public = true
allowed_mime_types = ["image/png", "image/jpeg"]

[auth]
enabled = true
site_url = "http://localhost:5173"
additional_redirect_urls = ["https://localhost:5173", "http://localhost:5173/**"]
jwt_expiry = 1800
enable_refresh_token_rotation = true
refresh_token_reuse_interval = 15
enable_signup = false
enable_anonymous_sign_ins = true
minimum_password_length = 8
password_requirements = "lower_upper_letters_digits"
[auth.rate_limit]
email_sent = 2
token_verifications = 31
sign_in_sign_ups = 32
[auth.email]
enable_signup = true
double_confirm_changes = false
enable_confirmations = true
otp_length = 8
[auth.email.template.invite]
subject = "Vous êtes invité"
content_path = "./supabase/templates/invite.html"
[auth.sms]
enable_signup = true
enable_confirmations = true
template = "Code {{ .Code }}"
[auth.sms.test_otp]
33612345678 = "123456"
[auth.sms.twilio]
enabled = true
account_sid = "AC1"
message_service_sid = "MG1"
auth_token = "env(TWILIO_TOKEN)"
[auth.mfa.totp]
enroll_enabled = true
[auth.hook.custom_access_token]
enabled = true
uri = "pg-functions://postgres/public/custom_access_token"
[auth.external.github]
enabled = true
client_id = "id"
secret = "env(GITHUB_SECRET)"
[auth.external.apple]
enabled = false
secret = "env(APPLE_SECRET)"
[auth.web3.solana]
enabled = true
[auth.third_party.firebase]
enabled = false

[edge_runtime]
enabled = true
[edge_runtime.secrets]
STRIPE_API_KEY = "env(STRIPE_API_KEY)"
GREETING = "bonjour"
[functions.stripe-webhook]
verify_jwt = false

[analytics]
enabled = true
[experimental]
orioledb_version = ""
[remotes.production]
project_id = "abc"
[remotes.production.auth]
site_url = "https://example.com"
"""


def make_project(folder: Path, config: str | None = None, files: Mapping[str, str] | None = None) -> Project:
    """A project folder with a config.toml, if any, and other files by their path."""
    (folder / "supabase" / "migrations").mkdir(parents=True)
    given = {**({} if config is None else {"supabase/config.toml": config}), **(files or {})}
    for name, text in given.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Project(folder)


def auth_settings(project: Project, environ: Mapping[str, str]) -> AuthSettings:
    return load({"API_EXTERNAL_URL": "http://127.0.0.1:54321/auth/v1", **project.environment(environ)}).auth


class TestFinding:
    def test_upwards_from_here(self, tmp_path: Path) -> None:
        make_project(tmp_path / "shop")
        deep = tmp_path / "shop" / "web" / "src"
        deep.mkdir(parents=True)
        assert find_project(None, deep) == Project((tmp_path / "shop").resolve())

    def test_the_built_in_one_where_there_is_none(self, tmp_path: Path) -> None:
        project = find_project(None, tmp_path)
        assert project == Project(tmp_path.resolve(), built_in=True)
        assert project.name == "dedicace"
        assert project.migrations_folder == sql_root() / "migrations" / "dedicace"
        assert [one.version for one in project.migrations()][:2] == ["20240101000000", "20240115000000"]
        assert {one.path for one in project.policies()} >= {
            "policies/dedicace/product.sql",
            "policies/dedicace/product_items.sql",
            "policies/dedicace/storage_objects.sql",
        }
        assert project.seeds() == ()
        assert project.roles_file() is None
        assert project.functions_folder is None
        assert project.warnings({}) == ()

    def test_the_one_that_is_named(self, tmp_path: Path) -> None:
        make_project(tmp_path / "shop")
        root = (tmp_path / "shop").resolve()
        assert find_project(tmp_path / "shop", tmp_path) == Project(root)
        assert find_project(tmp_path / "shop" / "supabase", tmp_path) == Project(root)

    @pytest.mark.parametrize(("name", "reason"), [("empty", "has no supabase/ folder"), ("missing", "is not a folder")])
    def test_a_named_folder_without_a_project_is_refused(self, tmp_path: Path, name: str, reason: str) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ProjectNotFound, match=reason):
            find_project(tmp_path / name, tmp_path)

    def test_a_folder_called_supabase_is_not_enough(self, tmp_path: Path) -> None:
        (tmp_path / "supabase").mkdir()
        assert find_project(None, tmp_path).built_in

    def test_a_project_needs_no_config(self, tmp_path: Path) -> None:
        project = make_project(tmp_path / "back-dedicaces")
        assert project.name == "back-dedicaces"
        assert project.environment({"A": "1"}) == {"A": "1"}


class TestConfig:
    def test_a_stock_config_reaches_the_services(self, tmp_path: Path) -> None:
        project = make_project(
            tmp_path, STOCK_CONFIG, {"supabase/templates/invite.html": "<p>{{ .ConfirmationURL }}</p>"}
        )
        environ = {"TWILIO_TOKEN": "tt", "GITHUB_SECRET": "gs"}
        given = project.environment(environ)
        expected = {
            "SOCLE_PORT": "55321",
            "SOCLE_DB_PORT": "55322",
            "PGRST_DB_SCHEMAS": "public,graphql_public,shop",
            "PGRST_DB_MAX_ROWS": "500",
            "FILE_SIZE_LIMIT": "20MiB",
            "ENABLE_IMAGE_TRANSFORMATION": "false",
            "SITE_URL": "http://localhost:5173",
            "GOTRUE_DISABLE_SIGNUP": "true",
            "GOTRUE_MAILER_AUTOCONFIRM": "false",
            "GOTRUE_MAILER_TEMPLATES_INVITE": str((tmp_path / "supabase/templates/invite.html").resolve()),
            "GOTRUE_EXTERNAL_GITHUB_SECRET": "gs",
            "GOTRUE_EXTERNAL_APPLE_ENABLED": "false",
        }
        assert {name: given.get(name) for name in expected} == expected
        auth = auth_settings(project, environ)
        assert auth.site_url == "http://localhost:5173"
        assert auth.uri_allow_list == ("https://localhost:5173", "http://localhost:5173/**")
        assert auth.jwt.expiry == 1800
        assert auth.disable_signup
        assert auth.external.anonymous_enabled
        assert auth.external.phone_enabled
        assert auth.external.web3.solana_enabled
        assert auth.external.providers["github"].secret == "gs"
        assert auth.password.min_length == 8
        assert len(auth.password.required_characters) == 3
        assert auth.security.refresh_token_reuse_interval == 15
        assert (auth.rates.verify, auth.rates.otp) == (31, 32)
        assert not auth.mailer.autoconfirm
        assert not auth.mailer.secure_email_change
        assert (auth.mailer.otp_length, auth.mailer.otp_expiry) == (8, 3600)
        assert auth.mailer.subjects == {"invite": "Vous êtes invité"}
        assert not auth.sms.autoconfirm
        assert auth.sms.provider == "twilio"
        assert auth.sms.credentials["auth_token"] == "tt"
        assert auth.sms.test_otp == {"33612345678": "123456"}
        assert auth.mfa.totp.enroll_enabled
        assert not auth.mfa.totp.verify_enabled
        assert auth.hook("custom_access_token").enabled

    def test_unknown_keys_only_warn(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, STOCK_CONFIG + "\n[api2]\nx = 1\n", {"supabase/migrations/notes.sql": ""})
        config = project.config({"GITHUB_SECRET": "x"})
        assert config.warnings == (
            # Neither the secret of a provider that is off nor a key that is not applied.
            "config.toml: auth.sms.twilio.auth_token names a variable that is not set: env(TWILIO_TOKEN)",
            "config.toml: edge_runtime.secrets.STRIPE_API_KEY names a variable that is not set: env(STRIPE_API_KEY)",
            "config.toml: api2.x is not a known key",
        )
        found = project.warnings({})
        assert any(warning.startswith("supabase/migrations/notes.sql: skipped") for warning in found)
        assert any(warning.startswith("config.toml: storage.buckets.images is not created") for warning in found)

    @pytest.mark.parametrize(
        ("text", "warning"),
        [
            ("[auth]\nenabled = false", "auth.enabled = false has no effect: sign-in always runs"),
            ("[api]\nenabled = 'env(API_ON)'", "api.enabled = false has no effect: the table API always runs"),
            ("[api]\nauto_expose_new_tables = false", "api.auto_expose_new_tables = false has no effect: new tables"),
            ("[db.network_restrictions]\nenabled = true", "db.network_restrictions.enabled = true has no effect"),
            ("[auth.third_party.clerk]\nenabled = true", "auth.third_party.clerk.enabled = true has no effect: tokens"),
            ("[db.migrations]\nschema_paths = ['./schemas/*.sql']", "db.migrations.schema_paths = ./schemas/*.sql has"),
        ],
    )
    def test_what_somebody_relies_on_in_vain_is_named(self, tmp_path: Path, text: str, warning: str) -> None:
        project = make_project(tmp_path, text)
        (found,) = project.warnings({"API_ON": "false"})
        assert found.startswith(f"config.toml: {warning}")

    def test_functions_that_nobody_serves_are_named(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, "", {"supabase/functions/hello/index.ts": ""})
        assert project.warnings({}) == ("supabase/functions: functions are not served yet",)

    def test_a_variable_of_the_process_switches_seeds_and_migrations_off(self, tmp_path: Path) -> None:
        files = {"supabase/seed.sql": "select 1", "supabase/migrations/1_a.sql": "select 1"}
        project = make_project(tmp_path, "", files)
        assert (len(project.seeds({})), len(project.migrations({}))) == (1, 1)
        off = {"SUPABASE_DB_SEED_ENABLED": "false", "SUPABASE_DB_MIGRATIONS_ENABLED": "false"}
        assert (project.seeds(off), project.migrations(off)) == ((), ())

    def test_what_the_project_itself_uses(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, STOCK_CONFIG)
        config = project.config({"STRIPE_API_KEY": "sk"})
        assert project.name == "shop"
        assert config.section("functions") == {"stripe-webhook": {"verify_jwt": False}}
        assert config.section("storage.buckets") == {
            "images": {"public": True, "allowed_mime_types": ("image/png", "image/jpeg")}
        }
        assert project.function_secrets({"STRIPE_API_KEY": "sk"}) == {"STRIPE_API_KEY": "sk", "GREETING": "bonjour"}

    def test_variables_of_the_official_cli_override_keys(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, STOCK_CONFIG, {".env": "SUPABASE_API_MAX_ROWS=7\n"})
        given = project.environment(
            {
                "SUPABASE_AUTH_SITE_URL": "https://a.example",
                "SUPABASE_AUTH_ENABLE_SIGNUP": "true",
                "SUPABASE_AUTH_EXTERNAL_GITHUB_CLIENT_ID": "other",
                "SUPABASE_AUTH_ADDITIONAL_REDIRECT_URLS": "https://b.example, https://c.example",
                "SUPABASE_URL": "not a key",
            }
        )
        assert given["SITE_URL"] == "https://a.example"
        assert given["GOTRUE_DISABLE_SIGNUP"] == "false"
        assert given["GOTRUE_EXTERNAL_GITHUB_CLIENT_ID"] == "other"
        assert given["GOTRUE_URI_ALLOW_LIST"] == "https://b.example,https://c.example"
        assert given["PGRST_DB_MAX_ROWS"] == "7"

    def test_overrides_work_without_a_file_and_bring_no_template_defaults(self, tmp_path: Path) -> None:
        given = find_project(None, tmp_path).environment({"SUPABASE_AUTH_JWT_EXPIRY": "60"})
        assert given["JWT_EXPIRY"] == "60"
        assert "GOTRUE_MFA_TOTP_ENROLL_ENABLED" not in given

    @pytest.mark.parametrize(
        ("smtp", "host", "sent"),
        [
            ("", None, "360000"),
            ('[auth.email.smtp]\nhost = "mail"\nadmin_email = "a@b.c"', "mail", "2"),
            ('[auth.email.smtp]\nenabled = false\nhost = "mail"', None, "360000"),
        ],
    )
    def test_a_mail_server_counts_when_it_is_on(self, tmp_path: Path, smtp: str, host: str | None, sent: str) -> None:
        config = f"[auth.rate_limit]\nemail_sent = 2\n[auth.email]\nmax_frequency = '2s'\n{smtp}"
        given = make_project(tmp_path, config).environment({})
        assert given.get("GOTRUE_SMTP_HOST") == host
        assert given["GOTRUE_RATE_LIMIT_EMAIL_SENT"] == sent
        assert given["GOTRUE_SMTP_MAX_FREQUENCY"] == "2s"

    def test_every_problem_is_told_at_once(self, tmp_path: Path) -> None:
        config = (
            '[api]\nport = "eighty"\nmax_rows = true\n[auth]\nenable_signup = "maybe"\npassword_requirements = "x"\n'
        )
        with pytest.raises(ConfigError) as error:
            make_project(tmp_path, config).environment({})
        assert error.value.problems == (
            "config.toml: api.port must be a whole number, not 'eighty'",
            "config.toml: api.max_rows must be a whole number, not True",
            "config.toml: auth.enable_signup must be true or false, not 'maybe'",
            "config.toml: auth.password_requirements must be one of letters_digits, lower_upper_letters_digits, "
            "lower_upper_letters_digits_symbols, not 'x'",
        )

    def test_what_is_no_toml_is_told_with_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"config\.toml is not TOML: .*line 2"):
            make_project(tmp_path, "[api]\nport 54321").environment({})

    def test_signing_keys_are_found_beside_the_config(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, '[auth]\nsigning_keys_path = "./signing_keys.json"')
        (tmp_path / "supabase" / "signing_keys.json").write_text("[]")
        assert project.environment({})["SIGNING_KEYS_PATH"] == str((tmp_path / "supabase/signing_keys.json").resolve())

    def test_every_preset_of_passwords_can_be_met(self) -> None:
        from socle_platform.config.auth import parse_required_characters

        sets = {name: parse_required_characters(text) for name, text in PASSWORD_REQUIREMENTS.items()}
        assert {name: len(found) for name, found in sets.items()} == {
            "letters_digits": 2,
            "lower_upper_letters_digits": 3,
            "lower_upper_letters_digits_symbols": 4,
        }
        assert set(sets["lower_upper_letters_digits_symbols"][3]) == set("!@#$%^&*()_+-=[]{};'\\:\"|<>?,./`~")

    @pytest.mark.parametrize("key", KEYS, ids=lambda key: str(key.path))
    def test_each_key_is_found_by_its_own_path(self, key: object) -> None:
        path = tuple(str(getattr(key, "path", "")).replace("**", "x.y").replace("*", "some_name").split("."))
        assert find_key(path) is not None

    def test_flags_given_as_variables(self) -> None:
        config = read_config(None, {"SUPABASE_AUTH_ENABLE_SIGNUP": "0", "SUPABASE_STORAGE_S3_PROTOCOL_ENABLED": "Yes"})
        assert config.environment() == {"GOTRUE_DISABLE_SIGNUP": "true", "S3_PROTOCOL_ENABLED": "true"}


class TestEnvironment:
    OWNERS = (
        "POSTGRES_PASSWORD=secure_password\nJWT_SECRET=secure_jwt_secret\nANON_KEY=eyJ...\nSERVICE_ROLE_KEY=eyJ...\n"
        "STRIPE_API_KEY=sk_live_...\nSTRIPE_WEBHOOK_SIGNING_SECRET=whsec_...\nSITE_URL=https://app.momentscollectifs.fr\n"
    )

    def test_the_owners_names(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, None, {".env": "JWT_SECRET=dev\n", ".env.production": self.OWNERS})
        assert project.environment({}) == {"JWT_SECRET": "dev"}
        production = project.environment({"SUPABASE_ENV": "production"})
        assert production["POSTGRES_PASSWORD"] == "secure_password"
        assert production["JWT_SECRET"] == "secure_jwt_secret"
        assert production["STRIPE_WEBHOOK_SIGNING_SECRET"] == "whsec_..."
        assert auth_settings(project, {"SUPABASE_ENV": "production"}).site_url == "https://app.momentscollectifs.fr"

    def test_the_process_wins_over_files_and_these_over_the_config(self, tmp_path: Path) -> None:
        project = make_project(
            tmp_path,
            '[auth]\nsite_url = "https://config"\njwt_secret = "from-the-config-0123456789"\n',
            {
                ".env": "SITE_URL=https://root\nJWT_SECRET=root\nONLY=root\n",
                "supabase/.env": "JWT_SECRET=supabase\n",
            },
        )
        given = project.environment({"SITE_URL": "https://process"})
        assert (given["SITE_URL"], given["JWT_SECRET"], given["ONLY"]) == ("https://process", "supabase", "root")

    def test_which_files_are_read(self, tmp_path: Path) -> None:
        project = make_project(tmp_path)
        names = (".env", ".env.local", ".env.development", ".env.production", ".env.production.local")
        for name in names:
            (tmp_path / name).write_text("")
        assert [path.name for path in project.dotenv_files({})] == [".env.local", ".env.development", ".env"]
        assert [path.name for path in project.dotenv_files({"SUPABASE_ENV": "production"})] == [
            ".env.production.local",
            ".env.local",
            ".env.production",
            ".env",
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("A=1\nB = two words  \n", {"A": "1", "B": "two words"}),
            ("export A=1", {"A": "1"}),
            ("# A=1\n  # B=2\nC=3 # comment\nD=a#b\nE=#x", {"C": "3", "D": "a#b", "E": ""}),
            ('A=\'x # $y ${z}\'\nB="x # \\n\\"q\\"" # c', {"A": "x # $y ${z}", "B": 'x # \n"q"'}),
            (
                'A=1\nB=${A}2\nC="${A}${NONE}3"\nD=\\${A}\nE=p$A\\x',
                {"A": "1", "B": "12", "C": "13", "D": "${A}", "E": "p$A\\x"},
            ),
            ('A="line 1\nB=2\nline 3"\nC=3', {"A": "line 1\nB=2\nline 3", "C": "3"}),
            ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
            ("A=1\nA=2", {"A": "2"}),
            ("A=\nB=''\nC=\"\"", {"A": "", "B": "", "C": ""}),
            ("A=postgres://u:p@h/d?x=y", {"A": "postgres://u:p@h/d?x=y"}),
            ('A="open\nB=2', {"A": '"open', "B": "2"}),
            ("not a line\n=x\n1A=2", {}),
            ("", {}),
        ],
    )
    def test_env_files(self, text: str, expected: dict[str, str]) -> None:
        assert read_dotenv(text) == expected


class TestFiles:
    def test_seeds_are_found_by_pattern_in_order(self, tmp_path: Path) -> None:
        project = make_project(
            tmp_path, '[db.seed]\nsql_paths = ["./seeds/b*.sql", "./seeds/*.sql", "../shared/*.sql", "./missing.sql"]'
        )
        for name in ("supabase/seeds/b2.sql", "supabase/seeds/a.sql", "supabase/seeds/b1.sql", "shared/s.sql"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("")
        assert [seed.path for seed in project.seeds()] == [
            "supabase/seeds/b1.sql",
            "supabase/seeds/b2.sql",
            "supabase/seeds/a.sql",
            "shared/s.sql",
        ]

    @pytest.mark.parametrize(
        ("config", "found"), [(None, 1), ("[db.seed]\nenabled = false", 0), ("[db.seed]\nsql_paths = []", 0)]
    )
    def test_the_usual_seed(self, tmp_path: Path, config: str | None, found: int) -> None:
        project = make_project(tmp_path, config)
        (tmp_path / "supabase" / "seed.sql").write_text("")
        assert len(project.seeds()) == found

    def test_migrations_policies_roles_functions(self, tmp_path: Path) -> None:
        project = make_project(tmp_path)
        for name, text in {
            "migrations/1_a.sql": "select 1",
            "policies/notes.sql": "grant select on notes to anon",
            "roles.sql": "",
            "functions/hello/index.ts": "",
        }.items():
            (tmp_path / "supabase" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "supabase" / name).write_text(text)
        assert [one.title for one in project.migrations()] == ["1_a.sql"]
        assert [one.path for one in project.policies()] == ["supabase/policies/notes.sql"]
        assert project.roles_file() == tmp_path / "supabase" / "roles.sql"
        assert project.functions_folder == tmp_path / "supabase" / "functions"

    def test_migrations_can_be_switched_off(self, tmp_path: Path) -> None:
        project = make_project(tmp_path, "[db.migrations]\nenabled = false")
        (tmp_path / "supabase" / "migrations" / "1_a.sql").write_text("")
        assert project.migrations() == ()

    def test_a_version_twice_is_an_error(self, tmp_path: Path) -> None:
        project = make_project(tmp_path)
        for name in ("1_a.sql", "1_b.sql"):
            (tmp_path / "supabase" / "migrations" / name).write_text("")
        with pytest.raises(MigrationFileInvalid, match=r"1_a\.sql and 1_b\.sql have the same version"):
            project.migrations()


class _Noticing(dict[str, str]):
    """An environment that notes which names were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # (the reader's use)
        self.asked.add(name)
        return super().get(name, default)


_STARS = {"HOOK": "SEND_SMS", "WEB3": "SOLANA", "NOTIFICATION": "PASSWORD_CHANGED", "MAILER": "INVITE", "": "GITHUB"}


@pytest.mark.parametrize("name", sorted({key.name for key in KEYS if key.name} - {"SOCLE_DB_PORT"}))
def test_every_name_that_a_key_becomes_is_read_by_a_service(name: str) -> None:
    environ = _Noticing()
    load(environ)
    star = next(value for part, value in _STARS.items() if part in name)
    assert name.replace("*", star) in environ.asked


def test_names_that_change_nothing_are_named() -> None:
    names = {"GOTRUE_MAILER_EMAIL_VALIDATION_BLOCKED_MX": '["mx.test"]', "REQUEST_X_FORWARDED_HOST_REGEXP": ""}
    (note,) = notes_on_names(names)
    assert note.startswith("GOTRUE_MAILER_EMAIL_VALIDATION_BLOCKED_MX has no effect")
