"""Rotation of signing keys: the turn itself, the file, the running keyring that follows it, `socle keys`."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from socle_app.cli import app as cli
from socle_app.key_watch import SigningKeysRefused, SigningKeysReplaced, following
from socle_app.keychain import Keychain, ensure_keychain
from socle_app.signing_keys import (
    ALGORITHMS,
    KeyNotRevocable,
    SigningKey,
    SigningKeyFile,
    SigningKeysUnusable,
    generate_key,
    parse_keys,
    replace_standby,
    revoke,
    rotate,
)
from socle_app.state import StateFolder
from socle_platform.config.keys import LOCAL_JWT_SECRET, KeySettings, load_keys
from socle_platform.config.reader import Reader
from socle_platform.events import Observation
from socle_platform.keys import Keyring, TokenError, TokenKeyUnknown, parse_jwks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNER = CliRunner()


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / ".socle")
    folder.ensure()
    return folder


def fresh(status: Any) -> SigningKey:
    return generate_key(status, now=NOW)


def statuses(keys: tuple[SigningKey, ...]) -> list[str]:
    return [key.status for key in keys]


class TestTheTurn:
    def test_from_nothing_one_key_signs_and_one_stands_by(self) -> None:
        assert statuses(rotate((), fresh, NOW)) == ["in_use", "standby"]

    def test_the_standby_signs_next_and_the_former_key_verifies(self) -> None:
        first = rotate((), fresh, NOW)
        second = rotate(first, fresh, NOW.replace(month=2))
        third = rotate(second, fresh, NOW.replace(month=3))
        assert statuses(third) == ["in_use", "standby", "previously_used", "previously_used"]
        assert second[0].kid == first[1].kid
        assert third[0].kid == second[1].kid
        assert [key.kid for key in third[2:]] == [second[0].kid, first[0].kid]

    def test_exactly_one_key_may_sign(self) -> None:
        """contracts/auth.md §5.2: exactly one with `sign`."""
        keys = rotate(rotate((), fresh, NOW), fresh, NOW)
        assert [key.jwk["key_ops"] for key in keys] == [["sign", "verify"], ["verify"], ["verify"]]

    def test_tokens_of_every_key_verify_until_it_is_revoked(self) -> None:
        first = rotate((), fresh, NOW)
        second = rotate(first, fresh, NOW)
        old = keyring(first).sign({"sub": "ada"})
        assert keyring(second).verify(old).subject == "ada"
        kept, gone = revoke(second, first[0].kid)
        assert gone.kid == first[0].kid
        with pytest.raises(TokenKeyUnknown):
            keyring(kept).verify(old)

    def test_the_key_in_use_cannot_be_revoked(self) -> None:
        keys = rotate((), fresh, NOW)
        with pytest.raises(KeyNotRevocable, match="rotate"):
            revoke(keys, keys[0].kid)
        with pytest.raises(KeyNotRevocable, match="no key"):
            revoke(keys, "nobody")

    def test_another_standby_replaces_the_first(self) -> None:
        keys = rotate((), fresh, NOW)
        other = generate_key("standby", "RS256", now=NOW)
        changed = replace_standby(keys, other)
        assert [(key.status, key.kid) for key in changed] == [("in_use", keys[0].kid), ("standby", other.kid)]

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_each_algorithm_signs_and_is_published_without_secrets(self, algorithm: str) -> None:
        key = generate_key("in_use", algorithm, now=NOW)
        ring = keyring((key,))
        assert jwt.get_unverified_header(ring.sign({}))["alg"] == algorithm
        assert ring.verify(ring.sign({"sub": "ada"})).subject == "ada"
        published = ring.jwks()["keys"][0]
        assert published["alg"] == algorithm
        assert published["key_ops"] == ["verify"]
        assert not {"d", "p", "q", "status", "status_since"} & set(published)

    def test_a_file_of_the_official_tools_is_understood(self) -> None:
        """They sign with the first key of the file and let each of them sign."""
        first, second, former = (dict(fresh("in_use").jwk) for _ in range(3))
        for jwk in (first, second, former):
            del jwk["status"], jwk["status_since"]
        former["key_ops"] = ["verify"]
        keys = parse_keys([former, first, second])
        assert [(key.status, key.kid) for key in keys] == [
            ("in_use", first["kid"]),
            ("standby", second["kid"]),
            ("previously_used", former["kid"]),
        ]
        assert keyring(keys).signing_key.kid == first["kid"]

    @pytest.mark.parametrize("document", [{}, "x", [1], [{"kty": "what"}], None])
    def test_what_is_no_array_of_keys_is_refused(self, document: object) -> None:
        with pytest.raises(ValueError, match=r"array|JWK|key type"):
            parse_keys(document)


class TestTheFile:
    def test_it_is_closed_to_others_and_services_read_it(self, state: StateFolder) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        keys = file.rotate()
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
        assert file.read() == keys
        loaded = load_keys(Reader({"SIGNING_KEYS_PATH": str(file.path)}))
        assert loaded.signing_keys == parse_jwks([dict(key.jwk) for key in keys])
        assert loaded.signing_keys_file == file.path

    def test_a_revoked_key_leaves_the_file_and_is_remembered_by_name(self, state: StateFolder) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        first = file.rotate()[0]
        file.rotate()
        file.revoke(first.kid)
        assert first.kid not in file.path.read_text()
        assert [key.kid for key in file.read_revoked()] == [first.kid]
        assert str(first.jwk["d"]) not in file.revoked_path.read_text()
        assert stat.S_IMODE(file.revoked_path.stat().st_mode) == 0o600

    def test_turns_at_the_same_time_lose_no_key(self, state: StateFolder) -> None:
        threads = [threading.Thread(target=SigningKeyFile(state.signing_keys_file).rotate) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses(SigningKeyFile(state.signing_keys_file).read()) == [
            "in_use",
            "standby",
            *["previously_used"] * 7,
        ]

    def test_a_broken_file_is_said_so_and_left_alone(self, state: StateFolder) -> None:
        state.signing_keys_file.write_text("{")
        with pytest.raises(SigningKeysUnusable, match="cannot be used"):
            SigningKeyFile(state.signing_keys_file).rotate()
        assert state.signing_keys_file.read_text() == "{"


class TestTheProject:
    def test_a_new_project_off_loopback_signs_with_es256(self, state: StateFolder) -> None:
        keychain = ensure_keychain(KeySettings(), {}, state, loopback=False)
        header = jwt.get_unverified_header(keychain.keyring().sign({}))
        assert header["alg"] == "ES256"
        assert header["kid"] == SigningKeyFile(state.signing_keys_file).read()[0].kid
        assert stat.S_IMODE(state.signing_keys_file.stat().st_mode) == 0o600

    def test_on_loopback_the_published_secret_signs(self, state: StateFolder) -> None:
        keychain = ensure_keychain(KeySettings(), {}, state, loopback=True)
        assert jwt.get_unverified_header(keychain.keyring().sign({})) == {"alg": "HS256", "typ": "JWT"}
        assert not state.signing_keys_file.exists()

    def test_a_project_that_has_a_secret_goes_on_with_it(self, state: StateFolder) -> None:
        own = KeySettings(jwt_secret="a-secret-of-our-own-with-32-characters-or-more")
        assert alg(ensure_keychain(own, {}, state, loopback=False)) == "HS256"
        state.write_keys({"JWT_SECRET": "an-older-generated-secret-of-32-characters"})
        assert alg(ensure_keychain(KeySettings(), {}, state, loopback=False)) == "HS256"

    @pytest.mark.parametrize("loopback", [True, False])
    def test_the_project_keys_outlive_rotation_and_revocation(self, state: StateFolder, *, loopback: bool) -> None:
        first = ensure_keychain(KeySettings(), {}, state, loopback=loopback)
        file = SigningKeyFile(state.signing_keys_file)
        for _ in range(3):
            file.rotate()
        for key in file.read()[2:]:
            file.revoke(key.kid)
        ring = ensure_keychain(KeySettings(), {}, state, loopback=loopback).keyring()
        assert ring.verify(first.settings.anon_key).role == "anon"
        assert ring.verify(first.settings.service_role_key).role == "service_role"

    def test_a_project_from_before_rotation_verifies_its_tokens_after_it(self, state: StateFolder) -> None:
        old = ensure_keychain(KeySettings(), {}, state, loopback=True).keyring().sign({"sub": "ada"})
        SigningKeyFile(state.signing_keys_file).rotate()
        keychain = ensure_keychain(KeySettings(), {}, state, loopback=True)
        assert alg(keychain) == "ES256"
        assert keychain.keyring().verify(old).subject == "ada"


class TestFollowing:
    async def test_a_rotation_reaches_the_keyring_within_a_second(self, state: StateFolder) -> None:
        settings = settings_of(state)
        async with followed(settings) as (ring, next_seen):
            before = ring.sign({"sub": "ada"})
            turned = await asyncio.to_thread(SigningKeyFile(state.signing_keys_file).rotate)
            async with asyncio.timeout(1):
                told = await next_seen()
            assert told == SigningKeysReplaced(turned[0].kid, (turned[0].kid, turned[1].kid, ""))
            assert jwt.get_unverified_header(ring.sign({}))["kid"] == turned[0].kid
            assert ring.verify(before).subject == "ada"

    async def test_a_cached_token_of_a_revoked_key_is_refused(self, state: StateFolder) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        first = file.rotate()[0]
        async with followed(settings_of(state)) as (ring, next_seen):
            token = ring.sign({"sub": "ada"})
            assert ring.verify(token).subject == "ada"
            file.rotate()
            await next_seen()
            assert ring.verify(token).subject == "ada"
            file.revoke(first.kid)
            await next_seen()
            with pytest.raises(TokenError):
                ring.verify(token)

    @pytest.mark.parametrize("text", ["{", "7", '[{"kty":"EC","crv":"P-256","kid":"bare","key_ops":["sign"]}]'])
    async def test_a_broken_file_changes_nothing_and_is_reported(self, state: StateFolder, text: str) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        file.rotate()
        async with followed(settings_of(state)) as (ring, next_seen):
            token = ring.sign({"sub": "ada"})
            file.path.write_text(text)
            told = await next_seen()
            assert isinstance(told, SigningKeysRefused)
            assert ring.verify(token).subject == "ada"
            file.path.unlink()
            assert await next_seen() == SigningKeysRefused(str(file.path), "it is gone")
            assert ring.verify(token).subject == "ada"
            turned = file.rotate()
            await next_seen()
            assert ring.signing_key.kid == turned[0].kid

    async def test_what_changed_between_loading_and_following_is_seen(self, state: StateFolder) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        file.rotate()
        settings = settings_of(state)
        turned = file.rotate()
        async with followed(settings) as (ring, next_seen):
            await next_seen()
            assert ring.signing_key.kid == turned[0].kid


class TestTheCommands:
    def run(self, folder: Path, *arguments: str, ok: bool = True) -> str:
        result = RUNNER.invoke(cli, ["keys", *arguments, "--state", str(folder)])
        assert (result.exit_code == 0) is ok, result.output
        return result.stdout if ok else f"{result.output}{result.exception}"

    def listed(self, folder: Path) -> list[tuple[str, str]]:
        return [(row["status"], row["algorithm"]) for row in json.loads(self.run(folder, "list", "--json"))]

    @pytest.fixture(autouse=True)
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_from_no_key_to_a_revoked_one(self, state: StateFolder) -> None:
        assert self.listed(state.path) == []
        self.run(state.path, "rotate")
        self.run(state.path, "standby", "-a", "EdDSA")
        assert self.listed(state.path) == [("in_use", "ES256"), ("standby", "EdDSA")]
        first = SigningKeyFile(state.signing_keys_file).read()[0]
        self.run(state.path, "rotate")
        self.run(state.path, "revoke", first.kid, "--yes")
        assert self.listed(state.path) == [("in_use", "EdDSA"), ("standby", "ES256"), ("revoked", "ES256")]
        assert f"{first.kid}  ES256      revoked" in self.run(state.path, "list")

    def test_keys_at_a_path_of_the_project_are_turned_there(
        self, state: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = SigningKeyFile(tmp_path / "own.json")
        first = file.rotate()
        monkeypatch.setenv("SIGNING_KEYS_PATH", str(file.path))
        self.run(state.path, "rotate")
        assert file.read()[0].kid == first[1].kid
        assert not state.signing_keys_file.exists()

    def test_keys_of_the_environment_cannot_be_turned(
        self, state: StateFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GOTRUE_JWT_KEYS", json.dumps([dict(fresh("in_use").jwk)]))
        assert "GOTRUE_JWT_KEYS" in self.run(state.path, "rotate", ok=False)

    def test_an_unknown_algorithm_is_named(self, state: StateFolder) -> None:
        assert "none of ES256, RS256, EdDSA" in self.run(state.path, "rotate", "-a", "none", ok=False)
        assert not state.signing_keys_file.exists()

    def test_revoking_asks_first(self, state: StateFolder) -> None:
        file = SigningKeyFile(state.signing_keys_file)
        standby = file.rotate()[1]
        result = RUNNER.invoke(cli, ["keys", "revoke", standby.kid, "--state", str(state.path)], input="n\n")
        assert result.exit_code == 1
        assert standby in file.read()


def keyring(keys: tuple[SigningKey, ...]) -> Keyring:
    return Keyring(parse_jwks([dict(key.jwk) for key in keys]))


def alg(keychain: Keychain) -> str:
    return str(jwt.get_unverified_header(keychain.keyring().sign({}))["alg"])


def settings_of(state: StateFolder) -> KeySettings:
    return ensure_keychain(KeySettings(), {}, state, loopback=True).settings


@asynccontextmanager
async def followed(settings: KeySettings) -> AsyncGenerator[tuple[Keyring, Callable[[], Any]]]:
    """A keyring that follows the settings' file, and a wait for its next observation (10 seconds at most)."""
    seen: asyncio.Queue[Observation] = asyncio.Queue()
    ring = Keyring(settings.keys())

    async def next_seen() -> Observation:
        return await asyncio.wait_for(seen.get(), 10)

    async with following(ring, settings, seen.put_nowait):
        yield ring, next_seen


async def test_without_a_file_nothing_is_followed() -> None:
    settings = replace(KeySettings(jwt_secret=LOCAL_JWT_SECRET), signing_keys_file=None)
    tasks = asyncio.all_tasks()
    async with following(Keyring(settings.keys()), settings, lambda _observation: None):
        assert asyncio.all_tasks() == tasks
