"""Hashes of every accepted kind, the pool that makes them, and what counts as weak (contracts/auth.md §5.4)."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from pathlib import Path

import pytest

from harness.auth_site import FAST, PASSWORD, AuthSite, changed, open_site, refusal
from harness.known_hashes import FIREBASE, KNOWN
from socle_auth import leaked
from socle_auth.passwords import BadHash, PasswordHasher, check_hash
from socle_auth.sha512_crypt import sha512_crypt
from socle_platform.config.auth import Argon2Settings, HibpSettings, parse_required_characters
from socle_platform.db import Database
from socle_platform.ports import HttpAnswer

ARGON2ID = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$yxCXXHnDkSTYJrA9KzpXq+vkXhqPMfUWUmLiz+SrLl4"
REFUSED = {
    "argon2d": ARGON2ID.replace("argon2id", "argon2d"),
    "argon2 version 16": ARGON2ID.replace("v=19", "v=16"),
    "argon2 without a version": ARGON2ID.replace("v=19$", ""),
    "argon2 too much memory": ARGON2ID.replace("m=64", "m=1048577"),
    "argon2 too little memory": ARGON2ID.replace("m=64", "m=1"),
    "argon2 too many passes": ARGON2ID.replace("t=1", "t=21"),
    "argon2 no pass": ARGON2ID.replace("t=1", "t=0"),
    "argon2 too many lanes": ARGON2ID.replace("m=64", "m=1024").replace("p=1", "p=17"),
    "argon2 keyid": ARGON2ID.replace("p=1", "p=1,keyid=a"),
    "argon2 data": ARGON2ID.replace("p=1", "p=1,data=a"),
    "argon2 empty salt": ARGON2ID.replace("c29tZXNhbHQ", ""),
    "argon2 empty hash": ARGON2ID.rpartition("$")[0] + "$",
    "argon2 bad base64": ARGON2ID.replace("c29tZXNhbHQ", "c29tZX!hbHQ"),
    "argon2 huge number": ARGON2ID.replace("m=64", "m=99999999999999999999"),
    "firebase version 2": FIREBASE.replace("v=1", "v=2"),
    "firebase n=0": FIREBASE.replace("n=14", "n=0"),
    "firebase r=0": FIREBASE.replace("r=8", "r=0"),
    "firebase p=0": FIREBASE.replace("p=1", "p=0"),
    "firebase n too large": FIREBASE.replace("n=14", "n=30"),
    "firebase too much memory": FIREBASE.replace("n=14", "n=24").replace("r=8", "r=99"),
    "firebase bad base64": FIREBASE.replace("42xEC+ixf3L2lw==", "!!!"),
    "firebase no hash": FIREBASE.rpartition("$")[0] + "$",
    "sha512-crypt too many rounds": "$6$rounds=999999$salt$" + "a" * 86,
    "sha512-crypt short": "$6$salt$abc",
    "bcrypt cost": "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "bcrypt cost too low": "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "bcrypt short": "$2b$05$short",
    "md5": "5f4dcc3b5aa765d61d8327deb882cf99",
    "md5-crypt": "$1$salt$qJH7.N4xYta3aEG/dfqo/0",
    "empty": "",
    "line break": KNOWN["bcrypt 2a"][1] + "\n",
}


@pytest.fixture(scope="module")
def hasher() -> PasswordHasher:
    return PasswordHasher(Argon2Settings(memory_kib=64, passes=1, workers=2))


@pytest.mark.parametrize(("password", "stored"), KNOWN.values(), ids=KNOWN)
async def test_known_hashes_are_verified(hasher: PasswordHasher, password: str, stored: str) -> None:
    check_hash(stored)
    assert (await hasher.verify(stored, password)).fits
    assert not (await hasher.verify(stored, password + "x")).fits
    assert (await hasher.verify(stored, password)).is_old


@pytest.mark.parametrize("stored", REFUSED.values(), ids=REFUSED)
async def test_other_hashes_are_refused_and_fit_nothing(hasher: PasswordHasher, stored: str) -> None:
    with pytest.raises(BadHash):
        check_hash(stored)
    assert not (await hasher.verify(stored, "password")).fits


async def test_fresh_hashes_are_argon2id_and_salted(hasher: PasswordHasher) -> None:
    first, second = await hasher.hash(PASSWORD), await hasher.hash(PASSWORD)
    assert first != second
    assert first.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    verdict = await hasher.verify(first, PASSWORD)
    assert verdict.fits
    assert not verdict.is_old


async def test_a_hash_of_another_cost_is_old(hasher: PasswordHasher) -> None:
    stronger = PasswordHasher(Argon2Settings(memory_kib=128, passes=1, workers=1))
    stored = await hasher.hash(PASSWORD)
    assert (await stronger.verify(stored, PASSWORD)).is_old
    stronger.close()


def test_sha512_crypt_knows_a_setting_when_it_sees_one() -> None:
    with pytest.raises(ValueError, match="sha512-crypt"):
        sha512_crypt(b"x", "$5$salt")


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    """A storm of hashes runs on the pool's threads only, no more at once than it has."""
    slow = PasswordHasher(Argon2Settings(memory_kib=4096, passes=2, workers=2))
    seen = set[str]()

    async def one() -> None:
        await slow.hash(PASSWORD)
        seen.update(thread.name for thread in threading.enumerate() if thread.name.startswith("password"))

    storm = asyncio.gather(*(one() for _ in range(16)))
    turns = 0
    while not storm.done():
        turns += 1
        await asyncio.sleep(0)
    await storm
    assert turns > 100
    assert len(seen) == 2
    slow.close()


