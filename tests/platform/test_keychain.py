"""Keys of a project: published on loopback, generated elsewhere, always proven."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import jwt
import pytest

from socle_app.keychain import ensure_keychain
from socle_app.state import Running, StateFolder
from socle_platform.config.keys import LOCAL_JWT_SECRET, LOCAL_S3_SECRET, LOCAL_SECRET_KEY, KeySettings
from socle_platform.config.reader import ConfigError

OWN_SECRET = "a-secret-of-our-own-with-32-characters-or-more"


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / ".socle")
    folder.ensure()
    return folder


def test_loopback_has_the_published_keys(state: StateFolder) -> None:
    keychain = ensure_keychain(KeySettings(), {}, state, loopback=True)
    assert keychain.is_local
    assert keychain.settings.anon_key.endswith("CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0")
    assert keychain.settings.service_role_key.endswith("YpN81IU")
    assert not state.keys_file.exists()


def test_elsewhere_keys_are_generated_once_and_kept_closed(state: StateFolder) -> None:
    first = ensure_keychain(KeySettings(), {}, state, loopback=False)
    second = ensure_keychain(KeySettings(), {}, state, loopback=False)
    assert not first.is_local
    assert first.settings.jwt_secret == second.settings.jwt_secret != LOCAL_JWT_SECRET
    assert first.settings.secret_key == second.settings.secret_key
    assert stat.S_IMODE(state.keys_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_the_published_secret_is_refused_elsewhere(state: StateFolder) -> None:
    with pytest.raises(ConfigError, match="published"):
        ensure_keychain(KeySettings(jwt_secret=LOCAL_JWT_SECRET), {}, state, loopback=False)


def test_every_published_secret_is_refused_elsewhere(state: StateFolder) -> None:
    given = KeySettings(secret_key=LOCAL_SECRET_KEY)
    with pytest.raises(ConfigError) as refused:
        ensure_keychain(given, {"S3_PROTOCOL_ACCESS_KEY_SECRET": LOCAL_S3_SECRET}, state, loopback=False)
    assert [problem.split()[0] for problem in refused.value.problems] == ["SECRET_KEY", "S3_PROTOCOL_ACCESS_KEY_SECRET"]
    assert ensure_keychain(given, {}, state, loopback=True).settings.secret_key == LOCAL_SECRET_KEY


def test_keys_are_made_from_an_own_secret(state: StateFolder) -> None:
    keychain = ensure_keychain(KeySettings(jwt_secret=OWN_SECRET), {}, state, loopback=True)
    claims = jwt.decode(keychain.settings.service_role_key, OWN_SECRET, algorithms=["HS256"])
    assert claims["role"] == "service_role"
    assert not keychain.is_local


@pytest.mark.parametrize(
    ("anon", "service", "complaint"),
    [
        ({"role": "anon"}, {"role": "anon"}, "SERVICE_ROLE_KEY carries the role 'anon'"),
        ({"role": "service_role"}, {"role": "service_role"}, "ANON_KEY carries the role 'service_role'"),
        (None, {"role": "service_role"}, "ANON_KEY does not verify"),
    ],
)
def test_keys_that_do_not_fit_are_named(
    state: StateFolder, anon: dict[str, str] | None, service: dict[str, str], complaint: str
) -> None:
    given = KeySettings(
        jwt_secret=OWN_SECRET,
        anon_key=jwt.encode(anon, OWN_SECRET) if anon else "eyJ...",
        service_role_key=jwt.encode(service, OWN_SECRET),
    )
    with pytest.raises(ConfigError, match=complaint):
        ensure_keychain(given, {}, state, loopback=True)


def test_a_killed_platform_is_not_running(state: StateFolder) -> None:
    state.write_running(Running(os.getpid(), "now", "p", {"API_URL": "http://x"}))
    assert state.read_running() is not None
    state.write_running(Running(2**22 - 1, "now", "p", {}))
    assert state.read_running() is None
    state.run_file.write_text("{", encoding="utf-8")
    assert state.read_running() is None