# -- strength ----------------------------------------------------------------------------------------------------------


def test_required_characters_are_split_at_plain_colons() -> None:
    assert parse_required_characters(r"abc:ABC:\:;") == ("abc", "ABC", ":;")
    assert parse_required_characters("") == ()


@pytest.mark.parametrize(
    ("password", "reasons"),
    [
        ("short1A", []),
        ("Ab1", ["length"]),
        ("abcdefgh", ["characters"]),
        ("ab", ["length", "characters"]),
        ("Abcdefg1", []),
    ],
)
async def test_weak_passwords_name_their_reasons(database: Database, password: str, reasons: list[str]) -> None:
    settings = changed(password__required_characters=("abcdefgh", "ABC", "0123456789"))
    async with open_site(database, settings) as site:
        answer = await site.post("/signup", {"email": "ada@example.com", "password": password})
        if not reasons:
            assert answer.status_code == 200
        else:
            assert refusal(answer) == (422, "weak_password")
            assert answer.json()["weak_password"]["reasons"] == reasons


async def test_a_password_beyond_72_bytes_is_invalid(site: AuthSite) -> None:
    for password, status in (("a" * 72, 200), ("a" * 73, 400), ("é" * 37, 400)):
        answer = await site.post("/signup", {"email": f"a{status}{len(password)}@example.com", "password": password})
        assert answer.status_code == status, password


class LeakList:
    """An HttpClient that answers for the list of leaked passwords."""

    def __init__(self, status: int = 200, *passwords: str) -> None:
        self.status = status
        self.asked = list[str]()
        self.digests = [hashlib.sha1(password.encode()).hexdigest().upper() for password in passwords]  # noqa: S324

    async def request(self, method: str, url: str, **rest: object) -> HttpAnswer:
        self.asked.append(url)
        lines = [f"{digest[5:]}:3" for digest in self.digests] + ["0" * 35 + ":0"]
        return HttpAnswer(self.status, {}, "\r\n".join(lines).encode())


async def test_leaked_passwords_are_asked_for_by_five_digits_only(database: Database) -> None:
    http = LeakList(200, "password123")
    async with open_site(database, changed(password__hibp=HibpSettings(enabled=True)), http=http) as site:
        answer = await site.post("/signup", {"email": "ada@example.com", "password": "password123"})
        assert answer.json()["weak_password"]["reasons"] == ["pwned"]
        assert (await site.post("/signup", {"email": "ada@example.com", "password": PASSWORD})).status_code == 200
    assert all(len(url.rpartition("/")[2]) == 5 for url in http.asked)


@pytest.mark.parametrize(("fail_closed", "status"), [(False, 200), (True, 500)])
async def test_a_leak_list_that_does_not_answer(database: Database, fail_closed: bool, status: int) -> None:
    settings = changed(password__hibp=HibpSettings(enabled=True, fail_closed=fail_closed))
    async with open_site(database, settings, http=LeakList(503)) as site:
        answer = await site.post("/signup", {"email": "ada@example.com", "password": PASSWORD})
        assert answer.status_code == status


async def test_leaked_passwords_from_a_file(database: Database, tmp_path: Path) -> None:
    passwords = [f"leaked-{number}" for number in range(500)]
    lines = sorted(hashlib.sha1(password.encode()).hexdigest().upper() + ":7" for password in passwords)  # noqa: S324
    file = tmp_path / "list.txt"
    file.write_text("\n".join(lines) + "\n")
    for password in passwords:
        assert leaked.is_in_file(file, hashlib.sha1(password.encode()).hexdigest().upper())  # noqa: S324
    assert not leaked.is_in_file(file, "0" * 40)
    assert not leaked.is_in_file(file, "F" * 40)
    settings = changed(password__hibp=HibpSettings(enabled=True, file=str(file)))
    async with open_site(database, settings) as site:
        answer = await site.post("/signup", {"email": "ada@example.com", "password": "leaked-77"})
        assert answer.json()["weak_password"]["reasons"] == ["pwned"]


async def test_time_does_not_tell_who_is_registered(database: Database) -> None:
    """Known user with a wrong password, user without a password, unknown user take the same time: the lowest of each,
    since whatever else the machine does only adds to one. On a busy machine it takes more rounds to see it; a real
    difference stays however many there are."""
    settings = changed(FAST, password__argon2=Argon2Settings(memory_kib=8192, passes=1, workers=1))
    async with open_site(database, settings) as site:
        await site.create_user()
        await site.create_user(email="invited@example.com")
        await site.run("update auth.users set encrypted_password = null where email = 'invited@example.com'")
        addresses = ("ada@example.com", "invited@example.com", "nobody@example.com")
        times: dict[str, list[float]] = {address: [] for address in addresses}
        bodies = set[str]()
        lowest = [1.0, 0.0]
        while len(times["nobody@example.com"]) < 15 or (
            max(lowest) >= 1.5 * min(lowest) and len(times["nobody@example.com"]) < 300
        ):
            for address in addresses:
                site.clock.advance(seconds=10)
                began = time.perf_counter()
                answer = await site.post("/token?grant_type=password", {"email": address, "password": "wrong"})
                times[address].append(time.perf_counter() - began)
                bodies.add(answer.text)
                assert refusal(answer) == (400, "invalid_credentials")
            lowest = [min(times[address]) for address in addresses]
    assert len(bodies) == 1
    assert max(lowest) < 1.5 * min(lowest), lowest
